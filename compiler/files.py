"""Files written whole or not at all, and read without trusting them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from spikec.compiler.errors import Diagnostic, FrontendError, UsageError
from spikec.compiler.temporary import temporary_file

__all__ = [
    "canonical_json",
    "check_file",
    "check_writable",
    "make_folder",
    "optional_package",
    "sha256_of",
    "sha256_of_file",
    "unwritable",
    "user_cache",
    "write_atomically",
    "written",
]


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a crash leaves the old file or the new one.

    Raises :class:`UsageError` when the folder does not exist or cannot be written.
    """
    with written(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write to; it becomes ``path`` when all went well.

    A crash leaves the old file or the new one. A file that is there keeps its mode, a new one
    gets what the umask leaves; a link stays, and the file it leads to is replaced. Raises
    :class:`UsageError` when the folder does not exist or cannot be written, or when ``path`` is
    no file but a device, say.
    """
    _check_replaceable(path)
    place = Path(os.path.realpath(path))
    try:
        mode = place.stat().st_mode & 0o7777 if place.exists() else None
        with temporary_file(place.parent, 0o666 if mode is None else 0o600) as temporary:
            if mode is None:
                mode = temporary.stat().st_mode & 0o7777
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(mode)
            temporary.replace(place)
    except OSError as error:
        raise unwritable(path, str(error.strerror or error)) from error


def make_folder(path: Path) -> None:
    """Make a folder and those above it; :class:`UsageError` where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, str(error.strerror)) from error


def check_writable(path: Path) -> None:
    """Raise :class:`UsageError` where :func:`written` would, before the work for it is done."""
    _check_replaceable(path)
    folder = Path(os.path.realpath(path)).parent
    if not folder.is_dir():
        raise unwritable(path, "there is no such folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise unwritable(path, "its folder is not yours to write to")


def _check_replaceable(path: Path) -> None:
    """Refuse what is no file: renaming would put one in the place of a pipe or a device."""
    if path.is_dir():
        raise unwritable(path, "it is a folder")
    if path.exists() and not path.is_file():
        raise unwritable(path, "it is a device or a pipe, not a file")
    if Path(os.path.realpath(path)).is_symlink():
        raise unwritable(path, "it is a link that leads to itself")


def check_file(path: Path) -> None:
    """Raise :class:`FrontendError` where there is no file to read."""
    if path.is_file():
        return
    message, hint = "there is no such file", "check the path"
    if path.is_dir():
        message, hint = "it is a folder, not a file", "name a file in it"
    elif path.exists():
        message, hint = "it is no regular file", "save it as a file, and name that"
    raise FrontendError(Diagnostic(code="F001", where=str(path), message=message, hint=hint))


def user_cache() -> Path:
    """Return the folder for what this user's spikec can make again."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return root / "spikec"


def unwritable(path: Path, why: str) -> UsageError:
    """Return the error to raise for a place that cannot be written."""
    return UsageError(
        Diagnostic(
            code="U030",
            where=str(path),
            message=f"cannot write there: {why}",
            hint="name a place in a folder that exists and that you may write to",
        )
    )


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces: the same value gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(content: bytes | memoryview) -> str:
    """Return the SHA-256 digest as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 digest of a file, which is not held in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def optional_package(name: str, *, code: str, where: Path | str, need: str) -> Any:
    """Import a package of the extra ``nir``; without it raise FrontendError with its remedy."""
    try:
        return import_module(name)
    except ImportError as error:
        raise FrontendError(
            Diagnostic(
                code=code,
                where=str(where),
                message=f"{need}, which is missing",
                hint="pip install 'spikec[nir]'",
            )
        ) from error
