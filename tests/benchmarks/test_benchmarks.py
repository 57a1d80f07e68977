"""The benchmarks run in their short form, count work as it is, and see spikes that differ."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the source tree is not beside the tests"),
]


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
    largest = max(int(np.abs(layer.weight).max()) for layer in work.layers)
    assert found["together"] == 127 // (largest // 2)


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


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Return a function that starts a process of a script written here, as a tool."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import tools

    (tmp_path / "peers").mkdir()
    monkeypatch.setattr(tools, "HERE", tmp_path)
    with ExitStack() as stack:

        def start(code: str, **options: Any) -> Any:
            (tmp_path / "peers" / "fake.py").write_text(code, encoding="utf-8")
            tool = tools.Tool(name="fake", environment="spikec", script="fake.py", **options)
            return stack.enter_context(tools.Child(tool, sys.executable, 1, tmp_path / "log"))

        yield start


READY = """
import json, sys, time
def say(**values):
    print(json.dumps(values), flush=True)
say(ready=True, versions={"fake": "1"})
"""


def test_a_peer_that_ends_is_an_answer(fake: Any, tmp_path: Path) -> None:
    child = fake("raise SystemExit('no such library')")
    assert "its process ended" in child.error
    assert "its process ended" in child.ask(calls=1)["error"]
    assert "no such library" in (tmp_path / "log").read_text(encoding="utf-8")


def test_a_peer_that_ends_in_the_middle_is_an_answer(fake: Any) -> None:
    child = fake(READY + "sys.stdin.readline(); say(took=1); sys.stdin.readline()")
    assert child.versions == {"fake": "1"}
    assert child.ask(calls=1) == {"took": 1}
    assert "its process ended" in child.ask(calls=1)["error"]


def test_a_peer_that_hangs_is_ended(fake: Any) -> None:
    child = fake(READY + "time.sleep(1000)", patience=60)
    object.__setattr__(child.tool, "patience", 0.2)
    assert "no answer in 0.2 s" in child.ask(calls=1)["error"]
    assert child._process.wait(timeout=10) < 0


def test_what_a_peer_prints_is_no_answer(fake: Any) -> None:
    child = fake(READY + "sys.stdin.readline(); print('welcome', flush=True); say(took=2)")
    assert child.ask(calls=1) == {"took": 2}


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """Return a session whose only tools are scripts of the test."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import session
    import tools

    (tmp_path / "peers").mkdir()
    monkeypatch.setattr(tools, "HERE", tmp_path)
    monkeypatch.setattr(session, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(session, "measured", lambda _: {})
    codes = {
        "good": READY + "for _ in sys.stdin: say(wall=[0.5], processor=[0.25], took=0.5)",
        "failing": READY + "for _ in sys.stdin: say(error='out of memory')",
        "ending": READY + "sys.stdin.readline()",
        "hanging": READY + "time.sleep(1000)",
    }
    made = {}
    for name, code in codes.items():
        (tmp_path / "peers" / f"{name}.py").write_text(code, encoding="utf-8")
        patience = 3 if name == "hanging" else 60
        made[name] = tools.Tool(
            name=name, environment="spikec", script=f"{name}.py", patience=patience
        )
    monkeypatch.setattr(session, "BY_NAME", made)
    with ExitStack() as stack:
        yield session.Session(stack)


def case_of(workloads: ModuleType, **values: Any) -> Any:
    from cases import Case

    return Case(
        **{"workload": "small", "make": lambda: small(workloads), "tools": ("good",), **values}
    )


def test_a_peer_that_fails_does_not_cost_the_others_figures(
    session: Any, workloads: ModuleType
) -> None:
    case = case_of(workloads, tools=("ending", "failing", "hanging", "good"))
    found = session.measure(case)
    assert set(found["tools"]) == {"good"}
    assert found["refused"]["failing"] == "out of memory"
    assert "its process ended" in found["refused"]["ending"]
    assert "no answer" in found["refused"]["hanging"]
    # One that hung is not asked again, one that ended is, once.
    assert set(session.missing) == {"hanging"}
    session.measure(case_of(workloads, tools=("ending", "hanging")))
    assert set(session.missing) == {"ending", "hanging"}


def test_a_peer_that_cannot_be_installed_is_left_out_with_the_reason(
    session: Any,
    workloads: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import session as module

    there = module.python_of
    monkeypatch.setattr(
        module, "python_of",
        lambda group, *rest, **options: ("", "no Python 3.10") if group == "brian2-loihi"
        else there(group, *rest, **options),
    )  # fmt: skip
    absent = replace(module.BY_NAME["good"], name="absent", environment="brian2-loihi")
    monkeypatch.setitem(module.BY_NAME, "absent", absent)
    found = session.measure(case_of(workloads, tools=("absent", "good")))
    assert set(found["tools"]) == {"good"}
    assert session.missing == {"absent": "no Python 3.10"}
    assert "without absent: no Python 3.10" in capsys.readouterr().out


def test_a_slow_tool_is_timed_once_or_twice_and_a_fast_one_in_every_round(
    workloads: ModuleType,
) -> None:
    from session import Turns

    case = case_of(workloads, rounds=5, seconds=2.5)
    slow, slowest, fast = Turns(), Turns(), Turns()
    slow.plan(4.0, case, {"wall": [4.0], "processor": [4.0]})
    slowest.plan(11.0, case, {"wall": [11.0], "processor": [11.0]})
    fast.plan(0.001, case, {"wall": [0.001], "processor": [0.001]})
    assert (slow.calls, slow.turns, slow.times["wall"]) == (1, 1, [4.0])
    assert (fast.calls, fast.turns, fast.times["wall"]) == (64, 5, [])
    assert (slowest.turns, slowest.times["wall"]) == (0, [11.0])
    for turns in (slow, slowest, fast):
        asked = sum(turns.due(turn, case.rounds) for turn in range(1, case.rounds + 1))
        assert asked == turns.turns


def test_spikes_in_common_are_found_a_few_steps_early(session: Any) -> None:
    from session import compared
    from tools import Tool

    rng = np.random.default_rng(0)
    golden = [(rng.random((30, 8)) < 0.3).astype(np.uint8) for _ in range(2)]
    early = [np.roll(layer, -steps, axis=0) for layer, steps in zip(golden, (1, 3), strict=True)]
    tool = Tool(name="t", environment="torch", script="t.py", early=(1, 2))
    assert compared(tool, early, golden)["common"] == [1, 1]
    late = Tool(name="t", environment="torch", script="t.py", early=(-1, 0))
    shifted = [np.roll(layer, 1, axis=0) for layer in golden]
    assert compared(late, shifted, golden)["common"] == [1, 1]
    found = compared(tool, golden, golden)
    assert found["equal"] == [True, True]
    assert max(found["common"]) < 0.5
    assert "common" not in compared(
        Tool(name="t", environment="torch", script="t.py", exact=True), golden, golden
    )


@pytest.fixture
def run_of(session: Any, workloads: ModuleType, tmp_path: Path) -> Any:
    """Return a function that makes a run of the session, from what was found before."""
    import run

    def make(**results: Any) -> Any:
        whole = {**run._empty("standard", session), **results}
        return run.Run(session, whole, tmp_path / "partial.json")

    return make


def test_a_part_that_fails_is_named_and_the_others_are_kept(
    run_of: Any, workloads: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of()
    broken = case_of(workloads, workload="broken", make=lambda: 1 / 0, batch=2)
    run.cases([broken, case_of(workloads, batch=2)], minutes=10)
    kept = json.loads((tmp_path / "partial.json").read_text(encoding="utf-8"))
    assert [case["label"] for case in kept["cases"]] == ["small batch 2"]
    assert kept["failed"] == {"broken batch 2": "ZeroDivisionError: division by zero"}
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_resumed_run_measures_what_is_left(run_of: Any, workloads: ModuleType) -> None:
    cases = [case_of(workloads, batch=batch) for batch in (2, 3)]
    first = run_of()
    first.cases(cases[:1], minutes=10)
    second = run_of(**json.loads(first.path.read_text(encoding="utf-8")))
    second.cases(cases, minutes=10)
    assert [case["label"] for case in second.results["cases"]] == ["small batch 2", "small batch 3"]
    assert second.results["cases"][0] == json.loads(first.path.read_text("utf-8"))["cases"][0]


def test_cases_that_time_does_not_suffice_for_are_named(run_of: Any, workloads: ModuleType) -> None:
    run = run_of()
    run.cases([case_of(workloads, batch=2)], minutes=-1)
    assert run.results["skipped"] == ["small batch 2"]
    assert not run.results["cases"]


def test_a_report_is_written_of_what_an_unfinished_run_found(
    run_of: Any, report: ModuleType, workloads: ModuleType, tmp_path: Path
) -> None:
    run = run_of()
    run.cases([case_of(workloads, batch=2, curve="batch", at=2)], minutes=10)
    report.write(json.loads(run.path.read_text(encoding="utf-8")), tmp_path)
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "| samples in a call (W1) | 2 |" in text
    assert "| good | 250 |" in text


def test_cases_are_chosen_by_workload_label_and_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from cases import chosen, standard

    labels = [case.label for case in standard()]
    assert len(set(labels)) == len(labels)
    assert {case.batch for case in chosen(standard(), workloads="W1")} >= {1, 64, 256}
    found = chosen(standard(), labels="W? batch 256 threads 2,steps *", tools="spikec fast,Lava")
    assert [case.label for case in found] == [
        "W1 batch 256 threads 2", "W2 batch 256 threads 2", "W3 batch 256 threads 2",
        "steps 10", "steps 30", "steps 100", "steps 300", "steps 1000",
    ]  # fmt: skip
    assert {name for case in found for name in case.tools} == {"spikec fast", "Lava"}
    assert not chosen(standard(), tools="no such tool")


def test_every_tool_has_a_script_and_an_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from environments import GROUPS
    from tools import TOOLS

    for tool in TOOLS:
        assert (FOLDER / "peers" / tool.script).is_file()
        assert tool.environment in {*GROUPS, "spikec", "lava"}


def test_a_batch_reuses_weights_that_one_sample_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from bound import bound_seconds

    rates = {"add_L1": 100.0, "add_L2": 50.0, "add_L3": 10.0, "small_L1": 200.0, "small_L2": 80.0,
             "small_L3": 20.0, "product": 0.0, "update": 1e9, "scan_place": 0.0,
             "scan_spike": 0.0}  # fmt: skip
    work = {"sop": float(1 << 24), "mac": 0.0, "updates": 0.0, "scanned": 0.0, "events": 0.0}
    for together, slow, fast in ((1.0, 10, 100), (7.0, 20, 200)):
        alone, shared = (
            bound_seconds(rates, {**work, "together": together}, 1 << 24, batch)
            for batch in (1, 64)
        )
        assert alone == pytest.approx((1 << 24) / slow)
        assert shared == pytest.approx((1 << 24) / fast)


def test_spikes_that_differ_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from run import _differences

    near = {"exact": False, "equal": [False], "common": [0.9]}
    far = {"exact": False, "equal": [False], "common": [0.1]}
    same = {"exact": True, "equal": [True, True]}
    other = {"exact": True, "equal": [True, False]}
    rounded = {"exact": False, "equal": [False, False]}
    results = {
        "checks": [
            {
                "workload": "W1",
                "events": {},
                "tools": {"a": same, "b": other, "c": rounded, "d": near, "e": far},
            },
            {"workload": "W2", "events": {"layer0/current wrapped": 1}, "tools": {"a": same}},
        ],
        "trained": {"zoo": {"equal": {"fast": False}, "lava": "DIFFERENT"}},
    }
    assert _differences(results) == [
        "W1: b", "W1: e", "W2: {'layer0/current wrapped': 1}", "zoo: fast", "zoo: Lava",
    ]  # fmt: skip


def test_a_ratio_is_the_peers_time_over_ours(report: ModuleType) -> None:
    times = {"wall": [2.0, 4.0, 3.0], "processor": [1.0, 1.0, 1.0]}
    ours = {"wall": [0.5, 0.5, 0.5], "processor": [0.25, 0.25, 0.25]}
    case = {"threads": 1, "tools": {"peer": times, "spikec fast": ours}}
    assert report._ratio(case, "peer", "spikec fast") == "6 (4)"
    assert report._ratio({**case, "threads": 2}, "peer", "spikec fast") == "6"
    assert report._ratio(case, "peer", "spikec c") == "-"
