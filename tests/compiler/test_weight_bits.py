"""Bits by population and edge, and as many as fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_graphs import random_graph

from spikec.compiler.errors import QuantizationError, UsageError
from spikec.compiler.ir import Graph
from spikec.compiler.quantize import WeightBits, compile_graph, parse_weight_bits
from spikec.compiler.targets import load_target
from spikec.models import analog, dense, network, seed_lif

LOIHI2 = load_target("loihi2")


def analog_mlp(inputs: int = 784) -> Graph:
    """Return a network whose first edge alone leaves no room for 8 bits."""
    rng = np.random.default_rng(0)
    return network(
        nodes=[
            analog("in", inputs, low=-1, high=1),
            seed_lif("hidden", 16, alpha=0.8, beta=0.9),
            seed_lif("out", 4, alpha=0.5, beta=0.9),
        ],
        edges=[
            dense("in", "hidden", rng.normal(size=(16, inputs)), name="first"),
            dense("hidden", "hidden", rng.normal(size=(16, 16)), name="loop"),
            dense("hidden", "out", rng.normal(size=(4, 16)), name="last"),
        ],
        outputs=["out"],
    )


def bits_of(graph: Graph, bits: int | WeightBits) -> dict[str, int]:
    report = compile_graph(graph, LOIHI2, weight_bits=bits).report
    return {item.edge: item.bits for item in report.weights}


def test_one_edge_that_does_not_fit_costs_the_others_no_bits() -> None:
    graph = analog_mlp()
    with pytest.raises(QuantizationError):
        compile_graph(graph, LOIHI2, weight_bits=8)
    found = bits_of(graph, WeightBits(default=None))
    assert found["first"] < 8
    assert found["last"] == 8
    more = WeightBits(default=None, named={"hidden": found["first"] + 1})
    with pytest.raises(QuantizationError, match="--weight-bits auto fits"):
        compile_graph(graph, LOIHI2, weight_bits=more)


def test_bits_are_named_by_edge_before_population_before_the_rest() -> None:
    bits = parse_weight_bits("first=3, hidden=5,4")
    assert bits_of(analog_mlp(20), bits) == {"first": 3, "loop": 5, "last": 4}
    assert str(bits) == "first=3,hidden=5,4"
    assert parse_weight_bits(str(bits)) == bits


def test_fixed_bits_stay_where_others_are_open() -> None:
    found = bits_of(analog_mlp(), parse_weight_bits("loop=2,auto"))
    assert found["loop"] == 2
    assert found["last"] == 8


def test_the_report_and_the_program_say_what_was_asked_for() -> None:
    compilation = compile_graph(analog_mlp(), LOIHI2, weight_bits=parse_weight_bits("last=4,auto"))
    assert compilation.report.weight_bits == "last=4,auto"
    assert compilation.program.provenance["quantization"] == compilation.report.as_dict()


@pytest.mark.parametrize("text", ["", "x", "a=", "4,,5", "a=4.5", "-1", "hidden:4"])
def test_what_says_no_bits_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="U082"):
        parse_weight_bits(text)


def test_unknown_names_and_bits_are_refused_at_once() -> None:
    with pytest.raises(QuantizationError) as caught:
        compile_graph(analog_mlp(), LOIHI2, weight_bits=parse_weight_bits("hiden=4,last=9"))
    assert sorted(item.code for item in caught.value.diagnostics) == ["Q001", "Q012"]
    assert "hidden" in str(caught.value)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_open_bits_are_the_most_that_fit(seed: int) -> None:
    """No population can have one bit more when the others keep theirs."""
    graph = random_graph(np.random.default_rng(seed), canonicalisable=True)
    try:
        found = bits_of(graph, WeightBits(default=None))
    except QuantizationError:
        with pytest.raises(QuantizationError):
            compile_graph(graph, LOIHI2, weight_bits=1)
        return
    assert bits_of(graph, WeightBits(default=8, named=found)) == found
    for node in graph.populations:
        mine = {edge.name for edge in graph.edges_into(node.name)}
        if all(found[name] == 8 for name in mine):
            continue
        more = {name: min(count + (name in mine), 8) for name, count in found.items()}
        with pytest.raises(QuantizationError):
            compile_graph(graph, LOIHI2, weight_bits=WeightBits(named=more))
