"""Errors that name the place, the rule and the remedy.

Every failure a user can cause is a :class:`SpikecError` that holds one
:class:`Diagnostic` or more: checks collect all they find and raise once.
``assert`` is kept for our own mistakes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

__all__ = [
    "BackendError",
    "Diagnostic",
    "FrontendError",
    "GraphError",
    "MappingError",
    "QuantizationError",
    "SpikecError",
    "UsageError",
    "VerificationError",
    "raise_if_any",
]


@dataclass(frozen=True, kw_only=True)
class Diagnostic:
    """One finding: a stable code, where it is, what is wrong and what to do."""

    code: str
    where: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        text = f"{self.code} at {self.where}: {self.message}"
        return f"{text}\n  hint: {self.hint}" if self.hint else text

    def as_dict(self) -> dict[str, str]:
        """Return the finding as plain strings, for JSON output."""
        return asdict(self)


class SpikecError(Exception):
    """The root of all errors that spikec raises on purpose."""

    def __init__(self, *diagnostics: Diagnostic) -> None:
        super().__init__("\n".join(str(item) for item in diagnostics))
        self.diagnostics: tuple[Diagnostic, ...] = diagnostics


class UsageError(SpikecError):
    """The call or the command line does not make sense."""


class FrontendError(SpikecError):
    """A file cannot be read as what it claims to be."""


class GraphError(SpikecError):
    """A graph or a program breaks one of its rules."""


class QuantizationError(SpikecError):
    """A graph does not fit the target's integers."""


class MappingError(SpikecError):
    """A program does not fit the cores of its target."""


class BackendError(SpikecError):
    """A backend cannot run a program, or failed while running it."""


class VerificationError(SpikecError):
    """Two runs that must agree do not."""


def raise_if_any(kind: type[SpikecError], diagnostics: Sequence[Diagnostic]) -> None:
    """Raise ``kind`` with everything found, or return when nothing was."""
    if diagnostics:
        raise kind(*diagnostics)
