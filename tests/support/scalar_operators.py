"""The linear operators as naive loops: which source element counts how much at each target."""

from __future__ import annotations

from typing import Any

from spikec.compiler.operators import Conv2d, Operator

__all__ = ["Taps", "flat", "taps"]

#: For each target element, pairs of (source element, weight), all flat in C order.
Taps = list[list[tuple[int, Any]]]


def taps(operator: Operator, source: tuple[int, ...]) -> Taps:
    """Return the non-zero taps of ``operator`` on a source of the given shape."""
    weight = operator.weight.tolist()
    if not isinstance(operator, Conv2d):
        return [[(place, value) for place, value in enumerate(row) if value] for row in weight]
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
