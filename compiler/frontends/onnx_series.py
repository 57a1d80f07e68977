"""Operators that move steps in and out of a series: they compute nothing.

Each returns the outputs of a node, or None if here the node is a computation.
"""

# ruff: noqa: ARG001 - handlers of one table share a signature

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from spikec.compiler.frontends.onnx_rows import Item, Part, Rows, Unrolled, row_of, time_axis
from spikec.compiler.frontends.onnx_step import NotAStepError, attributes

__all__ = ["SERIES"]


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
    if axis != time_axis(source):
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
    given = attributes(node)
    bounds: list[Any] = list(arguments[1:]) if len(arguments) > 1 else [
        given["starts"], given["ends"], given.get("axes")
    ]  # fmt: skip
    bounds += [None] * (4 - len(bounds))
    starts, ends, axes, jumps = bounds
    axes = range(len(starts)) if axes is None else [int(a) % len(source) for a in axes]
    jumps = [1] * len(starts) if jumps is None else jumps
    if shape == source and all(int(jump) == 1 for jump in jumps):
        return [rows]
    if not isinstance(rows, Rows):
        return None
    time = time_axis(source)
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
    if axis != time_axis(source):
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
    if axis != time_axis(shape):
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
    if not isinstance(rows, Rows) or axis != time_axis(source) or not ones:
        return None
    shape = row_of(source, axis)
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
    if axis != time_axis(shape) or not single:
        raise NotAStepError(where, "it joins something else than the steps of a series")
    return [graph.stack(items, shape, axis, place)]


def _scatter(
    graph: Unrolled, node: onnx.NodeProto, arguments: list[Any], place: int, where: str
) -> list[Any] | None:
    buffer, index, update = arguments
    shape = graph.shape_of(node.output[0])
    if not isinstance(index, np.ndarray) or index.size != 1 or time_axis(shape) != 0:
        return None
    if isinstance(buffer, np.ndarray):
        buffer = Rows(tuple(np.split(buffer, shape[0], 0)))
    if not isinstance(buffer, Rows) or isinstance(update, Rows):
        return None
    row = int(index.reshape(-1)[0]) % shape[0]
    parts = list(buffer.parts)
    parts[row] = graph.reshaped(update, row_of(shape, 0), place)
    if isinstance(update, Item):
        graph.stacked.append((update.place, row))
    return [Rows(tuple(parts))]


SERIES: dict[str, Callable[..., list[Any] | None]] = {
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
