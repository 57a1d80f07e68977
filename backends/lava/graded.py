"""Integrators without leak put together from Lava's own ``GradedReluVec``: soft resets, readouts.

Lava's LIF can only reset to zero, and a readout may not reach its threshold. A ``GradedReluVec``
sends its input of one step if that is above 0, and forgets it; connections with graded messages
carry the state from step to step. Three such units a neuron receive the same sum ``x``, less an
offset each::

    integrator:  z = max(x, 0)           the voltage, from its lowest value on
    excess:      e = max(x - span, 0)    what saturation takes off
    spike:       s = x > threshold       a message of any size is one spike

    x of the next step = z - e + input + bias - amount * s

All three see the sum itself, so the loop is one step long and a spike leaves in the step in which
golden has it. A ``unit`` of x is half the step of the voltage: all that is ever added is a
multiple of ``step``, a voltage is compared with multiples of it, and where it starts or saturates
between two of them only that it does so counts: 2 * floor(v / step) + (v is between two). That
keeps the whole range of 24-bit voltages within the 24 bits of a message.

A readout is the same without resets. Its threshold is -1: the third unit is silent where x < 0,
which is where the voltage saturates at its lowest. Of all three messages the host computes the
voltage, between two multiples too: it saw where the last saturation left it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, IntArray
from spikec.compiler.bounds import arriving, current_bound
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT, DECAY_UNITY, STATE_MAX, VTH_SHIFT
from spikec.compiler.program import Neurons, Program

__all__ = ["MAX_MESSAGE", "Integrator", "integrator", "obstacles"]

#: Graded messages have 24 bits, with sign.
MAX_MESSAGE = (1 << 23) - 1
#: A start later than this takes longer than a connection of Lava can delay.
_LATEST = 62
#: Weights of a chip have exponents up to this (targets/loihi2.toml).
_MAX_EXPONENT = 7
#: What a spike can take off: this many connections of the largest weights.
_MAX_AMOUNT = 16 * (255 << _MAX_EXPONENT)


@dataclass(frozen=True, eq=False, kw_only=True)
class Integrator:
    """The constants of one population, in units of x; arrays hold one value per neuron.

    ``first`` is the step in which the units get ``kick``, the voltage before that step, from
    the host; the bias counts from then on. A weight counts ``2**weight_shift`` times as much as
    on a LIF. ``held`` and ``lowest`` are voltages: those before step ``first``, and the least.
    """

    span: int
    thresholds: IntArray
    amounts: IntArray
    biases: IntArray
    kick: IntArray
    first: int
    weight_shift: int
    held: IntArray
    lowest: int


def integrator(neurons: Neurons) -> Integrator:
    """Return the constants for a population in whose way no :func:`obstacles` are."""
    step, lowest = _step(neurons), _lowest(neurons)
    low = _units(np.int64(lowest), step)
    held = neurons.initial_voltage.reshape(-1)
    if neurons.start == 0:  # nothing can arrive in step 0: its end is known
        held = np.clip(held + neurons.bias.reshape(-1), lowest, STATE_MAX)
    spiking = neurons.vth is not None
    return Integrator(
        span=int(_units(np.int64(STATE_MAX), step) - low),
        thresholds=_units(_threshold(neurons), step) - low if spiking else np.full(held.shape, -1),
        amounts=_amount(neurons) * 2 // step,
        biases=neurons.bias.reshape(-1) * 2 // step,
        kick=_units(held, step) - low,
        first=max(1, neurons.start),
        weight_shift=_weight_shift(step),
        held=held,
        lowest=lowest,
    )


def obstacles(program: Program, neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield why graded processes are not the integrator ``neurons`` is, and what would help."""
    if neurons.vth is not None and neurons.reset != "subtract":
        yield f"reset '{neurons.reset}' at '{neurons.reset_order}'", _ZERO
        return
    kept = _any(neurons.du != DECAY_UNITY - 1), _any(neurons.dv != 0)
    if any(kept):
        what = "a readout" if neurons.vth is None else "a soft reset"
        leaks = [
            f"{name} {_range(values)}" + f" (not {wanted})" * wrong
            for name, values, wanted, wrong in (
                ("du", neurons.du, DECAY_UNITY - 1, kept[0]),
                ("dv", neurons.dv, 0, kept[1]),
            )
        ]
        yield (
            f"{what} with {' and '.join(leaks)}: graded processes round decays down",
            "no synaptic current and no leak" + f", or {_ZERO}" * (neurons.vth is not None),
        )
        return
    yield from _switches(neurons)
    if neurons.vth is not None:
        yield from _reset(neurons)
    yield from _ranges(program, neurons)


_ZERO = "train with a reset to zero at the spike"


def _switches(neurons: Neurons) -> Iterator[tuple[str, str]]:
    if neurons.refractory:
        yield f"{neurons.refractory} refractory steps", "train without refractory steps"
    if neurons.max_spikes > 1:
        yield f"up to {neurons.max_spikes} spikes a step", "train with one spike a step"
    if neurons.reset_twice:
        yield "what a reset left above threshold must pass it twice", "train without"
    if neurons.floor is not None and neurons.floor.min() != neurons.floor.max():
        yield "its floor differs between neurons", "one population for each value"
    if neurons.start > _LATEST:
        yield f"starts at step {neurons.start}, {_LATEST} at most", "fewer layers before it"


def _reset(neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield what about threshold and reset the units cannot express."""
    threshold, amount, low = _threshold(neurons), _amount(neurons), _lowest(neurons)
    if (threshold < max(low, 0)).any():
        yield "its threshold is negative or below its floor", "a threshold above both"
    if (amount < 0).any():
        yield "its reset raises the voltage", "a reset that lowers it"
    if neurons.reset_order == "at_spike" and (threshold + 1 - amount < low).any():
        yield "its reset alone can reach the lowest voltage", "a smaller reset or a lower floor"
    start = (neurons.initial_voltage + neurons.bias).reshape(-1)
    if neurons.start == 0 and (start > threshold).any():
        yield "spikes in step 0", "a smaller initial voltage or bias"


def _ranges(program: Program, neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield where a value leaves what messages can carry."""
    arrives = arriving(program, neurons)
    if current_bound(neurons, arrives) > STATE_MAX:
        yield "its input may wrap", "weights small enough that no input wraps"
        return
    yield from _weights(program, neurons)
    most = (arrives << ACTIVATION_SHIFT) + np.abs(neurons.bias.reshape(-1)) + _amount(neurons)
    most += STATE_MAX - _lowest(neurons)
    step = _step(neurons)
    reached = int((most * 2 // step).max(initial=0))
    if reached > MAX_MESSAGE:
        yield (
            f"bias and reset go in steps of {step}: messages reach {reached} of {MAX_MESSAGE}",
            f"biases that are multiples of {_coarser(reached, step)}",
        )


def _weights(program: Program, neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield where weights of 8 bits do not reach far enough."""
    step = _step(neurons)
    largest = int(_amount(neurons).max(initial=0)) * 2 // step
    if largest > _MAX_AMOUNT:
        yield (
            f"its reset takes off {largest} units of {step / 2:g}: weights carry {_MAX_AMOUNT}",
            "biases that are multiples of a larger power of two, or a lower threshold",
        )
    links = program.connections_into(neurons.name)
    exponent = max((item.weight_exp for item in links), default=0) + _weight_shift(step)
    if exponent > _MAX_EXPONENT:
        yield (
            f"its weights would need an exponent of {exponent}, {_MAX_EXPONENT} at most",
            f"biases that are multiples of {step << (exponent - _MAX_EXPONENT)}, or fewer bits",
        )


def _weight_shift(step: int) -> int:
    """Return by how many bits a weight counts more in units than on a LIF."""
    return (2 << ACTIVATION_SHIFT).bit_length() - step.bit_length()


def _coarser(reached: int, step: int) -> int:
    return step << (-(-reached // MAX_MESSAGE) - 1).bit_length()


def _step(neurons: Neurons) -> int:
    """Return the largest power of two, at most that of a weight, of which all is a multiple."""
    added = (neurons.bias, _amount(neurons))
    bits = (1 << ACTIVATION_SHIFT) | int(np.bitwise_or.reduce([*map(_bits, added)]))
    return bits & -bits


def _bits(values: Array) -> int:
    return int(np.bitwise_or.reduce(np.abs(values), axis=None, initial=0))


def _units(voltage: IntArray, step: int) -> IntArray:
    """Return 2 * floor(v / step), and 1 more between two multiples."""
    whole = voltage // step
    units: IntArray = 2 * whole + (voltage != whole * step)
    return units


def _lowest(neurons: Neurons) -> int:
    return -STATE_MAX if neurons.floor is None else int(neurons.floor.min(initial=STATE_MAX))


def _threshold(neurons: Neurons) -> IntArray:
    assert neurons.vth is not None
    aligned: IntArray = neurons.vth.reshape(-1) << VTH_SHIFT
    return aligned


def _amount(neurons: Neurons) -> IntArray:
    if neurons.vth is None:
        return np.zeros(neurons.num_neurons, np.int64)
    amount: IntArray = neurons.reset_amount.reshape(-1)
    return amount


def _range(values: Array) -> str:
    low, high = int(values.min(initial=DECAY_UNITY)), int(values.max(initial=0))
    return str(low) if low == high else f"{low}..{high}"


def _any(values: Array) -> bool:
    return bool(values.any())
