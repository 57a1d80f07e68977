"""Programs at the machine's speed: the golden integers, in loops compiled by Numba.

Spikes, currents, voltages and counted events are those of
:mod:`spikec.backends.simulator.golden`, bit for bit. Samples are independent: the
threads share them out. Where there are threads for several of each sample, they share
out its neurons and steps, population by population. A stream has no end: :class:`Session`
takes it in chunks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple, TypeAlias

import numpy as np

from spikec.backends.simulator import codes as k
from spikec.backends.simulator.layout import Columns, Layout, padded
from spikec.backends.simulator.product import Product, products
from spikec.backends.threads import Company, default_threads
from spikec.compiler.arrays import Array, address, aligned
from spikec.compiler.entrance import refuse_after_last, taken
from spikec.compiler.errors import UsageError
from spikec.compiler.inputs import crowded, to_integers
from spikec.compiler.operators import Conv2d
from spikec.compiler.trace import Probe, Quantity, Trace

__all__ = ["Kept", "Session", "Way", "run"]

#: Steps of a block of neurons that are taken together.
_FEW_STEPS = 16
#: Steps by which a product is judged.
_JUDGED = 16
#: What samples that are taken in and run together send (in values): a core's cache holds it.
_TOGETHER = 1 << 20
#: Steps of a layer that are prepared together, and what that may take (in values).
_MOST_STEPS = 128
_SCRATCH = 1 << 22
#: What a connection's synapse and a neuron take in a step, in ns, where some percent of what is
#: sent is a spike: by this it is judged if the steps of a group are worth sharing, which
#: costs some tens of microseconds, and what arrives moves from one core to another.
_SYNAPSE = {k.DENSE: 6e-4, k.WIDE: 2e-3, k.CONV: 5e-3, k.SPARSE: 3e-2}
_NEURON = 0.5
_WORTH_SHARING = 6e5


#: Samples whose steps are taken side by side where weights are many: more than a cache has of
#: them then serves several.
_SIDE_BY_SIDE, _LARGE = 8, 1 << 20


def run(
    layout: Layout,
    inputs: Mapping[str, Array],
    probes: Sequence[Probe],
    *,
    threads: int | None = None,
    kept: Kept | None = None,
) -> Trace:
    """Run ``inputs``, ``[sample, step, *shape]`` per input name, each sample from its start.

    ``kept`` is what earlier runs of the layout left, and knows how this one served connections.
    Voltages and currents come as the chip's integers, in the layout's integer type.
    ``trace.events`` counts wraps, saturations and clipped inputs.
    """
    inputs = taken(inputs, layout.program.inputs)
    samples = len(next(iter(inputs.values())))
    session = Session(layout, samples=samples, probes=probes, threads=threads, kept=kept)
    trace = session.advance(inputs, last=True)
    if kept is not None:
        session.leave_to(kept)
    if not session.events:
        return trace
    return replace(trace, events={**trace.events, **session.events})


@dataclass(frozen=True, kw_only=True)
class Way:
    """How one connection was served, and the share of its source that was not zero."""

    way: str
    density: float


_WAYS = {
    k.DENSE: "rows of what was sent, 8 bits",
    k.WIDE: "rows of what was sent, 16 bits",
    k.CONV: "rows of pixels around what was sent",
    k.SPARSE: "synapse by synapse",
    k.READY: "one exact matrix product",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class _Tables:
    """What all sessions that record the same have in common.

    ``back`` is how many rows from before a chunk are kept: what delays reach back to, and
    what is reported late, ``lag`` steps at most.
    """

    populations: Array
    columns: Mapping[Probe, Columns]
    lags: Mapping[Probe, int]
    lag: int
    back: int
    #: What came before the first step, of one sample: silence, and the initial state.
    before: tuple[Array, Array, Array]


class _Heard(NamedTuple):
    """Binary inputs of some samples: the loops' table of where they are, and what holds them.

    ``events`` says what was clipped to make spikes of them.
    """

    table: Array
    held: Mapping[str, Array]
    events: dict[str, int]


#: What a thread works in: what arrives, and arrays that are its own.
Room: TypeAlias = tuple[Array, tuple[Array | tuple[Array, Array], ...]]
#: Currents and voltages of samples, and for how many steps each neuron still idles.
States: TypeAlias = tuple[Array, Array]


class Kept:
    """What sessions of one layout leave for the next: tables, and memory to work in."""

    def __init__(self, layout: Layout) -> None:
        from spikec.backends.simulator import kernels

        self.loops, self.judge, self.apart = kernels.run, kernels.judge, kernels.APART
        #: What served the last run; it shares its memory with that run's trace.
        self.last: Session | None = None
        self.products = tuple(products(layout))
        #: Each input, whether it is graded, and its columns or its row.
        self.entries = tuple(
            (item.name, item.kind != "binary", {**layout.integers, **layout.heard}[item.name])
            for item in layout.program.inputs
        )
        #: Binary inputs of which nothing is known, and how many values they have.
        self.unheard = np.zeros((len(layout.heard), 4), np.int64)
        self.heard_width = sum(item.count for item in layout.heard.values())
        self._layout = layout
        rows = layout.populations
        #: Whether the loops leave some of what is sent as it was: steps before a start.
        self.blank = bool((rows[:, k.P_START] > 0).any())
        self._efforts = np.array([_effort(layout, row) for row in layout.groups.tolist()])
        self._width = _sums_width(layout)
        large = any(
            group[k.G_FUSED] and layout.wires[group[k.G_OUTER]].operator.weight.size > _LARGE
            for group in layout.groups
        )
        self.members = _SIDE_BY_SIDE if large else 1
        self._tables: dict[tuple[Probe, ...], _Tables] = {}
        self._rooms: dict[tuple[object, int], list[Room]] = {}
        self._states: dict[int, list[States]] = {}
        self.company = Company()
        #: Of runs by one thread: no group is worth sharing, and nobody is met.
        self.nothing_shared = (np.zeros(len(layout.groups), np.bool_), np.zeros(0, np.int64))

    def ways(self) -> dict[str, Way]:
        """Return how each connection was served in the last run."""
        return {} if self.last is None else self.last.ways()

    def tables(self, probes: tuple[Probe, ...]) -> _Tables:
        """Return the tables of sessions that record ``probes``."""
        if probes not in self._tables:
            self._tables[probes] = _tables(self._layout, probes)
        return self._tables[probes]

    def worth_sharing(self, steps: int) -> Array:
        """Say of each group whether its steps are so much work that threads may share it."""
        worth: Array = self._efforts * steps > _WORTH_SHARING
        return worth

    def states(self, samples: int) -> States:
        """Return the state of samples before their first step, in memory that nobody works in."""
        initial = self._layout.initial
        try:
            states = self._states.setdefault(samples, []).pop()
        except IndexError:  # others work in all there are
            both = aligned((2, samples, initial.shape[1]), initial.dtype, blank=False)
            states = (both, np.empty(both.shape[1:], np.int32))
        states[0][:] = initial[:, None]
        states[1].fill(0)
        return states

    def take_back(self, states: States) -> None:
        """Let another session have the memory of a state."""
        self._states[states[0].shape[1]].append(states)

    def rooms(self, layout: Layout, steps: int) -> tuple[int, list[Room]]:
        """Return how many steps are taken at a time, and memory for it that nobody works in."""
        most = _SCRATCH // max(self._width, layout.widest)
        chunk = max(1, min(steps, _MOST_STEPS, most))
        return chunk, self._rooms.setdefault((layout.dtype, chunk), [])

    def room(self, layout: Layout, chunk: int, rooms: list[Room]) -> Room:
        """Return one thread's room, one of ``rooms`` if any is left.

        It is what arrives, and sums, events and where their steps end.
        """
        try:
            return rooms.pop()
        except IndexError:  # others work in all there are
            pass
        events, members = chunk * layout.widest, self.members
        return aligned((chunk, self._width), layout.dtype), (
            aligned((_FEW_STEPS, k.BLOCK), layout.dtype),
            (aligned((layout.sums[0],), np.int16), aligned((layout.sums[1],), layout.dtype)),
            np.zeros((members, events + padded(1)), np.int32),
            np.zeros(events, np.int64),
            np.zeros((members, chunk), np.int64),
        )


class Session:
    """A program at work on ``samples`` samples side by side; feed it chunks of steps in order.

    As with golden's session, steps that a lag has not delivered yet are reported
    later; a chunk that is ``last`` flushes them.
    """

    def __init__(
        self,
        layout: Layout,
        *,
        samples: int,
        probes: Sequence[Probe],
        threads: int | None = None,
        kept: Kept | None = None,
    ) -> None:
        self._layout = layout
        self._kept = kept or Kept(layout)
        available = threads or default_threads()
        self._parts = available // max(1, samples)
        self._threads = max(1, min(available, samples))
        self._samples = samples
        self._tables = tables = self._kept.tables(tuple(probes))
        self._populations = tables.populations
        self._sent, self._integers, self._recorded = tables.before
        self._own = both, idle = self._kept.states(samples)
        self._states = (both[0], both[1], idle)
        self._connections = layout.connections
        self._inputs: Mapping[str, Array] = {}
        self._before: dict[str, Array] = {}  # binary inputs of the last steps
        self._fresh = slice(0)  # the rows that the chunk brought
        self._step = 0
        self._given = 0
        self._reported = 0
        self._over = False
        self._ones: dict[str, float] = {}
        self.events: dict[str, int] = {}

    def prepare(self) -> None:
        """Compile the loops if this machine has not kept them from an earlier run."""
        self._kept.judge(0, 0)
        nothing = _Heard(self._kept.unheard, {}, {})
        ready = np.zeros((self._samples, 1, 1), self._layout.dtype)
        self._computed(0, ready, nothing, self._samples)

    def run(self, inputs: Mapping[str, Array], *, last: bool = False) -> Trace:
        """Take a chunk and report the steps that are complete; all that are left if ``last``."""
        refuse_after_last(over=self._over)
        inputs = taken(inputs, self._layout.program.inputs, samples=self._samples)
        self._over = last  # where a value of the last chunk is refused, others have run
        return self.advance(inputs, last=last)

    def advance(self, inputs: Mapping[str, Array], *, last: bool) -> Trace:
        """Take a chunk that has passed the gate."""
        steps = next(iter(inputs.values())).shape[1]
        extra = self._tables.lag if last and self._given + steps else 0
        before = self._sent, self._integers, self._recorded
        self._sent = self._lengthened(self._sent, steps + extra, blank=self._kept.blank)
        self._integers = self._lengthened(self._integers, steps + extra)
        self._recorded = self._lengthened(self._recorded, steps + extra)
        self._fresh = slice(self._tables.back, self._tables.back + steps)
        self._inputs = inputs
        try:
            clipped = self._compute(steps + extra, last=last)
        except UsageError:  # of values, before anything was computed
            self._sent, self._integers, self._recorded = before
            raise
        self._given += steps
        trace = self._report(steps + extra)
        if not last:
            self._carry(steps + extra)
        return Trace(values=trace, outputs=self._layout.program.outputs, events=clipped)

    def _receive(self, samples: slice) -> _Heard:
        """Put integers that enter ``samples`` behind their history; say where their spikes are."""
        events: dict[str, int] = {}
        converted: dict[str, Array] = {}
        held: dict[str, Array] = {}
        table = self._kept.unheard.copy()
        for name, graded, columns in self._kept.entries:
            values = None if graded else self._bytes(name, samples)
            if values is None and not converted:
                part = {key: item[samples] for key, item in self._inputs.items()}
                converted, events = to_integers(self._layout.program, part)
            if graded:
                stream, whole = self._integers, converted[name]
                place = slice(columns.begin, columns.begin + columns.count)
                stream[samples, self._fresh.start :, place] = 0
                stream[samples, self._fresh, place] = whole.reshape(*whole.shape[:2], columns.count)
                continue
            if values is None:
                values = np.ascontiguousarray(converted[name], np.uint8)
                self._ones[name] = _density(values)
            held[name] = values
            before = self._before.get(name)
            # Samples count from the first of all; before the chunk there may have been nothing.
            begin = address(values) - samples.start * (values.size // max(1, len(values)))
            past = 0 if before is None else address(before)
            table[columns.begin] = begin, past, values.shape[1], self._tables.back
        if not converted:  # else the gate has counted
            heard = {key: item[samples] for key, item in self._inputs.items()}
            events = crowded(self._layout.program.inputs, heard)
        return _Heard(table, held, events)

    def _bytes(self, name: str, samples: slice) -> Array | None:
        """Return spikes as the bytes they are; None if they are something else."""
        values = self._inputs[name]
        if values.dtype.char not in "B?":
            return None
        part = np.ascontiguousarray(values[samples])
        wrong, ones = self._kept.judge(address(part), part.size)
        self._ones[name] = ones / max(1, part.size)
        return None if wrong else part

    def leave_to(self, kept: Kept) -> None:
        """Leave what there is to know of the last run, and memory; nothing more can be run."""
        kept.last = self
        kept.take_back(self._own)

    def ways(self) -> dict[str, Way]:
        """Return how each connection was served in the last chunk."""
        found = {}
        for row, wire in zip(self._connections, self._layout.wires, strict=True):
            if wire.source in self._layout.heard:
                part = self._spikes(wire.source)
            elif wire.source in self._layout.sent:
                part = _part(self._sent, self._layout.sent[wire.source], self._fresh)
            else:
                part = _part(self._integers, self._layout.integers[wire.source], self._fresh)
            found[wire.name] = Way(way=_WAYS[int(row[k.C_KIND])], density=_density(part))
        return found

    def _spikes(self, name: str) -> Array:
        """Return what a binary input brought."""
        values = self._bytes(name, slice(0, self._samples))
        return (
            to_integers(self._layout.program, self._inputs)[0][name] if values is None else values
        )

    def _worth(self, samples: slice) -> list[Product]:
        """Return the products that are the faster way, judged by some samples and steps."""
        found = []
        for item in self._kept.products:
            density = self._ones.get(item.connection.source)
            if density is None:
                begin, end = self._fresh.start, self._fresh.stop
                rows = slice(begin, end, max(1, (end - begin) // _JUDGED))
                density = _density(_part(self._integers[samples], item.source, rows))
            if item.worth(density):
                found.append(item)
        return found

    def _ready(self, wanted: Sequence[Product], heard: _Heard) -> Array:
        """Make the sums of inputs that are mostly not zero; say so in the table of connections."""
        layout = self._layout
        self._connections = layout.connections
        if not wanted:
            return np.zeros((self._samples, 1, 1), layout.dtype)
        self._connections = layout.connections.copy()
        parts: list[Array] = []
        width = 0
        for item in wanted:
            name = item.connection.source
            if item.graded:
                stream = _part(self._integers, item.source, slice(None))
            else:
                stream = self._with_history(name, heard.held[name])
            parts.append(item.sums(stream, layout.dtype))
            self._connections[item.row, k.C_KIND] = k.READY
            self._connections[item.row, k.C_WEIGHTS] = width
            width += item.target.count
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def _with_history(self, name: str, values: Array) -> Array:
        """Return a binary input in rows as those of what is sent: with those before, and after."""
        flat = values.reshape(*values.shape[:2], self._layout.heard[name].count)
        rows = np.zeros((self._samples, self._sent.shape[1], flat.shape[2]), np.uint8)
        if name in self._before:
            rows[:, : self._tables.back] = self._before[name]
        rows[:, self._fresh] = flat
        return rows

    def _lengthened(self, rows: Array, steps: int, *, blank: bool = True) -> Array:
        """Return ``rows`` with room for more steps behind them."""
        _, back, width = rows.shape
        if not width:  # nothing is kept there, yet each step has its place
            return np.empty((self._samples, back + steps, 0), rows.dtype)
        longer = aligned((self._samples, back + steps, width), rows.dtype, blank=blank)
        longer[:, :back] = rows
        return longer

    def _compute(self, steps: int, *, last: bool) -> dict[str, int]:
        """Take the inputs in and run; return what was clipped."""
        layout = self._layout
        before = None if layout.proved else self._states
        if before is not None:
            self._states = tuple(values.copy() for values in before)
        everything, few = slice(0, self._samples), slice(0, min(self._samples, self._together()))
        if not last or self._sharing(steps):
            few = everything
        self._ones.clear()
        heard = self._receive(few)
        wanted = self._worth(few)
        if wanted and few != everything:
            few, heard = everything, self._receive(everything)
        ready = self._ready(wanted, heard)
        counts, clipped = self._computed(steps, ready, heard, few.stop)
        happened = bool(np.count_nonzero(counts))
        if before is not None and happened and counts[:, 0].any() and layout.dtype is np.int32:
            self._widen(before)
            counts, _ = self._computed(steps, ready.astype(np.int64), heard, few.stop)
        self._step += steps
        if happened:
            _count(self.events, _named(layout.names, counts))
        _count(clipped, heard.events)
        if not last:
            self._remember(heard)
        return clipped

    def _remember(self, heard: _Heard) -> None:
        """Keep the last steps of binary inputs, as the history of the next chunk."""
        back = self._tables.back
        for name, values in heard.held.items():
            rows = self._with_history(name, values)
            self._before[name] = np.ascontiguousarray(rows[:, -back:])

    def _together(self) -> int:
        """Return how many samples a thread takes in and runs before the next ones."""
        steps = self._fresh.stop - self._fresh.start
        each: int = self._sent.strides[0] + steps * self._kept.heard_width
        return max(self._kept.members, _TOGETHER // max(1, each))

    def _computed(
        self, steps: int, ready: Array, heard: _Heard, received: int
    ) -> tuple[Array, dict[str, int]]:
        """Run all samples; return what wrapped and saturated, per population, and was clipped.

        ``heard`` are the inputs of the samples up to ``received``; those of the others are
        taken in just before they run, so that the caches still have them.
        """
        layout = self._layout
        tables = (layout.groups, self._populations, self._connections)
        streams = (self._sent, self._integers, ready, self._recorded, self._tables.back)
        if self._sharing(steps):
            return self._shared(steps, tables, (*streams, heard.table)), {}
        events = np.zeros((self._threads, len(self._populations), 2), np.int64)
        kept = self._kept
        chunk, rooms = kept.rooms(layout, steps)
        together = self._together() if received < self._samples else max(1, self._samples)

        def work(thread: int) -> dict[str, int]:
            room = kept.room(layout, chunk, rooms)
            clipped: dict[str, int] = {}
            first, last = (self._samples * part // self._threads for part in (thread, thread + 1))
            while first < last:
                end, inputs = min(first + together, last), heard
                if first < received:
                    end = min(end, received)
                else:
                    inputs = self._receive(slice(first, end))
                    _count(clipped, inputs.events)
                kept.loops(
                    first, end, self._step, steps, tables, layout.weights, layout.values,
                    (*streams, inputs.table), self._states, events[thread], *room, 1,
                    *kept.nothing_shared,
                )  # fmt: skip
                first = end
            rooms.append(room)
            return clipped

        if self._threads == 1:
            clipped = work(0)
            return events[0], clipped
        with ThreadPoolExecutor(self._threads) as pool:
            parts = list(pool.map(work, range(self._threads)))
        clipped = {}
        for part in parts:
            _count(clipped, part)
        return events.sum(axis=0), clipped

    def _sharing(self, steps: int) -> bool:
        """Say whether threads share the work of each sample."""
        return self._parts > 1 and bool(self._kept.worth_sharing(steps).any())

    def _shared(
        self, steps: int, tables: tuple[Array, ...], streams: tuple[Array | int, ...]
    ) -> Array:
        """Run sample after sample, threads sharing groups that are worth it; return events."""
        layout, kept, parts = self._layout, self._kept, self._parts
        events = np.zeros((parts, len(self._populations), 2), np.int64)
        chunk, rooms = kept.rooms(layout, steps)
        taken = [kept.room(layout, chunk, rooms) for _ in range(parts)]
        arriving, worth = taken[0][0], kept.worth_sharing(steps)
        phases = 2 * sum(-(-steps // min(chunk, row[k.G_STEPS])) for row in layout.groups.tolist())
        meeting = np.zeros(2 * kept.apart * phases * self._samples, np.int64)
        kept.company.do([
            partial(kept.loops, 0, self._samples, self._step, steps, tables, layout.weights,
                    layout.values, streams, self._states, events[part], arriving, taken[part][1],
                    parts, worth, meeting)
            for part in range(parts)
        ])  # fmt: skip
        rooms.extend(taken)
        counts: Array = events.sum(axis=0)
        return counts

    def _widen(self, states: tuple[Array, Array, Array]) -> None:
        """Go on from ``states`` in 64 bits: a current wrapped, and 32 bits may not hold it."""
        current, voltage, idle = states
        self._layout = replace(self._layout, dtype=np.int64, proved=True)
        self._populations = self._populations.copy()
        self._populations[:, k.P_PLAIN] = k.GENERAL
        self._states = (current.astype(np.int64), voltage.astype(np.int64), idle)
        self._recorded = self._recorded.astype(np.int64)

    def _report(self, steps: int) -> dict[Probe, Array]:
        """Return what is complete of the rows just computed, every lag undone."""
        count = min(self._given, self._step - self._tables.lag) - self._reported
        count = max(0, count)
        first = self._step - steps
        values = {}
        for probe in self._tables.lags:
            name, quantity = probe
            row = self._tables.back + self._reported + self._tables.lags[probe] - first
            values[probe] = self._read(name, quantity, slice(row, row + count))
        self._reported += count
        return values

    def _read(self, name: str, quantity: Quantity, rows: slice) -> Array:
        if quantity == "spikes":
            return _as_program(self._sent, self._layout.sent[name], rows)
        return _as_program(self._recorded, self._tables.columns[name, quantity], rows)

    def _carry(self, steps: int) -> None:
        """Keep the last rows as the history of the next chunk."""
        keep = slice(steps, steps + self._tables.back)
        self._sent = self._sent[:, keep].copy()
        self._integers = self._integers[:, keep].copy()
        self._recorded = self._recorded[:, keep].copy()


def _named(populations: Sequence[str], counts: Array) -> dict[str, int]:
    """Return what happened in each population, if it did, by name."""
    return {
        f"{name}/{what}": count
        for name, row in zip(populations, counts.tolist(), strict=True)
        for what, count in zip(("current wrapped", "voltage saturated"), row, strict=True)
        if count
    }


def _effort(layout: Layout, group: Sequence[int]) -> float:
    """Return about how many ns a step of a group takes."""
    found = 0.0
    for row in range(group[k.G_OUTER], group[k.G_INNER_END]):
        table = layout.connections[row]
        operator, target = layout.wires[row].operator, int(table[k.C_WIDTH])
        kind, synapses = int(table[k.C_KIND]), operator.weight.size
        if isinstance(operator, Conv2d):
            synapses = synapses // len(operator.weight) * target
        elif kind == k.SPARSE:  # a matrix, too, if it has few
            synapses = int(np.count_nonzero(operator.weight))
        found += synapses * _SYNAPSE[kind]
    inside = layout.populations[group[k.G_POPULATIONS] : group[k.G_POPULATIONS_END]]
    return found + float(inside[:, k.P_COUNT].sum()) * _NEURON


def _count(events: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        events[name] = events.get(name, 0) + count


def _tables(layout: Layout, probes: tuple[Probe, ...]) -> _Tables:
    """Return the table of populations that says what to record, and where it will be."""
    views = {item.name: item.view for item in layout.program.populations}
    lags = [lag for view in views.values() for lag in (view.lag, view.current_lag)]
    populations = layout.populations.copy()
    columns: dict[Probe, Columns] = {}
    width = 0
    for name, quantity in dict.fromkeys(probes):
        if quantity == "spikes":
            continue
        source = layout.sent[name]
        columns[name, quantity] = Columns(
            begin=width, count=source.count, shape=source.shape, order=source.order
        )
        which = k.P_VOLTAGE if quantity == "voltage" else k.P_CURRENT
        populations[layout.names.index(name), which] = width
        width += source.count
    most = max(0, *lags)
    back = max(1, layout.history, most - min(lags))
    recorded = np.zeros((1, back, width), layout.dtype)
    for (name, quantity), part in columns.items():
        begin = layout.state[name]
        initial = layout.initial[0 if quantity == "current" else 1]
        recorded[:, :, part.begin : part.begin + part.count] = initial[begin : begin + part.count]
    return _Tables(
        populations=populations,
        columns=columns,
        lags={
            (name, quantity): views[name].current_lag if quantity == "current" else views[name].lag
            for name, quantity in probes
        },
        lag=most,
        back=back,
        before=(
            np.zeros((1, back, layout.width), np.uint8),
            np.zeros((1, back, layout.integer_width), np.int32),
            recorded,
        ),
    )


def _part(stream: Array, columns: Columns, rows: slice) -> Array:
    """Return rows and columns of a stream."""
    return stream[:, rows, columns.begin : columns.begin + columns.count]


def _density(values: Array) -> float:
    return float(np.count_nonzero(values)) / max(1, values.size)


def _as_program(stream: Array, columns: Columns, rows: slice) -> Array:
    """Return rows and columns of a stream as ``[sample, step, *shape]``, without copying."""
    part = _part(stream, columns, rows)
    if columns.order is None:
        flat = len(columns.shape) == 1
        return part if flat else part.reshape(*part.shape[:2], *columns.shape)
    channels, high, wide = columns.shape
    picture: Array = part.reshape(*part.shape[:2], high, wide, channels).transpose(0, 1, 4, 2, 3)
    return picture


def _sums_width(layout: Layout) -> int:
    populations = layout.populations
    # The last vector of a picture's line may reach beyond the picture.
    return padded(int((populations[:, k.P_TARGET] + populations[:, k.P_COUNT]).max()) + 31)
