"""Firing before and after: rates, dead and saturated neurons, counted a second time by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spikec.backends.simulator import golden
from spikec.compiler import reference
from spikec.compiler.inputs import Dataset
from spikec.compiler.quantize import compile_graph
from spikec.compiler.quantize.activity import activity_changes
from spikec.compiler.quantize.observe import Observed
from spikec.compiler.targets import load_target
from spikec.models import dense, network, seed_lif, spikes

LOIHI2 = load_target("loihi2")


def test_rates_are_those_of_the_simulator() -> None:
    rng = np.random.default_rng(0)
    graph = network(
        nodes=[spikes("in", 30), seed_lif("n", 20, alpha=0.5, beta=0.75)],
        edges=[dense("in", "n", rng.normal(0, 0.3, (20, 30)))],
        outputs=["n"],
    )
    data = {"in": (rng.random((40, 25, 30)) < 0.2).astype(np.uint8)}
    compilation = compile_graph(graph, LOIHI2, weight_bits=2, calibration=Dataset(inputs=data))
    (change,) = compilation.report.activity
    # Both traces of the seed model begin one step early, with a silent step.
    before, after = (
        run(data).spikes("n")[:, 1:]
        for run in (
            lambda inputs: reference.run(graph, inputs),
            lambda inputs: golden.run(compilation.program, inputs),
        )
    )
    assert change.rate == pytest.approx(before.mean(), rel=0.06)
    assert change.quantized_rate == pytest.approx(after.mean(), rel=0.06)
    drift = np.abs(after.mean((0, 1)) - before.mean((0, 1))).mean() / before.mean()
    assert change.drift == pytest.approx(drift, rel=0.25)
    assert compile_graph(graph, LOIHI2).report.activity == ()


def test_neurons_that_die_wake_or_saturate_are_counted() -> None:
    graph = network(
        nodes=[spikes("in", 4), seed_lif("n", 4, alpha=0.0, beta=0.0)],
        edges=[dense("in", "n", np.diag([4.0, 4.0, 0.5, 0.5]))],
        outputs=["n"],
    )
    program = compile_graph(graph, LOIHI2).program
    data = {"in": np.ones((2, 100, 4), np.uint8)}
    spiking = np.zeros((2, 100, 4), np.uint8)
    spiking[:, 5, 1:3] = 1  # as if neurons 1 and 2 had fired once
    (change,) = activity_changes(program, data, Observed(sent={"n": spiking}))
    assert (change.died, change.woke, change.saturated, change.neurons) == (1, 1, 2, 4)
    assert change.rate == pytest.approx(0.005)
