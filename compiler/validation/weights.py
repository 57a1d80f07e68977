"""A program's weights against the canonical graph's: every level the nearest, or in reach.

A mantissa is a whole number of steps, its level. The step in source units follows from the
population's ``lsb``, the exponent, and the fractional bits of the input. A weight times the
kernel's gain, in steps, is at most half a level away, or beyond the outermost level.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, Shape, size
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT
from spikec.compiler.ir import Edge
from spikec.compiler.operators import Conv2d, Sparse, Weighted, row_sums, with_weight
from spikec.compiler.program import Connection, SignMode
from spikec.compiler.validation.claims import Claims
from spikec.compiler.validation.findings import finding, place

__all__ = ["EdgeWeights", "Levels", "check_weights", "levels_of"]

#: Weights looked at together: they stay in a cache.
_BLOCK = 1 << 16
#: Half a level, and what float arithmetic may add to it.
_HALF = 0.5 + 1e-6
#: A scale may clip the largest weights, to an eighth and no further.
_MOST_CLIPPED = 8 * (1 + 1e-9)


@dataclass(frozen=True, eq=False, kw_only=True)
class Levels:
    """The levels of an edge: what a step is worth in source units, and the outermost ones."""

    step: float
    low: int
    high: int
    binary: bool


def levels_of(connection: Connection, lsb: float, frac_bits: int, claims: Claims) -> Levels:
    """Return the levels that ``connection`` has at the scale its population states."""
    bits = claims.bits.get(connection.name, connection.num_weight_bits)
    mode: SignMode = connection.sign_mode
    binary = bits == 1 and mode == "mixed"
    if mode == "mixed":
        low, high = (-1, 1) if binary else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    else:
        top = (1 << bits) - 1
        low, high = (0, top) if mode == "excitatory" else (-top, 0)
    shift = ACTIVATION_SHIFT + connection.weight_exp + frac_bits
    return Levels(step=math.ldexp(lsb * connection.step, shift), low=low, high=high, binary=binary)


@dataclass(frozen=True, eq=False, kw_only=True)
class EdgeWeights:
    """The weights of one edge, float in the canonical graph and levels in the program.

    ``gain`` is what the kernel's rounding multiplies them by, per target neuron.
    """

    edge: Edge
    operator: Weighted
    connection: Connection
    gain: FloatArray
    levels: Levels

    def blocks(self) -> Iterator[tuple[int, FloatArray, Array]]:
        """Yield where some weights begin, flat, their values in levels, and their levels."""
        mantissas = self.connection.operator.weight.reshape(-1)
        shift = self.connection.step.bit_length() - 1
        rows = _rows_gain(self.operator, self.gain)
        for begin, wanted in _scaled(self.operator.weight, rows, self.levels.step):
            yield begin, wanted, mantissas[begin : begin + len(wanted)] >> shift

    @property
    def wanted(self) -> FloatArray:
        """The float weights in levels, flat."""
        parts = [wanted for _, wanted, _ in self.blocks()]
        return np.concatenate(parts) if parts else np.zeros(0)

    @property
    def found(self) -> FloatArray:
        """The program's levels, flat."""
        parts = [found.astype(np.float64) for _, _, found in self.blocks()]
        return np.concatenate(parts) if parts else np.zeros(0)

    @property
    def nearest(self) -> FloatArray:
        """The level nearest to each float weight, flat."""
        wanted = self.wanted
        if self.levels.binary:
            return np.where(wanted < 0, -1.0, 1.0)
        nearest: FloatArray = np.clip(np.rint(wanted), self.levels.low, self.levels.high)
        return nearest

    def summed_errors(self, shape: Shape) -> FloatArray:
        """Return for each neuron the summed magnitudes of its weights' errors, in source units."""
        errors = np.abs(self.wanted - self.found).reshape(self.operator.weight.shape)
        sums = row_sums(with_weight(self.operator, errors)) * self.levels.step
        places = size(shape) // len(sums)
        whole: FloatArray = np.broadcast_to(sums[:, None], (len(sums), places)).reshape(shape)
        return whole


def _rows_gain(operator: Weighted, gain: FloatArray) -> FloatArray | float:
    """Return the gain of every row of the weights: a synapse's, a neuron's, a channel's mean."""
    flat = gain.reshape(-1)
    if (flat == flat[0]).all():
        return float(flat[0])
    if isinstance(operator, Sparse):
        flat = flat[operator.synapses.targets]
    elif isinstance(operator, Conv2d):
        flat = flat.reshape(len(operator.weight), -1).mean(axis=1)
    return flat


def check_weights(
    part: EdgeWeights, *, fitted: bool, claimed_step: float | None
) -> Iterator[Diagnostic]:
    """Yield the first weight that is not the level its rounding allows, and a step misstated."""
    where, connection, levels = f"edge '{part.edge.name}'", part.connection, part.levels
    if claimed_step is not None and not _close(claimed_step, levels.step, connection):
        yield finding(
            "V016",
            where,
            f"its report states a step of {claimed_step:.9g}, exponent and lsb give "
            f"{levels.step:.9g}",
        )
    # Without its data a fit may leave any level: rows are judged as wholes, on them.
    tally = _Tally(levels, reach=math.inf if fitted else _HALF)
    for begin, wanted, found in part.blocks():
        tally.add(begin, wanted, found)
    yield from tally.findings(where, part.operator.weight, connection.operator.weight)


def _close(claimed: float, step: float, connection: Connection) -> bool:
    """Say whether a claimed step is the program's; of zeros alone no step follows."""
    if not connection.operator.weight.any():
        return True
    return abs(claimed - step) <= 1e-9 * abs(step)


def _scaled(
    weights: Array, rows: FloatArray | float, step: float
) -> Iterator[tuple[int, FloatArray]]:
    """Yield weights in steps, flat, some at a time, and where they begin."""
    flat = weights.reshape(-1)
    if isinstance(rows, float):
        for begin in range(0, flat.size, _BLOCK):
            yield begin, flat[begin : begin + _BLOCK].astype(np.float64) * (rows / step)
        return
    width = flat.size // max(1, len(rows))
    each = max(1, _BLOCK // max(1, width))
    for first in range(0, len(rows), each):
        some = rows[first : first + each]
        part = flat[first * width : (first + len(some)) * width].astype(np.float64)
        scaled = part.reshape(len(some), -1) * (some[:, None] / step)
        yield first * width, scaled.reshape(-1)


class _Tally:
    """What is wrong with the weights of an edge, block by block."""

    def __init__(self, levels: Levels, *, reach: float) -> None:
        self.levels, self.reach = levels, reach
        self.count = 0
        self.first: tuple[int, float] | None = None
        self.low = self.high = 0.0

    def add(self, begin: int, wanted: FloatArray, found: Array) -> None:
        """Add weights in steps and the levels that stand for them."""
        low, high = self.levels.low, self.levels.high
        self.low = min(self.low, float(wanted.min()))
        self.high = max(self.high, float(wanted.max()))
        if self.levels.binary:
            wrong = np.abs(found) != 1
            if self.reach == _HALF:
                wrong |= np.where(wanted < 0, found == 1, found == -1) & (wanted != 0)
        else:
            error = wanted - found
            wrong = ~(np.abs(error) <= self.reach)
            if wrong.any():
                # Beyond the outermost level there is none closer.
                wrong &= ~((found == high) & (error > 0)) & ~((found == low) & (error < 0))
            wrong |= (found < low) | (found > high)
        if wrong.any():
            self.count += int(wrong.sum())
            if self.first is None:
                index = int(np.flatnonzero(wrong)[0])
                self.first = (begin + index, float(wanted[index]))

    def findings(self, where: str, weights: Array, mantissas: Array) -> Iterator[Diagnostic]:
        """Yield what was found."""
        if self.first is not None:
            flat, wanted = self.first
            more = "" if self.count == 1 else f"; {self.count} of {weights.size} are wrong"
            yield finding(
                "V020",
                where,
                f"weight{place(weights.shape, flat)} is {weights.reshape(-1)[flat]:.9g}, which is "
                f"{wanted:.6g} steps of {self.levels.step:.6g}; its mantissa is "
                f"{mantissas.reshape(-1)[flat]}{more}",
            )
        outermost = max(self.high / max(self.levels.high, 1), self.low / min(self.levels.low, -1))
        if outermost > _MOST_CLIPPED:
            yield finding(
                "V022",
                where,
                f"its largest weight is {outermost:.3g} times the outermost level: no scale clips "
                "so much",
            )
