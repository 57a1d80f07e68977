"""Weights to mantissas: which grid an edge uses, and what rounding to it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, sealed
from spikec.compiler.program import SignMode, sign_mode_of

__all__ = ["Grid", "choose_unit"]

#: Weights looked at while a scale is searched; more change it by less than rounding does.
_SEARCH_SAMPLE = 20_000
#: Weights looked at together, so that a large layer needs little memory beside itself.
_BLOCK = 1 << 20
#: Candidate scales in each octave.
_PER_OCTAVE = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Grid:
    """The levels an edge of ``bits`` bits may use: ``k * step``, k in ``low..high``.

    Mixed signs store b bits including the sign, one sign stores b bits of
    magnitude. One mixed bit means the two levels -1 and +1, which take two
    stored bits. What is rounded is ``gain`` times the weights: no copy of them is kept.
    """

    weight: Array
    bits: int
    gain: float = 1.0

    @cached_property
    def sign_mode(self) -> SignMode:
        """How the chip stores the sign."""
        return sign_mode_of(self.weight)

    @property
    def stored_bits(self) -> int:
        """The bits a level takes on the chip."""
        return 2 if self.bits == 1 and self.sign_mode == "mixed" else self.bits

    @property
    def low(self) -> int:
        """The lowest level."""
        if self.sign_mode == "mixed":
            return -1 if self.bits == 1 else -(1 << (self.bits - 1))
        return 0 if self.sign_mode == "excitatory" else -((1 << self.bits) - 1)

    @property
    def high(self) -> int:
        """The highest level."""
        if self.sign_mode == "mixed":
            return 1 if self.bits == 1 else (1 << (self.bits - 1)) - 1
        return (1 << self.bits) - 1 if self.sign_mode == "excitatory" else 0

    @property
    def least_shift(self) -> int:
        """The least power of two by which a level counts: mixed mantissas are even."""
        return 1 if self.sign_mode == "mixed" else 0

    @property
    def top_shift(self) -> int:
        """The power of two of a level in a mantissa whose unused low bits are dropped."""
        return 8 - self.stored_bits + self.least_shift

    @cached_property
    def widest_step(self) -> float:
        """The smallest step that clips no weight; 0 if all weights are 0."""
        above = float(self.weight.max(initial=0.0)) / max(self.high, 1)
        below = float(self.weight.min(initial=0.0)) / min(self.low, -1)
        return max(above, below, 0.0) * self.gain

    def values(self, rows: slice = slice(None)) -> FloatArray:
        """Return what is to be rounded of some rows of the weights."""
        return self._wanted(self.weight[rows])

    def sample(self) -> FloatArray:
        """Return what is to be rounded, or as a sample of many both extremes and some between."""
        return self._wanted(_sample(self.weight))

    def _wanted(self, weight: Array) -> FloatArray:
        wanted: FloatArray = weight.astype(np.float64)
        if self.gain != 1:
            wanted *= self.gain
        return wanted

    def all_levels(self, step: float) -> Array:
        """Return the level of every weight, as 16-bit integers, read-only."""
        levels = np.empty(self.weight.shape, np.int16)
        flat = levels.reshape(-1)
        for place, weight in self._blocks():
            flat[place] = self.levels(step, weight)
        return sealed(levels)

    def _blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield all that is to be rounded, flat, some at a time."""
        flat = self.weight.reshape(-1)
        for begin in range(0, flat.size, _BLOCK):
            place = slice(begin, begin + _BLOCK)
            yield place, self._wanted(flat[place])

    def levels(self, step: float, weight: Array) -> FloatArray:
        """Return the nearest level of each weight, clipped to the grid (half to even)."""
        return self.nearest(weight.astype(np.float64, copy=False) / step)

    def nearest(self, values: FloatArray) -> FloatArray:
        """Return the nearest level of each value that counts in levels."""
        if self.widest_step == 0:
            # Weights that are all 0 have no scale: no level of theirs could be worth anything.
            return np.zeros_like(values)
        if self.bits == 1 and self.sign_mode == "mixed":
            signs: FloatArray = np.where(values < 0, -1.0, 1.0)
            return signs
        # Faster than np.clip on the short rows that fitting asks for.
        nearest: FloatArray = np.minimum(np.maximum(np.rint(values), self.low), self.high)
        return nearest

    def clipped(self, step: float) -> int:
        """Return how many weights lie more than half a step beyond the outermost level."""
        ends = (self.low - 0.5, self.high + 0.5)
        parts = (weight / step for _, weight in self._blocks())
        return sum(int(((part < ends[0]) | (part > ends[1])).sum()) for part in parts)

    def errors(self, step: float, levels: Array) -> tuple[float, float]:
        """Return the largest error of ``levels``, and the RMS error relative to the weights' RMS.

        Both are 0 where all weights are.
        """
        if self.widest_step == 0:
            return 0.0, 0.0
        largest, lost, power = 0.0, 0.0, 0.0
        chosen = levels.reshape(-1)
        for place, weight in self._blocks():
            error = weight - step * chosen[place].astype(np.float64)
            largest = max(largest, float(np.abs(error).max()))
            lost += float(np.sum(error * error))
            power += float(np.sum(weight * weight))
        count = self.weight.size
        return largest, math.sqrt(lost / count) / math.sqrt(power / count)

    def loss(self, step: float, weight: Array) -> float:
        """Return the mean squared rounding error of ``weight`` at ``step``."""
        error = weight - step * self.levels(step, weight)
        return float(np.mean(error * error))

    def mantissas(self, levels: Array, shift: int) -> tuple[Array, int, int]:
        """Return mantissas, exponent and stored bits for levels that count ``2**shift`` each.

        ``levels`` are 16-bit integers. Below :attr:`top_shift` there is no exponent left to
        lower: the levels move down into low mantissa bits, which then must be stored.
        """
        if shift >= self.top_shift:
            mantissas = sealed(levels << np.int16(self.top_shift))
            return mantissas, shift - self.top_shift, self.stored_bits
        return sealed(levels << np.int16(shift)), 0, 8 + self.least_shift - shift


def choose_unit(grids: Sequence[Grid], *, clip: bool = True) -> tuple[float, tuple[int, ...]]:
    """Return a step unit m in [1, 2) and a power p per edge: edge e rounds to ``m * 2**p``.

    One scale serves all edges of a population, so their steps differ by powers
    of two. The unit is the one with the least summed mean squared error, each
    edge relative to its own weights; each edge takes its own best power, which
    may clip outliers (with ``clip``), or the least that clips none.
    """
    active = [grid for grid in grids if grid.widest_step > 0]
    if not active:
        return 1.0, (0,) * len(grids)
    samples = {id(grid): grid.sample() for grid in active}
    units = {2.0 ** (index / _PER_OCTAVE) for index in range(_PER_OCTAVE)}
    units |= {math.ldexp(math.frexp(grid.widest_step)[0], 1) for grid in active}

    def best(grid: Grid, unit: float) -> tuple[float, int]:
        sample = samples[id(grid)]
        power = float(np.mean(sample * sample)) or 1.0
        top = math.ceil(math.log2(grid.widest_step / unit) - 1e-12)
        return min(
            (grid.loss(math.ldexp(unit, shift), sample) / power, -shift)
            for shift in range(top - (3 if clip else 0), top + 1)
        )

    unit = min(sorted(units), key=lambda unit: sum(best(grid, unit)[0] for grid in active))
    powers = tuple(-best(grid, unit)[1] if grid.widest_step > 0 else 0 for grid in grids)
    return unit, powers


def _sample(weight: Array) -> FloatArray:
    """Return the weights, or an evenly spaced sample of many that includes both extremes."""
    flat = weight.reshape(-1)
    if flat.size <= _SEARCH_SAMPLE:
        return flat
    stride = max(1, flat.size // _SEARCH_SAMPLE)
    return np.concatenate([flat[::stride], [flat.min(), flat.max()]])
