r"""The certificate from Q to I: which integer spikes the quantized float network proves.

Q and I differ in one thing only: each step, decays of u and v drop a fraction of one unit,
toward zero. Q is run beside I with I's own incoming spikes and resets, so that every
decision stands alone, and an interval that I's integers cannot leave is carried along::

    u_I - u_Q in [lo, hi],  lo' = alpha lo - t,  hi' = alpha hi + t,  t = 1

and for v likewise with beta, plus the interval of u. A truncation drops 4095/4096 at most,
float64 rounds far less than the rest. Truncation moves a number of known sign one way only:
t counts on that side. Where alpha or beta is 0 or 1 nothing is dropped.
A reset to a value makes the interval of v zero; subtraction, clipping at 24 bits and floors
leave it as it is, since none of them moves two numbers apart.

Where Q's distance to the threshold exceeds the interval the spike is proved. A spike on the
wrong side of a proved decision, or an integer voltage outside its interval, cannot come from
rounding: it is a bug, and there are no false alarms.

Q itself has no 24 bits. The twin that the interval is about is clipped as I is, and a second
voltage, without that, goes on beside it from the first clip on. While the two differ a decision is
*clipped*: neither proved nor explained, whatever it is. A reset to a value makes them equal again;
what a leak leaves of the difference is added to the interval once it is below one unit. Neurons
whose current may have wrapped are *wrapped* for the rest of the sample.

The answer of a sample is proved in the same way: what is read of each neuron lies in an interval,
and that of Q's class must end up above all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.fixedpoint import STATE_MAX
from spikec.compiler.ir import LIF, Graph, Population
from spikec.compiler.reference import Equations
from spikec.compiler.timeline import State
from spikec.compiler.trace import Readout, Trace, read_out
from spikec.compiler.verification.forcing import Arrivals, obstacle

__all__ = ["Answers", "Breach", "Certificate", "certify"]

#: More than truncation drops: 4095 of 4096 parts of a unit, and what float64 rounds.
_DROPPED = 1.0
#: More than float64 rounds in one step of numbers below 2**26.
_ROUNDED = 2.0**-20


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A decision or voltage that truncation cannot explain: where, and both sides in units of v.

    ``low`` to ``high`` is where the integer voltage must have been, before its reset for
    ``what`` 'spike', after it for 'voltage'.
    """

    what: str
    sample: int
    step: int
    population: str
    neuron: tuple[int, ...]
    spike: int
    low: float
    high: float
    threshold: float | None
    voltage: float


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The classes of ``samples`` as read from one output fed with I's own spikes.

    ``proved`` ones are those of Q, whatever truncation does. ``clipped`` ones were read from values
    that clipping moved, ``clipped_open`` of them without a proof. ``explained`` ones differ from
    Q's class within the bounds, ``unexplained`` ones although they were proved: a bug.
    """

    samples: int = 0
    proved: int = 0
    clipped: int = 0
    clipped_open: int = 0
    explained: int = 0
    unexplained: int = 0

    @property
    def proved_share(self) -> float | None:
        """The share of answers that are proved; None without any."""
        return self.proved / self.samples if self.samples else None

    def __add__(self, other: Answers) -> Answers:
        return Answers(
            **{
                item.name: getattr(self, item.name) + getattr(other, item.name)
                for item in fields(self)
            }
        )


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """One population: of ``decisions``, ``certified`` ones are proved equal on Q and I.

    ``clipped`` ones were made while clipping at 24 bits held a voltage away from Q's, and in
    ``clipped_flips`` of them Q spikes otherwise; ``wrapped`` ones after a current may have wrapped.
    ``explained`` flips lie within the bound of truncation. ``unexplained`` ones (spikes and
    voltages beyond it) must be 0; ``first`` shows the first of them. ``widest`` is the widest
    interval met, in units of v; from step ``open_from`` on it is wider than 24 bits reach, and
    nothing can be proved. ``proved_samples`` counts samples whose every decision is proved.
    An output that answers are read from has ``answers``.
    A population that cannot be compared has ``reason`` and no decisions.
    """

    population: str
    decisions: int = 0
    certified: int = 0
    explained: int = 0
    unexplained: int = 0
    clipped: int = 0
    clipped_flips: int = 0
    wrapped: int = 0
    widest: float = 0.0
    open_from: int | None = None
    proved_samples: int = 0
    answers: Answers | None = None
    first: Breach | None = None
    reason: str = ""

    @property
    def certified_share(self) -> float | None:
        """The share of decisions that are proved; None without any."""
        return self.certified / self.decisions if self.decisions else None

    def __add__(self, other: Certificate) -> Certificate:
        return Certificate(
            population=self.population,
            decisions=self.decisions + other.decisions,
            certified=self.certified + other.certified,
            explained=self.explained + other.explained,
            unexplained=self.unexplained + other.unexplained,
            clipped=self.clipped + other.clipped,
            clipped_flips=self.clipped_flips + other.clipped_flips,
            wrapped=self.wrapped + other.wrapped,
            open_from=min(
                (item for item in (self.open_from, other.open_from) if item is not None),
                default=None,
            ),
            answers=_both(self.answers, other.answers),
            widest=max(self.widest, other.widest),
            proved_samples=self.proved_samples + other.proved_samples,
            first=self.first or other.first,
            reason=self.reason,
        )


def _both(first: Answers | None, second: Answers | None) -> Answers | None:
    if first is None or second is None:
        return first or second
    return first + second


def certify(
    quantized: Graph,
    messages: Mapping[str, Array],
    integers: Trace,
    *,
    offset: int = 0,
    readout: Readout | None = None,
) -> tuple[Certificate, ...]:
    """Compare ``integers``, a run with spikes and voltages of all populations, with Q.

    ``quantized`` is the dequantized program and ``messages`` its integer input; ``offset`` is
    the number of the first sample. With ``readout`` the answers of the first output are looked at.
    """
    sent = {**messages, **_spikes(quantized, integers)}
    found = []
    for node in quantized.populations:
        reason = obstacle(quantized, node.name)
        if reason is not None:
            found.append(Certificate(population=node.name, reason=reason))
            continue
        spikes = integers.values.get((node.name, "spikes"))
        voltages = integers[node.name, "voltage"]
        score = None
        if readout is not None and node.name == quantized.outputs[0]:
            score = _Score(readout, read_out(integers, readout))
        found.append(_Twin(quantized, node, sent, spikes, voltages, offset, score).run())
    return tuple(found)


def _spikes(graph: Graph, trace: Trace) -> dict[str, Array]:
    return {
        node.name: trace.spikes(node.name) for node in graph.populations if isinstance(node, LIF)
    }


@dataclass
class _Interval:
    """Where an integer may lie beside its float twin, per neuron."""

    low: Array
    high: Array

    def decayed(self, values: Array, factor: Array) -> _Interval:
        """Return the interval after a decay of ``values`` (those before it)."""
        exact = (factor == 0) | (factor == 1)
        # Where the integer's sign is certain, truncation moves it one way only.
        down = np.where(values + self.high <= 0, _ROUNDED, _DROPPED)
        up = np.where(values + self.low >= 0, _ROUNDED, _DROPPED)
        return _Interval(
            low=factor * self.low - np.where(exact, 0.0, down),
            high=factor * self.high + np.where(exact, 0.0, up),
        )

    def where(self, condition: Array, other: _Interval | float) -> _Interval:
        """Return ``other`` where ``condition`` holds."""
        low, high = (other, other) if isinstance(other, float) else (other.low, other.high)
        return _Interval(
            low=np.where(condition, low, self.low), high=np.where(condition, high, self.high)
        )


class _Score:
    """What an output's answers are read from: Q's values, and the interval of I's."""

    def __init__(self, readout: Readout, classes: Array) -> None:
        self.readout, self.classes = readout, classes
        self.values: tuple[Array, Array, Array] | None = None
        self.clipped: Array = np.zeros(len(classes), bool)

    def add(self, low: Array, ours: Array, high: Array, clipped: Array) -> None:
        """Take one step: Q's values, where I's lie, and which of them clipping moved."""
        step = tuple(item.reshape(len(item), -1).astype(np.float64) for item in (low, ours, high))
        moved = clipped.reshape(len(clipped), -1).any(axis=1)
        if self.values is None or self.readout == "last-voltage":
            self.values, self.clipped = (step[0], step[1], step[2]), np.asarray(moved)
            return
        join = np.maximum if self.readout == "max-voltage" else np.add
        before = self.values
        self.values = (
            join(before[0], step[0]), join(before[1], step[1]), join(before[2], step[2])
        )  # fmt: skip
        self.clipped = np.logical_or(self.clipped, moved)

    def answers(self) -> Answers | None:
        """Compare the classes of Q and I; None before any step was taken."""
        if self.values is None:
            return None
        low, ours, high = self.values
        samples, wanted = np.arange(len(ours)), ours.argmax(axis=1)
        least = low[samples, wanted][:, None]
        others = high.copy()
        others[samples, wanted] = -np.inf
        # The first of equals wins: later ones may reach the winner, earlier ones may not.
        later = np.arange(ours.shape[1]) > wanted[:, None]
        proved: Array = ((others < least) | (later & (others <= least))).all(axis=1)
        differs = wanted != self.classes
        return Answers(
            samples=len(ours),
            proved=int(proved.sum()),
            clipped=int(self.clipped.sum()),
            clipped_open=int((self.clipped & ~proved).sum()),
            explained=int((differs & ~proved & ~self.clipped).sum()),
            unexplained=int((differs & proved).sum()),
        )


class _Twin:
    """One population of Q beside the recorded one of I."""

    def __init__(
        self,
        graph: Graph,
        node: Population,
        sent: Mapping[str, Array],
        spikes: Array | None,
        voltages: Array,
        offset: int,
        score: _Score | None = None,
    ) -> None:
        self.node = node
        self.score = score
        self.equations = Equations(node, np.float64)
        assert self.equations.alpha is not None
        self.alpha: Array = self.equations.alpha
        self.arrivals = Arrivals(graph, node.name, sent)
        self.spikes, self.voltages, self.offset = spikes, voltages, offset
        self.state = self.equations.initial(len(voltages))
        zero = np.zeros_like(self.state.voltage)
        self.current, self.voltage = _Interval(zero, zero), _Interval(zero, zero)
        # The voltage that Q has without 24 bits, and where clipping moved the twin away from it.
        self.free = self.state.voltage
        self.clipped = np.zeros(zero.shape, bool)
        self.leaks = np.broadcast_to(self.equations.beta < 1, zero.shape)
        # Neurons whose current may have wrapped, and those that went wrong: nothing more is
        # known of them.
        self.wrapped = np.zeros(zero.shape, bool)
        self.lost = np.zeros(zero.shape, bool)
        self.proved = np.ones(len(voltages), bool)
        self.result = Certificate(population=node.name)

    def run(self) -> Certificate:
        """Compare every recorded step."""
        lag = self.node.view.lag
        if self.score is not None:
            for _ in range(min(self.node.start, self.voltages.shape[1] + lag) - lag):
                self._wait(self.score)
        for step in range(max(self.node.start, lag), self.voltages.shape[1] + lag):
            self._step(step, step - lag)
        proved = int(self.proved.sum()) if self.result.decisions else 0
        answers = None if self.score is None else self.score.answers()
        return self.result + Certificate(
            population=self.node.name, proved_samples=proved, answers=answers
        )

    def _wait(self, score: _Score) -> None:
        """Add a step before the first: the voltage is the initial one, and nothing spikes."""
        held = np.zeros(self.free.shape) if score.readout == "spike-count" else self.free
        score.add(held, held, held, self.clipped)

    def _step(self, step: int, index: int) -> None:
        before, last = self.state, self.voltage
        arrivals = self.arrivals.at(step)
        current, voltage = self.equations.integrate(before, arrivals)
        loose = voltage
        if self.clipped.any():
            _, loose = self.equations.integrate(replace(before, voltage=self.free), arrivals)
        voltage = np.clip(voltage, -STATE_MAX, STATE_MAX)
        self.clipped = np.not_equal(loose, voltage)
        self._widen(before, index)
        reach = np.maximum(np.abs(current + self.current.low), np.abs(current + self.current.high))
        self.wrapped |= reach > STATE_MAX
        self.lost |= self.wrapped
        spikes = before.spikes
        if self.spikes is not None:
            spikes = self.spikes[:, index]
            self._decisions(before, last, voltage, loose, spikes, index)
        self._settle(before, current, voltage, loose, spikes)
        self._voltages(index, spikes)

    def _settle(
        self, before: State, current: Array, voltage: Array, loose: Array, spikes: Array
    ) -> None:
        """Take the state that ``spikes`` leave, of the twin and of Q's voltage without clipping."""
        state = self.equations.settle(before, current, voltage, spikes)
        freely = replace(before, voltage=self.free)
        self.free = state.voltage
        if self.clipped.any():
            self.free = self.equations.settle(freely, current, loose, spikes).voltage
        kept = np.clip(state.voltage, -STATE_MAX, STATE_MAX)
        if self._resets_to_a_value("at_spike"):
            self.voltage = self.voltage.where(spikes > 0, 0.0)
        gap = self.free - kept
        faded = self.leaks & (gap != 0) & (np.abs(gap) < 1) & (np.abs(self.free) <= STATE_MAX)
        if faded.any():
            self.voltage = _Interval(
                low=np.where(faded, np.minimum(self.voltage.low - gap, 0), self.voltage.low),
                high=np.where(faded, np.maximum(self.voltage.high - gap, 0), self.voltage.high),
            )
            kept = np.where(faded, self.free, kept)
        self.clipped = np.not_equal(self.free, kept)
        self.state = State(
            current=np.clip(current, -STATE_MAX, STATE_MAX), voltage=kept, spikes=state.spikes,
            idle=state.idle,
        )  # fmt: skip

    def _resets_to_a_value(self, order: str) -> bool:
        node = self.node
        return (
            isinstance(node, LIF) and node.reset_order == order and node.reset in ("zero", "value")
        )

    def _widen(self, before: State, index: int) -> None:
        """Carry both intervals over one step."""
        self.current = self.current.decayed(before.current, self.alpha)
        interval, values = self.voltage, before.voltage
        late = self._resets_to_a_value("next_step")
        if late:
            interval = interval.where(before.spikes > 0, 0.0)
            values = np.where(before.spikes > 0, self.equations.reset_voltage, values)
        after = interval.decayed(values, self.equations.beta)
        after = _Interval(low=after.low + self.current.low, high=after.high + self.current.high)
        if late and isinstance(self.node, LIF) and self.node.reset_drops_input:
            after = after.where(before.spikes > 0, 0.0)
        self.voltage = after.where(before.idle > 0, self.voltage)  # a refractory voltage is held
        width = np.where(self.lost, 0.0, self.voltage.high - self.voltage.low)
        widest = float(width.max(initial=0.0))
        self._add(widest=widest, open_from=index if widest > STATE_MAX else None)

    def _decisions(
        self,
        before: State,
        last: _Interval,
        voltage: Array,
        loose: Array,
        spikes: Array,
        index: int,
    ) -> None:
        """Every spike lies between those of the ends of the interval.

        What a reset left above threshold (``reset_twice``) speaks against a spike: the least
        spikes follow from the upper end of the voltage ``before``, whose interval was ``last``.
        ``loose`` is Q's own voltage, which no 24 bits clip.
        """
        ends = (
            (before.voltage + last.high, voltage + self.voltage.low),
            (before.voltage + last.low, voltage + self.voltage.high),
            (self.free, loose),
        )
        least, most, ours = (
            self.equations.decide(replace(before, voltage=earlier), now).astype(np.int64)
            for earlier, now in ends
        )
        wrong = ((spikes < least) | (spikes > most)) & ~self.lost
        clipped = self.clipped & ~self.wrapped
        certain = (least == most) & ~self.lost & ~self.clipped
        flips = (ours != spikes) & ~wrong & ~self.lost
        self.proved &= certain.reshape(len(certain), -1).all(axis=1)
        self._add(
            decisions=int(certain.size),
            certified=int(certain.sum()),
            explained=int((flips & ~self.clipped).sum()),
            unexplained=int(wrong.sum()),
            clipped=int(clipped.sum()),
            clipped_flips=int((flips & self.clipped).sum()),
            wrapped=int(self.wrapped.sum()),
            first=self._first(wrong, "spike", index, voltage, spikes),
        )
        if self.score is not None and self.score.readout == "spike-count":
            unknown = np.iinfo(np.uint8).max
            self.score.add(
                np.where(self.lost, 0, least), ours, np.where(self.lost, unknown, most),
                self.clipped,
            )  # fmt: skip

    def _voltages(self, index: int, spikes: Array) -> None:
        """Every integer voltage lies in its interval."""
        recorded = self.voltages[:, index]
        low, high = self.state.voltage + self.voltage.low, self.state.voltage + self.voltage.high
        wrong = ((recorded < low) | (recorded > high)) & ~self.lost
        if self.score is not None and self.score.readout != "spike-count":
            beyond = float(STATE_MAX + 1)
            self.score.add(
                np.where(self.lost, -beyond, low), self.free, np.where(self.lost, beyond, high),
                self.clipped,
            )  # fmt: skip
        if wrong.any():
            first = self._first(wrong, "voltage", index, self.state.voltage, spikes)
            self._add(unexplained=int(wrong.sum()), first=first)
            # What follows from a wrong voltage is the same bug: count it once.
            self.lost |= wrong

    def _first(
        self, wrong: Array, what: str, index: int, voltage: Array, spikes: Array
    ) -> Breach | None:
        if not wrong.any():
            return None
        place = tuple(int(item) for item in np.argwhere(wrong)[0])
        threshold = None
        if isinstance(self.node, LIF):
            threshold = float(self.node.vth[place[1:]])
        return Breach(
            what=what,
            sample=self.offset + place[0],
            step=index,
            population=self.node.name,
            neuron=place[1:],
            spike=int(spikes[place]),
            low=float(voltage[place] + self.voltage.low[place]),
            high=float(voltage[place] + self.voltage.high[place]),
            threshold=threshold,
            voltage=float(self.voltages[:, index][place]),
        )

    def _add(self, **found: object) -> None:
        self.result = self.result + Certificate(population=self.node.name, **found)  # type: ignore[arg-type]
