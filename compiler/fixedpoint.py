"""The integer operations of Loihi-style neurons, each with its source.

All take and give int64 arrays whose values fit the named width, so that no
intermediate product can overflow: 24-bit state times a 13-bit factor is 37 bits.
Sources: the fixed-point LIF model of lava-nc 0.10.0
(``lava.proc.lif.models.AbstractPyLifModelFixed``), reproduced by the tests.
"""

from __future__ import annotations

import numpy as np

from spikec.compiler.arrays import Array, IntArray

__all__ = [
    "ACTIVATION_SHIFT",
    "DECAY_BITS",
    "DECAY_UNITY",
    "STATE_MAX",
    "VTH_SHIFT",
    "align",
    "decay",
    "effective_bias",
    "floor_shift",
    "saturate24",
    "shift_toward_zero",
    "wrap24",
]

#: Decay factors are fractions of 4096 (12 bits).
DECAY_BITS = 12
DECAY_UNITY = 1 << DECAY_BITS
#: Thresholds and synaptic input are aligned to the state by 6 bits.
VTH_SHIFT = 6
ACTIVATION_SHIFT = 6
#: The largest state magnitude: 24 bits with sign.
STATE_MAX = (1 << 23) - 1


def shift_toward_zero(values: IntArray, bits: int) -> IntArray:
    """Divide by ``2**bits``, dropping the remainder: sign(x) * (|x| >> bits)."""
    result: IntArray = np.sign(values) * (np.abs(values) >> bits)
    return result


def floor_shift(values: IntArray, exponent: Array) -> IntArray:
    """Multiply by ``2**exponent``; a negative exponent rounds toward minus infinity."""
    left = np.maximum(exponent, 0)
    right = np.maximum(-np.asarray(exponent), 0)
    result: IntArray = (values << left) >> right
    return result


def decay(state: IntArray, factor: Array) -> IntArray:
    """Multiply by ``factor / 4096`` and truncate toward zero, as Loihi decays u and v."""
    return shift_toward_zero(state * factor, DECAY_BITS)


def wrap24(values: IntArray) -> IntArray:
    """Wrap once into (-2**23, 2**23], as Lava does.

    This is not two's complement (2**23 itself stays, and a value beyond
    3 * 2**23 stays outside): a program must prove or count that it is never
    reached.
    """
    span = 2 * (STATE_MAX + 1)
    above = np.where(values > STATE_MAX + 1, values - span, values)
    result: IntArray = np.where(above <= -(STATE_MAX + 1), values + span, above)
    return result


def saturate24(values: IntArray) -> IntArray:
    """Clip to +-(2**23 - 1), as voltages do."""
    result: IntArray = np.clip(values, -STATE_MAX, STATE_MAX)
    return result


def align(values: IntArray, bits: int) -> IntArray:
    """Shift left: thresholds and synaptic input sit ``bits`` above the state's last bit."""
    result: IntArray = values << bits
    return result


def effective_bias(mantissa: IntArray, exponent: IntArray) -> IntArray:
    """Return ``bias_mant << bias_exp`` (floor for a negative exponent); it is not aligned."""
    return floor_shift(mantissa, exponent)
