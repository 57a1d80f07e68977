"""What is known of runs: their steps, how far voltages may go, how much is active at once.

A population without leak sums up over a whole run, so that no scale holds for runs of any
length. The longest run is said (``--horizon``), or taken from calibration data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from spikec.compiler.arrays import Array, size
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.inputs import Dataset, active_values
from spikec.compiler.ir import LIF, Graph
from spikec.compiler.quantize.observe import Observed

__all__ = [
    "HEADROOM", "SUM_HEADROOM", "Horizon", "activity_bounds", "busiest", "horizon_of", "pauses_of",
    "refuse_idle_horizon",
]  # fmt: skip

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
    ``active`` is how many values of an input differ from 0 in a step at most, where a program may
    count on it; ``pauses`` are the refractory steps of populations that have some.
    """

    steps: int | None = None
    origin: HorizonOrigin = ""
    headroom: tuple[float, float] = (HEADROOM, SUM_HEADROOM)
    seen_steps: int = 0
    active: Mapping[str, int] = field(default_factory=dict)
    pauses: Mapping[str, int] = field(default_factory=dict)

    def room(self, *, sums_up: bool) -> float:
        """Return how much further than on the data a voltage may go: a sum grows with steps."""
        leaking, summing = self.headroom
        if not sums_up:
            return leaking
        longer = self.steps / self.seen_steps if self.steps and self.seen_steps else 1.0
        return summing * max(1.0, longer)


def horizon_of(
    observed: Observed,
    steps: int | None,
    headroom: float | None,
    *,
    active: Mapping[str, int],
    pauses: Mapping[str, int],
) -> Horizon:
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
        active=active,
        pauses=pauses,
    )


def activity_bounds(
    graph: Graph, wanted: int | Literal["data"] | None, calibration: Dataset | None
) -> dict[str, int]:
    """Return how many values of each input may differ from 0 in a step, where that is a condition.

    ``"data"`` counts them in all calibration data. Raises :class:`UsageError` for what is no such
    number, or no condition at all.
    """
    if wanted is None:
        return {}
    if wanted == "data":
        if calibration is None:
            message = "'data' counts active inputs of calibration data, and there are none"
            raise UsageError(_finding("max-active", message, "add --calibrate DATA"))
        counts = {node.name: busiest(calibration.inputs[node.name]) for node in graph.inputs}
    elif isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        hint = "give 1 or more inputs a step, or 'data'"
        raise UsageError(_finding("max-active", f"{wanted} is no number of inputs", hint))
    else:
        counts = {node.name: wanted for node in graph.inputs}
    sizes = {node.name: size(node.shape) for node in graph.inputs}
    found = {name: max(count, 1) for name, count in counts.items() if count < sizes[name]}
    if not found:
        message = f"it has no effect: inputs have no more than {max(sizes.values())} values"
        raise UsageError(_finding("max-active", message, "leave it out"))
    return found


def busiest(values: Array) -> int:
    """Return how many values of ``[sample, step, ...]`` differ from 0 in a step at most."""
    return max((int(active_values(sample[None]).max(initial=0)) for sample in values), default=0)


def pauses_of(graph: Graph) -> dict[str, int]:
    """Return the refractory steps of every population that has some."""
    return {
        node.name: node.refractory
        for node in graph.populations
        if isinstance(node, LIF) and node.refractory
    }


def refuse_idle_horizon(horizon: Horizon, *, sums_up: bool) -> None:
    """Refuse a horizon for a network in which nothing sums up: it would do nothing."""
    if horizon.origin == "option" and not sums_up:
        message = "it has no effect: every population leaks, and forgets how long a run is"
        raise UsageError(_finding("horizon", message, "leave it out"))


def _finding(option: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic(code="U086", where=f"option --{option}", message=message, hint=hint)
