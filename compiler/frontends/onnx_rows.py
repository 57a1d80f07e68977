"""A graph unrolled over time, taken apart into values of single steps.

A value with a time axis becomes :class:`Rows`, one :class:`Item` per step; taking
a step out of it, or stacking steps, is then no computation at all. What is left
is one graph of items: each an operator on items and constants. Equal items are
one item, as some exporters have it and others do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
import onnx
from onnx import numpy_helper

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.frontends.onnx_step import NotAStepError, attributes

__all__ = [
    "ELEMENTWISE",
    "Event",
    "Item",
    "Part",
    "Rows",
    "Unrolled",
    "content",
    "row_of",
    "time_axis",
]

#: Operators that treat every element alike, and broadcast.
ELEMENTWISE = frozenset(
    [
        "Add",
        "Sum",
        "Sub",
        "Mul",
        "Div",
        "Neg",
        "Cast",
        "CastLike",
        "Dropout",
        "Not",
        "And",
        "Or",
        "Where",
        "Equal",
        "Greater",
        "Less",
        "GreaterOrEqual",
        "LessOrEqual",
    ]
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
    #: Which of the node's outputs it is.
    output: int = 0


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

    file: OnnxFile
    name: str
    shape: Shape
    axis: int
    events: list[Event] = field(default_factory=list)
    #: Items that are stacked as a step of a series: (place of the item, step).
    stacked: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._items: dict[object, Item] = {}
        self._values: dict[str, Any] = {"": None}
        self._found = _evaluated(self.file, self.name, self.shape)
        graph = self.file.model.graph
        self._values.update(self.file.weights)
        for tensor in graph.initializer:
            self._values[tensor.name] = numpy_helper.to_array(tensor)
        row_shape = row_of(self.shape, self.axis)
        rows = (
            self._item("Input", None, (np.array(k),), row_shape, -1, k)
            for k in range(self.shape[self.axis])
        )
        self._values[self.name] = Rows(tuple(rows))
        for place, node in enumerate(graph.node):
            self._node(node, place)

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise NotAStepError(f"output '{name}'", "it is computed nowhere")
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
        constant = all(item is None or isinstance(item, np.ndarray) for item in arguments)
        if node.op_type in ("Shape", "Size") or (
            constant and not node.op_type.startswith("Sequence")
        ):
            results: list[Any] = [self._found.get(name) for name in node.output]
        else:
            from spikec.compiler.frontends.onnx_series import SERIES  # it needs these types

            handler = SERIES.get(node.op_type)
            moved = handler(self, node, arguments, place, where) if handler else None
            results = (
                [
                    self._computed(node, arguments, place, where, output) if name else None
                    for output, name in enumerate(node.output)
                ]
                if moved is None
                else moved
            )
        self._values.update(zip(node.output, results, strict=False))

    def _computed(
        self, node: onnx.NodeProto, arguments: list[Any], place: int, where: str, output: int
    ) -> Any:
        """Return one output of ``node``: step by step, where it is given a series."""
        if any(isinstance(item, list) for item in arguments):
            raise NotAStepError(where, "a sequence is used in a way that is not understood")
        shape = self.shape_of(node.output[output])
        lengths = {len(item.parts) for item in arguments if isinstance(item, Rows)}
        if not lengths:
            return self._single(node, arguments, shape, place, None, output)
        axis = time_axis(shape)
        if len(lengths) > 1 or axis is None or {shape[axis]} != lengths:
            raise NotAStepError(where, "it does not keep the steps of a series apart")
        if node.op_type == "Transpose" and not _keeps_time(node, self.shape_of(node.input[0])):
            raise NotAStepError(where, "it moves the time axis behind another")
        sliced = axis - len(shape) if node.op_type in ELEMENTWISE else None
        rows = []
        for k in range(shape[axis]):
            parts = [_part(item, k, sliced, shape[axis]) for item in arguments]
            rows.append(self._single(node, parts, row_of(shape, axis), place, k, output))
        return Rows(tuple(rows))

    def _single(
        self,
        node: onnx.NodeProto,
        parts: list[Part],
        shape: Shape,
        place: int,
        row: int | None,
        output: int = 0,
    ) -> Part:
        if node.op_type in _SHAPE_OPS:
            return self.reshaped(parts[0], shape, place)
        return self._item(node.op_type, node, tuple(parts), shape, place, row, output)

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
        output: int = 0,
    ) -> Item:
        given = b"".join(sorted(a.SerializeToString() for a in node.attribute)) if node else b""
        key = (
            op,
            given,
            output,
            shape,
            *(id(a) if isinstance(a, Item) else content(a) for a in args),
        )
        if key not in self._items:
            self._items[key] = Item(
                op=op, node=node, args=args, shape=shape, place=place, row=row, output=output
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
        rows = [self.reshaped(part, row_of(shape, axis), place) for part in parts]
        self.note(rows)
        return Rows(tuple(rows))

    def note(self, parts: Sequence[Part]) -> None:
        """Note where the elements of a series are computed."""
        for k, part in enumerate(parts):
            core = part.args[0] if isinstance(part, Item) and part.op == "Shape" else part
            if isinstance(core, Item):
                self.stacked.append((core.place, k))


# --- shapes -------------------------------------------------------------------


def content(value: Array | None) -> object:
    """Return a key under which equal constants are equal."""
    if value is None:
        return None
    digest = hashlib.sha1(np.ascontiguousarray(value).data, usedforsecurity=False)
    return value.shape, str(value.dtype), digest.digest()


def _evaluated(file: OnnxFile, name: str, shape: Shape) -> dict[str, Any]:
    """Return every value of the graph for silent input: its shapes and constants."""
    try:
        feeds = {name: np.zeros(shape, np.float32)}
        return file.runner()(feeds, None)
    except Exception as error:  # the evaluator raises what its operators raise
        raise NotAStepError("graph", f"it cannot be run: {error}") from error


def time_axis(shape: Shape) -> int | None:
    """Return the first axis longer than 1: where a series has its steps."""
    return next((axis for axis, extent in enumerate(shape) if extent > 1), None)


def row_of(shape: Shape, axis: int) -> Shape:
    """Return the shape of one step of a series."""
    return (*shape[:axis], 1, *shape[axis + 1 :])


def _keeps_time(node: onnx.NodeProto, source: Shape) -> bool:
    order = [int(i) for i in attributes(node).get("perm", reversed(range(len(source))))]
    long = [axis for axis in order if source[axis] > 1]
    return bool(long) and long[0] == time_axis(source)


def _part(value: Any, row: int, axis: int | None, steps: int) -> Part:
    """Return step ``row`` of an operand; ``axis``, if constants have one, counts from the end."""
    if isinstance(value, Rows):
        return value.parts[row]
    if axis is not None and isinstance(value, np.ndarray) and value.ndim >= -axis:
        return np.take(value, [row], axis) if value.shape[axis] == steps else value
    return cast("Part", value)
