"""The benchmarks run in their short form, count work as it is, and see spikes that differ."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the source tree is not beside the tests"
)


@pytest.fixture
def workloads(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import workloads

    return workloads


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import report

    return report


def small(workloads: ModuleType):
    """Return a picture, a dense layer that hears itself, and one behind it."""
    rng = np.random.default_rng(0)
    weights = [
        2 * rng.integers(-20, 30, shape).astype(np.int16)
        for shape in ((3, 2, 3, 3), (7, 48), (7, 7), (4, 7))
    ]
    layers = (
        workloads.Layer(shape=(3, 4, 4), weight=weights[0], vth=60, stride=2),
        workloads.Layer(shape=(7,), weight=weights[1], vth=90, recurrent=weights[2]),
        workloads.Layer(shape=(4,), weight=weights[3], vth=40),
    )
    spikes = (rng.random((3, 12, 2, 9, 9)) < 0.2).astype(np.uint8)
    return workloads.Workload(
        name="small", title="", input_shape=(2, 9, 9), layers=layers, spikes=spikes
    )


def test_the_short_form_runs_and_all_spikes_agree(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "run.py", "--quick", "--no-install", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert {check["workload"] for check in results["checks"]} == {"W1", "W2", "W3"}
    for check in results["checks"]:
        assert {"spikec fast", "NumPy rows"} <= set(check["tools"])
        assert all(0.02 < rate < 0.1 for rate in check["rates"])
    assert "| W1 | spikec fast |" in (tmp_path / "results.md").read_text(encoding="utf-8")


def test_operations_are_the_synapses_that_spikes_reach(workloads: ModuleType) -> None:
    work = small(workloads)
    trace = workloads.simulated(work)
    count = 0
    pictures = work.spikes.reshape(-1, 2, 9, 9)
    for _, channel, y, x in np.argwhere(pictures):
        for oy, ox in np.ndindex(4, 4):
            reached = 0 <= y - 2 * oy < 3 and 0 <= x - 2 * ox < 3
            count += 3 * reached * (channel < 2)
    count += int(trace["layer0", "spikes"].sum()) * 7
    count += int(trace["layer1", "spikes"].sum()) * (7 + 4)
    assert trace["layer1", "spikes"].any()
    found = workloads.operations(work, trace)
    assert found["sop"] * 3 == pytest.approx(count)
    assert found["updates"] == (48 + 7 + 4) * 12


def test_a_workload_comes_back_from_its_file(workloads: ModuleType, tmp_path: Path) -> None:
    work = small(workloads)
    path = tmp_path / "small.npz"
    work.save(path)
    before, after = workloads.simulated(work), workloads.simulated(workloads.Workload.load(path))
    for probe, values in before.values.items():
        np.testing.assert_array_equal(after[probe], values)


def test_thresholds_are_tuned_layer_by_layer(workloads: ModuleType) -> None:
    work = small(workloads)
    work = replace(work, spikes=np.tile(work.spikes, (1, 20, 1, 1, 1)))
    tuned = workloads.tuned(work, 0.1)
    trace = workloads.simulated(tuned)
    assert trace["layer0", "spikes"].mean() == pytest.approx(0.1, abs=0.03)


def test_a_peer_that_ends_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from tools import Child, Tool

    broken = Tool(name="none", environment="spikec", script="no_such_script.py")
    with Child(broken, sys.executable, 1, tmp_path / "log") as child:
        assert "its process ended" in child.error
    assert "no_such_script" in (tmp_path / "log").read_text(encoding="utf-8")


def test_spikes_that_differ_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from run import _differences

    same = {"exact": True, "equal": [True, True]}
    other = {"exact": True, "equal": [True, False]}
    rounded = {"exact": False, "equal": [False, False]}
    results = {
        "checks": [
            {"workload": "W1", "events": {}, "tools": {"a": same, "b": other, "c": rounded}},
            {"workload": "W2", "events": {"layer0/current wrapped": 1}, "tools": {"a": same}},
        ],
        "trained": {"zoo": {"equal": {"fast": False}, "lava": "DIFFERENT"}},
    }
    assert _differences(results) == [
        "W1: b", "W2: {'layer0/current wrapped': 1}", "zoo: fast", "zoo: Lava",
    ]  # fmt: skip


def test_a_ratio_is_the_peers_time_over_ours(report: ModuleType) -> None:
    times = {"wall": [2.0, 4.0, 3.0], "processor": [1.0, 1.0, 1.0]}
    ours = {"wall": [0.5, 0.5, 0.5], "processor": [0.25, 0.25, 0.25]}
    case = {"threads": 1, "tools": {"peer": times, "spikec fast": ours}}
    assert report._ratio(case, "peer", "spikec fast") == "6 (4)"
    assert report._ratio({**case, "threads": 2}, "peer", "spikec fast") == "6"
    assert report._ratio(case, "peer", "spikec c") == "-"
