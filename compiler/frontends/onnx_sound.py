"""What an ONNX model must be before anything is read off it: sound nodes, sizes in proportion.

The checker of onnx is not asked: it refuses files that every runtime takes. What is looked at is
what readers and evaluators rely on: how many inputs and outputs a node has, the types of its
attributes, and how large what it makes may become.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from spikec.compiler.arrays import Array, size

__all__ = ["check_functions", "check_growth", "check_model"]

#: Elements that one operator may make beside as many as it is given.
_MOST_MADE = 1 << 23
#: Steps, kernels, pads and extents that attributes name.
_MOST_NUMBER = 1 << 24
#: Nodes that a model has once its functions are written out, and functions in functions.
_MOST_NODES, _MOST_DEPTH = 1 << 17, 100


def check_model(model: onnx.ModelProto, most: int) -> None:
    """Refuse a model whose nodes break their operators' rules, or that is out of proportion.

    An input has at most ``most`` elements. Raises ``ValueError`` that names the input or node.
    """
    for entry in model.graph.input:
        axes = entry.type.tensor_type.shape.dim
        extents = tuple(max(1, int(axis.dim_value)) for axis in axes)
        if size(extents) > most:
            raise ValueError(
                f"input '{entry.name}' has {size(extents):,} elements, and a file of this size may "
                f"ask for {most:,}"
            )
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if not versions:
        raise ValueError("it says no version of ONNX's operators")
    _check_graph(model.graph, max(versions), {})


def _check_graph(graph: onnx.GraphProto, opset: int, outer: Mapping[str, Array]) -> None:
    known = dict(outer)
    known |= {item.name: _few(item) for item in graph.initializer if _is_short(item)}
    for node in graph.node:
        where = f"node '{node.name or ','.join(node.output)}' ({node.op_type})"
        try:
            if node.domain in ("", "ai.onnx"):
                _check_node(node, opset)
            given = [known.get(name) for name in node.input]
            check_growth(node, given)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                _check_graph(item.g, opset, known)
            short = item.type == onnx.AttributeProto.TENSOR and _is_short(item.t)
            if node.op_type == "Constant" and node.output and short:
                known[node.output[0]] = _few(item.t)


def _is_short(tensor: onnx.TensorProto) -> bool:
    """Say whether a tensor may be a shape, a length or an index."""
    few = 0 <= size(tuple(tensor.dims)) <= 64
    return few and tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.FLOAT)


def _few(tensor: onnx.TensorProto) -> Array:
    try:
        return numpy_helper.to_array(tensor)
    except Exception as error:  # onnx raises what its fields lead to
        raise ValueError(f"constant '{tensor.name}' is damaged: {error}") from error


def _check_node(node: onnx.NodeProto, opset: int) -> None:
    """Refuse a node with too few or too many inputs, or attributes of another type.

    Exporters write some operators as a later version has them: that passes too.
    """
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, "")
        latest = onnx.defs.get_schema(node.op_type, domain="")
    except onnx.defs.SchemaError:
        return  # the readers say what they know
    least = min(schema.min_input, latest.min_input)
    for what, names, low, high in (
        ("inputs", node.input, least, max(schema.max_input, latest.max_input)),
        ("outputs", node.output, 1, max(schema.max_output, latest.max_output)),
    ):
        if not low <= len(names) <= high:
            many = f"{low} to {high}" if high < 1 << 16 else f"{low} or more"
            raise ValueError(f"it has {len(names)} {what}, not {many}")
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    for number, (name, item) in enumerate(zip(node.input[:least], schema.inputs, strict=False)):
        if not name and item.option != optional:  # Loop counts its first two and may lack both
            raise ValueError(f"its input {number} is missing")
    given = {item.name: item for item in node.attribute}
    for name, rule in schema.attributes.items():
        other = latest.attributes.get(name, rule)
        if name not in given:
            if rule.required and other.required:
                raise ValueError(f"its attribute '{name}' is missing")
            continue
        kind = onnx.AttributeProto.AttributeType.Name(given[name].type)
        kinds = {str(item.type).rpartition(".")[2] for item in (rule, other)}
        if kind not in kinds or given[name].ref_attr_name:
            raise ValueError(f"its attribute '{name}' has another type than the operator's")


def check_growth(node: onnx.NodeProto, given: Sequence[Array | None]) -> None:
    """Refuse a node that would make far more than it is given; ``ValueError`` says how much.

    ``given`` are its inputs, None for what is not known.
    """
    numbers: dict[str, list[float]] = {
        item.name: [float(n) for n in (*item.ints, *((item.i,) if item.HasField("i") else ()))]
        for item in node.attribute
    }
    for name, values in numbers.items():
        if name in _EXTENTS and any(abs(value) > _MOST_NUMBER for value in values):
            raise ValueError(f"its attribute '{name}' is {values[:8]}")
    rule = _MADE.get(node.op_type, _kernel)
    try:
        made = rule([None if item is None else np.asarray(item) for item in given], numbers)
    except (IndexError, OverflowError):
        return  # whoever computes it says what is wrong
    largest = max((item.size for item in given if item is not None), default=0)
    if not made <= _MOST_MADE + 2 * largest:
        raise ValueError(f"it would make {made:,.0f} elements of {largest:,}")


#: Attributes that are extents or distances.
_EXTENTS = frozenset((
    "dilations", "kernel_shape", "output_padding", "output_shape", "pads", "shape", "strides",
    "hidden_size", "depth", "blocksize", "group",
))  # fmt: skip
_Given = Sequence["Array | None"]
_Numbers = Mapping[str, Sequence[float]]


def _product(values: Any) -> float:
    return math.prod(abs(float(value)) for value in np.asarray(values).reshape(-1)[:64])


def _elements(value: Array | None) -> float:
    return 1.0 if value is None else float(value.size)


def _kernel(given: _Given, numbers: _Numbers) -> float:
    """What a kernel has, or pads add."""
    pads = [value for value in numbers.get("pads", ()) if value > 0]
    return _product(numbers.get("kernel_shape", ())) * _product([1 + pad for pad in pads])


def _shape_in(place: int) -> Callable[[_Given, _Numbers], float]:
    def made(given: _Given, numbers: _Numbers) -> float:
        shape = given[place] if len(given) > place else None
        return _product(numbers.get("shape", ())) if shape is None else _product(shape)

    return made


def _repeated(given: _Given, numbers: _Numbers) -> float:
    repeats = given[1]
    return 0.0 if repeats is None else _elements(given[0]) * _product(repeats)


def _expanded(given: _Given, numbers: _Numbers) -> float:
    if given[1] is None:
        return 0.0
    shape = tuple(int(extent) for extent in given[1].reshape(-1)[:64])
    if given[0] is None or min(shape, default=0) < 0:
        return _product(shape)
    return float(size(np.broadcast_shapes(given[0].shape, shape)))


def _ranged(given: _Given, numbers: _Numbers) -> float:
    if any(item is None or item.size != 1 for item in given[:3]):
        return 0.0
    start, end, step = (float(np.asarray(item).reshape(())) for item in given[:3])
    return abs(end - start) / abs(step) if step else math.inf


def _padded(given: _Given, numbers: _Numbers) -> float:
    pads = given[1] if len(given) > 1 else np.array(numbers.get("pads", ()))
    if pads is None or pads.dtype.kind not in "if":
        return 0.0
    half = len(pads) // 2
    wide = [1 + max(0.0, float(a)) + max(0.0, float(b))
            for a, b in zip(pads[:half], pads[half:], strict=False)]  # fmt: skip
    if given[0] is None or given[0].ndim != half:
        return _product(wide)
    return _product([n - 1 + more for n, more in zip(given[0].shape, wide, strict=True)])


def _resized(given: _Given, numbers: _Numbers) -> float:
    made = [0.0]
    for item in given[1:]:
        if item is not None and item.size and item.dtype.kind == "i":
            made.append(_product(item))
        elif item is not None and item.size and item.dtype.kind == "f":
            made.append(_elements(given[0]) * _product(item))
    return max(made)


def _hot(given: _Given, numbers: _Numbers) -> float:
    return 0.0 if given[1] is None else _elements(given[0]) * _product(given[1])


def _multiplied(given: _Given, numbers: _Numbers) -> float:
    left, right = given[0], given[1]
    if left is None or right is None or left.ndim != 2 or right.ndim != 2:
        return 0.0
    transposed = [bool(numbers.get(name, [0])[0]) for name in ("transA", "transB")]
    return float(left.shape[transposed[0]] * right.shape[not transposed[1]])


def _broadcast(given: _Given, numbers: _Numbers) -> float:
    shapes = [item.shape for item in given if item is not None]
    return float(size(np.broadcast_shapes(*shapes))) if len(shapes) > 1 else 0.0


_MADE: Mapping[str, Callable[[_Given, _Numbers], float]] = {
    "ConstantOfShape": _shape_in(0),
    "RandomNormal": _shape_in(9),
    "RandomUniform": _shape_in(9),
    "Expand": _expanded,
    "Tile": _repeated,
    "Range": _ranged,
    "Pad": _padded,
    "Resize": _resized,
    "Upsample": _resized,
    "OneHot": _hot,
    "MatMul": _multiplied,
    "Gemm": _multiplied,
    **dict.fromkeys(
        ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Where", "Greater", "Less",
         "GreaterOrEqual", "LessOrEqual", "Equal", "Min", "Max", "Sum", "Mean", "PRelu", "Mod"),
        _broadcast,
    ),
}  # fmt: skip


def check_functions(model: onnx.ModelProto) -> None:
    """Refuse functions that use themselves, or are too many nodes once they are written out.

    Raises ``ValueError``.
    """
    count = _Count({(item.domain, item.name): item.node for item in model.functions})
    total = count.of_nodes(model.graph.node)
    if total > _MOST_NODES:
        raise ValueError(f"with its functions written out it has {total:,} nodes")


class _Count:
    """How many nodes there are once functions are written out; each is counted once."""

    def __init__(self, bodies: Mapping[tuple[str, str], Sequence[onnx.NodeProto]]) -> None:
        self._bodies = bodies
        self._known: dict[tuple[str, str], int] = {}
        self._open: list[tuple[str, str]] = []

    def of_nodes(self, nodes: Sequence[onnx.NodeProto]) -> int:
        return sum(map(self._of_node, nodes))

    def _of_node(self, node: onnx.NodeProto) -> int:
        inner = sum(self.of_nodes(item.g.node) for item in node.attribute if item.HasField("g"))
        key = (node.domain, node.op_type)
        return inner + (self._of_function(key) if key in self._bodies else 1)

    def _of_function(self, key: tuple[str, str]) -> int:
        if key in self._open or len(self._open) > _MOST_DEPTH:
            raise ValueError(f"function '{key[0]}::{key[1]}' uses itself, or too many others")
        if key not in self._known:
            self._open.append(key)
            self._known[key] = self.of_nodes(self._bodies[key])
            self._open.pop()
        return self._known[key]
