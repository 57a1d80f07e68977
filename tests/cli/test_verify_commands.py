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
    text = out("verify", GRAPH, "--data", DATA, "--backends", "", code=1)
    assert "FAILED: " in text
    assert "beyond what truncation explains" in text
    assert "unexplained voltage at sample 0" in text
    assert as_json("verify", GRAPH, "--data", DATA, "--backends", "", code=1)["unexplained"] > 0
