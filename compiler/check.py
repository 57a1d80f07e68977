"""Every rule a graph obeys, checked before one exists; all findings are raised at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import get_args

import networkx as nx
import numpy as np

from spikec.compiler.arrays import MAX_NEURONS, Array, size
from spikec.compiler.errors import Diagnostic, GraphError, raise_if_any
from spikec.compiler.ir import (
    LI,
    LIF,
    MOST_SPIKES,
    Compare,
    Coupling,
    Edge,
    Input,
    InputKind,
    Node,
    Reset,
    ResetOrder,
)
from spikec.compiler.limits import MOST_STEPS
from spikec.compiler.names import fault
from spikec.compiler.operators import weights_of

__all__ = ["check_parts"]

#: What float32 holds: sums and products of such values stay far from the ends of float64.
_LARGEST = 3.5e38


def check_parts(
    nodes: Sequence[Node], edges: Sequence[Edge], outputs: Sequence[str], dt: float | None
) -> None:
    """Raise :class:`GraphError` with every rule that these parts of a graph break."""
    raise_if_any(GraphError, [*_names(nodes, edges), *_values(nodes, dt)])
    raise_if_any(GraphError, [*_connections(nodes, edges), *_outputs(nodes, outputs)])
    raise_if_any(GraphError, list(_cycles(edges)))


def _finding(code: str, where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)


def _names(nodes: Sequence[Node], edges: Sequence[Edge]) -> Iterator[Diagnostic]:
    for kind, names in (("node", [n.name for n in nodes]), ("edge", [e.name for e in edges])):
        for name in sorted(name for name, count in Counter(names).items() if count > 1):
            yield _finding("G010", f"{kind} '{name}'", "the name is used twice", "rename one")
        for name in names:
            if (why := fault(name)) is not None:
                yield _finding("G011", f"{kind} '{name}'", why, "rename it")


def _values(nodes: Sequence[Node], dt: float | None) -> Iterator[Diagnostic]:
    if dt is not None and not (math.isfinite(dt) and dt > 0):
        yield _finding("G020", "graph", f"time step dt is {dt}", "give seconds, above 0, or None")
    for node in nodes:
        where = f"{'input' if isinstance(node, Input) else 'population'} '{node.name}'"
        if not node.shape or min(node.shape) < 1:
            yield _finding("G021", where, f"shape {node.shape} is empty")
            continue
        if size(node.shape) > MAX_NEURONS:
            yield _finding("G021", where, f"shape {node.shape} is larger than any network")
            continue
        if isinstance(node, Input):
            yield from _input_values(node, where)
        else:
            yield from _population_values(node, where)


def _input_values(node: Input, where: str) -> Iterator[Diagnostic]:
    yield from _member(where, "kind", node.kind, get_args(InputKind))
    yield from _steps(where, "shift", node.shift)
    bounds = (node.low, node.high)
    if None in bounds:
        if node.kind != "analog" or bounds != (None, None):
            yield _finding(
                "G023", where, f"{node.kind} input has bounds {bounds}", "give both low and high"
            )
        return
    low, high = float(node.low or 0), float(node.high or 0)
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        yield _finding("G023", where, f"bounds {bounds} are not finite and ordered")
    elif node.kind == "binary" and bounds != (0, 1):
        yield _finding("G023", where, f"a binary input is bounded by 0 and 1, not {bounds}")
    elif node.kind == "graded" and not (low.is_integer() and high.is_integer()):
        yield _finding("G023", where, f"a graded input has integer bounds, not {bounds}")


def _population_values(node: LIF | LI, where: str) -> Iterator[Diagnostic]:
    yield from _member(where, "coupling", node.coupling, get_args(Coupling))
    for name in node.PER_NEURON:
        values = getattr(node, name)
        if values is not None:
            yield from _magnitude(where, f"{name} holds", values)
    if node.alpha is not None and not ((node.alpha >= 0) & (node.alpha < 1)).all():
        yield _finding(
            "G025", where, "alpha leaves [0, 1)", "alpha = exp(-dt / tau_syn); None for no filter"
        )
    if not ((node.beta >= 0) & (node.beta <= 1)).all():
        yield _finding("G025", where, "beta leaves [0, 1]", "beta = exp(-dt / tau_mem)")
    if (node.gain == 0).any():
        yield _finding("G026", where, "gain is 0: the input would have no effect")
    yield from _steps(where, "start", node.start)
    yield from _view_values(node, where)
    if node.floor is not None and (node.initial_state[1] < node.floor).any():
        yield _finding("G028", where, "initial_voltage lies below floor", "start at or above it")
    if isinstance(node, LIF):
        yield from _spiking_values(node, where)


def _spiking_values(node: LIF, where: str) -> Iterator[Diagnostic]:
    yield from _member(where, "reset", node.reset, get_args(Reset))
    yield from _member(where, "reset_order", node.reset_order, get_args(ResetOrder))
    yield from _member(where, "compare", node.compare, get_args(Compare))
    yield from _steps(where, "refractory", node.refractory)
    if node.reset == "value" and node.reset_value is None:
        yield _finding("G027", where, "reset is 'value' without reset_value", "give reset_value")
    if node.reset in ("zero", "none") and node.reset_value is not None:
        yield _finding(
            "G027", where, f"reset '{node.reset}' has a reset_value", "use 'value' or 'subtract'"
        )
    if not 1 <= node.max_spikes <= MOST_SPIKES:
        yield _finding(
            "G022", where, f"max_spikes is {node.max_spikes}", f"give 1 to {MOST_SPIKES}"
        )
    repeats = node.reset == "subtract" and node.reset_order == "at_spike"
    if node.max_spikes > 1 and not (repeats and (node.reset_amount > 0).all()):
        yield _finding(
            "G028",
            where,
            "several spikes a step need reset 'subtract' at_spike of an amount above 0",
            "each spike takes its amount off until the voltage is below threshold",
        )
    if node.reset_twice and (not repeats or node.max_spikes > 1):
        yield _finding(
            "G028", where, "reset_twice needs reset 'subtract' at_spike and one spike a step"
        )
    if node.refractory and node.reset_order == "next_step":
        yield _finding(
            "G028",
            where,
            "refractory steps are defined for reset_order 'at_spike' only",
            "an at_spike reset to zero has the same spikes as a next_step reset to zero",
        )
    start = node.initial_state[1]
    spiking = start > node.vth if node.compare == ">" else start >= node.vth
    if node.reset_order == "next_step" and spiking.any():
        yield _finding(
            "G028",
            where,
            "initial_voltage spikes: whether that counts as the spike of step -1 is undefined",
            "start below the threshold",
        )
    if node.reset_drops_input and (
        node.reset_order != "next_step" or node.reset not in ("zero", "value")
    ):
        yield _finding(
            "G028", where, "reset_drops_input needs reset 'zero' or 'value' at 'next_step'"
        )


def _view_values(node: LIF | LI, where: str) -> Iterator[Diagnostic]:
    view = node.view
    for name, steps in (("view.lag", view.lag), ("view.current_lag", view.current_lag)):
        yield from _steps(where, name, steps, low=-MOST_STEPS)
    for name, values in (
        ("view.voltage_offset", view.voltage_offset), ("view.current_scale", view.current_scale)
    ):  # fmt: skip
        yield from _magnitude(where, f"{name} holds", values)
        if values.ndim and values.shape != node.shape:
            yield _finding(
                "G024", where, f"{name} has shape {values.shape}, not {node.shape}",
                "give a number, or one per neuron",
            )  # fmt: skip


def _steps(
    where: str, field: str, steps: int, *, low: int = 0, code: str = "G022"
) -> Iterator[Diagnostic]:
    """Yield why a field is no number of steps that a run can wait or be late."""
    if not low <= steps <= MOST_STEPS:
        least = "0 or more" if low == 0 else f"{low} or more"
        yield _finding(code, where, f"{field} is {steps}", f"{least} steps, {MOST_STEPS} at most")


def _magnitude(where: str, holder: str, values: Array) -> Iterator[Diagnostic]:
    largest = float(np.abs(values).max(initial=0))
    if not math.isfinite(largest):
        yield _finding("G024", where, f"{holder} NaN or infinity")
    elif largest > _LARGEST:
        yield _finding(
            "G024",
            where,
            f"{holder} {largest:g}, beyond all of float32",
            "express voltages and weights in another unit",
        )


def _member(where: str, field: str, value: str, allowed: tuple[str, ...]) -> Iterator[Diagnostic]:
    if value not in allowed:
        yield _finding("G029", where, f"{field} is '{value}'", f"one of {', '.join(allowed)}")


def _connections(nodes: Sequence[Node], edges: Sequence[Edge]) -> Iterator[Diagnostic]:
    by_name = {node.name: node for node in nodes}
    for edge in edges:
        where = f"edge '{edge.name}'"
        for end in (edge.source, edge.target):
            if end not in by_name:
                yield _finding(
                    "G030", where, f"there is no node '{end}'", f"nodes: {', '.join(by_name)}"
                )
        if edge.source in by_name and edge.target in by_name:
            yield from _connection(edge, by_name[edge.source], by_name[edge.target], where)


def _connection(edge: Edge, source: Node, target: Node, where: str) -> Iterator[Diagnostic]:
    if isinstance(target, Input):
        yield _finding("G031", where, f"it ends at input '{target.name}'")
    if isinstance(source, LI):
        yield _finding(
            "G031",
            where,
            f"'{source.name}' is a leaky integrator and gives no spikes to send",
            "read its voltage as an output, or make it a LIF",
        )
    yield from _steps(where, "delay", edge.delay, code="G032")
    for weight in weights_of(edge.operator):
        yield from _magnitude(where, "the weights hold", weight)
    try:
        shape = edge.operator.output_shape(source.shape)
    except ValueError as error:
        yield _finding("G033", where, str(error))
        return
    if shape != target.shape and shape != (int(np.prod(target.shape)),):
        yield _finding("G033", where, f"it gives shape {shape}, '{target.name}' has {target.shape}")


def _outputs(nodes: Sequence[Node], outputs: Sequence[str]) -> Iterator[Diagnostic]:
    populations = [node.name for node in nodes if not isinstance(node, Input)]
    hint = f"populations: {', '.join(populations)}"
    if not outputs:
        yield _finding("G040", "graph", "no output is named", hint)
    for name in outputs:
        if name not in populations:
            yield _finding("G040", "graph", f"output '{name}' is not a population", hint)


def _cycles(edges: Sequence[Edge]) -> Iterator[Diagnostic]:
    now: nx.DiGraph[str] = nx.DiGraph(
        (edge.source, edge.target) for edge in edges if edge.delay == 0
    )
    for component in nx.strongly_connected_components(now):
        loop = component if len(component) > 1 else {n for n in component if now.has_edge(n, n)}
        if loop:
            yield _finding(
                "G050",
                f"nodes {', '.join(sorted(loop))}",
                "a cycle of edges has total delay 0: a spike would need itself",
                "recurrent edges have a delay of 1 or more",
            )
