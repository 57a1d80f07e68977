"""The integer operations against Python's unbounded integers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import scalar_golden

from spikec.compiler import fixedpoint

SPAN = 1 << 24
HALF = 1 << 23

states = st.integers(-HALF, HALF)
wide = st.integers(-(1 << 40), 1 << 40)
BOUNDARIES = (-3 * HALF, -SPAN, -HALF, 0, HALF, SPAN, 3 * HALF)


def one(function: Callable[..., object], *arguments: int) -> int:
    result = function(*(np.array([value], dtype=np.int64) for value in arguments))
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.int64
    return int(result.item())


def truncated(value: int, divisor: int) -> int:
    return abs(value) // divisor * (1 if value >= 0 else -1)


@given(wide, st.integers(0, 30))
@example(-1, 1)
@example(1, 1)
@example(-(1 << 12) + 1, 12)
def test_shift_toward_zero_drops_the_remainder(value: int, bits: int) -> None:
    assert one(fixedpoint.shift_toward_zero, value, bits) == truncated(value, 1 << bits)


@given(st.integers(-(1 << 30), 1 << 30), st.integers(-15, 15))
@example(-3, -1)
def test_floor_shift_rounds_toward_minus_infinity(value: int, exponent: int) -> None:
    expected = value * 2**exponent if exponent >= 0 else value // 2**-exponent
    assert one(fixedpoint.floor_shift, value, exponent) == expected


@given(st.integers(-4096, 4095), st.integers(-8, 7))
def test_effective_bias_is_the_floor_of_the_product(mantissa: int, exponent: int) -> None:
    expected = mantissa * 2**exponent if exponent >= 0 else mantissa // 2**-exponent
    assert one(fixedpoint.effective_bias, mantissa, exponent) == expected


@given(states, st.integers(0, 4096))
@example(-1, 4095)
@example(1, 4095)
@example(-HALF, 4096)
def test_decay_truncates_the_product_toward_zero(state: int, factor: int) -> None:
    assert one(fixedpoint.decay, state, factor) == truncated(state * factor, 4096)


@given(states, st.integers(0, 4095))
def test_decay_shrinks_every_state_but_zero(state: int, factor: int) -> None:
    assert abs(one(fixedpoint.decay, state, factor)) <= max(0, abs(state) - 1)


@given(wide)
@example(HALF)
@example(-HALF)
def test_wrap24_turns_at_most_once(value: int) -> None:
    turned = value - SPAN if value > HALF else value + SPAN if value <= -HALF else value
    assert one(fixedpoint.wrap24, value) == turned


@given(st.integers(-3 * HALF + 1, 3 * HALF))
def test_wrap24_lands_in_its_range_and_keeps_the_residue(value: int) -> None:
    wrapped = one(fixedpoint.wrap24, value)
    assert -HALF < wrapped <= HALF
    assert (wrapped - value) % SPAN == 0


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (HALF - 1, HALF - 1),
        (HALF, HALF),  # not two's complement: there it would be -2**23
        (HALF + 1, 1 - HALF),
        (1 - HALF, 1 - HALF),
        (-HALF, HALF),
        (-HALF - 1, HALF - 1),
        (3 * HALF, HALF),
        (3 * HALF + 1, HALF + 1),  # one turn is not enough
        (1 - 3 * HALF, 1 - HALF),
        (-3 * HALF, -HALF),
    ],
)
def test_wrap24_at_its_boundaries(value: int, expected: int) -> None:
    assert one(fixedpoint.wrap24, value) == expected
    assert scalar_golden.wrap24(value) == expected


@given(wide)
@example(HALF)
@example(-HALF)
def test_saturate24_clips_symmetrically(value: int) -> None:
    assert one(fixedpoint.saturate24, value) == min(max(value, 1 - HALF), HALF - 1)


@given(st.integers(-(1 << 30), 1 << 30), st.integers(0, 15))
def test_align_multiplies_by_a_power_of_two(value: int, bits: int) -> None:
    assert one(fixedpoint.align, value, bits) == value * 2**bits


@given(st.lists(wide, min_size=1, max_size=9))
def test_the_operations_work_element_by_element(values: list[int]) -> None:
    array = np.array(values, dtype=np.int64)
    for function, scalar in (
        (fixedpoint.wrap24, scalar_golden.wrap24),
        (fixedpoint.saturate24, scalar_golden.sat24),
    ):
        assert function(array).tolist() == [scalar(value) for value in values]


@pytest.mark.parametrize("value", BOUNDARIES)
def test_both_implementations_truncate_alike(value: int) -> None:
    for near in (value - 1, value, value + 1):
        assert one(fixedpoint.decay, near, 4095) == scalar_golden.rtz(near * 4095, 12)


def test_the_constants_are_those_of_the_chip() -> None:
    assert fixedpoint.DECAY_UNITY == 2**fixedpoint.DECAY_BITS == 4096
    assert fixedpoint.STATE_MAX == 2**23 - 1
    assert fixedpoint.VTH_SHIFT == fixedpoint.ACTIVATION_SHIFT == 6
