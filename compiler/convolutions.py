"""Which connections are one convolution, whose sums are cut to 24 bits as Lava's Conv cuts them.

What arrives at sigma-delta neurons over a convolution of one step is summed over all its
weights and cut once. Weights that mantissas hold in parts only (of one sign, or their low and
high bits) are parallel connections of the same geometry: they count as one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikec.compiler.operators import Conv2d, Weighted, with_weight
from spikec.compiler.program import Connection, Program
from spikec.compiler.sigma_delta import SigmaDelta

__all__ = ["is_cut", "parts_into", "summed"]


def is_cut(program: Program, connection: Connection) -> bool:
    """Say whether what ``connection`` brings is cut to 24 bits."""
    convolves = isinstance(connection.operator, Conv2d) and connection.delay == 1
    return convolves and isinstance(program.population(connection.target), SigmaDelta)


def parts_into(program: Program, target: str) -> tuple[tuple[Connection, ...], ...]:
    """Return the connections into a population, those that are one convolution together."""
    found: dict[object, list[Connection]] = {}
    for item in program.connections_into(target):
        key: object = item.name
        operator = item.operator
        if is_cut(program, item):
            assert isinstance(operator, Conv2d)
            key = (
                item.source, operator.weight.shape, operator.stride, operator.padding,
                operator.dilation, operator.groups,
            )  # fmt: skip
        found.setdefault(key, []).append(item)
    return tuple(map(tuple, found.values()))


def summed(parts: Sequence[Connection]) -> Weighted:
    """Return the operator that the parts of one connection are, its weights as they count."""
    first, *others = [part.effective for part in parts]
    if not others:
        return first
    return with_weight(first, np.sum([first.weight, *(item.weight for item in others)], axis=0))
