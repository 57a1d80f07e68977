"""Graphs unrolled over time whose input has no time axis: one picture, shown at every step.

``forward(x)`` with ``for t in range(T)`` inside writes such a file. What the steps share, up to
the current that the first neurons are driven with, is in the file once or once a step. It is
written anew for every step, from a step of its own of an input with a time axis; the file is
then unrolled like any other (:mod:`~spikec.compiler.frontends.onnx_reroll`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Sequence
from typing import TypeAlias

import numpy as np
import onnx
from onnx import helper, numpy_helper

from spikec.compiler.frontends.onnx_file import OnnxFile
from spikec.compiler.ir import Choice

__all__ = ["shown_each_step"]

#: Where a value is used: a node of the file and which of its inputs.
_Use: TypeAlias = tuple[int, int]

_COMPARISONS = ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Sign", "Floor", "Ceil")


def shown_each_step(file: OnnxFile) -> tuple[OnnxFile, tuple[Choice, ...]]:
    """Return the file with a time axis on its input, and the choice that says so.

    A file of another kind is returned as it is: with states or loops, with steps that are
    taken out of its input, or with outputs that are no series.
    """
    graph = file.model.graph
    constants = {*file.weights, *(tensor.name for tensor in graph.initializer)}
    inputs = [entry for entry in graph.input if entry.name not in constants]
    if len(inputs) != 1 or any(node.op_type in ("Scan", "Loop", "If") for node in graph.node):
        return file, ()
    (entry,) = inputs
    shape = [axis.dim_value for axis in entry.type.tensor_type.shape.dim]
    steps = _steps(graph.output)
    if len(shape) < 2 or shape[0] > 1 or 0 in shape[1:] or steps is None:
        return file, ()
    users = _users(graph)
    shared = _shared(graph, entry.name, steps, users)
    if not shared:
        return file, ()
    timed = file.with_model(_with_time(file.model, entry.name, shape, steps, shared, users))
    if not _same(file, timed, entry.name, shape, steps):
        return file, ()
    said = Choice(
        what=f"input '{entry.name}' over time",
        value=f"the file shows one input at each of {steps} steps; here each step has its own "
        f"(--steps {steps} presents one for all)",
        origin="file",
    )
    return timed, (said,)


def _same(file: OnnxFile, timed: OnnxFile, name: str, shape: Sequence[int], steps: int) -> bool:
    """Say whether both give the same outputs for one random input."""
    rng = np.random.default_rng(0)
    given = rng.normal(size=(1, *shape[1:])).astype(np.float32)
    outputs = [entry.name for entry in file.model.graph.output]
    try:
        one = file.runner()({name: given}, outputs)
        many = timed.runner()({name: np.stack([given] * steps)}, outputs)
    except Exception:  # noqa: BLE001 - the evaluator raises what its operators raise
        return False
    return all(np.array_equal(one[item], many[item]) for item in outputs)


def _steps(outputs: Sequence[onnx.ValueInfoProto]) -> int | None:
    """Return the number of steps: the extent of the first axis of all outputs, above 1."""
    extents = {
        output.type.tensor_type.shape.dim[0].dim_value
        for output in outputs
        if output.type.tensor_type.shape.dim
    }
    first = extents.pop() if len(extents) == 1 else 0
    return first if first > 1 else None


def _users(graph: onnx.GraphProto) -> dict[str, list[_Use]]:
    """Return where each value is used: nodes and places, in the order of the file."""
    users: dict[str, list[_Use]] = defaultdict(list)
    for number, node in enumerate(graph.node):
        for place, name in enumerate(node.input):
            if name:
                users[name].append((number, place))
    return users


def _shared(
    graph: onnx.GraphProto, name: str, steps: int, users: dict[str, list[_Use]]
) -> list[str]:
    """Return the values that every step uses, and no threshold has been on."""
    smooth = _depending(graph.node, name, _COMPARISONS)
    alone = [item for item in smooth if _each_step(users[item], steps)]
    before = _before(graph.node, name, alone)
    # What is used both on the way there and at every step: the picture itself, in a skip.
    return [item for item in smooth if _each_step(_outside(users[item], before), steps)]


def _each_step(users: Sequence[_Use], steps: int) -> bool:
    return len(users) >= steps and len(users) % steps == 0


def _outside(users: Sequence[_Use], before: Sequence[int]) -> list[_Use]:
    return [use for use in users if use[0] not in before]


def _before(nodes: Sequence[onnx.NodeProto], name: str, shared: Sequence[str]) -> list[int]:
    """Return the nodes that compute ``shared`` from the input, in order."""
    varying = _depending(nodes, name)
    return [n for n in _ancestors(nodes, shared) if any(x in varying for x in nodes[n].input)]


def _depending(
    nodes: Sequence[onnx.NodeProto], name: str, but: Sequence[str] = ()
) -> dict[str, None]:
    """Return the values that depend on ``name``, by no operator of the kinds ``but``."""
    found = {name: None}
    for node in nodes:
        if node.op_type not in but and any(item in found for item in node.input):
            found.update(dict.fromkeys(node.output))
    return found


def _with_time(
    model: onnx.ModelProto,
    name: str,
    shape: Sequence[int],
    steps: int,
    shared: Sequence[str],
    users: dict[str, list[_Use]],
) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    nodes = list(graph.node)
    varying = _depending(nodes, name)
    before = _before(nodes, name, shared)
    #: The node before which each step begins.
    begins = [len(nodes)] * steps
    for item in shared:
        outside = _outside(users[item], before)
        each = len(outside) // steps
        for order, (number, place) in enumerate(outside):
            nodes[number].input[place] = _at(item, order // each)
            begins[order // each] = min(begins[order // each], number)
    order_of_nodes: list[onnx.NodeProto] = []
    for number, node in enumerate(nodes):
        for step in (step for step, begin in enumerate(begins) if begin == number):
            index = _at("spikec.step", step)
            graph.initializer.append(numpy_helper.from_array(np.array(step), index))
            order_of_nodes.append(helper.make_node("Gather", [name, index], [_at(name, step)]))
            order_of_nodes += [_copied(nodes[n], step, varying) for n in before]
        if number not in before:
            order_of_nodes.append(node)
    del graph.node[:]
    graph.node.extend(order_of_nodes)
    (entry,) = (item for item in graph.input if item.name == name)
    entry.CopyFrom(
        helper.make_tensor_value_info(
            name, entry.type.tensor_type.elem_type, [steps, 1, *shape[1:]]
        )
    )
    del graph.value_info[:]
    return changed


def _ancestors(nodes: Sequence[onnx.NodeProto], wanted: Sequence[str]) -> list[int]:
    """Return the nodes that compute ``wanted``, in order."""
    needed = set(wanted)
    found = []
    for number in range(len(nodes) - 1, -1, -1):
        if needed & set(nodes[number].output):
            found.append(number)
            needed.update(nodes[number].input)
    return found[::-1]


def _copied(node: onnx.NodeProto, step: int, varying: Container[str]) -> onnx.NodeProto:
    """Return a node as one step has it."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.name = _at(node.name, step)
    for names in (copy.input, copy.output):
        renamed = [_at(item, step) if item in varying else item for item in names]
        del names[:]
        names.extend(renamed)
    return copy


def _at(name: str, step: int) -> str:
    return f"{name}@{step}"
