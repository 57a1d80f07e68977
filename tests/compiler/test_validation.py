"""Translation validation: planted faults are found, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.faults import FAULTS, FILE_FAULTS, Fault, same
from support.random_graphs import random_graph, random_graph_inputs
from support.validated import NETWORKS, drawn
from typer.testing import CliRunner

from spikec.cli.main import app
from spikec.compiler import reference
from spikec.compiler.arrays import frozen
from spikec.compiler.errors import SpikecError, VerificationError
from spikec.compiler.frontends import native
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input
from spikec.compiler.operators import Dense
from spikec.compiler.passes import couple_immediately, fuse_chains, retime
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.quantize import Compilation, compile_graph, decay, lower
from spikec.compiler.quantize import plan as planning
from spikec.compiler.quantize.observe import observe
from spikec.compiler.quantize.weights import Grid
from spikec.compiler.targets import load_target
from spikec.compiler.validation import validate
from spikec.compiler.validation.sameness import compare_runs
from spikec.models import zoo

LOIHI2 = load_target("loihi2")
BITS = (8, 4, 2)
#: Networks that have everything that is planted into files.
IN_FILES = ("biased-feedforward", "biased-recurrent", "pictures")


@pytest.fixture(scope="module")
def compiled() -> Callable[[str, int], tuple[Graph, Compilation]]:
    known: dict[tuple[str, int], tuple[Graph, Compilation]] = {}

    def of(name: str, bits: int) -> tuple[Graph, Compilation]:
        if (name, bits) not in known:
            graph = NETWORKS[name]()
            known[name, bits] = graph, compile_graph(graph, LOIHI2, weight_bits=bits)
        return known[name, bits]

    return of


# Planted faults


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_fault_planted_into_a_program_is_found(
    name: str, bits: int, kind: str, compiled: Callable[[str, int], tuple[Graph, Compilation]]
) -> None:
    graph, compilation = compiled(name, bits)
    planted = FAULTS[kind](compilation.program)
    found = validate(planted, graph, compilation.canonical, target=LOIHI2)
    # What is the same program has no fault: its rounding took that in.
    assert found.passed == same(planted, compilation.program)
    assert all(item.code.startswith("V0") and item.hint for item in found.findings)


def test_most_faults_change_a_program(
    compiled: Callable[[str, int], tuple[Graph, Compilation]],
) -> None:
    """So that the test above tests something: only these leave some programs as they are."""
    unchanged: dict[str, set[str]] = {}
    for name in NETWORKS:
        for bits in BITS:
            program = compiled(name, bits)[1].program
            for kind, fault in FAULTS.items():
                if same(fault(program), program):
                    unchanged.setdefault(kind, set()).add(f"{name} {bits}")
    zoo_names = ("mnist-feedforward", "mnist-recurrent")
    assert unchanged == {
        # No level of these is so large that 2 % of it are half a level.
        "weights 2 % small": {f"{name} {bits}" for name in NETWORKS for bits in (4, 2)},
        # They have no biases.
        "biases lost": {f"{name} {bits}" for name in zoo_names for bits in BITS},
        # Neurons that never forget have no time constant.
        "time constants 10 % off": {f"counters {bits}" for bits in BITS},
        "a decay one unit more": {f"counters {bits}" for bits in BITS},
        "a decay one unit less": {f"counters {bits}" for bits in BITS},
    }


def test_a_finding_names_tensor_and_index() -> None:
    graph = NETWORKS["mnist-feedforward"]()
    program = compile_graph(graph, LOIHI2).program
    first = program.neurons[0]
    assert first.vth is not None
    vth = first.vth.copy()
    vth[3] += 1
    changed = (replace(first, vth=vth), *program.neurons[1:])
    found = validate(replace(program, populations=changed), graph)
    item, other = found.findings
    assert (item.code, item.where) == ("V011", "population 'layer1'")
    assert other.code == "V012"  # what is taken off is the threshold
    assert item.message.startswith(f"vth[3] is {vth[3]}, the network's is {vth[3] - 1}")


@pytest.mark.parametrize("factor", [0.5, 0.99, 1.05, 2.0])
@pytest.mark.parametrize("told", [False, True])
def test_a_wrong_lsb_is_found(factor: float, told: bool) -> None:
    """A scale that is not the program's, in the report too."""
    graph = NETWORKS["pictures"]()
    program = compile_graph(graph, LOIHI2, weight_bits=6).program
    for name in ("conv", "layer", "out"):
        populations = tuple(
            replace(item, lsb=item.lsb * factor) if item.name == name else item
            for item in program.neurons
        )
        report = {} if told else program.provenance["quantization"]
        wrong = replace(program, populations=populations, provenance={"quantization": report})
        found = validate(wrong, graph)
        assert any(name in item.where for item in found.findings)


def test_a_calibrated_program_is_held_to_its_data() -> None:
    graph, data = (
        NETWORKS["pictures"](),
        Dataset(
            inputs={
                "in": (np.random.default_rng(0).random((30, 25, 2, 6, 6)) < 0.3).astype(np.uint8)
            }
        ),
    )
    for bits in BITS:
        compilation = compile_graph(graph, LOIHI2, weight_bits=bits, calibration=data)
        program = compilation.program
        rounding = {item.population: item.rounding for item in compilation.report.populations}
        assert set(rounding.values()) == {"calibrated"}
        for kind, fault in FAULTS.items():
            planted = fault(program)
            found = validate(planted, graph, calibration=data)
            assert found.passed == same(planted, program), (kind, bits)
        without = validate(program, graph)
        assert without.passed
        assert "fitted to calibration data" in without.notes[0]


def test_a_claim_about_a_fit_is_checked() -> None:
    graph = NETWORKS["mnist-recurrent"]()
    data = zoo.data("mnist-recurrent", samples=40)
    program = compile_graph(graph, LOIHI2, weight_bits=3, calibration=data).program
    quantization: Any = program.provenance["quantization"]
    rows = [dict(row) for row in quantization["populations"]]
    rows[0]["response_error"] *= 0.5
    report = {**quantization, "populations": rows}
    boasting = replace(program, provenance={**program.provenance, "quantization": report})
    found = validate(boasting, graph, calibration=data)
    assert [item.code for item in found.findings] == ["V024"]


# Faults of the compiler itself


def _biases_lost(values: Any, *_: Any) -> Any:
    return np.zeros(values.shape, np.int64), np.zeros(values.shape, np.int64)


def _wrong_decays(*arguments: Any) -> Any:
    found = decay.fitted_decays(*arguments)
    return replace(found, dv=np.minimum(found.dv + 2, 4096))


_LEVELS = Grid.all_levels


def _rows_turned(self: Grid, step: float) -> Any:
    return frozen(_LEVELS(self, step)[::-1])


_CONNECTION = lower._connection


def _late_connection(*arguments: Any) -> Any:
    made = _CONNECTION(*arguments)
    return replace(made, delay=made.delay + 1)


_SPIKING = lower._spiking_fields


def _always_above(node: LIF, scale: float) -> Any:
    return _SPIKING(replace(node, compare=">"), scale)


_LATER = retime._later


def _never_waits(node: Any, steps: int) -> Any:
    moved = _LATER(node, steps)
    return moved if isinstance(node, Input) else replace(moved, start=node.start)


_FUSE = fuse_chains.fuse


def _fused_wrongly(chain: Any, source: Any) -> Any:
    fused = _FUSE(chain, source)
    weight = np.array(fused.weight)
    weight.reshape(-1)[-1] *= 1.001
    return replace(fused, weight=weight)


#: Where a mistake is put, and what is put there; all change the network of the test.
MISTAKES: dict[str, tuple[Any, str, Any]] = {
    "biases are lost": (lower, "_bias", _biases_lost),
    "decays are two units off": (planning, "fitted_decays", _wrong_decays),
    "rows are turned round": (Grid, "all_levels", _rows_turned),
    "edges are late": (lower, "_connection", _late_connection),
    "'>=' is taken for '>'": (lower, "_spiking_fields", _always_above),
    "a gain is forgotten": (planning, "compensated", lambda node, beta, gain: node),
    "late populations do not wait": (retime, "_later", _never_waits),
    "chains lose a part of a weight": (fuse_chains, "fuse", _fused_wrongly),
    "currents before the first step are kept": (couple_immediately, "_before",
                                                lambda node: node.initial_current),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_the_compiler_is_found(
    mistake: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    graph = NETWORKS["pictures"]()
    conv = graph["conv"]
    assert isinstance(conv, LIF)
    current = replace(conv, initial_current=frozen(np.full((4, 6, 6), 0.3)))
    graph = graph.rewritten(nodes={"conv": current})
    chained = NETWORKS["counters"]() if "chains" in mistake else graph
    native.write(chained, tmp_path / "net.safetensors")
    compile_graph(chained, LOIHI2)
    owner, name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(VerificationError, match=r"V0\d\d at "):
        compile_graph(chained, LOIHI2)
    words = ["compile", str(tmp_path / "net.safetensors"), "-o", str(tmp_path / "net.spk")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert not (tmp_path / "net.spk").exists()


# Program files


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of three networks, their programs and data."""
    folder = tmp_path_factory.mktemp("beside")
    for name in IN_FILES:
        graph = NETWORKS[name]()
        native.write(graph, folder / f"{name}.safetensors")
        inputs = reference_inputs(graph)
        np.savez(folder / f"{name}.npz", spikes=inputs)
        spikec("compile", folder / f"{name}.safetensors", "-o", folder / f"{name}.spk")
    return folder


def reference_inputs(graph: Graph) -> Any:
    shape = (4, 16, *graph.inputs[0].shape)
    return (np.random.default_rng(1).random(shape) < 0.2).astype(np.uint8)


def spikec(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


def verified(folder: Path, name: str, program: Path, *, code: int) -> str:
    return spikec("verify", program, "--data", folder / f"{name}.npz", "--backends", "none",
                  code=code)  # fmt: skip


@pytest.mark.parametrize("kind", FILE_FAULTS)
@pytest.mark.parametrize("name", IN_FILES)
def test_a_fault_planted_into_a_file_is_found_by_verify(name: str, kind: str, beside: Path) -> None:
    program = read_program(beside / f"{name}.spk")
    planted: Fault = FILE_FAULTS[kind]
    changed = planted(program)
    assert not same(changed, program)
    write_program(changed, beside / "planted.spk")
    output = verified(beside, name, beside / "planted.spk", code=1)
    assert "FAILED: the program is not the network's" in output
    assert "V0" in output


def test_a_correct_file_passes(beside: Path) -> None:
    for name in IN_FILES:
        output = verified(beside, name, beside / f"{name}.spk", code=0)
        assert "validated: " in output


def test_without_its_source_a_program_is_not_validated(beside: Path, tmp_path: Path) -> None:
    program = read_program(beside / "pictures.spk")
    write_program(program, tmp_path / "alone.spk")
    output = verified(beside, "pictures", tmp_path / "alone.spk", code=0)
    assert "not validated: no float network is here" in output


def test_what_was_never_float_has_nothing_to_validate(beside: Path, tmp_path: Path) -> None:
    program = replace(read_program(beside / "pictures.spk"), provenance={})
    write_program(program, tmp_path / "integers.spk")
    output = verified(beside, "pictures", tmp_path / "integers.spk", code=0)
    assert "nothing to validate: the network is integers from the start" in output


def test_a_report_begins_with_what_is_wrong(beside: Path) -> None:
    program = read_program(beside / "pictures.spk")
    write_program(FILE_FAULTS["rows swapped"](program), beside / "swapped.spk")
    words = ("verify", beside / "swapped.spk", "--data", beside / "pictures.npz")
    spikec(*words, "--report", beside / "report.md", code=1)
    text = (beside / "report.md").read_text(encoding="utf-8")
    assert "The program is not the float network's: edge" in text
    found = json.loads(spikec(*words, "--json", code=1))["validation"]
    assert found["passed"] is False
    assert found["findings"][0]["code"] == "V020"


def test_a_program_of_other_parts_is_refused(beside: Path) -> None:
    program = read_program(beside / "pictures.spk")
    fewer = replace(program, connections=program.connections[1:])
    write_program(fewer, beside / "fewer.spk")
    output = verified(beside, "pictures", beside / "fewer.spk", code=1)
    assert "V001 at edge" in output


# No false alarms


@pytest.mark.parametrize("seed", range(70))
def test_random_programs_are_valid(seed: int) -> None:
    """Compiling validates; a network that a target cannot hold is not one."""
    made = drawn(seed)
    if made is None:
        return
    graph, compilation, data = made
    assert compilation.validation is not None
    rng = np.random.default_rng(seed)
    other = Dataset(inputs=random_graph_inputs(graph, rng, 3, 12))
    for calibration in (None, data):
        again = validate(compilation.program, graph, data=other, calibration=calibration)
        if compilation.program.target != "loihi1":
            assert again.passed, again.findings
        assert again.spikes == spikes_of(graph, other)


def spikes_of(graph: Graph, data: Dataset) -> int:
    trace = reference.run(graph, data.inputs)
    fired = (values for (_, kind), values in trace.values.items() if kind == "spikes")
    return sum(int(values.sum(dtype=np.int64)) for values in fired)


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_calibration_sees_the_networks_own_spikes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, canonicalisable=True)
    data = Dataset(inputs=random_graph_inputs(graph, rng, 4, 12))
    try:
        canonical = canonicalise(graph)
    except SpikecError:
        return
    plain = canonical.rewritten(
        nodes={node.name: replace(node, view=type(node.view)()) for node in canonical.populations}
    )
    clipped = {
        node.name: np.clip(data.inputs[node.name], node.low, node.high) for node in graph.inputs
    }
    trace = reference.run(plain, clipped)
    sent = observe(canonical, Dataset(inputs=clipped)).sent
    for node in plain.populations:
        if isinstance(node, LIF):
            np.testing.assert_array_equal(sent[node.name], trace.spikes(node.name))


# Runs of both graphs


def chain(weight: float, vth: float) -> Graph:
    neuron = LIF(
        name="n", shape=(1,), alpha=None, beta=frozen(1.0), coupling="immediate",
        vth=frozen(vth), reset="subtract", reset_order="at_spike", compare=">",
    )  # fmt: skip
    readout = LI(name="o", shape=(1,), alpha=None, beta=frozen(0.5), coupling="immediate")
    return Graph(
        nodes=[Input(name="i", shape=(1,)), neuron, readout],
        edges=[
            Edge(name="w", source="i", target="n", operator=Dense(weight=np.full((1, 1), weight))),
            Edge(name="v", source="n", target="o", operator=Dense(weight=np.ones((1, 1)))),
        ],
        outputs=["o"],
    )


def test_a_tie_is_excused_and_anything_more_is_not() -> None:
    """Three tenths are three times a tenth, or a little less."""
    ones = {"i": np.ones((2, 9, 1), np.uint8)}
    exact, rounded = chain(0.1, 0.3), chain(0.1, 0.1 + 0.1 + 0.1)
    assert 0.1 + 0.1 + 0.1 > 0.3
    found = compare_runs(exact, rounded, ones)
    assert (found.ties, found.findings) == (2, ())
    (item,) = compare_runs(chain(0.1, 0.25), chain(0.1, 0.3 + 1e-6), ones).findings
    assert (item.code, item.where) == ("V003", "population 'n'")
    assert compare_runs(exact, exact, ones).ties == 0


def test_all_samples_are_run_on_demand() -> None:
    graph = NETWORKS["mnist-recurrent"]()
    data = zoo.data("mnist-recurrent", samples=30)
    program = compile_graph(graph, LOIHI2).program
    bounded = validate(program, graph, data=data)
    full = validate(program, graph, data=data, extent="full")
    assert 0 < bounded.samples < full.samples == 30
    assert bounded.steps <= full.steps == data.num_steps
    assert full.passed


# Mistakes of the quantizer that validation found


def test_weights_that_are_all_zero_stay_zero_in_a_fit() -> None:
    """They have no scale: a level that made up for other errors was worth sixteen times as much."""
    made = drawn(100_519)
    assert made is not None
    graph, compilation, _ = made
    canonical = {edge.name: edge for edge in canonicalise(graph).edges}
    silent = [
        item for item in compilation.program.connections
        if not np.any(canonical[item.name].operator.weight)  # type: ignore[union-attr]
    ]  # fmt: skip
    assert silent
    assert not any(item.operator.weight.any() for item in silent)


def test_delays_longer_than_the_calibration_data_bring_nothing() -> None:
    made = drawn(100_069)
    assert made is not None
    graph, _, data = made
    assert data is not None
    assert max(edge.delay for edge in canonicalise(graph).edges) > data.num_steps
