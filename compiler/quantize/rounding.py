"""Weights to levels against data: rounding, then coordinate descent on a quadratic loss.

Starting from the nearest levels, one weight after the other takes the level that
is best given all others, until none changes: the loss never rises. All rows of a
block move side by side, in blocks of columns, and all sums are of integers that
float64 holds exactly, so that the result depends on no order of summation.

The scale is searched over a range of clips with the same loss (never with spikes:
that rewards silence), against the best scale found without data as one candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, sealed
from spikec.compiler.quantize.response import Block
from spikec.compiler.quantize.weights import Grid

__all__ = ["Fit", "fitted"]

#: Errors of weights count in 2**-10 of a level, matrices in 2**-20 of their largest value; of
#: what remains, levels take 9 bits and importances 6.
_ERROR_BITS, _MATRIX_BITS, _EXACT_BITS, _TAKEN_BITS = 10, 20, 52, 15
_MOST_SWEEPS = 30
_COLUMNS = 64
#: Candidate scales in each octave,
_PER_OCTAVE = 8
#: What the search for a scale looks at: rows of a block, blocks of an edge, sweeps.
_SEARCH_ROWS, _SEARCH_BLOCKS, _SEARCH_SWEEPS = 32, 8, 2
#: The best scales of the search are tried in full.
_FINALISTS = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Fit:
    """Levels of every edge at ``unit * 2**power``; losses are shares of the response's square.

    ``bias`` is what each row's bias should change by, for the rows of each block.
    """

    unit: float
    powers: tuple[int, ...]
    levels: tuple[Array, ...]
    bias: tuple[FloatArray, ...]
    loss: float
    nearest_loss: float


def fitted(
    grids: Sequence[Grid],
    blocks: Sequence[Block],
    unit: float,
    powers: tuple[int, ...],
    *,
    search: bool = True,
) -> Fit:
    """Return levels whose loss is not above that of rounding to the nearest at ``unit``.

    Without ``search`` that scale stays.
    """
    nearest = _levels(grids, unit, powers)
    signal = sum(_loss(grids, block, 1.0, (0,) * len(grids), None) for block in blocks)
    before = sum(_loss(grids, block, unit, powers, nearest) for block in blocks)
    candidates = [(unit, powers)]
    if search:
        candidates += [item for item in _searched(grids, blocks, unit) if item != candidates[0]]
    tried = [(*item, *_descended(grids, blocks, *item)) for item in candidates]
    unit, powers, levels, loss = min(tried, key=lambda item: item[3])
    scale = signal or 1.0
    return Fit(
        unit=unit,
        powers=powers,
        levels=tuple(sealed(found.astype(np.int16)) for found in levels),
        bias=tuple(_bias(grids, block, unit, powers, levels) for block in blocks),
        loss=loss / scale,
        nearest_loss=before / scale,
    )


def _levels(grids: Sequence[Grid], unit: float, powers: Sequence[int]) -> tuple[FloatArray, ...]:
    return tuple(
        grid.levels(math.ldexp(unit, power), grid.values())
        for grid, power in zip(grids, powers, strict=True)
    )


def _searched(
    grids: Sequence[Grid], blocks: Sequence[Block], known: float
) -> list[tuple[float, tuple[int, ...]]]:
    """Return the best scales by a short descent on some rows, each edge on its own."""
    units = sorted({2.0 ** (index / _PER_OCTAVE) for index in range(_PER_OCTAVE)} | {known})
    ranked = []
    for place, unit in enumerate(units):
        best = [_best_power(grids, blocks, index, unit) for index in range(len(grids))]
        total = sum(loss for loss, _ in best)
        ranked.append((total, place, unit, tuple(power for _, power in best)))
    return [(unit, powers) for _, _, unit, powers in sorted(ranked)[:_FINALISTS]]


def _best_power(
    grids: Sequence[Grid], blocks: Sequence[Block], index: int, unit: float
) -> tuple[float, int]:
    grid = grids[index]
    if grid.widest_step == 0:
        return 0.0, 0
    mine = [block for block in blocks if index in block.edges]
    mine = mine[:: max(1, len(mine) // _SEARCH_BLOCKS)]
    top = math.ceil(math.log2(grid.widest_step / unit) - 1e-12)
    losses = []
    for power in range(top - _octaves(grid.bits), top + 1):
        total = 0.0
        for block in mine:
            part = block.columns[block.edges.index(index)]
            rows = grid.values(block.rows).reshape(-1, part.stop - part.start)
            some = slice(None, None, max(1, len(rows) // _SEARCH_ROWS))
            rows = rows[some]
            step = math.ldexp(unit, power)
            problem = _Problem(
                rows.T / step, block.matrix[part, part], block.importance[some, part].T, [grid],
                [slice(0, part.stop - part.start)], np.full(part.stop - part.start, step),
            )  # fmt: skip
            problem.descend(grid.levels(step, rows).T, _SEARCH_SWEEPS)
            total += problem.loss()
        losses.append((total, -power))
    loss, power = min(losses)
    return loss, -power


def _octaves(bits: int) -> int:
    """Return how far below the scale that clips nothing to look: few levels want to clip more."""
    return min(3, max(1, 7 - bits))


def _descended(
    grids: Sequence[Grid], blocks: Sequence[Block], unit: float, powers: tuple[int, ...]
) -> tuple[tuple[FloatArray, ...], float]:
    """Return the levels and the loss after a full descent from the nearest levels."""
    levels = tuple(found.copy() for found in _levels(grids, unit, powers))
    total = 0.0
    for block in blocks:
        problem = _problem(grids, block, unit, powers)
        problem.descend(_gathered(levels, block), _MOST_SWEEPS)
        for index, part in zip(block.edges, block.columns, strict=True):
            rows = levels[index][block.rows]
            rows[...] = problem.levels[part].T.reshape(rows.shape)
        total += problem.loss()
    return levels, total


def _problem(grids: Sequence[Grid], block: Block, unit: float, powers: Sequence[int]) -> _Problem:
    steps = np.concatenate(
        [
            np.full(part.stop - part.start, math.ldexp(unit, powers[index]))
            for index, part in zip(block.edges, block.columns, strict=True)
        ]
    )
    wanted = _gathered([grid.values() for grid in grids], block)
    mine = [grids[index] for index in block.edges]
    return _Problem(
        wanted / steps[:, None], block.matrix, block.importance.T, mine, block.columns, steps
    )


def _loss(
    grids: Sequence[Grid],
    block: Block,
    unit: float,
    powers: Sequence[int],
    levels: Sequence[FloatArray] | None,
) -> float:
    """Return the loss of ``levels``, or the size of the whole response without any."""
    problem = _problem(grids, block, unit, powers)
    start = np.zeros_like(problem.wanted) if levels is None else _gathered(levels, block)
    problem.descend(start, 0)
    return problem.loss()


def _bias(
    grids: Sequence[Grid],
    block: Block,
    unit: float,
    powers: Sequence[int],
    levels: Sequence[FloatArray],
) -> FloatArray:
    """Return the bias of each row that takes back what its weights change on average."""
    error = np.zeros(block.rows.stop - block.rows.start)
    for index, part in zip(block.edges, block.columns, strict=True):
        kept = np.ldexp(unit * levels[index][block.rows], powers[index])
        difference = grids[index].values(block.rows) - kept
        # Summed in NumPy's own order: a BLAS may choose another.
        error += (difference.reshape(len(error), -1) * block.bias[:, part]).sum(axis=1)
    return error


def _gathered(values: Sequence[FloatArray], block: Block) -> FloatArray:
    """Return ``[column, row]``: the weights (or levels) of a block, edges side by side."""
    parts = [values[index][block.rows] for index in block.edges]
    return np.concatenate([part.reshape(len(part), -1).T for part in parts])


class _Problem:
    """``min (x - q)^T D A D (x - q)`` over levels q, for every column x of ``wanted`` at once.

    The diagonal of D is that column of ``importance``.
    """

    def __init__(
        self,
        wanted: FloatArray,
        matrix: FloatArray,
        importance: FloatArray,
        grids: Sequence[Grid],
        columns: Sequence[slice],
        steps: FloatArray,
    ) -> None:
        scaled = matrix * steps[:, None] * steps
        room = _EXACT_BITS - _ERROR_BITS - _TAKEN_BITS - math.ceil(math.log2(max(len(matrix), 2)))
        largest = float(np.diagonal(scaled).max())
        self.shift = min(_MATRIX_BITS, room) - math.frexp(largest)[1]
        self.matrix = np.rint(np.ldexp(scaled, self.shift))
        # Beyond twice the outermost level, more says nothing: the sums stay exact.
        self.wanted = np.ldexp(np.rint(np.ldexp(wanted, _ERROR_BITS)), -_ERROR_BITS)
        self.importance = np.ascontiguousarray(importance)
        self.grids = [
            grid
            for grid, part in zip(grids, columns, strict=True)
            for _ in range(part.stop - part.start)
        ]
        self.levels = np.zeros_like(self.wanted)

    def loss(self) -> float:
        """Return the summed loss of all columns, in the units of the matrix given."""
        error = self.importance * (self.wanted - self.levels)
        return math.ldexp(float((error * (self.matrix @ error)).sum()), -self.shift)

    def descend(self, start: FloatArray, sweeps: int) -> None:
        """Start from ``start`` and improve one weight at a time, ``sweeps`` times over at most."""
        self.levels = np.ascontiguousarray(start)
        slope = self.matrix @ (self.importance * (self.wanted - self.levels))
        for _ in range(sweeps):
            if not self._sweep(slope):
                return

    def _sweep(self, slope: FloatArray) -> bool:
        changed = False
        for first in range(0, len(slope), _COLUMNS):
            part = slice(first, min(first + _COLUMNS, len(slope)))
            moved = self._block(part, slope[part].copy())
            if moved.any():
                slope -= self.matrix[:, part] @ moved
                changed = True
        return changed

    def _block(self, part: slice, slope: FloatArray) -> FloatArray:
        matrix = self.matrix[part, part]
        moved = np.zeros_like(slope)
        for row in range(len(matrix)):
            own = matrix[row, row]
            if own <= 0:
                continue
            index = part.start + row
            importance = self.importance[index]
            wish = self.levels[index] + slope[row] / (own * importance)
            better = self.grids[index].nearest(wish)
            move = importance * (better - self.levels[index])
            if move.any():
                slope -= matrix[row][:, None] * move
                moved[row] = move
                self.levels[index] = better
        return moved
