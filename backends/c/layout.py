"""How the native engine lays out neurons, rows of weights and kernels.

A population that a convolution feeds is kept with its channels innermost, so that a
spike adds one contiguous piece of a kernel to each row of the output. Other
populations are in the program's order. Layouts never show in traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikec.backends.c.plan import Cell, Link
from spikec.compiler.arrays import Array, aligned
from spikec.compiler.operators import Conv2d
from spikec.compiler.pages import pieces

__all__ = [
    "BLOCK", "LANES", "Kernel", "byte_blocks", "byte_rows", "conv_order", "in_order", "kernel",
    "order_of", "padded", "places_in",
]  # fmt: skip

#: Neurons whose sums are held in registers together, and the step that rows are padded to.
BLOCK, STEP = 256, 64
#: Sums that a convolution adds at once.
LANES = 32


def padded(count: int) -> int:
    """Return ``count`` rounded up to whole groups of 64."""
    return -(-count // STEP) * STEP


def conv_order(link: Link) -> Array:
    """Return which element of a convolution's output stands at each place, channels innermost."""
    operator = link.operator
    assert isinstance(operator, Conv2d)
    out, rows, columns = operator.output_shape(link.source.shape)
    number = np.arange(out * rows * columns)
    by_group = number.reshape(operator.groups, out // operator.groups, rows * columns)
    order: Array = by_group.transpose(0, 2, 1).reshape(-1)
    return order


def places_in(layout: Array | None, order: Array) -> Array | None:
    """Return where each element of ``order`` stands in ``layout``; None where both are the same."""
    whole = np.arange(len(order)) if layout is None else layout
    if (order == whole).all():
        return None
    inverse = np.empty(len(whole), np.int32)
    inverse[whole] = np.arange(len(whole), dtype=np.int32)
    places: Array = inverse[order]
    return places


def order_of(cell: Cell) -> Array | None:
    """Return which neuron stands at each place, or None where that is the program's order."""
    for link in cell.links:
        if isinstance(link.operator, Conv2d):
            order = conv_order(link)
            return None if (order == np.arange(len(order))).all() else order
    return None


def byte_rows(link: Link, order: Array | None, before: Array | None) -> tuple[Array, int]:
    """Return a dense connection as rows of bytes, block after block, and what was added.

    Neurons come in the order of ``order``, their sources in that of ``before``. Within 64 neurons
    byte 2k belongs to neuron k and byte 2k + 1 to neuron 32 + k.
    """
    weight = link.operator.weight
    post, pre = weight.shape
    offset = -link.span[0]
    rows = aligned((padded(post) * pre,), np.uint8, blank=False)
    for start in range(0, padded(post), BLOCK):
        end = min(start + BLOCK, padded(post))
        which = slice(start, end) if order is None else order[start:end]
        place = rows[start * pre : end * pre].reshape(pre, -1, STEP // 2, 2)
        for some, part in pieces(weight, which, before):
            block = np.full((end - start, part.shape[1]), offset, np.uint8)
            block[: len(part)] = (part >> link.spare) + offset
            place[some] = block.reshape(-1, 2, STEP // 2, part.shape[1]).transpose(3, 0, 2, 1)
    return rows, offset


def in_order(values: Array, order: Array | None, before: Array | None) -> Array:
    """Return a matrix, or a row or a column for one, in the order of targets and of sources."""
    if order is not None and values.shape[0] > 1:
        values = values[order]
    return values if before is None or values.shape[1] == 1 else values[:, before]


def byte_blocks(values: Array) -> Array:
    """Return bytes ``[target, source]`` as :func:`byte_rows` lays out weights."""
    post, pre = values.shape
    whole = np.zeros((padded(post), pre), np.uint8)
    whole[:post] = values
    blocks = [
        whole[start : start + BLOCK].reshape(-1, 2, STEP // 2, pre).transpose(3, 0, 2, 1)
        for start in range(0, len(whole), BLOCK)
    ]
    return np.concatenate([block.reshape(-1) for block in blocks])


@dataclass(frozen=True, eq=False, kw_only=True)
class Kernel:
    """A convolution as runs: for each place of the source, what to add where.

    ``places[source] = (group, channel, y, x)`` as offsets, ``rows[y]`` and ``runs[x]`` are
    pairs. A row is (offset of the output's row, offset of the kernel's row); a run is (offset
    in the output's row, offset in the kernel's row), of ``blocks`` blocks of 32. There are as many
    for each place, some of them of zeros: a processor that had to guess how many would lose more.
    """

    weights: Array
    places: Array
    rows: Array
    runs: Array
    blocks: int


def kernel(link: Link, order: Array | None) -> Kernel:
    """Lay out a convolution; ``order`` is that of its source."""
    operator = link.operator
    assert isinstance(operator, Conv2d)
    out, per_group, height, _ = operator.weight.shape
    channels, rows, columns = link.source.shape
    _, high, wide = operator.output_shape(link.source.shape)
    each = out // operator.groups
    pieces, runs = _runs(operator, columns, wide)
    grouped = link.weights.reshape(operator.groups, each, per_group, height, -1)
    by_channel = grouped.transpose(0, 2, 3, 4, 1).reshape(channels, height, -1, each)
    blocks = -(-max((len(taps) for taps in pieces), default=0) * each // LANES)
    length = blocks * LANES
    # A row and a piece of zeros stand behind the others.
    at = (len(pieces) + 1) * length
    weights = np.zeros((channels, height + 1, at), link.weights.dtype)
    for piece, taps in enumerate(pieces):
        begin = piece * length
        weights[:, :height, begin : begin + len(taps) * each] = by_channel[
            :, :, list(taps)
        ].reshape(channels, height, -1)
    pairs = [[(start * each, which * length) for start, which in some] for some in runs]
    down = [
        [(target * wide * each, tap * at) for target, tap in some]
        for some in _rows(operator, rows, high)
    ]
    number = np.arange(link.source.size) if order is None else order
    channel, rest = number // (rows * columns), number % (rows * columns)
    places = np.stack(
        [channel // per_group * (each * high * wide), channel * ((height + 1) * at),
         rest // columns, rest % columns],
        axis=1,
    )  # fmt: skip
    return Kernel(
        weights=weights,
        places=places.astype(np.int32),
        rows=_table(down, (0, height * at)),
        runs=_table(pairs, (0, len(pieces) * length)),
        blocks=blocks,
    )


def _table(lists: Sequence[Sequence[tuple[int, int]]], nothing: tuple[int, int]) -> Array:
    """Return lists of pairs as an array, those that are shorter filled up with ``nothing``."""
    most = max(map(len, lists), default=0)
    filled = [[*pairs, *[nothing] * (most - len(pairs))] for pairs in lists]
    return np.array(filled, np.int32).reshape(len(lists), most, 2)


def _taps(
    position: int, count: int, taps: int, stride: int, dilation: int
) -> list[tuple[int, int]]:
    """Return (output, tap) for a padded input position, by rising output."""
    found = []
    for tap in range(taps):
        target, left = divmod(position - tap * dilation, stride)
        if not left and 0 <= target < count:
            found.append((target, tap))
    return sorted(found)


def _rows(operator: Conv2d, rows: int, high: int) -> list[list[tuple[int, int]]]:
    """Return (output, tap) for each row of the source."""
    return [
        _taps(
            y + operator.padding[0], high, operator.weight.shape[2], operator.stride[0],
            operator.dilation[0],
        )
        for y in range(rows)
    ]  # fmt: skip


def _runs(
    operator: Conv2d, columns: int, wide: int
) -> tuple[Sequence[tuple[int, ...]], list[list[tuple[int, int]]]]:
    """Return the distinct sequences of taps, and (first output, sequence) for each column."""
    pieces: dict[tuple[int, ...], int] = {}
    runs: list[list[tuple[int, int]]] = []
    for x in range(columns):
        taps = _taps(
            x + operator.padding[1], wide, operator.weight.shape[3], operator.stride[1],
            operator.dilation[1],
        )  # fmt: skip
        found, begin = [], 0
        for end in range(1, len(taps) + 1):
            if end < len(taps) and taps[end][0] == taps[end - 1][0] + 1:
                continue
            piece = tuple(tap for _, tap in taps[begin:end])
            found.append((taps[begin][0], pieces.setdefault(piece, len(pieces))))
            begin = end
        runs.append(found)
    return list(pieces), runs
