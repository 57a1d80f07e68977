"""What a file may leave open: the options that a user supplies instead of a guess."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.ir import Compare, Reset, ResetOrder

__all__ = ["Discretization", "ReadOptions"]

Discretization: TypeAlias = Literal["euler", "exp"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Answers to what a format does not say; None where the user gave none.

    ``dt`` is in seconds. ``profile`` names the producing framework and answers
    several questions at once; the others override it one by one.
    """

    dt: float | None = None
    reset: Reset | None = None
    reset_order: ResetOrder | None = None
    compare: Compare | None = None
    discretization: Discretization | None = None
    profile: str | None = None

    def refuse_all_but(self, allowed: Collection[str], where: str) -> None:
        """Raise :class:`UsageError` for every answer to a question the file leaves no room for."""
        given = [item.name for item in fields(self) if getattr(self, item.name) is not None]
        raise_if_any(
            UsageError,
            [
                Diagnostic(
                    code="U082",
                    where=f"option --{name.replace('_', '-')}",
                    message=f"it has no effect: {where} says so itself",
                    hint="leave the option out",
                )
                for name in given
                if name not in allowed
            ],
        )
        if self.dt is not None and not (math.isfinite(self.dt) and self.dt > 0):
            raise UsageError(
                Diagnostic(
                    code="U083",
                    where="option --dt",
                    message=f"{self.dt} is no time step",
                    hint="give seconds, above 0",
                )
            )
