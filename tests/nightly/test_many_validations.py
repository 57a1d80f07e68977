"""Validation on real networks and on many random programs: ``make nightly``.

``python -m pytest -s`` prints the table of planted faults: how many were found of how many that
change a program at all. What changes none is within its rounding.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.faults import FAULTS, same
from support.random_graphs import random_graph_inputs
from support.validated import drawn

from spikec.compiler import frontends
from spikec.compiler.errors import QuantizationError
from spikec.compiler.frontends import ReadOptions
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import Graph
from spikec.compiler.program import Program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.validation import validate
from spikec.models import zoo

DEFAULT = Path(__file__).parents[2] / "../shared/data"
DATA = Path(os.environ.get("SPIKEC_SHARED_DATA", DEFAULT)).resolve()
PROGRAMS, BLOCK = 2_000, 50
LOIHI2 = load_target("loihi2")


def shared(name: str, **options: Any) -> Callable[[], Graph]:
    def load() -> Graph:
        network = frontends.load(DATA / name, ReadOptions(**options))
        assert isinstance(network, Graph)
        return network

    return load


#: Two of the zoo, five from ONNX, and one from NIR.
NETWORKS: dict[str, Callable[[], Graph]] = {
    "mnist-feedforward": lambda: zoo.graph("mnist-feedforward"),
    "mnist-recurrent": lambda: zoo.graph("mnist-recurrent"),
    "hand_cuba_rec": shared("onnx/hand_cuba_rec.scan.onnx"),
    "norse_lif": shared("onnx/norse_lif.scan.onnx"),
    "sj_conv_if_hard": shared("onnx/sj_conv_if_hard.step.ts.onnx"),
    "snn_leaky": shared("onnx/snn_leaky.step.ts.onnx"),
    "snn_leaky unrolled": shared("onnx/snn_leaky.unroll.ts.onnx"),
    "nmnist cnn_sinabs": shared(
        "nmnist/cnn_sinabs.nir", profile="sinabs", profile_defaults=True, max_spikes=1
    ),
}


def bits_that_fit(graph: Graph, wanted: int) -> int | None:
    """Return ``wanted`` bits, or the most below that fit; None where not even one does."""
    for bits in range(wanted, 0, -1):
        try:
            compile_graph(graph, LOIHI2, weight_bits=bits)
        except QuantizationError:
            continue
        return bits
    return None


@pytest.mark.shared
@pytest.mark.skipif(not DATA.is_dir(), reason=f"there is no folder {DATA}")
@pytest.mark.parametrize("name", NETWORKS)
def test_every_fault_that_changes_a_program_is_found(name: str) -> None:
    graph = NETWORKS[name]()
    missed = []
    for wanted in (8, 4, 2):
        bits = bits_that_fit(graph, wanted)
        assert bits is not None
        compilation = compile_graph(graph, LOIHI2, weight_bits=bits)
        row = []
        for kind, fault in FAULTS.items():
            planted = fault(compilation.program)
            found = validate(planted, graph, compilation.canonical, target=LOIHI2)
            changed = not same(planted, compilation.program)
            row.append("found" if not found.passed else "MISSED" if changed else "-")
            if found.passed == changed:
                missed.append((bits, kind))
        print(f"{name:20} {bits} bits:", ", ".join(map(": ".join, zip(FAULTS, row, strict=True))))  # noqa: T201
    assert not missed


@pytest.mark.parametrize("block", range(PROGRAMS // BLOCK))
def test_no_random_program_raises_an_alarm(block: int) -> None:
    for number in range(BLOCK):
        seed = 100_000 + block * BLOCK + number
        assert valid(seed), seed


def valid(seed: int) -> bool:
    made = drawn(seed)
    if made is None:
        return valid(seed + 10_000_000)  # another one
    graph, compilation, data = made
    rng = np.random.default_rng(seed)
    other = Dataset(inputs=random_graph_inputs(graph, rng, 3, 12))
    program: Program = compilation.program
    target = load_target(program.target)
    return all(
        validate(program, graph, data=other, calibration=known, target=target).passed
        for known in (None, data)
    )
