"""Where results go: refused before the work, which may take long, and not after it."""

from __future__ import annotations

from pathlib import Path

from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.files import check_writable

__all__ = ["check_output"]


def check_output(output: Path | None, *read: Path | None, ending: str | None = None) -> None:
    """Raise :class:`UsageError` for a file that cannot be written, or that the command reads.

    With ``ending`` there is one form to write: a name that promises another is refused.
    """
    if output is None:
        return
    for path in read:
        if path is not None and output.exists() and path.exists() and output.samefile(path):
            raise UsageError(
                Diagnostic(
                    code="U031",
                    where=str(output),
                    message="it is read by this command and would be written over",
                    hint="name another output",
                )
            )
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
