"""What a graph means: its equations run in float, step by step (rung F, and Q).

The order of operations is that of :mod:`spikec.compiler.ir`, left to right, as
frameworks have it, so that a float32 run differs from a framework's own at most
by the order of sums inside matrix products and convolutions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.entrance import refuse_few, taken
from spikec.compiler.ir import LIF, Graph, Input, Population
from spikec.compiler.operators import Operator, cast
from spikec.compiler.timeline import Link, State, Timeline, run_whole
from spikec.compiler.trace import Probe, Trace

__all__ = ["Equations", "in_source_units", "run", "session"]


def session(
    graph: Graph,
    *,
    samples: int,
    dtype: type[np.floating] = np.float64,
    probes: Sequence[Probe] | None = None,
) -> Timeline[Population]:
    """Return ``graph`` at its initial state, for ``samples`` samples side by side.

    Feed it chunks of a long stream: its state is carried from chunk to chunk. Chunks that the
    inputs do not take raise :class:`UsageError`, as :func:`run` does.
    """
    refuse_few(samples, "samples of a session")
    return _timeline(graph, samples, dtype, probes)


def _timeline(
    graph: Graph, samples: int, dtype: type[np.floating], probes: Sequence[Probe] | None
) -> Timeline[Population]:
    links = {
        node.name: tuple(
            Link(
                source=edge.source,
                delay=edge.delay + _shift(graph, edge.source),
                transmit=_transmit(edge.operator, dtype),
            )
            for edge in graph.edges_into(node.name)
        )
        for node in graph.populations
    }
    typed = {node.name: Equations(node, dtype) for node in graph.populations}
    return Timeline(
        entries=graph.inputs,
        samples=samples,
        order=graph.immediate_order(),
        links=links,
        initial={name: constants.initial(samples) for name, constants in typed.items()},
        advance=lambda node, state, arrivals: typed[node.name].advance(state, arrivals),
        probes=graph.default_probes if probes is None else probes,
        outputs=graph.outputs,
    )


def run(
    graph: Graph,
    inputs: Mapping[str, Array],
    *,
    dtype: type[np.floating] = np.float64,
    probes: Sequence[Probe] | None = None,
) -> Trace:
    """Run ``graph`` on ``inputs``, ``[sample, step, *shape]`` per input name.

    Records ``probes``, by default all spikes and the voltage of readouts.
    Voltages and currents are in the source framework's units. Raises :class:`UsageError`
    for arrays of another shape, values that an input does not take, and unknown probes.
    """
    arrays = taken(inputs, graph.inputs)
    samples = len(next(iter(arrays.values())))
    trace = run_whole(_timeline(graph, samples, dtype, probes), arrays)
    return in_source_units(graph, trace)


def in_source_units(graph: Graph, trace: Trace) -> Trace:
    """Return ``trace`` with rewritten voltages and currents expressed as the source does."""
    values = {}
    for (name, quantity), recorded in trace.values.items():
        node = graph[name]
        assert isinstance(node, Population)
        offset, scale = node.view.voltage_offset, node.view.current_scale
        values[name, quantity] = recorded
        if quantity == "voltage" and offset.any():
            values[name, quantity] = recorded + offset.astype(recorded.dtype)
        if quantity == "current" and (scale != 1).any():
            values[name, quantity] = recorded / scale.astype(recorded.dtype)
    return Trace(values=values, outputs=trace.outputs, events=trace.events)


def _shift(graph: Graph, name: str) -> int:
    node = graph[name]
    return node.shift if isinstance(node, Input) else 0


def _transmit(operator: Operator, dtype: type[np.floating]) -> Callable[[Array], Array]:
    typed = cast(operator, dtype)
    return lambda values: typed.apply(values.astype(dtype))


class Equations:
    """One population's parameters in the working precision, and its equations."""

    def __init__(self, node: Population, dtype: type[np.floating]) -> None:
        def typed(values: Array) -> Array:
            return values.astype(dtype)

        self.node = node
        self.dtype = dtype
        self.alpha = None if node.alpha is None else typed(node.alpha)
        self.beta, self.gain, self.bias, self.rest = map(
            typed, (node.beta, node.gain, node.bias, node.rest)
        )
        if isinstance(node, LIF):
            self.vth = typed(node.vth)
            self.amount = typed(node.reset_amount)
            self.reset_voltage = typed(node.reset_voltage)
        self.floor = None if node.floor is None else typed(node.floor)

    def initial(self, samples: int) -> State:
        """The state before step 0, for ``samples`` samples."""
        current, voltage = (
            np.repeat(values.astype(self.dtype)[None], samples, axis=0)
            for values in self.node.initial_state
        )
        silent = np.zeros(voltage.shape, np.uint8)
        return State(
            current=current, voltage=voltage, spikes=silent, idle=np.zeros(voltage.shape, np.int64)
        )

    def advance(self, state: State, arrivals: Sequence[Array]) -> State:
        """One step of the equations of :mod:`spikec.compiler.ir`."""
        current, voltage = self.integrate(state, arrivals)
        return self.settle(state, current, voltage, self.decide(state, voltage))

    def integrate(self, state: State, arrivals: Sequence[Array]) -> tuple[Array, Array]:
        """Current and voltage of the next step as the threshold sees them."""
        node = self.node
        current = self._synapse(state, arrivals)
        effective = current if node.coupling == "immediate" else state.current
        drive = self.gain * effective + self.bias
        if not isinstance(node, LIF):
            return current, self._leak(state.voltage, drive)
        return current, np.where(
            state.idle == 0, self._integrate(node, state, drive), state.voltage
        )

    def decide(self, state: State, voltage: Array) -> Array:
        """How often each neuron spikes at ``voltage``."""
        node = self.node
        if not isinstance(node, LIF):
            return state.spikes
        lowered = voltage - self.amount * self._left(state) if node.reset_twice else voltage
        spikes: Array = self._above(node, lowered) & (state.idle == 0)
        if node.max_spikes > 1:
            spikes = np.where(spikes, self._count(node, voltage), 0)
        return spikes

    def settle(self, state: State, current: Array, voltage: Array, spikes: Array) -> State:
        """The state that ``spikes`` at ``voltage`` leave behind."""
        node = self.node
        if not isinstance(node, LIF):
            return State(
                current=current, voltage=self._floored(voltage), spikes=spikes, idle=state.idle
            )
        if node.reset_twice:  # rounded as in snnTorch: what was taken off is given back
            left = self._left(state).astype(self.dtype)
            lowered = voltage - self.amount * left
            again = spikes.astype(self.dtype) - left
            voltage = np.where(state.idle == 0, lowered - again * self.amount, voltage)
        elif node.reset_order == "at_spike":
            voltage = self._reset(node, voltage, spikes)
        voltage = self._floored(voltage)
        idle = np.where(spikes, node.refractory, np.maximum(state.idle - 1, 0))
        return State(current=current, voltage=voltage, spikes=spikes.astype(np.uint8), idle=idle)

    def _synapse(self, state: State, arrivals: Sequence[Array]) -> Array:
        """``alpha i + x1 + x2 ...``, added one by one, as frameworks do."""
        if self.alpha is not None:
            return functools.reduce(np.add, arrivals, self.alpha * state.current)
        if not arrivals:
            return np.zeros_like(state.current)
        return functools.reduce(np.add, arrivals)

    def _leak(self, voltage: Array, drive: Array) -> Array:
        result: Array = self.rest + self.beta * (voltage - self.rest) + drive
        return result

    def _integrate(self, node: LIF, state: State, drive: Array) -> Array:
        """Leak and drive, with the reset of the last spike where it comes a step late."""
        if node.reset_order == "at_spike" or node.reset == "none":
            return self._leak(state.voltage, drive)
        spiked = state.spikes.astype(bool)
        if node.reset == "subtract":
            subtracted: Array = self._leak(state.voltage, drive) - self.amount * spiked
            return subtracted
        if node.reset_drops_input:
            return np.where(spiked, self.reset_voltage, self._leak(state.voltage, drive))
        return self._leak(np.where(spiked, self.reset_voltage, state.voltage), drive)

    def _left(self, state: State) -> Array:
        """Where the last reset left the voltage above threshold."""
        node = self.node
        assert isinstance(node, LIF)
        return self._above(node, state.voltage)

    def _above(self, node: LIF, voltage: Array) -> Array:
        above: Array = voltage > self.vth if node.compare == ">" else voltage >= self.vth
        return above

    def _count(self, node: LIF, voltage: Array) -> Array:
        """How often a voltage above threshold can be lowered while it is above, at least once.

        Written so that an amount equal to the threshold gives ``floor(u / vth)``, as
        sinabs and rockpool compute it.
        """
        ratio = (voltage - (self.vth - self.amount)) / self.amount
        times = np.floor(ratio) if node.compare == ">=" else np.ceil(ratio) - 1
        clipped: Array = np.clip(times, 1, node.max_spikes)
        return clipped

    def _floored(self, voltage: Array) -> Array:
        if self.floor is None:
            return voltage
        # As sinabs writes it, relu(u - floor) + floor: another order rounds otherwise.
        floored: Array = np.maximum(voltage - self.floor, 0) + self.floor
        return floored

    def _reset(self, node: LIF, voltage: Array, spikes: Array) -> Array:
        if node.reset == "none":
            return voltage
        if node.reset == "subtract":
            subtracted: Array = voltage - self.amount * spikes
            return subtracted
        return np.where(spikes, self.reset_voltage, voltage)
