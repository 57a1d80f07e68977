"""Data of another layout, steps of the program, and a network that is gone: said or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.cli.main import app
from spikec.models import conv2d, dense, network, save, seed_lif, seed_network, spikes

SAMPLES, STEPS, INPUTS = 6, 9, 4
GRAPH, PROGRAM, DATA, TIME_FIRST, IMAGES = (
    "net.safetensors", "net.spk", "data.npz", "time-first.npz", "images.npz",
)  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    rng = np.random.default_rng(0)
    weights = [rng.normal(0.3, 0.8, (5, INPUTS)), rng.normal(0, 0.8, (3, 5))]
    save(seed_network(feedforward=weights, alpha=0.6, beta=0.8, readout=True, dt=1e-3), GRAPH)
    values = (rng.random((SAMPLES, STEPS, INPUTS)) < 0.5).astype(np.uint8)
    labels = np.arange(SAMPLES) % 3
    np.savez(DATA, spikes=values, labels=labels)
    np.savez(TIME_FIRST, spikes=values.transpose(1, 0, 2), labels=labels)
    np.savez(IMAGES, spikes=values[:, 0], labels=labels)


def spikec(*words: str, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return result


def document(*words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(spikec(*words, "--json").stdout)
    return found


#: Every command that reads data, with D for them.
READERS = {
    "run": f"run {GRAPH} --data D",
    "reference": f"run {GRAPH} --data D --backend reference",
    "events": f"run {GRAPH} --data D --events e.npz",
    "verify": f"verify {GRAPH} --data D",
    "calibrate": f"compile {GRAPH} -o x.spk --calibrate D",
    "check": f"check {GRAPH} --calibrate D",
    "emit": f"emit {GRAPH} -o out --calibrate D",
    "attribute": f"attribute {GRAPH} --data D",
    "sweep": f"sweep {GRAPH} --data D --bits 8",
    "map": f"map {GRAPH} --data D",
    "diff": f"diff {GRAPH} {GRAPH} --data D",
}


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_of_data_names_the_option_and_takes_it(reader: str) -> None:
    words = READERS[reader].replace("D", TIME_FIRST).split()
    refused = spikec(*words, code=2).output
    assert "U046" in refused
    assert "--layout TNF" in refused
    usual = CliRunner().invoke(app, [*READERS[reader].replace("D", DATA).split(), "--json"])
    settled = CliRunner().invoke(app, [*words, "--layout", "TNF", "--json"])
    assert settled.exit_code == usual.exit_code in (0, 1)  # 1: check finds models of our own
    assert settled.stdout == usual.stdout.replace(DATA, TIME_FIRST)


def test_channels_last() -> None:
    rng = np.random.default_rng(1)
    save(
        network(
            nodes=[spikes("in", (2, 3, 4)), seed_lif("conv", (2, 3, 4), alpha=0.5, beta=0.9),
                   seed_lif("out", 3, alpha=0.5, beta=0.9)],
            edges=[conv2d("in", "conv", rng.normal(0.5, 0.5, (2, 2, 3, 3)), padding=1),
                   dense("conv", "out", rng.normal(0, 0.5, (3, 24)))],
            outputs=["out"],
        ),
        "conv.safetensors",
    )  # fmt: skip
    values = (rng.random((5, 7, 2, 3, 4)) < 0.5).astype(np.uint8)
    np.savez("first.npz", spikes=values)
    np.savez("last.npz", spikes=values.transpose(0, 1, 3, 4, 2))
    refused = spikec("run", "conv.safetensors", "--data", "last.npz", code=2).output
    assert "has shape [5, 7, 3, 4, 2]" in refused
    assert "--layout NTHWC" in refused
    words = ["run", "conv.safetensors", "--data", "last.npz", "--layout", "nthwc"]
    assert document(*words) == document("run", "conv.safetensors", "--data", "first.npz")


COMPILED = {
    "run": f"run {PROGRAM} --data {IMAGES}",
    "events": f"run {PROGRAM} --data {IMAGES} --events e.npz",
    "verify": f"verify {PROGRAM} --data {IMAGES}",
    "attribute": f"attribute {PROGRAM} --data {IMAGES}",
    "map": f"map {PROGRAM} --data {IMAGES}",
    "diff": f"diff {GRAPH} {PROGRAM} --data {IMAGES}",
}


@pytest.mark.parametrize("reader", COMPILED)
def test_a_program_keeps_the_steps_that_it_was_compiled_with(reader: str) -> None:
    spikec("compile", GRAPH, "-o", PROGRAM, "--calibrate", IMAGES, "--steps", "7")
    words = COMPILED[reader].split()
    without, given = (
        CliRunner().invoke(app, [*words, *more, "--json"]) for more in ([], ["--steps", "7"])
    )
    assert without.exit_code == given.exit_code in (0, 1)
    said = "presented for 7, as they were when the program was compiled"
    assert said in without.stderr + without.stdout
    assert said not in given.stderr + given.stdout
    ours, theirs = json.loads(without.stdout), json.loads(given.stdout)
    assert ours.pop("notes", []) != theirs.pop("notes", []) or reader not in ("run", "verify")
    assert ours == theirs
    if reader in ("run", "events", "verify", "attribute", "diff"):
        assert ours["steps"] == 7


def test_data_with_steps_of_their_own_are_run_for_these() -> None:
    spikec("compile", GRAPH, "-o", PROGRAM, "--calibrate", IMAGES, "--steps", "7")
    assert document("run", PROGRAM, "--data", DATA)["steps"] == STEPS


def test_one_step_is_said_where_nothing_says_how_many() -> None:
    np.savez("one.npz", spikes=np.load(IMAGES)["spikes"][:, None])
    found = document("run", GRAPH, "--data", "one.npz")
    assert found["steps"] == 1
    assert "--steps N presents them for N" in found["notes"][0]
    assert "--steps N" in spikec("run", GRAPH, "--data", IMAGES, code=2).output


def test_a_run_says_what_it_took_for_samples_and_steps() -> None:
    assert f"% of {SAMPLES} samples of {STEPS} steps" in spikec("run", GRAPH, "--data", DATA).stdout


def test_a_verdict_without_the_float_network_says_so() -> None:
    spikec("compile", GRAPH, "-o", PROGRAM)
    whole = document("verify", PROGRAM, "--data", DATA)
    assert whole["missing"] == []
    assert "passed without" not in spikec("verify", PROGRAM, "--data", DATA).stdout
    Path("elsewhere").mkdir()
    moved = f"elsewhere/{GRAPH}"
    Path(GRAPH).rename(moved)
    text = spikec("verify", PROGRAM, "--data", DATA).stdout
    assert "passed without F" in text
    assert f"no rung F: '{GRAPH}', which the program was compiled from" in text
    assert "--source FILE names it" in text
    found = document("verify", PROGRAM, "--data", DATA)
    assert found["missing"] == ["F"]
    assert "no rung F" in found["notes"][0]
    assert document("verify", PROGRAM, "--data", DATA, "--source", moved) == whole
    Path(GRAPH).write_bytes(b"another file of this name")
    assert document("verify", PROGRAM, "--data", DATA)["missing"] == ["F"]
    spikec("verify", PROGRAM, "--data", DATA, "--report", "r.md")
    assert "passed without F" in Path("r.md").read_text(encoding="utf-8")


def test_layouts_without_data_are_refused() -> None:
    compiling = (["compile", GRAPH, "-o", "x.spk"], ["check", GRAPH], ["emit", GRAPH, "-o", "x"])
    others = (["map", GRAPH], ["convert", GRAPH, "x.nir"], ["diff", "a.npz", "b.npz"])
    for words in (*compiling, *others):
        refused = spikec(*words, "--layout", "NTF", code=2).output
        assert "U081 at option --layout" in refused
