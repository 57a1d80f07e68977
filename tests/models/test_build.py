"""Networks from arrays: the seed model's equations, its general form, errors, files."""

from __future__ import annotations

import doctest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikec import models
from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import GraphError, UsageError
from spikec.compiler.ir import LI, LIF, Graph
from spikec.compiler.operators import Conv2d, Sparse, written_out
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.trace import Probe
from spikec.models import (
    analog,
    build,
    conv2d,
    decay_factor,
    dense,
    graded,
    network,
    seed_lif,
    seed_network,
    seed_readout,
    sparse,
    spikes,
)

SEEDS = st.integers(0, 2**32 - 1)


def recorded(graph: Graph, inputs: Array) -> dict[Probe, Array]:
    probes: list[Probe] = [(node.name, "voltage") for node in graph.populations]
    probes += [(node.name, "current") for node in graph.populations]
    probes += [(node.name, "spikes") for node in graph.populations if isinstance(node, LIF)]
    return dict(reference.run(graph, {graph.inputs[0].name: inputs}, probes=probes).values)


def test_the_docstrings_of_build_are_true() -> None:
    result = doctest.testmod(build)
    assert result.attempted > 2
    assert result.failed == 0


# Decays and populations


def test_decay_factors_of_time_constants() -> None:
    np.testing.assert_allclose(decay_factor(5e-3, dt=1e-3), 0.8187307530779818, rtol=1e-15)
    np.testing.assert_allclose(decay_factor([1.0, 2.0], dt=0.5), [0.60653066, 0.77880078])
    assert decay_factor([0.0, np.inf], dt=1e-3).tolist() == [0, 1]


def test_time_constants_and_factors_give_the_same_population() -> None:
    tau_syn, tau_mem, dt = np.array([2e-3, 5e-3]), 10e-3, 1e-3
    by_time = seed_lif("n", 2, tau_syn=tau_syn, tau_mem=tau_mem, dt=dt, vth=[1, 2])
    by_factor = seed_lif(
        "n", 2, alpha=np.exp(-dt / tau_syn), beta=np.exp(-dt / tau_mem), vth=[1, 2]
    )
    for name in LIF.PER_NEURON:
        assert repr(getattr(by_time, name)) == repr(getattr(by_factor, name)), name
    switches = (by_time.coupling, by_time.reset, by_time.reset_order, by_time.compare)
    assert switches == ("delayed", "subtract", "next_step", ">")
    readout = seed_readout("r", 2, tau_syn=tau_syn, tau_mem=tau_mem, dt=dt)
    assert isinstance(readout, LI)
    assert readout.view == by_time.view


def test_no_filter_and_every_optional_parameter_are_taken() -> None:
    node = seed_lif("n", (2, 3), alpha=None, beta=0.5, vth=2, rest=0.25, gain=3, bias=-1,
                    initial_current=0, initial_voltage=0.5)  # fmt: skip
    assert node.alpha is None
    assert node.shape == (2, 3)
    found = [getattr(node, name).ravel()[0] for name in ("vth", "rest", "gain", "bias")]
    assert found == [2, 0.25, 3, -1]


MISTAKES: dict[str, tuple[Callable[[], object], str, str]] = {
    "negative tau": (lambda: decay_factor(-1.0, dt=1.0), "U050", "dt above 0"),
    "tau is NaN": (lambda: decay_factor([1.0, np.nan], dt=1.0), "U050", "tau of 0 or more"),
    "dt of 0": (lambda: decay_factor(1.0, dt=0.0), "U050", "in seconds"),
    "bad tau of a layer": (
        lambda: seed_lif("n", 1, tau_syn=-1.0, tau_mem=1.0, dt=1.0), "U050", "tau",
    ),
    "nothing given": (lambda: seed_lif("n", 1), "U051", "give alpha and beta"),
    "half given": (lambda: seed_lif("n", 1, alpha=0.5), "U051", "alpha do not define"),
    "no time step": (lambda: seed_readout("n", 1, tau_syn=1, tau_mem=1), "U051", "dt (seconds)"),
    "both ways": (
        lambda: seed_lif("n", 1, alpha=0.5, beta=0.5, tau_syn=1, tau_mem=1, dt=1), "U051", "or",
    ),
    "a factor and dt": (lambda: seed_lif("n", 1, alpha=0.5, beta=0.5, dt=1), "U051", "alpha, beta"),
    "a typing error": (lambda: seed_lif("n", 1, alpah=0.5, beta=0.5), "U051", "alpah"),
    "a readout with threshold": (
        lambda: seed_readout("n", 1, alpha=0.5, beta=0.5, vth=1.0), "U051", "vth",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_named(case: str) -> None:
    build_it, code, text = MISTAKES[case]
    with pytest.raises(UsageError) as caught:
        build_it()
    (finding,) = caught.value.diagnostics
    assert finding.code == code
    assert text in f"{finding.message} {finding.hint}"


NOT_YET_NAMED: dict[str, Callable[[], object]] = {
    "dt is NaN": lambda: decay_factor(1.0, dt=float("nan")),
    "too few alphas": lambda: seed_network(
        feedforward=[np.ones((2, 2))] * 2, alpha=[0.5], beta=0.5
    ),
    "too many alphas": lambda: seed_network(
        feedforward=[np.ones((2, 2))], alpha=[0.5, 0.9], beta=0.5
    ),
    "too many loops": lambda: seed_network(
        feedforward=[np.ones((2, 2))], recurrent=[None, np.ones((9, 9))], alpha=0.5, beta=0.5
    ),
    "no layers": lambda: seed_network(feedforward=[], alpha=0.5, beta=0.5),
    "a weight that is no matrix": lambda: seed_network(feedforward=[np.ones(2)], alpha=0.5, beta=1),
    "a delay of -1": lambda: network(
        nodes=[spikes("in", 1), seed_lif("n", 1, alpha=0.5, beta=0.5)],
        edges=[dense("in", "n", [[1.0]], delay=-1)],
        outputs=["n"],
    ),
}


@pytest.mark.parametrize("case", NOT_YET_NAMED)
def test_these_mistakes_are_named_too(case: str) -> None:
    try:
        NOT_YET_NAMED[case]()
    except (UsageError, GraphError):
        return
    except Exception as error:  # noqa: BLE001 - any other kind is the failure
        pytest.fail(repr(error))
    pytest.fail("it was taken")


# Networks


def simulated(
    weights: list[Array], loops: list[Array | None], inputs: Array,
    *, alpha: float, beta: float, readout: bool,
) -> tuple[list[Array], list[Array]]:  # fmt: skip
    """Run the seed equations as the paper writes them, layer by layer; U and S per step."""
    steps = len(inputs)
    sizes = [len(weight) for weight in weights]
    current, voltage, spiked = ([np.zeros(size) for size in sizes] for _ in range(3))
    voltages, spike_trains = ([np.zeros((steps, size)) for size in sizes] for _ in range(2))
    for step in range(steps):
        for layer in range(len(sizes)):  # S[n] = U[n] > 1
            spiking = not (readout and layer == len(sizes) - 1)
            spiked[layer] = (voltage[layer] > 1) * float(spiking)
            voltages[layer][step] = voltage[layer]
            spike_trains[layer][step] = spiked[layer]
        new_voltage = [beta * u + i - s
                       for u, i, s in zip(voltage, current, spiked, strict=True)]  # fmt: skip
        for layer, weight in enumerate(weights):
            arriving = weight @ (inputs[step] if layer == 0 else spiked[layer - 1])
            loop = loops[layer]
            if loop is not None:
                arriving = arriving + loop @ spiked[layer]
            current[layer] = alpha * current[layer] + arriving
        voltage = new_voltage
    return voltages, spike_trains


@given(SEEDS, st.booleans())
@settings(max_examples=40, deadline=None)
def test_a_seed_network_is_the_papers_equations(seed: int, readout: bool) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, int(rng.integers(2, 5)))
    weights = [rng.normal(0.3, 0.8, shape) for shape in zip(sizes[1:], sizes[:-1], strict=True)]
    loops = [rng.normal(0, 0.5, (size, size)) if rng.random() < 0.6 else None for size in sizes[1:]]
    if readout:
        loops[-1] = None
    alpha, beta = rng.uniform(0, 0.9, 2)
    inputs = (rng.random((30, sizes[0])) < 0.5).astype(float)
    graph = seed_network(
        feedforward=weights, recurrent=loops, alpha=alpha, beta=beta, readout=readout, dt=1e-3
    )
    voltages, trains = simulated(weights, loops, inputs, alpha=alpha, beta=beta, readout=readout)
    for form in (graph, canonicalise(graph)):
        trace = recorded(form, inputs[None])
        for layer, (voltage, train) in enumerate(zip(voltages, trains, strict=True), start=1):
            np.testing.assert_allclose(
                trace[f"layer{layer}", "voltage"][0], voltage, rtol=1e-9, atol=1e-9
            )
            if (f"layer{layer}", "spikes") in trace:
                np.testing.assert_array_equal(trace[f"layer{layer}", "spikes"][0], train)


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_the_general_form_with_rest_resistance_and_threshold(seed: int) -> None:
    """U[n+1] = U_rest + beta (U[n] - U_rest) + R I[n] + (U_rest - theta) S[n]; all per neuron."""
    rng = np.random.default_rng(seed)
    size, steps = 4, 25
    rest = rng.choice([-0.5, 0.25, 2.0], size)
    resistance = rng.choice([0.25, 1.0, 3.0], size)
    theta = rest + rng.choice([0.5, 1.0, 1.5], size)
    alpha, beta = rng.uniform(0.1, 0.9, (2, size))
    weight, loop = rng.normal(0.4, 0.7, (size, 3)), rng.normal(0, 0.4, (size, size))
    inputs = (rng.random((steps, 3)) < 0.5).astype(float)

    current, voltage = np.zeros(size), rest.copy()
    expected_voltage, expected_spikes, expected_current = np.zeros((3, steps, size))
    for step in range(steps):
        spiked = (voltage > theta).astype(float)
        expected_voltage[step], expected_spikes[step] = voltage, spiked
        expected_current[step] = current
        voltage = rest + beta * (voltage - rest) + resistance * current + (rest - theta) * spiked
        current = alpha * current + weight @ inputs[step] + loop @ spiked

    node = seed_lif("n", size, alpha=alpha, beta=beta, rest=rest, gain=resistance, vth=theta)
    graph = network(
        nodes=[spikes("in", 3), node],
        edges=[dense("in", "n", weight), dense("n", "n", loop)],
        outputs=["n"],
    )
    canonical = canonicalise(graph)
    assert isinstance(canonical["n"], LIF)
    assert not canonical["n"].rest.any()
    assert (canonical["n"].gain == 1).all()
    for form in (graph, canonical):
        trace = recorded(form, inputs[None])
        np.testing.assert_allclose(trace["n", "current"][0], expected_current, rtol=1e-9, atol=1e-9)
        np.testing.assert_array_equal(trace["n", "spikes"][0], expected_spikes)
        np.testing.assert_allclose(trace["n", "voltage"][0], expected_voltage, rtol=1e-9, atol=1e-9)


def test_layers_take_their_own_decays() -> None:
    graph = seed_network(
        feedforward=[np.ones((2, 3)), np.ones((1, 2))], alpha=[0.1, 0.2],
        beta=[np.array([0.3, 0.4]), 0.5], vth=2.0,
    )  # fmt: skip
    first, second = graph.populations
    assert first.alpha is not None
    assert second.alpha is not None
    assert (first.alpha[0], second.alpha[0]) == (0.1, 0.2)
    assert first.beta.tolist() == [0.3, 0.4]
    assert graph.outputs == ("layer2",)


def test_an_edge_without_delay_gets_the_seed_models_and_the_choice_is_recorded() -> None:
    nodes = [spikes("in", 2), seed_lif("a", 2, alpha=0.5, beta=0.5),
             seed_lif("b", 2, alpha=0.5, beta=0.5)]  # fmt: skip
    one = np.eye(2)
    open_edges = [dense("in", "a", one), dense("a", "b", one), dense("b", "b", one)]
    graph = network(nodes=nodes, edges=open_edges, outputs=["b"])
    assert [edge.delay for edge in graph.edges] == [0, 1, 1]
    assert [(item.value, item.origin) for item in graph.choices] == [
        ("0 from inputs, 1 from populations", "the seed model"),
    ]  # fmt: skip
    said = [dense("in", "a", one, delay=3), dense("a", "b", one, delay=0, name="now")]
    explicit = network(nodes=nodes, edges=said, outputs=["b"])
    assert [(edge.name, edge.delay) for edge in explicit.edges] == [("in->a", 3), ("now", 0)]
    assert explicit.choices == ()


def everything() -> Graph:
    rng = np.random.default_rng(0)
    shape = (3, 4, 4)
    return network(
        dt=1e-3,
        nodes=[
            spikes("pixels", (2, 8, 8)),
            graded("levels", 3, low=-2, high=5),
            analog("drive", 3),
            analog("bounded", 3, low=-1.5, high=2.0),
            seed_lif("conv", shape, alpha=rng.uniform(0, 0.9, shape), beta=0.5, vth=0.7),
            seed_lif("n", 3, alpha=None, beta=rng.uniform(0, 1, 3), rest=-0.5, gain=2.0, bias=0.1),
            seed_readout("out", 2, alpha=0.5, beta=1.0),
        ],
        edges=[
            conv2d("pixels", "conv", rng.normal(size=(3, 2, 3, 3)), stride=2, padding=(1, 1)),
            dense("conv", "n", rng.normal(size=(3, 48)).astype(np.float32)),
            *(dense(name, "n", rng.normal(size=(3, 3))) for name in ("levels", "drive", "bounded")),
            dense("n", "out", rng.normal(size=(2, 3)), delay=4),
        ],
        outputs=["out", "n"],
    )


def test_a_convolution_takes_numbers_or_pairs() -> None:
    edge = conv2d("a", "b", np.ones((2, 1, 3, 3)), stride=2, padding=(0, 1), dilation=3, groups=2)
    assert isinstance(edge.operator, Conv2d)
    found = (edge.operator.stride, edge.operator.padding, edge.operator.dilation)
    assert found == ((2, 2), (0, 1), (3, 3))
    assert edge.operator.groups == 2


def test_saving_what_was_loaded_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    graph = everything()
    models.save(graph, first)
    loaded = models.load(first)
    models.save(loaded, second)
    assert first.read_bytes() == second.read_bytes()
    assert str(loaded) == str(graph)
    assert (loaded.dt, loaded.choices) == (graph.dt, graph.choices)


def test_a_loaded_network_gives_the_same_run(tmp_path: Path) -> None:
    models.save(everything(), tmp_path / "net.safetensors")
    rng = np.random.default_rng(3)
    inputs: dict[str, Any] = {
        node.name: rng.integers(0, 2, (2, 12, *node.shape)) for node in everything().inputs
    }
    before, after = (
        reference.run(graph, inputs)
        for graph in (everything(), models.load(tmp_path / "net.safetensors"))
    )
    assert before.spikes("n").any()
    for probe in before.values:
        np.testing.assert_array_equal(before[probe], after[probe])


# Single synapses


def test_sparse_synapses_come_in_any_order_and_pairs_add_up() -> None:
    edge = sparse(
        "a", "b", [1.0, 2.0, 4.0, 8.0], sources=[3, 0, 3, 1], targets=[1, 2, 1, 0], shape=(3, 4)
    )
    assert isinstance(edge.operator, Sparse)
    expected = [[0, 8, 0, 0], [0, 0, 0, 5], [2, 0, 0, 0]]
    assert written_out(edge.operator).weight.tolist() == expected
    assert len(edge.operator.weight) == 3


@pytest.mark.parametrize(
    "changed",
    [{"sources": [4]}, {"sources": [-1]}, {"targets": [3]}, {"targets": [0.0]}, {"sources": [0, 1]},
     {"weight": [[1.0]]}, {"shape": (0, 4)}],
)  # fmt: skip
def test_synapses_outside_the_matrix_are_refused(changed: dict[str, Any]) -> None:
    words = {"weight": [1.0], "sources": [0], "targets": [0], "shape": (3, 4), **changed}
    with pytest.raises(UsageError, match="sparse a -> b"):
        sparse("a", "b", words.pop("weight"), **words)


def test_a_sparse_network_runs_like_its_dense_one() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(0, 1, (5, 6)) * (rng.random((5, 6)) < 0.4)
    targets, sources = np.nonzero(matrix)
    nodes = [spikes("in", (2, 3)), seed_lif("out", 5, alpha=0.5, beta=0.9, gain=2.0)]
    edges = [
        dense("in", "out", matrix, name="w"),
        sparse("in", "out", matrix[targets, sources], sources=sources, targets=targets,
               shape=(5, 6), name="w"),
    ]  # fmt: skip
    inputs = (rng.random((2, 20, 2, 3)) < 0.5).astype(np.uint8)
    runs = []
    for edge in edges:
        graph = canonicalise(network(nodes=nodes, edges=[edge], outputs=["out"]))
        runs.append(recorded(graph, inputs))
    for probe, values in runs[0].items():
        np.testing.assert_allclose(values, runs[1][probe], rtol=1e-12, atol=1e-12)
    assert runs[0]["out", "spikes"].any()
