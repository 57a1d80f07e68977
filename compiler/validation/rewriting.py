r"""The canonical graph against the source: the same equations, moved in time.

Each number is derived from the source's own equations (:mod:`spikec.compiler.ir`), not by the
passes: with ``w = u - rest`` and ``j = gain * i`` a population has rest 0 and gain 1, and with
delayed coupling the current that a voltage sees is the one of the step before, which is the same
as arrivals that come a step later. Operators are compared by what they make of random values: two
linear operators that differ do so on almost all of them (Freivalds, 1979).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic
from spikec.compiler.ir import LIF, Edge, Graph, Input, Population
from spikec.compiler.operators import Chain, weights_of
from spikec.compiler.validation.findings import differing, equal, finding

__all__ = ["check_rewriting"]

#: Numbers and sums of products that floats compute in two ways differ by no more, relatively.
_ROUNDING = 1e-9
#: Vectors that each operator is tried on.
_VECTORS = 2


def check_rewriting(source: Graph, canonical: Graph) -> Iterator[Diagnostic]:
    """Yield what of ``canonical`` does not follow from ``source``."""
    names = {node.name for node in source.nodes}
    edges = {edge.name: edge for edge in canonical.edges}
    if names != {node.name for node in canonical.nodes}:
        yield finding("V002", "canonical graph", "its nodes are not those of the network")
        return
    if {edge.name for edge in source.edges} != set(edges):
        yield finding("V002", "canonical graph", "its edges are not those of the network")
        return
    yield from equal("V002", "canonical graph", "outputs", canonical.outputs, source.outputs)
    yield from equal("V002", "canonical graph", "dt", canonical.dt, source.dt)
    late = {node.name: _lateness(node, canonical) for node in source.nodes}
    for node in source.nodes:
        yield from _check_node(node, canonical, late[node.name])
    rng = np.random.default_rng(0)
    for edge in source.edges:
        yield from _check_edge(edge, edges[edge.name], source, late, rng)


def _lateness(node: Input | Population, canonical: Graph) -> int:
    """Return how many steps later the canonical graph runs a node."""
    other = canonical[node.name]
    if isinstance(node, Input):
        return other.shift - node.shift if isinstance(other, Input) else 0
    return other.start - node.start if isinstance(other, Population) else 0


def _check_node(node: Input | Population, canonical: Graph, late: int) -> Iterator[Diagnostic]:
    other = canonical[node.name]
    where = f"{'input' if isinstance(node, Input) else 'population'} '{node.name}'"
    if type(other) is not type(node):
        yield finding("V002", where, "the canonical graph has another kind of node there")
        return
    if late < 0:
        yield finding("V002", where, f"it runs {-late} steps early")
    if isinstance(node, Input):
        for field in ("shape", "kind", "low", "high"):
            yield from equal("V002", where, field, getattr(other, field), getattr(node, field))
        return
    assert isinstance(other, Population)
    yield from _check_population(node, other, late, where)


def _check_population(
    node: Population, other: Population, late: int, where: str
) -> Iterator[Diagnostic]:
    coupled = int(node.coupling == "delayed")
    for field, found, wanted in (
        ("shape", other.shape, node.shape),
        ("coupling", other.coupling, "immediate"),
        ("view.lag", other.view.lag, node.view.lag + late),
        ("view.current_lag", other.view.current_lag, node.view.current_lag + late + coupled),
    ):
        yield from equal("V002", where, field, found, wanted)
    if other.shape != node.shape:
        return
    for field, values, known in _numbers(node, other):
        if known is None or values is None:
            yield from equal("V002", where, f"whether it has {field}", values is not None,
                             known is not None)  # fmt: skip
            continue
        room = _ROUNDING * (np.abs(known) + np.abs(node.rest))
        yield from differing(
            "V002", where, field, np.broadcast_to(values, node.shape),
            np.broadcast_to(known, node.shape), room,
        )  # fmt: skip
    if isinstance(node, LIF):
        for field in (
            "reset", "reset_order", "compare", "reset_drops_input", "refractory", "max_spikes",
            "reset_twice",
        ):  # fmt: skip
            yield from equal("V002", where, field, getattr(other, field), getattr(node, field))


def _numbers(
    node: Population, other: Population
) -> Iterator[tuple[str, Array | None, Array | None]]:
    """Yield each field, what the canonical graph has there, and what the source's leads to."""
    current, voltage = node.initial_state
    current = current * node.gain
    if node.coupling == "delayed" and node.alpha is not None:
        # The voltage sees it a step later, once decayed.
        current = current / np.where(node.alpha == 0, 1.0, node.alpha)
    one, nothing = np.ones(()), np.zeros(())
    yield "alpha", other.alpha, node.alpha
    yield "beta", other.beta, node.beta
    yield "gain", other.gain, one
    yield "rest", other.rest, nothing
    yield "bias", other.bias, node.bias
    yield "floor", other.floor, None if node.floor is None else node.floor - node.rest
    yield "initial_current", other.initial_state[0], current
    yield "initial_voltage", other.initial_state[1], voltage - node.rest
    yield "view.voltage_offset", other.view.voltage_offset, node.view.voltage_offset + node.rest
    yield "view.current_scale", other.view.current_scale, node.view.current_scale * node.gain
    if not isinstance(node, LIF) or not isinstance(other, LIF):
        return
    yield "vth", other.vth, node.vth - node.rest
    if node.reset == "subtract":
        yield "reset_amount", other.reset_amount, node.reset_amount
    if node.reset == "value":
        yield "reset_voltage", other.reset_voltage, node.reset_voltage - node.rest


def _check_edge(
    edge: Edge,
    other: Edge,
    source: Graph,
    late: Mapping[str, int],
    rng: np.random.Generator,
) -> Iterator[Diagnostic]:
    where = f"edge '{edge.name}'"
    target = source[edge.target]
    assert isinstance(target, Population)
    for field in ("source", "target"):
        yield from equal("V002", where, field, getattr(other, field), getattr(edge, field))
    coupled = int(target.coupling == "delayed")
    delay = edge.delay + coupled + late[edge.target] - late[edge.source]
    yield from equal("V002", where, "delay", other.delay, delay)
    if isinstance(other.operator, Chain):
        yield finding("V002", where, "it is a chain of several operators")
        return
    if other.operator is edge.operator and (target.gain == 1).all():
        return
    yield from _check_operator(edge, other, source[edge.source], target, rng, where)


def _check_operator(
    edge: Edge,
    other: Edge,
    source: Input | Population,
    target: Population,
    rng: np.random.Generator,
    where: str,
) -> Iterator[Diagnostic]:
    values = rng.standard_normal((_VECTORS, *source.shape))
    try:
        found = other.operator.apply(values).reshape(_VECTORS, -1)
    except ValueError as error:
        yield finding("V002", where, f"its operator does not take its source: {error}")
        return
    gain = target.gain.reshape(-1)
    wanted = edge.operator.apply(values).reshape(_VECTORS, -1) * gain
    if found.shape != wanted.shape:
        yield finding("V002", where, f"it reaches {found.shape[1]} neurons, not {wanted.shape[1]}")
        return
    # What cancels leaves the rounding of the largest products.
    sizes = [float(np.abs(weight).max(initial=0.0)) for weight in weights_of(edge.operator)]
    room = _ROUNDING * (float(np.abs(wanted).max(initial=0.0)) + math.prod(sizes))
    for mine, known in zip(found, wanted, strict=True):
        yield from differing("V002", where, "sum into neuron ", mine, known, room)
