"""Temporary files and folders, whose names say which process made them.

A process that is killed cannot clear away what it has begun. The next one that makes
something in the same folder does: it removes what a process of this machine and this user has
made that lives no more, and gives back a folder that was moved aside.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["ASIDE", "temporary_file", "temporary_folder"]

#: Where a temporary folder keeps, under its own name, the folder that it is to replace.
ASIDE = "aside"

#: Numbers of processes count on one machine only, and folders may be shared by several.
_MACHINE = hashlib.sha256(platform.node().encode(errors="replace")).hexdigest()[:6]
_NAME = re.compile(rf"\.spikec-{_MACHINE}-(\d+)-[0-9a-f]{{8}}\Z")

#: What this process has made: a number that is taken again may stand for an earlier process.
_OURS: set[str] = set()


@contextmanager
def temporary_file(folder: Path, mode: int) -> Iterator[Path]:
    """Make an empty file in ``folder`` with what the umask leaves of ``mode``; remove it.

    Raises ``OSError`` where that cannot be.
    """
    path = _new_path(folder)
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield path
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
        _OURS.discard(path.name)


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Make a folder in ``folder`` that only this user may read; remove it with what it holds.

    Raises ``OSError`` where that cannot be.
    """
    path = _new_path(folder)
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        _removed(path)
        _OURS.discard(path.name)


def _new_path(folder: Path) -> Path:
    """Clear ``folder`` of what killed processes left, and return a new place in it."""
    _clear(folder)
    name = f".spikec-{_MACHINE}-{os.getpid()}-{secrets.token_hex(4)}"
    _OURS.add(name)
    return folder / name


def _clear(folder: Path) -> None:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            found = _NAME.match(entry.name)
            if found is None or entry.name in _OURS or _lives(int(found[1])):
                continue
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid == os.getuid():
                    _removed(Path(entry.path))


def _lives(process: int) -> bool:
    """Say whether another process of that number runs on this machine."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _removed(path: Path) -> None:
    """Remove a temporary file or folder; one that was moved aside goes back if it has to."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    aside = path / ASIDE
    for held in aside.iterdir() if aside.is_dir() else ():
        place = path.parent / held.name
        if not os.path.lexists(place):
            held.rename(place)
    shutil.rmtree(path, ignore_errors=True)
