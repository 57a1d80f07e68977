"""Calibration data that show little: too short for a delay, one step, one sample, silence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_graphs import random_graph, random_graph_inputs

from spikec.compiler.arrays import Array, held_back
from spikec.compiler.errors import SpikecError
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import Graph
from spikec.compiler.quantize import compile_graph, compile_mixed
from spikec.compiler.targets import load_target
from spikec.models import dense, network, seed_lif, spikes


def delayed(delay: int) -> Graph:
    rng = np.random.default_rng(0)
    return network(
        nodes=[spikes("in", 6), seed_lif("a", 5, alpha=0.5, beta=0.8),
               seed_lif("b", 4, alpha=0.5, beta=0.8)],
        edges=[dense("in", "a", rng.normal(0.3, 0.5, (5, 6))),
               dense("a", "b", rng.normal(0.3, 0.5, (4, 5)), delay=delay),
               dense("b", "b", rng.normal(0, 0.3, (4, 4)), delay=delay)],
        outputs=["b"],
    )  # fmt: skip


def weights(graph: Graph, data: Dataset, *, mixed: bool) -> list[Array]:
    target = load_target("loihi2")
    if mixed:
        compiled = compile_mixed(graph, target, calibration=data, budget=100, max_drop=None)
    else:
        compiled = compile_graph(graph, target, weight_bits=4, calibration=data)
    return [item.operator.weight for item in compiled.program.connections]


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("steps", [1, 11, 12, 13])
def test_data_shorter_than_a_delay_are_followed_by_silence(steps: int, mixed: bool) -> None:
    """What arrives later than the data end is as if it were never sent."""
    graph = delayed(12)
    values = np.ones((4, steps, 6), np.uint8)
    found = weights(graph, Dataset(inputs={"in": values}), mixed=mixed)
    assert [item.shape for item in found] == [(5, 6), (4, 5), (4, 4)]


@pytest.mark.parametrize(("count", "steps"), [(0, 5), (2, 5), (5, 5), (9, 5)])
def test_held_back(count: int, steps: int) -> None:
    values = np.arange(2 * steps * 3).reshape(2, steps, 3) + 1
    expected = np.concatenate([np.zeros((2, count, 3), int), values], axis=1)[:, :steps]
    np.testing.assert_array_equal(held_back(values, count), expected)


KINDS = ["silent", "ones", "one step", "one sample", "two steps"]


@given(seed=st.integers(0, 10_000), kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_any_data_calibrate_or_are_refused(seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng)
    inputs = random_graph_inputs(graph, rng, samples=3, steps=7)
    cut = {
        "silent": np.zeros_like,
        "ones": np.ones_like,
        "one step": lambda item: item[:, :1],
        "one sample": lambda item: item[:1],
        "two steps": lambda item: item[:1, :2],
    }[kind]
    data = Dataset(inputs={name: cut(np.asarray(item)) for name, item in inputs.items()})
    try:
        compile_graph(graph, load_target("generic"), weight_bits=5, calibration=data)
    except SpikecError as error:
        assert all(item.message for item in error.diagnostics)  # noqa: PT017 - many are fine
