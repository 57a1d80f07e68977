"""ONNX files: spiking networks recognised by their equations, whatever wrote them.

A file is brought to one time step (:mod:`~spikec.compiler.frontends.onnx_forms`),
the step to affine forms, each threshold to a population with named switches
(:mod:`~spikec.compiler.frontends.onnx_neurons`), and the result is compared with
the file itself on random spikes (:mod:`~spikec.compiler.frontends.onnx_probe`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnx.inliner

from spikec.compiler.arrays import Array, Shape, frozen, size
from spikec.compiler.container import BROKEN
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import sha256_of_file
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import (
    Form,
    Gate,
    Image,
    Opaque,
    Signal,
    State,
    has_whole,
)
from spikec.compiler.frontends.inputs import InputSaid, with_inputs_declared
from spikec.compiler.frontends.onnx_file import OnnxFile, read_onnx_file
from spikec.compiler.frontends.onnx_floors import unfloored
from spikec.compiler.frontends.onnx_forms import StepModel, copied_from, read_steps
from spikec.compiler.frontends.onnx_memory import settled
from spikec.compiler.frontends.onnx_metadata import Noted, metadata_of, noted_in
from spikec.compiler.frontends.onnx_neurons import (
    EACH,
    Neuron,
    find_neuron,
    find_readout,
    old_versions,
)
from spikec.compiler.frontends.onnx_probe import compare
from spikec.compiler.frontends.onnx_refractory import without_counters
from spikec.compiler.frontends.onnx_sound import check_functions, check_model
from spikec.compiler.frontends.onnx_static import shown_each_step
from spikec.compiler.frontends.onnx_step import NotAStepError, StepState
from spikec.compiler.frontends.onnx_tables import as_units
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.frontends.spike_limits import limited
from spikec.compiler.ir import (
    LI,
    LIF,
    MOST_SPIKES,
    Choice,
    Edge,
    Graph,
    Input,
    Node,
    Source,
    SourceView,
)
from spikec.compiler.limits import allowed_by
from spikec.compiler.names import cleaned, distinct, fault
from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Operator,
    Permute,
    Reshape,
    Scale,
    Stage,
)

__all__ = ["opened", "read", "recognises", "refusing"]

#: What a neuron takes in a graph: a dozen numbers.
_BYTES_A_NEURON = 96
_STATE_ENDING = re.compile(
    r"[_./]?(mem|membrane|voltage|syn|current|state|spk|[vViIuUsz])([_.]?\d+)?$"
)
_SCOPE = re.compile(r"'/([^/']+)/")


def recognises(path: Path) -> bool:
    """Say whether ``path`` holds an ONNX model: a protobuf with a graph."""
    try:
        with path.open("rb") as file:
            if file.read(1) != b"\x08":  # field 1, ir_version
                return False
        model = onnx.load_model(path, load_external_data=False)
    except Exception:  # noqa: BLE001 - protobuf raises its own kinds
        return False
    return model.ir_version > 0 and len(model.graph.node) > 0


def read(path: Path, options: ReadOptions) -> Graph:
    """Read an ONNX file as a graph whose spikes are those of the file.

    Raises :class:`FrontendError` naming the node or state whose equations have
    no counterpart among a population's switches, and what to do.
    """
    with refusing(path):
        file, assumed = opened(path)
        file, shown = shown_each_step(file)
        assumed = (*assumed, *shown)
        said = _dt_said(file.model, path)
        open_questions = ("max_spikes", "inputs") if said else ("dt", "max_spikes", "inputs")
        options.refuse_all_but(open_questions, str(path))
        assumed = (*assumed, *_dt_choice(said, options))
        problem: Exception | None = None
        for step in read_steps(file):
            try:
                told = replace(options, dt=said or options.dt)
                return _lowered(path, file, step, assumed, told, is_picture=bool(shown))
            except (NotAStepError, FrontendError) as error:  # noqa: PERF203 - try the next reading
                problem = problem or error
        raise problem or NotAStepError("graph", "it describes no step")


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Raise what goes wrong inside as a :class:`FrontendError` about ``path``.

    What constants lead beyond float64 is left to the rules of a graph, which refuse it.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except NotAStepError as error:
        raise _refused(path, error.node, error.why, error.hint) from error
    except BROKEN as error:
        why = f"it is damaged, or uses ONNX in a way not foreseen: {type(error).__name__}: {error}"
        hint = "check it with onnx.checker; if it is sound, please report it"
        raise _refused(path, "model", why, hint) from error


def opened(path: Path) -> tuple[OnnxFile, tuple[Choice, ...]]:
    """Return the model in ``path`` with its functions written out, and what that assumed."""
    try:
        file = read_onnx_file(path)
    except Exception as error:  # protobuf and external data raise their own kinds
        hint = "external data must lie inside the model's folder; export the model again"
        raise _refused(path, "model", f"it cannot be loaded: {error}", hint) from error
    try:
        model, assumed = _inlined(file.model)
        check_model(model, allowed_by(path) // _BYTES_A_NEURON)
    except ValueError as error:
        raise NotAStepError("model", str(error), "export the model again") from error
    return file.with_model(model), assumed


def _lowered(
    path: Path,
    file: OnnxFile,
    step: StepModel,
    assumed: tuple[Choice, ...],
    options: ReadOptions,
    *,
    is_picture: bool,
) -> Graph:
    """Return the graph of one reading of the file, compared with the file itself."""
    _refuse_opaque(step)
    noted = noted_in(file.model)
    noted.refuse_unknown(step.signals)
    lowering = _Lowering(settled(unfloored(without_counters(step))), noted)
    graph = lowering.graph()
    graph = Graph(
        nodes=graph.nodes,
        edges=graph.edges,
        outputs=graph.outputs,
        dt=options.dt,
        source=Source(path=path.name, format="onnx", sha256=sha256_of_file(path)),
        choices=(*step.choices, *assumed, *noted.choices),
    )
    if is_picture and not noted.inputs and options.inputs is None:
        graph = with_inputs_declared(graph, "analog", origin="assumed of what is shown each step")
    graph = with_inputs_declared(graph, options.inputs)
    checked = compare(graph, file, step, lowering.output_of, path)
    return limited(checked, lowering.limits(), options.max_spikes, str(path))


def _refuse_opaque(step: StepModel) -> None:
    """Refuse an operator without a form, where a state or an output still depends on it."""
    seen: set[Gate] = set()

    def look(form: Form) -> None:
        for _, atom in form.terms:
            if isinstance(atom, Opaque):
                raise NotAStepError(atom.where, atom.why, atom.hint)
        sources = {image.source for image in form.images if isinstance(image.source, Gate)}
        for gate in (form.gates | sources) - seen:
            seen.add(gate)
            look(gate.form)

    for form in (*step.outputs.values(), *(state.after for state in step.states)):
        look(form)


def _refused(path: Path, node: str, why: str, hint: str = "") -> FrontendError:
    return FrontendError(Diagnostic(code="F100", where=f"{path}, {node}", message=why, hint=hint))


def _inlined(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[Choice, ...]]:
    """Return the model with its functions written out; our own neuron may come without a body."""
    known = {(item.domain, item.name) for item in model.functions}
    opaque = {
        (node.domain, node.op_type)
        for node in _all_nodes(model.graph)
        if node.domain not in ("", "ai.onnx") and (node.domain, node.op_type) not in known
    }
    assumed: tuple[Choice, ...] = ()
    for domain, name in sorted(opaque):
        if (domain, name) != ("ai.snn", "CubaLIF"):
            raise NotAStepError(
                f"operator '{domain}::{name}'",
                "its meaning is not in the file",
                "export with its body (a FunctionProto), or with standard operators",
            )
        model.functions.append(_cuba_lif(model))
        assumed = (
            Choice(
                what="meaning of ai.snn::CubaLIF",
                value="the seed model's step",
                origin="spikec's definition: the file has no body for it",
            ),
        )
    if not model.functions:
        return model, assumed
    check_functions(model)
    try:
        return onnx.inliner.inline_local_functions(model), assumed
    except Exception as error:  # onnx raises errors of its own
        raise NotAStepError("model", f"its functions cannot be written out: {error}") from error


def _all_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    nodes = []
    for node in graph.node:
        nodes.append(node)
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                nodes += _all_nodes(item.g)
    return nodes


def _cuba_lif(model: onnx.ModelProto) -> onnx.FunctionProto:
    """Return the seed model's neuron as a function of standard operators."""
    from onnx import parser

    version = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    return parser.parse_function(
        f"""
        <domain: "ai.snn", opset_import: ["" : {version}]>
        CubaLIF <alpha, beta, theta: float = 1.0> (x, I, U, V) => (s, I_next, U_next) {{
            th = Constant <value_float: float = @theta> ()
            above = Greater (U, th)
            s = CastLike (above, U)
            a = Constant <value_float: float = @alpha> ()
            b = Constant <value_float: float = @beta> ()
            aI = Mul (a, I)
            fed = Add (aI, x)
            Vt = Transpose (V)
            back = MatMul (s, Vt)
            I_next = Add (fed, back)
            bU = Mul (b, U)
            driven = Add (bU, I)
            reset = Mul (s, th)
            U_next = Sub (driven, reset)
        }}
        """
    )


def _dt_said(model: onnx.ModelProto, path: Path) -> float | None:
    """Return the time step in seconds that the file names in ``snn.dt``, if it does."""
    said = metadata_of(model).get("snn.dt", "")
    if not said:
        return None
    try:
        dt = float(said)
    except ValueError:
        dt = math.nan
    if not (math.isfinite(dt) and dt > 0):
        why, hint = f"'{said}' is no time step", "write seconds, above 0, or leave it out"
        raise _refused(path, "metadata 'snn.dt'", why, hint)
    return dt


def _dt_choice(said: float | None, options: ReadOptions) -> tuple[Choice, ...]:
    dt = said or options.dt
    if dt is None:
        return ()
    origin = "option --dt" if said is None else "metadata 'snn.dt'"
    return (Choice(what="dt", value=f"{dt:g} s", origin=origin),)


#: A population is known by its gate, a readout by the output that shows it.
_Key: TypeAlias = Gate | str


class _Lowering:
    """One step's forms on their way to nodes and edges."""

    def __init__(self, model: StepModel, noted: Noted) -> None:
        self._model = model
        self._noted = noted
        #: The names of inputs, by the file's.
        self._entries = _entries(model.signals, noted)
        self._found: dict[_Key, Neuron] = {}
        self._names: dict[_Key, str] = {}
        self._keys: dict[str, _Key] = {}
        self._neurons: dict[str, Neuron] = {}
        self._edges: list[Edge] = []
        self._constants: list[Node] = []
        self._old = old_versions(model.step.gates, model.states)
        #: How many steps late an output shows its population.
        self._late: dict[_Key, int] = {}
        #: The file's output that shows each output population.
        self.output_of: dict[str, str] = {}

    def graph(self) -> Graph:
        """Return the graph of everything that the outputs depend on."""
        outputs = self._outputs()
        self._name_neurons(outputs)
        names = [self._names[key] for key in self._ordered()]
        populations = [self._population(name) for name in names]
        return Graph(
            nodes=[*self._inputs(), *self._constants, *populations],
            edges=self._edges,
            outputs=list(self.output_of),
        )

    def limits(self) -> dict[str, float]:
        """Return how many spikes a step the file lets each population send."""
        return {name: neuron.max_spikes for name, neuron in self._neurons.items()}

    def _outputs(self) -> dict[str, _Key]:
        """Return what each output shows; a voltage shown beside the spikes is left out."""
        found: dict[str, _Key] = {}
        unknown: list[NotAStepError] = []
        for name, form in self._model.outputs.items():
            key = self._output(form, name)
            if key is not None:
                found[name] = key
                continue
            unknown.append(_unknown(form, name))
        if not found:
            raise unknown[0] if unknown else NotAStepError("graph", "it has no output")
        return found

    def _output(self, form: Form, name: str) -> _Key | None:
        form = self._relayed(as_units(self._model.step, form, f"output '{name}'"), name)
        shown = form.is_spike() or self._shown_state(form)
        if shown is not None:
            source, late = self._resolved(shown)
            if isinstance(source, Gate):
                self._visit(source)
                self._late[source] = late
                return source
        readout = find_readout(form, self._model.states)
        if readout is None:
            readout = self._readout_before(form)
            self._late[name] = 1 if readout is not None else 0
        if readout is None and form.terms and not form.gates:
            readout = _plain_sum(form)
        if readout is None:
            return None
        self._found[name] = readout
        self._follow(readout)
        return name

    def _relayed(self, form: Form, name: str) -> Form:
        """Return spikes that an output shows in another order, or a part of them, as spikes."""
        if len(form.terms) != 1 or form.gates or not form.images:
            return form
        (image,) = form.images
        if not (form.coefficient(image) == 1).all() or not _selects(image):
            return form
        level = affine.constant(np.full(form.shape, 0.5))
        return self._model.step.threshold(form - level, strict=True, origin=f"output '{name}'")

    def _shown_state(self, form: Form) -> State | None:
        """Return the state an output shows, if it only remembers a spike."""
        state = self._single_state(form)
        remembers = state is not None and state.after.is_spike() is not None
        return State(state.name) if state is not None and remembers else None

    def _readout_before(self, form: Form) -> Neuron | None:
        """Return the integrator whose voltage before the step an output shows."""
        state = self._single_state(form)
        return None if state is None else find_readout(state.after, self._model.states, state.floor)

    def _single_state(self, form: Form) -> StepState | None:
        if len(form.terms) != 1 or form.gates:
            return None
        (atom,) = form.atoms or (None,)
        if atom is None or not (form.coefficient(atom) == 1).all():
            return None
        # A state that remembers spikes is read as an image of itself, like the spikes of a layer.
        if isinstance(atom, Image) and not atom.stages and size(atom.sent) == size(atom.shape):
            return self._state(atom.source.name) if isinstance(atom.source, State) else None
        return self._state(atom.name) if isinstance(atom, State) else None

    def _visit(self, gate: Gate) -> None:
        """Find the population that ``gate`` belongs to, and all that feed it."""
        if gate not in self._found:
            self._found[gate] = find_neuron(gate, self._model.states)
            self._follow(self._found[gate])

    def _follow(self, neuron: Neuron) -> None:
        for image, _ in neuron.inputs:
            source = self._resolved(image.source)[0]
            if isinstance(source, Gate):
                self._visit(source)

    def _name_neurons(self, outputs: Mapping[str, _Key]) -> None:
        for number, key in enumerate(self._ordered(), start=1):
            neuron = self._found[key]
            otherwise = "readout" if neuron.gate is None else f"layer{number}"
            name = self._unused(_title(neuron, otherwise, self._noted.lags))
            self._names[key] = name
            self._keys[name] = key
            self._neurons[name] = neuron
        for output, key in outputs.items():
            self.output_of.setdefault(self._names[key], output)

    def _resolved(self, source: Signal | State | Gate) -> tuple[Signal | Gate, int]:
        """Return what really sends, and how many steps ago: states may only remember."""
        delay = 0
        while isinstance(source, State):
            state = self._state(source.name)
            if np.any(state.initial):
                raise NotAStepError(
                    f"state '{state.name}'", "a remembered spike starts from a value other than 0"
                )
            source, delay = _remembered(state), delay + 1
            if delay > len(self._model.states):
                raise NotAStepError(f"state '{state.name}'", "states that only copy each other")
        if isinstance(source, Gate) and source in self._old:
            return self._old[source], delay + 1
        return source, delay

    def _state(self, name: str) -> StepState:
        return {state.name: state for state in self._model.states}[name]

    def _ordered(self) -> list[_Key]:
        """Populations in the order in which the file computes their spikes, readouts last."""
        place: dict[_Key, int] = {gate: index for index, gate in enumerate(self._model.step.gates)}
        return sorted(self._found, key=lambda key: place.get(key, len(place)))

    def _inputs(self) -> list[Input]:
        return [
            _input(self._entries[name], shape, self._noted.inputs.get(name))
            for name, shape in self._model.signals.items()
        ]

    def _population(self, name: str) -> LIF | LI:
        neuron = self._neurons[name]
        for index, (image, weight) in enumerate(neuron.inputs):
            self._edges.append(self._edge(name, neuron, index, image, weight))
        if neuron.constant_current.any():
            self._edges.append(self._constant_edge(name, neuron))
        linear: dict[str, Any] = {
            "name": name,
            "shape": neuron.shape,
            "alpha": None if neuron.alpha is None else _array(neuron.alpha, neuron.shape),
            "beta": _array(neuron.beta, neuron.shape),
            "gain": _array(neuron.gain, neuron.shape),
            "bias": _array(neuron.bias, neuron.shape),
            "coupling": neuron.coupling,
            "floor": None if neuron.floor is None else _array(neuron.floor, neuron.shape),
            "initial_voltage": _initial(neuron.voltage, neuron.shape),
            "initial_current": _initial(neuron.current, neuron.shape),
        }
        late = self._late.get(self._keys[name])
        lag = -(late or 0) - (1 if neuron.timing == "old" else 0)
        if late is None:  # no output shows its time
            lag = self._noted.lags.get(name, lag)
        linear["view"] = SourceView(lag=lag, current_lag=lag)
        if neuron.gate is None:
            return LI(**linear)
        value = neuron.reset_value
        if neuron.reset == "subtract" and value is not None and _same(value, neuron.vth):
            value = None
        return LIF(
            vth=_array(neuron.vth, neuron.shape),
            reset=neuron.reset,
            reset_order=neuron.reset_order,
            reset_value=None if value is None else _array(value, neuron.shape),
            reset_drops_input=neuron.reset_drops_input,
            compare=">" if neuron.gate.strict else ">=",
            max_spikes=int(min(neuron.max_spikes, MOST_SPIKES)),
            reset_twice=neuron.reset_twice,
            refractory=self._model.refractory.get(neuron.gate, 0),
            **linear,
        )

    def _edge(self, target: str, neuron: Neuron, index: int, image: Image, weight: Array) -> Edge:
        source, delay = self._resolved(image.source)
        if isinstance(source, Signal):
            name, shape = self._entries[source.name], self._model.signals[source.name]
        else:
            name = self._names[source]
            shape = self._neurons[name].shape
            delay += 1 if self._neurons[name].timing == "old" else 0
        stages: list[Stage] = [] if image.sent == shape else [Reshape(shape=image.sent)]
        stages += image.stages
        if not (weight == 1).all():
            if weight.size > 1:
                stages += [Reshape(shape=neuron.shape), Scale(weight=_array(weight, neuron.shape))]
            else:
                stages.append(Scale(weight=frozen(weight.reshape(()))))
        if image.shape not in (neuron.shape, (size(neuron.shape),)):
            stages.append(Reshape(shape=neuron.shape))
        title = f"{name}->{target}" + (f" {index + 1}" if len(neuron.inputs) > 1 else "")
        return Edge(name=title, source=name, target=target, operator=_operator(stages), delay=delay)

    def _constant_edge(self, target: str, neuron: Neuron) -> Edge:
        """A constant current: a neuron that spikes at every step, with the constant as weight."""
        one = self._unused("one")
        self._constants.append(
            LIF(
                name=one,
                shape=(1,),
                alpha=None,
                beta=frozen(0.0),
                coupling="immediate",
                bias=frozen(2.0),
                vth=frozen(1.0),
                reset="zero",
                reset_order="at_spike",
                compare=">",
            )
        )
        weight = _array(neuron.constant_current, neuron.shape).reshape(-1, 1)
        return Edge(
            name=f"{one}->{target}", source=one, target=target, operator=Dense(weight=weight)
        )

    def _unused(self, wanted: str) -> str:
        taken = {*self._neurons, *self._entries.values()}
        taken |= {node.name for node in self._constants}
        name, number = wanted, 2
        while name in taken:
            name, number = f"{wanted}_{number}", number + 1
        return name


def _unknown(form: Form, name: str) -> NotAStepError:
    if has_whole(form):
        why, hint = (
            "it is rounded to whole numbers that do not count several spikes of a step",
            EACH,
        )
    else:
        why = "it is neither the spikes of a population nor the voltage of an integrator"
        hint = "output spikes (0 or 1), or the membrane of a readout without threshold"
    return NotAStepError(f"output '{name}'", why, hint)


def _remembered(state: StepState) -> Signal | State | Gate:
    """Return what a state keeps for one step; refuse anything but a spike or an input."""
    gate = state.after.is_spike()
    if gate is not None:
        return gate
    copied = copied_from(state)
    if copied is not None:
        return copied
    raise NotAStepError(
        f"state '{state.name}'",
        "a layer is fed with it, but it is no spike: a voltage or current is sent",
        "send the spikes of the population",
    )


def _selects(image: Image) -> bool:
    """Say whether every value of an image is one of its source's, or 0."""
    source = image.source
    spikes = source.most == 1 if isinstance(source, Gate) else isinstance(source, Signal)
    stages = (stage for stage in image.stages if not isinstance(stage, (Permute, Reshape)))
    if not spikes or not all(np.isin(stage.weight, (0, 1)).all() for stage in stages):
        return False
    return bool(Chain(stages=image.stages).apply(np.ones((1, *image.sent))).max() <= 1)


def _plain_sum(form: Form) -> Neuron | None:
    """Return an integrator without memory for an output that is a weighted sum of spikes."""
    if not all(isinstance(atom, Image) for atom in form.atoms):
        return None
    return Neuron(
        shape=form.shape[1:] or (1,),
        voltage=None,
        current=None,
        gate=None,
        timing="before_reset",
        alpha=None,
        beta=np.zeros(1),
        gain=np.ones(1),
        bias=form.constant,
        coupling="immediate",
        inputs=tuple((image, form.coefficient(image)) for image in form.images),
        constant_current=np.zeros(1),
        vth=np.zeros(1),
        reset="none",
        reset_order="at_spike",
        reset_value=None,
        reset_drops_input=False,
    )


def _same(left: Array, right: Array) -> bool:
    return bool((left == right).all())


def _operator(stages: list[Stage]) -> Operator:
    if len(stages) == 1 and isinstance(stages[0], (Dense, Conv2d)):
        return stages[0]
    return Chain(stages=tuple(stages))


def _array(values: Array, shape: Shape) -> Array:
    full = np.broadcast_to(values.reshape(-1), (size(shape),)) if values.size > 1 else values
    return frozen(full.reshape(shape) if full.size > 1 else np.full(shape, full.reshape(-1)[0]))


def _initial(state: StepState | None, shape: Shape) -> Array:
    if state is None:
        return frozen(np.zeros(shape))
    return frozen(np.broadcast_to(state.initial, (1, *shape))[0].astype(np.float64))


def _entries(names: Iterable[str], noted: Noted) -> dict[str, str]:
    """Return the names of inputs in the graph, by the file's: as noted, else as clean ones."""
    return {
        name: name if name in noted.inputs and fault(name) is None else clean
        for name, clean in distinct(names).items()
    }


def _input(name: str, shape: Shape, said: InputSaid | None) -> Input:
    if said is None:
        return Input(name=name, shape=shape)
    return Input(name=name, shape=shape, kind=said.kind, low=said.low, high=said.high)


def _title(neuron: Neuron, otherwise: str, noted: Container[str]) -> str:
    """Name a population as noted, after its membrane state, or after its threshold's scope."""
    if neuron.voltage is not None and (name := neuron.voltage.name.removesuffix(".u")) in noted:
        return name
    origin = neuron.gate.origin if neuron.gate is not None else ""
    scope = _SCOPE.search(origin)
    if neuron.voltage is not None:
        name = _STATE_ENDING.sub("", neuron.voltage.name)
        if re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,23}", name) and not name.startswith("onnx"):
            return name
    if scope and "surrogate" not in scope.group(1):
        return cleaned(scope.group(1))
    return otherwise
