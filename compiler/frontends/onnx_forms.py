"""The shapes in which networks come as ONNX files, each brought to one time step.

One step with explicit states, a loop over time (``Scan`` or ``Loop``), a graph
unrolled over time, neurons as functions. What is returned says which values are
states, what they become, and what comes out, all as affine forms.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

import numpy as np
import onnx

from spikec.compiler.arrays import Shape, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import Form, Gate, Signal
from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.frontends.onnx_operators import as_form
from spikec.compiler.frontends.onnx_reroll import Rolled, is_unrolled, rerolled
from spikec.compiler.frontends.onnx_step import (
    Final,
    NotAStepError,
    Step,
    StepState,
    Timed,
    Value,
)
from spikec.compiler.ir import Choice
from spikec.compiler.limits import MOST_STEPS

__all__ = [
    "StepModel",
    "becomes_spike",
    "copied_from",
    "has_time_loop",
    "one_sample",
    "read_steps",
]

#: The number of steps assumed where a file leaves it open: any would do.
_ANY_STEPS = 13
_STATE_SUFFIX = re.compile(r"(_next|_out|_new|\.next|\.out)$")


@dataclass(frozen=True, eq=False, kw_only=True)
class StepModel:
    """One time step: signals with their shapes, states, and named outputs.

    ``after_names`` says which output carries a state on, for a file of one step;
    ``length`` is the number of steps of a file unrolled over time, ``parts`` its
    outputs that together are one series, and ``irregular`` where its steps differ.
    """

    step: Step
    signals: Mapping[str, Shape]
    states: tuple[StepState, ...]
    outputs: Mapping[str, Form]
    choices: tuple[Choice, ...]
    after_names: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    parts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    irregular: str = ""
    #: How many steps a population rests after its spike, where it does.
    refractory: Mapping[Gate, int] = field(default_factory=dict)


def has_time_loop(graph: onnx.GraphProto) -> bool:
    """Say whether the graph itself runs over time."""
    return any(node.op_type in ("Scan", "Loop") for node in graph.node)


def read_steps(file: OnnxFile) -> Iterator[StepModel]:
    """Yield the step that ``file`` describes; :class:`NotAStepError` says why it is none.

    There are several where the file allows several readings: the first that gives
    what the file gives is the right one.
    """
    model = file.model
    graph = model.graph
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    constants = {*file.weights, *(tensor.name for tensor in graph.initializer)}
    inputs = [entry for entry in graph.input if entry.name not in constants]
    if has_time_loop(graph):
        yield from _readings(lambda spikes: _loop_model(file, inputs, opset, spikes))
        return
    metadata = {item.key: item.value for item in model.metadata_props}
    if len(inputs) == 1 and not metadata.get("snn.states", ""):
        declared = _declared(inputs[0])
        if is_unrolled(model, inputs[0].name, declared):
            yield from map(_rolled_model, rerolled(file, inputs[0].name, declared))
            return
    yield from _readings(
        lambda spikes: _step_model(file, inputs, metadata.get("snn.states", ""), opset, spikes)
    )


def _readings(read: Callable[[AbstractSet[str] | None], StepModel]) -> Iterator[StepModel]:
    """Yield the step with its states as they are, then with those that hold spikes as spikes.

    A state that becomes a spike is 0 or 1 and may multiply what it gates; which ones do is
    only known once the step is read with them. So all are taken for spikes first, then
    those that are found to become spikes, until nothing changes.
    """
    problem: NotAStepError | None = None
    try:
        yield read(frozenset())
    except NotAStepError as error:
        problem = error
    try:
        spikes = _spike_states(read)
        if spikes:
            yield read(spikes)
            return
    except NotAStepError as error:
        problem = problem or error
    if problem is not None:
        raise problem


def _spike_states(read: Callable[[AbstractSet[str] | None], StepModel]) -> frozenset[str]:
    """Return the states that become spikes when just these are taken for spikes."""
    assumed: frozenset[str] | None = None
    while True:
        found = frozenset(
            state.name
            for state in read(assumed).states
            if (assumed is None or state.name in assumed)
            and becomes_spike(state)
            and not np.any(state.initial)
        )
        if found == assumed or not found:
            return found
        assumed = found


def becomes_spike(state: StepState) -> bool:
    """Say whether a state becomes the spikes of a threshold, or 1 less those."""
    opposite = affine.constant(np.ones(state.after.shape)) - state.after
    return any(
        gate is not None and gate.most == 1
        for gate in (state.after.is_spike(), opposite.is_spike())
    )


def _rolled_model(rolled: Rolled) -> StepModel:
    choices = [
        Choice(
            what="unrolled over time",
            value=f"{rolled.steps} steps brought to one that runs for any number",
            origin="file",
        ),
        Choice(
            what="time index of hidden layers",
            value=rolled.order,
            origin="order of the file's nodes",
        ),
        Choice(what="initial states", value=_initials(rolled.states), origin="file"),
    ]
    return StepModel(
        step=rolled.step,
        signals=rolled.signals,
        states=rolled.states,
        outputs=rolled.outputs,
        choices=tuple(choices),
        length=rolled.steps,
        parts=rolled.parts,
        irregular=rolled.irregular,
    )


def _loop_model(
    file: OnnxFile,
    inputs: Sequence[onnx.ValueInfoProto],
    opset: int,
    spikes: AbstractSet[str] | None,
) -> StepModel:
    graph = file.model.graph
    step = Step(opset, spikes=spikes)
    environment: dict[str, Value] = dict(file.weights)
    signals: dict[str, Shape] = {}
    for entry in inputs:
        shape = _shape(entry, leading=_ANY_STEPS)
        if len(shape) < 2:
            raise NotAStepError(f"input '{entry.name}'", f"shape {shape} has no time axis")
        if shape[0] > MOST_STEPS:
            raise NotAStepError(f"input '{entry.name}'", f"it has {shape[0]} steps")
        signals[entry.name] = _without_batch(shape[1:], entry.name)
        form = affine.atom(Signal(entry.name), (1, *shape[1:]))
        environment[entry.name] = Timed(form, shape[0])
    values = step.run(graph, environment)
    outputs = {
        entry.name: _output(values[entry.name], entry.name)
        for entry in graph.output
        if not isinstance(values[entry.name], Final)
    }
    states = tuple(step.states.values())
    choices = [
        Choice(what=f"initial state '{state.name}'", value="from the loop", origin="file")
        for state in states
    ]
    return StepModel(
        step=step,
        signals=signals,
        states=states,
        outputs={name: form for name, form in outputs.items() if form is not None},
        choices=tuple(choices),
    )


def _step_model(
    file: OnnxFile,
    inputs: Sequence[onnx.ValueInfoProto],
    metadata: str,
    opset: int,
    spikes: AbstractSet[str] | None,
) -> StepModel:
    graph = file.model.graph
    pairs, origin = _pairs(graph, inputs, metadata)
    step = Step(opset, spikes=spikes)
    environment: dict[str, Value] = dict(file.weights)
    signals: dict[str, Shape] = {}
    shapes: dict[str, Shape] = {}
    for entry in inputs:
        shape = _shape(entry, leading=1)
        if entry.name in pairs:
            shapes[entry.name] = shape
            environment[entry.name] = step.state(entry.name, shape)
        else:
            signals[entry.name] = _without_batch(shape, entry.name)
            environment[entry.name] = affine.atom(Signal(entry.name), shape)
    values = step.run(graph, environment)
    states = []
    for name, (after, initial) in pairs.items():
        form = as_form(step, values[after], f"output '{after}'")
        if size(form.shape) != size(shapes[name]):
            raise NotAStepError(
                f"state '{name}'",
                f"it has shape {shapes[name]}, but '{after}', its next value by {origin}, "
                f"has {form.shape}",
                _PAIRING_HINT,
            )
        form = form.reshaped(shapes[name])
        start = np.full(shapes[name], initial, dtype=np.float32)
        states.append(StepState(name=name, initial=start, after=form))
        _confirm(states[-1], origin)
    afters = {after for after, _ in pairs.values()}
    # An exporter may list one tensor as the output and as a state: then it is both.
    shown = [entry.name for entry in graph.output if entry.name not in afters]
    shown = shown or [graph.output[0].name]
    outputs = {name: as_form(step, values[name], f"output '{name}'") for name in shown}
    choices = (
        Choice(
            what="state pairs",
            value=", ".join(f"{name} -> {after}" for name, (after, _) in pairs.items()),
            origin=origin,
        ),
        Choice(what="initial states", value=_initials(states), origin=_initial_origin(metadata)),
    )
    return StepModel(
        step=step,
        signals=signals,
        states=tuple(states),
        outputs=outputs,
        choices=choices,
        after_names={name: after for name, (after, _) in pairs.items()},
    )


_METADATA_HINT = 'write JSON such as [{"input": "X", "output": "X_next", "init": 0.0}]'
_PAIRING_HINT = "name states X and X_next, or list them in metadata 'snn.states'"
_Pairs = dict[str, "tuple[str, float]"]


def _pairs(
    graph: onnx.GraphProto, inputs: Sequence[onnx.ValueInfoProto], metadata: str
) -> tuple[_Pairs, str]:
    """Return state input -> (state output, initial value), and how they were found."""
    outputs = [entry.name for entry in graph.output]
    names = [entry.name for entry in inputs]
    if metadata:
        return _declared_pairs(metadata, names, outputs), "metadata 'snn.states'"
    by_name = _named_pairs(names, outputs)
    if by_name:
        _refuse_left_over(graph, inputs, by_name)
        return by_name, "their names"
    states, afters = names[1:], outputs[1:]
    if not states:
        raise NotAStepError(
            "graph",
            "it has no state inputs"
            + (f", but {len(afters)} further outputs" if afters else "")
            + ": the states of its neurons are constants, or it is not a spiking network",
            "export one step with every state as an input and an output "
            "(snnTorch: init_hidden=False; Norse: pass the state); a ReLU network becomes a "
            "spiking one with 'spikec convert FILE OUT --convert rate --data D.npz'",
        )
    if len(states) != len(afters):
        raise NotAStepError(
            "graph",
            f"{len(states)} further inputs and {len(afters)} further outputs cannot be paired",
            "give states the names X and X_next, or list them in metadata 'snn.states'",
        )
    return {name: (after, 0.0) for name, after in zip(states, afters, strict=True)}, (
        "their position: the k-th further input and output"
    )


def _declared_pairs(metadata: str, inputs: Sequence[str], outputs: Sequence[str]) -> _Pairs:
    try:
        entries = [
            (str(item["input"]), str(item["output"]), float(item.get("init", 0.0)))
            for item in json.loads(metadata)
        ]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise NotAStepError(
            "metadata 'snn.states'", f"it cannot be read: {error}", _METADATA_HINT
        ) from error
    for before, after, _ in entries:
        if before not in inputs or after not in outputs:
            raise NotAStepError(
                "metadata 'snn.states'",
                f"'{before}' -> '{after}' are no input and output",
                _METADATA_HINT,
            )
    return {before: (after, initial) for before, after, initial in entries}


def _named_pairs(inputs: Sequence[str], outputs: Sequence[str]) -> _Pairs:
    pairs = {}
    for after in outputs:
        before = _STATE_SUFFIX.sub("", after)
        if before != after and before in inputs:
            pairs[before] = (after, 0.0)
    return pairs


def _refuse_left_over(
    graph: onnx.GraphProto, inputs: Sequence[onnx.ValueInfoProto], pairs: _Pairs
) -> None:
    """Refuse an input that could be a state whose partner has another name."""
    afters = {after for after, _ in pairs.values()}
    left = [entry for entry in inputs[1:] if entry.name not in pairs]
    others = [entry.name for entry in graph.output[1:] if entry.name not in afters]
    if left and others:
        raise NotAStepError(
            f"input '{left[0].name}'",
            f"is it data or a state? Other states are paired by name, and output '{others[0]}' "
            "is in no pair either",
            _PAIRING_HINT,
        )


def _confirm(state: StepState, origin: str) -> None:
    """Refuse a pair whose output does not depend on its input: unless it is a bare spike."""
    own = affine.State(state.name)
    gated = {atom for gate in state.after.gates for atom in _deep_atoms(gate.form)}
    spike = state.after.is_spike() is not None
    if own in state.after.atoms or own in gated or spike or not state.after.terms:
        return
    if not any(isinstance(atom, affine.State) for atom in state.after.atoms):
        return  # a delayed input: a state that only remembers
    if copied_from(state) is not None:
        return  # a place of a delay line
    raise NotAStepError(
        f"state '{state.name}'",
        f"what it becomes does not depend on it; it was paired by {origin}",
        "name states X and X_next, or list them in metadata 'snn.states'; neurons whose states "
        "replace each other (snnTorch's Alpha) are outside the supported family",
    )


def copied_from(state: StepState) -> affine.State | Signal | None:
    """Return what a state keeps for one step, if it is another state or an input."""
    if len(state.after.terms) != 1 or state.after.gates:
        return None
    ((_, atom),) = state.after.terms
    if not isinstance(atom, (affine.State, Signal)) or atom == affine.State(state.name):
        return None
    return atom if (state.after.coefficient(atom) == 1).all() else None


def _deep_atoms(form: Form) -> frozenset[affine.Atom]:
    atoms = form.atoms
    for gate in form.gates:
        atoms |= _deep_atoms(gate.form)
    return atoms


def _output(value: Value, name: str) -> Form | None:
    if isinstance(value, Timed):
        return value.form.reshaped(value.form.shape[1:])
    if isinstance(value, (np.ndarray, Form)):
        return None
    raise NotAStepError(f"output '{name}'", "it is no series over time")


def _declared(entry: onnx.ValueInfoProto) -> list[int | None]:
    """Return an input's extents as they are declared, None where one is open."""
    return [
        int(axis.dim_value) if axis.HasField("dim_value") and axis.dim_value > 0 else None
        for axis in entry.type.tensor_type.shape.dim
    ]


def _shape(entry: onnx.ValueInfoProto, *, leading: int) -> Shape:
    """Return an input's shape; an open first axis is taken as ``leading``, an open batch as 1."""
    if not entry.type.HasField("tensor_type") or not entry.type.tensor_type.HasField("shape"):
        raise NotAStepError(f"input '{entry.name}'", "its shape is not given")
    extents = []
    for place, axis in enumerate(entry.type.tensor_type.shape.dim):
        if axis.HasField("dim_value") and axis.dim_value > 0:
            extents.append(int(axis.dim_value))
        elif place == 0:
            extents.append(leading)
        elif place == 1 and leading != 1:
            extents.append(1)
        else:
            raise NotAStepError(f"input '{entry.name}'", f"axis {place} has no fixed length")
    return tuple(extents)


def _without_batch(shape: Shape, name: str) -> Shape:
    if not shape or shape[0] != 1:
        raise NotAStepError(
            f"input '{name}'",
            f"shape {shape} has a fixed batch of {shape[0] if shape else 0}",
            "export with a batch of 1, or an open batch",
        )
    return shape[1:] or (1,)


def one_sample(entry: onnx.ValueInfoProto) -> Shape:
    """Return an input's shape without its batch of one; an open batch is taken as one."""
    return _without_batch(_shape(entry, leading=1), entry.name)


def _initials(states: Sequence[StepState]) -> str:
    values = sorted({float(value) for state in states for value in np.unique(state.initial)[:3]})
    return ", ".join(f"{value:g}" for value in values)


def _initial_origin(metadata: str) -> str:
    return "metadata 'snn.states'" if metadata else "convention: a step graph starts from zero"
