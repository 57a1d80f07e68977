"""Weights that are one store: nothing is lost, nothing is added, and nothing is kept twice."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.delayed_programs import Drawn, apart, delayed
from support.random_programs import random_program

from spikec.backends.c.emit import emit
from spikec.compiler.arrays import Array
from spikec.compiler.operators import Conv2d, Dense, Sparse, Synapses, Weighted
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.storage import storages

KINDS: tuple[Drawn, ...] = ("source", "target", "synapse", "several")


def connection(operator: Weighted, **fields: object) -> Connection:
    given_fields = {"name": "w", "source": "x", "target": "y", "weight_exp": 0, "delay": 1,
                    "num_weight_bits": 8, "sign_mode": "mixed", **fields}  # fmt: skip
    return Connection(operator=operator, **given_fields)  # type: ignore[arg-type]


def of(*connections: Connection, source: tuple[int, ...] = (64,)) -> Program:
    shape = connections[0].operator.output_shape(source)
    neurons = {"du": 4095, "dv": 100, "vth": 50, "reset": "zero", "reset_order": "at_spike"}
    return Program(
        target="loihi2",
        inputs=(ProgramInput(name="x", shape=source, kind="binary", low=0, high=1),),
        populations=(Neurons(name="y", shape=shape, **neurons),),  # type: ignore[arg-type]
        connections=connections,
        outputs=("y",),
    )


def full(*shape: int) -> Array:
    """Return weights none of which is 0."""
    return np.random.default_rng(0).integers(1, 60, shape) * 2


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 30), st.sampled_from(KINDS), st.sampled_from([2, 9, 300]))
def test_stores_hold_each_synapse_once_with_its_delay(seed: int, kind: Drawn, most: int) -> None:
    rng = np.random.default_rng(seed)
    program = delayed(random_program(rng), rng, kind, most)
    stores = storages(program)
    names = [item.name for stored in stores for item in stored.connections]
    assert sorted(names) == sorted(item.name for item in program.connections)
    for stored in stores:
        weight = stored.operator.weight
        assert np.count_nonzero(weight) == sum(
            np.count_nonzero(item.operator.weight) for item in stored.connections
        )
        for item in stored.connections:
            there = item.operator.weight != 0
            np.testing.assert_array_equal(weight[there], item.operator.weight[there])
            assert (stored.delay_of[there] == item.delay).all()
            assert (item.weight_exp, item.num_weight_bits, item.sign_mode) == (
                stored.weight_exp, stored.weight_bits, stored.sign_mode,
            )  # fmt: skip
        assert stored.delays == tuple(sorted(set(stored.delays)))


@pytest.mark.parametrize(
    ("form", "what", "parameters"),
    [((1, 64), "source", 64), ((64, 1), "target", 64), ((64, 64), "synapse", 4096)],
)
def test_63_delays_of_4096_synapses_take_4096_weights_and_their_delays(
    form: tuple[int, int], what: str, parameters: int, tmp_path: Path
) -> None:
    delays = np.random.default_rng(1).permutation(np.arange(np.prod(form)) % 63 + 1)
    program = of(*apart(connection(Dense(weight=full(64, 64))), delays.reshape(form)))
    assert len(program.connections) == 63
    (stored,) = storages(program)
    assert (stored.delayed, stored.layout, stored.longest) == (what, "matrix", 63)
    sizes = emit(program, tmp_path / "net")
    assert (sizes.weights, sizes.parameters) == (4096, parameters)
    assert sizes.ram < 64 * 8 + 1000  # 64 rows of bits, not of sums


@pytest.mark.parametrize(
    ("form", "what"),
    [((8, 1, 1, 1), "target"), ((8, 4, 3, 3), "synapse"), ((1, 4, 1, 1), "synapse")],
)
def test_kernels_are_stored_once(form: tuple[int, ...], what: str, tmp_path: Path) -> None:
    delays = np.arange(np.prod(form)).reshape(form) % 4 + 1
    operator = Conv2d(weight=full(8, 4, 3, 3), padding=(1, 1))
    program = of(*apart(connection(operator), delays), source=(4, 5, 5))
    (stored,) = storages(program)
    assert (stored.delayed, stored.layout) == (what, "kernel")
    assert emit(program, tmp_path / "net").weights == 8 * 4 * 9


def test_what_differs_in_more_than_delays_stays_apart() -> None:
    whole = connection(Dense(weight=full(64, 64) * 2))
    delays = np.arange(64).reshape(1, 64) % 2 + 1
    one, other = apart(whole, delays)
    assert len(storages(of(one, other))) == 1
    again = replace(other, name="again")
    assert len(storages(of(one, other, again))) == 2
    for changed in (
        replace(other, weight_exp=1), replace(other, num_weight_bits=7),
        replace(other, sign_mode="excitatory"),
        replace(other, operator=Dense(weight=np.roll(other.operator.weight, 1, axis=1))),
    ):  # fmt: skip
        assert len(storages(of(one, changed))) == 2


def test_sparse_synapses_of_one_table_are_one_store_and_no_synapses_have_no_delay() -> None:
    table = Synapses(targets=np.tile(np.arange(4), 64), pointers=np.arange(65) * 4, outputs=4)
    parts = apart(connection(Sparse(weight=full(256), synapses=table)), np.arange(256) % 5 + 1)
    silent = connection(Sparse(weight=np.zeros(256, int), synapses=table), name="none", delay=50)
    (stored,) = storages(of(*parts, silent))
    assert (stored.layout, stored.delayed, stored.longest) == ("synapses", "synapse", 5)


def test_two_delays_of_single_synapses_take_no_less_as_one(tmp_path: Path) -> None:
    delays = np.random.default_rng(0).integers(1, 3, (64, 64))
    program = of(*apart(connection(Dense(weight=full(64, 64))), delays))
    sizes = emit(program, tmp_path / "net")
    assert (sizes.weights, sizes.parameters) == (2 * 4096, 0)
