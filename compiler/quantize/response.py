r"""What a population's weights do to its voltage: quadratic forms over filtered input traces.

Without resets the voltage is ``v[n] = sum_j w_j k_j[n] + bias * b[n]``, where ``k_j`` is what
input j sends, filtered by the current's and the voltage's leak, and ``b`` the response to a
bias of 1. Weights that are off by ``d`` move it by ``d . k``; the mean square of that is
``d^T H d`` with ``H = mean(k k^T)``, the same matrix for all neurons that share inputs. A bias
can undo part of it: what is left is the Schur complement ``H - h h^T / mean(b b)``, and
``-(h . d) / mean(b b)`` the bias that does it (h is ``mean(k b)``).

An error matters where a voltage is near its threshold. For each neuron, every input counts by
how strong its trace is then, relative to always, and the bias is the one for those steps. One
matrix for each neuron gives little more, and takes as many times the work.

Traces are rounded to 12 bits, so that every sum of products is an exact integer in
float64: the order in which a BLAS adds cannot change a program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, held_back, size
from spikec.compiler.batches import in_batches
from spikec.compiler.ir import LI, LIF, Edge
from spikec.compiler.operators import Conv2d, Dense, Weighted
from spikec.compiler.quantize.decay import alpha_of, beta_of
from spikec.compiler.quantize.observe import Observed

__all__ = ["Block", "responses"]

#: Traces count in 2**-11 of their largest magnitude.
_TRACE_BITS = 11
#: Multiplications that one matrix may take; of longer data every k-th step is taken.
_MOST_WORK = 4e10
#: Values of a batch of traces.
_BATCH_VALUES = 4_000_000
#: What inputs would do that calibration data happen not to show: this many times the mean
#: diagonal is added. Measured on the zoo: 0.01 fits the data four times better than rounding to
#: the nearest, and changes as many spikes of other data; from 0.5 to 2 half as many.
DAMPING = 1.0
#: What steps far from the threshold count, beside those near it.
_FAR = 0.1
#: How strongly an input counts for one neuron: a multiple of 1/16, within these bounds.
_IMPORTANCE, _LEAST_IMPORTANCE, _MOST_IMPORTANCE = 16, 0.25, 4.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Block:
    """Rows of weights that see the same inputs: edges side by side, and their matrix.

    ``rows`` are those of every edge's ``[out, ...]`` weight; ``columns[i]`` are edge i's own in
    ``matrix``. ``importance[row, column]`` multiplies errors of weights before the matrix does.
    ``bias[row]`` times a change of that row's weights is what its bias must take back.
    """

    edges: tuple[int, ...]
    rows: slice
    columns: tuple[slice, ...]
    matrix: FloatArray
    importance: FloatArray
    bias: FloatArray


def responses(
    node: LIF | LI,
    edges: Sequence[Edge],
    operators: Sequence[Weighted],
    du: Array,
    dv: Array,
    observed: Observed,
    damping: float = DAMPING,
) -> list[Block]:
    """Return the blocks that make up all weights into ``node``, from what was ``observed``.

    Decays that differ between neurons are stood for by their median.
    """
    alpha, beta = (float(np.median(kept)) for kept in (alpha_of(du), beta_of(dv)))
    traces = [_Traces(edge, node.start, alpha, beta, observed) for edge in edges]
    near = observed.near.get(node.name)
    blocks: list[Block] = []
    for members in _together(operators):
        operator = operators[members[0]]
        groups = _groups(operator)
        count = len(operator.weight) // groups
        for group in range(groups):
            found = _moments(
                [traces[index] for index in members], [operators[index] for index in members],
                group, beta, near,
            )  # fmt: skip
            widths = [size(operators[index].weight.shape[1:]) for index in members]
            ends = np.cumsum(widths)
            columns = tuple(
                slice(int(end) - width, int(end)) for end, width in zip(ends, widths, strict=True)
            )
            blocks.append(
                Block(
                    edges=tuple(members),
                    rows=slice(group * count, (group + 1) * count),
                    columns=columns,
                    matrix=_damped(found.left, columns, damping),
                    importance=found.importance,
                    bias=found.bias,
                )
            )
    return blocks


def _together(operators: Sequence[Weighted]) -> list[list[int]]:
    """Group the edges whose rows are the same neurons: dense ones, and plain convolutions."""
    dense = [i for i, item in enumerate(operators) if isinstance(item, Dense)]
    plain = [i for i, item in enumerate(operators) if isinstance(item, Conv2d) and item.groups == 1]
    rest = [[i] for i in range(len(operators)) if i not in dense and i not in plain]
    return [members for members in (dense, plain, *rest) if members]


def _damped(matrix: FloatArray, columns: Sequence[slice], damping: float) -> FloatArray:
    """Return the matrix with a share of each edge's mean diagonal added to it."""
    added = np.zeros(len(matrix))
    for part in columns:
        added[part] = damping * float(np.diagonal(matrix)[part].mean())
    if not matrix.any():
        added[:] = 1.0  # nothing was sent: all that is known is the weights' own error
    damped: FloatArray = matrix + np.diag(np.maximum(added, added.max() * 2.0**-30))
    return damped


class _Traces:
    """What one edge brings, filtered, in batches of samples."""

    def __init__(
        self, edge: Edge, start: int, alpha: float, beta: float, observed: Observed
    ) -> None:
        self.sent = observed.sent[edge.source]
        self.delay, self.start = edge.delay, start
        self.alpha, self.beta = alpha, beta
        each = max(1, _BATCH_VALUES // max(1, size(self.sent.shape[1:])))
        self.batches = list(in_batches(len(self.sent), each))
        largest = max(float(np.abs(self._filtered(part)).max()) for part in self.batches)
        self.shift = _TRACE_BITS - math.frexp(largest)[1] if largest else 0

    def integers(self, part: slice) -> FloatArray:
        """Return ``[sample, step, *source]``, rounded to whole numbers of ``2**-shift``."""
        rounded: FloatArray = np.rint(np.ldexp(self._filtered(part), self.shift))
        return rounded

    def _filtered(self, part: slice) -> FloatArray:
        values = self.sent[part].astype(np.float64)
        arriving = np.array(held_back(values, self.delay))
        arriving[:, : self.start] = 0.0
        current = voltage = np.zeros_like(values[:, 0])
        for step in range(values.shape[1]):
            current = self.alpha * current + arriving[:, step]
            voltage = self.beta * voltage + current
            arriving[:, step] = voltage
        return arriving


@dataclass(frozen=True, eq=False, kw_only=True)
class _Moments:
    """Sums over samples, steps and places: of ``k k^T``, ``k b`` and ``b b``, and their number.

    Those with ``near`` are over the steps near the threshold, one row for each of the weights'.
    """

    square: FloatArray
    linear: FloatArray
    own: float
    near_square: FloatArray
    near_linear: FloatArray
    near_own: FloatArray

    @property
    def left(self) -> FloatArray:
        """``mean(k k^T)`` less what a bias undoes."""
        matrix: FloatArray = self.square - np.outer(self.linear, self.linear) / self.own
        return matrix

    @property
    def importance(self) -> FloatArray:
        """How strong each trace is near the threshold, relative to the others: about 1."""
        always = np.diagonal(self.square)
        power = np.where(always > 0, self.near_square / np.where(always > 0, always, 1.0), 1.0)
        mean = power.mean(axis=1, keepdims=True)
        relative = np.sqrt(power / np.where(mean > 0, mean, 1.0)) * _IMPORTANCE
        kept: FloatArray = np.rint(relative) / _IMPORTANCE
        return np.clip(kept, _LEAST_IMPORTANCE, _MOST_IMPORTANCE)

    @property
    def bias(self) -> FloatArray:
        """``mean(k b) / mean(b b)`` near the threshold."""
        factor: FloatArray = self.near_linear / self.near_own[:, None]
        return factor


def _moments(
    traces: Sequence[_Traces],
    operators: Sequence[Weighted],
    group: int,
    beta: float,
    near: Array | None,
) -> _Moments:
    """Return the means over samples, steps and places; ``near`` says which steps count most."""
    first = traces[0]
    steps = first.sent.shape[1]
    count = len(operators[0].weight) // _groups(operators[0])
    widths = [size(operator.weight.shape[1:]) for operator in operators]
    places = size(operators[0].output_shape(first.sent.shape[2:])) // len(operators[0].weight)
    sums = _Sums(sum(widths), count)
    work = len(first.sent) * (steps - first.start) * places * float(sums.width) ** 2
    taken = slice(first.start, None, max(1, math.ceil(work / _MOST_WORK)))
    bias, shift = _bias_trace(steps, first.start, beta)
    each = max(sums.width, count) * places * len(range(*taken.indices(steps)))
    batch = min(max(1, _BATCH_VALUES // max(1, each)), *(t.batches[0].stop for t in traces))
    for part in in_batches(len(first.sent), batch):
        rows = np.concatenate(
            [
                _rows(operator, trace.integers(part)[:, taken], group)
                for operator, trace in zip(operators, traces, strict=True)
            ],
            axis=1,
        )
        pattern = np.repeat(np.tile(bias[taken], part.stop - part.start), places)
        mine = slice(group * count, (group + 1) * count)
        sums.add(rows, pattern, None if near is None else _by_row(near[part, taken], places, mine))
    shifts = np.repeat([trace.shift for trace in traces], widths)
    return sums.moments(shifts, shift)


class _Sums:
    """Sums of integers over steps, exact whatever the order."""

    def __init__(self, width: int, rows: int) -> None:
        self.width, self.count = width, 0
        self.square, self.linear, self.own = np.zeros((width, width)), np.zeros(width), 0.0
        self.near_square, self.near_linear = np.zeros((rows, width)), np.zeros((rows, width))
        self.near_own, self.near_count = np.zeros(rows), np.zeros(rows)

    def add(self, traces: FloatArray, bias: FloatArray, near: FloatArray | None) -> None:
        """Add ``traces[step, column]``, the bias's, and ``near[row, step]`` of ones and zeros."""
        self.square += traces.T @ traces
        self.linear += bias @ traces
        self.own += float(bias @ bias)
        self.count += len(traces)
        if near is not None:
            self.near_square += near @ (traces * traces)
            self.near_linear += near @ (traces * bias[:, None])
            self.near_own += near @ (bias * bias)
            self.near_count += near.sum(axis=1)

    def moments(self, shifts: Array, bias_shift: int) -> _Moments:
        """Return means in units of the traces, which count in ``2**-shift``."""
        count = max(self.count, 1)
        square = np.ldexp(self.square, -shifts[:, None] - shifts) / count
        linear = np.ldexp(self.linear, -shifts - bias_shift) / count
        least = np.finfo(np.float64).tiny
        own = max(math.ldexp(self.own, -2 * bias_shift) / count, least)
        return _Moments(
            square=square,
            linear=linear,
            own=own,
            near_square=self._mixed(np.ldexp(self.near_square, -2 * shifts), np.diagonal(square)),
            near_linear=self._mixed(np.ldexp(self.near_linear, -shifts - bias_shift), linear),
            near_own=self._mixed(np.ldexp(self.near_own, -2 * bias_shift)[:, None], own)[:, 0],
        )

    def _mixed(self, near: FloatArray, always: FloatArray | float) -> FloatArray:
        """Return means of each row near its threshold, those of all steps mixed in."""
        seen = self.near_count[:, None] > 0
        mean = near / np.maximum(self.near_count, 1)[:, None]
        mixed: FloatArray = np.where(seen, (mean + _FAR * always) / (1 + _FAR), always)
        return mixed


def _groups(operator: Weighted) -> int:
    return operator.groups if isinstance(operator, Conv2d) else 1


def _by_row(near: Array, places: int, rows: slice) -> FloatArray:
    """Return ``[row, sample * step * place]`` of what is ``[sample, step, *shape]``."""
    neurons = size(near.shape[2:])
    flat = near.reshape(near.shape[0] * near.shape[1], neurons // places, places)[:, rows]
    rows_first: FloatArray = flat.transpose(1, 0, 2).reshape(flat.shape[1], -1).astype(np.float64)
    return rows_first


def _bias_trace(steps: int, start: int, beta: float) -> tuple[FloatArray, int]:
    """Return the voltage that a bias of 1 causes, in integers, and their shift."""
    trace, voltage = np.zeros(steps), 0.0
    for step in range(start, steps):
        voltage = beta * voltage + 1.0
        trace[step] = voltage
    shift = _TRACE_BITS - math.frexp(float(trace.max()))[1]
    return np.rint(np.ldexp(trace, shift)), shift


def _rows(operator: Weighted, values: FloatArray, group: int) -> FloatArray:
    """Return one row per sample, step and place: what a row of the weights is multiplied with."""
    if isinstance(operator, Dense):
        return values.reshape(values.shape[0] * values.shape[1], size(values.shape[2:]))
    assert isinstance(operator, Conv2d), "single synapses are rounded to the nearest"
    return _patches(operator, values.reshape(-1, *values.shape[2:]), group)


def _patches(operator: Conv2d, pictures: FloatArray, group: int) -> FloatArray:
    channels = operator.weight.shape[1]
    mine = pictures[:, group * channels : (group + 1) * channels]
    padded = np.pad(mine, [(0, 0), (0, 0), *((pad, pad) for pad in operator.padding)])
    kernel = operator.weight.shape[2:]
    extent = [
        dilation * (taps - 1) + 1 for dilation, taps in zip(operator.dilation, kernel, strict=True)
    ]
    windows = np.lib.stride_tricks.sliding_window_view(padded, extent, axis=(2, 3))
    (rows, columns), (down, right) = operator.stride, operator.dilation
    picked = windows[:, :, ::rows, ::columns, ::down, ::right]
    flat: FloatArray = picked.transpose(0, 2, 3, 1, 4, 5).reshape(
        -1, size(operator.weight.shape[1:])
    )
    return flat
