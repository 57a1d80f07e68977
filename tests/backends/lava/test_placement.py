"""Stock Lava processes wherever they are exact, ours elsewhere, each with its reason."""

from __future__ import annotations

import pytest

from spikec.backends.lava.placement import placement

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
    ],
)
def test_stock_lif(build, changes):
    (place,) = placement(build(**changes))
    assert (place.process, place.stock) == ("LIF", True)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"reset": "subtract"}, "reset 'subtract' at 'at_spike'"),
        ({"reset": "subtract", "reset_order": "next_step"}, "reset 'subtract' at 'next_step'"),
        ({"reset": "value", "reset_value": 3}, "reset 'value'"),
        ({"reset": "none"}, "reset 'none'"),
        ({"reset": "none", "vth": None}, "leaky integrator"),
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
