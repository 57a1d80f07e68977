"""What a file may leave open: the options that a user supplies instead of a guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

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
