"""Sigma-delta and resonate-and-fire networks of lava-dl as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.cli.main import app

h5py = pytest.importorskip("h5py")

LAVA = Path(__file__).parents[1] / "data" / "lava"
NET, DATA, RF, SPIKES = "pilotnet_sdnn.net", "data.npz", "rf.net", "spikes.npz"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PilotNet with its picture, and a resonator; plain output of any width."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    Path(NET).write_bytes((LAVA / NET).read_bytes())
    with np.load(LAVA / "pilotnet_sdnn.npz") as file:
        image = file["input"]
    np.savez(DATA, spikes=np.broadcast_to(image, (1, 9, *image.shape)))
    with h5py.File(RF, "w") as file:
        layer = file.create_group("layer/0")
        layer["type"], layer["shape"] = b"dense", [2]
        layer["weight/real"], layer["weight/imag"] = [[40, -20, 0], [10, 8, 6]], np.full((2, 3), 30)
        neuron = {"type": b"RF_PHASE", "vThMant": 5, "sinDecay": 2103, "cosDecay": 3273}
        for name, value in neuron.items():
            layer[f"neuron/{name}"] = value
    np.savez(SPIKES, spikes=np.random.default_rng(0).random((2, 40, 3)) < 0.3)


def spikec(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def out(*words: str, code: int = 0) -> str:
    result = spikec(*words)
    assert result.exit_code == code, result.output
    return str(result.output)


def test_pilotnet_runs_and_says_how() -> None:
    text = out("run", NET, "--data", DATA, "-o", "t.npz", "--explain")
    assert "ran on the golden engine" in text
    assert "message rates" in text
    with np.load("t.npz") as trace, np.load(LAVA / "pilotnet_sdnn.npz") as published:
        np.testing.assert_array_equal(trace["layer9/voltage"][0, :, 0], published["output"])
        assert trace["layer0/spikes"].min() < 0
        assert trace["layer9/lsb"] == 2.0**-18


def test_pilotnet_is_shown_drawn_and_checked() -> None:
    text = out("inspect", NET, "--svg", "net.svg")
    for words in ("SigmaDelta 24x16x49", "activation relu", "Sigma 1, output", "spike_exp 6"):
        assert words in text
    assert "SigmaDelta" in Path("net.svg").read_text()
    text = out("check", NET)
    assert "deployable: stock processes alone" in text
    assert "backend c: cannot run it" in text
    choices = json.loads(out("inspect", NET, "--spike-exp", "3", "--json"))["provenance"]["choices"]
    assert ["spike_exp", "3", "option spike_exp"] in choices


def test_verify_says_which_rungs_there_are() -> None:
    text = out("verify", NET, "--data", DATA)
    assert "no rung below I" in text
    assert "equals itself; --backends lava" in text
    assert "passed" in text
    out("verify", NET, "--data", DATA, "--report", "r.json")
    assert json.loads(Path("r.json").read_text())["notes"]


@pytest.mark.parametrize(
    "words",
    [
        ("run", NET, "--data", DATA, "--engine", "fast"),
        ("run", NET, "--data", DATA, "--backend", "c"),
        ("run", NET, "--data", DATA, "--backend", "reference"),
        ("run", NET, "--data", DATA, "--events", "e.npz"),
        ("verify", NET, "--data", DATA, "--report", "r.html"),
        ("verify", NET, "--data", DATA, "--report", "r.md"),
        ("verify", NET, "--data", DATA, "--backends", "c"),
        ("map", NET),
        ("emit", NET, "--backend", "c", "-o", "c"),
        ("emit", NET, "--backend", "sanafe", "-o", "s"),
        ("map", RF),
        ("run", RF, "--data", SPIKES, "--backend", "c"),
    ],
)
def test_what_cannot_take_them_says_so(words: tuple[str, ...]) -> None:
    result = spikec(*words)
    assert result.exit_code == 2
    assert "error P040 at population 'layer0'" in result.output
    assert "hint: " in result.output


def test_resonators_run() -> None:
    text = out("run", RF, "--data", SPIKES, "-o", "t.npz", "--probe", "layer0:current")
    assert "spike rates" in text
    with np.load("t.npz") as trace:
        assert trace["layer0/spikes"].any()
        assert trace["layer0/current"].shape == (2, 40, 2)
    assert "resonate-and-fire (phase)" in out("inspect", RF)
    assert "passed" in out("verify", RF, "--data", SPIKES)
