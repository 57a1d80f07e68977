"""The proof that a current cannot leave its 24 bits, for every input a program accepts.

With non-negative weight sums P and negative ones N of a neuron, one step brings
at most ``A = 64 * max(P, N)``; a current that keeps the fraction
``1 - (du + 1) / 4096`` of itself then stays within ``A * 4096 / (du + 1)``, since
truncation only shrinks it. Splitting by sign is about 1.6 times tighter than
the sum of magnitudes, for inputs of one sign.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, Shape
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT, DECAY_UNITY
from spikec.compiler.operators import Conv2d, Weighted, row_sums, with_weight

__all__ = ["Arrival", "arrival_bound", "current_bound"]


class Arrival:
    """One edge as the proof sees it: float64 weights and the bounds of what is sent."""

    def __init__(self, operator: Weighted, source: Shape, low: float, high: float) -> None:
        self.operator = operator
        self.source = source
        self.low = min(low, 0.0)  # silence is always possible
        self.high = max(high, 0.0)

    def extremes(self) -> tuple[FloatArray, FloatArray]:
        """Return the most one step can add and take, per target neuron (flat)."""
        above, below = self._sums(_excitation), self._sums(_inhibition)
        return above * self.high - below * self.low, below * self.high - above * self.low

    def _sums(self, part: Callable[[Array], Array]) -> FloatArray:
        """Return what ``part`` of the weights brings when every source sends 1."""
        if not isinstance(self.operator, Conv2d):
            return row_sums(self.operator, part)
        weight = part(self.operator.weight.astype(np.float64))
        ones = np.ones((1, *self.source))
        brought: FloatArray = with_weight(self.operator, weight).apply(ones).reshape(-1)
        return brought


def _excitation(weight: Array) -> Array:
    return np.maximum(weight, 0)


def _inhibition(weight: Array) -> Array:
    return np.maximum(-weight, 0)


def arrival_bound(arrivals: Iterable[Arrival]) -> Array | float:
    """Return the largest magnitude of the input sum of one step, per neuron."""
    added: Array | float = 0.0
    taken: Array | float = 0.0
    for arrival in arrivals:
        most, least = arrival.extremes()
        added, taken = added + most, taken + least
    return np.maximum(added, taken)


def current_bound(arriving: Array | float, du: Array, initial_current: Array) -> float:
    """Return the largest |u| that any run can reach, in units of u."""
    steady = np.ldexp(arriving, ACTIVATION_SHIFT) * DECAY_UNITY / (du.reshape(-1) + 1.0)
    return float(max(np.max(steady), np.abs(initial_current).max()))
