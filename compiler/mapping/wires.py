"""Who reaches whom over one connection, asked the two ways that mapping asks.

How many synapses a group of targets has from each source (what a core must store, and how many
axons come in), and which groups each source reaches (what a core must send). Weights of 0 are
no synapses. Nothing here is kept per pair of neurons beyond what the program holds, but for
one sorted copy of sparse synapses.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.operators import Conv2d, Dense, Sparse
from spikec.compiler.program import Connection, Program

__all__ = ["ConvWires", "DenseWires", "SparseWires", "Wires", "wires_of"]

#: Groups of targets that a convolution is asked for together.
_AT_ONCE = 64


class Wires(Protocol):
    """The synapses of one operator on flat, local indices of its ends."""

    @property
    def sources(self) -> int:
        """The number of source neurons."""
        ...

    @property
    def targets(self) -> int:
        """The number of target neurons."""
        ...

    def counts(self, targets: Array) -> Array:
        """Return the number of synapses onto ``targets`` (distinct), ``[source]``."""
        ...

    def lists(self, targets: Array) -> Array:
        """Return the counts that are not 0, in any order: one for each axon that comes in."""
        ...

    def reach(self, groups: Array, number: int) -> Array:
        """Return which groups each source reaches, bool ``[source, number]``.

        ``groups`` holds the group of every target.
        """
        ...


@dataclass(frozen=True, eq=False)
class DenseWires:
    """All to all, but for weights of 0."""

    operator: Dense

    @property
    def sources(self) -> int:
        """The number of source neurons."""
        return int(self.operator.weight.shape[1])

    @property
    def targets(self) -> int:
        """The number of target neurons."""
        return int(self.operator.weight.shape[0])

    @cached_property
    def _full(self) -> bool:
        return bool(self.operator.weight.all())

    def counts(self, targets: Array) -> Array:
        """Return the number of synapses onto ``targets``, ``[source]``."""
        if self._full:
            return np.full(self.sources, len(targets))
        counts: Array = np.count_nonzero(self.operator.weight[targets], axis=0)
        return counts

    def lists(self, targets: Array) -> Array:
        """Return the counts that are not 0."""
        counts = self.counts(targets)
        return counts[counts > 0]

    def reach(self, groups: Array, number: int) -> Array:
        """Return which groups each source reaches, bool ``[source, number]``."""
        reached = np.zeros((self.sources, number), bool)
        if self._full:
            reached[:, np.unique(groups)] = True
            return reached
        for group in np.unique(groups):
            reached[:, group] = self.counts(np.flatnonzero(groups == group)) > 0
        return reached


@dataclass(frozen=True, eq=False)
class SparseWires:
    """Single synapses, sorted by target."""

    operator: Sparse

    @property
    def sources(self) -> int:
        """The number of source neurons."""
        return self.operator.synapses.inputs

    @property
    def targets(self) -> int:
        """The number of target neurons."""
        return self.operator.synapses.outputs

    @cached_property
    def _by_target(self) -> tuple[Array, Array]:
        synapses = self.operator.synapses
        present = np.flatnonzero(self.operator.weight)
        targets = synapses.targets[present]
        order = np.argsort(targets, kind="stable")
        sources = synapses.per_synapse(np.arange(synapses.inputs, dtype=np.int32))
        begins = np.zeros(synapses.outputs + 1, np.int64)
        np.cumsum(np.bincount(targets, minlength=synapses.outputs), out=begins[1:])
        return sources[present[order]], begins

    def incoming(self, targets: Array) -> tuple[Array, Array]:
        """Return the sources of all synapses onto ``targets``, and how many each has."""
        sources, begins = self._by_target
        counts = begins[targets + 1] - begins[targets]
        first = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(begins[targets] - first, counts)
        return sources[places], counts

    def counts(self, targets: Array) -> Array:
        """Return the number of synapses onto ``targets``, ``[source]``."""
        return np.bincount(self.incoming(targets)[0], minlength=self.sources)

    def lists(self, targets: Array) -> Array:
        """Return the counts that are not 0, from as little as there are synapses."""
        sources = np.sort(self.incoming(targets)[0])
        if not len(sources):
            return np.zeros(0, np.int64)
        ends = np.flatnonzero(np.diff(sources)) + 1
        return np.diff(ends, prepend=0, append=len(sources))

    def reach(self, groups: Array, number: int) -> Array:
        """Return which groups each source reaches, bool ``[source, number]``."""
        sources, begins = self._by_target
        reached = np.zeros((self.sources, number), bool)
        reached[sources, np.repeat(groups, np.diff(begins))] = True
        return reached


@dataclass(frozen=True, eq=False)
class ConvWires:
    """A convolution; every tap of its kernel counts, whatever its weight."""

    operator: Conv2d
    source: Shape

    @property
    def sources(self) -> int:
        """The number of source neurons."""
        return size(self.source)

    @property
    def targets(self) -> int:
        """The number of target neurons."""
        return size(self.target)

    @cached_property
    def target(self) -> Shape:
        """The shape of the targets, (channels, rows, columns)."""
        return self.operator.output_shape(self.source)

    def counts(self, targets: Array) -> Array:
        """Return the number of synapses onto ``targets``, ``[source]``."""
        return np.repeat(self.position_counts(targets), self._per_group, axis=0).reshape(-1)

    def lists(self, targets: Array) -> Array:
        """Return the counts that are not 0."""
        counts = self.position_counts(targets)
        return np.repeat(counts[counts > 0], self._per_group)

    def position_counts(self, targets: Array) -> Array:
        """Return the synapses of one channel of each group: ``[group, row, column]`` of sources."""
        groups = self.operator.groups
        number = groups * size(self.target[1:])
        chosen = np.bincount(self._places(targets), minlength=number)
        return self._spread(chosen.reshape(groups, *self.target[1:]))

    def _places(self, targets: Array) -> Array:
        """Return group and position of ``targets`` as one number."""
        channel, position = np.divmod(targets, size(self.target[1:]))
        out = self.target[0] // self.operator.groups
        places: Array = channel // out * size(self.target[1:]) + position
        return places

    def channels(self, targets: Array) -> Array:
        """Return the number of channels of each group that have any of ``targets``."""
        channels = np.unique(targets // size(self.target[1:]))
        out = self.target[0] // self.operator.groups
        return np.bincount(channels // out, minlength=self.operator.groups)

    def reach(self, groups: Array, number: int) -> Array:
        """Return which groups each source reaches, bool ``[source, number]``."""
        kinds, (_, height, width) = self.operator.groups, self.source
        places = self._places(np.arange(self.targets))
        reached = np.zeros((kinds, self._per_group, height * width, number), bool)
        size_of = kinds * size(self.target[1:])
        for first in range(0, number, _AT_ONCE):
            count = min(_AT_ONCE, number - first)
            here = (groups >= first) & (groups < first + count)
            chosen = np.zeros((count, size_of), np.uint16)
            chosen[groups[here] - first, places[here]] = 1
            spread = self._spread(chosen.reshape(-1, *self.target[1:])) > 0
            by_kind = spread.reshape(count, kinds, 1, height * width)
            reached[..., first : first + count] = by_kind.transpose(1, 2, 3, 0)
        return reached.reshape(self.sources, number)

    def tap(self, row: int, column: int) -> Array:
        """Return how often each source position meets this tap of the kernel: 0 or 1."""
        taps = np.zeros(self.operator.weight.shape[2:], bool)
        taps[row, column] = True
        met: Array = self._spread(np.ones((1, *self.target[1:]), np.int64), taps)[0]
        return met

    @property
    def _per_group(self) -> int:
        return self.source[0] // self.operator.groups

    def _spread(self, values: Array, taps: Array | None = None) -> Array:
        """Add ``values`` at output positions to all source positions in reach of ``taps``."""
        operator = self.operator
        _, height, width = self.source
        _, rows, columns = self.target
        down, right = operator.stride
        top, left = operator.padding
        padded = np.zeros((len(values), height + 2 * top, width + 2 * left), values.dtype)
        for row, column in np.ndindex(*operator.weight.shape[2:]):
            if taps is not None and not taps[row, column]:
                continue
            y, x = row * operator.dilation[0], column * operator.dilation[1]
            padded[:, y : y + (rows - 1) * down + 1 : down,
                   x : x + (columns - 1) * right + 1 : right] += values  # fmt: skip
        return padded[:, top : top + height, left : left + width]


def wires_of(program: Program, connection: Connection) -> Wires:
    """Return the wires of one connection of ``program``."""
    if isinstance(connection.operator, Dense):
        return DenseWires(connection.operator)
    if isinstance(connection.operator, Sparse):
        return SparseWires(connection.operator)
    shapes = {item.name: item.shape for item in program.inputs}
    shapes |= {item.name: item.shape for item in program.populations}
    return ConvWires(connection.operator, shapes[connection.source])
