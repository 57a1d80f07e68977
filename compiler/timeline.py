"""Time: delays, lags and carried state, shared by every step-by-step run.

The arithmetic of one step is handed in as a function. What is here is the
order of things: within a step populations run in the given order, an edge
delivers what its source gave ``delay`` steps ago, and a recorded value is
reported at the source framework's step.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from spikec.compiler.arrays import Array, Shape
from spikec.compiler.entrance import Entry, checked, refuse_after_last
from spikec.compiler.ir import SourceView
from spikec.compiler.trace import Probe, Quantity, Trace, check_probes

__all__ = ["Link", "State", "Timeline", "run_whole"]


class _Population(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> Shape: ...
    @property
    def start(self) -> int: ...
    @property
    def view(self) -> SourceView: ...


_P = TypeVar("_P", bound=_Population)


@dataclass(frozen=True, eq=False, kw_only=True)
class State:
    """All that a population remembers between steps, each ``[sample, *neurons]``.

    ``spikes`` are those of the last step, ``idle`` the refractory steps left.
    """

    current: Array
    voltage: Array
    spikes: Array
    idle: Array

    def get(self, quantity: Quantity) -> Array:
        """Return one recorded quantity."""
        if quantity == "spikes":
            return self.spikes
        return self.voltage if quantity == "voltage" else self.current


@dataclass(frozen=True, eq=False, kw_only=True)
class Link:
    """An edge at work: what ``source`` gave ``delay`` steps ago, through ``transmit``."""

    source: str
    delay: int
    transmit: Callable[[Array], Array]


class Timeline(Generic[_P]):
    """A network in time, with its own state; feed it chunks of steps in order.

    ``advance(population, state, arrivals)`` gives the next state; arrivals come in
    the order of ``links``, the incoming edges of each population. Steps given so
    far and steps reported so far differ by the lags: :meth:`finish` flushes what
    is still on its way.
    """

    def __init__(
        self,
        *,
        entries: Sequence[Entry],
        samples: int,
        order: Sequence[_P],
        links: Mapping[str, Sequence[Link]],
        initial: Mapping[str, State],
        advance: Callable[[_P, State, Sequence[Array]], State],
        probes: Sequence[Probe],
        outputs: tuple[str, ...],
    ) -> None:
        check_probes(probes, [population.name for population in order])
        self._entries, self._samples = entries, samples
        self._order = tuple(order)
        self._links = links
        self._states = dict(initial)
        self._advance = advance
        self._outputs = outputs
        self._silence: Mapping[str, Array] = {}
        self._step = 0
        self._given = 0
        self._reported = 0
        self._over = False
        self._past: dict[str, deque[Array]] = {
            link.source: deque() for group in links.values() for link in group
        }
        for group in links.values():
            for link in group:
                longest = max(link.delay, self._past[link.source].maxlen or 0)
                self._past[link.source] = deque(maxlen=longest)
        views = {population.name: population.view for population in order}
        # All populations run as long as the latest, whatever is recorded.
        self._longest_lag = max(
            (max(0, view.lag, view.current_lag) for view in views.values()), default=0
        )
        self._lags = {
            (name, quantity): views[name].current_lag if quantity == "current" else views[name].lag
            for name, quantity in probes
        }
        # A negative lag reads steps before the first one: the initial state.
        self._records: dict[Probe, deque[Array]] = {
            probe: deque([self._states[probe[0]].get(probe[1])] * max(0, -lag))
            for probe, lag in self._lags.items()
        }

    def run(self, inputs: Mapping[str, Array]) -> Trace:
        """Take a chunk, ``[sample, step, *shape]`` per input, and report what is complete."""
        refuse_after_last(over=self._over)
        inputs = checked(inputs, self._entries, samples=self._samples)
        steps = next(iter(inputs.values())).shape[1]
        for step in range(steps):
            self._tick({name: values[:, step] for name, values in inputs.items()})
        self._silence = {
            name: np.zeros((len(values), *values.shape[2:]), values.dtype)
            for name, values in inputs.items()
        }
        self._given += steps
        return self._report()

    def finish(self) -> Trace:
        """Run on with silent input until every step given has been reported."""
        self._over = True
        if self._given:
            for _ in range(self._longest_lag):
                self._tick(self._silence)
        return self._report()

    def _tick(self, inputs: Mapping[str, Array]) -> None:
        now = dict(inputs)
        for population in self._order:
            state = self._states[population.name]
            if self._step >= population.start:
                state = self._advance(population, state, self._arriving(population, state, now))
                self._states[population.name] = state
            now[population.name] = state.spikes
        for name, past in self._past.items():
            past.appendleft(now[name])
        for (name, quantity), record in self._records.items():
            if self._step >= self._lags[name, quantity]:
                record.append(self._states[name].get(quantity))
        self._step += 1

    def _arriving(self, population: _P, state: State, now: Mapping[str, Array]) -> list[Array]:
        arrivals = []
        for link in self._links[population.name]:
            past = self._past[link.source]
            if link.delay > len(past):
                continue  # nothing was sent that long ago
            sent = past[link.delay - 1] if link.delay else now[link.source]
            arrivals.append(link.transmit(sent).reshape(state.current.shape))
        return arrivals

    def _report(self) -> Trace:
        ready = min((len(record) for record in self._records.values()), default=0)
        count = min(ready, self._given - self._reported)
        self._reported += count
        values: dict[Probe, Array] = {}
        for probe, record in self._records.items():
            rows = [record.popleft() for _ in range(count)]
            state = self._states[probe[0]].get(probe[1])
            empty = np.empty((len(state), 0, *state.shape[1:]), state.dtype)
            values[probe] = np.stack(rows, axis=1) if rows else empty
        return Trace(values=values, outputs=self._outputs)


def run_whole(timeline: Timeline[_P], inputs: Mapping[str, Array]) -> Trace:
    """Run all of ``inputs`` at once and report every step of it."""
    return Trace.joined([timeline.run(inputs), timeline.finish()], axis="step")
