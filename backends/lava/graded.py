"""A soft reset put together from Lava's own ``GradedReluVec``, for integrators without leak.

Lava's LIF can only reset to zero. A ``GradedReluVec`` sends its input of one step if that is
above 0, and forgets it; connections with graded messages carry the state from step to step.
Three such units a neuron receive the same sum ``x``, less an offset each::

    integrator:  z = max(x, 0)           the voltage, from its lowest value on
    excess:      e = max(x - span, 0)    what saturation takes off
    spike:       s = x > threshold       a message of any size is one spike

    x of the next step = z - e + input + bias - amount * s

All three see the sum itself, so the loop is one step long and a spike leaves in the step in which
golden has it. A ``unit`` of x is half the step of the voltage: all that is ever added is a
multiple of ``step``, a voltage is compared with multiples of it, and where it starts or saturates
between two of them only that it does so counts: 2 * floor(v / step) + (v is between two). That
keeps the whole range of 24-bit voltages within the 24 bits of a message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, IntArray
from spikec.compiler.bounds import arriving, current_bound
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT, DECAY_UNITY, STATE_MAX, VTH_SHIFT
from spikec.compiler.program import Neurons, Program

__all__ = ["MAX_MESSAGE", "SoftReset", "obstacles", "soft_reset"]

#: Graded messages have 24 bits, with sign.
MAX_MESSAGE = (1 << 23) - 1
#: A start later than this takes longer than a connection of Lava can delay.
_LATEST = 63


@dataclass(frozen=True, eq=False, kw_only=True)
class SoftReset:
    """The constants of one population, in units of x; arrays hold one value per neuron.

    ``first`` is the step in which the units get ``kick``, the voltage before that step; the
    bias counts from then on. A weight counts ``2**weight_shift`` times as much as on a LIF.
    """

    span: int
    thresholds: IntArray
    amounts: IntArray
    biases: IntArray
    kick: IntArray
    first: int
    weight_shift: int


def soft_reset(neurons: Neurons) -> SoftReset:
    """Return the constants for a population in whose way no :func:`obstacles` are."""
    step = _step(neurons)
    low = _units(np.int64(_lowest(neurons)), step)
    biases = neurons.bias.reshape(-1) * 2 // step
    kick = _units(neurons.initial_voltage.reshape(-1), step) - low
    span = int(_units(np.int64(STATE_MAX), step) - low)
    if neurons.start == 0:  # nothing can arrive in step 0: its end is known
        kick = np.clip(kick + biases, 0, span)
    assert neurons.vth is not None
    return SoftReset(
        span=span,
        thresholds=_units(_threshold(neurons), step) - low,
        amounts=neurons.reset_amount.reshape(-1) * 2 // step,
        biases=biases,
        kick=kick,
        first=max(1, neurons.start),
        weight_shift=(2 << ACTIVATION_SHIFT).bit_length() - step.bit_length(),
    )


def obstacles(program: Program, neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield why graded processes do not give the soft reset of ``neurons``, and what would help."""
    if neurons.reset != "subtract":
        yield f"reset '{neurons.reset}' at '{neurons.reset_order}'", _ZERO
        return
    kept = _any(neurons.du != DECAY_UNITY - 1), _any(neurons.dv != 0)
    if any(kept):
        leaks = [
            f"{name} {_range(values)}" + f" (not {wanted})" * wrong
            for name, values, wanted, wrong in (
                ("du", neurons.du, DECAY_UNITY - 1, kept[0]),
                ("dv", neurons.dv, 0, kept[1]),
            )
        ]
        yield (
            f"a soft reset with {' and '.join(leaks)}: graded processes round decays down",
            f"no synaptic current and no leak, or {_ZERO}",
        )
        return
    yield from _switches(neurons)
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


def _ranges(program: Program, neurons: Neurons) -> Iterator[tuple[str, str]]:
    """Yield where a value leaves what messages can carry, or what the units can express."""
    threshold, amount = _threshold(neurons), neurons.reset_amount.reshape(-1)
    arrives, low = arriving(program, neurons), _lowest(neurons)
    if (threshold < max(low, 0)).any():
        yield "its threshold is negative or below its floor", "a threshold above both"
    if (amount < 0).any():
        yield "its reset raises the voltage", "a reset that lowers it"
    if neurons.reset_order == "at_spike" and (threshold + 1 - amount < low).any():
        yield "its reset alone can reach the lowest voltage", "a smaller reset or a lower floor"
    if current_bound(neurons, arrives) > STATE_MAX:
        yield "its input may wrap", "weights small enough that no input wraps"
        return
    bias = neurons.bias.reshape(-1)
    if neurons.start == 0 and (neurons.initial_voltage.reshape(-1) + bias > threshold).any():
        yield "spikes in step 0", "a smaller initial voltage or bias"
    most = (arrives << ACTIVATION_SHIFT) + np.abs(bias) + amount + (STATE_MAX - low)
    step = _step(neurons)
    reached = int((most * 2 // step).max(initial=0))
    if reached > MAX_MESSAGE:
        yield (
            f"bias and reset go in steps of {step}: messages reach {reached} of {MAX_MESSAGE}",
            f"biases that are multiples of {_coarser(reached, step)}",
        )


def _coarser(reached: int, step: int) -> int:
    return step << (-(-reached // MAX_MESSAGE) - 1).bit_length()


def _step(neurons: Neurons) -> int:
    """Return the largest power of two, at most that of a weight, of which all is a multiple."""
    added = (neurons.bias, neurons.reset_amount)
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


def _range(values: Array) -> str:
    low, high = int(values.min(initial=DECAY_UNITY)), int(values.max(initial=0))
    return str(low) if low == high else f"{low}..{high}"


def _any(values: Array) -> bool:
    return bool(values.any())
