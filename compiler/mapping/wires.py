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
from spikec.compiler.program import Program
from spikec.compiler.storage import Storage

__all__ = ["ConvWires", "DenseWires", "Reach", "SparseWires", "Wires", "wires_of"]

#: So many pairs are told apart by a mark each; more, and few among many, are sorted.
_MOST_MARKS = 1 << 24


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

    def lists(self, targets: Array) -> tuple[Array, int]:
        """Return the counts that are not 0, in any order, and how many sources have each of them.

        There is one list, and one axon that comes in, for each of those sources.
        """
        ...

    def reach(self, groups: Array, number: int) -> Reach:
        """Return which of ``number`` groups each source reaches.

        ``groups`` holds the group of every target.
        """
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Reach:
    """The groups that sources reach: ``groups[begins[row] : begins[row + 1]]``, rising.

    ``rows`` holds the row of every source. Sources that reach the same share one: those of a
    picture's channels are many.
    """

    rows: Array
    begins: Array
    groups: Array

    @classmethod
    def of_pairs(cls, rows: Array, pairs: Array, number: int) -> Reach:
        """Return the reach of distinct, rising ``row * number + group``."""
        per_row = np.bincount(pairs // number, minlength=int(rows.max(initial=-1)) + 1)
        begins = np.concatenate([[0], np.cumsum(per_row)])
        return cls(rows=rows, begins=begins, groups=(pairs % number).astype(np.int32))

    def counts(self) -> Array:
        """Return how many groups each source reaches."""
        counts: Array = np.diff(self.begins)[self.rows]
        return counts

    def holds(self, group_of: Array) -> Array:
        """Say for each source whether it reaches the group ``group_of[source]``."""
        number = int(max(group_of.max(initial=0), self.groups.max(initial=0))) + 1
        row = np.repeat(np.arange(len(self.begins) - 1), np.diff(self.begins))
        pairs, wanted = row * number + self.groups, self.rows * number + group_of
        place = np.minimum(np.searchsorted(pairs, wanted), max(0, len(pairs) - 1))
        return pairs[place] == wanted if len(pairs) else np.zeros(len(wanted), bool)

    def of_rows(self, rows: Array) -> tuple[Array, Array]:
        """Return the groups of ``rows``, one row after the other, and how many each has."""
        counts = self.begins[rows + 1] - self.begins[rows]
        first = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(self.begins[rows] - first, counts)
        return self.groups[places], counts


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

    def lists(self, targets: Array) -> tuple[Array, int]:
        """Return the counts that are not 0."""
        if self._full:
            return np.full(1, len(targets)), self.sources
        counts = self.counts(targets)
        return counts[counts > 0], 1

    def reach(self, groups: Array, number: int) -> Reach:
        """Return which groups each source reaches."""
        if self._full:
            rows = np.zeros(self.sources, np.int64)
            return Reach.of_pairs(rows, _distinct(groups, number), number)
        order = np.argsort(groups, kind="stable")
        ends = np.flatnonzero(np.diff(groups[order])) + 1
        pairs = [
            np.flatnonzero(self.operator.weight[members].any(axis=0)) * number + groups[members[0]]
            for members in np.split(order, ends)
        ]
        return Reach.of_pairs(np.arange(self.sources), np.sort(np.concatenate(pairs)), number)


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

    def lists(self, targets: Array) -> tuple[Array, int]:
        """Return the counts that are not 0, from as little as there are synapses."""
        sources = np.sort(self.incoming(targets)[0])
        if not len(sources):
            return np.zeros(0, np.int64), 1
        ends = np.flatnonzero(np.diff(sources)) + 1
        return np.diff(ends, prepend=0, append=len(sources)), 1

    def reach(self, groups: Array, number: int) -> Reach:
        """Return which groups each source reaches."""
        synapses, weight = self.operator.synapses, self.operator.weight
        at_once = max(1, _MOST_MARKS // number)
        pairs = []
        for begin in range(0, self.sources, at_once):
            pointers = synapses.pointers[begin : begin + at_once + 1]
            part = slice(pointers[0], pointers[-1])
            sources = np.repeat(np.arange(len(pointers) - 1), np.diff(pointers))
            keys = sources * number + groups[synapses.targets[part]]
            found = _distinct(keys[weight[part] != 0], (len(pointers) - 1) * number)
            pairs.append(found + begin * number)
        return Reach.of_pairs(np.arange(self.sources), np.concatenate(pairs), number)


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

    def lists(self, targets: Array) -> tuple[Array, int]:
        """Return the counts that are not 0; channels of a group have the same."""
        counts = self.position_counts(targets)
        return counts[counts > 0], self._per_group

    def position_counts(self, targets: Array) -> Array:
        """Return the synapses of one channel of each group: ``[group, row, column]`` of sources."""
        groups, places = self.operator.groups, size(self.source[1:]) + 1
        group, position = self._places(targets)
        counts = np.zeros(groups * places, np.int64)
        at_once = max(1, _MOST_MARKS // max(1, self._met.shape[1]))
        for begin in range(0, len(targets), at_once):
            some = slice(begin, begin + at_once)
            met = self._met[position[some]] + (group[some] * places)[:, None]
            counts += np.bincount(met.reshape(-1), minlength=groups * places)
        return counts.reshape(groups, places)[:, :-1].reshape(groups, *self.source[1:])

    def _places(self, targets: Array) -> tuple[Array, Array]:
        """Return the group of channels and the position of ``targets``."""
        channel, position = np.divmod(targets, size(self.target[1:]))
        return channel // (self.target[0] // self.operator.groups), position

    @cached_property
    def _met(self) -> Array:
        """The source position at each tap of every output position; in the padding, one more."""
        operator, (_, height, width), (_, rows, columns) = self.operator, self.source, self.target
        _, _, taps_down, taps_right = operator.weight.shape
        down = np.arange(rows)[:, None] * operator.stride[0] - operator.padding[0]
        down = down + np.arange(taps_down) * operator.dilation[0]
        right = np.arange(columns)[:, None] * operator.stride[1] - operator.padding[1]
        right = right + np.arange(taps_right) * operator.dilation[1]
        y, x = down[:, None, :, None], right[None, :, None, :]
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        met = np.where(inside, y * width + x, height * width)
        return met.reshape(rows * columns, taps_down * taps_right).astype(np.int32)

    def channels(self, targets: Array) -> Array:
        """Return the number of channels of each group that have any of ``targets``."""
        channels = np.flatnonzero(np.bincount(targets // size(self.target[1:])))
        out = self.target[0] // self.operator.groups
        return np.bincount(channels // out, minlength=self.operator.groups)

    def reach(self, groups: Array, number: int) -> Reach:
        """Return which groups each source reaches: its channel does not matter, only the group."""
        kinds, places = self.operator.groups, size(self.source[1:])
        per_position = groups.reshape(kinds, -1, size(self.target[1:]))
        pairs = []
        for kind in range(kinds):
            at, here = _distinct_pairs(per_position[kind], number)
            met = self._met[at].reshape(-1)
            inside = met < places
            keys = met[inside] * np.int64(number) + np.repeat(here, self._met.shape[1])[inside]
            pairs.append(_distinct(keys, places * number) + kind * places * number)
        shape = (kinds, self._per_group, places)
        rows = np.broadcast_to(np.arange(kinds * places).reshape(kinds, 1, places), shape)
        return Reach.of_pairs(rows.reshape(-1), np.concatenate(pairs), number)

    def tap(self, row: int, column: int) -> Array:
        """Return how often each source position meets this tap of the kernel: 0 or 1."""
        met = self._met[:, row * self.operator.weight.shape[3] + column]
        places = size(self.source[1:])
        return np.bincount(met, minlength=places + 1)[:places].reshape(self.source[1:])

    @property
    def _per_group(self) -> int:
        return self.source[0] // self.operator.groups


def _distinct(keys: Array, extent: int) -> Array:
    """Return the distinct ``keys``, which are below ``extent``, in rising order."""
    if extent > min(_MOST_MARKS, 64 * len(keys)):
        return np.unique(keys)
    marks = np.zeros(extent, bool)
    marks[keys] = True
    return np.flatnonzero(marks)


def _distinct_pairs(groups: Array, number: int) -> tuple[Array, Array]:
    """Return the position and the group of every distinct pair of ``groups[channel, position]``."""
    positions = groups.shape[1]
    keys = (np.arange(positions) * number + groups).reshape(-1)
    at, here = np.divmod(_distinct(keys, positions * number), number)
    return at, here


def wires_of(program: Program, stored: Storage) -> Wires:
    """Return the wires of one store of ``program``."""
    if isinstance(stored.operator, Dense):
        return DenseWires(stored.operator)
    if isinstance(stored.operator, Sparse):
        return SparseWires(stored.operator)
    shapes = {item.name: item.shape for item in program.inputs}
    shapes |= {item.name: item.shape for item in program.populations}
    return ConvWires(stored.operator, shapes[stored.source])
