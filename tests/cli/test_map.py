"""``spikec map``: what it prints, records and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.cli.main import app
from spikec.compiler import targets
from spikec.compiler.program_file import read_program
from spikec.models import save, seed_network

TARGETS = Path(targets.__file__).parent


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network and data, as the current one; plain output of any width."""
    monkeypatch.chdir(tmp_path)
    for name in ("FORCE_COLOR", "PY_COLORS", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    rng = np.random.default_rng(0)
    graph = seed_network(
        feedforward=[rng.normal(0.3, 0.8, (30, 4)), rng.normal(0, 0.8, (3, 30))],
        recurrent=[rng.normal(0, 0.3, (30, 30))],
        alpha=0.6,
        beta=0.8,
        dt=1e-3,
    )
    save(graph, "net.safetensors")
    np.savez("data.npz", spikes=(rng.random((5, 12, 4)) < 0.5).astype(np.uint8))
    small = (TARGETS / "loihi2.toml").read_text(encoding="utf-8")
    small = small.replace("neurons = 8192", "neurons = 10").replace('"loihi2"', '"small"', 1)
    (tmp_path / "small.toml").write_text(small, encoding="utf-8")
    (tmp_path / "two.toml").write_text(small.replace("count = 120", "count = 2"), encoding="utf-8")
    return tmp_path


def spikec(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def as_json(*words: str, code: int = 0) -> Any:
    result = spikec(*words, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_the_report_counts_cores_and_what_they_hold() -> None:
    report = as_json("map", "net.safetensors", "--target", "small.toml")
    assert report["cores_used"] == 4
    assert report["least_cores"] == 4
    assert sum(core["use"]["neurons"] for core in report["cores"]) == 33
    assert report["messages"]["counted"] == "one a step from every neuron"
    assert report["run"] is None
    assert report["modelled_not_measured"] is None
    assert report["metrics"]["connection_sparsity"] < 0.2
    text = spikec("map", "net.safetensors", "--target", "small.toml").stdout
    assert "4 of 120 cores in use" in text
    assert "modelled" not in text


def test_a_run_adds_activity_metrics_and_modelled_costs() -> None:
    report = as_json("map", "net.safetensors", "--target", "small.toml", "--data", "data.npz")
    assert report["messages"]["counted"] == "measured"
    assert report["run"] == {"samples": 5, "steps": 12}
    assert report["metrics"]["effective_acs"] > 0
    assert report["metrics"]["effective_acs"] < report["metrics"]["dense"]
    operations = sum(core["activity"]["operations"] for core in report["cores"])
    # Steps that lags add are left out of the means, so the two agree.
    assert 12 * operations == pytest.approx(report["metrics"]["effective_acs"])
    low, high = report["modelled_not_measured"]["energy"]
    assert 0 < low < high
    text = spikec("map", "net.safetensors", "--data", "data.npz", "--samples", "2").stdout
    assert "modelled, not measured, a step:" in text
    assert "Loihi 1: no table is published for Loihi 2" in text


def test_the_mapping_is_recorded_shown_and_emitted() -> None:
    result = spikec("map", "net.safetensors", "--target", "small.toml", "-o", "mapped.spk")
    assert result.exit_code == 0, result.output
    program = read_program("mapped.spk")
    assert program.core_map is not None
    assert program.core_map.num_cores == 4
    shown = as_json("inspect", "mapped.spk")["core_map"]
    assert [sum(core["populations"].values()) for core in shown["cores"]] == [
        int(count)
        for count in np.bincount(np.concatenate([c.reshape(-1) for c in program.core_map.cores]))
    ]
    assert "cores of small" in spikec("inspect", "mapped.spk").stdout
    assert spikec("emit", "mapped.spk", "--backend", "lava", "-o", "out").exit_code == 0
    cores = json.loads(Path("out/cores.json").read_text(encoding="utf-8"))
    first = program.populations[0].name
    assert cores["populations"][first] == program.core_map.cores[0].reshape(-1).tolist()
    readme = Path("out/README.md").read_text(encoding="utf-8")
    assert "4 core(s) of small" in readme
    assert "not run on hardware" in readme


def test_a_verification_reports_the_mapping_that_the_program_carries() -> None:
    words = ("net.safetensors", "--target", "loihi1", "--data", "data.npz")
    made = as_json("map", *words, "-o", "mapped.spk")
    found = as_json("verify", "mapped.spk", "--data", "data.npz")["mapping"]
    assert found.pop("orders") == []
    made.pop("output")
    made.pop("orders")
    assert found == made
    assert found["cores"][0]["activity"]["operations"] > 0
    low, high = (1e9 * joules for joules in found["modelled_not_measured"]["energy"])
    for ending in ("md", "html", "json"):
        report = f"report.{ending}"
        result = spikec("verify", "mapped.spk", "--data", "data.npz", "--report", report)
        assert result.exit_code == 0, result.output
        content = Path(report).read_text(encoding="utf-8")
        if ending == "json":
            assert json.loads(content)["mapping"]["cores"] == found["cores"]
            continue
        for text in ("Cores", "synapse bits", "operations a step", "loihi1: 1 of 128 cores in use",
                     f"modelled, not measured, a step: {low:,.3g} to {high:,.3g} nJ"):  # fmt: skip
            assert text in content.replace("\\", "")
    assert "mapping" not in as_json("verify", "net.safetensors", "--data", "data.npz")


def test_a_mapping_to_a_chip_whose_file_is_not_there_is_reported_without_its_limits() -> None:
    spikec("map", "net.safetensors", "--target", "small.toml", "-o", "mapped.spk")
    assert "mapping" not in as_json("verify", "mapped.spk", "--data", "data.npz")
    spikec("verify", "mapped.spk", "--data", "data.npz", "--report", "report.md")
    content = Path("report.md").read_text(encoding="utf-8")
    assert "no file of the target 'small'" in content
    assert "cores of small" in content
    assert "modelled, not" not in content


def test_a_map_of_another_mesh_is_not_measured_with_these_limits() -> None:
    same = (TARGETS / "loihi1.toml").read_text(encoding="utf-8")
    other = same.replace("tiles = [8, 4]", "tiles = [4, 8]")
    assert other != same
    Path("other.toml").write_text(other, encoding="utf-8")
    spikec("map", "net.safetensors", "--target", "other.toml", "-o", "mapped.spk")
    assert "mapping" not in as_json("verify", "mapped.spk", "--data", "data.npz")


def test_without_a_mapping_nothing_is_shown_or_emitted() -> None:
    assert spikec("compile", "net.safetensors", "-o", "net.spk").exit_code == 0
    assert as_json("inspect", "net.spk")["core_map"] is None
    assert "cores of" not in spikec("inspect", "net.spk").stdout
    assert spikec("emit", "net.spk", "-o", "out").exit_code == 0
    assert not Path("out/cores.json").exists()
    assert "`spikec map` makes one" in Path("out/README.md").read_text(encoding="utf-8")


def test_a_program_is_mapped_as_it_is() -> None:
    assert spikec("compile", "net.safetensors", "-o", "net.spk").exit_code == 0
    assert as_json("map", "net.spk")["target"] == "loihi2"
    assert as_json("map", "net.spk", "--target", "small.toml")["cores_used"] == 4
    assert as_json("map", "net.spk", "--weight-bits", "4", code=2)["errors"][0]["code"] == "U081"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--target", "generic"), "U130"),
        (("--target", "two.toml"), "M002"),
        (("-o", "net.safetensors"), "U031"),
        (("--samples", "2"), "U081"),
        (("--steps", "2"), "U081"),
        (("--sanafe", "python"), "U081"),
    ],
)
def test_refusals_exit_with_2(words: tuple[str, ...], code: str) -> None:
    errors = as_json("map", "net.safetensors", *words, code=2)["errors"]
    assert [item["code"] for item in errors] == [code]
    assert as_json("map", "net.safetensors", "--target", "two.toml", "--chips", "2")["chips"] == 2
