"""Numbers at the ends of float64: compiled to something, or refused by name; never a wreck."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spikec.compiler.arrays import frozen
from spikec.compiler.errors import SpikecError
from spikec.compiler.ir import Graph
from spikec.compiler.operators import Dense
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.models import analog, dense, network, seed_lif, spikes

TARGET = load_target("loihi2")
EXTREME = (
    -1e308, 1e308, 3.4e38, -3.4e38, 1e30, 1e-30, 1e-45, 5e-324, -5e-324, 1e-320, 1.0 - 2**-53, -0.0,
)  # fmt: skip
FIELDS = (
    "alpha", "beta", "gain", "bias", "rest", "floor", "initial_current", "initial_voltage", "vth",
    "reset_value",
)  # fmt: skip


def small() -> Graph:
    return network(
        nodes=[spikes("in", 2), seed_lif("n", 3, alpha=0.5, beta=0.9)],
        edges=[dense("in", "n", np.linspace(-1, 1, 6).reshape(3, 2))],
        outputs=["n"],
    )


@pytest.mark.parametrize("value", EXTREME)
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("some", [False, True])
def test_an_extreme_field_compiles_or_is_refused(field: str, value: float, some: bool) -> None:
    graph = small()
    node = graph.populations[0]
    before = getattr(node, field)
    values = np.full(3, value)
    if some:
        values[1:] = 1.0 if before is None else before[1:]
    try:
        changed = replace(node, **{field: frozen(values)})
        compile_graph(graph.rewritten(nodes={"n": changed}), TARGET)
    except SpikecError as error:
        assert "n'" in error.diagnostics[0].where  # noqa: PT017 - it may be refused


@pytest.mark.parametrize("value", EXTREME)
@pytest.mark.parametrize("some", [False, True])
def test_an_extreme_weight_compiles_or_is_refused(value: float, some: bool) -> None:
    graph = small()
    weight = np.full((3, 2), value)
    if some:
        weight[1:] = 0.5
    edge = replace(graph.edges[0], operator=Dense(weight=weight))
    try:
        compile_graph(graph.rewritten(edges={edge.name: edge}), TARGET)
    except SpikecError as error:
        assert error.diagnostics[0].where.split()[0] in ("edge", "population")  # noqa: PT017


@pytest.mark.parametrize("value", EXTREME)
def test_an_extreme_range_compiles_or_is_refused(value: float) -> None:
    try:
        graph = network(
            nodes=[
                analog("in", 2, low=min(0, value), high=max(0, value)),
                seed_lif("n", 3, alpha=0.5, beta=0.9),
            ],
            edges=[dense("in", "n", np.ones((3, 2)))],
            outputs=["n"],
        )
        compile_graph(graph, TARGET)
    except SpikecError as error:
        assert "'" in error.diagnostics[0].where  # noqa: PT017 - it may be refused
