"""What a group of neurons takes of a core, and which limits that breaks.

The rules are those of a target's ``[cores]``. The neurons on a core are numbered anew, those of a
population next to each other, so that lists of synapses need no gaps:

- An axon comes in for each connection and each source with a synapse here. Its list of
  synapses holds weights alone where that is shorter (every neuron of the population here has a
  place in it, weight 0 or not), or weights and the numbers of their targets. A connection
  chooses one of the two for a core: one format.
- A convolution kept as ``kernel`` takes, per input channel and tap, one list of the weights of the
  output channels here; an axon comes in per position of the source and group of channels, and the
  channel travels with the spike. Kept ``unrolled``, it is synapses as any other.
- Connections that differ in their delays alone, and in which synapses they have, are stored as one
  (:mod:`spikec.compiler.storage`): one list and one axon a source, a delay beside each weight.
- A store delayed by d steps at most keeps ``(d - 1).bit_length()`` bits beside each weight, and
  its targets take accumulators for the next power of two of d steps, as do all on their core.
- An axon goes out for each neuron, connection and core that it reaches, its own core included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

import numpy as np

from spikec.compiler.arrays import Array, sealed, size
from spikec.compiler.mapping.traffic import Traffic
from spikec.compiler.mapping.wires import ConvWires, Reach, Wires, wires_of
from spikec.compiler.program import Neurons, Program
from spikec.compiler.storage import Storage, storages
from spikec.compiler.targets import Cores

__all__ = ["LIMITED", "CoreUse", "Network", "Wired", "packed_bits"]


#: Bits that no core has, for what its file has no width for.
_NEVER = 1 << 20


@dataclass(frozen=True, kw_only=True)
class CoreUse:
    """What one core holds; the names are those of the limits in :class:`Cores`."""

    neurons: int
    accumulators: int
    synapse_bits: int
    axons_in: int
    axons_out: int
    profiles: int
    thresholds: int
    formats: int

    def exceeded(self, limits: Cores) -> tuple[str, ...]:
        """Return the names of the limits that this breaks."""
        return tuple(name for name in LIMITED if getattr(self, name) > getattr(limits, name))

    def fullest(self, limits: Cores) -> tuple[str, float]:
        """Return the limit that is nearest, and the share of it that is taken."""
        shares = {name: getattr(self, name) / getattr(limits, name) for name in LIMITED}
        name = max(shares, key=lambda item: shares[item])
        return name, shares[name]


#: What a core has limits of.
LIMITED = tuple(item.name for item in fields(CoreUse))


def packed_bits(counts: Array, bits: int, limits: Cores) -> int:
    """Return the memory of lists of ``counts`` synapses of ``bits`` each, in whole words."""
    words = _words(bits, limits)
    full, rest = np.divmod(counts, limits.pack_synapses)
    return int(full.sum() * words[-1] + words[rest].sum()) * limits.word_bits


@lru_cache(maxsize=256)
def _words(bits: int, limits: Cores) -> Array:
    """Return the words that a pack takes, by the number of its synapses."""
    synapses = np.arange(limits.pack_synapses + 1)
    words = -(-(synapses * bits + limits.pack_header_bits) // limits.word_bits)
    return sealed(np.where(synapses > 0, words, 0))


@dataclass(frozen=True, eq=False, kw_only=True)
class Wired:
    """A store of weights with its wires and the place of its ends among all neurons.

    ``source_offset`` is None where an input sends.
    """

    stored: Storage
    wires: Wires
    source_offset: int | None
    weight_bits: int
    delay_bits: int
    delay_slots: int


class Network:
    """A program as mapping sees it: neurons numbered through all populations, in order.

    ``most_bits`` asks what it would take with no more bits per weight.
    """

    def __init__(self, program: Program, limits: Cores, most_bits: int = 8) -> None:
        self.program = program
        self.limits = limits
        sizes = [item.num_neurons for item in program.neurons]
        self.offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.num_neurons = int(self.offsets[-1])
        offset = {
            item.name: int(begin)
            for item, begin in zip(program.populations, self.offsets, strict=False)
        }
        self.wired = tuple(
            Wired(
                stored=item,
                wires=wires_of(program, item),
                source_offset=offset.get(item.source),
                weight_bits=_stored(min(item.weight_bits, most_bits), limits.weight_widths),
                delay_bits=(item.longest - 1).bit_length(),
                delay_slots=1 << (item.longest - 1).bit_length(),
            )
            for item in storages(program)
        )
        self.into: tuple[tuple[Wired, ...], ...] = tuple(
            tuple(item for item in self.wired if item.stored.target == neurons.name)
            for neurons in program.populations
        )
        self._before: dict[bytes, CoreUse] = {}
        self._slots = [max([1, *(item.delay_slots for item in into)]) for into in self.into]

    @cached_property
    def _kinds(self) -> tuple[Array, Array]:
        """The number of every neuron's profile, and that of its threshold."""
        populations = self.program.neurons
        profiles = np.concatenate([_profile(item) for item in populations], axis=1)
        thresholds = np.concatenate([_threshold(item) for item in populations], axis=1)
        return _numbered(profiles), _numbered(thresholds)

    def parts(self, members: Array) -> Iterator[tuple[int, Array]]:
        """Yield for each population with any of ``members`` its place and their local indices."""
        ends = np.searchsorted(members, self.offsets)
        for place in np.flatnonzero(np.diff(ends)):
            yield int(place), members[ends[place] : ends[place + 1]] - self.offsets[place]

    def use(self, members: Array, fan_out: Array) -> CoreUse:
        """Return what a core with ``members`` (all distinct) takes.

        ``fan_out`` is the number of axons that go out from every neuron, ``[neuron]``.
        """
        return self._use(members, int(fan_out[members].sum()))

    def uses(self, pieces: Sequence[Array], fan_out: Array) -> list[CoreUse]:
        """Return what every core takes, with :meth:`use`.

        Mapping asks again and again of cores of which few have changed: of those that the
        call before had, only the axons that go out are counted anew.
        """
        before, self._before = self._before, {}
        found = []
        for members in pieces:
            key = members.tobytes()
            axons_out = int(fan_out[members].sum())
            use = before.get(key) or self._use(members, axons_out)
            self._before[key] = use
            found.append(use if use.axons_out == axons_out else replace(use, axons_out=axons_out))
        return found

    def _use(self, members: Array, axons_out: int) -> CoreUse:
        """Return what a core with ``members`` takes."""
        members = np.sort(members)
        index_bits = _stored(max(1, (len(members) - 1).bit_length()), self.limits.index_widths)
        bits = axons_in = formats = 0
        slots = 1
        for place, targets in self.parts(members):
            slots = max(slots, self._slots[place])
            for item in self.into[place]:
                more_bits, more_axons = self._held(item, targets, index_bits)
                bits += more_bits
                axons_in += more_axons
                formats += more_axons > 0
        profiles, thresholds = self._kinds
        return CoreUse(
            neurons=len(members),
            accumulators=len(members) * slots,
            synapse_bits=bits,
            axons_in=axons_in,
            axons_out=axons_out,
            profiles=_distinct(profiles[members]),
            thresholds=_distinct(thresholds[members]),
            formats=formats,
        )

    def fits(self, members: Array, fan_out: Array) -> bool:
        """Say whether ``members`` keep all limits on one core; what is cheap is asked first."""
        limits = self.limits
        if len(members) > limits.neurons or fan_out[members].sum() > limits.axons_out:
            return False
        return not self.use(members, fan_out).exceeded(limits)

    def _held(self, item: Wired, targets: Array, index_bits: int) -> tuple[int, int]:
        """Return the bits and the incoming axons that one connection takes for ``targets``."""
        bits = item.weight_bits + item.delay_bits
        if isinstance(item.wires, ConvWires) and self.limits.convolution == "kernel":
            _, per_group, *kernel = item.wires.operator.weight.shape
            rows = np.repeat(item.wires.channels(targets), per_group * size(tuple(kernel)))
            axons = np.count_nonzero(item.wires.position_counts(targets))
            return packed_bits(rows, bits, self.limits), int(axons)
        counts, sources = item.wires.lists(targets)
        runs = packed_bits(np.full(1, len(targets)), bits, self.limits) * len(counts)
        listed = packed_bits(counts, bits + index_bits, self.limits)
        return min(runs, listed) * sources, len(counts) * sources

    def fan_out(self, core_of: Array, number: int) -> Array:
        """Return the axons that go out from every neuron when it is on core ``core_of``."""
        fan_out = np.zeros(self.num_neurons, np.int64)
        for item, reached in self.reached(core_of, number):
            if item.source_offset is not None:
                ends = item.source_offset + item.wires.sources
                fan_out[item.source_offset : ends] += reached.counts()
        return fan_out

    def reached(self, core_of: Array, number: int) -> Iterator[tuple[Wired, Reach]]:
        """Yield every connection with the cores that its sources reach."""
        for place, into in enumerate(self.into):
            groups = core_of[self.offsets[place] : self.offsets[place + 1]]
            for item in into:
                yield item, item.wires.reach(groups, number)

    def messages(
        self, core_of: Array, number: int, rates: Sequence[Array]
    ) -> tuple[Traffic, Array]:
        """Return messages a step between cores, and from outside, ``[to]``.

        ``rates`` are those of :meth:`rates`.
        """
        between, outside = [], np.zeros(number)
        for (item, reached), rate in zip(self.reached(core_of, number), rates, strict=True):
            if item.source_offset is None:
                row = np.bincount(reached.rows, rate, len(reached.begins) - 1)
                outside += np.bincount(
                    reached.groups, np.repeat(row, np.diff(reached.begins)), number
                )
                continue
            cores = core_of[item.source_offset : item.source_offset + item.wires.sources]
            order = np.argsort(cores, kind="stable")
            for here in np.split(order, np.flatnonzero(np.diff(cores[order])) + 1):
                rows, place = np.unique(reached.rows[here], return_inverse=True)
                groups, counts = reached.of_rows(rows)
                sent = np.repeat(np.bincount(place.reshape(-1), rate[here]), counts)
                to, place = np.unique(groups, return_inverse=True)
                amounts = np.bincount(place.reshape(-1), sent, len(to))
                between.append((np.full(len(to), cores[here[0]]), to, amounts))
        return Traffic.joined(number, between), outside

    def crossing(self, core_of: Array, number: int, rates: Sequence[Array]) -> float:
        """Return the messages a step that leave their core."""
        total = 0.0
        for (item, reached), rate in zip(self.reached(core_of, number), rates, strict=True):
            if item.source_offset is not None:
                cores = core_of[item.source_offset : item.source_offset + item.wires.sources]
                total += float((reached.counts() - reached.holds(cores)) @ rate)
        return total

    def rates(self, spikes: dict[str, Array] | None) -> list[Array]:
        """Return messages a step of every source, by connection in the order of ``reached``.

        ``spikes`` holds the mean of every population and input; 1 for all where it is None.
        """
        return [
            np.ones(item.wires.sources)
            if spikes is None
            else np.asarray(spikes[item.stored.source], np.float64).reshape(-1)
            for into in self.into
            for item in into
        ]


def _stored(bits: int, widths: tuple[int, ...]) -> int:
    """Return the least of ``widths`` that holds ``bits``; beyond all of them, what never fits."""
    return min([width for width in widths if width >= bits], default=_NEVER)


def _profile(neurons: Neurons) -> Array:
    """Return what a group of neurons shares on the chip, ``[field, neuron]``."""
    count = neurons.num_neurons
    kinds = (neurons.refractory, neurons.max_spikes, neurons.start, int(neurons.vth is None),
             int(neurons.reset_drops_input), int(neurons.reset_twice),
             ("zero", "value", "subtract", "none").index(neurons.reset),
             ("at_spike", "next_step").index(neurons.reset_order))  # fmt: skip
    rows = [neurons.du.reshape(-1), neurons.dv.reshape(-1)]
    return np.stack([*rows, *(np.full(count, kind) for kind in kinds)])


def _threshold(neurons: Neurons) -> Array:
    never = np.full(neurons.num_neurons, -(1 << 20))
    return (never if neurons.vth is None else neurons.vth.reshape(-1))[np.newaxis]


def _distinct(numbers: Array) -> int:
    return int(np.count_nonzero(np.bincount(numbers)))


def _numbered(columns: Array) -> Array:
    """Number the distinct columns."""
    if (columns == columns[:, :1]).all():
        return np.zeros(columns.shape[1], np.int64)
    return np.unique(columns, axis=1, return_inverse=True)[1].reshape(-1)
