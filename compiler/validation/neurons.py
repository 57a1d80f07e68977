"""A program's populations against the canonical graph's: every number within its rounding.

One unit of a voltage is worth ``lsb`` source volts, and each number has a grid of its own:
thresholds count in 64 units, biases in powers of two, all others in single units. A number is
right if no other of its grid is closer to what the network has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from spikec.compiler.arrays import Array, FloatArray
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import DECAY_UNITY, VTH_SHIFT
from spikec.compiler.ir import LI, LIF
from spikec.compiler.program import Neurons
from spikec.compiler.validation.claims import Claims
from spikec.compiler.validation.findings import differing, equal, finding, outside
from spikec.compiler.validation.kernels import Limits, bias_factor, check_decays

__all__ = ["PER_NEURON", "check_population"]

#: The numbers of a neuron that are compared.
PER_NEURON = 8
#: A threshold's unit, in units of v.
_THRESHOLD = 1 << VTH_SHIFT
#: Exponents of neurons without leak may be so large.
_WITHOUT_LEAK = 3
#: Two floats that stand for one number differ by no more.
_SAME = 1e-9


def check_population(
    node: LIF | LI,
    neurons: Neurons,
    gain: FloatArray,
    fit: tuple[FloatArray, FloatArray],
    claims: Claims,
    limits: Limits,
) -> Iterator[Diagnostic]:
    """Yield all that a population's integers differ in by more than their rounding.

    ``gain`` is what the kernel's rounding multiplied currents by, ``fit`` what a fit to data added
    to biases and how far that may be off, in source units, per neuron.
    """
    where = f"population '{node.name}'"
    scale = 1 / neurons.lsb
    yield from _check_scale(node.name, neurons, claims.scales, where)
    yield from _check_switches(node, neurons, gain, where)
    yield from check_decays(node, neurons, limits)
    yield from _check_bias(node, neurons, fit, limits, where)
    current, voltage = node.initial_state
    yield from differing(
        "V014", where, "initial_current", neurons.initial_current, current * gain * scale, 0.5
    )
    wanted = voltage * scale
    if isinstance(node, LIF):
        yield from _check_threshold(node, neurons, scale, where)
        if node.reset_order == "next_step" and neurons.vth is not None:
            # A start that rounds to above the threshold would be a spike.
            wanted = np.minimum(wanted, neurons.vth << VTH_SHIFT)
    yield from differing("V014", where, "initial_voltage", neurons.initial_voltage, wanted, 0.5)
    yield from _check_optional("V014", where, "floor", neurons.floor, node.floor, scale)


def _check_scale(
    name: str, neurons: Neurons, scales: Mapping[str, float], where: str
) -> Iterator[Diagnostic]:
    claimed = scales.get(name)
    if claimed is not None and not abs(claimed * neurons.lsb - 1) <= _SAME:
        yield finding(
            "V016",
            where,
            f"lsb is {neurons.lsb:.9g}, and one over the scale that its report states is "
            f"{1 / claimed if claimed else 0:.9g}",
        )


def _check_switches(
    node: LIF | LI, neurons: Neurons, gain: FloatArray, where: str
) -> Iterator[Diagnostic]:
    yield from equal("V015", where, "start", neurons.start, node.start)
    yield from equal("V015", where, "view.lag", neurons.view.lag, node.view.lag)
    yield from equal(
        "V015", where, "view.current_lag", neurons.view.current_lag, node.view.current_lag
    )
    for field, found, wanted in (
        ("view.voltage_offset", neurons.view.voltage_offset, node.view.voltage_offset),
        ("view.current_scale", neurons.view.current_scale, node.view.current_scale * gain),
    ):
        yield from _check_reading(field, found, wanted, node, where)
    if not isinstance(node, LIF):
        return
    for field in (
        "reset", "reset_order", "reset_drops_input", "refractory", "max_spikes", "reset_twice",
    ):  # fmt: skip
        yield from equal("V015", where, field, getattr(neurons, field), getattr(node, field))


def _check_reading(
    field: str, found: Array, wanted: Array, node: LIF | LI, where: str
) -> Iterator[Diagnostic]:
    """Yield a finding where a trace would be read otherwise; a number may stand for one each."""
    try:
        both = [np.broadcast_to(item, node.shape) for item in (found, wanted)]
    except ValueError:
        yield finding("V015", where, f"{field} has shape {found.shape}, not {node.shape}")
        return
    yield from differing("V015", where, field, both[0], both[1], _SAME * np.abs(both[1]))


def _check_threshold(node: LIF, neurons: Neurons, scale: float, where: str) -> Iterator[Diagnostic]:
    """Yield thresholds and resets; ``u >= t`` is ``v > t - 1`` on the grid of thresholds."""
    assert neurons.vth is not None
    threshold = neurons.vth + (node.compare == ">=")
    units = threshold * float(_THRESHOLD)
    wrong = ~(np.abs(units - node.vth * scale) <= _THRESHOLD * 0.5 * (1 + _SAME))
    wanted = np.rint(node.vth * scale / _THRESHOLD) - (node.compare == ">=")
    yield from outside("V011", where, "vth", wrong, neurons.vth, wanted)
    if node.reset == "subtract" and node.reset_value is None:
        # What is taken off is the threshold as it was rounded.
        yield from differing("V012", where, "reset_value", neurons.reset_amount, units, 0.0)
    elif node.reset == "subtract":
        amount = node.reset_amount * scale
        yield from differing("V012", where, "reset_value", neurons.reset_amount, amount, 0.5)
    elif node.reset == "value":
        yield from _check_optional(
            "V012", where, "reset_value", neurons.reset_value, node.reset_voltage, scale
        )


def _check_optional(
    code: str, where: str, field: str, found: Array | None, wanted: Array | None, scale: float
) -> Iterator[Diagnostic]:
    if found is None or wanted is None:
        yield from equal(code, where, f"whether it has {field}", found is not None,
                         wanted is not None)  # fmt: skip
        return
    yield from differing(code, where, field, found, wanted * scale, 0.5)


def _check_bias(
    node: LIF | LI,
    neurons: Neurons,
    fit: tuple[FloatArray, FloatArray],
    limits: Limits,
    where: str,
) -> Iterator[Diagnostic]:
    """Yield biases off by more than half a unit of their exponent, and exponents too large.

    An exponent is the least that holds the bias, or up to 3 where neither state leaks.
    """
    shift, room = fit
    wanted = (node.bias * bias_factor(node, neurons) + shift) / neurons.lsb
    unit, moved = np.ldexp(1.0, neurons.bias_exp), room / neurons.lsb
    yield from differing("V013", where, "bias", neurons.bias, wanted, 0.5 * unit + moved)
    leaks = (neurons.du < DECAY_UNITY - 1).any() or neurons.dv.any()
    low, high = limits.bias_mantissa
    held = np.where(wanted - moved < 0, max(1, -low), max(1, high))
    largest = np.maximum(np.abs(wanted) + moved, 1.0) * (1 + _SAME) / held
    least = max(limits.bias_exponent, 0 if leaks else _WITHOUT_LEAK)
    needed = np.maximum(np.ceil(np.log2(largest)), least)
    wrong = neurons.bias_exp > needed
    yield from outside("V013", where, "bias_exp", wrong, neurons.bias_exp, needed)
