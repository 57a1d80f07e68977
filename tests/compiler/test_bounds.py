"""Bounds of what arrives and of currents hold, and are reached where that is easy to see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.compiler.bounds import (
    MOST,
    arriving,
    current_bound,
    highest_current,
    reach,
    upward,
)
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput


@pytest.mark.parametrize("seed", range(40))
def test_no_current_of_a_random_program_leaves_its_bound(seed: int) -> None:
    rng = np.random.default_rng([31, seed])
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=2, steps=30)
    probes = [(item.name, "current") for item in program.populations]
    trace = golden.run(program, inputs, probes=probes)
    for item in program.populations:
        bound = current_bound(item, arriving(program, item))
        if bound < 1 << 23:
            assert np.abs(trace[item.name, "current"]).max() <= bound
            assert f"{item.name}/current wrapped" not in trace.events


@pytest.mark.parametrize("seed", range(40))
def test_no_current_of_a_random_program_passes_its_highest(seed: int) -> None:
    rng = np.random.default_rng([32, seed])
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=2, steps=30)
    trace = golden.run(
        program, inputs, probes=[(item.name, "current") for item in program.populations]
    )
    for item in program.populations:
        highest = highest_current(program, item).reshape(item.shape)
        wraps = f"{item.name}/current wrapped" in trace.events
        assert wraps or (trace[item.name, "current"] <= highest).all()
        assert not wraps or (highest == 1 << 23).all()


def test_only_what_raises_a_current_counts_upward() -> None:
    program = one([[2, -4], [-6, -8]], high=5, exponent=3)
    out = program.populations[0]
    assert upward(program, out).tolist() == [2 * 8 * 5, 0]
    assert highest_current(program, out).tolist() == [80 * 64, 0]
    signed = replace(program, inputs=(replace(program.inputs[0], low=-7),))
    assert upward(signed, out).tolist() == [(2 * 5 + 4 * 7) * 8, (6 * 7 + 8 * 7) * 8]
    # Where currents wrap, only their type bounds them.
    wide = one([[254] * 30], high=1 << 20)
    assert highest_current(wide, wide.populations[0]).tolist() == [1 << 23]


def one(weight: list[list[int]], *, high: int = 1, du: int = 4095, **more: int) -> Program:
    return Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=(len(weight[0]),), kind="graded", low=0, high=high),),
        populations=(
            Neurons(name="out", shape=(len(weight),), du=np.array(du), dv=np.array(0),
                    vth=np.array(1), reset="zero", reset_order="at_spike"),
        ),
        connections=(
            Connection(name="c", source="in", target="out", weight_exp=more.get("exponent", 0),
                       operator=Dense(weight=np.array(weight)), num_weight_bits=8,
                       sign_mode="mixed", delay=1),
        ),
        outputs=("out",),
    )  # fmt: skip


def test_what_arrives_is_the_sum_of_magnitudes_times_the_largest_message() -> None:
    program = one([[2, -4], [6, 0]], high=5, exponent=3)
    out = program.populations[0]
    assert arriving(program, out).tolist() == [6 * 8 * 5, 6 * 8 * 5]
    # Without memory the current is what arrives.
    assert current_bound(out, arriving(program, out)) == 240 * 64
    # One that keeps half of itself sums up to twice as much.
    half = replace(out, du=np.array(2047))
    assert current_bound(half, arriving(program, out)) == 2 * 240 * 64


def test_bounds_end_where_64_bits_do() -> None:
    program = one([[254] * 300], high=(1 << 31) - 1, exponent=15, du=0)
    out = program.populations[0]
    assert reach(program, program.connections[0]).tolist() == [MOST]
    assert arriving(program, out).tolist() == [MOST]
    assert current_bound(out, arriving(program, out)) >= MOST << 6
