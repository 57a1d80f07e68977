"""Options as they are typed: none is ignored, and what cannot be written is refused at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support.nir_networks import Net
from support.relu_networks import mlp_model, saved
from typer.testing import CliRunner

from spikec.cli import emission
from spikec.cli.main import app
from spikec.compiler.errors import UsageError
from spikec.compiler.files import write_atomically
from spikec.compiler.program import Program
from spikec.models import dense, network, save, seed_lif, seed_network, seed_readout, spikes

SAMPLES, STEPS, INPUTS, CLASSES = 6, 8, 4, 3
GRAPH, DATA, PROGRAM, TRACE = "net.safetensors", "data.npz", "net.spk", "trace.npz"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network, its program and data in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    rng = np.random.default_rng(0)
    weights = [rng.normal(0.3, 0.8, (5, INPUTS)), rng.normal(0, 0.8, (CLASSES, 5))]
    save(seed_network(feedforward=weights, alpha=0.6, beta=0.8, dt=1e-3), GRAPH)
    write_data(np.arange(SAMPLES) % CLASSES)
    return tmp_path


def write_data(labels: Any, name: str = DATA) -> None:
    rng = np.random.default_rng(1)
    spikes = (rng.random((len(labels), STEPS, INPUTS)) < 0.5).astype(np.uint8)
    np.savez(name, spikes=spikes, labels=labels)


def fine(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


def errors(*words: str) -> list[dict[str, str]]:
    result = CliRunner().invoke(app, [*words, "--json"])
    assert result.exit_code == 2, result.output
    found: list[dict[str, str]] = json.loads(result.stdout)["errors"]
    return found


def codes(*words: str) -> list[tuple[str, str]]:
    return [(item["code"], item["where"]) for item in errors(*words)]


# What would do nothing


@pytest.mark.parametrize(
    "command",
    [["verify"], ["verify", "--backends", "simulator,c"], ["verify", "--backends", "none"],
     ["run"], ["run", "--backend", "c"], ["run", "--backend", "reference"],
     ["run", "--events", "e.npz"]],
)  # fmt: skip
def test_options_of_lava_are_for_lava(command: list[str]) -> None:
    options = {"--lava-python": "python3.10", "--time-limit": "5"}
    options |= {"--backend-samples": "3"} if command[0] == "verify" else {}
    words = [word for option in options.items() for word in option]
    found = codes(*command, GRAPH, "--data", DATA, *words)
    assert found == [("U081", f"option {name}") for name in options]


@pytest.mark.parametrize(
    "option",
    [
        ["--dt", "0.1"],
        ["--reset", "zero"],
        ["--profile", "norse"],
        ["--max-spikes", "2"],
        ["--v-reset", "0"],
        ["--profile-defaults"],
    ],
)
def test_traces_are_not_read_as_networks_are(option: list[str]) -> None:
    fine("run", GRAPH, "--data", DATA, "-o", TRACE)
    fine("diff", TRACE, TRACE)
    assert codes("diff", TRACE, TRACE, *option) == [("U081", f"option {option[0]}")]


@pytest.mark.parametrize("command", [["check"], ["emit", "-o", "out"]])
def test_steps_of_calibration_data_are_for_every_command_that_calibrates(
    command: list[str],
) -> None:
    """An integrator that sums up needs them, as the error without them says."""
    graph = network(
        nodes=[spikes("in", 2), seed_readout("sum", 2, alpha=None, beta=1.0)],
        edges=[dense("in", "sum", [[1.0, -1.0], [0.0, 0.5]], delay=0)],
        outputs=["sum"],
    )
    save(graph, "sum.safetensors")
    np.savez("one.npz", spikes=np.eye(2, dtype=np.uint8))
    words = [*command, "sum.safetensors"]
    assert codes(*words, "--steps", "9") == [("U081", "option --steps")]
    (error,) = errors(*words, "--calibrate", "one.npz", "--steps", "1")
    assert "add --steps N" in error["hint"]
    result = CliRunner().invoke(app, [*words, "--calibrate", "one.npz", "--steps", "9"])
    assert result.exit_code in (0, 1), result.output  # 1: not all of it is stock


def test_the_zoo_copies_only_what_is_named() -> None:
    assert "mnist-recurrent" in fine("zoo")
    expected = [("U081", "option --output"), ("U081", "option --samples")]
    assert codes("zoo", "-o", "there", "--samples", "3") == expected
    assert not Path("there").exists()


# Which backends


def test_no_backend_is_what_one_asks_for() -> None:
    report = json.loads(fine("verify", GRAPH, "--data", DATA, "--backends", "none", "--json"))
    assert [rung["name"] for rung in report["rungs"]] == ["F", "Q", "I"]
    assert "no backend was compared" in fine("verify", GRAPH, "--data", DATA, "--backends", "none")
    assert "or none" in " ".join(fine("verify", "--help").replace("│", "").split())
    twice = fine("verify", GRAPH, "--data", DATA, "--backends", "c , simulator,c", "--json")
    assert [rung["name"] for rung in json.loads(twice)["rungs"]] == [
        "F",
        "Q",
        "I",
        "c",
        "simulator",
    ]


@pytest.mark.parametrize("names", ["", " ", "simulator,", "none,simulator", "Lava", "chip"])
def test_backends_that_are_none_are_refused_before_anything_is_read(names: str) -> None:
    ((code, where),) = codes("verify", "nothing", "--data", "nothing", "--backends", names)
    assert (code, where) == ("U070", f"option --backends '{names}'")


# Labels

LABELLED = {
    "run": ["run", GRAPH, "--data", "bad.npz"],
    "reference": ["run", GRAPH, "--data", "bad.npz", "--backend", "reference"],
    "program": ["run", PROGRAM, "--data", "bad.npz"],
    "events": ["run", GRAPH, "--data", "bad.npz", "--events", "events.npz"],
    "verify": ["verify", GRAPH, "--data", "bad.npz", "--report", "report.md"],
    "sweep": ["sweep", GRAPH, "--data", "bad.npz"],
    "attribute": ["attribute", GRAPH, "--data", "bad.npz"],
    "diff": ["diff", GRAPH, PROGRAM, "--data", "bad.npz"],
    "map": ["map", GRAPH, "--data", "bad.npz"],
    "budget": ["compile", GRAPH, "-o", "x.spk", "--budget", "1KiB", "--calibrate", "bad.npz"],
    "drop": ["compile", GRAPH, "-o", "x.spk", "--max-drop", "1%", "--calibrate", "bad.npz"],
}


@pytest.mark.parametrize("case", LABELLED)
def test_labels_that_no_output_can_give_are_refused(case: str, folder: Path) -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    write_data(np.array([0, 2, CLASSES, 1, CLASSES + 7, 0]), "bad.npz")
    before = set(folder.iterdir())
    (error,) = errors(*LABELLED[case])
    assert (error["code"], error["where"]) == ("U045", "bad.npz, 'labels'")
    assert (
        error["message"] == "sample 2 has label 3, and 1 more that cannot be; there are 3 outputs"
    )
    assert "from 0 to 2" in error["hint"]
    assert set(folder.iterdir()) == before


def test_a_label_below_0_is_refused_and_the_last_class_is_not() -> None:
    write_data(np.array([CLASSES - 1, -1]), "bad.npz")
    (error,) = errors("verify", GRAPH, "--data", "bad.npz")
    assert error["message"] == "sample 1 has label -1; there are 3 outputs"
    write_data(np.array([CLASSES - 1, 0], np.uint8), "good.npz")
    fine("verify", GRAPH, "--data", "good.npz")


def test_labels_of_a_conversion_are_looked_at_too(folder: Path) -> None:
    rng = np.random.default_rng(0)
    saved(mlp_model([rng.normal(0, 0.7, (8, 5)), rng.normal(0, 0.7, (3, 8))],
                    [np.zeros(8), np.zeros(3)]), folder)  # fmt: skip
    images = rng.random((9, 5)).astype(np.float32)
    np.savez("good.npz", spikes=images, labels=np.arange(9) % 3)
    np.savez("bad.npz", spikes=images, labels=np.arange(9) % 4)
    words = ["convert", "some.onnx", "out.safetensors", "--convert", "rate", "--data"]
    assert codes(*words, "bad.npz") == [("U045", "bad.npz, 'labels'")]
    assert codes(*words, "good.npz", "--test", "bad.npz") == [("U045", "bad.npz, 'labels'")]
    assert not Path("out.safetensors").exists()


# Where results go: refused before anything is read

ENDINGS = {
    "--svg": ["inspect", "nothing", "--svg", "net.png"],
    "-o": ["run", "nothing", "--data", "nothing", "-o", "trace.csv"],
    "--events": ["run", "nothing", "--data", "nothing", "--events", "events"],
    "--plot": ["sweep", "nothing", "--data", "nothing", "--plot", "knee.pdf"],
    "--report": ["verify", "nothing", "--data", "nothing", "--report", "report.pdf"],
    "TO": ["convert", "nothing", "net.txt"],
}


@pytest.mark.parametrize("option", ENDINGS)
def test_an_ending_that_promises_something_else_is_refused(option: str) -> None:
    (error,) = errors(*ENDINGS[option])
    assert error["code"] in ("U033", "U120", "U090")
    assert ENDINGS[option][-1] in error["where"]
    assert any(ending in error["hint"] for ending in (".svg", ".npz", ".png", ".html", ".onnx"))


WRITING = {
    "inspect": ["inspect", "nothing", "--svg", "{}.svg"],
    "compile": ["compile", "nothing", "-o", "{}.spk"],
    "run": ["run", "nothing", "--data", "nothing", "-o", "{}.npz"],
    "events": ["run", "nothing", "--data", "nothing", "--events", "{}.npz"],
    "sweep": ["sweep", "nothing", "--data", "nothing", "--plot", "{}.png"],
    "verify": ["verify", "nothing", "--data", "nothing", "--report", "{}.md"],
    "map": ["map", "nothing", "-o", "{}.spk"],
    "convert": ["convert", "nothing", "{}.safetensors"],
    "emit": ["emit", "nothing", "-o", "{}.folder"],
}


@pytest.mark.parametrize("command", WRITING)
def test_a_place_that_cannot_be_written_is_refused_at_once(command: str) -> None:
    *words, place = WRITING[command]
    (error,) = errors(*words, place.format("no/there"))
    assert error["message"] == "cannot write there: there is no such folder"
    blocked = Path(place.format("blocked"))
    blocked.write_text("a file") if command == "emit" else blocked.mkdir()
    (error,) = errors(*words, str(blocked))
    kind = "not a directory" if command == "emit" else "it is a folder"
    assert kind in error["message"]


@pytest.mark.parametrize("command", [name for name in WRITING if name != "emit"])
def test_a_pipe_or_a_device_is_not_replaced_by_a_file(command: str) -> None:
    *words, place = WRITING[command]
    pipe = Path(place.format("pipe"))
    os.mkfifo(pipe)  # as a device: renaming a file onto it would do away with it
    (error,) = errors(*words, str(pipe))
    assert error["message"] == "cannot write there: it is a device or a pipe, not a file"
    with pytest.raises(UsageError, match="a device or a pipe"):
        write_atomically(pipe, b"")
    assert pipe.is_fifo()


def test_calibration_data_are_not_written_over() -> None:
    words = ["run", GRAPH, "--data", DATA, "--calibrate", "other.npz", "-o", "other.npz"]
    write_data(np.zeros(3, int), "other.npz")
    assert codes(*words) == [("U031", "other.npz")]


# Files that are none


@pytest.mark.parametrize(
    "words",
    [["inspect", "here"], ["run", GRAPH, "--data", "here"], ["diff", "here.npz", "here.npz"],
     ["compile", GRAPH, "-o", "x.spk", "--calibrate", "here"],
     ["convert", "here", "x.safetensors", "--convert", "rate", "--data", DATA]],
)  # fmt: skip
def test_a_folder_is_called_a_folder(words: list[str]) -> None:
    Path("here").mkdir()
    Path("here.npz").mkdir()
    (error,) = errors(*words)
    assert error["code"] == "F001"
    assert error["message"] == "it is a folder, not a file"


def test_an_empty_file_is_called_empty() -> None:
    Path("empty.spk").touch()
    (error,) = errors("inspect", "empty.spk")
    assert (error["code"], error["message"]) == ("F002", "it is empty")
    Path("half.spk").write_bytes(Path(GRAPH).read_bytes()[:100])
    (error,) = errors("inspect", "half.spk")
    assert "if they are whole" in error["hint"]


def test_few_samples_promise_little() -> None:
    """Of 3 equal answers, at 95 %: a change of 63 % of all shows in none of 3 once in 20 times."""
    text = fine("verify", GRAPH, "--data", DATA, "--samples", "3")
    assert pytest.approx((1 - 0.6316) ** 3, rel=1e-3) == 0.05
    assert "no sample turned right or wrong; at 95 % fewer than 63 % of all would" in text


def test_calibration_data_shorter_than_a_delay_say_what_they_do_not_show() -> None:
    rng = np.random.default_rng(0)
    graph = network(
        nodes=[spikes("in", 4), seed_lif("late", 3, alpha=0.5, beta=0.8)],
        edges=[dense("in", "late", rng.normal(0.3, 0.5, (3, 4)), delay=12, name="far")],
        outputs=["late"],
    )
    save(graph, "late.safetensors")
    result = CliRunner().invoke(
        app, ["compile", "late.safetensors", "-o", "late.spk", "--calibrate", DATA]
    )
    assert result.exit_code == 0, result.output
    assert f"{DATA}: 8 steps show nothing of edge 'far', whose delay is 12" in result.stderr


def test_any_emitter_describes_what_it_wrote(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more needs an entry in EMITTERS and a module with the schema of its folders."""
    module = SimpleNamespace(SCHEMA="spikec.fpga")
    monkeypatch.setitem(sys.modules, "spikec.backends.fpga.emit", module)

    def emitter(program: Program, output: Path, wishes: emission.Wishes) -> emission.Emitted:
        output.mkdir()
        return emission.Emitted(said={"gates": program.num_neurons}, lines=("it fits",))

    monkeypatch.setitem(emission.EMITTERS, "fpga", emitter)
    words = ["emit", GRAPH, "--backend", "fpga", "-o"]
    assert "it fits" in fine(*words, "one")
    assert json.loads(fine(*words, "two", "--json")) == {"output": "two", "gates": 8}


# What overrides a profile


def write_snntorch(name: str) -> None:
    """Write snnTorch's Synaptic as it does at its step of 1e-4 s: alpha 0.8, beta 0.95."""
    ones, step = np.ones(CLASSES), 1e-4
    neuron = {
        "type": "CubaLIF", "tau_syn": 5e-4 * ones, "tau_mem": 2e-3 * ones,
        "r": 2e-3 / step * ones, "w_in": 5e-4 / step * ones, "v_leak": 0 * ones,
        "v_threshold": ones, "v_reset": 0 * ones,
    }  # fmt: skip
    weights = np.random.default_rng(2).normal(0.3, 0.8, (CLASSES, INPUTS))
    nodes = {
        "in": {"type": "Input", "shape": np.array([INPUTS])},
        "fc": {"type": "Affine", "weight": weights, "bias": 0 * ones},
        "lif": neuron,
        "out": {"type": "Output", "shape": np.array([CLASSES])},
    }
    Net(nodes=nodes, edges=(("in", "fc"), ("fc", "lif"), ("lif", "out"))).save(Path(name))


def test_what_overrides_a_profile_is_listed_by_compile_verify_and_reports() -> None:
    write_snntorch("net.nir")
    read = ["--profile", "snntorch", "--profile-defaults"]
    other = ["--compare", ">=", "--reset-order", "lif=at_spike"]
    order = "reset order of 'lif' is at_spike: option --reset-order"
    expected = [
        "compare is >=: option --compare, over profile 'snntorch': >",
        f"{order}, over profile 'snntorch': next_step",
    ]
    compiled = ["compile", "net.nir", "-o", PROGRAM, *read]
    shown = fine(*compiled, *other)
    assert all(line in shown for line in expected)
    assert json.loads(fine(*compiled, *other, "--json"))["overrides"] == expected
    verify = ["verify", "net.nir", "--data", DATA, "--backends", "none", *read]
    for words in ([*verify, *other, "--report", "r.html"], ["verify", PROGRAM, *verify[2:6]]):
        shown = fine(*words)
        assert all(line in shown for line in expected)
    assert set(expected) <= set(json.loads(fine(*verify, *other, "--json"))["notes"])
    assert "over profile &#x27;snntorch&#x27;: &gt;" in Path("r.html").read_text()
    assert "over profile" not in fine(*verify, "--compare", ">")
    assert json.loads(fine(*compiled, "--json"))["overrides"] == []


def test_a_time_step_that_empties_a_profile_s_decays_is_refused() -> None:
    write_snntorch("net.nir")
    words = ["--profile", "snntorch", "--profile-defaults", "--dt", "1e-3"]
    found = errors("compile", "net.nir", "-o", PROGRAM, *words)
    assert [item["code"] for item in found] == ["F117"]
    assert "--dt 0.0001" in found[0]["hint"]
