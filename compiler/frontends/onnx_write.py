"""A graph as an ONNX file that any tool can run: neurons as functions inside a ``Scan``.

Every population is one ``ai.snn`` node whose meaning is in the file, as a
function of standard operators; inputs and outputs are series over time,
``[T, 1, *shape]``. onnx's checker accepts the file and its reference evaluator
gives the same spikes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError, SpikecError, raise_if_any
from spikec.compiler.files import canonical_json, written
from spikec.compiler.frontends import onnx_graph
from spikec.compiler.frontends.inputs import note_of_inputs
from spikec.compiler.frontends.onnx_metadata import INPUTS, POPULATIONS
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.frontends.sparse import without_sparse
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input, Node
from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Permute,
    Reshape,
    Scale,
    Stage,
    weights_of,
)

__all__ = ["to_model", "write"]

DOMAIN = "ai.snn"
_OPSET = 18
_IR_VERSION = 9


def write(graph: Graph, path: str | Path) -> tuple[str, ...]:
    """Save ``graph`` as ONNX; return what the file holds less exactly than ``graph``.

    :class:`FrontendError` names what the form cannot hold. What is written is read back before
    it takes the place of ``path``: a network that would come back as another one is refused.
    """
    path = Path(path)
    content = to_model(graph).SerializeToString(deterministic=True)
    with written(path) as temporary:
        temporary.write_bytes(content)
        _check_read_back(graph, temporary, path)
    return tuple(_roundings(graph))


def _roundings(graph: Graph) -> Iterator[str]:
    """Say what changes as numbers of 32 bits, which is what operators of ONNX take."""
    parts: dict[str, list[Array | None]] = {
        node.name: [getattr(node, name) for name in node.PER_NEURON] for node in graph.populations
    }
    parts |= {edge.name: list(weights_of(edge.operator)) for edge in graph.edges}
    for name, arrays in parts.items():
        count = sum(
            int((values.astype(np.float32) != values).sum())
            for values in arrays
            if values is not None
        )
        if count:
            yield f"'{name}': {count:,} numbers are rounded to 32 bits"


def _check_read_back(graph: Graph, temporary: Path, path: Path) -> None:
    """Compare what is read back: inputs, populations, outputs and their time.

    What populations compute may come in another form that is equal.
    """
    try:
        read = onnx_graph.read(temporary, ReadOptions(dt=None))
    except SpikecError as error:
        raise _another(path, f"could not be read: {error.diagnostics[0].message}") from error
    if read.outputs != graph.outputs:
        raise _another(path, f"would have the outputs {', '.join(read.outputs)}")
    ours, theirs = _varying(graph), _varying(read)
    for name, node in ours.items():
        if name not in theirs:
            raise _another(path, f"would lack '{name}': no output shows or depends on it")
        if (found := _facts(theirs[name])) != _facts(node):
            raise _another(path, f"would have '{name}' as {found}, not {_facts(node)}")
    for name in sorted(theirs.keys() - ours.keys()):
        raise _another(path, f"would have '{name}' beside its own populations")


def _varying(graph: Graph) -> dict[str, Node]:
    """Return inputs, what they reach and outputs: the rest is constant, and may take any form."""
    kept = {*(node.name for node in graph.inputs), *graph.outputs, *graph.reachable_from_inputs()}
    return {node.name: node for node in graph.nodes if node.name in kept}


def _facts(node: Node) -> str:
    if isinstance(node, Input):
        return f"{node.kind} input of shape {node.shape} from {node.low} to {node.high}"
    return f"{type(node).__name__} of shape {node.shape} with lag {node.view.lag}"


def _another(path: Path, what: str) -> FrontendError:
    return FrontendError(
        Diagnostic(
            code="F124",
            where=str(path),
            message=f"as ONNX the network {what}",
            hint="keep the network in our own format (.safetensors)",
        )
    )


def to_model(graph: Graph) -> onnx.ModelProto:
    """Return ``graph`` as an ONNX model; see :func:`write`."""
    raise_if_any(FrontendError, [item for node in graph.nodes for item in _findings(node)])
    graph = without_sparse(graph, code="F120", form="the ONNX form")
    writer = _Writer(graph)
    model = helper.make_model(
        writer.outer(),
        functions=writer.functions(),
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(DOMAIN, 1)],
        ir_version=_IR_VERSION,
        producer_name="spikec",
    )
    dt = {} if graph.dt is None else {"snn.dt": repr(graph.dt)}
    lags = canonical_json({node.name: {"lag": node.view.lag} for node in graph.populations})
    noted = {INPUTS: note_of_inputs(graph), POPULATIONS: lags}
    helper.set_model_props(model, {"snn.kind": "scan", **dt, **noted})
    onnx.checker.check_model(model, full_check=True)
    return model


def _findings(node: Node) -> list[Diagnostic]:
    as_read = "convert the network as it was read, before any pass rewrote it"
    problems = []
    if isinstance(node, Input):
        problems += [("late input", as_read)] if node.shift else []
    else:
        problems += [("late start", as_read)] if node.start else []
        problems += [(f"lag {node.view.lag}", as_read)] if node.view.lag not in (0, -1) else []
        problems += [("shifted voltage", as_read)] if node.view.voltage_offset.any() else []
    if isinstance(node, LIF) and node.refractory:
        problems.append(("refractory period", "keep the network in our own format"))
    return [
        Diagnostic(
            code="F120",
            where=f"node '{node.name}'",
            message=f"the ONNX form has no {what}",
            hint=hint,
        )
        for what, hint in problems
    ]


class _Writer:
    """Builds the body of the ``Scan`` population by population."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}
        self._states: list[tuple[str, str, Array]] = []
        self._functions: dict[str, onnx.FunctionProto] = {}
        #: The value that carries what a node gave ``delay`` steps ago.
        self._sent: dict[tuple[str, int], str] = {}

    def functions(self) -> list[onnx.FunctionProto]:
        """Return the functions of all neurons used."""
        return list(self._functions.values())

    def outer(self) -> onnx.GraphProto:
        """Return the graph around the ``Scan``."""
        graph = self._graph
        for node in graph.inputs:
            self._sent[node.name, 0] = f"{node.name}.x"
        for edge in graph.edges:
            self._remember(edge.source, edge.delay)
        for name in graph.outputs:
            if isinstance(graph[name], LIF):
                self._remember(name, -self._lag(name))
        for population in graph.populations:
            if self._sees_old_spike(population.name):
                self._old_spike(population)
        for population in graph.immediate_order():
            self._population(population)
        self._close_memories()
        outputs = [self._reported(name) for name in graph.outputs]
        body = self._body(outputs)
        scanned = [node.name for node in graph.inputs]
        finals = [f"{name}.final" for name, _, _ in self._states]
        scan = helper.make_node(
            "Scan",
            [*(f"{name}.0" for name, _, _ in self._states), *scanned],
            [*finals, *(f"{name}.series" for name in graph.outputs)],
            name="time",
            body=body,
            num_scan_inputs=len(scanned),
        )
        initial = {f"{name}.0": values for name, _, values in self._states}
        return helper.make_graph(
            [scan],
            "spiking_network",
            [_value(node.name, ("T", 1, *node.shape)) for node in graph.inputs],
            [
                _value(f"{name}.series", ("T", 1, *self._graph[name].shape))
                for name in graph.outputs
            ],
            [
                numpy_helper.from_array(_float(values), name)
                for name, values in {**self._constants, **initial}.items()
            ],
        )

    def _body(self, outputs: Sequence[str]) -> onnx.GraphProto:
        graph = self._graph
        states = [_value(name, values.shape) for name, _, values in self._states]
        inputs = [_value(f"{node.name}.x", (1, *node.shape)) for node in graph.inputs]
        results = [_value(after, values.shape) for _, after, values in self._states]
        series = []
        for name, value in zip(graph.outputs, outputs, strict=True):
            self._nodes.append(helper.make_node("Identity", [value], [f"{name}.out"]))
            series.append(_value(f"{name}.out", (1, *graph[name].shape)))
        return helper.make_graph(self._nodes, "step", [*states, *inputs], [*results, *series])

    def _remember(self, source: str, delay: int) -> None:
        """Make states for what ``source`` gave up to ``delay`` steps ago."""
        for age in range(1, delay + 1):
            if (source, age) in self._sent or (age == 1 and self._sees_old_spike(source)):
                continue
            name = f"{source}.ago{age}"
            self._sent[source, age] = name
            shape = (1, *self._graph[source].shape)
            self._states.append((name, f"{name}.next", np.zeros(shape)))

    def _close_memories(self) -> None:
        for (source, age), name in list(self._sent.items()):
            if age and name == f"{source}.ago{age}":
                newer = self._sent[source, age - 1]
                self._nodes.append(helper.make_node("Identity", [newer], [f"{name}.next"]))

    def _sees_old_spike(self, source: str) -> bool:
        """Say whether the last spike can be read off the old voltage (reset comes later)."""
        node = self._graph[source]
        return isinstance(node, LIF) and node.reset_order == "next_step"

    def _reported(self, name: str) -> str:
        """Return the value at step n of the trace: the step's own, or the one before it."""
        lag = self._lag(name)
        if isinstance(self._graph[name], LI):
            return f"{name}.u.next" if lag == 0 else f"{name}.u"
        return self._sent[name, -lag]

    def _lag(self, name: str) -> int:
        node = self._graph[name]
        assert isinstance(node, (LIF, LI))
        return node.view.lag

    def _population(self, node: LIF | LI) -> None:
        name = node.name
        current, voltage = node.initial_state
        self._states.append((f"{name}.u", f"{name}.u.next", voltage[None]))
        if node.alpha is not None or node.coupling == "delayed":
            self._states.append((f"{name}.i", f"{name}.i.next", current[None]))
        arrivals = [self._arrival(edge) for edge in self._graph.edges_into(name)]
        total = self._summed(name, arrivals)
        function = _function(node, shows_new=self._shows_new(node))
        self._functions.setdefault(function.name, function)
        values = {"x": total, "u": f"{name}.u", "i": f"{name}.i", "s": f"{name}.s.old"}
        inputs = [
            values.get(item) or self._constant(f"{name}.{item}", _parameter(node, item))
            for item in function.input
        ]
        results = {"s_new": f"{name}.s", "u_next": f"{name}.u.next", "i_next": f"{name}.i.next"}
        self._nodes.append(
            helper.make_node(
                function.name,
                inputs,
                [results[item] for item in function.output],
                name=name,
                domain=DOMAIN,
            )
        )
        if self._shows_new(node):
            self._sent[name, 0] = f"{name}.s"

    def _shows_new(self, node: LIF | LI) -> bool:
        """Say whether anybody sees the spike of the new voltage.

        Where nobody does, as in the seed model, the file has the old spike only, so
        that a reader gives the population the same time index.
        """
        if not self._sees_old_spike(node.name) or node.view.lag == 0:
            return True
        return any(edge.delay == 0 for edge in self._graph.edges_from(node.name))

    def _old_spike(self, node: LIF | LI) -> None:
        assert isinstance(node, LIF)
        name = node.name
        vth = self._constant(f"{name}.vth", node.vth)
        kind = "Greater" if node.compare == ">" else "GreaterOrEqual"
        self._nodes += [
            helper.make_node(kind, [f"{name}.u", vth], [f"{name}.above.old"]),
            helper.make_node("Cast", [f"{name}.above.old"], [f"{name}.s.old"],
                             to=TensorProto.FLOAT),
        ]  # fmt: skip
        self._sent[name, 1] = f"{name}.s.old"

    def _arrival(self, edge: Edge) -> str:
        value = self._sent[edge.source, edge.delay]
        operator = edge.operator
        stages = operator.stages if isinstance(operator, Chain) else (operator,)
        shape = self._graph[edge.source].shape
        for number, stage in enumerate(stages):
            value = self._stage(f"{edge.name}.{number}", stage, value)
            shape = stage.output_shape(shape)
        wanted = self._graph[edge.target].shape
        if shape == wanted:
            return value
        return self._stage(f"{edge.name}.shaped", Reshape(shape=wanted), value)

    def _stage(self, name: str, stage: Stage, value: str) -> str:
        out = f"{name}.y"
        if isinstance(stage, Dense):
            flat = self._shaped(name, value, (1, stage.weight.shape[1]))
            weight = self._constant(f"{name}.w", np.ascontiguousarray(stage.weight.T))
            self._nodes.append(helper.make_node("MatMul", [flat, weight], [out]))
        elif isinstance(stage, Conv2d):
            weight = self._constant(f"{name}.w", stage.weight)
            node = helper.make_node(
                "Conv",
                [value, weight],
                [out],
                strides=stage.stride,
                pads=[*stage.padding, *stage.padding],
                dilations=stage.dilation,
                group=stage.groups,
            )
            self._nodes.append(node)
        elif isinstance(stage, Scale):
            factor = self._constant(f"{name}.w", stage.weight)
            self._nodes.append(helper.make_node("Mul", [value, factor], [out]))
        elif isinstance(stage, Permute):
            order = [0, *(axis + 1 for axis in stage.axes)]
            self._nodes.append(helper.make_node("Transpose", [value], [out], perm=order))
        else:
            assert isinstance(stage, Reshape), "sparse weights were written out before"
            return self._shaped(name, value, (1, *stage.shape))
        return out

    def _shaped(self, name: str, value: str, shape: tuple[int, ...]) -> str:
        wanted = self._constant(f"{name}.shape", np.array(shape, dtype=np.int64))
        self._nodes.append(helper.make_node("Reshape", [value, wanted], [f"{name}.flat"]))
        return f"{name}.flat"

    def _summed(self, name: str, arrivals: Sequence[str]) -> str:
        if not arrivals:
            return self._constant(f"{name}.silence", np.zeros((1, *self._graph[name].shape)))
        total = arrivals[0]
        for number, value in enumerate(arrivals[1:]):
            out = f"{name}.sum{number}"
            self._nodes.append(helper.make_node("Add", [total, value], [out]))
            total = out
        return total

    def _constant(self, name: str, values: Array) -> str:
        self._constants[name] = values
        return name


def _parameter(node: LIF | LI, name: str) -> Array:
    if name == "amount":
        assert isinstance(node, LIF)
        return node.reset_amount
    if name == "reset_voltage":
        assert isinstance(node, LIF)
        return node.reset_voltage
    if name == "below":
        assert isinstance(node, LIF)
        return node.vth - node.reset_amount
    if name == "most":
        assert isinstance(node, LIF)
        return np.array(float(node.max_spikes))
    values: Array = getattr(node, name)
    return values


def _function(node: LIF | LI, *, shows_new: bool) -> onnx.FunctionProto:
    """Return the neuron's step as a function, named after its switches."""
    lines: list[str] = []
    inputs = ["x", "u"]
    outputs: list[str] = []
    has_current = node.alpha is not None or node.coupling == "delayed"
    if has_current:
        inputs.append("i")
    current = _current_lines(node, inputs, lines)
    drive = _drive_lines(node, current, inputs, lines)
    if isinstance(node, LI):
        _leak_lines(node, "u", drive, "integrated", inputs, lines)
        _last_lines(node, "integrated", inputs, lines)
        lines.append("s_new = Identity (u_next)")
    else:
        _spike_lines(node, drive, inputs, lines, shows_new=shows_new)
    outputs += ["s_new", "u_next"] if shows_new else ["u_next"]
    if has_current:
        lines.append(f"i_next = Identity ({current})")
        outputs.append("i_next")
    name = _function_name(node) + ("" if shows_new else "_last")
    signature = f"{name} ({', '.join(inputs)}) => ({', '.join(outputs)})"
    body = "\n".join(lines)
    return parser.parse_function(
        f'<domain: "{DOMAIN}", opset_import: ["" : {_OPSET}]>\n{signature} {{\n{body}\n}}'
    )


def _function_name(node: LIF | LI) -> str:
    parts = [type(node).__name__, node.coupling]
    if node.alpha is None:
        parts.append("unfiltered")
    parts += [name for name, usual in (("gain", 1.0), ("rest", 0.0), ("bias", 0.0))
              if (getattr(node, name) != usual).any()]  # fmt: skip
    if isinstance(node, LIF):
        parts += [node.reset, node.reset_order, "above" if node.compare == ">" else "reaching"]
        if node.reset_drops_input:
            parts.append("drops_input")
        if node.max_spikes > 1:
            parts.append("several")
        if node.reset_twice:
            parts.append("twice")
    if node.floor is not None:
        parts.append("floored")
    return "_".join(parts)


def _current_lines(node: LIF | LI, inputs: list[str], lines: list[str]) -> str:
    if node.alpha is None:
        return "x"
    inputs.append("alpha")
    lines += ["kept = Mul (alpha, i)", "current = Add (kept, x)"]
    return "current"


def _drive_lines(node: LIF | LI, current: str, inputs: list[str], lines: list[str]) -> str:
    drive = current if node.coupling == "immediate" else "i"
    for name, usual, operator in (("gain", 1.0, "Mul"), ("bias", 0.0, "Add")):
        if (getattr(node, name) != usual).any():
            inputs.append(name)
            lines.append(f"with_{name} = {operator} ({name}, {drive})")
            drive = f"with_{name}"
    return drive


def _leak_lines(
    node: LIF | LI, start: str, drive: str, out: str, inputs: list[str], lines: list[str]
) -> None:
    inputs.append("beta")
    if node.rest.any():
        inputs.append("rest")
        lines += [
            f"above_rest = Sub ({start}, rest)",
            "leaked = Mul (beta, above_rest)",
            "held = Add (rest, leaked)",
            f"{out} = Add (held, {drive})",
        ]
        return
    lines += [f"leaked = Mul (beta, {start})", f"{out} = Add (leaked, {drive})"]


def _spike_lines(
    node: LIF, drive: str, inputs: list[str], lines: list[str], *, shows_new: bool
) -> None:
    """Integrate, reset and spike, in the population's own order."""
    late = node.reset_order == "next_step" and node.reset != "none"
    replaces = node.reset in ("zero", "value")
    start = "u"
    if late:
        inputs.append("s")
        if node.reset == "subtract":
            inputs.append("amount")
        else:
            inputs.append("reset_voltage")
            lines.append("spiked = Cast <to = 9> (s)")
    if late and replaces and not node.reset_drops_input:
        lines.append("replaced = Where (spiked, reset_voltage, u)")
        start = "replaced"
    _leak_lines(node, start, drive, "integrated", inputs, lines)
    membrane = "integrated"
    if late and node.reset == "subtract":
        lines += ["taken = Mul (amount, s)", "reset_late = Sub (integrated, taken)"]
        membrane = "reset_late"
    if late and node.reset_drops_input:
        lines.append("reset_late = Where (spiked, reset_voltage, integrated)")
        membrane = "reset_late"
    if not shows_new:
        _last_lines(node, membrane, inputs, lines)
        return
    inputs.append("vth")
    kind = "Greater" if node.compare == ">" else "GreaterOrEqual"
    if node.reset_twice:
        inputs.append("amount")
        lines += _twice_lines(kind, membrane)
        _last_lines(node, "reset_now", inputs, lines)
        return
    one = "fired" if node.max_spikes > 1 else "s_new"
    lines += [f"fires = {kind} ({membrane}, vth)", f"{one} = Cast <to = 1> (fires)"]
    if node.reset_order == "at_spike" and node.reset == "subtract":
        inputs.append("amount")
        _count_lines(node, membrane, inputs, lines)
        lines += ["taken = Mul (amount, s_new)", f"reset_now = Sub ({membrane}, taken)"]
        membrane = "reset_now"
    elif node.reset_order == "at_spike" and replaces:
        inputs.append("reset_voltage")
        lines.append(f"reset_now = Where (fires, reset_voltage, {membrane})")
        membrane = "reset_now"
    _last_lines(node, membrane, inputs, lines)


def _twice_lines(kind: str, membrane: str) -> list[str]:
    """Spike and reset as snnTorch does with ``reset_delay=False``, in its order of rounding."""
    return [
        f"was_above = {kind} (u, vth)",
        "left = Cast <to = 1> (was_above)",
        "counted = Mul (amount, left)",
        f"lowered = Sub ({membrane}, counted)",
        f"fires = {kind} (lowered, vth)",
        "s_new = Cast <to = 1> (fires)",
        "again = Sub (s_new, left)",
        "taken = Mul (amount, again)",
        "reset_now = Sub (lowered, taken)",
    ]


def _count_lines(node: LIF, membrane: str, inputs: list[str], lines: list[str]) -> None:
    """Count how often the amount can be taken off, as :mod:`spikec.compiler.reference` does."""
    if node.max_spikes == 1:
        return
    inputs += ["below", "most"]
    lines += [
        f"above_it = Sub ({membrane}, below)",
        "share = Div (above_it, amount)",
        "one = Constant <value_float: float = 1.0> ()",
    ]
    if node.compare == ">":
        lines += ["next = Ceil (share)", "times = Sub (next, one)"]
    else:
        lines.append("times = Floor (share)")
    lines += [
        "at_least = Max (times, one)",
        "at_most = Min (at_least, most)",
        "s_new = Mul (fired, at_most)",
    ]


def _last_lines(node: LIF | LI, membrane: str, inputs: list[str], lines: list[str]) -> None:
    """Hold the voltage above its floor: what a step ends with."""
    if node.floor is None:
        lines.append(f"u_next = Identity ({membrane})")
        return
    inputs.append("floor")
    lines += [
        f"raised = Sub ({membrane}, floor)",
        "held_up = Relu (raised)",
        "u_next = Add (held_up, floor)",
    ]


def _value(name: str, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _float(values: Array) -> Array:
    return values if values.dtype.kind == "i" else values.astype(np.float32)
