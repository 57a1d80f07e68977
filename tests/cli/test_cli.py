"""The command line: what it prints, where it writes, how it fails."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.relu_networks import mlp_model, saved
from typer.testing import CliRunner

from spikec.backends.lava import environment
from spikec.backends.simulator.engine import SimulatorBackend, SimulatorExecutable
from spikec.cli.main import app
from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.backend import Progress
from spikec.compiler.container import read_container, read_header, write_container
from spikec.compiler.event_file import read_events
from spikec.compiler.ir import Graph
from spikec.compiler.program import Program
from spikec.compiler.program_file import read_program
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.trace_file import read_trace
from spikec.models import dense, network, save, seed_lif, seed_network, seed_readout, spikes

SAMPLES, STEPS, INPUTS, HIDDEN, CLASSES = 6, 10, 4, 7, 3
GRAPH, DATA, PROGRAM = "net.safetensors", "data.npz", "net.spk"


def spiking_network(*, readout: bool = False, seed: int = 0) -> Graph:
    rng = np.random.default_rng(seed)
    return seed_network(
        feedforward=[rng.normal(0.3, 0.8, (HIDDEN, INPUTS)), rng.normal(0, 0.8, (CLASSES, HIDDEN))],
        recurrent=[rng.normal(0, 0.3, (HIDDEN, HIDDEN))],
        alpha=0.6,
        beta=0.8,
        readout=readout,
        dt=1e-3,
    )


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two networks and data, as the current one; plain output of any width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    save(spiking_network(), GRAPH)
    save(spiking_network(readout=True), "readout.safetensors")
    np.savez(DATA, spikes=some_spikes(), labels=np.arange(SAMPLES) % CLASSES)
    return tmp_path


def some_spikes() -> Array:
    return (np.random.default_rng(1).random((SAMPLES, STEPS, INPUTS)) < 0.5).astype(np.uint8)


def spikec(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def fine(*words: str) -> str:
    result = spikec(*words)
    assert result.exit_code == 0, result.output
    return result.stdout


def as_json(*words: str) -> Any:
    """Run a command with ``--json``: one document, and nothing else on either stream."""
    result = spikec(*words, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def failed(*words: str, code: int = 2) -> str:
    """Run a command that must fail, plainly and as JSON; return its message in one line."""
    plain = spikec(*words)
    assert plain.exit_code == code, plain.output
    assert plain.stdout == ""
    assert "Traceback" not in plain.stderr
    document = spikec(*words, "--json")
    assert document.exit_code == code
    assert document.stderr == ""
    errors = json.loads(document.stdout)["errors"]
    for error in errors:
        assert set(error) == {"code", "where", "message", "hint"}
        assert f"{error['code']} at {error['where']}: {error['message']}" in plain.stderr
    return " ".join(plain.stderr.split())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("inspect", "net.spk", "--bogus"), "--bogus"),
        (("inspect",), "FILE"),
        (("bogus",), "bogus"),
        (("compile", "a.onnx", "-o", "b.spk", "--dt", "abc"), "--dt"),
    ],
)
def test_a_usage_error_is_a_json_document_too(words: tuple[str, ...], says: str) -> None:
    plain = spikec(*words)
    assert (plain.exit_code, plain.stdout) == (2, "")
    found = spikec(*words, "--json")
    assert (found.exit_code, found.stderr) == (2, "")
    (error,) = json.loads(found.stdout)["errors"]
    assert error["code"] == "U001"
    assert says in error["message"]


# What each command says


def test_inspect_shows_every_part_of_a_network() -> None:
    text = fine("inspect", GRAPH)
    for word in ("input", "layer1", "layer2", "W1", "V1", "W2", "subtract/next_step", "0.001 s"):
        assert word in text
    found = as_json("inspect", GRAPH)
    assert found["kind"] == "graph"
    assert [node["name"] for node in found["nodes"]] == ["input", "layer1", "layer2"]
    assert [edge["delay"] for edge in found["edges"]] == [0, 1, 1]
    assert found["nodes"][1]["switches"]["reset"] == "subtract/next_step"
    assert found["choices"][0]["origin"] == "the seed model"


def test_inspect_shows_the_integers_of_a_program() -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    program = read_program(PROGRAM)
    shown = fine("inspect", PROGRAM)
    assert "program for loihi2" in shown
    assert "overflow margin" in shown  # what compile reported
    found = as_json("inspect", PROGRAM)
    assert found["kind"] == "program"
    assert [item["weight_exp"] for item in found["connections"]] == [
        item.weight_exp for item in program.connections
    ]
    assert found["populations"][0]["parameters"]["du"] == str(program.populations[0].du[0])


def test_compile_writes_a_program_and_reports_what_was_lost() -> None:
    document = as_json("compile", GRAPH, "-o", PROGRAM, "--weight-bits", "5")
    assert document["output"] == PROGRAM
    assert document["report"]["weight_bits"] == 5
    assert read_program(PROGRAM).provenance["quantization"] == document["report"]
    text = fine("compile", GRAPH, "-o", PROGRAM, "--target", "generic")
    assert read_program(PROGRAM).target == "generic"
    assert "overflow margin" in text
    assert f"wrote {PROGRAM}" in text


def test_bits_are_said_by_population_or_left_open() -> None:
    document = as_json("compile", GRAPH, "-o", PROGRAM, "--weight-bits", "auto")
    assert document["report"]["weight_bits"] == "auto"
    for wrong in ("many", "layer1=2,layer1=3", "=3", ""):
        assert "U082" in failed("compile", GRAPH, "-o", PROGRAM, "--weight-bits", wrong)
    assert "choose 1..8" in failed("compile", GRAPH, "-o", PROGRAM, "--weight-bits", "9")


def test_the_same_input_gives_the_same_bytes() -> None:
    for name in ("first.spk", "second.spk"):
        fine("compile", GRAPH, "-o", name)
        fine("run", GRAPH, "--data", DATA, "-o", f"{name}.npz")
    assert Path("first.spk").read_bytes() == Path("second.spk").read_bytes()
    assert Path("first.spk.npz").read_bytes() == Path("second.spk.npz").read_bytes()


def test_targets_and_zoo_list_what_there_is() -> None:
    assert [item["name"] for item in as_json("targets")["targets"]] == [
        "loihi2", "loihi1", "generic",
    ]  # fmt: skip
    names = [item["name"] for item in as_json("zoo")["networks"]]
    assert names == ["mnist-feedforward", "mnist-recurrent"]
    assert all(name in fine("zoo") for name in names)
    assert "loihi1" in fine("targets")


def test_zoo_copies_a_network_that_the_other_commands_take() -> None:
    document = as_json("zoo", "mnist-recurrent", "-o", "copy", "--samples", "20")
    network_file, data_file = document["written"]
    summary = as_json("run", network_file, "--data", data_file)
    assert summary["samples"] == 20
    assert summary["accuracy"] > 0.8


def test_emit_writes_a_lava_program() -> None:
    document = as_json("emit", GRAPH, "-o", "emitted")
    assert [item["population"] for item in document["populations"]] == ["layer1", "layer2"]
    assert (Path("emitted") / "README.md").is_file()
    assert "emitted/README.md" in fine("emit", GRAPH, "-o", "emitted")


def test_emit_c() -> None:
    document = as_json("emit", GRAPH, "--backend", "c", "-o", "emitted")
    assert set(document["bytes"]) == {"weights", "parameters", "ram"}
    assert document["bytes"]["weights"] == INPUTS * HIDDEN + HIDDEN * HIDDEN + HIDDEN * CLASSES
    assert Path("emitted", "network.c").is_file()
    as_json("emit", GRAPH, "--backend", "c", "-o", "emitted", "--prefix", "own")
    assert Path("emitted", "own.c").is_file()
    assert not Path("emitted", "network.c").exists()
    shown = fine("emit", GRAPH, "--backend", "c", "-o", "emitted")
    assert "weights" in shown
    assert "emitted/README.md" in shown


def test_run_and_verify_with_the_native_engine() -> None:
    found = as_json("run", GRAPH, "--data", DATA, "--backend", "c", "-o", "c.npz")
    expected = as_json("run", GRAPH, "--data", DATA, "-o", "simulator.npz")
    assert {**found, "output": ""} == {**expected, "output": ""}
    assert read_trace("c.npz").values.keys() == read_trace("simulator.npz").values.keys()
    report = as_json("verify", GRAPH, "--data", DATA, "--backends", "c")
    assert [item["name"] for item in report["rungs"]][-1] == "c"
    assert report["passed"]


def test_setup_lava_says_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "setup", lambda directory: Path(directory) / "bin" / "python")
    assert as_json("setup-lava", "--directory", "there") == {"python": "there/bin/python"}
    assert "Lava is ready: there/bin/python" in fine("setup-lava", "--directory", "there")


# Runs


def expected_traces(program: Program, probes: Sequence[Probe]) -> dict[str, Trace]:
    inputs = {"input": some_spikes()}
    graph = spiking_network()
    with SimulatorBackend().load(program) as executable:
        return {
            "simulator": executable.run(inputs, probes=probes),
            "reference": reference.run(graph, inputs, probes=[*graph.default_probes, *probes]),
            "of a program": reference.run(
                dequantize(program), inputs, probes=[*graph.default_probes, *probes]
            ),
        }


def test_a_trace_file_holds_what_was_recorded() -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    program = read_program(PROGRAM)
    probes: list[Probe] = [("layer1", "voltage"), ("layer2", "current")]
    words = ["--data", DATA, "-o", "trace.npz",
             "--probe", "layer1:voltage", "--probe", "layer2:current"]  # fmt: skip
    expected = expected_traces(program, probes)
    for case, file, backend, is_integer in (
        ("simulator", GRAPH, "simulator", True),
        ("simulator", PROGRAM, "simulator", True),
        ("reference", GRAPH, "reference", False),
        ("of a program", PROGRAM, "reference", True),
    ):
        fine("run", file, "--backend", backend, *words)
        with np.load("trace.npz", allow_pickle=False) as arrays:
            keys = {"layer1/spikes", "layer2/spikes", "layer1/voltage", "layer2/current",
                    "output", "predictions"}  # fmt: skip
            units = {f"{name}/{unit}" for name in ("layer1", "layer2")
                     for unit in ("lsb", "voltage_offset", "current_scale")}  # fmt: skip
            left = {"event_names", "event_counts"} if case == "simulator" else set()
            assert set(arrays.files) == keys | left | (units if is_integer else set()), case
            assert arrays["layer1/spikes"].shape == (SAMPLES, STEPS, HIDDEN)
            assert arrays["layer1/spikes"].dtype == np.uint8
            assert arrays["output"].tolist() == ["layer2"]
            assert arrays["predictions"].shape == (SAMPLES,)
            if is_integer:
                assert arrays["layer1/lsb"] == program.population("layer1").lsb
        trace = read_trace("trace.npz")
        for probe, values in expected[case].values.items():
            np.testing.assert_array_equal(trace[probe], values)


@pytest.mark.parametrize("backend", ["reference", "simulator"])
@pytest.mark.parametrize("readout", ["max-voltage", "last-voltage", "mean-voltage", None])
def test_predictions_of_a_readout(backend: str, readout: str | None) -> None:
    chosen = [] if readout is None else ["--readout", readout]
    words = ["run", "readout.safetensors", "--data", DATA, "--backend", backend, *chosen]
    summary = as_json(*words, "-o", "trace.npz")
    voltage = read_trace("trace.npz")["layer2", "voltage"]
    score = {
        "max-voltage": voltage.max(axis=1),
        "last-voltage": voltage[:, -1],
        "mean-voltage": voltage.sum(axis=1) / STEPS,
    }[readout or "max-voltage"]
    predicted = [max(range(CLASSES), key=row.__getitem__) for row in score.tolist()]
    assert summary["predictions"] == predicted
    assert summary["accuracy"] == np.mean(np.array(predicted) == np.arange(SAMPLES) % CLASSES)


def test_predictions_count_the_spikes_of_a_spiking_output() -> None:
    summary = as_json("run", GRAPH, "--data", DATA, "-o", "trace.npz")
    counts = read_trace("trace.npz").spikes("layer2").sum(axis=1).tolist()
    assert summary["predictions"] == [row.index(max(row)) for row in counts]
    assert as_json("run", GRAPH, "--data", DATA, "--readout", "spike-count") == {
        **summary, "output": None,
    }  # fmt: skip


def test_fewer_samples_are_the_first_ones() -> None:
    every = as_json("run", GRAPH, "--data", DATA)
    some = as_json("run", GRAPH, "--data", DATA, "--samples", "2")
    assert some["predictions"] == every["predictions"][:2]
    assert (some["samples"], some["steps"]) == (2, STEPS)


def test_data_without_labels_and_in_another_shape_are_taken() -> None:
    np.savez("flat.npz", spikes=some_spikes().reshape(SAMPLES, STEPS, 2, 2).astype(bool))
    found = as_json("run", GRAPH, "--data", "flat.npz")
    assert found["accuracy"] is None
    assert found["predictions"] == as_json("run", GRAPH, "--data", DATA)["predictions"]


# Verification


class OffByOne:
    """The simulator with one spike wrong, wherever its sample is run."""

    name = "simulator"

    def check(self, program: Program) -> Sequence[Any]:
        return ()

    def load(self, program: Program) -> Any:
        plain = SimulatorBackend(engine="golden").load(program)
        return _OffByOne(**{item.name: getattr(plain, item.name) for item in fields(plain)})


class _OffByOne(SimulatorExecutable):
    def run(
        self, inputs: Mapping[str, Array], *, probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:  # fmt: skip
        trace = super().run(inputs, probes=probes, progress=progress)
        spiked = trace.spikes("layer1").copy()
        wrong = (inputs["input"] == some_spikes()[2]).all(axis=(1, 2))
        spiked[wrong, 5, 3] ^= 1
        return replace(trace, values={**trace.values, ("layer1", "spikes"): spiked})


def test_verify_passes_and_names_its_rungs() -> None:
    assert "passed" in fine("verify", GRAPH, "--data", DATA)
    report = as_json("verify", GRAPH, "--data", DATA, "--samples", "4")
    assert [rung["name"] for rung in report["rungs"]] == ["F", "Q", "I", "simulator"]
    assert report["passed"] is True
    assert report["samples"] == 4


def test_a_planted_divergence_ends_with_1_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from spikec.cli import loading

    monkeypatch.setattr(loading, "open_backend", lambda name, **options: OffByOne())
    plain = spikec("verify", GRAPH, "--data", DATA)
    assert plain.exit_code == 1
    assert "FAILED: simulator differs from I in 1 values" in plain.stdout
    assert "I and simulator first part at sample 2, step 5, layer1[3]" in plain.stdout
    result = spikec("verify", GRAPH, "--data", DATA, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["passed"] is False
    assert document["comparisons"][-1]["first"]["neuron"] == [3]


def test_a_program_finds_its_network_beside_it_by_hash(folder: Path) -> None:
    fine("compile", GRAPH, "-o", PROGRAM)

    def rungs(*words: str) -> list[str]:
        report = as_json("verify", *words, "--data", DATA)
        return [rung["name"] for rung in report["rungs"]]

    assert rungs(PROGRAM) == ["F", "Q", "I", "simulator"]
    Path("elsewhere").mkdir()
    Path(PROGRAM).rename("elsewhere/net.spk")
    assert rungs("elsewhere/net.spk") == ["F", "Q", "I", "simulator"]  # the current folder
    Path(GRAPH).rename("renamed.safetensors")
    assert rungs("elsewhere/net.spk") == ["Q", "I", "simulator"]
    given = ["--source", "renamed.safetensors"]
    assert rungs("elsewhere/net.spk", *given) == ["F", "Q", "I", "simulator"]
    save(spiking_network(seed=9), GRAPH)  # another network under the old name
    assert rungs("elsewhere/net.spk") == ["Q", "I", "simulator"]


def test_a_source_that_is_not_the_source_is_refused() -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    text = failed("verify", PROGRAM, "--data", DATA, "--source", "readout.safetensors")
    assert "U080 at readout.safetensors" in text
    assert "compiled from 'net.safetensors'" in text


# Failures


def test_files_that_are_missing_or_no_network() -> None:
    Path("text.safetensors").write_text("not a network")
    for words in (["inspect"], ["compile", "-o", "x.spk"], ["run", "--data", DATA],
                  ["verify", "--data", DATA], ["emit", "-o", "x"]):  # fmt: skip
        command, *rest = words
        assert "F001 at nothing: there is no such file" in failed(command, "nothing", *rest)
        assert "F002 at text.safetensors" in failed(command, "text.safetensors", *rest)
        assert "F001" in failed(command, ".", *rest)
    assert not list(Path().glob("x*"))


BAD_DATA: dict[str, tuple[dict[str, Array], str]] = {
    "features": ({"spikes": np.zeros((2, 3, 5), np.uint8)}, "U040 at bad.npz, 'input': has shape"),
    "dimensions": ({"spikes": np.zeros((2, 4), np.uint8)}, "needs [sample, step, 4]"),
    "no samples": ({"spikes": np.zeros((0, 3, 4), np.uint8)}, "has shape [0, 3, 4]"),
    "no spikes": ({"images": np.zeros(3)}, "no array 'spikes'; it holds images"),
    "objects": ({"spikes": np.array([{}], dtype=object)}, "F010 at bad.npz"),
    "text": ({"spikes": np.full((1, 1, 4), "x")}, "not numbers"),
    "NaN": ({"spikes": np.full((1, 2, 4), np.nan)}, "holds NaN or infinity"),
    "counts": ({"spikes": np.full((1, 2, 4), 2)}, "spans 2..2 where a binary input takes 0 and 1"),
    "halves": ({"spikes": np.full((1, 2, 4), 0.5)}, "encode it as spikes"),
    "labels": ({"spikes": np.zeros((2, 2, 4)), "labels": np.zeros(3, int)}, "U043"),
    "float labels": ({"spikes": np.zeros((2, 2, 4)), "labels": np.zeros(2)}, "one integer per"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_data_that_do_not_fit_are_refused(case: str) -> None:
    arrays, text = BAD_DATA[case]
    np.savez("bad.npz", **arrays)
    assert text in failed("run", GRAPH, "--data", "bad.npz", "-o", "trace.npz")
    assert text in failed("verify", GRAPH, "--data", "bad.npz")
    assert not Path("trace.npz").exists()


def test_files_that_are_no_npz_are_refused() -> None:
    Path("text.npz").write_text("hello")
    Path("torn.npz").write_bytes(Path(DATA).read_bytes()[:-40])
    for name in ("text.npz", "torn.npz"):
        assert f"F010 at {name}" in failed("run", GRAPH, "--data", name)
    for name in ("nothing.npz", "."):
        assert f"F001 at {name}" in failed("run", GRAPH, "--data", name)


TO = ["-o", "t.npz"]
BAD_WORDS: dict[str, tuple[list[str], str]] = {
    "probe of nothing": (
        ["run", GRAPH, "--data", DATA, "--probe", "layer9:voltage", *TO], "layer1, ",
    ),
    "probe quantity": (["run", GRAPH, "--data", DATA, "--probe", "layer1:volt", *TO], "U010"),
    "probe of an input": (["run", GRAPH, "--data", DATA, "--probe", "input:spikes", *TO], "U010"),
    "float probe": (
        ["run", GRAPH, "--data", DATA, "--backend", "reference", "--probe", "x", *TO], "U010",
    ),
    "readout of spikes": (
        ["run", "readout.safetensors", "--data", DATA, "--readout", "spike-count"], "U011",
    ),
    "target": (["compile", GRAPH, "-o", "x.spk", "--target", "loihi3"], "loihi2, loihi1, generic"),
    "backend": (["verify", GRAPH, "--data", DATA, "--backends", "simulator,chip"], "U070"),
    "emitter": (["emit", GRAPH, "-o", "x", "--backend", "simulator"], "U071"),
    "soft reset in C": (
        ["emit", GRAPH, "-o", "x", "--backend", "c", "--soft-reset", "stock"], "U081",
    ),
    "prefix for no C": (["emit", GRAPH, "-o", "x", "--prefix", "net"], "U081"),
    "prefix that is a keyword": (
        ["emit", GRAPH, "-o", "x", "--backend", "c", "--prefix", "int"], "U131",
    ),
    "zoo": (["zoo", "mnist-cnn"], "mnist-feedforward, mnist-recurrent"),
    "no folder": (["compile", GRAPH, "-o", "no/x.spk"], "U030 at no/x.spk"),
    "no trace folder": (["run", GRAPH, "--data", DATA, "-o", "no/x.npz"], "U030"),
    "emit to no folder": (["emit", GRAPH, "-o", "no/deep/x"], "cannot write there"),
    "emit to a file": (["emit", GRAPH, "-o", DATA], "not a directory"),
    "calibration": (["compile", GRAPH, "-o", "x.spk", "--calibrate", "no.npz"], "F001 at no.npz"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_WORDS)
def test_words_that_make_no_sense_are_refused_and_leave_nothing_behind(
    case: str, folder: Path
) -> None:
    words, text = BAD_WORDS[case]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert text in failed(*words)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "words",
    [["run", GRAPH, "--data", DATA, "--backend", "chip"], ["run", GRAPH],
     ["run", GRAPH, "--data", DATA, "--readout", "votes"], ["compile", GRAPH], ["nonsense"],
     ["compile", GRAPH, "-o", "x.spk", "--steps", "0"],
     ["run", GRAPH, "--data", DATA, "--samples", "0"]],
)  # fmt: skip
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    result = spikec(*words)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "error U001 at command line: " in result.stderr
    assert "--help" in result.stderr


def test_a_network_that_does_not_fit_is_refused_with_what_would() -> None:
    graph = network(
        nodes=[spikes("in", 400), seed_lif("hidden", 1, alpha=0.99, beta=0.9)],
        edges=[dense("in", "hidden", np.ones((1, 400)))],
        outputs=["hidden"],
    )
    save(graph, "wide.safetensors")
    text = failed("compile", "wide.safetensors", "-o", "wide.spk")
    assert "Q010 at population 'hidden'" in text
    bits = text.split("--weight-bits ")[1].split()[0]
    assert not Path("wide.spk").exists()
    fine("compile", "wide.safetensors", "-o", "wide.spk", "--weight-bits", bits)


def test_fewer_spikes_a_step_save_bits() -> None:
    """sinabs' neurons have no limit: the overflow proof wants one, and says which option it is."""
    folder = Path(__file__).parents[1] / "data" / "onnx"
    name = "sinabs-LIF-multi_spike-synapse-floor"
    file = str(folder / f"{name}.dyn20.onnx")
    with np.load(folder / "traces.npz") as archive:
        np.savez("several.npz", spikes=archive[f"{name}/x"], labels=np.zeros(4, np.int64))
    text = failed("compile", file, "-o", "net.spk")
    assert "Q010" in text
    assert "--max-spikes 32 fits: the proof counts up to 255" in text
    fine("compile", file, "-o", "net.spk", "--max-spikes", "30")
    assert {item.max_spikes for item in read_program(Path("net.spk")).populations} == {1, 30}
    verified = fine("verify", file, "--data", "several.npz", "--max-spikes", "30")
    assert "passed" in verified
    assert "option --max-spikes" in fine("inspect", file, "--max-spikes", "30")
    assert "no effect" in failed("compile", GRAPH, "-o", "x.spk", "--max-spikes", "3")


def test_a_failed_command_keeps_the_old_file() -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    before = Path(PROGRAM).read_bytes()
    failed("compile", DATA, "-o", PROGRAM)
    assert Path(PROGRAM).read_bytes() == before


def test_a_damaged_program_is_refused() -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    content = bytearray(Path(PROGRAM).read_bytes())
    content[-1] ^= 1
    Path(PROGRAM).write_bytes(content)
    for command in (["inspect", PROGRAM], ["run", PROGRAM, "--data", DATA]):
        assert "a tensor does not match its digest" in failed(*command)


def test_inspect_says_whether_a_digest_covers_the_file() -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    whole = read_header(Path(PROGRAM))
    assert whole is not None
    assert whole["digest"] in fine("inspect", PROGRAM)
    assert json.loads(fine("inspect", PROGRAM, "--json"))["digest"] == whole["digest"]
    body, tensors = read_container(Path(PROGRAM), schema="spikec.program", version=2)
    write_container(Path("old.spk"), schema="spikec.program", version=1, body=body, tensors=tensors)
    assert "digest of the whole file: none" in fine("inspect", "old.spk")
    assert json.loads(fine("inspect", "old.spk", "--json"))["digest"] is None
    assert "digest" not in json.loads(fine("inspect", GRAPH, "--json"))


OUR_MISTAKES: dict[str, list[str]] = {
    "a folder as program": ["compile", GRAPH, "-o", "."],
    "a folder as trace": ["run", GRAPH, "--data", DATA, "-o", "."],
    "zoo into a file": ["zoo", "mnist-recurrent", "--samples", "1", "-o", DATA],
    "demo into a file": ["demo", "--samples", "1", "-o", DATA],
}


@pytest.mark.parametrize("case", OUR_MISTAKES)
def test_places_that_cannot_be_written_are_refused(case: str) -> None:
    failed(*OUR_MISTAKES[case])


IGNORED: dict[str, list[str]] = {
    "bits of a program": ["run", PROGRAM, "--data", DATA, "--weight-bits", "2"],
    "target of a program": ["run", PROGRAM, "--data", DATA, "--target", "no-such-target"],
    "calibration of a program": ["run", PROGRAM, "--data", DATA, "--calibrate", "no.npz"],
    "source of a network": ["verify", GRAPH, "--data", DATA, "--source", "no.safetensors"],
}


@pytest.mark.parametrize("case", IGNORED)
def test_an_option_that_has_no_effect_is_refused(case: str) -> None:
    fine("compile", GRAPH, "-o", PROGRAM)
    assert spikec(*IGNORED[case]).exit_code == 2


def test_names_in_brackets_are_shown() -> None:
    graph = network(
        nodes=[spikes("in", 1), seed_lif("conv[b]", 1, alpha=0.5, beta=0.5)],
        edges=[dense("in", "conv[b]", [[1.0]])],
        outputs=["conv[b]"],
    )
    save(graph, "names.safetensors")
    assert fine("inspect", "names.safetensors").count("conv[b]") >= 3


# The demo


def test_the_demo_compiles_verifies_and_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "find", lambda python: None)
    text = fine("demo", "-o", "shown", "--samples", "6")
    assert "Lava was not run" in text
    assert "passed" in text
    assert {path.name for path in Path("shown").iterdir()} == {
        "net.spk", "verification.json", "picture.png", "report.html",
    }  # fmt: skip
    assert "pip install" not in text
    assert (Path("shown") / "picture.png").read_bytes()[:4] == b"\x89PNG"
    document = as_json("demo", "-o", "shown", "--samples", "6")
    assert document["lava_missing"] is True
    assert [rung["samples"] for rung in document["verification"]["rungs"]] == [6, 6, 6]
    report = json.loads((Path("shown") / "verification.json").read_text())
    assert report == document["verification"]


@pytest.fixture
def lava() -> None:
    """Fail, never skip: what is not run is not known."""
    if environment.find() is None:
        pytest.fail("no Python with Lava; run 'spikec setup-lava'")


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_the_demo_runs_lava() -> None:
    document = as_json("demo", "-o", "shown", "--samples", "4", "--lava-samples", "2")
    assert document["lava_missing"] is False
    rungs = {rung["name"]: rung for rung in document["verification"]["rungs"]}
    assert rungs["lava"]["samples"] == 2
    assert document["verification"]["passed"] is True


@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_run_and_verify_use_lava() -> None:
    words = ["readout.safetensors", "--data", DATA, "--samples", "3"]
    fine("run", *words, "--backend", "simulator", "--probe", "layer1:voltage", "-o", "one.npz")
    fine("run", *words, "--backend", "lava", "--probe", "layer1:voltage", "-o", "two.npz")
    one, two = read_trace("one.npz"), read_trace("two.npz")
    assert set(one.values) == set(two.values)
    for probe, values in one.values.items():
        np.testing.assert_array_equal(two[probe], values)
    report = as_json("verify", *words, "--backends", "simulator,lava", "--backend-samples", "2")
    assert [rung["samples"] for rung in report["rungs"]] == [3, 3, 3, 3, 2]


# Events


@pytest.mark.parametrize("network_file", [GRAPH, "readout.safetensors"])
@pytest.mark.parametrize("more", [[], ["--samples", "4"], ["--engine", "golden"]])
def test_a_run_can_write_events_instead_of_a_trace(
    network_file: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spikec.cli.running._PIECE", 100)  # several pieces
    words = ["run", network_file, "--data", DATA, *more]
    whole = as_json(*words, "-o", "trace.npz")
    streamed = as_json(*words, "--events", "events.npz")
    assert {**streamed, "output": None} == {**whole, "output": None}
    trace, events = read_trace("trace.npz"), read_events("events.npz")
    assert events.predictions is not None
    assert events.predictions.tolist() == whole["predictions"]
    for name in events.columns:
        np.testing.assert_array_equal(events.spikes(name), trace.spikes(name))
    assert "wrote events.npz" in fine(*words, "--events", "events.npz")


def test_events_take_data_of_one_step() -> None:
    np.savez("image.npz", spikes=np.eye(INPUTS, dtype=np.uint8))
    words = ["run", GRAPH, "--data", "image.npz", "--steps", "7"]
    whole = as_json(*words)
    assert as_json(*words, "--events", "events.npz") == {**whole, "output": "events.npz"}
    assert read_events("events.npz").num_steps == 7


@pytest.mark.parametrize(
    "more",
    [["-o", "x.npz"], ["--probe", "layer1:voltage"], ["--backend", "reference"], ["--explain"]],
)
def test_events_go_with_spikes_of_the_simulator_only(more: list[str]) -> None:
    assert "U032" in failed("run", GRAPH, "--data", DATA, "--events", "e.npz", *more)
    assert not Path("e.npz").exists()


# True processes


def process(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spikec.cli.main", *words],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def test_the_installed_command_works_and_fails_as_it_should() -> None:
    good = process("run", GRAPH, "--data", DATA, "--json")
    assert good.returncode == 0
    assert json.loads(good.stdout)["samples"] == SAMPLES
    assert good.stderr == ""
    bad = process("run", "nothing", "--data", DATA)
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert "F001 at nothing" in bad.stderr


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from spikec.cli.main import main\n"
        "sys.argv = ['spikec', '--help']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'numpy', 'networkx', 'onnx', 'matplotlib', 'safetensors', 'h5py', 'torch'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.splitlines()[-1] == "heavy: []"
    assert "verify" in result.stdout


@pytest.mark.parametrize(
    "words", [["compile", GRAPH, "-o", GRAPH], ["run", GRAPH, "--data", DATA, "-o", DATA]]
)
def test_a_command_does_not_write_over_what_it_reads(words: list[str]) -> None:
    before = Path(words[-1]).read_bytes()
    result = spikec(*words)
    assert Path(words[-1]).read_bytes() == before
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "words",
    [["inspect", GRAPH, "--reset", "zero"], ["inspect", GRAPH, "--profile", "no-such-profile"],
     ["run", GRAPH, "--data", DATA, "--dt", "-1"],
     ["run", GRAPH, "--data", DATA, "--backend", "reference", "--weight-bits", "3"]],
)  # fmt: skip
def test_an_answer_that_the_file_gives_itself_is_refused(words: list[str]) -> None:
    assert spikec(*words).exit_code == 2


# --- ReLU networks ---------------------------------------------------------------------


def relu_files(folder: Path) -> None:
    """Write a ReLU network, and data of one step for it, some without a step axis."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.7, shape) for shape in ((8, 5), (3, 8))]
    saved(mlp_model(weights, [np.zeros(8), np.zeros(3)]), folder)
    values = rng.random((30, 5)).astype(np.float32)
    labels = (np.maximum(values @ weights[0].T, 0) @ weights[1].T).argmax(axis=1)
    np.savez("images.npz", spikes=values, labels=labels)
    np.savez("test.npz", x=values[:, None], labels=labels)


def test_a_relu_network_is_converted_and_measured(folder: Path) -> None:
    relu_files(folder)
    output = fine("convert", "some.onnx", "spiking.safetensors", "--convert", "rate",
                  "--data", "images.npz")  # fmt: skip
    for text in ("layer1", "threshold", "ReLU network", "100.00 %", "same class", "128",
                 "wrote spiking.safetensors"):  # fmt: skip
        assert text in output
    found = as_json("convert", "some.onnx", "spiking.safetensors", "--convert", "rate",
                      "--data", "images.npz", "--test", "test.npz", "--samples", "20",
                      "--percentile", "100")  # fmt: skip
    assert found["accuracy"] == 1.0
    assert [row["steps"] for row in found["rows"]] == [8, 16, 32, 64, 128]
    assert found["rows"][-1]["accuracy"] >= 0.9
    assert found["samples"] == 20
    assert found["tested_on"] == "test.npz"
    (population,) = found["populations"]
    assert population["threshold"] == pytest.approx(population["largest"])


def test_a_converted_network_is_compiled_and_run_for_as_many_steps_as_wanted(folder: Path) -> None:
    relu_files(folder)
    fine("convert", "some.onnx", "spiking.safetensors", "--convert", "rate", "--data", "images.npz")
    assert "the range of this analog input is unknown" in failed(
        "compile", "spiking.safetensors", "-o", PROGRAM
    )
    np.savez("one-step.npz", spikes=np.load("images.npz")["spikes"][:, None])
    assert "one step does not show how far 'readout' goes" in failed(
        "compile", "spiking.safetensors", "-o", PROGRAM, "--calibrate", "one-step.npz"
    )
    fine("compile", "spiking.safetensors", "-o", PROGRAM, "--calibrate", "images.npz",
         "--steps", "64")  # fmt: skip
    for file, backend in ((PROGRAM, "simulator"), ("spiking.safetensors", "reference")):
        run = ["run", file, "--data", "images.npz", "--steps", "64", "--backend", backend]
        found = as_json(*run)
        assert found["steps"] == 64
        assert found["accuracy"] >= 0.9
        last = as_json(*run, "--readout", "last-voltage")
        assert found["predictions"] == last["predictions"]  # what does not leak is a sum
    fine("verify", PROGRAM, "--data", "test.npz", "--steps", "64")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--data", "images.npz"], "option --data: it has no effect without --convert"),
        (["--percentile", "99"], "option --percentile: it has no effect"),
        (["--convert", "rate"], "there are no data"),
        (["--convert", "rate", "--data", "images.npz", "--dt", "1"], "option --dt"),
        (["--convert", "rate", "--data", DATA], "'x': has shape [6, 10, 4]"),
        (["--convert", "rate", "--data", "images.npz", "--percentile", "0"], "no percentile"),
    ],
)
def test_options_of_a_conversion_that_make_no_sense(
    arguments: list[str], reason: str, folder: Path
) -> None:
    relu_files(folder)
    assert reason in failed("convert", "some.onnx", "out.safetensors", *arguments)
    assert not Path("out.safetensors").exists()


def test_steps_are_for_data_of_one_step(folder: Path) -> None:
    text = failed("run", GRAPH, "--data", DATA, "--steps", "3")
    assert "its samples have 10 steps and cannot be presented for 3" in text
    assert "option --steps" in failed("compile", GRAPH, "-o", PROGRAM, "--steps", "3")


def test_an_integrator_that_does_not_leak_is_read_at_its_last_step(folder: Path) -> None:
    """Class 0 is far ahead at first, class 1 at the end."""
    graph = network(
        nodes=[spikes("in", 2), seed_readout("sum", 2, alpha=None, beta=1.0)],
        edges=[dense("in", "sum", [[3.0, -1.0], [0.0, 0.5]], delay=0)],
        outputs=["sum"],
    )
    save(graph, "sum.safetensors")
    early_late = np.array([[[1, 0], *[[0, 1]] * 5]], np.uint8)
    np.savez("late.npz", spikes=early_late, labels=[1])
    for backend in ("reference", "simulator"):
        words = ["run", "sum.safetensors", "--data", "late.npz", "--backend", backend]
        assert as_json(*words)["predictions"] == [1]
        assert as_json(*words, "--readout", "max-voltage")["predictions"] == [0]
    report = as_json("verify", "sum.safetensors", "--data", "late.npz")
    assert [rung["accuracy"] for rung in report["rungs"]] == [1.0] * len(report["rungs"])


def test_explain_says_how_each_connection_was_served() -> None:
    text = fine("run", GRAPH, "--data", DATA, "--explain")
    assert "how connections were served" in text
    assert "rows of what was sent, 8 bits" in text
    ways = as_json("run", GRAPH, "--data", DATA, "--explain")["ways"]
    assert all(0 <= way["density"] <= 1 for way in ways.values())
    assert "ways" not in as_json("run", GRAPH, "--data", DATA)
    golden = fine("run", GRAPH, "--data", DATA, "--explain", "--engine", "golden")
    assert "only the simulator's fast engine chooses" in golden


@pytest.mark.parametrize("engine", ["fast", "golden"])
def test_both_engines_predict_the_same(engine: str) -> None:
    given = as_json("run", GRAPH, "--data", DATA, "--engine", engine)
    assert given["predictions"] == as_json("run", GRAPH, "--data", DATA)["predictions"]


@pytest.mark.parametrize("backend", ["reference", "lava"])
def test_an_engine_of_another_backend_is_refused(backend: str) -> None:
    result = spikec("run", GRAPH, "--data", DATA, "--backend", backend, "--engine", "golden")
    assert result.exit_code == 2
    assert "U081" in result.stderr
    assert "--engine" in result.stderr
