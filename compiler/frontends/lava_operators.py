"""What a ``.net`` layer does to spikes: an operator with integer weights, in SLAYER's axes.

Shapes are ``(channels, height, width)`` as the file states them. Lava's netx turns
them into (x, y, c) and flips the kernel twice, which is the same cross-correlation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.frontends.lava_schema import LayerRecord, fail
from spikec.compiler.frontends.lava_weights import LARGEST_WEIGHT
from spikec.compiler.operators import Conv2d, Dense, Weighted

__all__ = ["average", "dense", "identity", "spatial"]

#: What a weight of an explicit matrix takes while it is made.
_BYTES_A_WEIGHT = 40


def dense(record: LayerRecord, source: Shape, weight: Array | None, field: str) -> Dense:
    """Return the all-to-all operator; a flat list of weights is read row by row."""
    where = f"{record.where}/{field}"
    weight = _integers(record, weight, field)
    rows = size(_shape(record))
    if weight.ndim == 1:
        if weight.size % rows:
            fail("F073", where, f"{weight.size} weights do not divide over {rows} neurons")
        weight = weight.reshape(rows, -1)
    weight = _without_time(weight, 2)
    if weight.shape != (rows, size(source)):
        fail(
            "F073",
            where,
            f"weights have shape {weight.shape}; {size(source)} inputs and {rows} neurons "
            f"need {(rows, size(source))}",
        )
    return Dense(weight=weight)


def spatial(record: LayerRecord, source: Shape) -> tuple[Weighted, Shape]:
    """Return the operator of a conv, pool, convT or unpool layer and its output shape."""
    if len(source) != 3:
        fail(
            "F073",
            record.where,
            f"a {record.kind} layer needs (channels, height, width), its input has {source}",
            "state three extents in the input layer's shape",
        )
    weight = _without_time(_integers(record, record.weight, "weight"), 4)
    if weight.ndim != 4:
        fail(
            "F073",
            f"{record.where}/weight",
            f"weights have shape {weight.shape}; a {record.kind} layer needs four axes",
        )
    operator, shape = _SPATIAL[record.kind](record, source, weight)
    if shape != _shape(record):
        fail(
            "F073",
            f"{record.where}/shape",
            f"the file says {_shape(record)}; an input of {source} gives {shape}",
        )
    return operator, shape


def average(record: LayerRecord, source: Shape) -> tuple[Dense, int]:
    """Return the sums over consecutive groups of neurons, and the size of a group."""
    groups = size(_shape(record))
    if size(source) % groups:
        fail(
            "F073",
            f"{record.where}/shape",
            f"{size(source)} neurons do not divide into {groups} groups",
        )
    length = size(source) // groups
    _check_matrix(record, groups, size(source))
    return Dense(weight=np.repeat(np.eye(groups, dtype=np.int64), length, axis=1)), length


def identity(record: LayerRecord, shape: Shape) -> Weighted:
    """Return the operator that hands every value to the neuron at its place."""
    if len(shape) == 3:
        return Conv2d(weight=np.ones((shape[0], 1, 1, 1), np.int64), groups=shape[0])
    _check_matrix(record, size(shape), size(shape))
    return Dense(weight=np.eye(size(shape), dtype=np.int64))


def _shape(record: LayerRecord) -> Shape:
    if record.shape is None:
        fail("F070", f"{record.where}/shape", "it is missing")
    return record.shape


def _integers(record: LayerRecord, weight: Array | None, field: str) -> Array:
    where = f"{record.where}/{field}"
    if weight is None or not weight.size:
        fail("F070", where, "it is missing or empty")
    largest = max(abs(int(weight.min())), abs(int(weight.max())))
    if largest > LARGEST_WEIGHT:
        fail("F072", where, f"a weight of magnitude {largest} is beyond {LARGEST_WEIGHT}")
    return weight


def _without_time(weight: Array, axes: int) -> Array:
    """Drop trailing axes of length one: the old SLAYER kept the time axis of its kernels."""
    while weight.ndim > axes and weight.shape[-1] == 1:
        weight = weight[..., 0]
    return weight


def _conv(record: LayerRecord, source: Shape, weight: Array) -> tuple[Weighted, Shape]:
    operator = Conv2d(
        weight=weight,
        stride=record.stride,
        padding=record.padding,
        dilation=record.dilation,
        groups=record.groups,
    )
    return operator, _output_shape(record, operator, source)


def _output_shape(record: LayerRecord, operator: Weighted, source: Shape) -> Shape:
    try:
        return operator.output_shape(source)
    except ValueError as error:
        fail("F073", record.where, str(error))


def _pool(record: LayerRecord, source: Shape, weight: Array) -> tuple[Weighted, Shape]:
    channels, *extents = source
    kernel = _window(record, weight)
    # SLAYER appends (extent mod kernel) rows or columns of zeros, not what is missing to a
    # multiple. Where that is no multiple its windows straddle channels.
    padded = [length + length % taps for length, taps in zip(extents, kernel, strict=True)]
    if padded[0] % kernel[0]:
        fail(
            "F074",
            record.where,
            f"pooling {extents[0]} rows by {kernel[0]} mixes channels in SLAYER",
            "choose a kernel that divides the height",
        )
    shape = (channels, padded[0] // kernel[0], padded[1] // kernel[1])
    if padded == extents:
        taps = np.broadcast_to(weight, (channels, 1, *kernel))
        return Conv2d(weight=taps, stride=kernel, groups=channels), shape
    return _matrix(record, source, shape, _pool_entries(weight[0, 0])), shape


def _window(record: LayerRecord, weight: Array) -> tuple[int, int]:
    """Return the kernel of a pool or unpool layer whose windows neither overlap nor leave gaps."""
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    plain = record.stride == kernel and record.padding == (0, 0) and record.dilation == (1, 1)
    if weight.shape[:2] != (1, 1) or not plain:
        fail(
            "F074",
            record.where,
            f"a {record.kind} layer with kernel {kernel}, stride {record.stride}, padding "
            f"{record.padding} and dilation {record.dilation} mixes channels in SLAYER, which "
            "joins the channel and the height axis",
            "use a stride equal to the kernel, no padding and no dilation",
        )
    return kernel


#: Writes weights into ``[*target, *source]``.
_Fill = Callable[[Array, Shape], None]


def _pool_entries(taps: Array) -> _Fill:
    def fill(matrix: Array, source: Shape) -> None:
        for channel, row, column in np.ndindex(*source):
            y, x = row // taps.shape[0], column // taps.shape[1]
            if x < matrix.shape[2]:  # SLAYER drops a last window that is not full
                tap = taps[row % taps.shape[0], column % taps.shape[1]]
                matrix[channel, y, x, channel, row, column] = tap

    return fill


def _unpool(record: LayerRecord, source: Shape, weight: Array) -> tuple[Weighted, Shape]:
    kernel = _window(record, weight)
    channels, height, width = source
    shape = (channels, height * kernel[0], width * kernel[1])

    def fill(matrix: Array, source: Shape) -> None:
        for channel, row, column in np.ndindex(*source):
            rows = slice(row * kernel[0], (row + 1) * kernel[0])
            columns = slice(column * kernel[1], (column + 1) * kernel[1])
            matrix[channel, rows, columns, channel, row, column] = weight[0, 0]

    return _matrix(record, source, shape, fill), shape


def _transposed(record: LayerRecord, source: Shape, weight: Array) -> tuple[Weighted, Shape]:
    inputs, per_group, *kernel = weight.shape
    if inputs != source[0] or inputs % record.groups:
        fail(
            "F073",
            f"{record.where}/weight",
            f"weights have shape {weight.shape}; {source[0]} channels in {record.groups} "
            "groups do not fit",
        )
    extents = [
        (length - 1) * step - 2 * pad + dilation * (taps - 1) + 1
        for length, step, pad, dilation, taps in zip(
            source[1:], record.stride, record.padding, record.dilation, kernel, strict=True
        )
    ]
    shape = (per_group * record.groups, *extents)
    if min(extents) < 1:
        fail("F073", record.where, f"an input of {source} gives the shape {shape}")

    def fill(matrix: Array, source: Shape) -> None:
        share = inputs // record.groups
        for channel, row, column in np.ndindex(*source):
            first = channel // share * per_group
            for tap in np.ndindex(*kernel):
                y, x = (
                    place * step - pad + dilation * index
                    for place, step, pad, dilation, index in zip(
                        (row, column), record.stride, record.padding, record.dilation, tap,
                        strict=True,
                    )
                )  # fmt: skip
                if 0 <= y < shape[1] and 0 <= x < shape[2]:
                    outputs = slice(first, first + per_group)
                    matrix[outputs, y, x, channel, row, column] = weight[channel, :, tap[0], tap[1]]

    return _matrix(record, source, shape, fill), shape


def _matrix(record: LayerRecord, source: Shape, target: Shape, fill: _Fill) -> Dense:
    _check_matrix(record, size(target), size(source))
    matrix = np.zeros((*target, *source), np.int32)
    fill(matrix, source)
    return Dense(weight=matrix.reshape(size(target), size(source)).astype(np.int64))


def _check_matrix(record: LayerRecord, rows: int, columns: int) -> None:
    most = record.allowed // _BYTES_A_WEIGHT
    if rows * columns > most:
        fail(
            "F074",
            record.where,
            f"a {record.kind} layer of {columns} to {rows} neurons becomes a matrix of "
            f"{rows * columns} weights, and a file of this size may ask for {most}",
            "a program has no operator for it yet; replace the layer by a convolution",
        )


_SPATIAL: dict[str, Callable[[LayerRecord, Shape, Array], tuple[Weighted, Shape]]] = {
    "conv": _conv,
    "pool": _pool,
    "unpool": _unpool,
    "convT": _transposed,
}
