"""What a file may leave open: the options that a user supplies instead of a guess."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Literal, TypeAlias

from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.ir import MOST_SPIKES, Compare, Reset, ResetOrder

__all__ = ["Discretization", "ReadOptions", "no_effect"]

Discretization: TypeAlias = Literal["euler", "exp"]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Answers to what a format does not say; None where the user gave none.

    ``dt`` is in seconds. ``profile`` names the producing framework and answers
    several questions at once; the others override it one by one. ``max_spikes`` limits
    how many spikes a neuron sends in a step, where the source sends several. ``spike_exp`` and
    ``input_bits`` are netx's arguments ``spike_exp`` and ``input_message_bits``.
    """

    dt: float | None = None
    reset: Reset | None = None
    reset_order: ResetOrder | None = None
    compare: Compare | None = None
    discretization: Discretization | None = None
    profile: str | None = None
    max_spikes: int | None = None
    spike_exp: int | None = None
    input_bits: int | None = None

    def refuse_all_but(self, allowed: Collection[str], where: str) -> None:
        """Raise :class:`UsageError` for every answer to a question the file leaves no room for."""
        given = [item.name for item in fields(self) if getattr(self, item.name) is not None]
        raise_if_any(UsageError, [no_effect(name, where) for name in given if name not in allowed])
        if self.dt is not None and not (math.isfinite(self.dt) and self.dt > 0):
            raise UsageError(
                Diagnostic(
                    code="U083",
                    where="option --dt",
                    message=f"{self.dt} is no time step",
                    hint="give seconds, above 0",
                )
            )
        self.check_max_spikes()

    def check_max_spikes(self) -> None:
        """Raise :class:`UsageError` for a limit that no neuron can have."""
        if self.max_spikes is not None and not 1 <= self.max_spikes <= MOST_SPIKES:
            raise UsageError(
                Diagnostic(
                    code="U083",
                    where="option --max-spikes",
                    message=f"{self.max_spikes} spikes a step cannot be held",
                    hint=f"give 1 to {MOST_SPIKES}",
                )
            )


def no_effect(name: str, where: str) -> Diagnostic:
    """Return what to say about an option that answers no question."""
    return Diagnostic(
        code="U082",
        where=f"option --{name.replace('_', '-')}",
        message=f"it has no effect: {where} says so itself",
        hint="leave the option out",
    )
