"""Find the host's C compiler, and keep what it made in the user's cache."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from spikec.backends.child import ChildFailedError, run_child
from spikec.compiler.errors import BackendError, Diagnostic
from spikec.compiler.files import sha256_of, user_cache
from spikec.compiler.temporary import temporary_folder

__all__ = ["Compiler", "compile_engine", "find"]

#: Floats hold whole numbers only: nothing traps, there is no NaN, no sign of a zero that counts.
_FLOATS = ("-fno-math-errno", "-fno-trapping-math", "-ffinite-math-only", "-fno-signed-zeros")
_FLAGS = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-w", *_FLOATS)
#: Taken where the compiler knows it: Intel's processors are given half vectors otherwise.
_WIDE = "-mprefer-vector-width=512"
_SECONDS = 300


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """A C compiler: the command that calls it, what it says it is, and its flags."""

    command: tuple[str, ...]
    version: str
    flags: tuple[str, ...]


def compile_engine(source: str) -> ctypes.CDLL:
    """Compile ``source``, or load what was made of it before, and return the library.

    Raises :class:`BackendError` when there is no compiler or when it fails.
    """
    compiler = find()
    key = "\n".join([source, *compiler.command, compiler.version, *compiler.flags, _processor()])
    folder = user_cache() / "c"
    library = folder / f"{sha256_of(key.encode())}.so"
    if not library.is_file():
        _build(compiler, source, library)
    return ctypes.CDLL(str(library))


def find() -> Compiler:
    """Return the compiler that ``CC`` names, else cc, gcc, clang or the one of ``ziglang``."""
    return _find(os.environ.get("CC", ""))


@lru_cache(maxsize=8)
def _find(named: str) -> Compiler:
    tried = []
    for command in _candidates(named):
        if shutil.which(command[0]) is None:
            tried.append(f"{command[0]}: no such program")
            continue
        version = _said([*command, "--version"])
        if version is None:
            tried.append(f"{shlex.join(command)}: does not run")
            continue
        wide = (_WIDE,) if _accepts(command, _WIDE) else ()
        return Compiler(command=command, version=version, flags=(*_FLAGS, *wide))
    raise BackendError(
        Diagnostic(
            code="B052",
            where="backend 'c'",
            message=f"no C compiler was found; tried {'; '.join(tried)}",
            hint="install gcc or clang, name one with CC, or 'pip install ziglang' (it has one)",
        )
    )


def _candidates(named: str) -> Iterator[tuple[str, ...]]:
    if named.strip():
        yield tuple(shlex.split(named))
        return
    yield from (("cc",), ("gcc",), ("clang",))
    if importlib.util.find_spec("ziglang") is not None:
        yield (sys.executable, "-m", "ziglang", "cc")


def _said(command: list[str]) -> str | None:
    try:
        result = subprocess.run(  # noqa: S603  (a list of arguments, no shell)
            command, capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _accepts(command: tuple[str, ...], flag: str) -> bool:
    with temporary_folder(Path(tempfile.gettempdir())) as folder:
        source = folder / "empty.c"
        source.write_text("int spikec;\n", encoding="utf-8")
        tried = [*command, "-Werror", flag, "-c", str(source), "-o", str(source.with_suffix(".o"))]
        return _said(tried) is not None


def _processor() -> str:
    """Return what ``-march=native`` depends on: a home folder may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()} {platform.node()}"
    about = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(about)}))


def _build(compiler: Compiler, source: str, library: Path) -> None:
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(library.parent) as folder:
            text, made = folder / "engine.c", folder / "engine.so"
            text.write_text(source, encoding="utf-8")
            command = [*compiler.command, *compiler.flags, str(text), "-o", str(made)]
            run_child(command, errors=folder / "stderr.txt", timeout=_SECONDS)
            made.replace(library)
            return
    except ChildFailedError as error:
        reason = error.text or error.reason
    except OSError as error:
        reason = str(error)
    raise BackendError(
        Diagnostic(
            code="B053",
            where=f"backend 'c', {shlex.join(compiler.command)}",
            message=f"the engine could not be compiled: {reason[-2000:]}",
            hint=f"name another compiler with CC; the engine is kept in {library.parent}",
        )
    )
