"""Folders of generated files: written whole or not at all, and only over our own."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Mapping
from pathlib import Path

from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.temporary import ASIDE, temporary_folder

__all__ = ["MANIFEST", "check_replaceable", "manifest_bytes", "write_folder"]

#: Says in every folder of ours what wrote it and which files are its own.
MANIFEST = "manifest.json"

#: Of renameat2(2): names are relative to the working folder, and both are kept, exchanged.
_THIS_FOLDER, _EXCHANGE = -100, 2


def manifest_bytes(schema: str, entries: Mapping[str, object]) -> bytes:
    """Return a manifest without its list of files, which :func:`write_folder` adds."""
    return _json({**entries, "schema": schema})


def write_folder(directory: Path, content: Mapping[str, bytes], *, schema: str) -> None:
    """Write ``content``, bytes by path, as ``directory``; its manifest gets the list of files.

    An empty directory, or one whose manifest names ``schema``, is replaced.
    Whatever interrupts it, the old folder stands or the new one. Raises :class:`UsageError`
    when there is anything else, or no place to write.
    """
    directory = Path(directory)
    check_replaceable(directory, schema=schema)
    manifest = json.loads(content.get(MANIFEST, b"{}"))
    manifest.update(schema=schema, files=sorted({*content, MANIFEST}))
    complete = {**content, MANIFEST: _json(manifest)}
    try:
        with temporary_folder(directory.parent) as staging:
            new = staging / "new"
            for name, data in complete.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                (new / name).write_bytes(data)
            _put(new, directory, aside=staging / ASIDE)
    except OSError as error:
        why = f"cannot write there: {error.strerror or error}"
        raise _refused(directory, why) from error


def _put(new: Path, directory: Path, *, aside: Path) -> None:
    """Let ``new`` stand where ``directory`` does, in one step where the system has one.

    Elsewhere the old folder goes aside first, from where :mod:`spikec.compiler.temporary`
    gives it back if the second step does not come.
    """
    if not directory.exists():
        new.rename(directory)
        return
    new.chmod(directory.stat().st_mode & 0o7777)
    if _exchanged(new, directory):
        return
    aside.mkdir()
    directory.rename(aside / directory.name)
    new.rename(directory)


def _exchanged(one: Path, other: Path) -> bool:
    """Exchange two folders, which Linux does in one step; False where it cannot be done."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError, TypeError):  # another system, or an old library
        return False
    renameat2.argtypes = (
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    )  # fmt: skip
    here = _THIS_FOLDER
    done = renameat2(here, os.fsencode(one), here, os.fsencode(other), _EXCHANGE)
    return bool(done == 0)


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def check_replaceable(directory: Path, *, schema: str) -> None:
    """Raise :class:`UsageError` for a folder that :func:`write_folder` would not write."""
    if not directory.parent.is_dir():
        raise _refused(directory, "cannot write there: there is no such folder")
    if directory.is_symlink() or (directory.exists() and not directory.is_dir()):
        raise _refused(directory, "it is not a directory")
    if not directory.exists() or not any(directory.iterdir()):
        return
    known = _files_written(directory, schema)
    if known is None:
        raise _refused(
            directory,
            "the directory is not empty, and nothing of this kind was written there by spikec",
        )
    present = {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    foreign = sorted(present - known)
    if foreign:
        raise _refused(directory, f"it holds files that are not spikec's: {', '.join(foreign)}")


def _files_written(directory: Path, schema: str) -> set[str] | None:
    """Return the names in the manifest of a directory of ours, None for another's."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return {*manifest["files"], MANIFEST} if manifest["schema"] == schema else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refused(directory: Path, message: str) -> UsageError:
    return UsageError(
        Diagnostic(
            code="U060",
            where=str(directory),
            message=message,
            hint="name a new or empty directory in a folder that you may write to, "
            "or move the files away",
        )
    )
