"""Which Lava process runs each part of a program, and why: stock wherever stock is exact."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from spikec.backends.lava import graded
from spikec.backends.lava.encoders import carried_by_conv, goes_straight
from spikec.compiler.arrays import Array, IntArray
from spikec.compiler.bounds import highest_current
from spikec.compiler.convolutions import parts_into
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX, VTH_SHIFT, decay, saturate24
from spikec.compiler.operators import Conv2d, Sparse, written_out
from spikec.compiler.program import Connection, Neurons, Populated, Program
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import Encoding, SigmaDelta
from spikec.compiler.storage import Storage, storages

__all__ = [
    "MAX_DELAY",
    "MAX_VTH",
    "EdgePlacement",
    "Placement",
    "ProcessName",
    "edge_placement",
    "edge_refusal",
    "placement",
    "shared_stores",
]

#: DelayDense takes delays up to 62 (Lava hangs above 63) and one step more.
MAX_DELAY = 63
#: The largest threshold of a stock LIF, as it is given and as it is compared with v.
MAX_VTH = (1 << 17) - 1
_HIGHEST = MAX_VTH << VTH_SHIFT

ProcessName: TypeAlias = Literal[
    "LIF", "LIFReset", "GradedReluVec", "ExactLIF",
    "Delta", "SigmaDelta", "Sigma", "RF", "RF_IZ",
]  # fmt: skip
EdgeProcess: TypeAlias = Literal["Dense", "DelayDense", "Sparse", "DelaySparse", "Conv", "none"]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The process of one population.

    ``stock`` processes are Lava's own; ``ExactLIF`` is ours and runs on CPUs only. A population
    of ``GradedReluVec`` is put together as :mod:`spikec.backends.lava.graded` says.
    ``held_voltage`` is the voltage a ``LIFReset`` has until it clears itself. ``alternative``
    is what would make the population stock.
    """

    population: str
    process: ProcessName
    stock: bool
    reason: str
    held_voltage: int = 0
    alternative: str = ""


@dataclass(frozen=True, kw_only=True)
class EdgePlacement:
    """The process of one connection; None where Lava has none that does the same.

    ``none`` is no process at all: values go straight from an input into a population.
    """

    connection: str
    process: EdgeProcess | None
    reason: str
    alternative: str = ""


def placement(program: Program, own: Collection[str] = ()) -> tuple[Placement, ...]:
    """Return the process chosen for each population, in order, with the reason.

    ``own`` names populations that are not to be put together from graded processes.
    """
    arrivals = _first_arrivals(program)
    return tuple(
        _place(program, item, arrivals.get(item.name), own=item.name in own)
        for item in program.populations
    )


def edge_placement(program: Program) -> tuple[EdgePlacement, ...]:
    """Return the process that carries each connection for one sample, in order."""
    units = {item.population for item in placement(program) if item.process == "GradedReluVec"}
    shared = shared_stores(program)
    return tuple(
        _carried(program, item, units, shared.get(item.name)) for item in program.connections
    )


def shared_stores(program: Program) -> dict[str, Storage]:
    """Return by connection the stores of several that one process carries, a delay a synapse."""
    return {
        item.name: stored
        for stored in storages(program)
        for item in stored.connections
        if len(stored.connections) > 1
        and not any(_by_itself(program, one) for one in stored.connections)
    }


def _by_itself(program: Program, connection: Connection) -> bool:
    """Say whether ``connection`` shares no process with those of other delays."""
    alone = goes_straight(program, connection) or carried_by_conv(program, connection)
    return alone or edge_refusal(connection) is not None


def edge_refusal(connection: Connection) -> Diagnostic | None:
    """Return why Lava cannot carry ``connection``, if it cannot."""
    where = f"connection '{connection.name}'"
    if connection.delay > MAX_DELAY:
        return Diagnostic(
            code="B042",
            where=where,
            message=f"a delay of {connection.delay} steps: Lava takes {MAX_DELAY} at most",
            hint="insert a population that passes the spikes on, or shorten the delay",
        )
    if not isinstance(connection.operator, Sparse):
        return None
    try:
        written_out(connection.operator)
    except ValueError as error:
        return Diagnostic(
            code="B046",
            where=where,
            message=f"Lava's processes get matrices: {error}",
            hint="run it with --backend simulator",
        )
    return None


def _first_part(program: Program, connection: Connection) -> bool:
    """Say whether ``connection`` is not a further part of a convolution."""
    return any(parts[0] is connection for parts in parts_into(program, connection.target))


def _carried(
    program: Program, connection: Connection, units: Collection[str], shared: Storage | None
) -> EdgePlacement:
    if goes_straight(program, connection):
        return EdgePlacement(
            connection=connection.name,
            process="none",
            reason="values go straight into the Delta, as in netx",
        )
    refused = edge_refusal(connection)
    if refused is not None:
        return EdgePlacement(
            connection=connection.name,
            process=None,
            reason=refused.message,
            alternative=refused.hint or "",
        )
    if carried_by_conv(program, connection):
        return EdgePlacement(
            connection=connection.name,
            process="Conv",
            reason="one step on its way; integers as messages, weights with their exponent"
            + ("" if _first_part(program, connection) else "; with those of the other part"),
        )
    reasons = ["one step on its way" if connection.delay == 1 else f"{connection.delay} steps"]
    if isinstance(connection.operator, Conv2d):
        reasons.append("a matrix: Lava's Conv ignores exponents and widths of weights")
    if isinstance(connection.operator, Sparse):
        reasons.append("a matrix for one sample, Sparse for several")
    if connection.target in units:
        reasons.append("to all three units")
    at_once = connection.delay == 1 if shared is None else shared.longest == 1
    if shared is not None:
        reasons.append(f"one process for {len(shared.connections)} of them")
    if connection.source in units:
        reasons.append("from one unit of three")
        return EdgePlacement(
            connection=connection.name,
            process="Sparse" if at_once else "DelaySparse",
            reason="; ".join(reasons),
        )
    return EdgePlacement(
        connection=connection.name,
        process="Dense" if at_once else "DelayDense",
        reason="; ".join(reasons),
    )


def _lif(program: Program, neurons: Neurons, first_arrival: int | None) -> Placement:
    obstacles = [*_other_neuron(neurons), *_out_of_range(neurons), *_may_spike(program, neurons)]
    if obstacles:
        return _exact(neurons, *_joined(obstacles))
    if neurons.start == 0:
        return _stock(neurons, "LIF", _kind(neurons, "resets to zero at the spike"))
    if first_arrival is not None and first_arrival < neurons.start:
        return _exact(neurons, *_too_early(first_arrival))
    if neurons.initial_current.any() or neurons.initial_voltage.any():
        return _exact(
            neurons, f"holds an initial state until step {neurons.start}", "an initial state of 0"
        )
    if not neurons.bias.any():
        reason = f"{_kind(neurons)}; rests at 0 until step {neurons.start}"
        return _stock(neurons, "LIF", reason)
    return _cleared_at_start(neurons)


def _place(
    program: Program, neurons: Populated, first_arrival: int | None, *, own: bool
) -> Placement:
    """Place a population: as a LIF, or as an integrator of graded processes."""
    if isinstance(neurons, SigmaDelta):
        return _place_encoder(neurons)
    if isinstance(neurons, Resonator):
        process: ProcessName = "RF" if neurons.resonance == "phase" else "RF_IZ"
        return _stock(neurons, process, "turns a complex state, decays in 4096ths")
    if neurons.reset == "subtract":
        return _integrator(program, neurons, first_arrival, own=own)
    place = _lif(program, neurons, first_arrival)
    leaks = _any(neurons.du != DECAY_UNITY - 1) or _any(neurons.dv)
    if place.stock or neurons.vth is not None or leaks:
        return place
    return _integrator(program, neurons, first_arrival, own=own)


def _integrator(
    program: Program, neurons: Neurons, first_arrival: int | None, *, own: bool
) -> Placement:
    what = "sums up" if neurons.vth is None else "subtracts its reset"
    what += " without leak"
    obstacles = list(graded.obstacles(program, neurons))
    if first_arrival is not None and first_arrival < neurons.start:
        obstacles.append(_too_early(first_arrival))
    if obstacles:
        return _exact(neurons, *_joined(obstacles))
    if own:
        return _exact(neurons, f"{what}; ours was asked for", "three GradedReluVec units a neuron")
    return _stock(neurons, "GradedReluVec", f"{what}: three units a neuron, and no step more")


def _joined(obstacles: Sequence[tuple[str, str]]) -> tuple[str, str]:
    reasons, alternatives = zip(*obstacles, strict=True)
    return "; ".join(reasons), "; ".join(dict.fromkeys(alternatives))


def _too_early(first_arrival: int) -> tuple[str, str]:
    return (
        f"input of step {first_arrival} must not count before its start",
        "delays that are the same on all ways to it",
    )


def _place_encoder(item: SigmaDelta) -> Placement:
    process, reason = _ENCODERS[item.encoding]
    if item.encoding == "sigma_delta" and item.activation == "unit":
        reason = "adds up what it hears and sends how the sum changes"
    return Placement(population=item.name, process=process, stock=True, reason=reason)


_ENCODERS: dict[Encoding, tuple[ProcessName, str]] = {
    "delta": ("Delta", "sends how its values change"),
    "sigma_delta": ("SigmaDelta", "adds up what it hears and sends how the ReLU of it changes"),
    "sigma": ("Sigma", "adds up what it hears: the sum is the readout"),
}


def _cleared_at_start(neurons: Neurons) -> Placement:
    """LIFReset clears what the bias did before the start, if it made no spike until then."""
    reason = f"{_kind(neurons)}; cleared once, at step {neurons.start}, as its bias runs before"
    for held in (0, -STATE_MAX):
        if not _spikes_early(neurons, held):
            return _stock(neurons, "LIFReset", reason, held)
    return _exact(
        neurons,
        f"its bias alone would spike before its start at step {neurons.start}",
        "a smaller bias, or feed it through an input of its own",
    )


def _spikes_early(neurons: Neurons, held: int) -> bool:
    threshold = _HIGHEST if neurons.vth is None else neurons.vth << VTH_SHIFT
    voltage = np.full(neurons.shape, held, np.int64)
    for _ in range(neurons.start):
        voltage = saturate24(decay(voltage, DECAY_UNITY - neurons.dv) + neurons.bias)
        if (voltage > threshold).any():
            return True
    return False


def _other_neuron(neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield what makes this another neuron than Lava's LIF, and what would not."""
    if neurons.floor is not None:
        yield "its voltage has a floor", "train without a floor"
    clears = neurons.reset in ("zero", "value") and not _any(neurons.reset_value)
    if neurons.vth is not None and not clears:
        yield (
            f"reset '{neurons.reset}' at '{neurons.reset_order}'",
            "train with a reset to zero at the spike",
        )
    if neurons.reset_drops_input:
        yield "the reset drops that step's input", "train with a reset that keeps it"
    if neurons.refractory:
        yield f"{neurons.refractory} refractory steps", "train without refractory steps"
    if neurons.max_spikes > 1:
        yield f"up to {neurons.max_spikes} spikes a step", "train with one spike a step"
    for name, values in (("du", neurons.du), ("dv", neurons.dv), ("vth", neurons.vth)):
        if values is not None and values.size and values.min() != values.max():
            yield f"{name} differs between neurons", "one population for each value"


def _out_of_range(neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield what the registers of Lava's LIF cannot hold, though its CPU model might."""
    if _any(neurons.dv == DECAY_UNITY):
        yield "dv 4096 does not fit 12 bits", "a membrane that keeps 1/4096 a step"
    if neurons.vth is not None and _any(neurons.vth < 0):
        yield "vth is negative", "a threshold above the resting voltage"
    if _any(neurons.bias_exp < 0):
        yield "bias_exp is negative", "a bias of whole units of v"


def _may_spike(program: Program, neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield why a readout might pass every stock threshold, if that cannot be ruled out.

    A step is monotone in v, so a threshold that one step cannot pass from the threshold itself,
    with the most that can arrive, is never passed from below.
    """
    if neurons.vth is not None:
        return
    highest = highest_current(program, neurons)
    if (highest > STATE_MAX).any():
        yield "a readout whose current may wrap", "weights small enough that no current wraps"
        return
    drive = (highest + neurons.bias.reshape(-1)).astype(np.int64)
    dv = neurons.dv.reshape(-1)
    passes = decay(np.full_like(drive, _HIGHEST), DECAY_UNITY - dv) + drive > _HIGHEST
    if not passes.any() and not _any(neurons.initial_voltage > _HIGHEST):
        return
    if not passes.any():
        yield f"starts above {_HIGHEST}, the largest stock threshold", "a lower initial voltage"
        return
    worst = _settled(drive, dv)
    reached = f"to {worst}"
    if worst is None:
        steps = int((_HIGHEST - neurons.initial_voltage.max()) // drive[dv == 0].max())
        reached = f"without limit, as it has no leak (for {steps} steps it cannot)"
    yield (
        f"a readout whose voltage may rise {reached}: stock spikes above {_HIGHEST}",
        _enough(int(drive.max()), int(dv.min())),
    )


def _settled(drive: IntArray, dv: Array) -> int | None:
    """Return where voltages end under ``drive`` in every step; None where they have no end."""
    if (dv[drive > 0] == 0).any():
        return None
    return int((-(-drive * DECAY_UNITY // np.maximum(dv, 1))).max(initial=0))


def _enough(drive: int, dv: int) -> str:
    """Return what would keep a readout below every stock threshold."""
    every = np.arange(DECAY_UNITY)
    kept = decay(np.full(DECAY_UNITY, _HIGHEST), DECAY_UNITY - every) + drive <= _HIGHEST
    alternatives = []
    if kept.any():
        alternatives.append(f"a leak of dv {int(kept.argmax())} or more (now {dv})")
    if dv:
        times = -(-drive * DECAY_UNITY * 10 // (dv * _HIGHEST)) / 10
        alternatives.append(f"weights and biases {times:g} times smaller")
    return " or ".join(alternatives) or "a leak and smaller weights"


def _kind(neurons: Neurons, spiking: str = "resets to zero") -> str:
    never = f"a readout: for no input does its voltage pass {_HIGHEST}, the largest threshold"
    return never if neurons.vth is None else spiking


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


def _stock(neurons: Populated, process: ProcessName, reason: str, held: int = 0) -> Placement:
    return Placement(
        population=neurons.name, process=process, stock=True, reason=reason, held_voltage=held
    )


def _exact(neurons: Neurons, reason: str, alternative: str) -> Placement:
    return Placement(
        population=neurons.name,
        process="ExactLIF",
        stock=False,
        reason=reason,
        alternative=alternative,
    )
