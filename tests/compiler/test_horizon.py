"""Populations without leak sum up over a whole run: what their scale leaves room for."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from spikec.backends.simulator import golden
from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import UsageError
from spikec.compiler.fixedpoint import STATE_MAX
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, LIF, Graph, SourceView
from spikec.compiler.quantize import Compilation, compile_graph, observe
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.quantize.report import report_from
from spikec.compiler.targets import load_target
from spikec.compiler.trace import read_out
from spikec.models import analog, dense, network, seed_lif, seed_network, spikes

INPUTS, CLASSES = 40, 5


def integrator(seed: int = 0) -> Graph:
    """A readout that adds up every spike of its inputs, most of them excitatory."""
    rng = np.random.default_rng(seed)
    return network(
        nodes=[spikes("in", INPUTS), LI(name="sum", shape=(CLASSES,), alpha=None,
                                        beta=np.array(1.0), coupling="immediate")],
        edges=[dense("in", "sum", rng.normal(0.05, 0.2, (CLASSES, INPUTS)))],
        outputs=["sum"],
    )  # fmt: skip


def firing(steps: int, samples: int = 30, seed: int = 1) -> Array:
    rng = np.random.default_rng(seed)
    rates = rng.uniform(0.05, 0.6, (samples, 1, INPUTS))
    return (rng.random((samples, steps, INPUTS)) < rates).astype(np.uint8)


def compiled(graph: Graph, data: Array | None = None, **options: object) -> Compilation:
    calibration = None if data is None else Dataset(inputs={"in": data})
    return compile_graph(graph, load_target("loihi2"), calibration=calibration, **options)  # type: ignore[arg-type]


def integrate_and_fire(seed: int = 0) -> Graph:
    """Two layers of neurons without leak, many of them inhibited ever deeper."""
    rng = np.random.default_rng(seed)
    fields = {"alpha": None, "beta": np.array(1.0), "vth": np.array(1.0), "reset": "subtract",
              "reset_order": "at_spike", "coupling": "immediate", "compare": ">=",
              "view": SourceView()}  # fmt: skip
    return network(
        nodes=[spikes("in", INPUTS), LIF(name="a", shape=(30,), **fields),
               LIF(name="b", shape=(CLASSES,), **fields)],
        edges=[dense("in", "a", rng.normal(-0.05, 0.3, (30, INPUTS)), delay=0),
               dense("a", "b", rng.normal(0, 0.3, (CLASSES, 30)), delay=0)],
        outputs=["b"],
    )  # fmt: skip


@pytest.mark.parametrize(("steps", "calibrated"), [(100, False), (100, True), (1000, True)])
def test_a_readout_that_sums_up_does_not_clip(steps: int, *, calibrated: bool) -> None:
    graph, data = integrator(), firing(steps)
    program = compiled(graph, firing(steps, seed=2) if calibrated else None).program
    trace = golden.run(program, {"in": data})
    assert trace.events == {}
    exact = reference.run(graph, {"in": data})
    for how in ("mean-voltage", "last-voltage"):
        same = read_out(trace, how) == read_out(exact, how)
        assert same.mean() >= 0.9  # of random answers, which differ little


def test_data_of_fewer_steps_than_the_horizon_leave_room_for_all_of_it() -> None:
    graph, short = integrator(), firing(100)
    near, far = (compiled(graph, short, horizon=steps) for steps in (None, 8000))
    assert (near.report.horizon, near.report.horizon_from) == (100, "calibration data")
    assert (far.report.horizon, far.report.horizon_from) == (8000, "option")
    long = {"in": firing(8000, samples=3)}
    assert golden.run(near.program, long).events
    assert golden.run(far.program, long).events == {}
    assert far.report.warnings == ()


def test_neurons_that_sum_up_fire_as_the_quantized_network_does() -> None:
    graph = integrate_and_fire()
    found = compiled(graph, firing(300))
    data = {"in": firing(300, seed=7)}
    probes = [("a", "voltage"), ("b", "voltage"), ("a", "spikes"), ("b", "spikes")]
    trace = golden.run(found.program, data, probes=probes)
    assert trace.events == {}
    quantized = reference.run(dequantize(found.program), data, probes=probes)
    for probe in probes:
        np.testing.assert_array_equal(trace[probe], quantized[probe])
    assert trace.spikes("a").any()
    assert np.abs(trace["a", "voltage"]).max() > STATE_MAX / 8  # deep ones use the range
    assert all(item.vth_error == 0 for item in found.report.populations)


def test_a_larger_head_room_is_a_smaller_scale() -> None:
    graph, data = integrate_and_fire(), firing(300)
    scales = [
        compiled(graph, data, headroom=room).report.populations[0].scale for room in (1.0, 4.0)
    ]
    assert scales[0] > 2 * scales[1]


@pytest.mark.parametrize("headroom", [0.5, float("nan"), float("inf"), 1e9])
def test_a_head_room_that_is_none_is_refused(headroom: float) -> None:
    with pytest.raises(UsageError, match="U086"):
        compiled(integrator(), firing(10), headroom=headroom)


@pytest.mark.parametrize("horizon", [0, -1, 1 << 40, True])
def test_a_horizon_that_is_none_is_refused(horizon: int) -> None:
    with pytest.raises(UsageError, match="U086"):
        compiled(integrator(), horizon=horizon)


def test_what_would_do_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="calibrate with data"):
        compiled(integrator(), headroom=2.0)
    leaky = seed_network(feedforward=[np.eye(3)], alpha=0.5, beta=0.9)
    with pytest.raises(UsageError, match="every population leaks"):
        compiled(leaky, horizon=10)


def test_a_warning_says_what_is_not_known() -> None:
    (unknown,) = compiled(integrator()).report.warnings
    assert "nothing says how many" in unknown
    (unproved,) = compiled(integrator(), horizon=5000).report.warnings
    assert "sooner than the horizon of 5000" in unproved
    assert compiled(integrator(), horizon=3).report.warnings == ()
    assert compiled(integrator(), firing(100)).report.warnings == ()


def test_the_steps_that_nothing_clips_are_those_of_the_worst_input() -> None:
    found = compiled(integrator())
    (loss,) = found.report.populations
    assert loss.steps_in_range is not None
    (connection,) = found.program.connections
    weights = connection.effective.weight
    worst = weights[np.maximum(weights, 0).sum(axis=1).argmax()]
    upward = np.broadcast_to((worst > 0).astype(np.uint8), (1, loss.steps_in_range + 200, INPUTS))
    inside = {"in": upward[:, : loss.steps_in_range]}
    assert golden.run(found.program, inside).events == {}
    assert golden.run(found.program, {"in": upward}).events


def test_analog_inputs_make_room_for_a_sum() -> None:
    rng = np.random.default_rng(0)
    graph = network(
        nodes=[analog("in", 3, low=0.0, high=1.0), integrator()["sum"]],
        edges=[dense("in", "sum", rng.normal(0.1, 0.2, (CLASSES, 3)))],
        outputs=["sum"],
    )
    data = rng.random((5, 60, 3))
    free, found = compiled(graph, weight_bits=4), compiled(graph, data, weight_bits=4)
    assert golden.run(free.program, {"in": data}).events  # the finest levels fill 24 bits at once
    trace = golden.run(found.program, {"in": data})
    assert trace.events == {}
    assert found.report.inputs[0].resolution <= 2**-6
    exact = reference.run(graph, {"in": data})["sum", "voltage"]
    error = trace["sum", "voltage"] * found.program.populations[0].lsb - exact
    assert np.abs(error).max() < 0.05 * np.abs(exact).max()
    (warning,) = compiled(graph, data).report.warnings  # 8 bits leave it too few levels
    assert "fewer --weight-bits" in warning


def test_neurons_of_different_thresholds_round_them_little() -> None:
    graph = integrate_and_fire()
    first = graph["a"]
    assert isinstance(first, LIF)
    several = replace(first, vth=np.linspace(0.5, 2.0, 30))
    found = compiled(graph.rewritten(nodes={"a": several}))
    assert found.report.populations[0].vth_error is not None
    assert 0 < found.report.populations[0].vth_error < 2e-3


def test_a_leaky_network_is_compiled_as_ever() -> None:
    rng = np.random.default_rng(0)
    graph = network(
        nodes=[spikes("in", INPUTS), seed_lif("n", 8, alpha=0.7, beta=0.9)],
        edges=[dense("in", "n", rng.normal(0, 0.4, (8, INPUTS)))],
        outputs=["n"],
    )
    found = compiled(graph, firing(40))
    (loss,) = found.report.populations
    assert (loss.steps_in_range, loss.seen_margin) == (None, None)
    assert found.report.warnings == ()


def test_the_report_comes_back_with_its_horizon() -> None:
    report = compiled(integrator(), firing(100)).report
    assert report_from(json.loads(json.dumps(report.as_dict()))) == report


def test_sums_are_seen_on_more_samples_than_memory_holds_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The last of them goes furthest: it must fit too."""
    monkeypatch.setattr(observe, "batch_size", lambda neurons, steps: 4)
    graph, data = integrator(), np.zeros((18, 3000, INPUTS), np.uint8)
    data[:17] = firing(3000, samples=17) * (np.arange(INPUTS) % 4 == 0)
    data[17] = 1
    found = compiled(graph, data)
    assert golden.run(found.program, {"in": data}).events == {}
    assert found.report.calibration_samples == 4
