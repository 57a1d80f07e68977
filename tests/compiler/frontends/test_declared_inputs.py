"""``--input``: what enters is spikes, integers or real numbers, as the user says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikec.compiler.errors import UsageError
from spikec.compiler.frontends import ReadOptions, load_graph
from spikec.compiler.frontends.inputs import with_inputs_declared
from spikec.compiler.ir import Graph
from spikec.models import seed_network

ONNX = Path(__file__).parents[2] / "data/onnx/conv-snntorch-Leaky-subtract.ts17.onnx"


def network() -> Graph:
    return seed_network(feedforward=[[[0.5, 0.8]]], alpha=0.5, beta=0.75, dt=1e-3)


@pytest.mark.parametrize(
    ("text", "kind", "low", "high"),
    [
        ("binary", "binary", 0, 1),
        ("analog", "analog", None, None),
        ("analog:-1..1", "analog", -1, 1),
        ("analog:-0.5..2e-1", "analog", -0.5, 0.2),
        ("graded:0..15", "graded", 0, 15),
        ("input=graded:-3..3", "graded", -3, 3),
        ("input=analog,binary", "analog", None, None),
    ],
)
def test_kinds_of_inputs(text: str, kind: str, low: Any, high: Any) -> None:
    graph = with_inputs_declared(network(), text)
    (found,) = graph.inputs
    assert (found.kind, found.low, found.high) == (kind, low, high)
    assert graph.choices[-1].origin == "option --input"


@pytest.mark.parametrize(
    "text",
    ["", "float", "analog:", "analog:1", "analog:1..0", "analog:0..inf", "analog:nan..1",
     "graded", "graded:0..1.5", "binary:0..1", "input=", "analog:0..1:2"],
)  # fmt: skip
def test_what_is_no_kind_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="U084"):
        with_inputs_declared(network(), text)


def test_inputs_that_do_not_exist_are_refused() -> None:
    with pytest.raises(UsageError, match=r"(?s)U085.*'x'.*there are input"):
        with_inputs_declared(network(), "x=analog")


def test_an_onnx_file_is_compared_on_the_numbers_declared() -> None:
    pytest.importorskip("onnx")
    graph = load_graph(ONNX, ReadOptions(inputs="analog:-1..1"))
    assert [node.kind for node in graph.inputs] == ["analog"]
    said = {choice.what: choice.value for choice in graph.choices}
    plain = {choice.what: choice.value for choice in load_graph(ONNX).choices}
    runs = [int(item["checked against the file"].split()[0]) for item in (said, plain)]
    assert runs[0] == runs[1] + 1


def test_nothing_declared_changes_nothing() -> None:
    graph = network()
    assert with_inputs_declared(graph, None) is graph
    assert np.array_equal(graph.inputs[0].shape, (2,))
