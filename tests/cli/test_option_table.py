"""Every option of every command on every kind of file: it changes what comes out, or is refused.

A new option, or command, fails here until the table says what it does.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from support.network_files import INPUTS, network_file
from support.nir_networks import Net
from typer.testing import CliRunner

from spikec.cli import loading
from spikec.cli.main import app
from spikec.compiler.npz import write_npz
from spikec.compiler.program_file import read_program, write_program

USED = "used"
#: Files by their kind; integers were compiled before, with nothing to be told of it.
FILES = {
    "native": "native: readout", "sums": "native: integrator", "net": "net: plain",
    "encoders": "net: encoders", "onnx": "onnx: foreign", "relu": "relu: mlp",
    "odd": "net: odd weights",
}  # fmt: skip
DATA = "data.npz"


@dataclass(frozen=True, kw_only=True)
class Row:
    """An option as it is typed, what stands beside it, and what it does to each kind of file.

    ``does`` is :data:`USED`, or the code that it is refused with.
    """

    option: str
    does: Mapping[str, str]
    beside: str = ""


def row(option: str, beside: str = "", **does: str) -> Row:
    return Row(option=option, beside=beside, does=does)


def everywhere(option: str, beside: str = "", does: str = USED) -> Row:
    return row(option, beside, native=does, net=does, spk=does)


def of_floats(option: str, beside: str = "", refused: str = "U081", does: str = USED) -> Row:
    return row(option, beside, native=does, net=refused, spk=refused)


#: Commands that read no network.
OTHERS: Mapping[str, set[str]] = {
    "targets": set(),
    "zoo": {"--output", "--samples"},
    "demo": {"--output", "--samples", "--lava-samples", "--lava-python"},
    "setup-lava": {"--directory"},
}
LONG = {"-o": "--output"}
STEPS, LAYOUT = ("--steps 9", "one.npz"), ("--layout TNF", "turned.npz")


def of_data(option: str = "--data", make: Any = everywhere) -> list[Row]:
    return [make(words, f"{option} {data}") for words, data in (STEPS, LAYOUT)]


def compiling(beside: str = "") -> list[Row]:
    return [
        of_floats("--target narrow.toml", beside),
        of_floats("--weight-bits 2", beside),
        of_floats("--calibrate data.npz", beside),
    ]


LAVA = [everywhere("--lava-python python", does="U081"), everywhere("--time-limit 5", does="U081")]
READOUT = everywhere("--readout last-voltage", "--data unlabelled.npz")
SAMPLES = everywhere("--samples 2")
CALIBRATED = "--calibrate data.npz"
RATE = "--convert rate --data images.npz"

#: Each command as it is typed: F is the file, S another one like it.
COMMANDS: Mapping[str, tuple[str, list[Row]]] = {
    "inspect": ("inspect F", [everywhere("--svg p.svg")]),
    "compile": ("compile F -o o.spk", [
        *compiling(), of_floats("--budget 40", CALIBRATED), of_floats("--max-drop 50%", CALIBRATED),
        row("--horizon 100000", native="U086", sums=USED, net="U081", spk="U081"),
        of_floats("--headroom 50", CALIBRATED), of_floats("--max-active 1"),
        *of_data("--calibrate", of_floats), of_floats("--validate full", "--calibrate many.npz"),
        row("--validate full", net="U081", spk="U081"),
    ]),
    "run": ("run F --data data.npz", [
        everywhere("--output t.npz"), everywhere("--backend reference", "--output t.npz --explain"),
        everywhere("--engine golden", "--explain"), everywhere("--explain"),
        everywhere("--probe layer1:current", "--output t.npz"),
        everywhere("--probe layer1:current", does="U081"), everywhere("--events e.npz"),
        READOUT, SAMPLES, everywhere("--samples 99", does="U047"),
        *compiling("--output t.npz"), *of_data(), *LAVA,
    ]),
    "verify": ("verify F --data data.npz --backends none", [
        everywhere("--backends simulator"), everywhere("--backend-samples 2", does="U081"),
        row("--source G", native="U081", spk=USED), row("--source G", net="U080"),
        everywhere("--report r.html"), of_floats("--attribute", "--report r.json", "U113"),
        everywhere("--report-samples 3", "--report r.html"),
        of_floats("--max-drop 0%", refused="U123"), everywhere("--require-float"),
        everywhere("--readout last-voltage"), SAMPLES, everywhere("--samples 99", does="U047"),
        *compiling("--report r.json"), *of_data(), *LAVA,
        of_floats("--validate full", "--data many.npz"),
    ]),
    "diff": ("diff F S --data data.npz", [
        everywhere("--tolerance 1e9"), SAMPLES, *of_data(),
    ]),
    "attribute": ("attribute F --data data.npz", [
        row("--source G", native="U081", spk=USED), row("--source G", net="U080"),
        of_floats("--readout last-voltage", refused="U113"),
        of_floats("--samples 2", refused="U113"), of_floats("--target coarse.toml", does="Q001"),
        *compiling()[1:], *of_data(make=lambda *words: of_floats(*words, refused="U113")),
    ]),
    "sweep": ("sweep F --data data.npz --bits 4", [
        *(of_floats(words, refused="F003") for words in (
            "--bits 2", "--targets narrow.toml", "--plot p.png", "--readout last-voltage",
            "--samples 2", CALIBRATED)),
        of_floats("--policies mixed", CALIBRATED, "F003"),
        *of_data(make=lambda *words: of_floats(*words, refused="F003")),
    ]),
    "map": ("map F", [
        everywhere("--output m.spk"), everywhere("--data data.npz"), everywhere("--chips 2"),
        everywhere("--sanafe python", does="U081"), everywhere("--samples 2", "--data data.npz"),
        everywhere("--samples 2", does="U081"), everywhere("--target loihi1"),
        *compiling("--output m.spk")[1:],
        *of_data(),
    ]),
    "check": ("check F", [
        of_floats("--target loihi1"), of_floats("--weight-bits 99", does="Q001"),
        of_floats("--calibrate none.npz", does="F001"), *of_data("--calibrate", of_floats),
    ]),
    "emit": ("emit F -o out --backend c", [
        everywhere("--backend lava"), everywhere("--soft-reset own-model", does="U081"),
        everywhere("--soft-reset own-model", "--backend lava", does="U081"),
        everywhere("--prefix ab"), *compiling(), *of_data("--calibrate", of_floats),
    ]),
    "convert": ("convert F o.onnx", [
        row("--convert rate", native="U104", net="U104"),
        row("--convert rate", "--data images.npz", relu=USED),
        *(row(words, RATE, relu=USED) for words in
          ("--data others.npz", "--percentile 50", "--test others.npz", "--samples 2")),
        row("--layout FN", "--convert rate --data lying.npz", relu=USED),
        *(row(words, native="U081", net="U081", relu="U081") for words in
          ("--data data.npz", "--percentile 90", "--test data.npz", "--samples 2",
           "--layout NTF")),
    ]),
}  # fmt: skip

#: How NIR files are read where a row says nothing else.
NIR: Mapping[str, str] = {
    "--dt": "1e-3", "--discretization": "euler", "--reset": "subtract",
    "--reset-order": "at_spike", "--compare": ">",
}  # fmt: skip
SINABS = {"--profile": "sinabs"}


@dataclass(frozen=True, kw_only=True)
class Reading:
    """An option of reading: what it does on files of each format, those of NIR read by ``nir``."""

    option: str
    does: Mapping[str, str]
    nir: Mapping[str, str]


def reading(option: str, *, nir_by: Mapping[str, str] = NIR, **does: str) -> Reading:
    told = dict.fromkeys(("native", "onnx", "nir", "net", "encoders", "spk"), "U082")
    if "steps" in does:  # a profile whose time constants are steps: of such a file
        del told["nir"]
    return Reading(option=option, does={**told, **does}, nir=nir_by)


READING = [
    reading("--dt 2e-3", nir=USED, onnx=USED),
    reading("--reset zero", nir=USED),
    reading("--reset-order next_step", nir=USED),
    reading("--compare >=", nir=USED, net="F074"),
    reading("--discretization exp", nir=USED),
    reading("--profile sinabs", steps=USED, nir_by={}, net="F075", encoders="F075"),
    reading("--profile slayer", nir="F116", nir_by={}, net=USED, encoders=USED),
    reading("--profile-defaults", steps=USED, nir_by=SINABS),
    reading("--profile-defaults"),
    reading("--v-reset -0.4", nir=USED, nir_by={**NIR, "--reset": "zero"}),
    reading("--spike-factor 0.5", nir=USED),
    reading("--norm-input true"),
    reading("--norm-input false", steps=USED, nir_by=SINABS),
    reading("--input analog:-1..1", nir=USED, onnx=USED),
    reading("--round-delays", late=USED),
    reading("--max-spikes 3", nir=USED),
    reading("--spike-exp 5", encoders=USED),
    reading("--input-bits 4", net=USED),
]


def write_nir(path: Path, *, delay: float = 4e-3, tau: float = 5e-3, r: float = 5.0) -> Path:
    """Write one layer of LIF neurons, its spikes a ``delay`` in seconds late at the second."""
    ones = np.ones(3)
    lif = {"type": "LIF", "tau": tau * ones, "r": r * ones, "v_leak": 0 * ones,
           "v_threshold": ones, "v_reset": 0 * ones}  # fmt: skip
    rng = np.random.default_rng(3)
    nodes = {
        "in": {"type": "Input", "shape": np.array([INPUTS])},
        "fc": {"type": "Affine", "weight": rng.normal(0.4, 0.8, (3, INPUTS)), "bias": 0 * ones},
        "lif": lif,
        "delay": {"type": "Delay", "delay": delay * ones},
        "last": {"type": "Affine", "weight": rng.normal(0.4, 0.8, (3, 3)), "bias": 0 * ones},
        "out": lif,
        "output": {"type": "Output", "shape": np.array([3])},
    }
    names = list(nodes)
    return Net(nodes=nodes, edges=tuple(pairwise(names))).save(path)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, another like it where there is one, and data beside them."""
    folder = tmp_path_factory.mktemp("files")
    made = {}
    for kind, network in FILES.items():
        (folder / kind).mkdir()
        made[kind] = network_file(network, folder / kind)
    (folder / "nir").mkdir()
    made["nir"] = write_nir(folder / "nir" / "network.nir")
    made["late"] = write_nir(folder / "nir" / "late.nir", delay=4.5e-3)
    made["steps"] = write_nir(folder / "nir" / "steps.nir", delay=4.0, tau=5.0, r=1.0)
    (folder / "spk").mkdir()
    for name, words in (("spk", ()), ("near", ("--weight-bits", "2"))):
        made[name] = folder / "spk" / f"{name}.spk"
        typed = ["compile", str(made["native"]), "-o", str(made[name]), *words]
        assert CliRunner().invoke(app, typed).exit_code == 0
    write_data(folder)
    write_targets(folder)
    return made


@pytest.fixture
def files(made: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """The files, in the current folder."""
    monkeypatch.chdir(made["native"].parent.parent)
    # What a program says of how it was compiled names every option, used or not.
    monkeypatch.setattr(loading, "compiled_with", lambda program, *_: program)
    return made


def write_data(folder: Path) -> None:
    rng = np.random.default_rng(1)
    values = (rng.random((20, 12, INPUTS)) < 0.4).astype(np.uint8)
    images = rng.random((20, INPUTS)).astype(np.float32)
    labels = np.arange(20) % 3
    every = {
        DATA: {"spikes": values, "labels": labels},
        "unlabelled.npz": {"spikes": values},
        "many.npz": {"spikes": np.tile(values, (20, 1, 1)), "labels": np.tile(labels, 20)},
        "turned.npz": {"spikes": values.transpose(1, 0, 2), "labels": labels},
        "images.npz": {"spikes": images, "labels": labels},
        "others.npz": {"spikes": images[::-1] ** 2, "labels": labels},
        "lying.npz": {"spikes": images.T, "labels": labels},
        "one.npz": {"spikes": values[:, 0], "labels": labels},
    }
    for name, arrays in every.items():
        write_npz(folder / name, arrays)


def write_targets(folder: Path) -> None:
    """Write Loihi 1 with lower thresholds, which changes numbers, and with coarser weights."""
    shipped = Path(str(resources.files("spikec.compiler.targets") / "loihi1.toml"))
    text = shipped.read_text(encoding="utf-8")
    for name, before, after in (
        ("narrow", "vth_bits = 17", "vth_bits = 7"),
        ("coarse", "bits = [1, 8]", "bits = [1, 4]"),
    ):
        assert before in text
        other = text.replace(before, after).replace('"loihi1"', f'"{name}"')
        (folder / f"{name}.toml").write_text(other, encoding="utf-8")


@dataclass(frozen=True)
class Outcome:
    """What a command ended with, said and wrote; ``refused`` are the codes of its errors."""

    code: int
    said: Any
    wrote: Mapping[str, str]
    refused: tuple[tuple[str, str], ...] = ()


#: What commands without the option in question came to, by their words and file: many share one.
_usual: dict[tuple[str, Path], Outcome] = {}


def usual(words: str, files: Mapping[str, Path], kind: str) -> Outcome:
    """Return the outcome of a command, run once."""
    key = " ".join(words.split()), files[kind]
    if key not in _usual:
        _usual[key] = outcome(words, files, kind)
    return _usual[key]


def outcome(words: str, files: Mapping[str, Path], kind: str) -> Outcome:
    before = set(Path().iterdir())
    named = {"F": files[kind], "S": second(kind, files), "G": files["native"]}
    typed = [str(named.get(word, word)) for word in words.split()]
    result = CliRunner().invoke(app, [*typed, "--json"])
    assert result.exit_code in (0, 1, 2), (typed, result.output)
    said = json.loads(result.stdout)
    made = sorted(set(Path().iterdir()) - before)
    wrote = {str(path): _digest(path) for top in made for path in [top, *top.rglob("*")]}
    for path in made:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused = said.get("errors", []) if result.exit_code == 2 else []
    found = tuple((item["code"], item["where"]) for item in refused)
    return Outcome(result.exit_code, said, wrote, found)


def second(kind: str, files: Mapping[str, Path]) -> Path:
    """Return what a file of this kind is compared with."""
    return files[{"native": "spk", "spk": "near", "net": "odd"}.get(kind, kind)]


def _digest(path: Path) -> str:
    """Return what a file holds, without how a program says it was compiled."""
    if path.is_dir():
        return ""
    if path.suffix == ".spk":
        bare = path.with_name("bare.spk")
        write_program(replace(read_program(path), provenance={}), bare)
        content = bare.read_bytes()
        bare.unlink()
    else:
        content = path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def check(words: str, option: str, does: str, files: Mapping[str, Path], kind: str) -> str:
    """Return what is wrong: nothing where an option does what the table says."""
    found = outcome(f"{words} {option}", files, kind)
    if does != USED:
        return "" if does in [code for code, _ in found.refused] else f"not refused: {found}"
    if found.code == 2:
        return f"refused: {found.refused}"
    return "" if found != usual(words, files, kind) else "it changes nothing"


def wrong(failures: Mapping[tuple[str, str, str], str]) -> dict[tuple[str, str, str], str]:
    return {place: message[:300] for place, message in failures.items() if message}


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_changes_the_result_or_is_refused(command: str, files: dict[str, Path]) -> None:
    base, rows = COMMANDS[command]
    found = {
        (item.option, item.beside, kind): check(
            f"{base} {item.beside}", item.option, does, files, kind
        )
        for item in rows
        for kind, does in item.does.items()
    }
    assert wrong(found) == {}


@pytest.mark.parametrize(
    "kind", ["native", "onnx", "nir", "late", "steps", "net", "encoders", "spk"]
)
def test_an_option_of_reading_changes_the_network_or_is_refused(
    kind: str, files: dict[str, Path]
) -> None:
    found = {}
    for item in READING:
        if kind not in item.does:
            continue
        own = item.option.split()[0]
        by = item.nir if kind in ("nir", "late", "steps") else {}
        beside = " ".join(f"{name} {value}" for name, value in by.items() if name != own)
        base = f"inspect F {beside}"
        if own in by:  # it has a value already: another
            found[item.option, beside, kind] = check_other(
                base, f"{own} {by[own]}", item, files, kind
            )
        else:
            found[item.option, beside, kind] = check(
                base, item.option, item.does[kind], files, kind
            )
    assert wrong(found) == {}


def check_other(
    base: str, first_words: str, item: Reading, files: Mapping[str, Path], kind: str
) -> str:
    """Compare the results of two values of an option that a file cannot be read without."""
    first, other = (outcome(f"{base} {words}", files, kind) for words in (first_words, item.option))
    if other.code != 0 or first.code != 0:
        return f"refused: {first.refused} {other.refused}"
    nodes = [part.said["nodes"] for part in (first, other)]
    edges = [[part.said.get(name) for name in ("dt", "edges")] for part in (first, other)]
    return "" if nodes[0] != nodes[1] or edges[0] != edges[1] else "it changes nothing"


def test_the_table_has_every_option_of_every_command() -> None:
    group: Any = typer.main.get_command(app)
    read = {item.option.split()[0] for item in READING}
    for name, command in group.commands.items():
        options = {item.opts[-1] for item in command.params if item.opts[0].startswith("-")}
        options -= {"--json", "--help"}
        if name not in COMMANDS:
            assert options == OTHERS[name], name
            continue
        assert read <= options, name
        base, rows = COMMANDS[name]
        listed = {item.option.split()[0] for item in rows}
        listed |= {LONG.get(word, word) for word in base.split() if word.startswith("-")}
        assert options - read == listed, name
