"""Every rule of a graph, broken once: the code, the place and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikec.compiler.errors import GraphError
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input, SourceView
from spikec.compiler.operators import Conv2d, Dense

ONE = Dense(weight=np.ones((2, 2)))
BASE: dict[str, Any] = {
    "shape": (2,),
    "alpha": 0.5,
    "beta": 0.5,
    "coupling": "immediate",
}
SPIKING: dict[str, Any] = {"vth": 1.0, "reset": "zero", "reset_order": "at_spike", "compare": ">"}


def entry(**fields: Any) -> Input:
    return Input(**{"name": "in", "shape": (2,), **fields})


def lif(**fields: Any) -> LIF:
    return LIF(**{"name": "n", **BASE, **SPIKING, **fields})


def li(**fields: Any) -> LI:
    return LI(**{"name": "n", **BASE, **fields})


def edge(**fields: Any) -> Edge:
    return Edge(**{"name": "e", "source": "in", "target": "n", "operator": ONE, **fields})


def graph(*nodes: Any, edges: tuple[Edge, ...] = (), **fields: Any) -> Graph:
    return Graph(nodes=nodes, edges=edges, **{"outputs": ("n",), **fields})


def test_the_graph_that_these_tests_break_is_valid() -> None:
    built = graph(entry(), lif(), edges=(edge(),))
    assert built["n"] in built.populations
    assert "in" in built
    assert [node.name for node in built] == ["in", "n"]
    assert built.edges_from("in") == built.edges_into("n") == built.edges


#: What to build, the code, the place, and a part of the message or the hint.
BROKEN: dict[str, tuple[Callable[[], object], str, str, str]] = {
    "parameter of a wrong shape": (
        lambda: lif(beta=np.ones(3)),
        "G001", "population 'n'", "give a number or an array of shape (2,)",
    ),
    "parameter that is text": (
        lambda: li(beta="fast"), "G001", "population 'n'", "give a number",
    ),
    "node name twice": (
        lambda: graph(entry(name="n"), lif()), "G010", "node 'n'", "rename one",
    ),
    "edge name twice": (
        lambda: graph(entry(), lif(), edges=(edge(), edge())), "G010", "edge 'e'", "rename one",
    ),
    "empty name": (lambda: graph(entry(name=""), lif()), "G011", "node ''", "rename it"),
    "name with a slash": (
        lambda: graph(entry(), lif(), edges=(edge(name="a/b"),)), "G011", "edge 'a/b'", "rename",
    ),
    "name with a null": (
        lambda: graph(entry(name="a\0"), lif()), "G011", "node 'a\0'", "rename it",
    ),
    "time step of zero": (lambda: graph(entry(), lif(), dt=0.0), "G020", "graph", "above 0"),
    "time step NaN": (
        lambda: graph(entry(), lif(), dt=float("nan")), "G020", "graph", "give seconds",
    ),
    "no dimensions": (lambda: graph(entry(shape=()), lif()), "G021", "input 'in'", "empty"),
    "no neurons": (lambda: graph(lif(shape=(0,))), "G021", "population 'n'", "(0,) is empty"),
    "negative shift": (
        lambda: graph(entry(shift=-1), lif()), "G022", "input 'in'", "0 or more steps",
    ),
    "negative start": (
        lambda: graph(lif(start=-1)), "G022", "population 'n'", "0 or more steps",
    ),
    "negative refractory": (
        lambda: graph(lif(refractory=-2)), "G022", "population 'n'", "refractory is -2",
    ),
    "input beyond any": (
        lambda: graph(entry(shape=(1 << 29,)), lif()), "G021", "input 'in'", "larger than any",
    ),
    "endless shift": (
        lambda: graph(entry(shift=1 << 31), lif()), "G022", "input 'in'", "32767 at most",
    ),
    "endless start": (
        lambda: graph(lif(start=1 << 15)), "G022", "population 'n'", "start is 32768",
    ),
    "endless refractory": (
        lambda: graph(lif(refractory=1 << 63)), "G022", "population 'n'", "32767 at most",
    ),
    "endless lag": (
        lambda: graph(lif(view=SourceView(lag=1 << 16))),
        "G022", "population 'n'", "view.lag is 65536",
    ),
    "endless lag of the current": (
        lambda: graph(lif(view=SourceView(current_lag=-(10**30)))),
        "G022", "population 'n'", "-32767 or more steps",
    ),
    "endless delay": (
        lambda: graph(entry(), lif(), edges=(edge(delay=1 << 20),)),
        "G032", "edge 'e'", "delay is 1048576",
    ),
    "view of other neurons": (
        lambda: graph(lif(view=SourceView(voltage_offset=np.zeros(3)))),
        "G024", "population 'n'", "view.voltage_offset has shape (3,), not (2,)",
    ),
    "view of no numbers": (
        lambda: graph(lif(view=SourceView(current_scale=np.array(np.nan)))),
        "G024", "population 'n'", "view.current_scale holds NaN",
    ),
    "resting voltage beyond float32": (
        lambda: graph(lif(bias=-1e308)), "G024", "population 'n'", "bias holds 1e+308",
    ),
    "weights beyond float32": (
        lambda: graph(entry(), lif(), edges=(edge(operator=Dense(weight=np.full((2, 2), 4e38))),)),
        "G024", "edge 'e'", "the weights hold 4e+38",
    ),
    "padding beyond any picture": (
        lambda: graph(
            entry(shape=(1, 2, 2)), lif(),
            edges=(edge(operator=Conv2d(
                weight=np.ones((1, 1, 1, 1)), padding=(1 << 16, 1 << 16), stride=(1 << 17, 1 << 17)
            )),),
        ),
        "G033", "edge 'e'", "padding (65536, 65536)",
    ),
    "no spike a step": (
        lambda: graph(lif(max_spikes=0)), "G022", "population 'n'", "max_spikes is 0",
    ),
    "more spikes than a trace holds": (
        lambda: graph(lif(max_spikes=256, reset="subtract")),
        "G022", "population 'n'", "give 1 to 255",
    ),
    "several spikes and a reset to zero": (
        lambda: graph(lif(max_spikes=2)), "G028", "population 'n'", "reset 'subtract' at_spike",
    ),
    "several spikes that take nothing off": (
        lambda: graph(lif(max_spikes=2, reset="subtract", reset_value=0.0)),
        "G028", "population 'n'", "an amount above 0",
    ),
    "reset twice to zero": (
        lambda: graph(lif(reset_twice=True)), "G028", "population 'n'", "reset_twice needs",
    ),
    "starts below the floor": (
        lambda: graph(lif(initial_voltage=-2.0, floor=-1.0)),
        "G028", "population 'n'", "start at or above it",
    ),
    "binary without bounds": (
        lambda: graph(entry(low=None, high=None), lif()), "G023", "input 'in'", "both low and high",
    ),
    "one bound": (
        lambda: graph(entry(kind="analog", low=None, high=1), lif()),
        "G023", "input 'in'", "give both",
    ),
    "bounds the wrong way": (
        lambda: graph(entry(kind="analog", low=2, high=1), lif()), "G023", "input 'in'", "ordered",
    ),
    "infinite bound": (
        lambda: graph(entry(kind="analog", high=float("inf")), lif()),
        "G023", "input 'in'", "not finite",
    ),
    "binary with other bounds": (
        lambda: graph(entry(high=2), lif()), "G023", "input 'in'", "bounded by 0 and 1",
    ),
    "graded with fractions": (
        lambda: graph(entry(kind="graded", high=1.5), lif()),
        "G023", "input 'in'", "integer bounds",
    ),
    "NaN parameter": (
        lambda: graph(lif(bias=float("nan"))), "G024", "population 'n'", "bias holds NaN",
    ),
    "NaN weight": (
        lambda: graph(entry(), lif(), edges=(edge(operator=Dense(weight=ONE.weight * np.nan)),)),
        "G024", "edge 'e'", "the weights hold NaN",
    ),
    "alpha of 1": (
        lambda: graph(lif(alpha=1.0)), "G025", "population 'n'", "None for no filter",
    ),
    "beta above 1": (
        lambda: graph(lif(beta=1.5)), "G025", "population 'n'", "exp(-dt / tau_mem)",
    ),
    "no gain": (lambda: graph(lif(gain=[1, 0])), "G026", "population 'n'", "no effect"),
    "value reset without value": (
        lambda: graph(lif(reset="value")), "G027", "population 'n'", "give reset_value",
    ),
    "zero reset with value": (
        lambda: graph(lif(reset_value=1.0)), "G027", "population 'n'", "use 'value'",
    ),
    "refractory at next step": (
        lambda: graph(lif(refractory=1, reset_order="next_step")),
        "G028", "population 'n'", "has the same spikes",
    ),
    "starts above threshold": (
        lambda: graph(lif(initial_voltage=2.0, reset_order="next_step")),
        "G028", "population 'n'", "start below the threshold",
    ),
    "drops input at the spike": (
        lambda: graph(lif(reset_drops_input=True)),
        "G028", "population 'n'", "needs reset 'zero' or 'value' at 'next_step'",
    ),
    "drops input of a subtraction": (
        lambda: graph(lif(reset="subtract", reset_order="next_step", reset_drops_input=True)),
        "G028", "population 'n'", "needs reset 'zero'",
    ),
    "unknown kind": (
        lambda: graph(entry(kind="spikes"), lif()), "G029", "input 'in'", "binary, graded, analog",
    ),
    "unknown coupling": (
        lambda: graph(lif(coupling="late")), "G029", "population 'n'", "immediate, delayed",
    ),
    "unknown reset": (
        lambda: graph(lif(reset="soft")), "G029", "population 'n'", "subtract, zero, value, none",
    ),
    "unknown order": (
        lambda: graph(lif(reset_order="now")), "G029", "population 'n'", "at_spike, next_step",
    ),
    "unknown comparison": (
        lambda: graph(lif(compare="<")), "G029", "population 'n'", "one of >, >=",
    ),
    "edge from nowhere": (
        lambda: graph(entry(), lif(), edges=(edge(source="x"),)), "G030", "edge 'e'", "no node 'x'",
    ),
    "edge to nowhere": (
        lambda: graph(entry(), lif(), edges=(edge(target="y"),)), "G030", "edge 'e'", "in, n",
    ),
    "edge into an input": (
        lambda: graph(entry(), lif(), edges=(edge(source="n", target="in"),)),
        "G031", "edge 'e'", "ends at input 'in'",
    ),
    "edge from an integrator": (
        lambda: graph(li(), lif(name="m"), edges=(edge(source="n", target="m"),)),
        "G031", "edge 'e'", "make it a LIF",
    ),
    "negative delay": (
        lambda: graph(entry(), lif(), edges=(edge(delay=-1),)), "G032", "edge 'e'", "0 or more",
    ),
    "weight of a wrong shape": (
        lambda: graph(entry(shape=(3,)), lif(), edges=(edge(),)),
        "G033", "edge 'e'", "takes 2 inputs, the source has 3",
    ),
    "operator that misses its target": (
        lambda: graph(entry(), lif(shape=(3,)), edges=(edge(),)),
        "G033", "edge 'e'", "it gives shape (2,), 'n' has (3,)",
    ),
    "no output": (lambda: graph(lif(), outputs=()), "G040", "graph", "populations: n"),
    "output that is an input": (
        lambda: graph(entry(), lif(), outputs=("in",)), "G040", "graph", "output 'in' is not",
    ),
    "loop without delay": (
        lambda: graph(lif(), edges=(edge(source="n"),)),
        "G050", "nodes n", "recurrent edges have a delay of 1 or more",
    ),
    "longer loop without delay": (
        lambda: graph(
            lif(),
            lif(name="m"),
            edges=(edge(source="n", target="m"), edge(name="f", source="m")),
        ),
        "G050", "nodes m, n", "a spike would need itself",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named_with_place_and_remedy(case: str) -> None:
    build, code, where, text = BROKEN[case]
    with pytest.raises(GraphError) as caught:
        build()
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.where) == (code, where)
    assert text in f"{finding.message} {finding.hint}"
    assert str(caught.value).startswith(f"{code} at {where}: ")


def test_all_findings_are_raised_at_once() -> None:
    with pytest.raises(GraphError) as caught:
        graph(entry(shift=-1, kind="x"), lif(beta=2.0, gain=0.0, reset="soft"), dt=-1.0)
    assert [item.code for item in caught.value.diagnostics] == [
        "G020", "G029", "G022", "G025", "G026", "G029",
    ]  # fmt: skip


def test_shapes_that_only_flatten_alike_are_accepted() -> None:
    flat = graph(entry(), lif(shape=(1, 2)), edges=(edge(),))
    assert flat.edges[0].operator is ONE
    with pytest.raises(GraphError, match="G033"):
        graph(
            entry(shape=(1, 2, 2)),
            lif(shape=(2, 2, 1)),
            edges=(edge(operator=Conv2d(weight=np.ones((1, 1, 1, 1)))),),
        )


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "graded", "low": -3, "high": 7},
        {"kind": "analog", "low": -0.5, "high": 1.5},
        {"kind": "analog", "low": None, "high": None},
    ],
)
def test_inputs_of_every_kind_are_accepted(fields: dict[str, Any]) -> None:
    assert graph(entry(**fields), lif()).inputs[0].kind == fields["kind"]


def test_rules_hold_after_a_rewrite_too() -> None:
    good = graph(entry(), lif(), edges=(edge(),))
    with pytest.raises(GraphError, match="G032 at edge 'e'"):
        good.rewritten(edges={"e": replace(good.edges[0], delay=-1)})
