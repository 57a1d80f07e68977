"""Sigma-delta neurons (``SDNN``) of ``.net`` files in a program's integers.

What netx hands to Lava (lava-dl 0.6.0, ``lava.lib.dl.netx.hdf5.Network.get_neuron_params``):
an input layer is a Delta, a layer with ``sigma_output`` a Sigma, all others are SigmaDelta
with a ReLU; ``state_exp`` is 6, ``vth = vThMant``, ``bias`` counts like ``vth``. ``spike_exp``
is netx's argument, 6 if nobody says otherwise, which is the scale that SLAYER trains with.
"""

from __future__ import annotations

from typing import Any

from spikec.compiler.arrays import Shape
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.frontends.lava_neurons import Settled, number, spread_bias
from spikec.compiler.frontends.lava_schema import LayerRecord, NeuronRecord, fail
from spikec.compiler.ir import SourceView
from spikec.compiler.sigma_delta import Activation, SigmaDelta

__all__ = ["encoder", "input_delta", "is_encoder"]

_KIND = "SDNN"
#: netx's ``state_exp``, and its ``spike_exp`` and message bits where nobody gives others.
_STATE_EXP = 6
_SPIKE_EXP = 6
_MESSAGE_BITS = 16
#: SLAYER's unit of a weight, as a power of two: 64 is 1.
_WEIGHT_UNIT = 6
_MOST = (1 << 31) - 1


def is_encoder(record: LayerRecord) -> bool:
    """Say whether a layer has sigma-delta neurons."""
    return record.neuron is not None and record.neuron.kind == _KIND


def input_delta(
    record: LayerRecord, shape: Shape, settled: Settled, view: SourceView
) -> SigmaDelta:
    """Return an input layer's population, which sends how its values change."""
    neuron = _neuron(record)
    return SigmaDelta(
        encoding="delta", vth=_threshold(neuron, settled), **_shared(record, shape, settled, view)
    )


def encoder(
    record: LayerRecord, shape: Shape, settled: Settled, *, start: int, view: SourceView
) -> SigmaDelta:
    """Return a layer's population: a sum that is read, or one whose changes are sent on."""
    neuron = _neuron(record)
    shared = _shared(record, shape, settled, view) | {"start": start}
    if neuron.sigma_output is not None:
        if not neuron.sigma_output:
            fail(
                "F074",
                f"{neuron.where}/sigma_output",
                "it is false: SLAYER writes it only where it is true, netx takes any for true",
                "leave the field out, or set it to true",
            )
        if record.bias is not None and record.bias.any():
            fail(
                "F074",
                f"{record.where}/bias",
                "a bias on a sigma_output: Lava's Sigma and SLAYER's Output block have none",
                "leave the bias out, or the sigma_output",
            )
        return SigmaDelta(encoding="sigma", vth=None, **shared)
    return SigmaDelta(
        encoding="sigma_delta",
        vth=_threshold(neuron, settled),
        bias=spread_bias(record, shape),
        activation=_activation(neuron, settled),
        **shared,
    )


def _neuron(record: LayerRecord) -> NeuronRecord:
    assert record.neuron is not None
    return record.neuron


def _shared(
    record: LayerRecord, shape: Shape, settled: Settled, view: SourceView
) -> dict[str, Any]:
    neuron, spike_exp = _neuron(record), _spike_exp(settled)
    bits = neuron.fields["messageBits"]
    if bits is None:
        bits = _MESSAGE_BITS
        settled.note("message bits", bits, "netx's default")
    elif not 1 <= bits <= 24:
        fail(
            "F072",
            f"{neuron.where}/messageBits",
            f"{bits} is outside 1..24",
            "messages of 0 bits would be spikes without a value; a chip's sums have 24 bits",
        )
    return {
        "name": f"layer{record.index}",
        "shape": shape,
        "spike_exp": spike_exp,
        "state_exp": _STATE_EXP,
        "message_bits": bits,
        "lsb": 2.0 ** -(_WEIGHT_UNIT + spike_exp + _STATE_EXP),
        "start": view.lag,
        "view": view,
    }


def _spike_exp(settled: Settled) -> int:
    given = settled.options.spike_exp
    if given is None:
        settled.note("spike_exp", _SPIKE_EXP, "netx's default, and SLAYER's scale")
        return _SPIKE_EXP
    if not 0 <= given <= 24:
        raise UsageError(
            Diagnostic(
                code="U083",
                where="option --spike-exp",
                message=f"{given} is no exponent of a message",
                hint="give 0 to 24",
            )
        )
    settled.note("spike_exp", given, "option spike_exp")
    return given


def _threshold(neuron: NeuronRecord, settled: Settled) -> int:
    return number(neuron, "vThMant", 0, _MOST >> (_spike_exp(settled) + _STATE_EXP))


def _activation(neuron: NeuronRecord, settled: Settled) -> Activation:
    """Return the activation: netx builds a ReLU whatever the file says."""
    name = neuron.activation
    if name in (None, "relu"):
        settled.note("activation", "relu", "the file" if name else "netx: every SigmaDelta")
        return "relu"
    place = f"{neuron.where}/activation"
    chosen = settled.profile(
        "activation",
        place,
        f"it is '{name}': SLAYER applies it, netx builds a ReLU all the same",
        "choose profile='netx' for a ReLU, or profile='slayer'",
    )
    if chosen == "netx":
        return "relu"
    if name not in ("identity", "unit", "Identity"):
        fail(
            "F074",
            place,
            f"'{name}' has no integer meaning in Lava, whose activations are ReLU and none",
            "train with torch.nn.functional.relu",
        )
    return "unit"
