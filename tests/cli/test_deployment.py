"""``spikec check``: what runs as stock processes, what does not, and what would."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.cli.deployment import deployment
from spikec.cli.main import app
from spikec.compiler.ir import Graph
from spikec.compiler.operators import Conv2d, Dense, Sparse, Synapses
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.program_file import write_program
from spikec.models import dense, network, save, seed_lif, seed_readout, spikes


def hard_reset() -> Graph:
    rng = np.random.default_rng(0)
    hidden = replace(seed_lif("hidden", 4, alpha=0.5, beta=0.75), reset="zero", reset_value=None)
    return network(
        nodes=[spikes("in", 6), hidden],
        edges=[dense("in", "hidden", rng.normal(0, 0.4, (4, 6)))],
        outputs=["hidden"],
    )


def seed_model() -> Graph:
    rng = np.random.default_rng(0)
    return network(
        nodes=[spikes("in", 6), seed_lif("hidden", 4, alpha=0.5, beta=0.75),
               seed_readout("out", 2, alpha=0.5, beta=0.75)],
        edges=[dense("in", "hidden", rng.normal(0, 0.4, (4, 6))),
               dense("hidden", "out", rng.normal(0, 0.4, (2, 4)))],
        outputs=["out"],
    )  # fmt: skip


def saved(graph: Graph, folder: Path) -> str:
    path = folder / "net.safetensors"
    save(graph, path)
    return str(path)


def program(operator: Dense | Conv2d | Sparse, *, delay: int = 1) -> Program:
    shape: tuple[int, ...] = (1, 4, 4) if isinstance(operator, Conv2d) else (2,)
    if isinstance(operator, Sparse):
        shape = (operator.synapses.inputs,)
    source = ProgramInput(name="x", shape=shape, kind="binary", low=0, high=1)
    return Program(
        target="loihi2",
        inputs=(source,),
        populations=(
            Neurons(name="n", shape=operator.output_shape(shape), du=100, dv=200, vth=5,
                    reset="zero", reset_order="at_spike"),
        ),
        connections=(
            Connection(name="c", source="x", target="n", operator=operator, weight_exp=0,
                       num_weight_bits=8, sign_mode="mixed", delay=delay),
        ),
        outputs=("n",),
    )  # fmt: skip


def test_a_network_of_stock_processes_is_deployable(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", saved(hard_reset(), tmp_path)])
    assert result.exit_code == 0, result.output
    assert "deployable: stock processes alone" in result.stdout
    assert "nothing of this was run on hardware" in result.stdout
    for backend in ("simulator", "c", "lava"):
        assert f"backend {backend}: runs it, exactly" in result.stdout


def test_what_is_ours_says_why_and_what_would_be_stock(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["check", saved(seed_model(), tmp_path), "--json"])
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert document["deployable"] is False
    parts = {(item["kind"], item["name"]): item for item in document["parts"]}
    assert parts["population", "hidden"]["verdict"] == "own model"
    assert (
        "a soft reset with du 2047 (not 4095) and dv 1024 (not 0)"
        in parts["population", "hidden"]["reason"]
    )
    assert "reset to zero" in parts["population", "hidden"]["alternative"]
    assert parts["population", "out"]["verdict"] == "stock"
    assert "for no input" in parts["population", "out"]["reason"]
    assert parts["input", "in"]["verdict"] == "stock"
    edges = [item for key, item in parts.items() if key[0] == "edge"]
    assert [item["verdict"] for item in edges] == ["stock", "stock"]
    assert document["refused"] == {"simulator": [], "c": [], "lava": []}


def test_emit_takes_stock_processes_for_soft_resets_or_our_model(tmp_path: Path) -> None:
    built = program(Dense(weight=np.array([[2, -4]])))
    (cell,) = built.populations
    cell = replace(cell, du=np.array(4095), dv=np.array(0), reset="subtract")
    write_program(replace(built, populations=(cell,)), tmp_path / "net.spk")
    assert deployment(replace(built, populations=(cell,))).deployable
    for words, process in (
        ([], "GradedReluVec"),
        (["--soft-reset", "stock"], "GradedReluVec"),
        (["--soft-reset", "own-model"], "ExactLIF"),
    ):
        call = ["emit", str(tmp_path / "net.spk"), "-o", str(tmp_path / "out"), "--json", *words]
        result = CliRunner().invoke(app, call)
        assert result.exit_code == 0, result.output
        (place,) = json.loads(result.stdout)["populations"]
        assert (place["process"], place["stock"]) == (process, process != "ExactLIF")
        text = (tmp_path / "out" / "network.py").read_text()
        assert ("net.integrator" in text) == place["stock"]


@pytest.mark.parametrize(
    ("delay", "process", "reason"),
    [(1, "Dense", "one step"), (3, "DelayDense", "3 steps"), (63, "DelayDense", "63 steps")],
)
def test_delays_choose_the_process_of_an_edge(delay: int, process: str, reason: str) -> None:
    found = deployment(program(Dense(weight=np.array([[2, -4]])), delay=delay))
    (edge,) = (part for part in found.parts if part.kind == "edge")
    assert (edge.verdict, edge.process) == ("stock", process)
    assert reason in edge.reason
    assert found.deployable


def test_a_delay_that_lava_lacks_is_not_possible() -> None:
    found = deployment(program(Dense(weight=np.array([[2, -4]])), delay=64))
    (edge,) = (part for part in found.parts if part.kind == "edge")
    assert (edge.verdict, edge.process) == ("not possible", None)
    assert "63 at most" in edge.reason
    assert "shorten the delay" in edge.alternative
    assert not found.deployable
    assert [item.code for item in found.refused["lava"]] == ["B042"]


def test_convolutions_become_matrices() -> None:
    found = deployment(program(Conv2d(weight=np.full((1, 1, 3, 3), 2))))
    (edge,) = (part for part in found.parts if part.kind == "edge")
    assert edge.verdict == "stock"
    assert "a matrix" in edge.reason


def test_sparse_synapses_that_make_too_large_a_matrix_are_not_possible() -> None:
    def one_to_one(count: int) -> Sparse:
        synapses = Synapses(targets=np.arange(count), pointers=np.arange(count + 1), outputs=count)
        return Sparse(synapses=synapses, weight=np.full(count, 2))

    assert deployment(program(one_to_one(3))).deployable
    found = deployment(program(one_to_one(20_000)))
    assert [part.verdict for part in found.parts if part.kind == "edge"] == ["not possible"]
