"""Who reaches whom: the quick answers against synapses written out as a matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.core_checks import presence

from spikec.compiler.arrays import Array
from spikec.compiler.mapping.activity import synapses_of
from spikec.compiler.mapping.mapper import cores_of
from spikec.compiler.mapping.use import CoreUse, Network
from spikec.compiler.mapping.wires import ConvWires, DenseWires, SparseWires, Wires
from spikec.compiler.operators import Conv2d, Dense, Operator, Sparse, Synapses
from spikec.compiler.program import Connection
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.models import conv2d, network, seed_lif, spikes


def matrix(operator: Operator, source: tuple[int, ...]) -> Array:
    """Return which synapses there are, ``[target, source]``."""
    edge = Connection(name="e", source="a", target="b", operator=operator, weight_exp=0,
                      num_weight_bits=8, sign_mode="mixed", delay=1)  # fmt: skip
    return presence(edge, source)


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[Wires, Array]:
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups, per_group, out = (draw(st.integers(1, 3)) for _ in range(3))
    kernel, stride, dilation, room = (draw(pair) for _ in range(4))
    padding = (draw(st.integers(0, kernel[0])), draw(st.integers(0, kernel[1])))
    rows, columns = (
        (size - 1) * apart + more
        for size, apart, more in zip(kernel, dilation, room, strict=True)
    )  # fmt: skip
    operator = Conv2d(
        weight=np.full((groups * out, per_group, *kernel), 2),
        stride=stride, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    source = (groups * per_group, rows, columns)
    return ConvWires(operator, source), matrix(operator, source)


@st.composite
def others(draw: st.DrawFn) -> tuple[Wires, Array]:
    targets, sources = draw(st.integers(1, 8)), draw(st.integers(1, 8))
    seed, kept = draw(st.integers(0, 1000)), draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    there = np.random.default_rng(seed).random((targets, sources)) < kept
    if draw(st.booleans()):
        operator: Operator = Dense(weight=2 * there)
        return DenseWires(operator), there
    ends = [np.arange(targets, dtype=np.int32)] * sources
    synapses = Synapses(
        targets=np.concatenate(ends), pointers=np.arange(sources + 1) * targets, outputs=targets
    )
    operator = Sparse(weight=2 * there.T.reshape(-1), synapses=synapses)
    return SparseWires(operator), matrix(operator, (sources,))


@settings(max_examples=200, deadline=None)
@given(st.one_of(convolutions(), others()), st.integers(0, 1000))
def test_wires_answer_as_the_matrix_does(drawn: tuple[Wires, Array], seed: int) -> None:
    wires, there = drawn
    rng = np.random.default_rng(seed)
    assert (wires.targets, wires.sources) == there.shape
    some = np.flatnonzero(rng.random(wires.targets) < rng.random())
    counts = there[some].sum(axis=0)
    np.testing.assert_array_equal(wires.counts(some), counts)
    lists, sources = wires.lists(some)
    expected = counts[counts > 0]
    if len(some):  # nobody asks of no neurons
        assert sorted(np.repeat(lists, sources)) == sorted(expected)
    groups = rng.integers(0, 4, wires.targets)
    reached = np.array([there[groups == group].any(axis=0) for group in range(5)]).T
    reach = wires.reach(groups, 5)
    groups_of, counts = reach.of_rows(reach.rows)
    found = np.zeros((wires.sources, 5), bool)
    found[np.repeat(np.arange(wires.sources), counts), groups_of] = True
    np.testing.assert_array_equal(found, reached)
    mine = rng.integers(0, 5, wires.sources)
    np.testing.assert_array_equal(reach.holds(mine), reached[np.arange(wires.sources), mine])
    np.testing.assert_array_equal(reach.counts(), reached.sum(axis=1))


@settings(max_examples=50, deadline=None)
@given(convolutions())
def test_synapses_of_a_convolution_are_those_of_its_matrix(drawn: tuple[Wires, Array]) -> None:
    wires, there = drawn
    effective, full = synapses_of(wires)
    np.testing.assert_array_equal(effective, there.sum(axis=0))
    np.testing.assert_array_equal(full, there.sum(axis=0))


def test_cores_that_did_not_change_are_not_counted_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    graph = network(
        nodes=[spikes("in", (2, 8, 8)), seed_lif("a", (4, 8, 8), alpha=0.5, beta=0.9)],
        edges=[conv2d("in", "a", rng.normal(0, 0.3, (4, 2, 3, 3)), padding=1)],
        outputs=["a"],
    )
    loihi1 = load_target("loihi1")
    asked = Network(compile_graph(graph, loihi1).program, cores_of(loihi1))
    counted: list[int] = []
    whole = Network._use

    def counting(self: Network, members: Array, axons_out: int) -> CoreUse:
        counted.append(len(members))
        return whole(self, members, axons_out)

    monkeypatch.setattr(Network, "_use", counting)
    pieces = np.split(np.arange(asked.num_neurons), 8)
    none = np.zeros(asked.num_neurons, np.int64)
    first = asked.uses(pieces, none)
    changed = [np.concatenate(pieces[:2]), *pieces[2:]]
    again = asked.uses(changed, none + 3)
    assert counted == [32] * 8 + [64]
    assert again == [asked.use(piece, none + 3) for piece in changed]
    assert [use.axons_out for use in first] == [0] * 8
    assert again[1].axons_out == 3 * 32
