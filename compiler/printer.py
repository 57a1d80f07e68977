"""Graphs and programs as text: for people, and for tests that compare."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.ir import LIF, Edge, Graph, Input, Population
from spikec.compiler.operators import Chain, Operator, Permute, Reshape, Sparse, Stage

__all__ = ["describe", "operator_text", "switches", "to_text"]


def to_text(graph: Graph) -> str:
    """Return the graph with every switch, one line a node or edge."""
    lines = [f"graph dt={graph.dt} outputs={', '.join(graph.outputs)}"]
    for node in graph.nodes:
        shape = "x".join(map(str, node.shape))
        named = " ".join(f"{name}={value}" for name, value in switches(node))
        lines.append(f"  {type(node).__name__.lower()} {node.name}[{shape}] {named}")
        lines += [f"    {_edge(edge)}" for edge in graph.edges_into(node.name)]
    return "\n".join(lines) + "\n"


def describe(values: Array | None) -> str:
    """Return one number, or the range of several."""
    if values is None:
        return "none"
    low, high = np.min(values), np.max(values)
    return f"{low:.6g}" if low == high else f"{low:.6g}..{high:.6g}"


def switches(node: Input | Population) -> Iterator[tuple[str, str]]:
    """Yield every semantic choice of a node that is not the plain default."""
    if isinstance(node, Input):
        yield "values", node.kind
        if node.low is not None and node.high is not None:
            yield "range", f"{node.low:g}..{node.high:g}"
        if node.shift:
            yield "shift", str(node.shift)
        return
    yield from _linear_switches(node)
    if isinstance(node, LIF):
        yield from _spiking_switches(node)
    if node.start:
        yield "start", str(node.start)
    if node.view.lag:
        yield "lag", str(node.view.lag)


def _linear_switches(node: Population) -> Iterator[tuple[str, str]]:
    yield "alpha", describe(node.alpha)
    yield "beta", describe(node.beta)
    yield "coupling", node.coupling
    for name, usual in (("gain", 1.0), ("bias", 0.0), ("rest", 0.0), ("initial_current", 0.0)):
        values = getattr(node, name)
        if (values != usual).any():
            yield name, describe(values)
    if node.floor is not None:
        yield "floor", describe(node.floor)
    _, initial_voltage = node.initial_state
    if (initial_voltage != node.rest).any():
        yield "initial_voltage", describe(initial_voltage)


def _spiking_switches(node: LIF) -> Iterator[tuple[str, str]]:
    yield "vth", f"{node.compare}{describe(node.vth)}"
    yield "reset", f"{node.reset}/{node.reset_order}"
    if node.reset_value is not None:
        yield "reset_value", describe(node.reset_value)
    if node.reset_drops_input:
        yield "reset_drops_input", "yes"
    if node.refractory:
        yield "refractory", str(node.refractory)
    if node.max_spikes > 1:
        yield "max_spikes", str(node.max_spikes)
    if node.reset_twice:
        yield "reset_twice", "yes"


def _edge(edge: Edge) -> str:
    return f"<- {edge.source} {edge.name}: {operator_text(edge.operator)} delay={edge.delay}"


def operator_text(operator: Operator) -> str:
    """Return kind and weight shape of an operator, stage by stage for a chain."""
    stages = operator.stages if isinstance(operator, Chain) else (operator,)
    return " ".join(_stage_text(stage) for stage in stages)


def _stage_text(stage: Stage) -> str:
    if isinstance(stage, Sparse):
        inputs, outputs = stage.synapses.inputs, stage.synapses.outputs
        return f"sparse[{outputs}x{inputs}, {len(stage.weight)} synapses]"
    if isinstance(stage, Permute):
        shape: tuple[int, ...] = stage.axes
    else:
        shape = stage.shape if isinstance(stage, Reshape) else stage.weight.shape
    return f"{type(stage).__name__.lower()}[{'x'.join(map(str, shape))}]"
