"""Every field of a target file: what it changes, or that it is refused by its name."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_graphs import random_graph

from spikec.cli.loading import CompileOptions
from spikec.cli.mapping import map_file
from spikec.compiler import targets
from spikec.compiler.arrays import frozen
from spikec.compiler.errors import SpikecError, UsageError
from spikec.compiler.ir import Graph
from spikec.compiler.program_file import write_program
from spikec.compiler.quantize import compile_graph, parse_weight_bits
from spikec.compiler.targets import Range, load_target
from spikec.compiler.targets.limits import broken_limits
from spikec.models import (
    conv2d,
    dense,
    graded,
    network,
    save,
    seed_lif,
    seed_readout,
    sparse,
    spikes,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOIHI2 = Path(targets.__file__).with_name("loihi2.toml")
TABLE: dict[str, Any] = tomllib.loads(LOIHI2.read_text(encoding="utf-8"))

#: Section, field, another value, and what says so: a part of the refusal, or what changes.
FIELDS: list[tuple[str, str, Any, str]] = [
    ("", "name", "other", "program"),
    ("", "summary", "another summary", "listing"),
    ("decay", "du", [0, 900], "program"),
    ("decay", "du", [3000, 4095], "program"),
    ("decay", "dv", [0, 500], "program"),
    ("decay", "dv", [2000, 4096], "program"),
    ("decay", "per_neuron", False, "per_neuron = false"),
    ("state", "bits", 16, "[state] bits is 16"),
    ("state", "bits", 23, "[state] bits is 23"),
    ("state", "bits", 32, "[state] bits is 32"),
    ("state", "vth_bits", 8, "program"),
    ("state", "vth_bits", 18, "[state] vth_bits is 18"),
    ("state", "bias_mant", [-100, 100], "program"),
    ("state", "bias_mant", [0, 4095], "[state] bias_mant of target"),
    ("state", "bias_mant", [-4096, 100], "program"),
    ("state", "bias_mant", [-4097, 4097], "[state] bias_mant is"),
    ("state", "bias_exp", [0, 0], "program"),
    ("state", "bias_exp", [4, 7], "program"),
    ("state", "bias_exp", [0, 8], "[state] bias_exp is"),
    ("weights", "bits", [1, 5], "program"),
    ("weights", "bits", [9, 9], "[weights] bits is"),
    ("weights", "weight_exp", [0, 1], "program"),
    ("weights", "weight_exp", [6, 7], "[weights] weight_exp"),
    ("weights", "weight_exp", [-8, 7], "[weights] weight_exp is"),
    ("messages", "graded_bits", 0, "has no graded spikes"),
    ("messages", "graded_bits", 4, "messages of 4 bits"),
    ("delays", "min", 3, "program"),
    ("delays", "max", 3, "beyond the target's 3"),
    ("delays", "min", 9, "less total delay than 9 steps"),
    ("cores", "count", 1, "M0"),
    ("cores", "count", 129, "[cores] count is 129"),
    ("cores", "tiles", [2, 64], "map"),
    ("cores", "tiles", [5, 5], "[cores] count is 120"),
    ("cores", "cores_per_tile", 32, "map"),
    ("cores", "neurons", 2, "map"),
    ("cores", "accumulators", 8, "map"),
    ("cores", "synapse_bits", 400, "map"),
    ("cores", "word_bits", 640, "bits of synapses; a core has"),
    ("cores", "pack_header_bits", 100, "bits of synapses; a core has"),
    ("cores", "pack_synapses", 2, "map"),
    ("cores", "weight_widths", [2], "M003"),
    ("cores", "index_widths", [64], "map"),
    ("cores", "axons_in", 7, "axons coming in; a core has 7"),
    ("cores", "axons_out", 2, "axons going out; a core has 2"),
    ("cores", "profiles", 1, "map"),
    ("cores", "thresholds", 1, "map"),
    ("cores", "formats", 1, "formats of synapses (connections); a core has 1"),
    ("cores", "convolution", "unrolled", "map"),
    ("costs", "basis", "somebody says", "map"),
    *(("costs", name, [0.5, 9e4], "map") for name in TABLE["costs"] if name != "basis"),
]  # fmt: skip


def test_every_field_is_here() -> None:
    whole = {("", name) for name, value in TABLE.items() if not isinstance(value, dict)}
    whole |= {(name, key) for name, part in TABLE.items() if isinstance(part, dict) for key in part}
    assert {(section, key) for section, key, *_ in FIELDS} == whole
    spans = {(section, key) for section, key in whole if isinstance(of(section, key), list)}
    for section, key in spans - {(name, key) for name, key in whole if name in ("cores", "costs")}:
        least, most = of(section, key)
        others = [new for name, field, new, _ in FIELDS if (name, field) == (section, key)]
        assert any(new[0] != least for new in others), (section, key)
        assert any(new[1] != most for new in others), (section, key)


def of(section: str, key: str) -> Any:
    return (TABLE[section] if section else TABLE)[key]


def written(section: str, key: str, value: Any, folder: Path, **cores: object) -> str:
    """Write loihi2's file with one field changed, and ``cores`` of that section."""
    table = {name: dict(part) if isinstance(part, dict) else part for name, part in TABLE.items()}
    table["cores"] |= cores
    (table[section] if section else table)[key] = value
    lines = [
        f"{name} = {json.dumps(item)}" for name, item in table.items() if not isinstance(item, dict)
    ]
    for name, part in table.items():
        if isinstance(part, dict):
            lines += [
                f"[{name}]",
                *(f"{field} = {json.dumps(item)}" for field, item in part.items()),
            ]
    path = folder / "own.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def sample_graph() -> Graph:
    """A network that needs every field: graded input, delays, biases, decays of its own."""
    rng = np.random.default_rng(0)
    betas = frozen(rng.uniform(0.6, 0.95, 8))
    return network(
        nodes=[
            graded("in", 6, low=0, high=30), spikes("more", 4),
            seed_lif("a", 8, alpha=0.6, beta=betas, bias=frozen(rng.normal(0, 0.1, 8)), vth=20.0),
            seed_lif("b", 6, alpha=0.5, beta=0.8, bias=0.9, vth=frozen(rng.uniform(1, 2, 6))),
            seed_readout("out", 3, alpha=0.5, beta=0.9),
        ],
        edges=[
            dense("in", "a", rng.normal(0, 4, (8, 6))),
            sparse("more", "b", rng.normal(0, 0.3, 6), sources=[0, 0, 1, 1, 2, 3],
                   targets=np.arange(6), shape=(6, 4)),
            dense("more", "a", rng.normal(0, 9, (8, 4))),
            dense("a", "b", rng.normal(0, 0.5, (6, 8))),
            dense("b", "b", rng.normal(0, 0.2, (6, 6)), delay=5),
            dense("b", "out", rng.normal(0, 1, (3, 6))),
        ],
        outputs=["out"],
    )  # fmt: skip


def convolved() -> Graph:
    rng = np.random.default_rng(0)
    return network(
        nodes=[spikes("in", (1, 8, 8)), seed_lif("a", (2, 8, 8), alpha=0.5, beta=0.9)],
        edges=[conv2d("in", "a", rng.normal(0.3, 1, (2, 1, 3, 3)), padding=1)],
        outputs=["a"],
    )


def outcome(target: str, folder: Path, graph: Graph) -> dict[str, str]:
    """Return what the target makes of a network: its program's file, its map, its line in lists."""
    chip = load_target(target)
    program = compile_graph(graph, chip, weight_bits=parse_weight_bits("auto")).program
    write_program(program, folder / "program.spk")
    rng = np.random.default_rng(1)
    np.savez(
        folder / "data.npz",
        **{item.name: rng.integers(0, 2, (2, 9, *item.shape)) for item in program.inputs},
    )
    options = CompileOptions(target=target, weight_bits="auto")
    save(graph, folder / "graph.safetensors")
    mapped = map_file(
        folder / "graph.safetensors", data=folder / "data.npz", samples=None, chips=1,
        options=options, progress=None,
    )  # fmt: skip
    said = mapped.as_dict()
    del said["limits"], said["target"]  # they repeat the file: what follows from it counts
    return {
        "program": (folder / "program.spk").read_bytes().hex(),
        "map": repr(said),
        "listing": chip.summary,
    }


@pytest.mark.parametrize(("section", "key", "value", "expected"), FIELDS)
def test_a_field_is_obeyed_or_refused(
    section: str, key: str, value: Any, expected: str, tmp_path: Path
) -> None:
    graph = convolved() if key == "convolution" else sample_graph()
    # Small cores, so that there are several.
    cores = (
        {"neurons": 3, "word_bits": 8, "synapse_bits": 500, "tiles": [128, 1], "cores_per_tile": 1}
        if section in ("cores", "costs")
        else {}
    )
    before = outcome(written("", "name", "loihi2", tmp_path, **cores), tmp_path, graph)
    try:
        after = outcome(written(section, key, value, tmp_path, **cores), tmp_path, graph)
    except SpikecError as error:
        assert expected in str(error)  # noqa: PT017 - a field is refused, or it changes something
        return
    assert expected in after, "it should have been refused"
    assert after[expected] != before[expected]


@given(seed=st.integers(0, 10_000), name=st.sampled_from(["loihi2", "loihi1", "generic"]))
@settings(max_examples=30, deadline=None)
def test_compiled_programs_are_within_their_target(seed: int, name: str) -> None:
    """Whatever fits is within all limits of the file, also of a target with fewer of them."""
    shipped = load_target(name)
    narrow = replace(
        shipped, du=Range(200, 4000), dv=Range(100, 3000), vth_bits=12, graded_bits=9,
        bias_mant=Range(-500, 300), bias_exp=Range(1, 5), weight_exp=Range(0, 4),
        delay=Range(2, 9),
    )  # fmt: skip
    graph = random_graph(np.random.default_rng(seed))
    for target in (shipped, narrow):
        try:
            program = compile_graph(graph, target).program
        except SpikecError:
            continue
        assert not list(broken_limits(program, target))
        for item in program.neurons:
            assert (item.dv >= target.dv.low).all()
            assert (item.bias_exp >= target.bias_exp.low).all() or not item.bias.any()
        assert all(item.delay in target.delay for item in program.connections)


def test_a_program_is_mapped_within_the_limits_of_the_chip_that_is_asked_for(
    tmp_path: Path,
) -> None:
    """A program for another target may have what the chip lacks."""
    write_program(
        compile_graph(sample_graph(), load_target("generic")).program, tmp_path / "generic.spk"
    )
    for target in ("loihi1", written("state", "vth_bits", 4, tmp_path)):
        with pytest.raises(UsageError, match="Q014"):
            map_file(
                tmp_path / "generic.spk", data=None, samples=None, chips=1,
                options=CompileOptions(target=target), progress=None,
            )  # fmt: skip
