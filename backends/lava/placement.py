"""Which Lava process runs each population, and why: stock wherever stock is exact."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX, VTH_SHIFT, decay, saturate24
from spikec.compiler.program import Neurons, Program

__all__ = ["Placement", "ProcessName", "placement"]

ProcessName: TypeAlias = Literal["LIF", "LIFReset", "ExactLIF"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The process of one population.

    ``stock`` processes are Lava's own; ``ExactLIF`` is ours and runs on CPUs only.
    ``held_voltage`` is the voltage a ``LIFReset`` has until it clears itself.
    """

    population: str
    process: ProcessName
    stock: bool
    reason: str
    held_voltage: int = 0


def placement(program: Program) -> tuple[Placement, ...]:
    """Return the process chosen for each population, in order, with the reason."""
    arrivals = _first_arrivals(program)
    return tuple(_place(item, arrivals.get(item.name)) for item in program.populations)


def _place(neurons: Neurons, first_arrival: int | None) -> Placement:
    obstacles = [*_other_neuron(neurons), *_out_of_range(neurons)]
    if obstacles:
        return _exact(neurons, "; ".join(obstacles))
    if neurons.start == 0:
        return _stock(neurons, "LIF", "resets to zero at the spike")
    if first_arrival is not None and first_arrival < neurons.start:
        return _exact(neurons, f"input of step {first_arrival} must not count before its start")
    if neurons.initial_current.any() or neurons.initial_voltage.any():
        return _exact(neurons, f"holds an initial state until step {neurons.start}")
    if not neurons.bias.any():
        return _stock(neurons, "LIF", f"resets to zero; rests at 0 until step {neurons.start}")
    return _cleared_at_start(neurons)


def _cleared_at_start(neurons: Neurons) -> Placement:
    """LIFReset clears what the bias did before the start, if it made no spike until then."""
    reason = f"resets to zero; cleared once, at step {neurons.start}, as its bias runs before"
    for held in (0, -STATE_MAX):
        if not _spikes_early(neurons, held):
            return _stock(neurons, "LIFReset", reason, held)
    return _exact(neurons, f"its bias alone would spike before its start at step {neurons.start}")


def _spikes_early(neurons: Neurons, held: int) -> bool:
    assert neurons.vth is not None
    voltage = np.full(neurons.shape, held, np.int64)
    for _ in range(neurons.start):
        voltage = saturate24(decay(voltage, DECAY_UNITY - neurons.dv) + neurons.bias)
        if (voltage > (neurons.vth << VTH_SHIFT)).any():
            return True
    return False


def _other_neuron(neurons: Neurons) -> Iterator[str]:
    """Yield what makes this another neuron than Lava's LIF."""
    if neurons.floor is not None:
        yield "its voltage has a floor"
    if neurons.vth is None:
        yield "never spikes: a leaky integrator"
        return
    clears = neurons.reset in ("zero", "value") and not _any(neurons.reset_value)
    if not clears:
        yield f"reset '{neurons.reset}' at '{neurons.reset_order}'"
    if neurons.reset_drops_input:
        yield "the reset drops that step's input"
    if neurons.refractory:
        yield f"{neurons.refractory} refractory steps"
    if neurons.max_spikes > 1:
        yield f"up to {neurons.max_spikes} spikes a step"
    for name, values in (("du", neurons.du), ("dv", neurons.dv), ("vth", neurons.vth)):
        if values.size and values.min() != values.max():
            yield f"{name} differs between neurons"


def _out_of_range(neurons: Neurons) -> Iterator[str]:
    """Yield what the registers of Lava's LIF cannot hold, though its CPU model might."""
    if _any(neurons.dv == DECAY_UNITY):
        yield "dv 4096 does not fit 12 bits"
    if neurons.vth is not None and _any(neurons.vth < 0):
        yield "vth is negative"
    if _any(neurons.bias_exp < 0):
        yield "bias_exp is negative"


def _first_arrivals(program: Program) -> dict[str, int]:
    """Return the first step at which something can arrive at each population."""
    first_sent = {item.name: item.shift for item in program.inputs}
    first_sent.update({item.name: item.start for item in program.populations})
    arrivals: dict[str, int] = {}
    for connection in program.connections:
        step = first_sent[connection.source] + connection.delay
        arrivals[connection.target] = min(step, arrivals.get(connection.target, step))
    return arrivals


def _any(values: Array | None) -> bool:
    return values is not None and bool(values.any())


def _stock(neurons: Neurons, process: ProcessName, reason: str, held: int = 0) -> Placement:
    return Placement(
        population=neurons.name, process=process, stock=True, reason=reason, held_voltage=held
    )


def _exact(neurons: Neurons, reason: str) -> Placement:
    return Placement(population=neurons.name, process="ExactLIF", stock=False, reason=reason)
