"""A Python for each group of peers, made once in the user's cache: they do not fit together.

A group whose environment cannot be made is left out, with the reason; so is one that the
platform has no packages for.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from spikec.backends.lava import environment as lava
from spikec.compiler.errors import SpikecError

COMPLETE = ".spikec-complete"
_SECONDS = 1800


@dataclass(frozen=True, kw_only=True)
class Group:
    """Packages that share an environment, and the Pythons they run on, best first."""

    packages: tuple[str, ...]
    pythons: tuple[str, ...] = ("3.12", "3.11", "3.13", "3.10")


GROUPS = {
    "torch": Group(
        packages=(
            "torch==2.13.0", "norse==1.1.0", "sinabs==3.1.3", "snntorch==1.0.0",
            "spikingjelly==2.0.0",
        ),
        pythons=("3.11", "3.12", "3.10"),
    ),
    "brian2": Group(packages=("brian2>=2.10", "setuptools"), pythons=("3.12", "3.13")),
    "nest": Group(packages=("nest-simulator==3.10.0",), pythons=("3.11", "3.12")),
    # Its generated code wants the Cython and the NumPy of its time.
    "brian2-loihi": Group(
        packages=("brian2-loihi==0.5.2", "brian2==2.9.0", "cython<3", "numpy<2", "setuptools<81"),
        pythons=("3.10", "3.11"),
    ),
    # It uses names that NumPy dropped in 1.24.
    "nengo-loihi": Group(
        packages=("nengo-loihi==1.1.0", "nengo==3.2.0", "numpy<1.24"), pythons=("3.10",)
    ),
    "sanafe": Group(packages=("sanafe==2.2.9", "numpy"), pythons=("3.11", "3.12", "3.10")),
    # Compiled when it is installed.
    "xylosim": Group(packages=("xylosim==0.1.3", "numpy"), pythons=("3.11", "3.10", "3.12")),
}  # fmt: skip


def cache_folder() -> Path:
    """Return where environments and workloads are kept."""
    return lava.default_directory().parent / "benchmarks"


def python_of(group: str, given: dict[str, str], *, install: bool) -> tuple[str, str]:
    """Return the group's Python, or "" and why there is none; ``given`` names some."""
    if group in given:
        return given[group], ""
    if group == "spikec":
        return sys.executable, ""
    if group == "lava":
        return _lava(install=install)
    folder = cache_folder() / group
    python = folder / "bin" / "python"
    if (folder / COMPLETE).is_file():
        return str(python), ""
    if not install:
        return "", "not installed"
    shutil.rmtree(folder, ignore_errors=True)
    return _made(folder, GROUPS[group])


def _lava(*, install: bool) -> tuple[str, str]:
    try:
        found = lava.find()
        if found is None and install:
            return str(lava.setup(progress=print)), ""
    except SpikecError as error:
        return "", str(error)
    return (str(found.path), "") if found else ("", "not installed")


def _made(folder: Path, group: Group) -> tuple[str, str]:
    reasons = []
    python = folder / "bin" / "python"
    for found in _interpreters(group.pythons):
        print(f"making {folder.name} with {found}", flush=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *group.packages]
        try:
            for command in ([found, "-m", "venv", str(folder)], install):
                subprocess.run(  # noqa: S603 - a list of arguments, no shell
                    command, check=True, capture_output=True, text=True, timeout=_SECONDS
                )
        except subprocess.SubprocessError as error:
            words = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            reasons.append(f"{Path(found).name}: {words[-1]}")
            shutil.rmtree(folder, ignore_errors=True)
            continue
        (folder / COMPLETE).write_text("\n".join(group.packages) + "\n", encoding="utf-8")
        return str(python), ""
    return "", "; ".join(reasons) or f"no Python {', '.join(group.pythons)}"


def _interpreters(versions: tuple[str, ...]) -> Iterator[str]:
    """Yield a Python of each version: this one, one on PATH or one of pyenv's."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in versions:
        places = [sys.executable, shutil.which(f"python{version}") or "",
                  *map(str, sorted(root.glob(f"{version}.*/bin/python")))]  # fmt: skip
        found = next((place for place in places if place and _is(place, version)), None)
        if found:
            yield found


def _is(python: str, version: str) -> bool:
    answer = subprocess.run(  # noqa: S603 - a list of arguments, no shell
        [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return answer.stdout.strip() == version
