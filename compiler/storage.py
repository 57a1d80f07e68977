"""What a program's weights are where they are kept: each one once, with how late it arrives.

A connection has one delay, so that a layer of many delays is many connections, each with the
weights of its delay and zeros elsewhere. Whoever stores weights (C, Lava, a core's memory) asks
here which of them are one: connections of the same ends and format whose synapses are
different ones. What is said of a store (its layout, the bits of a weight, what has a delay of its
own) is said in :class:`Storage` alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, sealed
from spikec.compiler.operators import Conv2d, Dense, Sparse, Weighted, with_weight
from spikec.compiler.program import Connection, Program, SignMode
from spikec.compiler.resonator import Resonator

__all__ = ["Delayed", "Layout", "Storage", "alone", "storages"]

Layout: TypeAlias = Literal["matrix", "kernel", "synapses"]
#: What has a delay of its own: the whole connection, each source, each target (of a
#: convolution: each channel), or each synapse.
Delayed: TypeAlias = Literal["whole", "source", "target", "synapse"]

#: Delays of one store: the number of each takes a byte.
_MOST_DELAYS = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class Storage:
    """Weights that are kept together: mantissas of one format, ``operator`` holds them all.

    The connections are in the program's order. ``delays`` are their distinct delays, rising (of
    those that have synapses);
    ``which`` (uint8) says for each weight the number of its delay, in a shape that broadcasts
    against the weights, and is None where all have the same. A weight of 0 is no synapse:
    it has a delay of no meaning.
    """

    connections: tuple[Connection, ...]
    operator: Weighted
    delays: tuple[int, ...]
    which: Array | None

    @property
    def name(self) -> str:
        """The name of its first connection."""
        return self.connections[0].name

    @property
    def source(self) -> str:
        """The name of what sends."""
        return self.connections[0].source

    @property
    def target(self) -> str:
        """The name of the population that receives."""
        return self.connections[0].target

    @property
    def weight_exp(self) -> int:
        """The exponent of all mantissas."""
        return self.connections[0].weight_exp

    @property
    def weight_bits(self) -> int:
        """The bits of a stored mantissa."""
        return self.connections[0].num_weight_bits

    @property
    def sign_mode(self) -> SignMode:
        """The sign mode of all mantissas."""
        return self.connections[0].sign_mode

    @property
    def layout(self) -> Layout:
        """How its synapses are told: by their place in a matrix, in a kernel, or one by one."""
        if isinstance(self.operator, Sparse):
            return "synapses"
        return "matrix" if isinstance(self.operator, Dense) else "kernel"

    @property
    def delayed(self) -> Delayed:
        """What has a delay of its own."""
        if self.which is None:
            return "whole"
        if self.which.shape == self.operator.weight.shape:
            return "synapse"
        return "source" if self.which.shape[0] == 1 else "target"

    @property
    def longest(self) -> int:
        """The longest delay, in steps."""
        return self.delays[-1]

    @cached_property
    def delay_of(self) -> Array:
        """The delay of each weight, int64, in the shape of the weights."""
        steps = np.array(self.delays, np.int64)
        which = np.zeros(1, np.uint8) if self.which is None else self.which
        return np.broadcast_to(steps[which], self.operator.weight.shape)


def storages(program: Program) -> tuple[Storage, ...]:
    """Return the stores of a program's weights, by their first connections."""
    alike: dict[object, list[Connection]] = {}
    resonators = [item for item in program.populations if isinstance(item, Resonator)]
    imaginary = {name for item in resonators for name in item.imaginary}
    for item in program.connections:
        alike.setdefault((item.name in imaginary, *_format(item)), []).append(item)
    place = {item.name: number for number, item in enumerate(program.connections)}
    stored = [
        _stored(group)
        for some in alike.values()
        for group in (_apart(some) if len(some) > 1 else [some])
    ]
    return tuple(sorted(stored, key=lambda item: place[item.name]))


def _format(item: Connection) -> tuple[object, ...]:
    """Return what connections have in common that can be kept together."""
    operator = item.operator
    form: tuple[object, ...] = (type(operator).__name__, operator.weight.shape)
    if isinstance(operator, Conv2d):
        form += (operator.stride, operator.padding, operator.dilation, operator.groups)
    if isinstance(operator, Sparse):
        form += (id(operator.synapses),)
    ends = (item.source, item.target)
    return (*ends, item.weight_exp, item.num_weight_bits, item.sign_mode, *form)


def _apart(connections: list[Connection]) -> Iterator[list[Connection]]:
    """Yield groups of connections no two of which have a synapse in the same place."""
    groups: list[tuple[list[Connection], Array]] = []
    for item in connections:
        there = item.operator.weight != 0
        for members, taken in groups:
            if len(members) < _MOST_DELAYS and not (there & taken).any():
                members.append(item)
                np.logical_or(taken, there, out=taken)
                break
        else:
            groups.append(([item], there))
    for members, _ in groups:
        yield members


def alone(connection: Connection) -> Storage:
    """Return the store of one connection by itself."""
    return Storage(
        connections=(connection,),
        operator=connection.operator,
        delays=(connection.delay,),
        which=None,
    )


def _stored(members: list[Connection]) -> Storage:
    first = members[0]
    if len(members) == 1:
        return alone(first)
    with_synapses = [item for item in members if item.operator.weight.any()]
    delays = sorted({item.delay for item in with_synapses or [first]})
    weight = np.zeros_like(first.operator.weight)
    which = np.zeros(weight.shape, np.uint8)
    for item in with_synapses:
        there = item.operator.weight != 0
        weight[there] = item.operator.weight[there]
        which[there] = delays.index(item.delay)
    return Storage(
        connections=tuple(members),
        operator=with_weight(first.operator, sealed(weight)),
        delays=tuple(delays),
        which=None if len(delays) == 1 else sealed(_narrowed(which, weight != 0)),
    )


def _narrowed(which: Array, there: Array) -> Array:
    """Return the numbers of delays by source or by target where those have one each."""
    if which.ndim == 1:
        return which
    rest = tuple(range(1, which.ndim))
    for axes in ((0,), rest) if which.ndim == 2 else (rest,):
        least = np.where(there, which, 255).min(axis=axes, keepdims=True)
        most = np.where(there, which, 0).max(axis=axes, keepdims=True)
        if (least >= most).all():
            return np.ascontiguousarray(most)
    return which
