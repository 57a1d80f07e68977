"""Programs of many delays: each connection apart into some of one delay each."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.operators import with_weight
from spikec.compiler.program import Connection, Program

__all__ = ["Drawn", "apart", "delayed"]

Drawn = Literal["source", "target", "synapse", "several"]


def delayed(program: Program, rng: np.random.Generator, kind: Drawn, most: int) -> Program:
    """Return ``program`` with delays of 1 to ``most`` drawn for its sources, targets or synapses.

    ``several`` has two of each, so that no single store can hold them.
    """
    parts: list[Connection] = []
    for item in program.connections:
        shape = item.operator.weight.shape
        if kind == "source" and len(shape) == 2:
            form = (1, shape[1])
        elif kind == "target" and len(shape) > 1:
            form = (shape[0], *(1,) * (len(shape) - 1))
        else:
            form = shape
        delays = rng.choice(rng.integers(1, most + 1, rng.integers(1, 7)), form)
        parts += apart(item, delays)
        if kind == "several":
            again = rng.integers(1, most + 1, shape)
            parts += [replace(one, name=f"{one.name} again") for one in apart(item, again)]
    order = rng.permutation(len(parts))
    return replace(program, connections=tuple(parts[k] for k in order))


def apart(connection: Connection, delays: Array) -> list[Connection]:
    """Return the connections, one for each delay, that ``connection`` with ``delays`` is."""
    weight = connection.operator.weight
    return [
        replace(
            connection,
            name=f"{connection.name}.delay{value}",
            operator=with_weight(connection.operator, np.where(delays == value, weight, 0)),
            delay=int(value),
        )
        for value in np.unique(delays)
    ]
