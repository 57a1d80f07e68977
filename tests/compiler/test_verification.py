"""The ladder: it passes what agrees, names the first difference, and counts right."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from spikec.backends import open_backend
from spikec.backends.simulator import golden
from spikec.cli.verification import verdict
from spikec.compiler import batches, reference
from spikec.compiler.arrays import Array
from spikec.compiler.backend import Executable, Progress
from spikec.compiler.errors import SpikecError
from spikec.compiler.inputs import Dataset, to_integers
from spikec.compiler.ir import LI, Graph
from spikec.compiler.operators import Dense
from spikec.compiler.program import Program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.targets import load_target
from spikec.compiler.trace import Probe, Readout, Trace, read_out
from spikec.compiler.verification import VerificationReport, verify
from spikec.compiler.verification.certificate import Answers
from spikec.compiler.verification.drift import TAU, Drift
from spikec.compiler.verification.trains import van_rossum, victor_purpura
from spikec.models import dense, network, seed_network, spikes

SAMPLES, STEPS = 7, 15


def chain(*, readout: bool = False) -> Graph:
    rng = np.random.default_rng(1)
    weights = [rng.normal(0, 0.7, shape) for shape in ((12, 6), (5, 12))]
    return seed_network(
        feedforward=weights,
        recurrent=[rng.normal(0, 0.3, (12, 12))],
        alpha=0.7,
        beta=0.85,
        readout=readout,
    )


def program_of(graph: Graph, bits: int = 4) -> Program:
    """Return a coarse program, so that its rungs differ."""
    return compile_graph(graph, load_target("loihi2"), weight_bits=bits).program


def samples(*, labels: bool = True) -> Dataset:
    rng = np.random.default_rng(2)
    return Dataset(
        inputs={"input": (rng.random((SAMPLES, STEPS, 6)) < 0.4).astype(np.uint8)},
        labels=rng.integers(0, 5, SAMPLES) if labels else None,
    )


#: Sample, probe, step and neuron of a value that is changed by 1.
Place = tuple[int, Probe, int, int]


@dataclass(frozen=True)
class Planted:
    """The simulator with a bug: some values are off by one, wherever the sample is run."""

    program: Program
    places: tuple[Place, ...] = ()
    seen: list[int] = field(default_factory=list)

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:
        with open_backend("simulator").load(self.program) as executable:
            trace = executable.run(inputs, probes=probes)
        self.seen.append(len(inputs["input"]))
        values = {probe: recorded.copy() for probe, recorded in trace.values.items()}
        for sample, probe, step, neuron in self.places:
            wanted = samples().inputs["input"][sample]
            for index in np.flatnonzero((inputs["input"] == wanted).all(axis=(1, 2))):
                values[probe][index, step, neuron] ^= 1
        return replace(trace, values=values)

    def __enter__(self) -> Planted:  # noqa: PYI034
        return self

    def __exit__(self, *error: object) -> None:
        pass


def climb(
    program: Program,
    data: Dataset,
    backends: Mapping[str, Executable] | None = None,
    **options: Any,
) -> VerificationReport:
    with open_backend("simulator").load(program) as executable:
        return verify(program, data, golden=executable, backends=backends or {}, **options)


def flipped(program: Program, sample: int, step: int, neuron: int) -> Planted:
    return Planted(program, ((sample, ("layer1", "spikes"), step, neuron),))


def test_what_is_identical_passes() -> None:
    graph = chain()
    program = program_of(graph)
    with open_backend("simulator").load(program) as other:
        report = climb(program, samples(), {"other": other}, graph=graph)
    assert report.passed
    assert [rung.name for rung in report.rungs] == ["F", "Q", "I", "other"]
    assert [(item.lower, item.upper) for item in report.comparisons] == [
        ("F", "Q"), ("Q", "I"), ("I", "other"),
    ]  # fmt: skip
    last = report.comparisons[-1]
    assert (last.must_agree, last.differing, last.first) == (True, 0, None)
    assert all(item.identical_samples == SAMPLES for item in last.populations)
    assert report.comparisons[0].differing > 0  # approximation is no failure


@pytest.mark.parametrize(("sample", "step", "neuron"), [(0, 0, 0), (4, 9, 11), (6, 14, 3)])
def test_one_flipped_spike_fails_with_its_place(sample: int, step: int, neuron: int) -> None:
    program = program_of(chain())
    report = climb(program, samples(), {"bad": flipped(program, sample, step, neuron)})
    assert not report.passed
    comparison = report.comparisons[-1]
    assert comparison.differing == 1
    first = comparison.first
    assert first is not None
    assert (first.sample, first.step, first.population, first.neuron) == (
        sample, step, "layer1", (neuron,),
    )  # fmt: skip
    assert set(first.states) == {"I", "bad"}
    assert first.states["I"]["spike"] == 1 - first.states["bad"]["spike"]
    assert report.rung("bad").name == "bad"


def test_the_first_of_many_differences_is_the_earliest_step_of_the_first_sample() -> None:
    program = program_of(chain())

    one, two = ("layer1", "spikes"), ("layer2", "spikes")
    places = ((5, one, 0, 1), (3, two, 4, 2), (3, one, 6, 0), (3, one, 4, 7))
    report = climb(program, samples(), {"bad": Planted(program, places)})
    comparison = report.comparisons[-1]
    assert comparison.first is not None
    assert (comparison.first.sample, comparison.first.step) == (3, 4)
    assert (comparison.first.population, comparison.first.neuron) == ("layer1", (7,))
    assert comparison.differing == 4
    assert [item.identical_samples for item in comparison.populations] == [SAMPLES - 2, SAMPLES - 1]


def test_a_wrong_shift_is_found_where_it_first_shows() -> None:
    program = program_of(chain())
    wrong = replace(
        program,
        connections=tuple(
            replace(item, weight_exp=item.weight_exp + 1) if item.name == "W2" else item
            for item in program.connections
        ),
    )
    data = samples()
    with open_backend("simulator").load(wrong) as executable:
        report = climb(program, data, {"wrong": executable})
    good, bad = (golden.run(item, data.inputs).spikes("layer2") for item in (program, wrong))
    sample, step, neuron = (int(index) for index in np.argwhere(good != bad)[0])
    first = report.comparisons[-1].first
    assert not report.passed
    assert first is not None
    assert (first.sample, first.step, first.neuron) == (sample, step, (neuron,))
    assert first.population == "layer2"
    assert [item.differing for item in report.comparisons[-1].populations] == [
        0, (good != bad).sum(),
    ]  # fmt: skip


def test_a_difference_in_a_readout_voltage_fails_too() -> None:
    graph = chain(readout=True)
    program = program_of(graph)

    planted = Planted(program, ((2, ("layer2", "voltage"), 8, 4),))
    report = climb(program, samples(), {"bad": planted}, graph=graph)
    first = report.comparisons[-1].first
    assert not report.passed
    assert first is not None
    assert (first.sample, first.step, first.population, first.neuron) == (2, 8, "layer2", (4,))
    assert "threshold" not in first.states["I"]


def naive_traces(graph: Graph, program: Program, data: Dataset) -> dict[str, Trace]:
    probes: list[Probe] = [
        (node.name, quantity) for node in graph.populations for quantity in ("spikes", "voltage")
    ]
    return {
        "F": reference.run(graph, data.inputs, probes=probes),
        "Q": reference.run(
            dequantize(program), to_integers(program, data.inputs)[0], probes=probes
        ),
        "I": golden.run(program, data.inputs, probes=probes),
    }


@pytest.mark.parametrize("readout", [False, True])
def test_counts_are_those_of_a_naive_recount(*, readout: bool) -> None:
    graph = chain(readout=readout)
    program, data = program_of(graph, bits=3), samples()
    report = climb(program, data, graph=graph)
    traces = naive_traces(graph, program, data)
    predictions = {name: read_out_naively(trace, readout) for name, trace in traces.items()}
    assert data.labels is not None
    for rung in report.rungs:
        right = sum(a == b for a, b in zip(predictions[rung.name], data.labels, strict=True))
        same = sum(a == b for a, b in zip(predictions[rung.name], predictions["F"], strict=True))
        assert rung.accuracy == right / SAMPLES
        assert rung.agreement == same / SAMPLES
        assert rung.samples == SAMPLES
    for comparison in report.comparisons:
        lower, upper = (traces[name].spikes("layer1").astype(int)
                        for name in (comparison.lower, comparison.upper))  # fmt: skip
        hidden = comparison.populations[0]
        assert hidden.differing == sum(a != b for a, b in zip(lower.flat, upper.flat, strict=True))
        assert hidden.spikes == lower.sum()
        assert hidden.mismatch == hidden.differing / lower.sum()
        assert hidden.rate_change == (upper.sum() - lower.sum()) / lower.sum()
        assert hidden.identical_samples == sum(
            (a == b).all() for a, b in zip(lower, upper, strict=True)
        )
    assert report.comparisons[0].populations[0].differing > 0


def read_out_naively(trace: Trace, readout: bool) -> list[int]:
    if readout:
        return [max(range(5), key=lambda k: row[:, k].max()) for row in trace["layer2", "voltage"]]
    return [max(range(5), key=lambda k: row[:, k].sum()) for row in trace.spikes("layer2")]


def test_a_readouts_voltage_error_is_relative_and_in_source_units() -> None:
    graph = chain(readout=True)
    program, data = program_of(graph), samples()
    report = climb(program, data, graph=graph)
    traces = naive_traces(graph, program, data)
    unit = program.population("layer2").lsb
    volts = {
        name: trace["layer2", "voltage"] * (1.0 if name == "F" else unit)
        for name, trace in traces.items()
    }
    for comparison in report.comparisons:
        found = comparison.populations[1]
        error = volts[comparison.upper] - volts[comparison.lower]
        expected = np.sqrt((error**2).mean() / (volts[comparison.lower] ** 2).mean())
        assert found.voltage_rmse == pytest.approx(expected)
        assert found.mismatch is None
        assert found.differing == 0  # approximations always differ
        assert comparison.first is None or comparison.first.population == "layer1"


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("readout", [False, True])
def test_batches_change_nothing(
    monkeypatch: pytest.MonkeyPatch, size: int, *, readout: bool
) -> None:
    graph = chain(readout=readout)
    program = program_of(graph)

    def report() -> dict[str, Any]:
        backends = {"bad": flipped(program, 5, 3, 2)}
        whole = climb(program, samples(), backends, graph=graph, backend_samples={"bad": 6})
        return whole.as_dict()

    at_once = report()
    monkeypatch.setattr(batches, "_MOST_SAMPLES", size)
    calls: list[tuple[int, int]] = []
    climb(program, samples(), progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (SAMPLES, SAMPLES)
    assert len(calls) == -(-SAMPLES // size)
    in_parts = report()
    for comparison in (*at_once["comparisons"], *in_parts["comparisons"]):
        for item in comparison["populations"]:  # sums of squares may round in another order
            item["voltage_rmse"] = pytest.approx(item["voltage_rmse"])
    for item in (*at_once["drifts"], *in_parts["drifts"]):
        for key in ("voltage_rmse", "van_rossum"):
            item[key] = pytest.approx(item[key])
    assert in_parts == at_once
    assert in_parts["comparisons"][-1]["first"]["sample"] == 5


def test_without_a_graph_the_ladder_starts_at_q() -> None:
    program = program_of(chain())
    report = climb(program, samples())
    assert [rung.name for rung in report.rungs] == ["Q", "I"]
    assert report.rungs[0].agreement == 1
    assert [item.rung for item in report.margins] == ["Q", "Q"]


def test_without_labels_there_is_no_accuracy() -> None:
    report = climb(program_of(chain()), samples(labels=False))
    assert [rung.accuracy for rung in report.rungs] == [None, None]


def test_a_slow_backend_runs_the_first_samples_only() -> None:
    program = program_of(chain())
    slow = Planted(program)
    report = climb(program, samples(), {"slow": slow}, backend_samples={"slow": 3})
    assert sum(slow.seen) == 3
    assert report.rung("slow").samples == report.comparisons[-1].samples == 3
    assert report.rung("I").samples == SAMPLES
    late = climb(
        program, samples(), {"slow": flipped(program, 3, 0, 0)}, backend_samples={"slow": 3}
    )
    assert late.passed


def test_a_backend_without_samples_is_refused_or_left_out() -> None:
    program = program_of(chain())
    try:
        climb(program, samples(), {"none": Planted(program)}, backend_samples={"none": 0})
    except SpikecError:
        return


def test_events_are_counted_on_the_rung_that_has_them() -> None:
    program, data = program_of(chain(), bits=8), samples()
    expected = golden.run(program, data.inputs).events
    report = climb(program, data)
    assert report.rung("I").events == expected
    assert report.rung("Q").events == {}
    assert expected  # this network does saturate
    assert report.saturations == {"layer1": expected["layer1/voltage saturated"]}
    assert report.wraps == {}
    assert report.passed
    assert "; but voltages clipped at 24 bits (layer1 " in verdict(report)
    assert report.as_dict()["saturations"] == report.saturations
    assert report.as_dict()["reservations"] == list(report.reservations)


def test_nothing_that_left_its_range_is_left_out_of_the_verdict() -> None:
    report = replace(climb(program_of(chain()), samples()), certificates=())
    clean, left = (
        replace(report, rungs=(replace(report.rung("I"), events=events),))
        for events in (
            {"a/voltage saturated": 0},
            {"a/current wrapped": 2, "b/left 24 bits": 1_000, "in/input clipped": 3},
        )
    )
    assert verdict(clean) == "passed without F and Q: no backend was compared."
    assert left.wraps == {"a": 2}
    for words in ("currents wrapped (a 2 times)", "left 24 bits (b 1,000 times)", "input clipped"):
        assert words in verdict(left)
    assert "and Q: " not in verdict(left)


@pytest.mark.parametrize("readout", ["max-voltage", "last-voltage", "mean-voltage", None])
def test_a_readout_is_used_on_every_rung(readout: Readout | None) -> None:
    graph = chain(readout=True)
    program, data = program_of(graph), samples()
    report = climb(program, data, graph=graph, readout=readout)
    assert report.readout == (readout or "max-voltage")
    traces = naive_traces(graph, program, data)
    assert data.labels is not None
    for rung in report.rungs:
        predicted = read_out(traces[rung.name], readout or "max-voltage")
        assert rung.accuracy == float(np.mean(predicted == data.labels))


def test_counting_the_spikes_of_an_integrator_is_refused() -> None:
    graph = chain(readout=True)
    with pytest.raises(SpikecError):
        climb(program_of(graph), samples(), graph=graph, readout="spike-count")


def test_margins_are_the_distances_to_the_threshold() -> None:
    graph = chain()
    program, data = program_of(graph), samples()
    report = climb(program, data, graph=graph)
    voltages = reference.run(graph, data.inputs, probes=[("layer1", "voltage")])
    distance = np.abs(voltages["layer1", "voltage"] - 1.0)
    margin = report.margins[0]
    assert (margin.population, margin.rung, margin.decisions) == ("layer1", "F", distance.size)
    assert margin.smallest == distance.min()
    assert margin.median == np.median(distance)
    assert margin.near == np.mean(distance < 0.01)


def test_the_report_is_plain_data() -> None:
    graph = chain(readout=True)
    report = climb(program_of(graph), samples(), graph=graph)
    plain = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert plain["passed"] is True
    assert [item["passed"] for item in plain["comparisons"]] == [True, True]
    assert plain["rungs"][0]["name"] == "F"
    with pytest.raises(KeyError):
        report.rung("lava")


def drift_of(report: VerificationReport, name: str, fed: str) -> Drift:
    (found,) = (item for item in report.drifts if (item.population, item.fed) == (name, fed))
    return found


def with_wrong_weights(graph: Graph) -> Graph:
    (edge,) = (item for item in graph.edges if item.name == "W1")
    assert isinstance(edge.operator, Dense)
    wrong = replace(edge, operator=Dense(weight=edge.operator.weight[:, ::-1]))
    return graph.rewritten(edges={"W1": wrong})


def test_teacher_forcing_leaves_out_what_is_inherited() -> None:
    graph = chain()
    right, wrong = (
        climb(program_of(item), samples(), graph=graph)
        for item in (graph, with_wrong_weights(graph))
    )
    for name, changes in (("layer1", True), ("layer2", False)):
        before, after = (drift_of(item, name, "teacher-forced") for item in (right, wrong))
        assert (before != after) == changes
        assert before.mismatch is not None
        assert before.mismatch > 0
    before, after = (drift_of(item, "layer2", "end to end") for item in (right, wrong))
    assert before.mismatch is not None
    assert after.mismatch is not None
    assert after.mismatch > before.mismatch


@pytest.mark.parametrize("readout", [False, True])
def test_drift_is_that_of_a_naive_recount(*, readout: bool) -> None:
    graph = chain(readout=readout)
    program, data = program_of(graph, bits=2), samples()
    report = climb(program, data, graph=graph)
    traces = naive_traces(graph, program, data)
    ours, theirs = (traces[name].spikes("layer1").astype(int) for name in ("F", "Q"))
    found = drift_of(report, "layer1", "end to end")
    assert found.mismatch == (ours != theirs).sum() / ours.sum()
    rates, others = (item.mean(axis=(0, 1)) for item in (ours, theirs))
    assert found.rate_error == pytest.approx(np.abs(rates - others).mean() / rates.mean())
    assert found.rate_emd == pytest.approx(np.abs(np.sort(rates) - np.sort(others)).mean())
    assert found.silent == (rates == 0).sum()
    assert found.other_silent == (others == 0).sum()
    assert found.died == ((others == 0) & (rates > 0)).sum()
    unit = program.population("layer1").lsb
    error = traces["F"]["layer1", "voltage"] - unit * traces["Q"]["layer1", "voltage"]
    assert found.voltage_rmse == pytest.approx(np.sqrt((error**2).mean()))  # the threshold is 1
    assert found.van_rossum == pytest.approx(van_rossum(ours, theirs, TAU).mean())
    trains = (item.transpose(0, 2, 1).reshape(-1, STEPS) for item in (ours, theirs))
    assert found.victor_purpura == pytest.approx(victor_purpura(*trains, 1 / TAU).mean())
    last = drift_of(report, "layer2", "end to end")
    assert (last.mismatch is None) == readout


def test_equal_parameters_drift_nowhere() -> None:
    graph = dequantize(program_of(chain()))
    program = program_of(chain())
    report = climb(replace(program, populations=tuple(
        replace(item, lsb=1.0) for item in program.populations
    )), samples(), graph=graph)  # fmt: skip
    for item in report.drifts:
        assert (item.mismatch, item.rate_error, item.rate_emd, item.died) == (0, 0, 0, 0)
        assert (item.voltage_rmse, item.van_rossum, item.victor_purpura) == (0, 0, 0)
        assert item.coincidence == pytest.approx(1.0)


def test_an_integer_engine_with_a_bug_fails_the_certificate() -> None:
    program = program_of(chain())
    for place in ((2, ("layer1", "spikes"), 7, 4), (6, ("layer2", "voltage"), 3, 1)):
        report = verify(program, samples(), golden=Shifted(program, (place,)), backends={})
        assert not report.passed
        assert report.unexplained > 0
        sample, (name, what), step, neuron = place
        (first,) = (item.first for item in report.certificates if item.population == name)
        assert first is not None
        assert (first.sample, first.step, first.neuron) == (sample, step, (neuron,))
        assert what == "voltage" or first.what == "spike"


class Shifted(Planted):
    """The simulator with a bug larger than rounding."""

    def run(self, *args: Any, **options: Any) -> Trace:
        trace = super().run(*args, **options)
        values = dict(trace.values)
        for sample, probe, step, neuron in self.places:
            if probe[1] == "voltage" and probe in values:
                values[probe] = values[probe].copy()
                values[probe][sample, step, neuron] += 1000
        return replace(trace, values=values)


def test_accuracies_are_compared_on_the_same_samples() -> None:
    graph = chain()
    program, data = program_of(graph, bits=2), samples()
    report = climb(program, data, graph=graph)
    traces = naive_traces(graph, program, data)
    right = {
        name: np.array(read_out_naively(trace, readout=False)) == data.labels
        for name, trace in traces.items()
    }
    assert [(item.lower, item.upper) for item in report.changes] == [("F", "Q"), ("F", "I")]
    for change in report.changes:
        assert change.lost == (right["F"] & ~right[change.upper]).sum()
        assert change.gained == (right[change.upper] & ~right["F"]).sum()
    assert climb(program, samples(labels=False), graph=graph).changes == ()


def summing(steps: int, horizon: int | None = None) -> tuple[Graph, Program, Dataset]:
    """Return a readout that adds up all steps, its program at the coarsest scale, and data."""
    rng = np.random.default_rng(3)
    graph = network(
        nodes=[spikes("in", 30), LI(name="sum", shape=(4,), alpha=None, beta=np.array(1.0),
                                    coupling="immediate")],
        edges=[dense("in", "sum", rng.normal(0.1, 0.2, (4, 30)))],
        outputs=["sum"],
    )  # fmt: skip
    rates = rng.uniform(0.1, 0.9, (8, 1, 30))
    data = (rng.random((8, steps, 30)) < rates).astype(np.uint8)
    seen = Dataset(inputs={"in": data[:4]}) if horizon else None
    program = compile_graph(graph, load_target("loihi2"), calibration=seen).program
    return graph, program, Dataset(inputs={"in": data})


@pytest.mark.parametrize("readout", ["last-voltage", "mean-voltage", "max-voltage"])
def test_answers_that_come_from_clipped_voltages_fail(readout: Readout) -> None:
    graph, program, data = summing(4000)
    report = climb(program, data, graph=graph, readout=readout)
    assert report.unexplained == 0
    assert report.answers is not None
    assert report.clipped_answers == report.answers.clipped == 8
    assert not report.passed
    words = verdict(report)
    assert words.startswith("FAILED: ")
    assert "answers come from voltages of 'sum' that clipped at 24 bits: compile with" in words


def test_with_room_for_all_steps_every_answer_is_proved() -> None:
    graph, program, data = summing(4000, horizon=4000)
    report = climb(program, data, graph=graph, readout="mean-voltage")
    assert report.passed
    assert report.reservations == ()
    assert report.answers == Answers(samples=8, proved=8)
    assert report.as_dict()["answers"] == {
        "samples": 8, "proved": 8, "clipped": 0, "clipped_open": 0, "explained": 0,
        "unexplained": 0, "proved_share": 1.0,
    }  # fmt: skip


def test_an_answer_that_is_proved_and_yet_another_is_a_bug() -> None:
    _, program, data = summing(50)
    report = verify(program, data, golden=Misread(program), backends={}, readout="last-voltage")
    assert report.unexplained > 0
    assert not report.passed


class Misread(Planted):
    """The simulator with two neurons swapped in what it records."""

    def run(self, *args: Any, **options: Any) -> Trace:
        with open_backend("simulator").load(self.program) as executable:
            trace = executable.run(*args, **options)
        probe: Probe = ("sum", "voltage")
        return replace(trace, values={**trace.values, probe: trace[probe][..., ::-1]})
