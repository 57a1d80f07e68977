"""Find a Python that has Lava, or make one.

lava-nc 0.10.0 runs on Python 3.10 only, so Lava lives in an interpreter of its
own: one named by an option, by ``SPIKEC_LAVA_PYTHON``, the one that runs now, or
an environment that :func:`setup` made in the user's cache folder.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from spikec.backends.lava.emit import LAVA_VERSION
from spikec.compiler.errors import BackendError, Diagnostic
from spikec.compiler.files import make_folder, user_cache

__all__ = [
    "PYTHON_VARIABLE",
    "LavaPython",
    "Search",
    "child_environment",
    "default_directory",
    "find",
    "require",
    "search",
    "setup",
]

#: The environment variable that names a Python with Lava.
PYTHON_VARIABLE = "SPIKEC_LAVA_PYTHON"
#: Written last into an environment of ours: without it, it is made again.
COMPLETE = ".spikec-complete"

_PROBE = (
    "import importlib.metadata, lava.magma.core.process.process, lava.proc.lif.process; "
    "print(importlib.metadata.version('lava-nc'))"
)
_PROBE_SECONDS = 60
_INSTALL_SECONDS = 1800

#: Called with one line of text about what is being done.
Report: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class LavaPython:
    """An interpreter that can import Lava, and where it was named."""

    path: Path
    version: str
    origin: str


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search found, and one line for every place that was tried in vain."""

    found: LavaPython | None
    tried: tuple[str, ...]


def find(python: str | None = None) -> LavaPython | None:
    """Return a Python with Lava, or None; ``python`` alone counts when it is given."""
    return search(python).found


def search(python: str | None = None) -> Search:
    """Try the option, the variable, this interpreter and our own environment, in this order.

    A path that a person named (the first two) is not passed over when it fails.
    """
    tried = []
    for place in _places(python):
        try:
            version = _probe(place.path) if place.path else ""
        except _NoLavaError as error:
            tried.append(f"{place.origin} ({place.path}): {error}")
            if place.named:
                break
            continue
        if not place.path:
            tried.append(f"{place.origin}: {place.absent}")
            continue
        found = LavaPython(path=Path(place.path), version=version, origin=place.origin)
        return Search(found=found, tried=tuple(tried))
    return Search(found=None, tried=tuple(tried))


def require(python: str | None = None) -> LavaPython:
    """Return a Python with Lava; raise :class:`BackendError` that lists what was tried."""
    result = search(python)
    if result.found is not None:
        return result.found
    tried = "".join(f"\n  - {line}" for line in result.tried)
    raise BackendError(
        Diagnostic(
            code="B040",
            where="lava",
            message=f"no Python with lava-nc was found; tried:{tried}",
            hint="run 'spikec setup-lava' to make one, or name one with "
            f"{PYTHON_VARIABLE} or --lava-python (Lava needs Python 3.10)",
        )
    )


def default_directory() -> Path:
    """Return where :func:`setup` puts the environment of this user."""
    return user_cache() / f"lava-{LAVA_VERSION}"


def setup(directory: Path | None = None, progress: Report | None = None) -> Path:
    """Return a Python with Lava in ``directory``, made there unless it is complete already.

    Needs a Python 3.10 (found on the path, among pyenv's versions, or by uv) and
    network access. ``progress`` gets one line per step. Raises
    :class:`BackendError` with what was tried or what the installer said.
    """
    report = progress or (lambda _: None)
    directory = Path(directory or default_directory())
    python = _python_of(directory)
    if (directory / COMPLETE).is_file() and _works(python):
        report(f"{directory} is complete")
        return python
    _clear(directory)
    _create(directory, report)
    try:
        version = _probe(str(python))
    except _NoLavaError as error:
        raise _setup_failed(directory, f"Lava was installed but does not work: {error}") from error
    (directory / COMPLETE).write_text(f"lava-nc {version}\n", encoding="utf-8")
    return python


def child_environment(python: Path) -> dict[str, str]:
    """Return the variables a child gets: ours, without what would change its imports."""
    variables = dict(os.environ)
    if python != Path(sys.executable):
        for name in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP"):
            variables.pop(name, None)
    # One Lava run is many processes: threads in each only get in each other's way.
    variables.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1")
    # After a failure Python frees the shared memory and says so: that would hide the reason.
    variables["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    return variables


@dataclass
class _NoLavaError(Exception):
    """An interpreter or a command cannot be used, and why."""

    reason: str

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where Lava may be: an interpreter ``path``, or why there is none."""

    origin: str
    path: str
    absent: str = ""
    named: bool = False


def _places(python: str | None) -> Iterator[_Place]:
    if python is not None:
        yield _Place(origin="option 'python'", path=python, absent="it is empty", named=True)
        return
    variable = os.environ.get(PYTHON_VARIABLE, "")
    yield _Place(origin=PYTHON_VARIABLE, path=variable, absent="not set", named=True)
    here = sys.executable if importlib.util.find_spec("lava") is not None else ""
    yield _Place(origin="this interpreter", path=here, absent="it has no module 'lava'")
    directory = default_directory()
    ours = str(_python_of(directory)) if (directory / COMPLETE).is_file() else ""
    yield _Place(origin="our own environment", path=ours, absent=f"{directory} is not complete")


@lru_cache(maxsize=32)
def _probe(python: str) -> str:
    """Return the version of Lava in ``python``; failures are raised and so not cached."""
    path = shutil.which(python)
    if path is None:
        raise _NoLavaError(reason="no such program")
    variables = child_environment(Path(path))
    output = _output([path, "-c", _PROBE], variables=variables, seconds=_PROBE_SECONDS)
    version = output.strip().splitlines()[-1] if output.strip() else "unknown"
    if version != LAVA_VERSION:
        raise _NoLavaError(reason=f"it has lava-nc {version}; {LAVA_VERSION} is needed")
    return version


def _works(python: Path) -> bool:
    try:
        _probe(str(python))
    except _NoLavaError:
        return False
    return True


def _output(
    command: Sequence[str], *, variables: Mapping[str, str] | None = None, seconds: float
) -> str:
    """Return what ``command`` prints; ``_NoLavaError`` with its last words when it fails."""
    try:
        result = subprocess.run(  # noqa: S603  (a list of arguments, no shell)
            command, env=variables, capture_output=True, text=True, timeout=seconds, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _NoLavaError(str(error)) from error
    if result.returncode != 0:
        lines = (result.stderr or result.stdout).strip().splitlines()
        raise _NoLavaError(
            lines[-1].strip() if lines else f"it ended with code {result.returncode}"
        )
    return result.stdout


def _python_of(directory: Path) -> Path:
    return directory / "bin" / "python"


def _clear(directory: Path) -> None:
    """Remove an incomplete environment; anything else is not ours to remove."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise _setup_failed(directory, "it is not a directory")
    if any(directory.iterdir()) and not (directory / "pyvenv.cfg").is_file():
        raise _setup_failed(directory, "the directory is not empty and no Python environment")
    shutil.rmtree(directory)


def _create(directory: Path, report: Report) -> None:
    make_folder(directory.parent)
    requirement = f"lava-nc=={LAVA_VERSION}"
    tried = []
    for name, commands in _ways(directory, requirement):
        report(f"making {directory} with {name}")
        try:
            for command in commands:
                report(f"running {' '.join(command)}")
                _output(command, seconds=_INSTALL_SECONDS)
        except _NoLavaError as error:
            tried.append(f"{name}: {error}")
            shutil.rmtree(directory, ignore_errors=True)
            continue
        return
    reasons = "".join(f"\n  - {line}" for line in tried) or " no Python 3.10, no pyenv, no uv"
    raise _setup_failed(directory, f"no environment could be made; tried:{reasons}")


def _ways(directory: Path, requirement: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the ways to make an environment, each a name and its commands."""
    target = str(_python_of(directory))
    for python in _pythons():
        yield (
            python,
            [
                [python, "-m", "venv", str(directory)],
                [
                    target,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    requirement,
                ],
            ],
        )
    for uv in _uvs():
        yield (
            " ".join(uv),
            [
                [*uv, "venv", "--quiet", "--python", "3.10", str(directory)],
                [*uv, "pip", "install", "--quiet", "--python", target, requirement],
            ],
        )


def _pythons() -> Iterator[str]:
    """Yield every Python 3.10 that runs: pyenv's shims exist for versions that do not."""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    named = shutil.which("python3.10")
    versions = sorted(str(path) for path in (root / "versions").glob("3.10*/bin/python"))
    for python in dict.fromkeys([sys.executable, *([named] if named else []), *versions]):
        try:
            version = _output(
                [python, "-c", "import sys; print(*sys.version_info[:2])"], seconds=_PROBE_SECONDS
            )
        except _NoLavaError:
            continue
        if version.split() == ["3", "10"]:
            yield python


def _uvs() -> Iterator[list[str]]:
    named = shutil.which("uv")
    if named:
        yield [named]
    if importlib.util.find_spec("uv") is not None:
        yield [sys.executable, "-m", "uv"]


def _setup_failed(directory: Path, message: str) -> BackendError:
    return BackendError(
        Diagnostic(
            code="B041",
            where=str(directory),
            message=message,
            hint="install Python 3.10 or uv and try again, or make an environment by hand and "
            f"name its Python with {PYTHON_VARIABLE}",
        )
    )
