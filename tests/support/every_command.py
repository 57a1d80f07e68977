"""Every command on a network file: what it ends with, against what it should."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from spikec.cli.main import app
from support.network_files import DATA, network_file

__all__ = ["COMMANDS", "unexpected"]

#: F stands for the network, D for its data; later commands read what earlier ones wrote.
COMMANDS = {
    "inspect": "inspect F --svg picture.svg",
    "compile": "compile F -o net.spk",
    "compile, calibrated": "compile F -o calibrated.spk --calibrate D",
    "run": "run F --data D -o trace.npz --explain",
    "run, golden": "run F --data D --engine golden",
    "run, c": "run F --data D --backend c",
    "run, reference": "run F --data D --backend reference",
    "run, events": "run F --data D --events events.npz",
    "verify": "verify F --data D --backends simulator",
    "verify, c": "verify F --data D --backends c --report report.html",
    "verify, program": "verify net.spk --data D --source F",
    "check": "check F",
    "map": "map F --data D -o mapped.spk",
    "emit, c": "emit F --backend c -o c",
    "emit, lava": "emit F --backend lava -o lava",
    "emit, sanafe": "emit mapped.spk --backend sanafe -o sanafe",
    "convert, native": "convert F other.safetensors",
    "convert, onnx": "convert F other.onnx",
    "convert, nir": "convert F other.nir",
    "convert, rate": "convert F rate.safetensors --convert rate --data D",
    "attribute": "attribute F --data D",
    "sweep": "sweep F --data D --bits 8,4",
    "diff": "diff F F --data D",
    "diff, program": "diff F net.spk --data D",
    "diff, traces": "diff trace.npz trace.npz",
}

#: Commands that need the float network, which a file of integers is not.
_OF_FLOATS = {"compile, calibrated", "verify, program", "attribute", "sweep"} | {
    name for name in COMMANDS if name.startswith("convert")
}
#: Those that know current-based neurons and spikes only.
_OF_SPIKES = {
    "run, c", "run, reference", "run, events", "verify, c", "map", "emit, c", "emit, sanafe",
}  # fmt: skip


def _expected(network: str, command: str) -> set[int]:
    kind, _, title = network.partition(": ")
    if kind == "relu":
        return {0} if command == "convert, rate" else {2}
    if command == "convert, rate" or (kind in ("net", "spk") and command in _OF_FLOATS):
        return {2}
    if title in ("resonators", "encoders") and command in _OF_SPIKES:
        return {2}
    if command == "check":
        return {0, 1}  # stock on the chip, or not
    if command == "diff, program":
        return {0, 1} if kind not in ("net", "spk") else {0}  # quantized: it may well differ
    if command == "emit, sanafe":
        return {0, 2}  # its Loihi has no delays, and resets to zero or by the threshold alone
    if (network, command) == ("onnx: foreign", "convert, nir"):
        return {2}  # it holds what NIR cannot say
    return {0}


def unexpected(network: str, folder: Path) -> Iterator[tuple[str, int, str]]:
    """Yield each command that ends with another code than it should, and what it printed."""
    file = network_file(network, folder)
    runner = CliRunner()
    for name, words in COMMANDS.items():
        given = [{"F": str(file), "D": DATA}.get(word, word) for word in words.split()]
        result: Any = runner.invoke(app, given)
        said = result.exit_code != 2 or "error " in result.output
        if result.exit_code not in _expected(network, name) or not said:
            yield name, result.exit_code, result.output
