"""The overflow proof counts on few active inputs, and on refractory steps; runs count the rest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.backends import open_backend
from spikec.backends.simulator import golden
from spikec.cli.main import app
from spikec.compiler.arrays import Array
from spikec.compiler.errors import GraphError, QuantizationError, UsageError
from spikec.compiler.fixedpoint import STATE_MAX
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LIF, Graph, Input, SourceView
from spikec.compiler.operators import Weighted
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.quantize import Compilation, compile_graph, lower
from spikec.compiler.quantize.overflow import Arrival
from spikec.compiler.quantize.plan import plan_populations
from spikec.compiler.quantize.report import report_from
from spikec.compiler.targets import load_target
from spikec.models import conv2d, dense, graded, network, save, seed_lif, sparse, spikes

TARGET = load_target("loihi2")
INPUTS, CROWD = 30, "in/steps more active than the overflow proof allows"


def layer(entry: Input | None = None, outputs: int = 6) -> Graph:
    rng = np.random.default_rng(0)
    entry = entry or spikes("in", INPUTS)
    return network(
        nodes=[entry, seed_lif("n", outputs, alpha=0.95, beta=0.8)],
        edges=[dense("in", "n", rng.normal(size=(outputs, INPUTS)))],
        outputs=["n"],
    )


def compiled(graph: Graph, **options: Any) -> Compilation:
    return compile_graph(graph, TARGET, **options)


def operators() -> list[tuple[Weighted, tuple[int, ...]]]:
    rng = np.random.default_rng(3)
    pairs = np.argwhere(rng.random((7, 9)) < 0.5)
    weights = rng.normal(size=len(pairs))
    edges = [
        dense("a", "b", rng.normal(size=(5, 9))),
        sparse("a", "b", weights, shape=(7, 9), targets=pairs[:, 0], sources=pairs[:, 1]),
        conv2d("a", "b", rng.normal(size=(2, 1, 2, 3)), padding=1),
    ]
    return [(edge.operator, shape) for edge, shape in zip(edges, [(9,), (9,), (1, 3, 3)],
                                                          strict=True)]  # type: ignore[misc] # fmt: skip


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-3.0, 2.0), (-2.0, -1.0)])
def test_the_bound_is_that_of_the_worst_inputs_that_are_allowed(
    which: int, low: float, high: float
) -> None:
    operator, shape = operators()[which]
    arrival = Arrival(operator, shape, low, high, most_active=3)
    added, taken = arrival.extremes()
    full = Arrival(operator, shape, low, high).extremes()
    assert (added <= full[0]).all()
    assert (taken <= full[1]).all()
    rng = np.random.default_rng(1)
    most = np.zeros(added.shape)
    for _ in range(4000):
        values = np.zeros((1, 9))
        places = rng.choice(9, 3, replace=False)
        values[0, places] = rng.choice([low, high], 3)
        brought = operator.apply(values.reshape(1, *shape)).reshape(-1)
        assert (brought <= added + 1e-9).all()
        assert (-brought <= taken + 1e-9).all()
        most = np.maximum(most, brought)
    if which < 2:  # at the edge of an image fewer are reached than the kernel has
        np.testing.assert_allclose(most, added)


@pytest.mark.parametrize("most", [1, 4, 12])
def test_no_allowed_input_passes_the_bound_and_the_worst_reaches_it(most: int) -> None:
    found = compiled(layer(), max_active=most)
    (loss,) = found.report.populations
    weight = found.program.connections[0].effective.weight
    reached = 0
    for row in (*weight, *-weight):
        steady = np.zeros((1, 300, INPUTS), np.uint8)
        best = [place for place in np.argsort(row)[-most:] if row[place] > 0]
        steady[:, :, best] = 1
        trace = golden.run(found.program, {"in": steady}, probes=[("n", "current")], strict=True)
        assert CROWD not in trace.events
        reached = max(reached, int(np.abs(trace["n", "current"]).max()))
    assert loss.proof_bound - 22 <= reached <= loss.proof_bound <= STATE_MAX
    assert found.program.inputs[0].max_active == most


def test_fewer_active_inputs_leave_a_larger_scale() -> None:
    scales = [compiled(layer(), max_active=most).report.populations[0].scale
              for most in (29, 8, 2)]  # fmt: skip
    assert scales[0] < scales[1] < scales[2]


def resting(refractory: int) -> Graph:
    """Neurons that always fire, as often as they may, and one that they drive."""
    fast = LIF(name="a", shape=(8,), alpha=None, beta=np.array(0.5), vth=np.array(0.1),
               reset="zero", reset_order="at_spike", coupling="immediate", compare=">",
               refractory=refractory, view=SourceView())  # fmt: skip
    return network(
        nodes=[spikes("in", 1), fast, seed_lif("n", 1, alpha=0.95, beta=0.5)],
        edges=[dense("in", "a", np.ones((8, 1))), dense("a", "n", np.full((1, 8), 0.7))],
        outputs=["n"],
    )


@pytest.mark.parametrize("refractory", [0, 1, 5])
def test_refractory_steps_count_in_the_proof(refractory: int) -> None:
    found = compiled(resting(refractory))
    driven = {"in": np.ones((1, 400, 1), np.uint8)}
    trace = golden.run(found.program, driven, probes=[("n", "current")], strict=True)
    bound = found.report.populations[1].proof_bound
    assert 0.99 * bound - 25 <= trace["n", "current"].max() <= bound


def crowded(steps: int = 20) -> Array:
    data = np.zeros((3, steps, INPUTS), np.uint8)
    data[:, ::2, :5] = 1  # as many as are allowed
    data[1, [3, 7], :6] = 1
    data[2, 4, :] = 1
    return data


@pytest.mark.parametrize("backend", ["golden", "simulator", "c"])
@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64, np.float32])
def test_every_engine_counts_steps_with_more(backend: str, dtype: Any) -> None:
    program = compiled(layer(), max_active=5).program
    data = {"in": crowded().astype(dtype)}
    if backend == "golden":
        events = golden.run(program, data).events
    else:
        with open_backend(backend).load(program) as executable:
            events = executable.run(data).events
    assert events[CROWD] == 3


@pytest.mark.parametrize("engine", ["fast", "golden"])
def test_a_stream_counts_them_once(engine: str) -> None:
    program = compiled(layer(), max_active=5).program
    with open_backend("simulator", engine=engine).load(program) as executable:
        session = executable.session(3)  # type: ignore[attr-defined]
        events = [
            session.run({"in": crowded()[:, begin : begin + 5]}, last=begin == 15).events
            for begin in range(0, 20, 5)
        ]
    assert [item.get(CROWD, 0) for item in events] == [2, 1, 0, 0]


def test_graded_values_count_as_one_each() -> None:
    program = compiled(
        layer(graded("in", INPUTS, low=-3, high=9)), max_active=5, weight_bits=4
    ).program
    values = crowded().astype(np.int64) * 7
    values[0, 1, :5] = -3
    with open_backend("simulator").load(program) as executable:
        assert executable.run({"in": values}).events[CROWD] == 3


def test_data_say_how_many_are_active() -> None:
    data = Dataset(inputs={"in": crowded()[:2]})
    found = compiled(layer(), calibration=data, max_active="data")
    assert found.report.max_active == {"in": 6}
    assert report_from(json.loads(json.dumps(found.report.as_dict()))) == found.report


@pytest.mark.parametrize("most", [0, -1, True, 2.0, INPUTS, 10_000, "data"])
def test_what_is_no_condition_is_refused(most: Any) -> None:
    with pytest.raises(UsageError, match="U086"):
        compiled(layer(), max_active=most)


def test_the_condition_is_kept_in_the_file(tmp_path: Path) -> None:
    plain, bound = compiled(layer()).program, compiled(layer(), max_active=5).program
    for name, program in (("plain", plain), ("bound", bound)):
        write_program(program, tmp_path / name)
        again = read_program(tmp_path / name)
        assert again.inputs[0].max_active == program.inputs[0].max_active
    assert b"max_active" not in (tmp_path / "plain").read_bytes().split(b"quantization")[0]


@pytest.mark.parametrize("most", [0, INPUTS + 1])
def test_a_program_with_another_condition_is_none(most: int) -> None:
    program = compiled(layer(), max_active=5).program
    with pytest.raises(GraphError, match="max_active"):
        replace(program, inputs=(replace(program.inputs[0], max_active=most),))


def test_a_broken_proof_is_an_error_and_no_assertion(monkeypatch: pytest.MonkeyPatch) -> None:
    def louder(*args: Any) -> Any:
        return [replace(plan, exponent=plan.exponent + 3) for plan in plan_populations(*args)]

    monkeypatch.setattr(lower, "plan_populations", louder)
    with pytest.raises(QuantizationError, match="Q090"):
        compiled(layer())


def test_the_command_says_and_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def out(*words: str, code: int = 0) -> str:
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == code, result.output
        return result.output

    save(layer(), "net.safetensors")
    np.savez("data.npz", spikes=crowded())
    np.savez("quiet.npz", spikes=crowded()[:1])
    words = ("compile", "net.safetensors", "-o", "net.spk", "--max-active")
    text = out(*words, "data", "--calibrate", "quiet.npz")
    assert "counts on at most 5 active values of 'in' in a step" in text
    assert f"out of range: {CROWD}, 3 times" in out("run", "net.spk", "--data", "data.npz")
    assert "steps more active than the overflow proof allows (in 3 times)" in out(
        "verify", "net.spk", "--data", "data.npz"
    )
    assert "U086" in out(*words, "data", code=2)
    assert "U084" in out(*words, "many", code=2)
    assert "U081" in out("compile", "net.spk", "-o", "x.spk", "--max-active", "3", code=2)
