"""Where results go: refused before the work, which may take long, and not after it."""

from __future__ import annotations

from pathlib import Path

from spikec.compiler import frontends
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.files import check_writable

__all__ = ["check_folder", "check_output"]


def check_output(output: Path | None, *read: Path | None, ending: str | None = None) -> None:
    """Raise :class:`UsageError` for a file that cannot be written, or that the command reads.

    With ``ending`` there is one form to write: a name that promises another is refused.
    """
    if output is None:
        return
    for path in read if output.exists() else ():
        files = () if path is None else frontends.files_of(path)
        if any(file.exists() and output.samefile(file) for file in files):
            raise _read_too(output, "it is read by this command and would be written over")
    if ending is not None and output.suffix.lower() != ending:
        raise UsageError(
            Diagnostic(
                code="U033",
                where=str(output),
                message=f"what is written there is {ending}, whatever it is called",
                hint=f"let the name end in {ending}",
            )
        )
    check_writable(output)


def check_folder(output: Path, *read: Path | None) -> None:
    """Raise :class:`UsageError` where what the command reads lies in the folder it replaces."""
    folder = output.resolve()
    for path in read:
        if (
            path is not None
            and path.exists()
            and folder in (path.resolve(), *path.resolve().parents)
        ):
            raise _read_too(output, f"'{path}' in it is read by this command and would be lost")


def _read_too(output: Path, message: str) -> UsageError:
    return UsageError(
        Diagnostic(code="U031", where=str(output), message=message, hint="name another output")
    )
