"""A population fed with recorded spikes does what it did in its network."""

from __future__ import annotations

import numpy as np
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from support.random_graphs import random_graph, random_graph_inputs

from spikec.compiler import reference
from spikec.compiler.errors import GraphError
from spikec.compiler.ir import LIF, Graph, Input
from spikec.compiler.passes.pipeline import canonical_passes, run_passes
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.verification.forcing import obstacle, run_forced


def _traced(graph: Graph, inputs: dict[str, np.ndarray]) -> Trace:
    probes: list[Probe] = [(node.name, "voltage") for node in graph.populations]
    probes += [(node.name, "spikes") for node in graph.populations]
    return reference.run(graph, inputs, probes=probes)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), canonical=st.booleans())
def test_its_own_spikes_give_its_own_run(seed: int, canonical: bool) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, canonicalisable=canonical)
    inputs = random_graph_inputs(graph, rng, 3, 12)
    trace = _traced(graph, inputs)
    try:
        replayed = run_passes(graph, canonical_passes(1))[0] if canonical else graph
    except GraphError as refusal:  # a gain that a convolution cannot absorb is refused, rightly
        if refusal.diagnostics[0].code != "G060":
            raise
        reject()
    names = [node.name for node in replayed.populations if obstacle(replayed, node.name) is None]
    sent = {
        **inputs,
        **{node.name: trace.spikes(node.name) for node in graph.populations},
    }
    forced = run_forced(replayed, names, sent, 12)
    for name in names:
        node = replayed[name]
        assert not isinstance(node, Input)
        np.testing.assert_array_equal(
            forced[name, "voltage"] + node.view.voltage_offset, trace[name, "voltage"]
        )
        if isinstance(node, LIF):
            np.testing.assert_array_equal(forced.spikes(name), trace.spikes(name))


def test_most_populations_can_be_forced() -> None:
    possible = []
    for seed in range(100):
        graph = random_graph(np.random.default_rng(seed), canonicalisable=True)
        graph = run_passes(graph, canonical_passes(1))[0]
        possible += [obstacle(graph, node.name) is None for node in graph.populations]
    assert np.mean(possible) > 0.6
