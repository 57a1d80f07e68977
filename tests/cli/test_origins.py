"""How a program was compiled: kept in it, shown, and used again by verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.validated import NETWORKS
from typer.testing import CliRunner

from spikec.cli.main import app
from spikec.compiler.files import sha256_of_file
from spikec.compiler.frontends import native
from spikec.compiler.program_file import read_program


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    native.write(NETWORKS["pictures"](), tmp_path / "net.safetensors")
    rng = np.random.default_rng(0)
    spikes = (rng.random((20, 12, 2, 6, 6)) < 0.3).astype(np.uint8)
    np.savez(tmp_path / "train.npz", spikes=spikes)
    np.savez(tmp_path / "turned.npz", spikes=spikes.transpose(1, 0, 2, 3, 4))
    return tmp_path


def spikec(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def compiled(folder: Path, name: str, *words: object) -> dict[str, Any]:
    spikec("compile", folder / "net.safetensors", "-o", folder / name, *words)
    return dict(read_program(folder / name).provenance)


def test_calibration_data_options_and_command_are_kept(folder: Path) -> None:
    found = compiled(folder, "a.spk", "--calibrate", folder / "train.npz", "--weight-bits", "4",
                     "--target", "generic")  # fmt: skip
    assert found["calibration"] == {
        "path": "train.npz",
        "sha256": sha256_of_file(folder / "train.npz"),
        "samples": [0, 20],
    }
    assert found["options"] == {"target": "generic", "weight_bits": "4"}
    assert found["command"] == [
        "compile", "net.safetensors", "--calibrate", "train.npz", "--weight-bits", "4",
        "--target", "generic",
    ]  # fmt: skip
    shown = json.loads(spikec("inspect", folder / "a.spk", "--json"))
    assert shown["provenance"]["calibration"] == found["calibration"]


@pytest.mark.parametrize("output", [("-o",), ("--output",), ("--output=",), ("-o=",)])
def test_where_it_is_written_changes_no_program(folder: Path, output: tuple[str, ...]) -> None:
    files = []
    for number in range(2):
        path = folder / f"{number}.spk"
        words = [f"{output[0]}{path}"] if output[0].endswith("=") else [output[0], str(path)]
        if output[0] == "-o=":
            words = [f"-o{path}"]
        spikec("compile", folder / "net.safetensors", *words, *(["--json"] if number else []))
        files.append(path.read_bytes())
    assert files[0] == files[1]


def test_nothing_is_said_that_was_not_given(folder: Path) -> None:
    found = compiled(folder, "a.spk")
    assert "calibration" not in found
    assert found["options"] == {}


def test_verify_takes_the_calibration_data_beside(folder: Path) -> None:
    compiled(folder, "a.spk", "--calibrate", folder / "train.npz", "--weight-bits", "3")
    words = ("verify", folder / "a.spk", "--data", folder / "train.npz", "--backends", "none")
    assert "fitted to calibration data" not in spikec(*words)
    (folder / "train.npz").rename(folder / "moved.npz")
    words = ("verify", folder / "a.spk", "--data", folder / "moved.npz", "--backends", "none")
    assert "fitted to calibration data, which are not here" in spikec(*words)


def test_data_of_another_layout_are_read_as_they_were(folder: Path) -> None:
    found = compiled(folder, "a.spk", "--calibrate", folder / "turned.npz", "--layout", "TNCHW",
                     "--weight-bits", "3")  # fmt: skip
    assert found["options"]["layout"] == "TNCHW"
    words = ("verify", folder / "a.spk", "--data", folder / "train.npz", "--backends", "none")
    output = spikec(*words)
    assert "fitted to calibration data" not in output
    assert "validated: " in output


def test_a_report_says_where_a_program_came_from(folder: Path) -> None:
    compiled(folder, "a.spk", "--calibrate", folder / "train.npz", "--weight-bits", "4")
    spikec("verify", folder / "a.spk", "--data", folder / "train.npz", "--backends", "none",
           "--report", folder / "report.md")  # fmt: skip
    text = (folder / "report.md").read_text()
    assert sha256_of_file(folder / "train.npz") in text
    assert "spikec compile net.safetensors --calibrate train.npz --weight-bits 4" in text
    assert str(folder) not in text


def test_compile_and_verify_say_what_was_validated(folder: Path) -> None:
    words = ("compile", folder / "net.safetensors", "-o", folder / "a.spk")
    assert "validated: " in spikec(*words)
    found = json.loads(spikec(*words, "--json", "--validate", "full"))["validation"]
    assert found["passed"]
    assert found["findings"] == []
    verified = ("verify", folder / "a.spk", "--data", folder / "train.npz", "--backends", "none")
    bounded = json.loads(spikec(*verified, "--json"))["validation"]
    full = json.loads(spikec(*verified, "--json", "--validate", "full"))["validation"]
    assert bounded["samples"] < full["samples"] == 20
    assert full["steps"] == 12
