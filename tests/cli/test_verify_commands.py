"""``verify``, ``diff``, ``attribute`` and ``sweep`` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.backends.simulator import golden
from spikec.cli.main import app
from spikec.compiler.trace import Trace
from spikec.compiler.verification.difference import Differences, Recorded
from spikec.models import save, seed_network

SAMPLES, STEPS, INPUTS, HIDDEN, CLASSES = 6, 12, 4, 7, 3
GRAPH, DATA, PROGRAM = "net.safetensors", "data.npz", "net.spk"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network and data in the current folder; plain output of any width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    rng = np.random.default_rng(0)
    graph = seed_network(
        feedforward=[rng.normal(0.3, 0.8, (HIDDEN, INPUTS)), rng.normal(0, 0.8, (CLASSES, HIDDEN))],
        recurrent=[rng.normal(0, 0.3, (HIDDEN, HIDDEN))],
        alpha=0.6,
        beta=0.8,
        dt=1e-3,
    )
    save(graph, GRAPH)
    spikes = (rng.random((SAMPLES, STEPS, INPUTS)) < 0.5).astype(np.uint8)
    np.savez(DATA, spikes=spikes, labels=np.arange(SAMPLES) % CLASSES)
    return tmp_path


def spikec(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def out(*words: str, code: int = 0) -> str:
    result = spikec(*words)
    assert result.exit_code == code, result.output
    return result.output


def as_json(*words: str, code: int = 0) -> Any:
    result = spikec(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_verify_shows_drift_certificate_and_significance() -> None:
    text = out("verify", GRAPH, "--data", DATA, "--weight-bits", "3")
    for words in ("teacher-forced", "end to end", "van Rossum", "certificate, Q -> I", "F -> I: "):
        assert words in text
    report = as_json("verify", GRAPH, "--data", DATA)
    assert report["unexplained"] == 0
    assert [item["upper"] for item in report["changes"]] == ["Q", "I"]
    assert {item["fed"] for item in report["drifts"]} == {"end to end", "teacher-forced"}
    assert all(0 < item["certified_share"] <= 1 for item in report["certificates"])


def test_a_bug_of_the_engine_that_nothing_is_compared_with_ends_with_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(golden, "decay", lambda state, factor: (state * factor + 4095) >> 12)
    text = out("verify", GRAPH, "--data", DATA, "--backends", "none", code=1)
    assert "FAILED: " in text
    assert "beyond what truncation explains" in text
    assert "unexplained voltage at sample 0" in text
    assert as_json("verify", GRAPH, "--data", DATA, "--backends", "none", code=1)["unexplained"] > 0


def labelled() -> tuple[float, float]:
    """Label more data by the float network; return by how much accuracy falls at 1 and 8 bits."""
    more = np.random.default_rng(1).random((300, STEPS, INPUTS)) < 0.5
    np.savez(DATA, spikes=more.astype(np.uint8))
    out("run", GRAPH, "--data", DATA, "-o", "float.npz", "--backend", "reference")
    data = {**np.load(DATA)}
    data["labels"] = np.load("float.npz")["predictions"].astype(np.int64)
    np.savez(DATA, **data)
    falls = []
    for bits in ("1", "8"):
        report = as_json("verify", GRAPH, "--data", DATA, "--weight-bits", bits)
        assert report["changes"][1]["upper"] == "I"
        falls.append(-report["changes"][1]["change"])
    return falls[0], falls[1]


def test_a_gate_fails_on_the_point_estimate_and_shows_the_interval() -> None:
    coarse, fine = labelled()
    assert coarse > 0.02 > fine
    words = ("verify", GRAPH, "--data", DATA, "--weight-bits")
    text = out(*words, "1", "--max-drop", "1%", code=1)
    assert "FAILED: " in text
    assert f"accuracy falls by {100 * coarse:.2f} points (95 % interval " in text
    assert "more than --max-drop 1%" in text
    assert as_json(*words, "1", "--max-drop", "1%", code=1)["refusals"]
    assert "more than" not in out(*words, "8", "--max-drop", "2%")
    assert out(*words, "1", "--max-drop", f"{100 * coarse + 0.001:.4f}%")  # equal is not beyond
    report = as_json(*words, "8", "--max-drop", "2%")
    assert (report["refusals"], report["gate"]["max_drop"]) == ([], 0.02)


def test_a_gate_needs_both_networks_and_labels() -> None:
    out("compile", GRAPH, "-o", PROGRAM)
    words = ("verify", PROGRAM, "--data", DATA)
    assert out(*words, "--require-float")
    Path(GRAPH).rename("moved.safetensors")
    text = out(*words, "--require-float", code=1)
    assert "FAILED: " in text
    assert "--require-float asks for it" in text
    assert as_json(*words, "--require-float", code=1)["passed"] is False
    text = out(*words, "--max-drop", "1%", code=2)
    assert "U123" in text
    assert "--source FILE" in text
    assert out(*words, "--require-float", "--source", "moved.safetensors")
    np.savez("bare.npz", spikes=np.load(DATA)["spikes"])
    text = out("verify", "moved.safetensors", "--data", "bare.npz", "--max-drop", "1%", code=2)
    assert "it holds no 'labels'" in text
    assert "U084" in out(*words, "--max-drop", "much", code=2)


def test_equal_traces_and_programs_do_not_differ() -> None:
    out("compile", GRAPH, "-o", PROGRAM)
    out("run", PROGRAM, "--data", DATA, "-o", "a.npz")
    out("run", PROGRAM, "--data", DATA, "-o", "b.npz", "--engine", "golden")
    assert "no difference" in out("diff", "a.npz", "b.npz")
    report = as_json("diff", PROGRAM, PROGRAM, "--data", DATA)
    assert report["same"] is True
    assert report["first"] is None
    assert (report["samples"], report["steps"]) == (SAMPLES, STEPS)
    assert len(report["quantities"]) == 4
    assert all(item["differing"] == 0 for item in report["quantities"])


def changed_trace(place: tuple[int, ...], key: str, by: int = 1) -> None:
    out("run", GRAPH, "--data", DATA, "-o", "a.npz", "--probe", "layer1:voltage")
    arrays = dict(np.load("a.npz"))
    arrays[key] = arrays[key].copy()
    arrays[key][place] += by
    np.savez("b.npz", **arrays)


def test_the_first_differing_neuron_is_named_with_both_states() -> None:
    changed_trace((3, 5, 2), "layer1/voltage", 7)
    text = out("diff", "a.npz", "b.npz", code=1)
    assert "first difference: sample 3, step 5, layer1[2]" in text
    report = as_json("diff", "a.npz", "b.npz", code=1)
    assert report["same"] is False
    first = report["first"]
    assert (first["sample"], first["step"], first["population"]) == (3, 5, "layer1")
    assert first["neuron"] == [2]
    a, b = first["states"]["a.npz"], first["states"]["b.npz"]
    lsb = float(np.load("a.npz")["layer1/lsb"])
    assert b["voltage"] - a["voltage"] == pytest.approx(7 * lsb)
    assert a["spike"] == b["spike"]
    differing = {(item["population"], item["quantity"]): item for item in report["quantities"]}
    assert differing["layer1", "voltage"]["differing"] == 1
    assert differing["layer1", "voltage"]["largest"] == 7
    assert differing["layer1", "voltage"]["differing_samples"] == 1
    assert out("diff", "a.npz", "b.npz", "--tolerance", "7")
    assert "first difference" in out("diff", "a.npz", "b.npz", "--tolerance", "6", code=1)


def test_the_earliest_step_of_the_first_sample_comes_first() -> None:
    changed_trace((2, 7, 0), "layer1/spikes")
    arrays = dict(np.load("b.npz"))
    arrays["layer2/spikes"][2, 4, 1] ^= 1
    arrays["layer1/spikes"][3, 0, 0] ^= 1
    np.savez("b.npz", **arrays)
    text = out("diff", "a.npz", "b.npz", code=1)
    assert "sample 2, step 4, layer2[1]" in text


def test_programs_of_other_weights_differ_in_spikes_and_say_what_was_not_compared() -> None:
    out("compile", GRAPH, "-o", "eight.spk")
    out("compile", GRAPH, "-o", "two.spk", "--weight-bits", "2")
    report = as_json("diff", "eight.spk", "two.spk", "--data", DATA, code=1)
    assert [item["quantity"] for item in report["quantities"]] == ["spikes", "spikes"]
    assert report["left_out"] == [
        "layer1/voltage: recorded in different units",
        "layer2/voltage: recorded in different units",
    ]
    states = report["first"]["states"]
    assert set(states) == {"eight.spk", "two.spk"}
    assert states["two.spk"]["threshold"] == pytest.approx(1.0, rel=0.01)
    assert states["eight.spk"]["spike"] != states["two.spk"]["spike"]
    network = as_json("diff", GRAPH, "two.spk", "--data", DATA, code=1)
    assert network["first"]["states"][GRAPH]["threshold"] == 1.0


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["a.npz", GRAPH, "--data", DATA], "U112"),
        ([GRAPH, GRAPH], "U112"),
        (["a.npz", "a.npz", "--data", DATA], "U081"),
        (["a.npz", "a.npz", "--samples", "3"], "U081"),
        (["a.npz", "short.npz"], "U111"),
        (["a.npz", "other.npz"], "U110"),
        (["a.npz", DATA], "F030"),
        (["a.npz", "none.npz"], "F001"),
        ([GRAPH, "none.spk", "--data", DATA], "F001"),
    ],
)
def test_what_cannot_be_compared_ends_with_2(words: list[str], code: str) -> None:
    out("run", GRAPH, "--data", DATA, "-o", "a.npz")
    out("run", GRAPH, "--data", DATA, "-o", "short.npz", "--samples", "2")
    arrays = dict(np.load("a.npz"))
    np.savez("other.npz", **{"else/spikes": arrays["layer1/spikes"], "output": ["else"]})
    document = as_json("diff", *words, code=2)
    assert {item["code"] for item in document["errors"]} == {code}


def test_units_that_do_not_fit_are_refused() -> None:
    out("run", GRAPH, "--data", DATA, "-o", "a.npz", "--probe", "layer1:voltage")
    for key, value in (("lsb", np.ones(3)), ("voltage_offset", np.ones((2, 2)))):
        np.savez("b.npz", **{**np.load("a.npz"), f"layer1/{key}": value})
        document = as_json("diff", "a.npz", "b.npz", code=2)
        assert [item["code"] for item in document["errors"]] == ["F031"]


def test_attribute_names_what_costs_most() -> None:
    text = out("attribute", GRAPH, "--data", DATA, "--weight-bits", "2")
    for words in ("everything", "membrane decay", "population 'layer1'", "give them more bits"):
        assert words in text
    report = as_json("attribute", GRAPH, "--data", DATA, "--weight-bits", "2")
    assert report["samples"] == SAMPLES
    assert len(report["alone"]) == len(report["without"]) == 8
    out("compile", GRAPH, "-o", PROGRAM, "--weight-bits", "2")
    assert as_json("attribute", PROGRAM, "--data", DATA) == report
    Path(GRAPH).rename("elsewhere.safetensors")
    document = as_json("attribute", PROGRAM, "--data", DATA, code=2)
    assert document["errors"][0]["code"] == "U113"
    found = as_json("attribute", PROGRAM, "--data", DATA, "--source", "elsewhere.safetensors")
    assert found == report


def test_a_sweep_tries_every_number_of_bits_on_every_target() -> None:
    words = ["sweep", GRAPH, "--data", DATA, "--bits", "8,2", "--targets", "loihi2,loihi1"]
    text = out(*words)
    assert "loihi1" in text
    assert "KiB" in text
    report = as_json(*words)
    points = report["points"]
    assert [(item["target"], item["bits"]) for item in points] == [
        ("loihi2", 8), ("loihi2", 2), ("loihi1", 8), ("loihi1", 2),
    ]  # fmt: skip
    weights = HIDDEN * INPUTS + HIDDEN * HIDDEN + CLASSES * HIDDEN
    assert [item["weight_bytes"] for item in points] == [weights, weights / 4] * 2
    for item in points:
        out("compile", GRAPH, "-o", PROGRAM, "--weight-bits", str(item["bits"]),
            "--target", item["target"])  # fmt: skip
        ran = as_json("run", PROGRAM, "--data", DATA)
        assert item["accuracy"] == ran["accuracy"]
        verified = as_json("verify", PROGRAM, "--data", DATA)
        assert item["agreement"] == verified["rungs"][2]["agreement"]
        assert item["change"]["lost"] == verified["changes"][1]["lost"]
    assert (
        report["accuracy"]
        == as_json("run", GRAPH, "--data", DATA, "--backend", "reference")["accuracy"]
    )


def test_the_knee_is_the_smallest_point_without_a_loss() -> None:
    report = as_json("sweep", GRAPH, "--data", DATA)
    assert len(report["points"]) == 8
    good = [item for item in report["points"] if item["change"]["high"] >= 0]
    smallest = min(good, key=lambda item: item["weight_bytes"])
    assert report["points"][report["knee"]] == smallest


def test_a_point_that_does_not_fit_says_why_and_the_others_go_on() -> None:
    rng = np.random.default_rng(0)
    save(
        seed_network(feedforward=[rng.normal(0, 1, (3, 4))], alpha=0.9999, beta=0.9),
        "slow.safetensors",
    )
    report = as_json("sweep", "slow.safetensors", "--data", DATA, "--bits", "8,1")
    assert [bool(item["refused"]) for item in report["points"]] == [True, False]
    assert report["points"][0]["accuracy"] is None
    assert "Q0" in out("sweep", "slow.safetensors", "--data", DATA, "--bits", "8,1")


def test_a_sweep_tries_every_policy() -> None:
    policies = ["max-abs", "least-squares", "fitted", "mixed"]
    words = ["sweep", GRAPH, "--data", DATA, "--bits", "4,2", "--policies", ",".join(policies),
             "--calibrate", DATA]  # fmt: skip
    points = as_json(*words)["points"]
    assert [(item["policy"], item["bits"]) for item in points] == [
        (policy, bits) for policy in policies for bits in (4, 2)
    ]
    for uniform, mixed in zip(points[4:6], points[6:8], strict=True):
        assert mixed["refused"] or mixed["weight_bytes"] <= uniform["weight_bytes"] + 1
    out("compile", GRAPH, "-o", PROGRAM, "--weight-bits", "4", "--calibrate", DATA)
    assert points[4]["accuracy"] == as_json("run", PROGRAM, "--data", DATA)["accuracy"]
    assert "least-squares" in out(*words)
    (alone,) = as_json("sweep", GRAPH, "--data", DATA, "--bits", "4")["points"]
    assert alone["policy"] == "least-squares"
    out("compile", GRAPH, "-o", PROGRAM, "--weight-bits", "4")
    assert alone["accuracy"] == as_json("run", PROGRAM, "--data", DATA)["accuracy"]


def test_the_knee_plot_is_a_picture(folder: Path) -> None:
    assert "wrote knee.png" in out(
        "sweep", GRAPH, "--data", DATA, "--bits", "8,2", "--plot", "knee.png"
    )
    assert (folder / "knee.png").read_bytes().startswith(b"\x89PNG")
    np.savez("unlabelled.npz", spikes=np.load(DATA)["spikes"])
    words = ["sweep", GRAPH, "--data", "unlabelled.npz", "--bits", "8,2", "--plot", "knee.png"]
    report = as_json(*words)
    assert report["accuracy"] is None
    assert report["points"][0]["change"] is None


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([GRAPH, "--bits", "9"], "U115"),
        ([GRAPH, "--bits", ""], "U115"),
        ([GRAPH, "--bits", "4,x"], "U115"),
        ([GRAPH, "--targets", ","], "U115"),
        ([GRAPH, "--policies", "best"], "U115"),
        ([GRAPH, "--policies", ","], "U115"),
        ([GRAPH, "--policies", "mixed"], "U116"),
        ([GRAPH, "--targets", "chip"], "U020"),
        ([GRAPH, "--plot", DATA], "U031"),
        ([PROGRAM], "F003"),
    ],
)
def test_sweeps_that_cannot_be(words: list[str], code: str) -> None:
    out("compile", GRAPH, "-o", PROGRAM)
    document = as_json("sweep", *words, "--data", DATA, code=2)
    assert [item["code"] for item in document["errors"]] == [code]


def test_equal_infinities_do_not_differ() -> None:
    volts = np.array([[[np.inf, 1.0]], [[-np.inf, np.nan]]])
    trace = Trace(values={("n", "voltage"): volts}, outputs=("n",))
    differences = Differences()
    differences.add(Recorded(name="a", trace=trace), Recorded(name="b", trace=trace))
    found = differences.report()
    assert found.first is not None
    assert (found.first.sample, found.first.neuron) == (1, (1,))  # what is no number
