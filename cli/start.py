"""Where the command starts: what signals do to it, and streams that may be closed or full.

``spikec`` ends with 128 and the number of the signal that ends it, after it has cleared away
what it had begun: 130 for an interrupt, 143 when it is asked to terminate. A reader of its
output that has gone away counts as SIGPIPE, 141. Output that cannot be written otherwise,
because a disk is full, is bad usage, 2. Nothing but a verification ends with 1.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

__all__ = ["main", "run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_BROKEN_PIPE = 128 + signal.SIGPIPE
_BAD_USAGE = 2


def main() -> None:
    """Load the command line and run it."""
    _on_signals(_leave)  # there is nothing yet to clear away
    from spikec.cli.main import app

    run(app)


def run(app: Callable[[], None]) -> None:
    """Run the command line ``app``; what it has printed is written when this returns."""
    _fill_standard_files()
    sys.stdin = sys.stdin or io.StringIO()
    sys.stdout = _Output(*_parts(sys.stdout, 1), errors="backslashreplace")
    sys.stderr = _Errors(*_parts(sys.stderr, 2), errors="backslashreplace", line_buffering=True)
    _on_signals(_end)
    try:
        app()
    finally:
        sys.stdout.flush()
        _on_signals(_leave)


def _on_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    os._exit(128 + number)


def _end(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """End as by ``sys.exit``, so that temporary files go and children end."""
    raise SystemExit(128 + number)


def _fill_standard_files() -> None:
    """Open what a caller has closed: else the next file opened takes its number.

    Standard output is opened such that writing to it fails, as it does when it is closed.
    """
    for number, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        if not _is_open(number):
            os.open(os.devnull, flags)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _parts(stream: object, number: int) -> tuple[io.BufferedWriter, str]:
    """Return the binary file under a standard stream, and its encoding."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    if isinstance(stream, io.TextIOWrapper):
        stream.flush()
    return io.BufferedWriter(io.FileIO(number, "wb", closefd=False)), encoding


class _Stream(io.TextIOWrapper):
    """A standard stream that says what it means when it cannot be written."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self._lost(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:  # noqa: ARG002
        """Let go what is still to be written."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


class _Errors(_Stream):
    """Standard error: where it cannot be written, nobody is there to be told."""


class _Output(_Stream):
    """Standard output: where it cannot be written, the command ends."""

    def _lost(self, error: OSError) -> NoReturn:
        super()._lost(error)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(_BROKEN_PIPE)
        sys.stderr.write(
            f"error U034 at standard output: cannot write there: {error.strerror}\n"
            "  hint: make room, or send the output elsewhere\n"
        )
        raise SystemExit(_BAD_USAGE)


if __name__ == "__main__":
    main()
