"""Q in rational numbers: a population of a program without truncation, wrapping or 24 bits.

Plain loops over one neuron at a time, written from the equations, apart from the product's code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.program import Neurons, Program

__all__ = ["Exact", "exact_q"]


@dataclass
class Exact:
    """What a population does, fed with recorded spikes: decisions, and voltages after resets."""

    decisions: Array
    voltages: list[list[list[Fraction]]] = field(default_factory=list)


@dataclass
class _State:
    current: Fraction
    voltage: Fraction
    idle: int = 0
    spikes: int = 0


def exact_q(program: Program, neurons: Neurons, sent: Mapping[str, Array]) -> Exact:
    """Run ``neurons`` on what every source ``sent[name][sample, step, ...]``, its own spikes too.

    Recorded steps are the population's own (no lag).
    """
    samples, steps = next(iter(sent.values())).shape[:2]
    arriving = _arriving(program, neurons, sent, samples, steps)
    own = sent.get(neurons.name, np.zeros((samples, steps, *neurons.shape), np.uint8))
    own = own.reshape(samples, steps, -1)
    found = Exact(np.zeros((samples, steps, neurons.num_neurons), np.int64))
    for sample in range(samples):
        states = [
            _State(Fraction(int(u)), Fraction(int(v)))
            for u, v in zip(neurons.initial_current.flat, neurons.initial_voltage.flat, strict=True)
        ]
        rows = []
        for step in range(steps):
            for place, state in enumerate(states):
                if step >= neurons.start:
                    spikes = int(own[sample, step, place])
                    found.decisions[sample, step, place] = _advance(
                        neurons, place, state, int(arriving[sample, step, place]), spikes
                    )
            rows.append([state.voltage for state in states])
        found.voltages.append(rows)
    return found


def _arriving(
    program: Program, neurons: Neurons, sent: Mapping[str, Array], samples: int, steps: int
) -> Array:
    total = np.zeros((samples, steps, neurons.num_neurons), np.int64)
    shifts = {item.name: item.shift for item in program.inputs}
    for connection in program.connections_into(neurons.name):
        late = connection.delay + shifts.get(connection.source, 0)
        values = sent[connection.source].astype(np.int64)
        for step in range(late, steps):
            brought = connection.effective.apply(values[:, step - late])
            total[:, step] += brought.reshape(samples, -1)
    return total


def _advance(neurons: Neurons, place: int, state: _State, arrived: int, spikes: int) -> int:
    """One step of one neuron, which then resets as ``spikes`` says; return its own decision."""

    def own(values: Array | None) -> int:
        return 0 if values is None else int(np.broadcast_to(values, neurons.shape).flat[place])

    state.current = state.current * Fraction(4095 - own(neurons.du), 4096) + 64 * arrived
    late = neurons.reset_order == "next_step" and state.spikes > 0
    before, drive = state.voltage, state.current + own(neurons.bias)
    if late and neurons.reset in ("zero", "value"):
        before = Fraction(own(neurons.reset_value))
    if late and neurons.reset == "subtract":
        drive -= own(neurons.reset_amount)
    voltage = before * Fraction(4096 - own(neurons.dv), 4096) + drive
    if late and neurons.reset_drops_input:
        voltage = Fraction(own(neurons.reset_value))
    if state.idle:
        voltage = state.voltage
    decision = _decision(neurons, own, state, voltage)
    if neurons.vth is not None and neurons.reset_order == "at_spike":
        if neurons.reset == "subtract":
            voltage -= own(neurons.reset_amount) * spikes
        elif neurons.reset != "none" and spikes:
            voltage = Fraction(own(neurons.reset_value))
    if neurons.floor is not None:
        voltage = max(voltage, Fraction(own(neurons.floor)))
    state.voltage, state.spikes = voltage, spikes
    state.idle = neurons.refractory if spikes else max(state.idle - 1, 0)
    return decision


def _decision(neurons: Neurons, own: object, state: _State, voltage: Fraction) -> int:
    if neurons.vth is None or state.idle:
        return 0
    assert callable(own)
    above = voltage - 64 * own(neurons.vth)
    if neurons.reset_twice and state.voltage > 64 * own(neurons.vth):
        above -= own(neurons.reset_amount)
    if above <= 0:
        return 0
    if neurons.max_spikes == 1:
        return 1
    return min(neurons.max_spikes, ceil(above / own(neurons.reset_amount)))
