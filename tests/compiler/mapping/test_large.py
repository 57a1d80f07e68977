"""Large networks are mapped, or refused, in memory in proportion to themselves."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest

from spikec.compiler.errors import MappingError
from spikec.compiler.mapping.mapper import map_program
from spikec.compiler.mapping.use import Network
from spikec.compiler.operators import Conv2d, Dense, Sparse, Synapses, Weighted
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.targets import load_target

LOIHI2 = load_target("loihi2")
assert LOIHI2.cores is not None
CORES = LOIHI2.cores
Result = TypeVar("Result")


def layers(shape: tuple[int, ...], operator: Weighted) -> Program:
    """Return two populations of ``shape`` with ``operator`` between them."""
    fields = {"du": 9, "dv": 7, "vth": 50, "reset": "zero", "reset_order": "at_spike"}
    ends = {"weight_exp": 0, "num_weight_bits": 8, "sign_mode": "mixed", "delay": 1}
    enters = Sparse(
        weight=np.full(int(np.prod(shape)), 2),
        synapses=Synapses(
            targets=np.arange(int(np.prod(shape))), pointers=np.arange(int(np.prod(shape)) + 1),
            outputs=int(np.prod(shape)),
        ),
    )  # fmt: skip
    return Program(
        target="loihi2",
        inputs=(ProgramInput(name="x", shape=shape, kind="binary", low=0, high=1),),
        populations=tuple(Neurons(name=name, shape=shape, **fields) for name in "ab"),  # type: ignore[arg-type]
        connections=(
            Connection(name="xa", source="x", target="a", operator=enters, **ends),  # type: ignore[arg-type]
            Connection(name="ab", source="a", target="b", operator=operator, **ends),  # type: ignore[arg-type]
        ),
        outputs=("b",),
    )


def conv(channels: int, groups: int = 1) -> Conv2d:
    weight = np.random.default_rng(0).integers(1, 9, (channels, channels // groups, 3, 3)) * 2
    return Conv2d(weight=weight, padding=(1, 1), groups=groups)


def peak(call: Callable[[], Result]) -> tuple[Result, float]:
    """Return what ``call`` returns, and the megabytes that it took on the way."""
    tracemalloc.start()
    try:
        result = call()
        return result, tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("groups", [1, 16])
def test_messages_of_a_pair_of_60_thousand_neurons_take_no_table_of_cores(groups: int) -> None:
    program = layers((16, 64, 64), conv(16, groups))
    network = Network(program, CORES)
    core_of = (np.arange(network.num_neurons) // 16).astype(np.int32)
    number = int(core_of[-1]) + 1  # 8,192: a table of their pairs is 537 MB
    rates = network.rates(None)
    (between, outside), megabytes = peak(lambda: network.messages(core_of, number, rates))
    assert megabytes < 100
    # A core has a quarter of a row of one channel; a channel reaches those of its group.
    reached = 16 // groups
    assert between.total == reached * sum(
        len({(y + dy, (x + dx) // 16) for dy in (-1, 0, 1) for dx in (-1, 0, 1)
             if 0 <= y + dy < 64 and 0 <= x + dx < 64})
        for y in range(64) for x in range(64)
    ) * 16  # fmt: skip
    assert between.crossing == network.crossing(core_of, number, rates)
    assert outside.sum() == 16 * 64 * 64


def test_a_network_of_thousands_of_cores_is_mapped_in_little_memory() -> None:
    cores = replace(CORES, neurons=16, count=5000, tiles=(100, 50), cores_per_tile=1)
    program = layers((4, 64, 64), conv(4))
    mapped, megabytes = peak(lambda: map_program(program, replace(LOIHI2, cores=cores)))
    assert mapped.core_map.num_cores == 2048  # a table of their pairs is 34 MB, and there were four
    assert megabytes < 30
    pairs = mapped.between
    assert mapped.hops > mapped.crossing > 0  # one core a tile
    assert pairs.sent().sum() == pairs.received().sum() == pairs.total


def test_too_many_cores_are_counted_and_refused() -> None:
    cores = replace(CORES, neurons=16)
    with pytest.raises(MappingError, match=r"M002.*2,048 cores are needed, 120 are there"):
        map_program(layers((4, 64, 64), conv(4)), replace(LOIHI2, cores=cores))


def test_what_no_core_can_hold_is_said_before_anything_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("spikec.compiler.mapping.mapper.cut", None)
    cores = replace(CORES, axons_in=8, convolution="unrolled")
    with pytest.raises(MappingError, match=r"M001.*'b'.*takes 36 axons coming in; a core has 8"):
        map_program(layers((4, 64, 64), conv(4)), replace(LOIHI2, cores=cores))


def test_sparse_and_thinned_matrices_reach_what_they_reach() -> None:
    rng = np.random.default_rng(0)
    weight = 2 * (rng.random((200, 200)) < 0.1)
    sources, targets = np.nonzero(weight.T)
    synapses = Synapses(
        targets=targets, pointers=np.searchsorted(sources, np.arange(201)), outputs=200
    )
    sparse = Sparse(weight=np.full(len(targets), 2), synapses=synapses)
    core_of = rng.integers(0, 300, 400).astype(np.int32)
    wanted = np.zeros((300, 300))
    for source in range(200):
        for core in set(core_of[200 + np.flatnonzero(weight[:, source])].tolist()):
            wanted[core_of[source], core] += 1
    for operator in (Dense(weight=weight), sparse):
        network = Network(layers((200,), operator), CORES)
        between, _ = network.messages(core_of, 300, network.rates(None))
        np.testing.assert_array_equal(between.dense(), wanted)
        assert between.crossing == wanted.sum() - np.trace(wanted)
        assert network.crossing(core_of, 300, network.rates(None)) == between.crossing
