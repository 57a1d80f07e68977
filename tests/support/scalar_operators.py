"""The linear operators as naive loops: which source element counts how much at each target."""

from __future__ import annotations

import itertools
import math
from typing import Any

from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Operator,
    Permute,
    Reshape,
    Scale,
    Sparse,
    Stage,
)

__all__ = ["Taps", "flat", "taps"]

#: For each target element, pairs of (source element, weight), all flat in C order.
Shape = tuple[int, ...]
Taps = list[list[tuple[int, Any]]]


def taps(operator: Operator | Stage, source: Shape) -> Taps:
    """Return the non-zero taps of ``operator`` on a source of the given shape."""
    match operator:
        case Dense():
            return [
                [(place, value) for place, value in enumerate(row) if value]
                for row in operator.weight.tolist()
            ]
        case Sparse():
            return _sparse_taps(operator)
        case Conv2d():
            return _conv_taps(operator, source)
        case Scale():
            return _scale_taps(operator, source)
        case Permute():
            return _permute_taps(operator, source)
        case Reshape():
            return [[(place, 1)] for place in range(math.prod(source))]
        case Chain():
            return _chain_taps(operator, source)


def _chain_taps(chain: Chain, source: Shape) -> Taps:
    total: Taps = [[(place, 1)] for place in range(math.prod(source))]
    for stage in chain.stages:
        rows = taps(stage, source)
        source = stage.output_shape(source)
        total = [
            [(first, inner * outer) for place, outer in row for first, inner in total[place]]
            for row in rows
        ]
    return total


def _sparse_taps(sparse: Sparse) -> Taps:
    synapses = sparse.synapses
    rows: Taps = [[] for _ in range(synapses.outputs)]
    pointers, targets = synapses.pointers.tolist(), synapses.targets.tolist()
    weights = sparse.weight.tolist()
    for source, begin in enumerate(pointers[:-1]):
        for synapse in range(begin, pointers[source + 1]):
            if weights[synapse]:
                rows[targets[synapse]].append((source, weights[synapse]))
    return rows


def _scale_taps(scale: Scale, source: Shape) -> Taps:
    weight = scale.weight
    padded = (1,) * (len(source) - weight.ndim) + weight.shape
    factors = flat(weight)
    rows: Taps = []
    for place, index in enumerate(itertools.product(*map(range, source))):
        among = 0
        for extent, coordinate in zip(padded, index, strict=True):
            among = among * extent + (coordinate if extent > 1 else 0)
        rows.append([(place, factors[among])])
    return rows


def _permute_taps(permute: Permute, source: Shape) -> Taps:
    rows: Taps = []
    for index in itertools.product(*(range(source[axis]) for axis in permute.axes)):
        there = dict(zip(permute.axes, index, strict=True))
        place = 0
        for axis, extent in enumerate(source):
            place = place * extent + there[axis]
        rows.append([(place, 1)])
    return rows


def _conv_taps(operator: Conv2d, source: Shape) -> Taps:
    weight = operator.weight.tolist()
    channels, height, width = source
    (step_y, step_x), (pad_y, pad_x), (dil_y, dil_x) = (
        operator.stride,
        operator.padding,
        operator.dilation,
    )
    taps_y, taps_x = len(weight[0][0]), len(weight[0][0][0])
    rows = (height + 2 * pad_y - (dil_y * (taps_y - 1) + 1)) // step_y + 1
    columns = (width + 2 * pad_x - (dil_x * (taps_x - 1) + 1)) // step_x + 1
    in_group, out_group = channels // operator.groups, len(weight) // operator.groups
    result: Taps = []
    for out, kernel in enumerate(weight):
        first = (out // out_group) * in_group
        for row in range(rows):
            for column in range(columns):
                found = []
                for channel in range(in_group):
                    for ky in range(taps_y):
                        for kx in range(taps_x):
                            y = row * step_y + ky * dil_y - pad_y
                            x = column * step_x + kx * dil_x - pad_x
                            value = kernel[channel][ky][kx]
                            if value and 0 <= y < height and 0 <= x < width:
                                place = ((first + channel) * height + y) * width + x
                                found.append((place, value))
                result.append(found)
    return result


def flat(values: Any) -> list[Any]:
    """Return the numbers in nested lists, or in an array, as one list."""
    values = values.tolist() if hasattr(values, "tolist") else values
    if not isinstance(values, list):
        return [values]
    return [number for item in values for number in flat(item)]
