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
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.fixedpoint import STATE_MAX
from spikec.compiler.ir import LIF, Graph, Population
from spikec.compiler.reference import Equations
from spikec.compiler.timeline import State
from spikec.compiler.trace import Trace
from spikec.compiler.verification.forcing import Arrivals, obstacle

__all__ = ["Breach", "Certificate", "certify"]

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
class Certificate:
    """One population: of ``decisions``, ``certified`` ones are proved equal on Q and I.

    ``explained`` flips lie within the bound of truncation. ``unexplained`` ones (spikes and
    voltages beyond it) must be 0; ``first`` shows the first of them. ``widest`` is the widest
    interval met, in units of v. ``proved_samples`` counts samples whose every decision is proved.
    A population that cannot be compared has ``reason`` and no decisions.
    """

    population: str
    decisions: int = 0
    certified: int = 0
    explained: int = 0
    unexplained: int = 0
    widest: float = 0.0
    proved_samples: int = 0
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
            widest=max(self.widest, other.widest),
            proved_samples=self.proved_samples + other.proved_samples,
            first=self.first or other.first,
            reason=self.reason,
        )


def certify(
    quantized: Graph, messages: Mapping[str, Array], integers: Trace, *, offset: int = 0
) -> tuple[Certificate, ...]:
    """Compare ``integers``, a run with spikes and voltages of all populations, with Q.

    ``quantized`` is the dequantized program and ``messages`` its integer input; ``offset`` is
    the number of the first sample.
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
        found.append(_Twin(quantized, node, sent, spikes, voltages, offset).run())
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
    ) -> None:
        self.node = node
        self.equations = Equations(node, np.float64)
        assert self.equations.alpha is not None
        self.alpha: Array = self.equations.alpha
        self.arrivals = Arrivals(graph, node.name, sent)
        self.spikes, self.voltages, self.offset = spikes, voltages, offset
        self.state = self.equations.initial(len(voltages))
        zero = np.zeros_like(self.state.voltage)
        self.current, self.voltage = _Interval(zero, zero), _Interval(zero, zero)
        # Neurons whose current may have wrapped: nothing is known of them any more.
        self.lost = np.zeros(zero.shape, bool)
        self.proved = np.ones(len(voltages), bool)
        self.result = Certificate(population=node.name)

    def run(self) -> Certificate:
        """Compare every recorded step."""
        lag = self.node.view.lag
        for step in range(max(self.node.start, lag), self.voltages.shape[1] + lag):
            self._step(step, step - lag)
        proved = int(self.proved.sum()) if self.result.decisions else 0
        return self.result + Certificate(population=self.node.name, proved_samples=proved)

    def _step(self, step: int, index: int) -> None:
        before = self.state
        current, voltage = self.equations.integrate(before, self.arrivals.at(step))
        voltage = np.clip(voltage, -STATE_MAX, STATE_MAX)
        last = self.voltage
        self._widen(before)
        reach = np.maximum(np.abs(current + self.current.low), np.abs(current + self.current.high))
        self.lost |= reach > STATE_MAX
        spikes = before.spikes
        if self.spikes is not None:
            spikes = self.spikes[:, index]
            self._decisions(before, last, voltage, spikes, index)
        state = self.equations.settle(before, current, voltage, spikes)
        clipped = np.clip(state.voltage, -STATE_MAX, STATE_MAX)
        self.state = State(
            current=np.clip(current, -STATE_MAX, STATE_MAX), voltage=clipped, spikes=state.spikes,
            idle=state.idle,
        )  # fmt: skip
        if self._resets_to_a_value("at_spike"):
            self.voltage = self.voltage.where(spikes > 0, 0.0)
        self._voltages(index, spikes)

    def _resets_to_a_value(self, order: str) -> bool:
        node = self.node
        return (
            isinstance(node, LIF) and node.reset_order == order and node.reset in ("zero", "value")
        )

    def _widen(self, before: State) -> None:
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
        self._add(widest=float(width.max(initial=0.0)))

    def _decisions(
        self, before: State, last: _Interval, voltage: Array, spikes: Array, index: int
    ) -> None:
        """Every spike lies between those of the ends of the interval.

        What a reset left above threshold (``reset_twice``) speaks against a spike: the least
        spikes follow from the upper end of the voltage ``before``, whose interval was ``last``.
        """
        ends = (
            (last.high, voltage + self.voltage.low),
            (last.low, voltage + self.voltage.high),
            (0.0, voltage),
        )
        least, most, ours = (
            self.equations.decide(replace(before, voltage=before.voltage + earlier), now).astype(
                np.int64
            )
            for earlier, now in ends
        )
        certain = (least == most) & ~self.lost
        wrong = ((spikes < least) | (spikes > most)) & ~self.lost
        self.proved &= certain.reshape(len(certain), -1).all(axis=1)
        self._add(
            decisions=int(certain.size),
            certified=int(certain.sum()),
            explained=int(((ours != spikes) & ~wrong & ~self.lost).sum()),
            unexplained=int(wrong.sum()),
            first=self._first(wrong, "spike", index, voltage, spikes),
        )

    def _voltages(self, index: int, spikes: Array) -> None:
        """Every integer voltage lies in its interval."""
        recorded = self.voltages[:, index]
        low, high = self.state.voltage + self.voltage.low, self.state.voltage + self.voltage.high
        wrong = ((recorded < low) | (recorded > high)) & ~self.lost
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
