"""Folders of generated files: written whole or not at all, and only over our own."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from spikec.compiler.errors import Diagnostic, UsageError

__all__ = ["MANIFEST", "check_replaceable", "manifest_bytes", "write_folder"]

#: Says in every folder of ours what wrote it and which files are its own.
MANIFEST = "manifest.json"


def manifest_bytes(schema: str, entries: Mapping[str, object]) -> bytes:
    """Return a manifest without its list of files, which :func:`write_folder` adds."""
    return _json({**entries, "schema": schema})


def write_folder(directory: Path, content: Mapping[str, bytes], *, schema: str) -> None:
    """Write ``content``, bytes by path, as ``directory``; its manifest gets the list of files.

    An empty directory, or one whose manifest names ``schema``, is replaced.
    Raises :class:`UsageError` when there is anything else, or no place to write.
    """
    directory = Path(directory)
    check_replaceable(directory, schema=schema)
    manifest = json.loads(content.get(MANIFEST, b"{}"))
    manifest.update(schema=schema, files=sorted({*content, MANIFEST}))
    complete = {**content, MANIFEST: _json(manifest)}
    try:
        staging = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))
    except OSError as error:
        raise _refused(directory, f"cannot write there: {error.strerror}") from error
    try:
        new = staging / "new"
        for name, data in complete.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_bytes(data)
        if directory.exists():
            directory.rename(staging / "old")
        new.rename(directory)
    except OSError as error:
        raise _refused(directory, f"cannot write there: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


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
