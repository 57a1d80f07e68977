"""What a report shows of single samples and parameters is what runs and programs hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from spikec.backends import open_backend
from spikec.compiler import reference
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input
from spikec.compiler.operators import Conv2d, weights_of
from spikec.compiler.program import Program
from spikec.compiler.quantize import Compilation, compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.verification import evidence as module
from spikec.compiler.verification.attribution import KINDS, replaced
from spikec.compiler.verification.evidence import Evidence, Limits, Survey, gather
from spikec.compiler.verification.ladder import readout_of, verify
from spikec.compiler.verification.parameters import parameters
from spikec.compiler.verification.report import VerificationReport
from spikec.compiler.verification.rungs import build_ways
from spikec.models import seed_network

SAMPLES, STEPS = 20, 30


def chain(*, readout: bool = False) -> Graph:
    rng = np.random.default_rng(1)
    return seed_network(
        feedforward=[rng.normal(0.1, 0.7, shape) for shape in ((12, 6), (5, 12))],
        recurrent=[rng.normal(0, 0.3, (12, 12))],
        alpha=0.7,
        beta=0.85,
        readout=readout,
    )


def compiled(graph: Graph, bits: int = 3) -> Compilation:
    return compile_graph(graph, load_target("loihi2"), weight_bits=bits)


def samples(count: int = SAMPLES, steps: int = STEPS) -> Dataset:
    rng = np.random.default_rng(2)
    return Dataset(
        inputs={"input": (rng.random((count, steps, 6)) < 0.4).astype(np.uint8)},
        labels=rng.integers(0, 5, count),
    )


def looked_at(
    graph: Graph | None, program: Program, data: Dataset
) -> tuple[VerificationReport, Survey, Evidence]:
    survey = Survey(readout_of(program))
    with open_backend("simulator", engine="golden").load(program) as golden:
        report = verify(program, data, golden=golden, backends={}, graph=graph, watch=survey.add)
        ways = build_ways(program, graph, golden, {}, {})
        return report, survey, gather(program, data, report, survey, ways)


@pytest.mark.parametrize("readout", [False, True])
def test_the_survey_counts_what_the_ladder_counts(
    *, readout: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spikec.compiler.verification.ladder.batch_size", lambda *_: 7)
    graph, data = chain(readout=readout), samples()
    report, survey, found = looked_at(graph, compiled(graph).program, data)
    spiking = [name for name in ("layer1", "layer2") if name in survey.counts]
    assert len(spiking) == (1 if readout else 2)
    assert survey.differing.shape == (SAMPLES,)
    assert survey.differing.sum() == sum(counts.sum() for counts in survey.steps.values()) > 0
    assert 1 - survey.changed.mean() == pytest.approx(report.rung("I").agreement)
    float_run = reference.run(graph, data.inputs, probes=[(name, "spikes") for name in spiking])
    for item in found.rates:
        counts = float_run[item.population, "spikes"].sum(axis=(0, 1))
        assert np.allclose(item.lower * SAMPLES * STEPS, counts)
    for name in spiking:
        assert found.by_step[name].sum() * SAMPLES == pytest.approx(survey.steps[name].sum())


def test_chosen_samples_are_those_that_tell_most() -> None:
    graph, data = chain(), samples()
    report, survey, found = looked_at(graph, compiled(graph).program, data)
    chosen = [item.sample for item in found.exhibits]
    assert len(set(chosen)) == len(chosen) == 12
    firsts = [item.first for item in report.comparisons if item.first is not None]
    assert {item.sample for item in firsts} <= set(chosen)
    assert int(survey.differing.argmax()) in chosen
    assert survey.differing[chosen].min() == survey.differing.min()
    assert any("the answer changed" in item.why for item in found.exhibits) == survey.changed.any()
    for first in firsts:
        panel = next(
            panel
            for item in found.exhibits
            if item.sample == first.sample
            for panel in item.panels
            if panel.population == first.population
        )
        assert first.neuron[0] in panel.neurons


def test_panels_hold_what_the_rungs_record() -> None:
    graph, data = chain(readout=True), samples()
    program = compiled(graph).program
    _, _, found = looked_at(graph, program, data)
    probes = [("layer1", "spikes"), ("layer1", "voltage"), ("layer2", "voltage")]
    trace = reference.run(graph, data.inputs, probes=probes)
    for item in found.exhibits:
        layer, output = item.panels
        spikes = trace["layer1", "spikes"][item.sample]
        assert np.array_equal(layer.spikes["F"], spikes[:, layer.neurons])
        assert np.allclose(  # a sample by itself is summed up in another order
            layer.voltages["F"], trace["layer1", "voltage"][item.sample][:, layer.neurons[:8]]
        )
        different = (layer.spikes["F"] != layer.spikes["I"]).sum()
        assert layer.differing == different > 0
        assert output.spikes == {}
        volts = trace["layer2", "voltage"][item.sample]
        assert np.allclose(output.voltages["F"], volts[:, output.neurons])
        assert output.neurons[0] == volts.max(axis=0).argmax()
        assert item.label == data.labels[item.sample]
        lsb = program.population("layer1").lsb
        assert np.allclose(layer.voltages["I"] / lsb, np.rint(layer.voltages["I"] / lsb))
        assert layer.thresholds["F"] == pytest.approx(1.0)


def test_without_the_float_network_evidence_begins_at_q() -> None:
    graph = chain()
    _, _, found = looked_at(None, compiled(graph).program, samples())
    assert found.rungs == ("Q", "I")
    assert all(set(item.predictions) == {"Q", "I"} for item in found.exhibits)


def test_a_long_run_is_shown_where_it_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, data = chain(), samples(3, 200)
    monkeypatch.setattr(module, "MOST", replace(module.MOST, steps=40))
    monkeypatch.setattr(module, "_MOST_POINTS", 60)
    _, survey, found = looked_at(graph, compiled(graph, 8).program, data)
    assert found.steps_together == 4
    assert found.by_step["layer1"].shape == (50,)
    for item in found.exhibits:
        assert all(len(panel.voltages["F"]) == 40 for panel in item.panels)
        probes = [(panel.population, "spikes") for panel in item.panels]
        trace = reference.run(graph, data.samples(item.sample, item.sample + 1).inputs,
                              probes=probes)  # fmt: skip
        for panel in item.panels:
            whole = trace[panel.population, "spikes"][0, item.start : item.start + 40]
            assert np.array_equal(panel.spikes["F"], whole[:, panel.neurons])
        different = [(panel.spikes["F"] != panel.spikes["I"]).any() for panel in item.panels]
        assert any(different) == bool(survey.differing[item.sample])


def test_less_is_the_first_of_more() -> None:
    graph = chain()
    _, _, found = looked_at(graph, compiled(graph).program, samples())
    limits = Limits(samples=2, populations=1, rows=4, courses=2, steps=9)
    less = found.within(limits)
    assert [item.sample for item in less.exhibits] == [item.sample for item in found.exhibits[:2]]
    for item in less.exhibits:
        (panel,) = item.panels
        assert len(panel.neurons) == 4
        assert {values.shape for values in panel.spikes.values()} == {(9, 4)}
        assert {values.shape for values in panel.voltages.values()} == {(9, 2)}
    assert len(less.rates) == len(less.by_step) == 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_histograms_count_every_weight_before_and_after(bits: int) -> None:
    found = compiled(chain(), bits)
    held = parameters(found.program, found.canonical)
    names = [node.name for node in found.canonical.populations]
    decays, after = (
        replaced(found.canonical, found.program, {(n, k) for n in names for k in kinds})
        for kinds in (KINDS[:2], KINDS)
    )
    for item in held.weights:
        before_weights, after_weights = (
            next(weights_of(edge.operator)[0] for edge in graph.edges if edge.name == item.edge)
            for graph in (decays, after)
        )
        bins = item.histogram
        assert bins.before is not None
        assert bins.before.sum() == bins.after.sum() == item.count == before_weights.size
        assert len(bins.after) <= 70
        # A level lies in the middle of its bin, wherever bins are one step wide.
        edges = bins.start + bins.width * np.arange(len(bins.after) + 1)
        assert np.array_equal(bins.after, np.histogram(after_weights, edges)[0])
        assert np.array_equal(bins.before, np.histogram(before_weights, edges)[0])
        error = after_weights - before_weights
        rms = np.sqrt((error**2).sum() / (before_weights**2).sum())
        assert item.rms_error == pytest.approx(rms)
        assert item.max_error == pytest.approx(np.abs(error).max())
        assert item.zeros == ((before_weights == 0).sum(), (after_weights == 0).sum())
        loss = next(loss for loss in found.report.weights if loss.edge == item.edge)
        assert item.rms_error == pytest.approx(loss.rms_error)
        assert item.step == pytest.approx(loss.step)


def test_decays_of_every_neuron_are_counted() -> None:
    rng = np.random.default_rng(0)
    graph = Graph(
        nodes=[
            Input(name="input", shape=(3,)),
            LIF(name="layer", shape=(200,), alpha=None, beta=rng.uniform(0.5, 0.99, 200),
                coupling="immediate", vth=np.ones(200), reset="zero", reset_order="at_spike",
                compare=">"),
        ],
        edges=[edge_of(rng.normal(0, 1, (200, 3)))],
        outputs=("layer",),
    )  # fmt: skip
    found = compiled(graph, 8)
    (item,) = parameters(found.program, found.canonical).decays
    assert (item.population, item.kind) == ("layer", "membrane")  # no current to decay
    assert item.histogram.before is not None
    assert item.histogram.before.sum() == item.histogram.after.sum() == 200
    assert item.before is not None
    assert item.before == pytest.approx(item.after, abs=1 / 8192)


def edge_of(weight: np.ndarray) -> Edge:
    from spikec.compiler.operators import Dense

    return Edge(name="W", source="input", target="layer", operator=Dense(weight=weight))


def test_resources_are_counted_by_hand() -> None:
    kernel = np.full((4, 2, 3, 3), 0.25)
    kernel[0] = 0
    graph = Graph(
        nodes=[
            Input(name="input", shape=(2, 6, 6)),
            LI(name="layer", shape=(4, 4, 4), alpha=None, beta=np.float64(0.5),
               coupling="immediate"),
        ],
        edges=[
            Edge(
                name="C", source="input", target="layer", delay=1,
                operator=Conv2d(weight=kernel),
            )
        ],
        outputs=("layer",),
    )  # fmt: skip
    program = compiled(graph, 8).program
    (item,) = parameters(program, None).resources
    bits = program.connections[0].num_weight_bits
    assert (item.neurons, item.synapses) == (64, 3 * 2 * 9 * 16)
    assert item.weight_bytes == 4 * 2 * 9 * bits / 8
    assert item.state_bytes == 64 * 3  # a voltage of 24 bits; there is no current
    (weights,) = parameters(program, None).weights
    assert weights.histogram.before is None
    assert (weights.rms_error, weights.zeros) == (None, (None, 18))
