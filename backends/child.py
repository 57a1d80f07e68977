"""Run one command in a process group of its own, with a limit, and leave nothing behind."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["ChildFailedError", "run_child"]

#: How long a group may take to leave after it was asked to.
_GRACE_SECONDS = 5.0

#: A process that waits until whoever started it ends: with a word, or, killed, without one.
#: Then it ends the group it was told of. No other process holds the other end of its pipe.
_GUARD = """
import os, signal, sys, time
group = int(sys.argv[1])
if not sys.stdin.buffer.read():
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
        except OSError:
            break
        time.sleep(2)
"""


@dataclass
class ChildFailedError(Exception):
    """A child ended with an error, or went without a sign of life for ``timeout`` seconds."""

    reason: str
    text: str

    def __str__(self) -> str:
        return f"{self.reason}\n{self.text}" if self.text else self.reason


def run_child(
    command: Sequence[str],
    *,
    errors: Path,
    timeout: float,
    heard: Callable[[str], None] = lambda _: None,
    variables: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> None:
    """Run ``command`` in ``directory``, or here; ``heard`` gets each line that it prints.

    What it says on its error output goes to the file ``errors``. ``timeout`` is in seconds from
    one line to the next. Raises :class:`ChildFailedError` with what the child said on its error
    output. No process of its group is left when this returns or raises, nor when this process
    is killed.
    """
    with errors.open("wb") as error_file:
        child = subprocess.Popen(  # noqa: S603  (a list of arguments, no shell)
            command,
            env=variables,
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=error_file,
            start_new_session=True,
        )
    try:
        with _guarded(child):
            assert child.stdout is not None
            ended = _listen(child.stdout, timeout, heard)
            code = child.wait(timeout=_GRACE_SECONDS) if ended else None
    except subprocess.TimeoutExpired:
        code = None
    finally:
        _end_group(child)
    if code == 0:
        return
    reason = f"no result within {timeout:g} s" if code is None else f"it ended with code {code}"
    raise ChildFailedError(reason, _last_words(errors))


@contextmanager
def _guarded(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Have the child's group ended, should this process be killed while the body runs."""
    guard = subprocess.Popen(  # noqa: S603  (a list of arguments, no shell)
        [sys.executable, "-I", "-S", "-c", _GUARD, str(child.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.communicate(b"ended")


def _listen(stream: IO[bytes], timeout: float, heard: Callable[[str], None]) -> bool:
    """Pass lines on until the stream ends (True) or falls silent for ``timeout`` (False)."""
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        deadline = time.monotonic() + timeout
        while selector.select(max(0.0, deadline - time.monotonic())):
            data = os.read(stream.fileno(), 1 << 16)
            if not data:
                return True
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                heard(line.decode(errors="replace"))
                deadline = time.monotonic() + timeout
    return False


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """End what is left of the child's group, first gently: Python then frees shared memory."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except (ProcessLookupError, PermissionError):
            break
        if _gone(child):
            break
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def _gone(child: subprocess.Popen[bytes]) -> bool:
    """Wait until no process of the group is alive; False when that takes too long."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline:
        child.poll()
        if not _alive(child.pid):
            return True
        time.sleep(0.02)
    return False


def _alive(group: int) -> bool:
    """Say whether a process of ``group`` lives; a zombie that nobody collects does not."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    processes = list(Path("/proc").glob("[0-9]*/stat"))
    if not processes:
        return True  # no /proc here: the signal's answer has to do
    return any(_is_live_member(stat, group) for stat in processes)


def _is_live_member(stat: Path, group: int) -> bool:
    try:
        state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return int(of_group) == group and state not in "ZX"


def _last_words(errors: Path) -> str:
    lines = errors.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "\n".join(lines[-40:])
