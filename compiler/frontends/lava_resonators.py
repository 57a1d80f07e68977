"""Resonate-and-fire neurons of ``.net`` files in a program's integers.

``sinDecay`` and ``cosDecay`` count as the file states them, which is how SLAYER trains. netx
makes a period and a decay of them, in floats, and Lava's RF makes factors of 4096 of those
again, cut off (lava-dl 0.6.0 ``Network.get_neuron_params``, lava-nc 0.10.0
``lava.proc.rf.process.RF``): of half of all pairs one is lost, and NumPy 1.26 and 2.4 disagree
on every sixth. What depends on that is no meaning of a file.
"""

from __future__ import annotations

from spikec.compiler.arrays import Shape
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX
from spikec.compiler.frontends.lava_neurons import Settled, number
from spikec.compiler.frontends.lava_schema import LayerRecord, NeuronRecord, fail
from spikec.compiler.ir import SourceView
from spikec.compiler.resonator import Resonance, Resonator

__all__ = ["is_resonator", "refuse_drive", "resonator"]

_KINDS: dict[str, Resonance] = {"RF_PHASE": "phase", "RF_IZHIKEVICH": "izhikevich"}
_STATE_EXP = 6
#: SLAYER's unit of a weight, as a power of two: 64 is 1.
_WEIGHT_UNIT = 6


def is_resonator(record: LayerRecord) -> bool:
    """Say whether a layer has resonate-and-fire neurons whose integers are known."""
    return record.neuron is not None and record.neuron.kind in _KINDS


def resonator(
    record: LayerRecord,
    shape: Shape,
    settled: Settled,
    *,
    view: SourceView,
    imaginary: tuple[str, ...],
) -> Resonator:
    """Return a layer's population; ``imaginary`` names what feeds its imaginary part."""
    neuron = record.neuron
    assert neuron is not None
    if neuron.graded:
        fail(
            "F074",
            f"{neuron.where}/gradedSpike",
            "its spikes carry the state as a value; Lava's RF sends 0 or 1",
            "train with graded_spike=False",
        )
    sine, cosine = _factors(neuron, settled)
    return Resonator(
        name=f"layer{record.index}",
        shape=shape,
        resonance=_KINDS[neuron.kind],
        sin_decay=sine,
        cos_decay=cosine,
        vth=number(neuron, "vThMant", 1, STATE_MAX >> _STATE_EXP) << _STATE_EXP,
        state_exp=_STATE_EXP,
        imaginary=imaginary,
        lsb=2.0 ** -(_WEIGHT_UNIT + _STATE_EXP),
        view=view,
    )


def refuse_drive(record: LayerRecord, settled: Settled) -> bool:
    """Say whether a layer's delays count; netx drops them, and a bias, which never counts."""
    for name, values in (("bias", record.bias), ("delay", record.delay)):
        if values is None or not values.any():
            continue
        place = f"{record.where}/{name}"
        chosen = settled.profile(
            name,
            place,
            f"a {name} of a resonate-and-fire layer: netx drops it, SLAYER does not",
            "choose profile='netx' to drop it, or train without it",
        )
        if chosen == "slayer" and name == "bias":
            fail(
                "F074",
                place,
                "Lava's RF has no bias",
                "read it with profile='netx', or train without it",
            )
    return settled.options.profile == "slayer"


def _factors(neuron: NeuronRecord, settled: Settled) -> tuple[int, int]:
    """Return sine and cosine times decay, in 4096ths, as the file states them."""
    settled.note(
        "sinDecay, cosDecay",
        "as in the file",
        "SLAYER; netx takes a period and a decay in between and may lose one, by NumPy's release",
    )
    sine, cosine = (
        number(neuron, name, -DECAY_UNITY, DECAY_UNITY) for name in ("sinDecay", "cosDecay")
    )
    return sine, cosine
