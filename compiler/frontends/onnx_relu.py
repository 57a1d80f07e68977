"""ONNX files of ReLU networks: read as layers, for conversion to spikes.

The graph is run on symbols as in :mod:`~spikec.compiler.frontends.onnx_step`, but
each ReLU becomes a value of its own: between two of them everything is a sum of
linear operators, whatever the exporter wrote. Every layer is then compared with
what onnx's reference evaluator computes there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from spikec.compiler.arrays import MAX_NEURONS, Array, Shape, frozen, size
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import check_file, sha256_of_file
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import Form, Image, Signal
from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.frontends.onnx_forms import one_sample
from spikec.compiler.frontends.onnx_graph import opened, recognises, refusing
from spikec.compiler.frontends.onnx_layers import LAYERS
from spikec.compiler.frontends.onnx_operators import as_form
from spikec.compiler.frontends.onnx_relu_probe import compare_layers
from spikec.compiler.frontends.onnx_step import NotAStepError, Step, Value, attributes
from spikec.compiler.ir import Choice, Input, Source
from spikec.compiler.names import distinct
from spikec.compiler.operators import Chain, Conv2d, Dense, Operator, Reshape, Scale, Stage
from spikec.compiler.relu import Branch, Layer, ReluNetwork

__all__ = ["read_relu"]

_FAMILY = (
    "a network to convert is made of dense and convolutional layers, batch normalisation, ReLU, "
    "average pooling, flattening and residual adds"
)
_SMOOTH = "train with ReLU: the rate of an integrate-and-fire neuron is a clipped ReLU"
_OVER_TIME = (
    "a network over time has states: if it spikes it needs no conversion, leave out --convert"
)
_HINTS = {
    "MaxPool": "train with average pooling: the largest of several rates is no sum of spikes",
    "GlobalMaxPool": "train with global average pooling",
    "LeakyRelu": "train with ReLU: a negative activation has no spikes",
    "LayerNormalization": "train with batch normalisation, which is a fixed factor afterwards",
    "InstanceNormalization": "train with batch normalisation, which is a fixed factor afterwards",
    "GroupNormalization": "train with batch normalisation, which is a fixed factor afterwards",
    "Concat": "add branches up instead of joining them side by side",
    **dict.fromkeys(
        ("Sigmoid", "Tanh", "Gelu", "Erf", "Elu", "Selu", "Celu", "PRelu", "Softplus", "HardSwish",
         "HardSigmoid", "Mish", "Swish", "Softsign"), _SMOOTH,
    ),
    **dict.fromkeys(
        ("Scan", "Loop", "LSTM", "GRU", "RNN", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        _OVER_TIME,
    ),
}  # fmt: skip

#: Operators that stay what they are for a spiking network's step.
_KEPT = frozenset(
    {*LAYERS.keys() - {"MaxPool"}, "Add", "Sum", "Sub", "Mul", "Div", "Neg", "Identity", "Cast",
     "Dropout", "Reshape",
     "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand", "Slice", "Split", "Gather", "Shape"}
)  # fmt: skip
#: Operators of two factors, only one of which may change with the data.
_PRODUCTS = ("Mul", "MatMul", "Gemm", "Conv", "Div")
#: Operators that keep the order of classes, dropped at the very output; what they may lead to.
_CHOOSING = ("Softmax", "LogSoftmax", "ArgMax")
_AFTER_CHOOSING = ("ArgMax", "Identity", "Log", "Squeeze")
#: A layer added to another without channels needs a matrix; it may have this many entries.
_MOST_ENTRIES = 1 << 28


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What a softmax or arg max at the output is given, and the operators dropped."""

    form: Form
    tensor: str
    dropped: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Result:
    """What a layer sums up, and the tensor of the file that holds the layer's values."""

    form: Form
    tensor: str


@dataclass(frozen=True, eq=False)
class _Rectified(_Result):
    """A layer with a ReLU, and what it is clipped at."""

    ceiling: float | None


def read_relu(path: Path) -> ReluNetwork:
    """Read the ReLU network in the ONNX file ``path``.

    Raises :class:`FrontendError` naming the node that has no spiking form and what
    to train instead, or the layer that differs from the file.
    """
    check_file(path)
    if not recognises(path):
        raise FrontendError(
            Diagnostic(
                code="F130",
                where=str(path),
                message="--convert takes a ReLU network as ONNX, which this is not",
                hint="export it with torch.onnx.export; a spiking network needs no conversion",
            )
        )
    with refusing(path):
        file, assumed = opened(path)
        reading = _Reading(file)
        network = replace(
            reading.network(),
            source=Source(path=path.name, format="onnx", sha256=sha256_of_file(path)),
        )
        checked = compare_layers(network, file, reading.entries, reading.tensors, path)
    return replace(network, choices=(*network.choices, *assumed, checked))


class _Symbols(Step):
    """Runs the graph on symbols; collects each ReLU as a value of its own."""

    def __init__(self, opset: int) -> None:
        super().__init__(opset)
        self.rectified: dict[str, _Rectified] = {}
        self._version = opset

    def is_binary(self, signal: Signal) -> bool:  # noqa: ARG002 - of none
        """Inputs and activations are numbers."""
        return False

    def _node(self, node: onnx.NodeProto, values: Mapping[str, Any]) -> Sequence[Any]:
        arguments = [values.get(name) for name in node.input]
        changing = [item for item in arguments if isinstance(item, (Form, _Chosen))]
        if not changing:
            return super()._node(node, values)
        where = f"node '{node.name or ','.join(node.output)}' ({node.op_type})"
        if any(isinstance(item, _Chosen) for item in changing) or node.op_type in _CHOOSING:
            return [self._choosing(node, arguments[0], where)]
        if node.op_type in ("Relu", "Clip"):
            return [self._rectify(node, arguments, where)]
        if node.op_type in _PRODUCTS and sum(isinstance(a, Form) for a in arguments[:2]) > 1:
            why = "it multiplies two activations (a gate, or attention)"
            raise NotAStepError(where, why, _FAMILY)
        if node.op_type not in _KEPT:
            hint = _HINTS.get(node.op_type, _FAMILY)
            raise NotAStepError(where, "the operator has no spiking form", hint)
        return super()._node(node, values)

    def _rectify(self, node: onnx.NodeProto, arguments: Sequence[Value], where: str) -> Form:
        form = as_form(self, arguments[0], where)
        ceiling = _ceiling(node, arguments, where)
        known = self.known(form)
        if known is not None and (known.ceiling or np.inf) <= (ceiling or np.inf):
            return form  # it is rectified already
        tensor = node.output[0]
        self.rectified[tensor] = _Rectified(form, tensor, ceiling)
        return affine.atom(Signal(tensor), form.shape)

    def known(self, form: Form) -> _Rectified | None:
        """Return the ReLU whose value ``form`` is, if it is nothing else."""
        if len(form.terms) != 1:
            return None
        ((_, atom), coefficient) = next(iter(form.terms.items()))
        if not isinstance(atom, Signal) or (coefficient != 1).any():
            return None
        return self.rectified.get(atom.name)

    def _choosing(self, node: onnx.NodeProto, value: Value, where: str) -> _Chosen:
        if isinstance(value, _Chosen) and node.op_type in _AFTER_CHOOSING:
            return _Chosen(value.form, value.tensor, (*value.dropped, node.op_type))
        if not isinstance(value, Form):
            raise NotAStepError(
                where,
                "it uses classes or probabilities: a softmax has no spiking form inside a network",
                _FAMILY + "; at the very output a softmax is dropped",
            )
        default = 0 if node.op_type == "ArgMax" else -1 if self._version >= 13 else 1
        axis = int(attributes(node).get("axis", default))
        if value.shape[axis] != size(value.shape):
            why = f"it chooses along axis {axis} of {value.shape}, not among all outputs"
            raise NotAStepError(where, why, "end with one score for each class")
        return _Chosen(value, node.input[0], (node.op_type,))


def _ceiling(node: onnx.NodeProto, arguments: Sequence[Value], where: str) -> float | None:
    """Return what the activation is clipped at; refuse a floor that is not 0."""
    if node.op_type == "Relu":
        return None
    given = attributes(node)
    low, high = (
        given.get(name) if len(arguments) <= place or arguments[place] is None else arguments[place]
        for place, name in ((1, "min"), (2, "max"))
    )
    if low is None or isinstance(low, Form) or np.any(np.asarray(low) != 0):
        raise NotAStepError(where, "it clips at a floor that is not 0", "train with ReLU or ReLU6")
    if high is None:
        return None
    ceiling = np.unique(np.asarray(high, np.float64)) if not isinstance(high, Form) else np.zeros(0)
    if ceiling.size != 1 or not ceiling[0] > 0:
        raise NotAStepError(where, "its ceiling is no number above 0", "train with ReLU or ReLU6")
    return float(ceiling[0]) if np.isfinite(ceiling[0]) else None


class _Reading:
    """The values of a model as layers, and where the file computes them."""

    def __init__(self, file: OnnxFile) -> None:
        model, graph = file.model, file.model.graph
        opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
        constants = {*file.weights, *(tensor.name for tensor in graph.initializer)}
        #: Shapes of what sends, by the tensor that holds it: inputs, then layers.
        self._shapes: dict[str, Shape] = {
            entry.name: one_sample(entry) for entry in graph.input if entry.name not in constants
        }
        #: The names of inputs, by the file's.
        self.entries = distinct(self._shapes)
        self._names = dict(self.entries)
        self._symbols = _Symbols(opset)
        signals = {name: affine.atom(Signal(name), (1, *s)) for name, s in self._shapes.items()}
        self._values = self._symbols.run(graph, {**file.weights, **signals})
        self._outputs = [entry.name for entry in graph.output]
        self._choices: list[Choice] = []
        self._layers: list[Layer] = []
        #: The tensor of the file that holds each layer's values.
        self.tensors: dict[str, str] = {}

    def network(self) -> ReluNetwork:
        """Return all layers that the outputs depend on."""
        inputs = tuple(
            Input(name=self._names[name], shape=shape, kind="analog", low=None, high=None)
            for name, shape in self._shapes.items()
        )
        results = [self._result(name) for name in self._outputs]
        for item in self._needed(results):
            self._add(f"layer{len(self._layers) + 1}", item)
        if not self._layers:
            raise NotAStepError("graph", "it has no ReLU: there is nothing to convert", _FAMILY)
        outputs = []
        for result in results:
            shown = self._symbols.known(result.form)
            if shown is None:
                self._add("readout", result)
            outputs.append(self._names[result.tensor if shown is None else shown.tensor])
        return ReluNetwork(
            inputs=inputs,
            layers=tuple(self._layers),
            outputs=tuple(dict.fromkeys(outputs)),
            source=Source(),
            choices=tuple(self._choices),
        )

    def _result(self, name: str) -> _Result:
        """Return what the output ``name`` shows, before a softmax or arg max."""
        value = self._values[name]
        if not isinstance(value, _Chosen):
            return _Result(as_form(self._symbols, value, f"output '{name}'"), name)
        self._choices.append(
            Choice(
                what=f"dropped before output '{name}'",
                value=f"{', '.join(value.dropped)}: the largest output stays the largest",
                origin="rate conversion",
            )
        )
        return _Result(value.form, value.tensor)

    def _needed(self, results: Sequence[_Result]) -> list[_Result]:
        """Return the ReLUs that the results depend on, in the order of the file."""
        found: set[str] = set()
        waiting = [result.form for result in results]
        while waiting:
            for tensor in _sources(waiting.pop()):
                if tensor in self._symbols.rectified and tensor not in found:
                    found.add(tensor)
                    waiting.append(self._symbols.rectified[tensor].form)
        return [item for tensor, item in self._symbols.rectified.items() if tensor in found]

    def _add(self, title: str, item: _Result) -> None:
        """Add the layer whose values are in ``item.tensor``."""
        name, number = title, 2
        while name in self._names.values():
            name, number = f"{title}_{number}", number + 1
        form = item.form
        shape = form.shape[1:] if len(form.shape) > 1 and form.shape[0] == 1 else form.shape
        if size(shape) > MAX_NEURONS:
            raise NotAStepError(f"value '{item.tensor}'", f"{size(shape)} neurons fit no network")
        bias = np.broadcast_to(form.constant, (size(shape),)).reshape(shape)
        branches = tuple(
            Branch(
                source=self._names[_source(atom)],
                operator=self._operator(atom, coefficient, shape, name),
            )
            for (_, atom), coefficient in form.terms.items()
            if isinstance(atom, (Signal, Image))
        )
        self._layers.append(
            Layer(
                name=name,
                shape=shape,
                branches=branches,
                bias=frozen(bias.astype(np.float64)),
                rectified=isinstance(item, _Rectified),
                ceiling=item.ceiling if isinstance(item, _Rectified) else None,
            )
        )
        self._shapes[item.tensor] = shape
        self._names[item.tensor] = name
        self.tensors[name] = item.tensor

    def _operator(
        self, atom: Signal | Image, coefficient: Array, shape: Shape, layer: str
    ) -> Operator:
        """Return what one term of a layer does to its source, stage by stage."""
        source = self._shapes[_source(atom)]
        stages: list[Stage] = []
        if isinstance(atom, Image):
            stages += [] if atom.sent == source else [Reshape(shape=atom.sent)]
            stages += atom.stages
            given = atom.shape
        else:
            stages += _identity(source, layer)
            given = Chain(stages=tuple(stages)).output_shape(source)
        if not (coefficient == 1).all():
            if coefficient.size == 1:
                stages.append(Scale(weight=frozen(coefficient.reshape(()))))
            else:
                stages += [] if given == shape else [Reshape(shape=shape)]
                stages.append(Scale(weight=frozen(coefficient.reshape(shape))))
                given = shape
        if given not in (shape, (size(shape),)):
            stages.append(Reshape(shape=shape))
        if len(stages) == 1 and isinstance(stages[0], (Dense, Conv2d)):
            return stages[0]
        return Chain(stages=tuple(stages))


def _source(atom: Signal | Image) -> str:
    """Return the tensor that an atom takes its values from."""
    source = atom.source if isinstance(atom, Image) else atom
    assert isinstance(source, Signal)  # there are no states and no gates here
    return source.name


def _sources(form: Form) -> set[str]:
    return {_source(atom) for atom in form.atoms if isinstance(atom, (Signal, Image))}


def _identity(source: Shape, layer: str) -> list[Stage]:
    """Return an edge that sends its source as it is: place by place where there are channels."""
    if len(source) in (2, 3):
        ones = Conv2d(weight=np.ones((source[0], 1, 1, 1)), groups=source[0])
        return [ones] if len(source) == 3 else [Reshape(shape=(source[0], 1, source[1])), ones]
    if size(source) ** 2 > _MOST_ENTRIES:
        why = f"a residual of {size(source)} values that have no channels is too large a matrix"
        raise NotAStepError(f"layer '{layer}'", why, "add it before flattening")
    return [Dense(weight=np.eye(size(source)))]
