"""The meaning of a program: its integers, step by step, in plain NumPy (rung I).

This is the definition the other engines are tested against, bit for bit, so it
stays close to the equations of :mod:`spikec.compiler.program`. Sums of products
are taken in float64, where integers below 2**53 are exact; that bound is
checked when a program is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from spikec.backends.simulator import encoders, resonators
from spikec.compiler.arrays import Array
from spikec.compiler.bounds import refused_sums
from spikec.compiler.convolutions import is_cut, parts_into, summed
from spikec.compiler.errors import BackendError, Diagnostic, raise_if_any
from spikec.compiler.fixedpoint import (
    ACTIVATION_SHIFT,
    DECAY_UNITY,
    STATE_MAX,
    VTH_SHIFT,
    align,
    decay,
    saturate24,
    wrap24,
)
from spikec.compiler.inputs import to_integers
from spikec.compiler.operators import Weighted, row_sums, with_weight
from spikec.compiler.program import Connection, Neurons, Populated, Program
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import SigmaDelta
from spikec.compiler.timeline import Link, State, Timeline, run_whole
from spikec.compiler.trace import Probe, Trace

__all__ = ["Chunks", "Golden", "advance", "refuse_wrapped", "run", "session"]

#: Integers beyond this are not exact in float64.
_EXACT = 1 << 53


class Golden(Timeline[Populated]):
    """A program at work; :attr:`events` counts what wrapped or saturated so far."""

    def __init__(self, program: Program, *, samples: int, probes: Sequence[Probe]) -> None:
        self.program = program
        self.events: dict[str, int] = {}
        raise_if_any(BackendError, list(refused_sums(program)))
        super().__init__(
            entries=program.inputs,
            samples=samples,
            order=program.populations,
            links=_links(program, self._count),
            initial={item.name: _initial(item, samples) for item in program.populations},
            advance=self._advance_counted,
            probes=probes,
            outputs=program.outputs,
        )

    def _count(self, what: str, count: int) -> None:
        if count:
            self.events[what] = self.events.get(what, 0) + count

    def _advance_counted(
        self, population: Populated, state: State, arrivals: Sequence[Array]
    ) -> State:
        if isinstance(population, SigmaDelta):
            assert isinstance(state, encoders.Coded)
            return encoders.advance(population, state, arrivals, self._count)
        if isinstance(population, Resonator):
            return resonators.advance(population, state, arrivals, self._count)
        after, wrapped, saturated = advance(population, state, arrivals)
        self._count(f"{population.name}/current wrapped", wrapped)
        self._count(f"{population.name}/voltage saturated", saturated)
        return after


def advance(neurons: Neurons, state: State, arrivals: Sequence[Array]) -> tuple[State, int, int]:
    """One step; also how many currents left +-(2**23 - 1) and how many voltages were clipped."""
    arriving = sum(arrivals, start=np.zeros_like(state.current))
    spiked = state.spikes.astype(bool)
    summed = decay(state.current, DECAY_UNITY - (neurons.du + 1)) + align(
        arriving, ACTIVATION_SHIFT
    )
    current = wrap24(summed)

    before = state.voltage
    if neurons.reset_order == "next_step" and neurons.reset in ("zero", "value"):
        before = np.where(spiked, _reset_voltage(neurons), before)
    drive = current + neurons.bias
    if neurons.reset_order == "next_step" and neurons.reset == "subtract":
        drive = drive - neurons.reset_amount * spiked
    unbounded = decay(before, DECAY_UNITY - neurons.dv) + drive
    if neurons.reset_drops_input:
        unbounded = np.where(spiked, _reset_voltage(neurons), unbounded)
    active = state.idle == 0
    unbounded = np.where(active, unbounded, state.voltage)
    voltage = saturate24(unbounded)

    wrapped = int((np.abs(summed) > STATE_MAX).sum())
    saturated = int((voltage != unbounded).sum())
    if neurons.vth is None:
        voltage = _floored(neurons, voltage)
        after = State(current=current, voltage=voltage, spikes=state.spikes, idle=state.idle)
        return after, wrapped, saturated

    above = voltage - align(neurons.vth, VTH_SHIFT)
    if neurons.reset_twice:
        left = state.voltage > align(neurons.vth, VTH_SHIFT)
        above = above - neurons.reset_amount * left
    spikes = (above > 0) & active
    if neurons.max_spikes > 1:
        times = -(-above // neurons.reset_amount)  # rounded up: the last one ends at or below
        spikes = np.where(spikes, np.minimum(times, neurons.max_spikes), 0)
    if neurons.reset_order == "at_spike":
        lowered = _reset_at_spike(neurons, voltage, spikes)
        voltage = saturate24(lowered)
        saturated += int((voltage != lowered).sum())
    voltage = _floored(neurons, voltage)
    idle = np.where(spikes, neurons.refractory, np.maximum(state.idle - 1, 0))
    after = State(current=current, voltage=voltage, spikes=spikes.astype(np.uint8), idle=idle)
    return after, wrapped, saturated


def session(program: Program, *, samples: int, probes: Sequence[Probe] | None = None) -> Golden:
    """Return ``program`` at its initial state, to be fed chunks of integer input."""
    return Golden(
        program,
        samples=samples,
        probes=program.default_probes if probes is None else probes,
    )


def run(
    program: Program,
    inputs: Mapping[str, Array],
    *,
    probes: Sequence[Probe] | None = None,
    strict: bool = False,
) -> Trace:
    """Run ``program`` on ``inputs``, ``[sample, step, *shape]`` per input name.

    Voltages and currents come as the chip's integers. ``trace.events`` counts
    wraps, saturations and clipped inputs; with ``strict`` a wrapped current
    raises :class:`BackendError`.
    """
    integers, clipped = to_integers(program, inputs)
    samples = len(next(iter(integers.values())))
    golden = session(program, samples=samples, probes=probes)
    trace = run_whole(golden, integers)
    if strict:
        refuse_wrapped(golden.events)
    return Trace(values=trace.values, outputs=trace.outputs, events={**clipped, **golden.events})


class Chunks:
    """A session that takes data as they are read, and flushes its lags after the last chunk."""

    def __init__(self, program: Program, *, samples: int, probes: Sequence[Probe]) -> None:
        self._golden = session(program, samples=samples, probes=probes)

    @property
    def events(self) -> Mapping[str, int]:
        """What wrapped or saturated so far."""
        return self._golden.events

    def run(self, inputs: Mapping[str, Array], *, last: bool = False) -> Trace:
        """Take the next steps; ``trace.events`` counts the inputs clipped among them."""
        integers, clipped = to_integers(self._golden.program, inputs)
        parts = [self._golden.run(integers), *([self._golden.finish()] if last else [])]
        trace = Trace.joined(parts, axis="step")
        return Trace(values=trace.values, outputs=trace.outputs, events=clipped)


def refuse_wrapped(events: Mapping[str, int]) -> None:
    """Raise :class:`BackendError` if any current wrapped, or a sigma-delta state left 24 bits."""
    wrapped = any(key.endswith("current wrapped") for key in events)
    if wrapped or any(key.endswith("left 24 bits") for key in events):
        what = "currents" if wrapped else "states"
        raise BackendError(
            Diagnostic(
                code="B010",
                where="simulator",
                message=f"{what} left 24 bits: {dict(events)}",
                hint="quantize with a smaller scale; the overflow proof prevents this",
            )
        )


def _links(program: Program, count: encoders.Count) -> dict[str, tuple[Link, ...]]:
    bounds = program.message_bounds
    shifts = {item.name: item.shift for item in program.inputs}
    return {
        item.name: tuple(
            Link(
                source=parts[0].source,
                delay=parts[0].delay + shifts.get(parts[0].source, 0),
                transmit=_transmit(program, parts, max(map(abs, bounds[parts[0].source])), count),
            )
            for parts in parts_into(program, item.name)
        )
        for item in program.populations
    }


def _transmit(
    program: Program, parts: Sequence[Connection], bound: int, count: encoders.Count
) -> Callable[[Array], Array]:
    transmit, connection = _Transmit(parts, bound), parts[0]
    target = program.population(connection.target)
    if isinstance(target, Resonator) and connection.name in target.imaginary:
        return lambda values: transmit(values) * 1j
    if not is_cut(program, connection):
        return transmit
    return lambda values: _narrowed(transmit(values), target.name, count)


def _narrowed(values: Array, target: str, count: encoders.Count) -> Array:
    narrow = encoders.narrowed(values)
    count(f"{target}/input left 24 bits", int((narrow != values).sum()))
    return narrow


class _Transmit:
    """Weights times arrivals in float64, refused where that could round."""

    def __init__(self, parts: Sequence[Connection], bound: int) -> None:
        effective = summed(parts)
        self._operator: Weighted = with_weight(effective, effective.weight.astype(np.float64))
        if row_sums(effective).max(initial=0) * bound >= _EXACT:
            raise BackendError(
                Diagnostic(
                    code="B011",
                    where=f"connection '{parts[0].name}'",
                    message="sums of products can pass 2**53 and would round",
                )
            )

    def __call__(self, values: Array) -> Array:
        return self._operator.apply(values.astype(np.float64)).astype(np.int64)


def _initial(neurons: Populated, samples: int) -> State:
    if isinstance(neurons, SigmaDelta):
        return encoders.initial(neurons, samples)
    if isinstance(neurons, Resonator):
        return resonators.initial(neurons, samples)
    shape = (samples, *neurons.shape)
    return State(
        current=np.broadcast_to(neurons.initial_current, shape).astype(np.int64),
        voltage=np.broadcast_to(neurons.initial_voltage, shape).astype(np.int64),
        spikes=np.zeros(shape, np.uint8),
        idle=np.zeros(shape, np.int64),
    )


def _reset_voltage(neurons: Neurons) -> Array | int:
    return 0 if neurons.reset_value is None else neurons.reset_value


def _floored(neurons: Neurons, voltage: Array) -> Array:
    return voltage if neurons.floor is None else np.maximum(voltage, neurons.floor)


def _reset_at_spike(neurons: Neurons, voltage: Array, spikes: Array) -> Array:
    if neurons.reset == "none":
        return voltage
    if neurons.reset == "subtract":
        subtracted: Array = voltage - neurons.reset_amount * spikes
        return subtracted
    return np.where(spikes, _reset_voltage(neurons), voltage)
