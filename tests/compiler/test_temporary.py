"""Files and folders are the old ones or the new ones, whatever interrupts their writing."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from spikec.compiler import folders
from spikec.compiler.errors import SpikecError, UsageError
from spikec.compiler.files import check_writable, write_atomically
from spikec.compiler.folders import write_folder
from spikec.compiler.temporary import temporary_file, temporary_folder

OLD, NEW = b"old" * 1000, b"new" * 2000

#: The calls that change a folder or a file, which a full disk or an interrupt may stop.
CALLS = ("open", "mkdir", "write", "fsync", "chmod", "rename", "replace", "unlink", "rmdir")


@contextmanager
def failing(
    patch: pytest.MonkeyPatch, at: int, error: BaseException, *, late: bool
) -> Iterator[list[str]]:
    """Let the ``at``-th of all calls raise, before it does its work or just after it."""
    seen: list[str] = []

    def wrapped(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            seen.append(name)
            if len(seen) != at + 1:
                return real(*arguments, **options)
            if late and name != "open":  # nobody could close it
                real(*arguments, **options)
            raise error

        return call

    with patch.context() as inner:
        for name in CALLS:
            inner.setattr(os, name, wrapped(name, getattr(os, name)))
        for name in ("open", "write_bytes", "rename", "replace", "mkdir", "chmod", "unlink"):
            inner.setattr(Path, name, wrapped(name, getattr(Path, name)))
        yield seen


def each_failure(
    patch: pytest.MonkeyPatch,
    write: Callable[[], None],
    stands: Callable[[], bytes],
    again: Callable[[], None],
) -> int:
    """Fail at every call in turn; old or new stands each time. Returns how many there are."""
    for at in range(1000):
        for error in (OSError(28, "No space left on device"), KeyboardInterrupt()):
            for late in (False, True):
                again()
                with (
                    suppress(SpikecError, KeyboardInterrupt),
                    failing(patch, at, error, late=late) as seen,
                ):
                    write()
                assert stands() in (OLD, NEW), (at, error, late)
                if len(seen) <= at:
                    assert stands() == NEW
                    return at
    raise AssertionError("it never ends")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_old_or_new_whatever_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    count = each_failure(
        monkeypatch,
        lambda: write_atomically(path, NEW),
        path.read_bytes,
        lambda: write_atomically(path, OLD),
    )
    assert count >= 6
    write_atomically(path, OLD)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_old_or_new_whatever_call_fails(
    exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(folders, "_exchanged", lambda one, other: False)
    folder = tmp_path / "out"

    def write(content: bytes) -> None:
        write_folder(folder, {"a.txt": content, "sub/b.txt": content}, schema="s")

    def stands() -> bytes:
        if not folder.exists():  # a removal that failed: the next run gives it back
            with temporary_folder(tmp_path):
                pass
        first = (folder / "a.txt").read_bytes()
        assert (folder / "sub" / "b.txt").read_bytes() == first
        return first

    count = each_failure(monkeypatch, lambda: write(NEW), stands, lambda: write(OLD))
    assert count >= 8
    write(OLD)
    assert [name for name in names(tmp_path) if not name.startswith(".spikec-")] == ["out"]


def test_linux_exchanges_folders_in_one_step(tmp_path: Path) -> None:
    if not hasattr(ctypes.CDLL(None), "renameat2"):
        pytest.skip("this system has no such call")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    assert folders._exchanged(tmp_path / "a", tmp_path / "b")
    assert names(tmp_path / "a") == ["b"]
    assert not folders._exchanged(tmp_path / "a", tmp_path / "missing")


KILLED = """
import os, signal, sys
from pathlib import Path
from spikec.compiler import files, folders
if sys.argv[2] == "aside":
    folders._exchanged = lambda one, other: False
count = 0
def hook(event, arguments):
    global count
    if event in ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod"):
        count += 1
        if count == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)
import ctypes, json
ctypes.CDLL(None)
sys.addaudithook(hook)
folders.write_folder(Path("out"), {"a.txt": b"new" * 2000}, schema="s")
files.write_atomically(Path("file"), b"new" * 2000)
"""


@pytest.mark.parametrize("way", ["exchange", "aside"])
def test_a_killed_run_leaves_the_old_or_the_new_and_the_next_clears(
    way: str, tmp_path: Path
) -> None:
    ended = 1
    for point in range(4, 60, 3):
        write_folder(tmp_path / "out", {"a.txt": OLD}, schema="s")
        write_atomically(tmp_path / "file", OLD)
        ended = subprocess.run(
            [sys.executable, "-c", KILLED, str(point), way], cwd=tmp_path, check=False, timeout=60
        ).returncode
        with temporary_folder(tmp_path):
            pass
        assert names(tmp_path) == ["file", "out"]
        assert (tmp_path / "out" / "a.txt").read_bytes() in (OLD, NEW)
        assert (tmp_path / "file").read_bytes() in (OLD, NEW)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
    assert ended == 0


def test_what_others_made_and_what_living_processes_make_stays(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from spikec.compiler.temporary import temporary_file\n"
        "with temporary_file(Path(), 0o666) as path:\n"
        "    print(path.name, flush=True)\n    time.sleep(60)\n"
    )
    (tmp_path / ".spikec-notes").touch()
    (tmp_path / ".spikec-ffffff-1-00000000").touch()
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        theirs = other.stdout.readline().strip()
        with temporary_file(tmp_path, 0o666) as ours, temporary_file(tmp_path, 0o666):
            assert theirs in names(tmp_path)
            assert ours.exists()
        other.kill()
    assert theirs in names(tmp_path)
    with temporary_file(tmp_path, 0o666):
        pass
    assert names(tmp_path) == [".spikec-ffffff-1-00000000", ".spikec-notes"]


def test_files_keep_their_mode_and_new_ones_get_the_umask_s(tmp_path: Path) -> None:
    path = tmp_path / "file"
    umask = os.umask(0o027)
    try:
        write_atomically(path, OLD)
        assert path.stat().st_mode & 0o777 == 0o640
        for mode in (0o600, 0o400, 0o664, 0o755):
            path.chmod(mode)
            write_atomically(path, NEW)
            assert path.stat().st_mode & 0o777 == mode
        write_folder(tmp_path / "out", {"a": OLD}, schema="s")
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o750
        (tmp_path / "out").chmod(0o700)
        write_folder(tmp_path / "out", {"a": NEW}, schema="s")
        assert (tmp_path / "out").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(umask)


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, real = tmp_path / "link", tmp_path / "there" / "real"
    link.symlink_to(real)
    write_atomically(link, OLD)
    write_atomically(link, NEW)
    assert link.is_symlink()
    assert real.read_bytes() == NEW
    assert names(tmp_path / "there") == ["real"]
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for check in (check_writable, lambda path: write_atomically(path, NEW)):
        with pytest.raises(UsageError, match="U030"):
            check(tmp_path / "loop")
