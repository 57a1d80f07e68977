"""How many steps runs have, and how far voltages may go: what the scale must leave room for.

A population without leak sums up over a whole run, so that no scale holds for runs of any
length. The longest run is said (``--horizon``), or taken from calibration data.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.quantize.observe import Observed

__all__ = [
    "HEADROOM",
    "SUM_HEADROOM",
    "Horizon",
    "HorizonOrigin",
    "horizon_of",
    "refuse_idle_horizon",
]

#: Voltages may grow this much beyond those of the calibration data before they clip: those that
#: leak, and sums over all steps, which wander further on other data and do not come back.
HEADROOM, SUM_HEADROOM = 1.25, 1.5
#: More than any voltage of a network would need: it leaves thresholds of a few units.
_MOST_HEADROOM = 1024.0

HorizonOrigin: TypeAlias = Literal["option", "calibration data", ""]


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """``steps`` of the longest run, None if nobody said; ``seen_steps`` those of the data.

    ``headroom`` is how far beyond the data's voltages may go, and that of sums over all steps.
    """

    steps: int | None = None
    origin: HorizonOrigin = ""
    headroom: tuple[float, float] = (HEADROOM, SUM_HEADROOM)
    seen_steps: int = 0

    def room(self, *, sums_up: bool) -> float:
        """Return how much further than on the data a voltage may go: a sum grows with steps."""
        leaking, summing = self.headroom
        if not sums_up:
            return leaking
        longer = self.steps / self.seen_steps if self.steps and self.seen_steps else 1.0
        return summing * max(1.0, longer)


def horizon_of(observed: Observed, steps: int | None, headroom: float | None) -> Horizon:
    """Return what is known; raise :class:`UsageError` for numbers that are no such amounts."""
    if steps is not None and (isinstance(steps, bool) or not 1 <= steps <= 1 << 31):
        raise UsageError(
            _finding("horizon", f"{steps} is no number of steps", "give 1 or more steps")
        )
    if headroom is not None and not (math.isfinite(headroom) and 1.0 <= headroom <= _MOST_HEADROOM):
        hint = f"a factor from 1 to {_MOST_HEADROOM:g}; {SUM_HEADROOM:g} is usual without leak"
        raise UsageError(_finding("headroom", f"{headroom:g} is no such factor", hint))
    if headroom is not None and not observed.samples:
        raise UsageError(
            _finding(
                "headroom",
                "it has no effect: it multiplies the voltages of calibration data",
                "calibrate with data, or leave it out",
            )
        )
    seen = observed.steps
    origin: HorizonOrigin = "option" if steps is not None else "calibration data" if seen else ""
    return Horizon(
        steps=steps if steps is not None else seen or None,
        origin=origin,
        headroom=(HEADROOM, SUM_HEADROOM) if headroom is None else (headroom, headroom),
        seen_steps=seen,
    )


def refuse_idle_horizon(horizon: Horizon, *, sums_up: bool) -> None:
    """Refuse a horizon for a network in which nothing sums up: it would do nothing."""
    if horizon.origin == "option" and not sums_up:
        message = "it has no effect: every population leaks, and forgets how long a run is"
        raise UsageError(_finding("horizon", message, "leave it out"))


def _finding(option: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic(code="U086", where=f"option --{option}", message=message, hint=hint)
