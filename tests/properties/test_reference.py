"""The float simulator equals exact rational arithmetic, and the seed equations in float32."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from support import scalar_reference
from support.random_graphs import random_graph, random_graph_inputs

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input, SourceView
from spikec.compiler.operators import Dense
from spikec.compiler.trace import QUANTITIES, Probe, Trace


def all_probes(graph: Graph) -> list[Probe]:
    return [(item.name, quantity) for item in graph.populations for quantity in QUANTITIES]


def drawn(*seed: int) -> tuple[Graph, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    return graph, random_graph_inputs(graph, rng, 2, int(rng.integers(5, 11)))


@pytest.mark.parametrize("block", range(10))
def test_reference_equals_exact_rationals(block: int) -> None:
    for number in range(30):
        graph, inputs = drawn(1, block, number)
        trace = reference.run(graph, inputs, probes=all_probes(graph))
        for probe, values in scalar_reference.run(graph, inputs).items():
            found = trace[probe].reshape(*trace[probe].shape[:2], -1).tolist()
            assert found == values, f"seed (1, {block}, {number}): {probe}"


def test_rationals_and_doubles_agree_in_the_oracle() -> None:
    for number in range(20):
        graph, inputs = drawn(2, number)
        exact = scalar_reference.run(graph, inputs, Fraction)
        assert scalar_reference.run(graph, inputs, float) == exact, number


def test_the_random_graphs_are_lively() -> None:
    rates = []
    for number in range(200):
        graph, inputs = drawn(3, number)
        trace = reference.run(graph, inputs)
        rates += [
            trace.spikes(item.name).mean() for item in graph.populations if isinstance(item, LIF)
        ]
    assert 0.15 < np.mean(rates) < 0.5
    assert np.mean(np.equal(rates, 0)) < 0.25
    assert np.mean(np.greater(rates, 0.9)) < 0.15


@pytest.mark.parametrize("seed", range(40))
def test_chunks_give_the_same_run(seed: int) -> None:
    graph, inputs = drawn(4, seed)
    probes = all_probes(graph)
    whole = reference.run(graph, inputs, probes=probes)
    steps = next(iter(inputs.values())).shape[1]
    session = reference.session(graph, samples=2, probes=probes)
    cuts = [0, 1, steps // 2, steps]
    parts = [
        session.run({name: values[:, start:stop] for name, values in inputs.items()})
        for start, stop in pairwise(cuts)
    ]
    joined = Trace.joined([*parts, session.finish()], axis="step")
    joined = reference.in_source_units(graph, joined)
    for probe in probes:
        np.testing.assert_array_equal(joined[probe], whole[probe])


def seed_equations(
    inputs: Array, weights: list[tuple[Array, Array | None]], alpha: Array, beta: Array
) -> list[tuple[Array, Array, Array]]:
    """s = H(U - 1); I' = a I + (W s_in + V s); U' = b U + I - s, in float32, layer by layer."""
    one = np.float32(1)
    states = [np.zeros((2, len(inputs), len(w)), np.float32) for w, _ in weights]
    recorded: list[list[tuple[Array, Array, Array]]] = [[] for _ in weights]
    for step in range(inputs.shape[1]):
        sent = inputs[:, step].astype(np.float32)
        for layer, (feed, back) in enumerate(weights):
            current, voltage = states[layer]
            spikes = (voltage > one).astype(np.float32)
            recorded[layer].append((spikes, voltage, current))
            after = alpha[layer] * current + sent @ feed.T
            if back is not None:
                after = after + spikes @ back.T
            states[layer] = np.stack([after, beta[layer] * voltage + current - spikes])
            sent = spikes
    return [
        tuple(np.stack(part, axis=1) for part in zip(*rows, strict=True))  # type: ignore[misc]
        for rows in recorded
    ]


def seed_graph(weights: list[tuple[Array, Array | None]], alpha: Array, beta: Array) -> Graph:
    nodes: list[Input | LIF] = [Input(name="in", shape=(weights[0][0].shape[1],))]
    edges = []
    for layer, (feed, back) in enumerate(weights):
        nodes.append(
            LIF(
                name=f"l{layer}",
                shape=(len(feed),),
                alpha=alpha[layer],
                beta=beta[layer],
                coupling="delayed",
                vth=np.array(1.0),
                reset="subtract",
                reset_order="next_step",
                compare=">",
                view=SourceView(lag=-1, current_lag=-1),
            )
        )
        source = nodes[-2].name
        edges.append(
            Edge(
                name=f"w{layer}",
                source=source,
                target=f"l{layer}",
                operator=Dense(weight=feed),
                delay=min(layer, 1),
            )
        )
        if back is not None:
            edges.append(
                Edge(
                    name=f"v{layer}",
                    source=f"l{layer}",
                    target=f"l{layer}",
                    operator=Dense(weight=back),
                    delay=1,
                )
            )
    return Graph(nodes=nodes, edges=edges, outputs=(nodes[-1].name,))


@pytest.mark.parametrize("seed", range(20))
def test_float32_equals_the_seed_equations_to_the_last_bit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = [5, 7, 4]
    weights = [
        (
            rng.normal(0, 0.8, (post, pre)).astype(np.float32),
            rng.normal(0, 0.4, (post, post)).astype(np.float32) if layer == 0 else None,
        )
        for layer, (pre, post) in enumerate(pairwise(sizes))
    ]
    alpha, beta = np.exp(-1 / rng.uniform(2, 20, (2, 2))).astype(np.float32)
    inputs = (rng.random((3, 60, sizes[0])) < 0.3).astype(np.uint8)
    graph = seed_graph(weights, alpha, beta)
    trace = reference.run(graph, inputs={"in": inputs}, dtype=np.float32, probes=all_probes(graph))
    for layer, expected in enumerate(seed_equations(inputs, weights, alpha, beta)):
        assert 0.01 < expected[0].mean() < 0.9
        for quantity, values in zip(QUANTITIES, expected, strict=True):
            np.testing.assert_array_equal(trace[f"l{layer}", quantity], values, strict=False)
        assert trace[f"l{layer}", "voltage"].dtype == np.float32


def test_by_default_spikes_and_readout_voltages_are_recorded() -> None:
    base = {"shape": (1,), "alpha": None, "beta": np.array(0.5), "coupling": "immediate"}
    graph = Graph(
        nodes=[
            Input(name="in", shape=(1,)),
            LIF(
                name="lif",
                vth=np.array(1.0),
                reset="none",
                reset_order="at_spike",
                compare=">",
                **base,  # type: ignore[arg-type]
            ),
            LI(name="li", **base),  # type: ignore[arg-type]
        ],
        edges=[Edge(name="e", source="in", target="li", operator=Dense(weight=np.ones((1, 1))))],
        outputs=("li",),
    )
    assert graph.default_probes == (("lif", "spikes"), ("li", "voltage"))
    trace = reference.run(graph, {"in": np.ones((1, 3, 1))})
    assert trace["li", "voltage"].ravel().tolist() == [1.0, 1.5, 1.75]
