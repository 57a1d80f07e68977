"""Stock Lava processes wherever they are exact, ours elsewhere, each with its reason."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikec.backends.lava.placement import MAX_VTH, placement
from spikec.backends.simulator import golden
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput

STATE_MAX = (1 << 23) - 1


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bias_mant": [1, -2, 3], "bias_exp": [0, 2, 7]},
        {"initial_current": 5, "initial_voltage": [1, 2, 3]},
        {"reset_order": "next_step"},
        {"reset": "value", "reset_value": 0},
        {"start": 2, "delay": 2},
        {"reset": "none", "vth": None, "dv": 900},
        {"reset": "none", "vth": None, "dv": 900, "start": 2, "delay": 2},
    ],
)
def test_stock_lif(build, changes):
    (place,) = placement(build(**changes))
    assert (place.process, place.stock) == ("LIF", True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reset": "subtract"}, "a soft reset with du 400 (not 4095) and dv 100 (not 0)"),
        ({"reset": "subtract", "du": 4095}, "a soft reset with du 4095 and dv 100 (not 0)"),
        ({"reset": "subtract", "du": 7, "dv": 0}, "a soft reset with du 7 (not 4095) and dv 0"),
        ({"reset": "value", "reset_value": 3}, "reset 'value'"),
        ({"reset": "none"}, "reset 'none'"),
        ({"reset": "none", "vth": None, "dv": 0}, "without limit, as it has no leak"),
        ({"refractory": 2}, "2 refractory steps"),
        ({"reset_order": "next_step", "reset_drops_input": True}, "drops that step's input"),
        ({"du": [1, 2, 3]}, "du differs"),
        ({"dv": [1, 2, 3]}, "dv differs"),
        ({"vth": [1, 2, 3]}, "vth differs"),
        ({"dv": 4096}, "12 bits"),
        ({"vth": -1}, "vth is negative"),
        ({"bias_mant": 8, "bias_exp": -1}, "bias_exp is negative"),
        ({"start": 2}, "input of step 1"),
        ({"start": 2, "delay": 2, "initial_voltage": 7}, "holds an initial state"),
        ({"start": 2, "delay": 2, "bias_mant": 4000, "bias_exp": 7, "dv": 4095}, "bias alone"),
    ],
)
def test_ours(build, changes, reason):
    (place,) = placement(build(**changes))
    assert (place.process, place.stock) == ("ExactLIF", False)
    assert reason in place.reason


def test_bias_before_start_is_cleared_once(build):
    (place,) = placement(build(start=2, delay=2, bias_mant=3))
    assert (place.process, place.stock, place.held_voltage) == ("LIFReset", True, 0)


def test_voltage_is_held_down_where_the_bias_would_spike(build):
    (place,) = placement(build(start=2, delay=2, bias_mant=4000, bias_exp=7))
    assert (place.process, place.held_voltage) == ("LIFReset", -STATE_MAX)


def readout(weight: int, **changes: object) -> Program:
    """One readout with one weight from a graded input of at most 5."""
    values: dict[str, object] = {"du": 4095, "dv": 100, "bias_mant": 0, "bias_exp": 0}
    cell = Neurons(
        name="out", shape=(1,), vth=None, reset="none", reset_order="at_spike",
        **(values | changes),
    )  # fmt: skip
    link = Connection(
        name="w", source="x", target="out", operator=Dense(weight=np.array([[abs(weight)]])),
        weight_exp=3, num_weight_bits=8, sign_mode="excitatory", delay=1,
    )  # fmt: skip
    return Program(
        target="loihi",
        inputs=(ProgramInput(name="x", shape=(1,), kind="graded", low=0, high=5),),
        populations=(cell,),
        connections=(link,),
        outputs=("out",),
    )


def highest_voltage(program: Program, steps: int) -> int:
    """Golden's highest voltage when the most arrives in every step."""
    most = np.full((1, steps, 1), 5)
    return int(golden.run(program, {"x": most})["out", "voltage"].max())


@given(
    weight=st.integers(0, 255),
    du=st.sampled_from([4095, 2000, 900]),
    dv=st.integers(1, 4095),
    bias_mant=st.integers(-4096, 4095),
    bias_exp=st.integers(0, 7),
    initial=st.integers(-(2**23) + 1, 2**23 - 1),
)
def test_a_stock_readout_never_passes_the_threshold(
    weight, du, dv, bias_mant, bias_exp, initial
):  # fmt: skip
    program = readout(
        weight, du=du, dv=dv, bias_mant=bias_mant, bias_exp=bias_exp, initial_voltage=initial
    )
    (place,) = placement(program)
    if place.stock:
        assert highest_voltage(program, 300) <= MAX_VTH << 6


@pytest.mark.parametrize("weight", [80, 120, 200, 255])
@pytest.mark.parametrize("du", [4095, 3000])
def test_the_leak_that_check_names_is_the_least_that_is_enough(weight, du):
    """Without memory of inputs the proof is tight: one less, and the threshold is passed."""
    (place,) = placement(readout(weight, du=du, dv=1))
    assert not place.stock
    found = re.search(r"a leak of dv (\d+) or more \(now 1\)", place.alternative)
    assert found, place.alternative
    enough = int(found[1])
    assert placement(readout(weight, du=du, dv=enough))[0].stock
    assert not placement(readout(weight, du=du, dv=enough - 1))[0].stock
    assert highest_voltage(readout(weight, du=du, dv=enough), 3000) <= MAX_VTH << 6
    if du == 4095:
        assert highest_voltage(readout(weight, du=du, dv=enough - 1), 3000) > MAX_VTH << 6


def test_where_a_readout_could_rise_to_is_said():
    (place,) = placement(readout(100, dv=1))
    # 5 * 100 * 8 * 64 a step, 4095 of 4096 kept.
    assert f"may rise to {5 * 100 * 8 * 64 * 4096}" in place.reason
    assert "times smaller" in place.alternative
    assert "a leak and smaller weights" not in place.alternative


def test_a_readout_whose_current_may_wrap_is_ours(build):
    (place,) = placement(build(weight_exp=12, vth=None, reset="none", dv=4095))
    assert (place.stock, place.reason) == (False, "a readout whose current may wrap")


def test_a_readout_that_starts_above_every_threshold_is_ours():
    (place,) = placement(readout(0, initial_voltage=(MAX_VTH << 6) + 1))
    assert not place.stock
    assert "starts above 8388544" in place.reason
    assert placement(readout(0, initial_voltage=MAX_VTH << 6))[0].stock
