"""A graph unrolled over time, taken apart into values of single steps.

A value with a time axis becomes :class:`Rows`, one :class:`Item` per step; taking
a step out of it, or stacking steps, is then no computation at all. What is left
is one graph of items: each an operator on items and constants. Equal items are
one item, as some exporters have it and others do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.frontends.onnx_step import NotAStepError, attributes

__all__ = ["ELEMENTWISE", "Event", "Item", "Rows", "Unrolled", "content"]

#: Operators that treat every element alike, and broadcast.
ELEMENTWISE = frozenset(
    ["Add", "Sum", "Sub", "Mul", "Div", "Neg", "Cast", "CastLike", "Dropout", "Not", "And", "Or", "Where", "Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"]
)
_SHAPE_OPS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})


@dataclass(frozen=True, eq=False, kw_only=True)
class Item:
    """One value of one step; ``place`` is where in the file it is computed first.

    ``op`` is an ONNX operator, ``Input`` (step ``row`` of the data), or ``Shape``
    (the same elements in another shape). ``row`` is set where the file computes
    all steps at once.
    """

    op: str
    node: onnx.NodeProto | None
    args: tuple[Part, ...]
    shape: Shape
    place: int
    row: int | None = None


Part: TypeAlias = "Item | Array | None"


@dataclass(frozen=True, eq=False)
class Rows:
    """A value with a time axis, step by step; each row has a 1 in the place of time."""

    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Event:
    """At ``place`` the file takes step ``row`` out of a series."""

    place: int
    row: int
    taken: Part


@dataclass(eq=False)
class Unrolled:
    """All items of a graph with one data input, whose steps are along ``axis``."""

    model: onnx.ModelProto
    name: str
    shape: Shape
    axis: int
    events: list[Event] = field(default_factory=list)
    #: Items that are stacked as a step of a series: (place of the item, step).
    stacked: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._items: dict[object, Item] = {}
        self._values: dict[str, Any] = {"": None}
        self._found = _evaluated(self.model, self.name, self.shape)
        graph = self.model.graph
        for tensor in graph.initializer:
            self._values[tensor.name] = numpy_helper.to_array(tensor)
        row_shape = _row(self.shape, self.axis)
        rows = (
            self._item("Input", None, (np.array(k),), row_shape, -1, k)
            for k in range(self.shape[self.axis])
        )
        self._values[self.name] = Rows(tuple(rows))
        for place, node in enumerate(graph.node):
            self._node(node, place)

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    @property
    def items(self) -> tuple[Item, ...]:
        """All items, in the order of the file."""
        return tuple(self._items.values())

    def _node(self, node: onnx.NodeProto, place: int) -> None:
        where = f"node '{node.name or ','.join(node.output)}' ({node.op_type})"
        missing = [name for name in node.input if name not in self._values]
        if missing:
            raise NotAStepError(where, f"its input '{missing[0]}' is defined nowhere")
        arguments = [self._values[name] for name in node.input]
        if all(item is None or isinstance(item, np.ndarray) for item in arguments) and not (
            node.op_type.startswith("Sequence")
        ):
            results: list[Any] = [self._found.get(name) for name in node.output]
        else:
            handler = _TIME.get(node.op_type)
            results = handler(self, node, arguments, place, where) if handler else None
            if results is None:
                results = [self._computed(node, arguments, place, where)]
        self._values.update(zip(node.output, results, strict=False))

    def _computed(self, node: onnx.NodeProto, arguments: list[Any], place: int, where: str) -> Any:
        """Return what ``node`` computes: step by step, where it is given a series."""
        if any(isinstance(item, list) for item in arguments):
            raise NotAStepError(where, "a sequence is used in a way that is not understood")
        shape = self.shape_of(node.output[0])
        lengths = {len(item.parts) for item in arguments if isinstance(item, Rows)}
        if not lengths:
            return self._single(node, arguments, shape, place, None)
        axis = _time_axis(shape)
        if len(lengths) > 1 or axis is None or {shape[axis]} != lengths:
            raise NotAStepError(where, "it does not keep the steps of a series apart")
        if node.op_type == "Transpose" and not _keeps_time(node, self.shape_of(node.input[0])):
            raise NotAStepError(where, "it moves the time axis behind another")
        sliced = axis - len(shape) if node.op_type in ELEMENTWISE else None
        rows = []
        for k in range(shape[axis]):
            parts = [_part(item, k, sliced, shape[axis]) for item in arguments]
            rows.append(self._single(node, parts, _row(shape, axis), place, k))
        return Rows(tuple(rows))

    def _single(
        self, node: onnx.NodeProto, parts: list[Part], shape: Shape, place: int, row: int | None
    ) -> Part:
        if node.op_type in _SHAPE_OPS:
            return self.reshaped(parts[0], shape, place)
        return self._item(node.op_type, node, tuple(parts), shape, place, row)

    def reshaped(self, part: Part, shape: Shape, place: int) -> Part:
        """Return the same elements as ``shape``."""
        if isinstance(part, np.ndarray):
            return part.reshape(shape)
        assert isinstance(part, Item)
        if part.op == "Shape":
            part = cast("Item", part.args[0])
        if part.shape == shape:
            return part
        if size(part.shape) != size(shape):
            raise NotAStepError(f"node {place}", f"{part.shape} cannot be read as {shape}")
        return self._item("Shape", None, (part,), shape, place, part.row)

    def _item(
        self,
        op: str,
        node: onnx.NodeProto | None,
        args: tuple[Part, ...],
        shape: Shape,
        place: int,
        row: int | None,
    ) -> Item:
        given = b"".join(sorted(a.SerializeToString() for a in node.attribute)) if node else b""
        key = (op, given, shape, *(id(a) if isinstance(a, Item) else content(a) for a in args))
        if key not in self._items:
            self._items[key] = Item(
                op=op, node=node, args=args, shape=shape, place=place, row=row
            )
        return self._items[key]

    def shape_of(self, name: str) -> Shape:
        """Return the shape that a value has when the file is run."""
        return np.shape(self._found[name])

    def taken(self, rows: Rows, row: int, shape: Shape, place: int) -> Part:
        """Return one step of a series, and note that it is taken here."""
        part = self.reshaped(rows.parts[row], shape, place)
        self.events.append(Event(place, row, part))
        return part

    def stack(self, parts: Sequence[Part], shape: Shape, axis: int, place: int) -> Rows:
        """Return parts of length 1 as a series."""
        rows = []
        for k, part in enumerate(parts):
            rows.append(self.reshaped(part, _row(shape, axis), place))
            core = rows[-1]
            if isinstance(core, Item) and core.op == "Shape":
                core = core.args[0]
            if isinstance(core, Item):
                self.stacked.append((core.place, k))
        return Rows(tuple(rows))


# --- what moves steps in and out of series ------------------------------------


def _gather(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    rows, index = arguments
    given, source = int(attributes(node).get("axis", 0)), graph.shape_of(node.input[0])
    axis = given % len(source)
    if isinstance(rows, Item) and isinstance(index, np.ndarray) and source[axis] == index.size == 1:
        return [graph.reshaped(rows, graph.shape_of(node.output[0]), place)]
    if not isinstance(rows, Rows) or not isinstance(index, np.ndarray):
        return None
    if axis != _time_axis(source):
        raise NotAStepError(where, "it takes a part of a population")
    shape = graph.shape_of(node.output[0])
    steps = [int(k) % len(rows.parts) for k in index.reshape(-1)]
    if len(steps) == 1:
        return [graph.taken(rows, steps[0], shape, place)]
    return [Rows(tuple(rows.parts[k] for k in steps))]


def _slice(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    rows, source = arguments[0], graph.shape_of(node.input[0])
    shape = graph.shape_of(node.output[0])
    if shape == source:
        return [rows]
    if not isinstance(rows, Rows):
        return None
    given = attributes(node)
    bounds: list[Any] = list(arguments[1:]) if len(arguments) > 1 else [
        given["starts"], given["ends"], given.get("axes")
    ]  # fmt: skip
    bounds += [None] * (4 - len(bounds))
    starts, ends, axes, jumps = bounds
    axes = range(len(starts)) if axes is None else [int(a) % len(source) for a in axes]
    jumps = [1] * len(starts) if jumps is None else jumps
    time = _time_axis(source)
    steps = range(len(rows.parts))
    for start, end, axis, jump in zip(starts, ends, axes, jumps, strict=True):
        if axis == time:
            steps = steps[int(start) : int(end) : int(jump)]
        elif shape[axis] != source[axis]:
            raise NotAStepError(where, "it takes a part of a population")
    if len(steps) == 1:
        return [graph.taken(rows, steps[0], shape, place)]
    return [Rows(tuple(rows.parts[k] for k in steps))]


def _split(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    rows, source = arguments[0], graph.shape_of(node.input[0])
    if isinstance(rows, Item) and len(node.output) == 1:
        return [rows]
    axis = int(attributes(node).get("axis", 0)) % len(source)
    if not isinstance(rows, Rows):
        return None
    if axis != _time_axis(source):
        raise NotAStepError(where, "it takes parts of a population")
    results: list[Any] = []
    first = 0
    for name in node.output:
        shape = graph.shape_of(name)
        if shape[axis] == 1:
            results.append(graph.taken(rows, first, shape, place))
        else:
            results.append(Rows(rows.parts[first : first + shape[axis]]))
        first += shape[axis]
    return results


def _concat(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    shape = graph.shape_of(node.output[0])
    if len(arguments) == 1:
        return [arguments[0]]
    axis = int(attributes(node)["axis"]) % len(shape)
    if axis != _time_axis(shape):
        return None
    parts: list[Part] = []
    for name, item in zip(node.input, arguments, strict=True):
        extent = graph.shape_of(name)[axis]
        if isinstance(item, Rows):
            parts += item.parts
        elif isinstance(item, np.ndarray):
            parts += np.split(item, extent, axis)
        elif extent == 1:
            parts.append(item)
        else:
            return None
    return [graph.stack(parts, shape, axis, place)]


def _sequence(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    if node.op_type == "SequenceConstruct":
        return [list(arguments)]
    if node.op_type == "SequenceEmpty":
        return [[]]
    if node.op_type == "SequenceInsert":
        if len(arguments) > 2 and arguments[2] is not None:
            raise NotAStepError(where, "it inserts at a place of its own")
        return [[*arguments[0], arguments[1]]]
    if node.op_type == "SequenceAt" and isinstance(arguments[1], np.ndarray):
        return [arguments[0][int(arguments[1])]]
    return None


def _split_to_sequence(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    rows, source = arguments[0], graph.shape_of(node.input[0])
    given = attributes(node)
    axis = int(given.get("axis", 0)) % len(source)
    split = arguments[1] if len(arguments) > 1 else None
    ones = split is None or bool((np.asarray(split) == 1).all())
    if not isinstance(rows, Rows) or axis != _time_axis(source) or not ones:
        return None
    shape = _row(source, axis)
    if split is None and not given.get("keepdims", 1):
        shape = (*source[:axis], *source[axis + 1 :])
    return [[graph.taken(rows, k, shape, place) for k in range(len(rows.parts))]]


def _join(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    given, shape = attributes(node), graph.shape_of(node.output[0])
    axis = int(given["axis"]) % len(shape)
    items = arguments[0]
    single = len(items) == shape[axis] and not any(isinstance(item, Rows) for item in items)
    if axis != _time_axis(shape) or not single:
        raise NotAStepError(where, "it joins something else than the steps of a series")
    return [graph.stack(items, shape, axis, place)]


def _scatter(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    buffer, index, update = arguments
    shape = graph.shape_of(node.output[0])
    if not isinstance(index, np.ndarray) or index.size != 1 or _time_axis(shape) != 0:
        return None
    if isinstance(buffer, np.ndarray):
        buffer = Rows(tuple(np.split(buffer, shape[0], 0)))
    if not isinstance(buffer, Rows) or isinstance(update, Rows):
        return None
    row = int(index.reshape(-1)[0]) % shape[0]
    parts = list(buffer.parts)
    parts[row] = graph.reshaped(update, _row(shape, 0), place)
    if isinstance(update, Item):
        graph.stacked.append((update.place, row))
    return [Rows(tuple(parts))]


_TIME: dict[str, Callable[..., list[Any] | None]] = {
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
    "Concat": _concat,
    "SequenceConstruct": _sequence,
    "SequenceEmpty": _sequence,
    "SequenceInsert": _sequence,
    "SequenceAt": _sequence,
    "SplitToSequence": _split_to_sequence,
    "ConcatFromSequence": _join,
    "ScatterND": _scatter,
}


# --- shapes -------------------------------------------------------------------


def content(value: Array | None) -> object:
    """Return a key under which equal constants are equal."""
    if value is None:
        return None
    digest = hashlib.sha1(np.ascontiguousarray(value).tobytes(), usedforsecurity=False)
    return value.shape, str(value.dtype), digest.digest()


def _evaluated(model: onnx.ModelProto, name: str, shape: Shape) -> dict[str, Any]:
    """Return every value of the graph for silent input: its shapes and constants."""
    try:
        evaluator = ReferenceEvaluator(model)
        found = evaluator.run(None, {name: np.zeros(shape, np.float32)}, intermediate=True)
    except Exception as error:  # the evaluator raises what its operators raise
        raise NotAStepError("graph", f"it cannot be run: {error}") from error
    return dict(found)


def _time_axis(shape: Shape) -> int | None:
    """Return the first axis longer than 1: where a series has its steps."""
    return next((axis for axis, extent in enumerate(shape) if extent > 1), None)


def _row(shape: Shape, axis: int) -> Shape:
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _keeps_time(node: onnx.NodeProto, source: Shape) -> bool:
    order = [int(i) for i in attributes(node).get("perm", reversed(range(len(source))))]
    long = [axis for axis in order if source[axis] > 1]
    return bool(long) and long[0] == _time_axis(source)


def _part(value: Any, row: int, axis: int | None, steps: int) -> Part:
    """Return step ``row`` of an operand; ``axis``, if constants have one, counts from the end."""
    if isinstance(value, Rows):
        return value.parts[row]
    if axis is not None and isinstance(value, np.ndarray) and value.ndim >= -axis:
        return np.take(value, [row], axis) if value.shape[axis] == steps else value
    return cast("Part", value)
