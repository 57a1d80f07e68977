"""The proof that a current cannot leave its 24 bits, for every input a program accepts.

With non-negative weight sums P and negative ones N of a neuron, one step brings
at most ``A = 64 * max(P, N)``; a current that keeps the fraction
``1 - (du + 1) / 4096`` of itself then stays within ``A * 4096 / (du + 1)``, since
truncation only shrinks it. Splitting by sign is about 1.6 times tighter than
the sum of magnitudes, for inputs of one sign.

Two conditions make it tighter. Where at most K values of an input are not 0 in a step, only the K
largest of what its weights bring count. A population of r refractory steps sends once in r + 1:
what remains of its spikes sums up to ``A / (1 - keep**(r + 1))`` instead of ``A / (1 - keep)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, Shape, size
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT, DECAY_UNITY
from spikec.compiler.operators import Conv2d, Sparse, Weighted, row_sums, with_weight

__all__ = ["Arrival", "arrival_bound", "current_bound"]


class Arrival:
    """One edge as the proof sees it: float64 weights and the bounds of what is sent."""

    def __init__(
        self,
        operator: Weighted,
        source: Shape,
        low: float,
        high: float,
        *,
        most_active: int | None = None,
        pause: int = 0,
    ) -> None:
        self.operator = operator
        self.most_active, self.pause = most_active, pause
        self.source = source
        self.low = min(low, 0.0)  # silence is always possible
        self.high = max(high, 0.0)

    def extremes(self) -> tuple[FloatArray, FloatArray]:
        """Return the most one step can add and take, per target neuron (flat)."""
        above, below = self._sums(_excitation), self._sums(_inhibition)
        added = above * self.high - below * self.low
        taken = below * self.high - above * self.low
        if self.most_active is None:
            return added, taken
        return (
            np.minimum(added, self._largest(lambda x: np.maximum(x * self.high, x * self.low))),
            np.minimum(taken, self._largest(lambda x: np.maximum(-x * self.high, -x * self.low))),
        )

    def _largest(self, part: Callable[[Array], Array]) -> FloatArray:
        """Return the sum of the most that as many sources as may be active bring, per target."""
        assert self.most_active is not None
        weight = self.operator.weight.astype(np.float64)
        if isinstance(self.operator, Sparse):
            return _largest_into(self.operator, part(weight), self.most_active)
        rows = part(weight.reshape(len(weight), -1))
        kept = min(self.most_active, rows.shape[1])
        sums: FloatArray = np.sort(rows, axis=1)[:, rows.shape[1] - kept :].sum(axis=1)
        if isinstance(self.operator, Conv2d):
            places = size(self.operator.output_shape(self.source)) // len(sums)
            return np.repeat(sums, places)
        return sums

    def _sums(self, part: Callable[[Array], Array]) -> FloatArray:
        """Return what ``part`` of the weights brings when every source sends 1."""
        if not isinstance(self.operator, Conv2d):
            return row_sums(self.operator, part)
        weight = part(self.operator.weight.astype(np.float64))
        ones = np.ones((1, *self.source))
        brought: FloatArray = with_weight(self.operator, weight).apply(ones).reshape(-1)
        return brought


def _largest_into(operator: Sparse, values: Array, most: int) -> FloatArray:
    """Return the sum of the ``most`` largest of ``values``, one a synapse, into each target."""
    targets, outputs = operator.synapses.targets, operator.synapses.outputs
    order = np.lexsort((-values, targets))
    counts = np.bincount(targets, minlength=outputs)
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = order[rank < most]
    sums: FloatArray = np.bincount(targets[kept], values[kept], outputs).astype(np.float64)
    return sums


def _excitation(weight: Array) -> Array:
    return np.maximum(weight, 0)


def _inhibition(weight: Array) -> Array:
    return np.maximum(-weight, 0)


def arrival_bound(arrivals: Iterable[Arrival], du: Array) -> Array | float:
    """Return a magnitude of the input sum of one step, per neuron, that no input exceeds for long.

    What arrives in every step may be as large; what pauses between counts for less, by how
    much of it is left when the next comes.
    """
    keep = (DECAY_UNITY - 1 - du.reshape(-1)) / DECAY_UNITY
    added: Array | float = 0.0
    taken: Array | float = 0.0
    for arrival in arrivals:
        most, least = arrival.extremes()
        if arrival.pause:
            # Some more than float64 rounds.
            rarer = (1 - keep) / (1 - keep ** (arrival.pause + 1)) * (1 + 1e-12)
            most, least = most * rarer, least * rarer
        added, taken = added + most, taken + least
    return np.maximum(added, taken)


def current_bound(arriving: Array | float, du: Array, initial_current: Array) -> float:
    """Return the largest |u| that any run can reach, in units of u.

    An initial current decays while what arrives in every step adds up: together they stay below the
    larger. (After a pause more may arrive at once: no pauses count beside an initial current.)
    """
    steady = np.ldexp(arriving, ACTIVATION_SHIFT) * DECAY_UNITY / (du.reshape(-1) + 1.0)
    return float(max(np.max(steady), np.abs(initial_current).max()))
