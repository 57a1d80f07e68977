"""Every rewrite keeps what a network gives, exactly, and settles after one application."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.random_graphs import random_chain, random_graph, random_graph_inputs

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import GraphError
from spikec.compiler.ir import LIF, Edge, Graph, Input, SourceView
from spikec.compiler.operators import Chain, Conv2d, Dense, Weighted, average_pool
from spikec.compiler.passes.couple_immediately import CoupleImmediately
from spikec.compiler.passes.fold_gain import FoldGain
from spikec.compiler.passes.fold_rest import FoldRest
from spikec.compiler.passes.fuse_chains import fuse
from spikec.compiler.passes.pipeline import canonical_passes, canonicalise, run_passes
from spikec.compiler.passes.retime import Retime
from spikec.compiler.trace import QUANTITIES, Trace

Rewrite = Callable[[Graph], Graph]

GRAPHS = 150
PASSES: dict[str, Rewrite] = {item.name: item for item in canonical_passes()}
REWRITES: dict[str, Rewrite] = {
    **PASSES,
    "retime to 2": Retime(2),
    "canonicalise": canonicalise,
}


def drawn(*seed: int) -> tuple[Graph, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, canonicalisable=True)
    return graph, random_graph_inputs(graph, rng, 2, int(rng.integers(5, 10)))


def everything(graph: Graph, inputs: dict[str, Array]) -> Trace:
    probes = [(item.name, quantity) for item in graph.populations for quantity in QUANTITIES]
    return reference.run(graph, inputs, probes=probes)


def rewritten(rewrite: Rewrite, graph: Graph) -> Graph | None:
    """Return the rewritten graph, or None where a loop is too fast for the target."""
    try:
        return rewrite(graph)
    except GraphError as error:
        if error.diagnostics[0].code != "G062":
            raise
        return None


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_keeps_spikes_voltages_and_currents(name: str) -> None:
    changed = 0
    for seed in range(GRAPHS):
        graph, inputs = drawn(1, seed)
        after = rewritten(REWRITES[name], graph)
        if after is None:
            assert name == "retime to 2", seed
            continue
        changed += after is not graph
        before, now = everything(graph, inputs), everything(after, inputs)
        for probe in before.values:
            np.testing.assert_array_equal(now[probe], before[probe], f"seed {seed}: {probe}")
    assert changed > GRAPHS / 3


@pytest.mark.parametrize("name", REWRITES)
def test_a_second_application_returns_the_graph_itself(name: str) -> None:
    for seed in range(GRAPHS):
        once = rewritten(REWRITES[name], drawn(2, seed)[0])
        if once is not None:
            assert REWRITES[name](once) is once, seed


def test_a_canonical_graph_has_the_promised_form() -> None:
    for seed in range(GRAPHS):
        graph = canonicalise(drawn(3, seed)[0])
        assert all(edge.delay >= 1 for edge in graph.edges)
        for item in graph.populations:
            assert not item.rest.any()
            assert (item.gain == 1).all()
            assert item.coupling == "immediate"
        assert run_passes(graph, canonical_passes()) == (graph, ())


@pytest.mark.parametrize("least", [1, 2, 3])
def test_retime_gives_every_edge_the_least_delay(least: int) -> None:
    done = 0
    for seed in range(GRAPHS):
        graph = rewritten(Retime(least), drawn(4, seed)[0])
        done += graph is not None
        assert graph is None or all(edge.delay >= least for edge in graph.edges)
    assert done > GRAPHS / 3


def test_run_passes_names_the_passes_that_changed_something() -> None:
    graph = drawn(5, 0)[0]
    canonical, changed = run_passes(graph, canonical_passes())
    assert set(changed) <= set(PASSES)
    assert changed
    assert run_passes(canonical, canonical_passes()) == (canonical, ())


def test_forgetting_start_after_retiming_would_change_spikes() -> None:
    hurt = 0
    for seed in range(GRAPHS):
        graph, inputs = drawn(6, seed)
        late = Retime(1)(graph)
        hasty = late.rewritten(
            nodes={item.name: replace(item, start=0) for item in late.populations}
        )
        spikes = [item.name for item in graph.populations if isinstance(item, LIF)]
        before, now = everything(graph, inputs), everything(hasty, inputs)
        hurt += any((before.spikes(name) != now.spikes(name)).any() for name in spikes)
    assert hurt >= GRAPHS / 10


def two_layers(**fields: object) -> Graph:
    base: dict[str, object] = {
        "shape": (1,), "alpha": None, "beta": 0.5, "coupling": "immediate", "vth": 1.0,
        "reset": "zero", "reset_order": "at_spike", "compare": ">",
    }  # fmt: skip
    one = Dense(weight=np.ones((1, 1)))
    return Graph(
        nodes=[
            Input(name="in", shape=(1,)),
            LIF(name="a", **base),  # type: ignore[arg-type]
            LIF(name="b", **{**base, **fields}),  # type: ignore[arg-type]
        ],
        edges=[
            Edge(name="in-a", source="in", target="a", operator=one),
            Edge(name="a-b", source="a", target="b", operator=one),
        ],
        outputs=("b",),
    )


def test_a_bias_waits_until_its_late_population_starts() -> None:
    graph = two_layers(bias=0.625)
    late = Retime(1)(graph)
    assert late["b"].start == 2  # type: ignore[union-attr]
    inputs = {"in": np.zeros((1, 6, 1))}
    assert reference.run(late, inputs).spikes("b").ravel().tolist() == [0, 0, 1, 0, 0, 1]
    hasty = late.rewritten(nodes={"b": replace(late["b"], start=0)})
    assert reference.run(hasty, inputs).spikes("b").ravel().tolist() != [0, 0, 1, 0, 0, 1]


def test_a_loop_that_is_too_fast_is_refused() -> None:
    graph = two_layers()
    loop = Edge(name="b-a", source="b", target="a", operator=graph.edges[0].operator, delay=1)
    fast = Graph(nodes=graph.nodes, edges=[*graph.edges, loop], outputs=("b",))
    with pytest.raises(GraphError, match=r"a-b(.|\n)*less total delay than 1") as caught:
        Retime(1)(fast)
    assert caught.value.diagnostics[0].code == "G062"
    assert "b-a" not in caught.value.diagnostics[0].where


def test_an_initial_current_without_filter_has_no_immediate_form() -> None:
    with pytest.raises(GraphError, match="G061 at population 'b'"):
        CoupleImmediately()(two_layers(coupling="delayed", initial_current=1.0))


def assert_fuses(chain: Chain, source: tuple[int, ...], seed: int) -> Weighted:
    fused = fuse(chain, source)
    values = np.random.default_rng(seed).integers(-4, 5, (3, *source)) / 4
    expected = chain.apply(values).reshape(3, -1)
    np.testing.assert_array_equal(fused.apply(values).reshape(3, -1), expected, f"seed {seed}")
    return fused


@pytest.mark.parametrize("source", [(5,), (2, 4, 6), (3, 2, 3), (1, 6, 6)])
def test_a_fused_chain_computes_the_same(source: tuple[int, ...]) -> None:
    for seed in range(150):
        chain = random_chain(np.random.default_rng(seed), source, (4,) if seed % 2 else source)
        assert_fuses(chain, source, seed)


@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_pooling_before_a_convolution_becomes_one(dilation: tuple[int, int], groups: int) -> None:
    rng = np.random.default_rng(0)
    conv = Conv2d(
        weight=rng.choice([-1.0, 0.5, 2.0], (4, 2 // groups, 2, 3)),
        padding=(1, 2),
        stride=(1, 2),
        dilation=dilation,
        groups=groups,
    )
    chain = Chain(stages=(*average_pool(2, (2, 4), (2, 4), (0, 0)), conv))
    assert isinstance(assert_fuses(chain, (2, 6, 8), 0), Conv2d)


def test_pooling_of_windows_that_overlap_is_written_out() -> None:
    conv = Conv2d(weight=np.ones((1, 1, 2, 2)))
    chain = Chain(stages=(*average_pool(1, (2, 2), (1, 1), (0, 0)), conv))
    assert isinstance(assert_fuses(chain, (1, 5, 5), 0), Dense)


def test_coupling_refuses_a_late_start_whose_cut_it_would_move() -> None:
    graph = two_layers(coupling="delayed", alpha=0.5, start=2, vth=4.0, beta=1.0)
    with pytest.raises(GraphError, match=r"G064 at population .b..*would be seen"):
        CoupleImmediately()(graph)


def picture_graph(gain: Array) -> Graph:
    shape = (2, 2, 2)
    return Graph(
        nodes=[
            Input(name="in", shape=shape),
            LIF(
                name="n",
                shape=shape,
                alpha=None,
                beta=np.array(0.5),
                coupling="immediate",
                gain=gain,
                vth=np.array(1.0),
                reset="subtract",
                reset_order="next_step",
                compare=">",
            ),
        ],
        edges=[
            Edge(
                name="conv",
                source="in",
                target="n",
                operator=Conv2d(weight=np.ones((2, 2, 1, 1))),
            )
        ],
        outputs=("n",),
    )


def test_a_gain_per_channel_folds_into_a_convolution() -> None:
    graph = FoldGain()(picture_graph(np.array([1.0, 2.0]).repeat(4).reshape(2, 2, 2)))
    assert graph.edges[0].operator.weight.ravel().tolist() == [1, 1, 2, 2]


def test_a_gain_within_a_channel_is_refused() -> None:
    with pytest.raises(GraphError, match=r"G060 at population 'n'(.|\n)*'conv'"):
        FoldGain()(picture_graph(np.arange(1.0, 9.0).reshape(2, 2, 2)))


@pytest.mark.parametrize("seed", range(20))
def test_the_general_membrane_equation_has_the_canonical_spikes(seed: int) -> None:
    """tau dU/dt = -(U - U_rest) + R I with threshold theta; a spike adds U_rest - theta."""
    rng = np.random.default_rng(seed)
    neurons, steps = 4, 14
    rest, gain, beta = rng.choice([-2.0, -0.5, 1.0]), rng.choice([0.5, 2.0]), 0.75
    theta = rest + rng.choice([0.5, 1.0, 2.0], neurons)
    weight = rng.choice([-1.0, 0.5, 1.0, 1.5], (neurons, 3))
    spikes_in = (rng.random((1, steps, 3)) < 0.5).astype(float)

    voltage, spikes = np.full(neurons, rest), np.zeros(neurons)
    expected_spikes, expected_voltage = [], []
    for step in range(steps):
        drive = gain * (weight @ spikes_in[0, step])
        voltage = rest + beta * (voltage - rest) + drive + (rest - theta) * spikes
        spikes = (voltage > theta).astype(float)
        expected_spikes.append(spikes)
        expected_voltage.append(voltage)

    graph = Graph(
        nodes=[
            Input(name="in", shape=(3,)),
            LIF(
                name="n",
                shape=(neurons,),
                alpha=None,
                beta=np.array(beta),
                coupling="immediate",
                gain=np.array(gain),
                rest=np.array(rest),
                vth=theta,
                reset="subtract",
                reset_order="next_step",
                compare=">",
                view=SourceView(),
            ),
        ],
        edges=[Edge(name="w", source="in", target="n", operator=Dense(weight=weight))],
        outputs=("n",),
    )
    canonical = canonicalise(graph)
    folded = canonical["n"]
    assert isinstance(folded, LIF)
    np.testing.assert_array_equal(folded.vth, theta - rest)
    assert np.sum(expected_spikes) > 0
    for form in (graph, FoldRest()(graph), canonical):
        trace = everything(form, {"in": spikes_in})
        np.testing.assert_array_equal(trace.spikes("n")[0], expected_spikes)
        np.testing.assert_array_equal(trace["n", "voltage"][0], expected_voltage)
