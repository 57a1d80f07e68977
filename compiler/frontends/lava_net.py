"""lava-dl's ``.net`` files: integer networks that become programs without quantization.

The meaning of every layer is what netx and Lava compute (lava-dl 0.6.0, lava-nc 0.10.0)
and, for the layers that netx refuses, what SLAYER computes. ``docs/lava-net.md`` lists
both. Each layer takes one step, as in Lava. A run is one sample, and a layer's bias
sets in when the sample's first step reaches it: layer k starts k steps after the first,
which is how netx phases the resets of ``reset_interval``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.files import sha256_of
from spikec.compiler.frontends import (
    lava_encoders,
    lava_neurons,
    lava_operators,
    lava_resonators,
)
from spikec.compiler.frontends.lava_delays import delayed
from spikec.compiler.frontends.lava_heaps import check_heaps
from spikec.compiler.frontends.lava_neurons import PROFILES, Settled
from spikec.compiler.frontends.lava_schema import LayerRecord, fail, read_layers
from spikec.compiler.frontends.lava_weights import LARGEST_WEIGHT, connections
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.hdf5 import read_tree, top_level_names
from spikec.compiler.ir import SourceView
from spikec.compiler.names import joined
from spikec.compiler.operators import Weighted, with_weight
from spikec.compiler.program import Connection, Neurons, Populated, Program, ProgramInput
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import SigmaDelta
from spikec.compiler.version import VERSION

__all__ = ["FORMAT", "read", "recognises"]

FORMAT = "lava-dl.net"
TARGET = "loihi2"

_Span: TypeAlias = tuple[int, int]

#: What eight bits of both signs hold.
_MIXED = (-256, 254)


def recognises(path: Path) -> bool:
    """Say whether ``path`` is an HDF5 file with layers, and not one with NIR's nodes."""
    top = top_level_names(path)
    return "layer" in top and "node" not in top


def read(path: Path, options: ReadOptions | None = None) -> Program:
    """Read the network in ``path`` as a program.

    Raises :class:`~spikec.compiler.errors.FrontendError` naming file, layer, field and
    value for what is damaged, has no integer meaning, or leaves open what ``options``
    do not answer.
    """
    options = options or ReadOptions()
    if options.profile not in (None, *PROFILES):
        fail(
            "F075",
            str(path),
            f"there is no profile '{options.profile}' for .net files",
            f"choose one of {', '.join(PROFILES)}, or none",
        )
    options.compare_for_all()
    check_heaps(path)
    records = read_layers(read_tree(path), path)
    encodes = any(lava_encoders.is_encoder(record) for record in records)
    draft = _Draft(settled=Settled(options), path=path, encodes=encodes)
    if encodes:
        draft.settled.note("bias", "counts from the first step on, in all layers", "netx: no reset")
    else:
        draft.settled.note(
            "bias", "sets in when a sample's first step arrives", "netx's reset_interval: one run"
        )
    for record in records:
        _READERS.get(record.kind, _unknown)(draft, record)
    _refuse_idle(draft)
    return draft.program(sha256_of(path.read_bytes()))


@dataclass
class _Draft:
    """The network so far: ``source`` gave the last values, of ``shape``."""

    settled: Settled
    path: Path
    source: str = ""
    shape: Shape = ()
    encodes: bool = False
    lag: int = 0
    inputs: list[ProgramInput] = field(default_factory=list)
    populations: list[Populated] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)

    @property
    def start(self) -> int:
        """The step at which the sample's first step reaches the next layer."""
        return len(self.populations) + 1

    @property
    def view(self) -> SourceView:
        return SourceView(lag=self.lag, current_lag=self.lag)

    def take(self, entry: ProgramInput) -> None:
        self.inputs.append(entry)
        self.source, self.shape = entry.name, entry.shape

    def add(self, population: Populated, incoming: list[Connection]) -> None:
        self.connections += incoming
        self.populations.append(population)
        self.source, self.shape = population.name, population.shape

    def refuse_mixture(self, record: LayerRecord) -> None:
        """Refuse spiking and sigma-delta layers in one file: each is another kind of message."""
        if not self.populations:
            return
        before = isinstance(self.populations[-1], SigmaDelta)
        if before != lava_encoders.is_encoder(record):
            kinds = ("sigma-delta", "spiking") if before else ("spiking", "sigma-delta")
            fail(
                "F074",
                record.where,
                f"a {kinds[1]} layer after a {kinds[0]} one: spikes are no changes, and changes "
                "no spikes",
                "use one kind of neuron in all layers",
            )

    def program(self, digest: str) -> Program:
        if not self.populations:
            fail("F070", f"{self.path}: layer", "there is no layer with neurons in it")
        return Program(
            target=TARGET,
            inputs=tuple(self.inputs),
            populations=tuple(self.populations),
            connections=tuple(self.connections),
            outputs=(self.populations[-1].name,),
            provenance={
                "spikec": VERSION,
                "source": {"path": str(self.path), "format": FORMAT, "sha256": digest},
                "choices": self.settled.choices,
            },
        )


def _refuse_idle(draft: _Draft) -> None:
    """Refuse options that answered nothing: no choice names them.

    A profile answers where its readers differ, and may be said of any file: it is then noted.
    """
    settled = draft.settled
    answered = {origin for _, _, origin in settled.choices}
    if settled.options.profile is not None and "option profile" not in answered:
        settled.note("profile", settled.options.profile, "option profile")
        answered.add("option profile")
    settled.options.refuse_all_but(
        [item.name for item in fields(ReadOptions) if f"option {item.name}" in answered],
        str(draft.path),
    )


def _unknown(draft: _Draft, record: LayerRecord) -> None:  # noqa: ARG001
    fail(
        "F074",
        f"{record.where}/type",
        f"there is no layer type '{record.kind}'",
        f"known are {', '.join(sorted(_READERS))}",
    )


def _input(draft: _Draft, record: LayerRecord) -> None:
    if record.index:
        fail("F074", record.where, "an input layer that is not the first", "put it first")
    if lava_resonators.is_resonator(record):
        fail(
            "F074",
            f"{record.where}/neuron/type",
            "resonate-and-fire neurons at the input: netx cannot build them",
            "let spikes enter: an input layer without neuron",
        )
    if record.shape is None:
        fail("F070", f"{record.where}/shape", "it is missing")
    if record.neuron is None:
        _take_messages(draft, record, record.shape)
        return
    _driven_input(draft, record, record.shape)


def _take_messages(draft: _Draft, record: LayerRecord, shape: Shape) -> None:
    """Take spikes or integers from outside, which netx asks its user for: input_message_bits."""
    bits = draft.settled.options.input_bits
    if bits is None and draft.encodes:
        fail(
            "F075",
            record.where,
            "sigma-delta layers, and no neuron at the input: netx takes what comes in for spikes "
            "unless its input_message_bits says otherwise",
            "give --input-bits 16 for integers, the changes of activations, or 0 for spikes",
        )
    if bits is None or bits == 0:
        origin = "netx's input_message_bits of 0" if bits is None else "option input_bits"
        draft.settled.note("input", "binary spikes", origin)
        draft.take(ProgramInput(name="input", shape=shape, kind="binary", low=0, high=1))
        return
    if not 1 <= bits <= 24:
        raise UsageError(
            Diagnostic(
                code="U083",
                where="option --input-bits",
                message=f"{bits} bits are no width of a message",
                hint="give 1 to 24, with sign, or 0 for spikes",
            )
        )
    most = 1 << (bits - 1)
    draft.settled.note("input", f"integers of {bits} bits, one a step", "option input_bits")
    # Lava's messages of 24 bits end at +-(2**23 - 1).
    low, high = max(-most, 1 - (1 << 23)), max(1, most - 1)
    draft.take(ProgramInput(name="input", shape=shape, kind="graded", low=low, high=high))


def _driven_input(draft: _Draft, record: LayerRecord, shape: Shape) -> None:
    """Neurons driven by a value per step: netx's input block."""
    draft.lag = 1
    population, (low, high) = (
        _changes(draft, record, shape)
        if lava_encoders.is_encoder(record)
        else _driven_neurons(draft, record, shape)
    )
    weight, bias = (_transform(values, usual) for values, usual in _transforms(record))
    draft.settled.note(
        "input", f"integers {weight} * x + {bias}, one a step", "layer/0/weight and bias"
    )
    entry = ProgramInput(name="input", shape=shape, kind="graded", low=low, high=high)
    draft.take(entry)
    operator = lava_operators.identity(record, shape)
    draft.add(
        population,
        connections(source=entry.name, target=population.name, operator=operator, delay=1),
    )


def _changes(draft: _Draft, record: LayerRecord, shape: Shape) -> tuple[SigmaDelta, _Span]:
    """Return an input that sends how its value changed, and what its value may be."""
    population = lava_encoders.input_delta(record, shape, draft.settled, draft.view)
    # Lava shifts the value up in 32 bits; its sums have 24.
    most = min(1 << 23, 1 << (31 - population.scale)) - 1
    return population, (-most, most)


def _driven_neurons(draft: _Draft, record: LayerRecord, shape: Shape) -> tuple[Neurons, _Span]:
    """Return an input of neurons whose bias is the value, and what that may be."""
    population = lava_neurons.neurons(record, shape, draft.settled, start=1, view=draft.view)
    if (population.du != 4095).any() and draft.settled.options.profile != "slayer":
        assert record.neuron is not None
        fail(
            "F075",
            f"{record.neuron.where}/iDecay",
            f"it is {record.neuron.fields['iDecay']}: SLAYER sends the input through the current, "
            "netx past it to the voltage, which a program cannot",
            "choose profile='slayer', or an input layer with iDecay 4096, where both agree",
        )
    # What Lava documents for bias_mant, 13 bits with sign.
    return population, (-4096, 4095)


def _transforms(record: LayerRecord) -> tuple[tuple[Array | None, int], tuple[Array | None, int]]:
    # netx's create_input takes 64 and 0 where the file has none.
    return (record.weight, 64), (record.bias, 0)


def _transform(values: Array | None, usual: int) -> str:
    if values is None:
        return str(usual)
    few = [str(value) for value in values.reshape(-1)[:4]]
    return few[0] if values.size == 1 else f"[{', '.join(few)}{', ...' * (values.size > 4)}]"


def _flatten(draft: _Draft, record: LayerRecord) -> None:
    if not draft.source:
        fail("F073", record.where, "there is nothing to flatten", "state an input layer first")
    if record.shape is not None and size(record.shape) != size(draft.shape):
        fail(
            "F073",
            f"{record.where}/shape",
            f"the file says {record.shape}; the layer before gives {draft.shape}",
        )
    draft.shape = (size(draft.shape),)


def _dense(draft: _Draft, record: LayerRecord) -> None:
    if not lava_resonators.is_resonator(record):
        _check_real(record)
    if not draft.source:
        _take_messages(draft, record, _inferred_inputs(record))
        draft.settled.note("input", "as many values as weights", "no input layer")
    if len(draft.shape) > 1 and size(draft.shape[1:]) > 1:
        fail(
            "F073",
            record.where,
            f"a dense layer after one of shape {draft.shape}",
            "put a flatten layer between them",
        )
    if lava_resonators.is_resonator(record):
        _resonate(draft, record)
        return
    operator = lava_operators.dense(record, draft.shape, record.weight, "weight")
    _add(draft, record, _ranged(draft, record, operator, "weight"), (operator.weight.shape[0],))


def _resonate(draft: _Draft, record: LayerRecord) -> None:
    """A dense layer whose weights are complex: two connections, one into each part."""
    if record.weight_imag is None:
        fail(
            "F074",
            f"{record.where}/weight",
            "real weights into resonate-and-fire neurons: netx cannot build it",
            "use SLAYER's block.rf or block.rf_iz, whose weights are complex",
        )
    draft.refuse_mixture(record)
    delays_count = lava_resonators.refuse_drive(record, draft.settled)
    name = f"layer{record.index}"
    found = []
    for part, weight in (("real", record.weight), ("imag", record.weight_imag)):
        operator = lava_operators.dense(record, draft.shape, weight, f"weight/{part}")
        found.append((part, _ranged(draft, record, operator, f"weight/{part}")))
    layer = record if delays_count else replace(record, delay=None)
    shape = (found[0][1].weight.shape[0],)

    def built(imaginary: tuple[str, ...]) -> Resonator:
        return lava_resonators.resonator(
            record, shape, draft.settled, view=draft.view, imaginary=imaginary
        )

    population = built(())
    incoming = [
        replace(one, name=joined(one.name, part))
        for part, operator in found
        for one in delayed(draft.settled, layer, draft.source, operator, population)
    ]
    imaginary = tuple(one.name for one in incoming if one.name.endswith(".imag"))
    draft.add(built(imaginary), incoming)
    draft.settled.note(f"{name} voltage, current", "real and imaginary part", "Lava's RF")


def _recurrent(draft: _Draft, record: LayerRecord) -> None:
    _check_real(record)
    name, shape = f"layer{record.index}", (size(record.shape or ()),)
    operator = lava_operators.dense(record, shape, record.weight_rec, "weight_rec")
    if record.delay is not None and record.delay.any():
        fail(
            "F074",
            f"{record.where}/delay",
            "a delay on a recurrent layer: SLAYER keeps it out of the loop, netx cannot build it",
            "train without it",
        )
    _dense(draft, record)
    loop = _ranged(draft, record, operator, "weight_rec")
    draft.connections += connections(source=name, target=name, operator=loop, delay=1)


def _inferred_inputs(record: LayerRecord) -> Shape:
    weight = record.weight
    if weight is None or not weight.size or weight.ndim < 2:
        fail("F073", record.where, "the number of inputs is unknown", "state an input layer first")
    return (int(weight.shape[1]),)


def _spatial(draft: _Draft, record: LayerRecord) -> None:
    _check_real(record)
    if not draft.source:
        fail(
            "F073",
            record.where,
            f"the shape of the input is unknown to the {record.kind} layer",
            "state an input layer with its shape first",
        )
    operator, shape = lava_operators.spatial(record, draft.shape)
    _add(draft, record, _ranged(draft, record, operator, "weight"), shape)


def _average(draft: _Draft, record: LayerRecord) -> None:
    if not draft.source or not draft.populations:
        fail("F073", record.where, "there are no spikes to average", "state layers before it")
    if draft.encodes:
        fail(
            "F074",
            record.where,
            "an average of changes, in spikes' units",
            "end with a sigma_output layer: SLAYER's block.sigma_delta.Output",
        )
    operator, group = lava_operators.average(record, draft.shape)
    shape = (operator.weight.shape[0],)
    # SLAYER takes the mean of the same step; a connection needs one: the view undoes it.
    view = SourceView(lag=draft.lag + 1, current_lag=draft.lag + 1)
    population = lava_neurons.average_readout(record, shape, group, view)
    draft.settled.note(
        f"layer{record.index}", f"the mean of {group} neurons is voltage * lsb", "SLAYER's Average"
    )
    incoming = connections(source=draft.source, target=population.name, operator=operator, delay=1)
    draft.add(population, incoming)


def _concat(draft: _Draft, record: LayerRecord) -> None:  # noqa: ARG001
    fail(
        "F074",
        record.where,
        "a concat layer: no release of lava-dl writes one or says which layers it joins",
        "export the branches' layers in a chain, or as an own graph",
    )


def _check_real(record: LayerRecord) -> None:
    if lava_resonators.is_resonator(record):
        fail(
            "F074",
            f"{record.where}/neuron/type",
            f"resonate-and-fire neurons in a {record.kind} layer: netx builds dense ones only",
            "use a dense layer",
        )
    if record.neuron is not None and not lava_encoders.is_encoder(record):
        lava_neurons.check_kind(record.neuron)
    if record.weight_imag is not None:
        fail(
            "F074",
            f"{record.where}/weight",
            "complex weights; they feed resonate-and-fire neurons in dense layers, and nothing "
            "else in netx",
            "use RF_PHASE or RF_IZHIKEVICH neurons in a dense layer, or real weights",
        )


def _add(draft: _Draft, record: LayerRecord, operator: Weighted, shape: Shape) -> None:
    if draft.populations and draft.populations[-1].vth is None:
        fail(
            "F073",
            record.where,
            f"it follows '{draft.source}', which sends no spikes",
            "a layer without spikes can only be the last",
        )
    draft.refuse_mixture(record)
    population: Populated
    if lava_encoders.is_encoder(record):
        population = lava_encoders.encoder(
            record, shape, draft.settled, start=draft.lag, view=draft.view
        )
    elif record.neuron is None:
        population = lava_neurons.readout(record, shape, start=draft.start, view=draft.view)
        draft.settled.note(
            f"{population.name} has no neuron", "it integrates and never spikes", "netx's default"
        )
    else:
        population = lava_neurons.neurons(
            record, shape, draft.settled, start=draft.start, view=draft.view
        )
    draft.add(population, delayed(draft.settled, record, draft.source, operator, population))


def _ranged(draft: _Draft, record: LayerRecord, operator: Weighted, name: str) -> Weighted:
    """Return the operator with the weights that count; where netx would clip, the profile says.

    netx clips weights of both signs to what eight mixed bits hold, a recurrent layer's
    together. Weights of one sign beyond eight bits it cannot build: they stay as they are.
    """
    weight: Array = operator.weight << lava_neurons.weight_shift(record, draft.settled)
    largest = int(np.abs(weight).max())
    if largest > LARGEST_WEIGHT:
        fail("F072", f"{record.where}/{name}", f"a weight counts {largest}, over {LARGEST_WEIGHT}")
    parts = [operator.weight] if record.weight_imag is not None else [record.weight]
    both = [item for item in (*parts, record.weight_rec) if item is not None and item.size]
    low, high = min(int(item.min()) for item in both), max(int(item.max()) for item in both)
    if high <= 0 and low < 0 and record.kind == "dense":
        # netx scales such weights to -256, which Lava clips, or loses all of them if one is 0.
        draft.settled.note(f"layer{record.index} {name}", "as in the file", "SLAYER: all negative")
    leaves = low < 0 < high and (low < _MIXED[0] or high > _MIXED[1])
    if leaves and record.kind in ("dense", "dense_rec", "recurrent"):
        chosen = draft.settled.profile(
            name,
            f"{record.where}/{name}",
            f"weights span {low}..{high}; netx clips them to {_MIXED[0]}..{_MIXED[1]}, SLAYER "
            "takes them as they are",
            "choose profile='slayer' or profile='netx'",
        )
        if chosen == "netx":
            weight = np.clip(weight, *_MIXED)
    return with_weight(operator, weight)


_READERS: dict[str, Callable[[_Draft, LayerRecord], None]] = {
    "average": _average,
    "concat": _concat,
    "conv": _spatial,
    "convT": _spatial,
    "dense": _dense,
    "dense_rec": _recurrent,
    "flatten": _flatten,
    "input": _input,
    "pool": _spatial,
    # What the old SLAYER (nxsdk) calls dense_rec: its loop's weights are recWeight.
    "recurrent": _recurrent,
    "unpool": _spatial,
}
