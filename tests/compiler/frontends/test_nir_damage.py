"""Damaged NIR files: one error that names the node, in memory in proportion to the file."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import nir_graph
from spikec.compiler.frontends.options import ReadOptions

Change = Callable[[Any], object]
OPTIONS = ReadOptions(
    dt=1e-3, discretization="exp", reset="zero", reset_order="at_spike", compare=">"
)


def written(path: Path, change: Change) -> Path:
    """Write a picture through a convolution, a pool, a delay and neurons, changed."""
    with h5py.File(path, "w") as file:
        file["version"] = "1.0"
        top = file.create_group("node")
        top["type"] = "NIRGraph"
        nodes = top.create_group("nodes")
        fields: dict[str, dict[str, Any]] = {
            "in": {"type": "Input", "shape": [1, 4, 4]},
            "pad": {"type": "Identity"},
            "conv": {
                "type": "Conv2d", "weight": np.ones((2, 1, 3, 3)), "bias": np.zeros(2),
                "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1], "groups": 1,
                "input_shape": [4, 4],
            },
            "pool": {"type": "SumPool2d", "kernel_size": [2, 2], "stride": [2, 2],
                     "padding": [0, 0]},
            "wait": {"type": "Delay", "delay": np.full((2, 2, 2), 2e-3)},
            "flat": {"type": "Flatten", "start_dim": 0, "end_dim": -1},
            "lif": {"type": "LIF", "tau": np.full(8, 0.01), "r": np.ones(8),
                    "v_leak": np.zeros(8), "v_threshold": np.ones(8), "v_reset": np.zeros(8)},
            "out": {"type": "Output"},
        }  # fmt: skip
        del fields["pad"]
        for name, values in fields.items():
            for key, value in values.items():
                nodes.create_group(name) if name not in nodes else None
                nodes[name][key] = value
        names = list(fields)
        top["edges"] = list(pairwise(names))
        change(nodes)
    return path


def put(place: str, value: Any) -> Change:
    def change(nodes: Any) -> None:
        del nodes[place]
        nodes[place] = value

    return change


def without_hint(shape: Any) -> Change:
    """Give the input another shape, which nothing after it repeats."""

    def change(nodes: Any) -> None:
        put("in/shape", shape)(nodes)
        del nodes["conv/input_shape"]

    return change


def identities(count: int, *, loop: bool) -> Change:
    """Put nodes without effect between the input and the convolution, or on a loop."""

    def change(nodes: Any) -> None:
        names = [f"i{number}" for number in range(count)]
        for name in names:
            nodes.create_group(name)["type"] = "Identity"
        edges = [tuple(part.decode() for part in pair) for pair in nodes.parent["edges"][()]]
        edges.remove(("in", "conv"))
        path = ["in", *names, "conv"]
        edges += list(pairwise(path))
        if loop:
            edges.append((names[-1], names[0]))
            del nodes["in/shape"]
        del nodes.parent["edges"]
        nodes.parent["edges"] = edges

    return change


DAMAGED: dict[str, tuple[Change, str]] = {
    "type that is an array": (put("lif/type", ["LIF", "LIF"]), "'lif': it has no type"),
    "type that is numbers": (put("lif/type", np.arange(3)), "'lif': it has no type"),
    "type without end": (put("lif/type", "x" * 1000), "'lif': it has no type"),
    "graph of a type that is an array": (
        lambda nodes: put("type", ["NIRGraph"] * 2)(nodes.parent), "'node': it has no type",
    ),
    "edges that are numbers": (
        lambda nodes: put("edges", np.zeros((3, 2)))(nodes.parent), "no pairs of names",
    ),
    "edges that are one text": (
        lambda nodes: put("edges", "in")(nodes.parent), "no pairs of names",
    ),
    "weight of one axis": (put("conv/weight", np.ones(3)), "its weight has shape (3,)"),
    "weight of none": (put("conv/weight", 1.0), "its weight has shape ()"),
    "empty groups": (put("conv/groups", np.zeros(0, int)), "groups"),
    "groups in words": (put("conv/groups", "two"), "groups"),
    "infinite groups": (put("conv/groups", np.inf), "groups is [inf]: out of range"),
    "infinite stride": (put("conv/stride", np.inf), "stride is [inf]: out of range"),
    "stride of zero": (put("conv/stride", 0), "stride is [0]: out of range"),
    "padding beyond": (
        lambda nodes: (put("conv/padding", 1 << 20)(nodes), put("conv/stride", 1 << 20)(nodes)),
        "larger than any picture",
    ),
    "kernel beyond": (put("pool/kernel_size", [1 << 20, 1 << 20]), "larger than any picture"),
    "dilation beyond": (
        lambda nodes: (
            put("conv/padding", "same")(nodes), put("conv/dilation", 1 << 20)(nodes),
            put("conv/weight", np.ones((2, 1, 2, 2)))(nodes),
        ),
        "larger than any picture",
    ),
    "infinite axis": (put("flat/start_dim", np.inf), "start_dim is inf"),
    "axis of no whole number": (put("flat/end_dim", 0.5), "end_dim is 0.5"),
    "infinite extents": (without_hint([np.inf, 1.0, 1.0]), "its shape is missing"),
    "extents beyond": (put("in/shape", [1, 1 << 14, 1 << 14]), "larger than a file of"),
    "extents far beyond": (without_hint([1, 1 << 62, 1 << 62]), "its shape is missing"),
    "many axes": (without_hint([1] * 100), "its shape is missing"),
    "infinite delay": (put("wait/delay", np.full((2, 2, 2), np.inf)), "steps"),
    "huge delay": (put("wait/delay", np.full((2, 2, 2), 1e308)), "steps"),
    "delay of years": (put("wait/delay", np.full((2, 2, 2), 1e6)), "steps"),
    "identities on a loop": (identities(3, loop=True), "loop"),
    "identities without end": (identities(2000, loop=False), "too many paths"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_error_in_little_memory(name: str, tmp_path: Path) -> None:
    change, message = DAMAGED[name]
    path = written(tmp_path / "net.nir", change)
    tracemalloc.start()
    try:
        with pytest.raises(FrontendError) as caught:
            nir_graph.read(path, OPTIONS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert peak < 64 << 20


def test_the_file_that_these_tests_damage_is_sound(tmp_path: Path) -> None:
    graph = nir_graph.read(written(tmp_path / "net.nir", lambda nodes: None), OPTIONS)
    assert [edge.delay for edge in graph.edges] == [2]
