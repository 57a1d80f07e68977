"""The neurons of ``.net`` files in a program's integers.

CUBA (``LOIHI`` in the old SLAYER's files): ``du = iDecay - 1``, ``dv = vDecay``,
``vth = vThMant``, ``bias << 6`` added to the voltage, a spike resets to zero. That is what
netx hands to Lava's LIF (lava-dl 0.6.0, ``lava.lib.dl.netx.hdf5.Network.get_neuron_params``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, Shape, frozen, size
from spikec.compiler.frontends.lava_schema import LayerRecord, NeuronRecord, fail
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.ir import SourceView
from spikec.compiler.program import Neurons

__all__ = [
    "PROFILES",
    "Settled",
    "average_readout",
    "check_kind",
    "neurons",
    "number",
    "readout",
    "spread_bias",
    "weight_shift",
]

#: Who gives a field its meaning where netx and SLAYER differ.
PROFILES = ("netx", "slayer")

_BIAS_EXP = 6
_BIAS_LOW, _BIAS_HIGH = -4096, 4095
_MOST_VTH = (1 << 17) - 1
_CUBA = ("CUBA", "LOIHI")

#: Why a neuron has no program, by what its type starts with.
_REFUSED = (
    ("ADRF", "resonate-and-fire neurons have a complex state and an adaptive threshold"),
    ("ALIF", "adaptive neurons carry a threshold and a refractory state of their own"),
)


class Settled:
    """The options, and a record of every choice that was settled with them."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options
        self.choices: list[list[str]] = []

    def note(self, what: str, value: object, origin: str) -> None:
        """Record a choice once."""
        entry = [what, str(value), origin]
        if entry not in self.choices:
            self.choices.append(entry)

    def profile(self, what: str, where: str, message: str, hint: str) -> str:
        """Return the profile that the user chose; without one, ``message`` is an error."""
        if self.options.profile is None:
            fail("F075", where, message, hint)
        self.note(f"{what} at {where.rsplit(': ', 1)[-1]}", self.options.profile, "option profile")
        return self.options.profile


def neurons(
    record: LayerRecord, shape: Shape, settled: Settled, *, start: int, view: SourceView
) -> Neurons:
    """Return a CUBA layer's population; other neurons are refused with the reason."""
    neuron = record.neuron
    assert neuron is not None
    check_kind(neuron)
    mantissa, exponent = _bias(record, shape)
    current, voltage = _decays(neuron, shape)
    return Neurons(
        name=f"layer{record.index}",
        shape=shape,
        du=frozen(current - 1),
        dv=frozen(voltage),
        bias_mant=mantissa,
        bias_exp=frozen(exponent),
        refractory=_refractory(neuron, settled),
        start=start,
        view=view,
        **_threshold(record, neuron, settled, shape),
    )


def readout(record: LayerRecord, shape: Shape, *, start: int, view: SourceView) -> Neurons:
    """Return a layer without a neuron: netx integrates its input and never fires.

    Lava keeps the sum in u, which never decays there, and adds the bias on top. A
    program's u always decays: the sum is kept in v instead, and the bias is where
    v starts. Voltages agree as long as they stay within 24 bits.
    """
    mantissa, exponent = _bias(record, shape)
    return Neurons(
        name=f"layer{record.index}",
        shape=shape,
        du=frozen(4095),
        dv=frozen(0),
        vth=None,
        reset="none",
        reset_order="at_spike",
        initial_voltage=frozen(mantissa.astype(np.int64) << exponent),
        start=start,
        view=view,
    )


def average_readout(record: LayerRecord, shape: Shape, group: int, view: SourceView) -> Neurons:
    """Return an average layer: v is the number of spikes << 6, ``lsb`` makes it the mean."""
    return Neurons(
        name=f"layer{record.index}",
        shape=shape,
        du=frozen(4095),
        dv=frozen(4096),
        vth=None,
        reset="none",
        reset_order="at_spike",
        lsb=1.0 / (64 * group),
        view=view,
    )


def weight_shift(record: LayerRecord, settled: Settled) -> int:
    """Return the exponent that the file puts on a layer's weights, as the profile reads it."""
    neuron = record.neuron
    if neuron is None:
        return 0
    exponent = neuron.fields["weight_exp"]
    if exponent:
        # SLAYER divides the sum of input and bias by 2**weight_exp; netx drops the field.
        place = f"{neuron.where}/weight_exp"
        chosen = settled.profile(
            "weight_exp",
            place,
            f"it is {exponent}: SLAYER divides the layer's input by 2**{exponent}, netx ignores it",
            "read it as Lava does with profile='netx', or train with a norm whose exponent is 0",
        )
        if chosen != "netx":
            fail("F074", place, "a program does not divide a sum", "read it with profile='netx'")
    shift = neuron.fields["wgtExp"] or 0
    if not shift:
        return 0
    place = f"{neuron.where}/wgtExp"
    chosen = settled.profile(
        "wgtExp",
        place,
        f"it is {shift}: the old SLAYER multiplies weights by 2**{shift}, netx ignores it",
        "choose profile='slayer' or profile='netx'",
    )
    if chosen == "netx":
        return 0
    if not 0 < shift <= 7:
        fail("F072", place, f"{shift} is outside 0..7")
    return shift


def check_kind(neuron: NeuronRecord) -> None:
    """Refuse neurons that are not current-based, with the reason."""
    if neuron.graded:
        fail(
            "F074",
            f"{neuron.where}/gradedSpike",
            "its spikes carry the voltage as a value; a program's spikes are 0 or 1",
            "train with graded_spike=False",
        )
    if neuron.kind in _CUBA:
        return
    reasons = [reason for start, reason in _REFUSED if neuron.kind.upper().startswith(start)]
    fail(
        "F074",
        f"{neuron.where}/type",
        f"'{neuron.kind}' cannot become a program: "
        + (reasons[0] if reasons else "its integer meaning is not known here"),
        f"neurons that can be read are {', '.join(_CUBA)}, SDNN, RF_PHASE and RF_IZHIKEVICH",
    )


def number(neuron: NeuronRecord, name: str, low: int, high: int) -> int:
    """Return a field that must be there and lie within ``low`` and ``high``."""
    if name in neuron.each:
        fail(
            "F070",
            f"{neuron.where}/{name}",
            f"{neuron.each[name].size} values, where {neuron.kind} neurons have one for all",
        )
    value = neuron.fields[name]
    if value is None:
        fail("F070", f"{neuron.where}/{name}", "it is missing")
    if not low <= value <= high:
        fail("F072", f"{neuron.where}/{name}", f"{value} is outside {low}..{high}")
    return value


def _numbers(neuron: NeuronRecord, name: str, shape: Shape, low: int, high: int) -> Array:
    """Return a field within ``low`` and ``high``: one value, or one for each neuron."""
    values = neuron.each.get(name)
    if values is None:
        return np.asarray(number(neuron, name, low, high))
    where = f"{neuron.where}/{name}"
    wrong = values[(values < low) | (values > high)]
    if wrong.size:
        fail("F072", where, f"{int(wrong[0])} is outside {low}..{high}")
    return spread_values(values, shape, where)


def _decays(neuron: NeuronRecord, shape: Shape) -> tuple[Array, Array]:
    """Return iDecay and vDecay; a current that never decays moves into the voltage."""
    current = _numbers(neuron, "iDecay", shape, 0, 4096)
    voltage = _numbers(neuron, "vDecay", shape, 0, 4096)
    if (current == 0).any():
        fail(
            "F074",
            f"{neuron.where}/iDecay",
            "0 is a current that never decays; a program's du is 0 or more, which is 1 here",
            "use a current decay of at least 1/4096",
        )
    return current, voltage


def _refractory(neuron: NeuronRecord, settled: Settled) -> int:
    delay = neuron.fields["refDelay"]
    if delay is None or delay == 1:
        return 0
    place = f"{neuron.where}/refDelay"
    if not 1 < delay <= 64:
        fail("F072", place, f"{delay} is outside 1..64")
    chosen = settled.profile(
        "refDelay",
        place,
        f"it is {delay}: a Loihi neuron rests {delay - 1} steps after the step of a spike, "
        "netx ignores it",
        "choose profile='slayer' for the rest, or profile='netx' for none",
    )
    return 0 if chosen == "netx" else delay - 1


def _bias(record: LayerRecord, shape: Shape) -> tuple[Array, int]:
    """Return mantissas, per neuron, and their exponent."""
    where, values = f"{record.where}/bias", spread_bias(record, shape)
    if int(values.min()) >= _BIAS_LOW and int(values.max()) <= _BIAS_HIGH:
        return frozen(values), _BIAS_EXP
    halves = values >> 1
    if (values & 1).any() or int(halves.min()) < _BIAS_LOW or int(halves.max()) > _BIAS_HIGH:
        fail("F072", where, f"{values.min()}..{values.max()} leaves {_BIAS_LOW}..{_BIAS_HIGH}")
    return frozen(halves), _BIAS_EXP + 1


def spread_bias(record: LayerRecord, shape: Shape) -> Array:
    """Return a layer's bias per neuron; one value per channel is spread."""
    if record.bias is None or record.kind == "input":
        return np.zeros(shape, np.int64)
    return spread_values(record.bias, shape, f"{record.where}/bias")


def spread_values(values: Array, shape: Shape, where: str) -> Array:
    """Return one value, one per channel or one per neuron as one per neuron."""
    if not values.size:
        fail("F070", where, "it is empty")
    if values.size not in (1, shape[0], size(shape)):
        possible = " or ".join(str(count) for count in sorted({1, shape[0], size(shape)}))
        fail("F073", where, f"{values.size} values; neurons of shape {shape} take {possible}")
    spread = shape if values.size == size(shape) else (-1, *[1] * (len(shape) - 1))
    return np.broadcast_to(values.reshape(spread), shape)


def _threshold(
    record: LayerRecord, neuron: NeuronRecord, settled: Settled, shape: Shape
) -> dict[str, Any]:
    threshold = _numbers(neuron, "vThMant", shape, 0, 1 << 20)
    said = settled.options.compare_for_all()
    compare = said or ">"
    if said:
        settled.note("compare", compare, "option compare")
    else:
        settled.note("compare", compare, "Lava's LIF, and SLAYER's threshold_eps")
    if (threshold > _MOST_VTH).all():
        # A voltage is at most 2**23 - 1, below threshold << 6: SLAYER's affine layers say so.
        least = int(threshold.min())
        settled.note(f"layer{record.index} never spikes", least, "vThMant in the file")
        return {"vth": None, "reset": "none", "reset_order": "at_spike"}
    if (threshold > _MOST_VTH).any():
        beyond = int(threshold.max())
        fail(
            "F072",
            f"{neuron.where}/vThMant",
            f"{beyond} is outside 0..{_MOST_VTH}, and other neurons of the layer spike",
        )
    if compare == ">=":
        threshold = _at_least(neuron, threshold)
    return {"vth": frozen(threshold), "reset": "zero", "reset_order": "at_spike"}


def _at_least(neuron: NeuronRecord, threshold: Array) -> Array:
    """Return the threshold that ``>`` needs to act as ``>=``, where one exists.

    Input and bias are multiples of 64. A voltage that either keeps all or nothing of
    the last step stays one, so that ``v >= t << 6`` is ``v > (t - 1) << 6``.
    """
    keeps_grid = neuron.fields["iDecay"] == 4096 and neuron.fields["vDecay"] in (0, 4096)
    if not keeps_grid:
        fail(
            "F074",
            f"{neuron.where}/vThMant",
            f"v >= {int(threshold.flat[0])} << 6 is not the same as any v > vth << 6 once v "
            f"decays by {_said(neuron, 'vDecay')}/4096 and u by {_said(neuron, 'iDecay')}/4096",
            "read it with compare='>', which is what Lava and current SLAYER do",
        )
    lowered: Array = threshold - 1
    return lowered


def _said(neuron: NeuronRecord, name: str) -> object:
    """Return a field as a message says it."""
    return neuron.fields[name] if name not in neuron.each else int(neuron.each[name].flat[0])
