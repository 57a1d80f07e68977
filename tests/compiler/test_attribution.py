"""What each choice costs: a variant has the quantized values of its choices and no others."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from spikec.compiler import reference
from spikec.compiler.inputs import Dataset, to_integers
from spikec.compiler.ir import LIF, Graph
from spikec.compiler.operators import weights_of
from spikec.compiler.quantize import Compilation, compile_graph
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.targets import load_target
from spikec.compiler.verification.attribution import KINDS, attribute, replaced
from spikec.models import seed_network

SAMPLES, STEPS = 30, 20


def chain(*, readout: bool = False, seed: int = 1) -> Graph:
    rng = np.random.default_rng(seed)
    return seed_network(
        feedforward=[rng.normal(0.1, 0.7, shape) for shape in ((12, 6), (5, 12))],
        recurrent=[rng.normal(0, 0.3, (12, 12))],
        alpha=0.71,
        beta=0.853,
        readout=readout,
    )


def compiled(graph: Graph, bits: int = 3) -> Compilation:
    return compile_graph(graph, load_target("loihi2"), weight_bits=bits)


def samples(*, labels: bool = True) -> Dataset:
    rng = np.random.default_rng(2)
    return Dataset(
        inputs={"input": (rng.random((SAMPLES, STEPS, 6)) < 0.4).astype(np.uint8)},
        labels=rng.integers(0, 5, SAMPLES) if labels else None,
    )


def parameters(graph: Graph) -> dict[str, object]:
    found: dict[str, object] = {}
    for node in graph.populations:
        found |= {f"{node.name}.{name}": getattr(node, name) for name in node.PER_NEURON}
    return found | {edge.name: weights_of(edge.operator)[0] for edge in graph.edges}


@pytest.mark.parametrize(
    ("choice", "changed"),
    [
        (("layer1", "synaptic decay"), {"layer1.alpha", "W1", "V1"}),  # with the gain
        (("layer2", "membrane decay"), {"layer2.beta", "W2"}),
        (("layer1", "feed-forward weights"), {"W1"}),
        (("layer2", "feed-forward weights"), {"W2"}),
        (("layer1", "recurrent weights"), {"V1"}),
        (("layer1", "thresholds"), {"layer1.vth", "layer1.reset_value"}),
        (("layer2", "recurrent weights"), set()),
        (("layer1", "bias"), set()),  # there is none
    ],
)
def test_a_variant_changes_what_it_says(choice: tuple[str, str], changed: set[str]) -> None:
    found = compiled(chain())
    before = parameters(found.canonical)
    variant = replaced(found.canonical, found.program, {choice})  # type: ignore[arg-type]
    after = parameters(variant)
    assert {name for name in before if not np.array_equal(before[name], after[name])} == changed
    assert (variant is found.canonical) == (not changed)


@pytest.mark.parametrize("readout", [False, True])
def test_everything_quantized_is_q(*, readout: bool) -> None:
    for seed in range(5):
        found, data = compiled(chain(readout=readout, seed=seed)), samples()
        names = [node.name for node in found.canonical.populations]
        everything = replaced(
            found.canonical, found.program, {(name, kind) for name in names for kind in KINDS}
        )
        probes = [(name, "voltage") for name in names] + [("layer1", "spikes")]
        ours = reference.run(everything, data.inputs, probes=probes)  # type: ignore[arg-type]
        integers = to_integers(found.program, data.inputs)[0]
        theirs = reference.run(dequantize(found.program), integers, probes=probes)  # type: ignore[arg-type]
        np.testing.assert_array_equal(ours.spikes("layer1"), theirs.spikes("layer1"))
        for neurons in found.program.populations:
            volts = neurons.lsb * theirs[neurons.name, "voltage"]
            np.testing.assert_allclose(ours[neurons.name, "voltage"], volts, atol=1e-9)


def test_a_decay_comes_with_its_gain_and_weights_alone_have_none() -> None:
    """Time constants that 12 bits keep badly: the gain is several times a weight's rounding."""
    rng = np.random.default_rng(4)
    weight = rng.normal(0.0, 0.01, (12, 6))
    graph = seed_network(
        feedforward=[weight], alpha=float(np.exp(-1 / 190)), beta=float(np.exp(-1 / 170)),
        readout=True,
    )  # fmt: skip
    found = compiled(graph, bits=8)
    (neurons,) = found.program.populations
    name = neurons.name
    gain = float(neurons.view.current_scale.flat[0])
    (float_weight,) = weights_of(found.canonical.edges[0].operator)
    step = found.report.weights[0].step
    assert abs(gain - 1) > 0.004

    def of(*kinds: str) -> np.ndarray:
        graph = replaced(found.canonical, found.program, {(name, kind) for kind in kinds})  # type: ignore[misc]
        return weights_of(graph.edges[0].operator)[0]

    alone, whole = of("feed-forward weights"), of(*KINDS)
    np.testing.assert_allclose(alone * gain, whole)
    assert np.abs(alone - float_weight).max() <= step / gain / 2 * (1 + 1e-9)
    np.testing.assert_allclose(of("synaptic decay", "membrane decay"), float_weight * gain)
    np.testing.assert_array_equal(of("thresholds"), float_weight)


def test_a_reached_threshold_and_a_floor_are_expressed_too() -> None:
    graph = chain()
    node = graph["layer1"]
    assert isinstance(node, LIF)
    other = replace(
        node, compare=">=", floor=np.full(12, -0.3), bias=np.full(12, 0.013),
        reset="value", reset_value=np.full(12, -0.1),
    )  # fmt: skip
    found = compiled(graph.rewritten(nodes={"layer1": other}))
    variant = replaced(found.canonical, found.program, {("layer1", "thresholds")})["layer1"]
    assert isinstance(variant, LIF)
    unit = found.program.population("layer1").lsb
    for value, exact, step in (
        (variant.vth, 1.0, 64 * unit), (variant.floor, -0.3, unit),
        (variant.reset_value, -0.1, unit),
    ):  # fmt: skip
        assert value is not None
        assert np.abs(value - exact).max() <= step / 2 + 1e-12


def test_costs_are_those_of_runs_of_their_own() -> None:
    found, data = compiled(chain()), samples()
    report = attribute(found.canonical, found.program, data, threads=2)
    base = reference.run(found.canonical, data.inputs)
    weights = {(name, "feed-forward weights") for name in ("layer1", "layer2")}
    run = reference.run(replaced(found.canonical, found.program, weights), data.inputs)  # type: ignore[arg-type]
    (cost,) = (item for item in report.alone if item.what == "feed-forward weights")
    differing = {name: (base.spikes(name) != run.spikes(name)).sum() for name in base_names(base)}
    total = sum(base.spikes(name).sum(dtype=int) for name in differing)
    assert cost.mismatch == sum(differing.values()) / total
    assert cost.mismatch > 0
    assert set(cost.populations) == {"layer1", "layer2"}
    right, before = (np.argmax(item.spikes("layer2").sum(axis=1), axis=1) for item in (run, base))
    assert cost.agreement == (right == before).mean()
    assert cost.accuracy == (right == data.labels).mean()
    assert report.accuracy == (before == data.labels).mean()


def base_names(trace: reference.Trace) -> list[str]:
    return [name for name, quantity in trace.values if quantity == "spikes"]


def test_what_is_exact_costs_nothing_and_the_worst_is_named() -> None:
    found = compiled(chain(), bits=2)
    report = attribute(found.canonical, found.program, samples())
    by_name = {item.what: item for item in report.alone}
    assert by_name["bias"].exact
    assert (by_name["bias"].mismatch, by_name["bias"].agreement) == (0, 1)
    assert not by_name["feed-forward weights"].exact
    weights = by_name["feed-forward weights"].mismatch
    decay = by_name["synaptic decay"].mismatch
    assert weights is not None
    assert decay is not None
    assert weights > 10 * decay
    assert any(
        line.startswith("feed-forward weights: give them more") for line in report.suggestions
    )
    assert not any(line.startswith("synaptic decay") for line in report.suggestions)
    assert {item.what for item in report.alone} == {item.what for item in report.without}


def test_leaving_out_all_but_one_population_is_that_population_alone() -> None:
    found = compiled(chain())
    report = attribute(found.canonical, found.program, samples())
    alone = {item.what: item for item in report.alone}
    without = {item.what: item for item in report.without}
    one, other = "population 'layer1'", "population 'layer2'"
    assert alone[one].mismatch == without[other].mismatch
    assert alone[one].populations == without[other].populations


def test_labels_are_not_needed_and_progress_ends() -> None:
    found, calls = compiled(chain(readout=True)), list[tuple[int, int]]()
    report = attribute(
        found.canonical, found.program, samples(labels=False),
        progress=lambda done, total: calls.append((done, total)),
    )  # fmt: skip
    assert calls[-1][0] == calls[-1][1]
    assert report.accuracy is None
    assert report.everything.change is None
    assert report.everything.voltage_rmse is not None
    json.dumps(report.as_dict(), allow_nan=False)
