"""Distances of spike trains, against the formulas of the papers written out train by train."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikec.compiler.arrays import Array
from spikec.compiler.verification.trains import (
    coincidence_factor,
    coincidences,
    earth_movers,
    van_rossum,
    victor_purpura,
)


def rasters(seed: int, samples: int = 3, steps: int = 20, neurons: int = 4) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    shape = (samples, steps, neurons)
    lower = rng.random(shape) < rng.uniform(0, 0.6, neurons)
    upper = np.where(rng.random(shape) < 0.2, rng.random(shape) < 0.4, lower)
    return lower.astype(np.uint8), upper.astype(np.uint8)


def times(raster: Array) -> list[int]:
    return [int(step) for step in np.flatnonzero(raster)]


def naive_van_rossum(ours: list[int], theirs: list[int], tau: float) -> float:
    """The integral solved spike by spike: 1/2 exp(-|a - b| / tau) for each pair."""

    def product(one: list[int], two: list[int]) -> float:
        return sum(math.exp(-abs(a - b) / tau) for a in one for b in two) / 2

    squared = product(ours, ours) + product(theirs, theirs) - 2 * product(ours, theirs)
    return math.sqrt(max(squared, 0.0))


def naive_victor_purpura(ours: list[int], theirs: list[int], cost: float) -> float:
    if not ours or not theirs:
        return len(ours) + len(theirs)
    return min(
        naive_victor_purpura(ours[:-1], theirs, cost) + 1,
        naive_victor_purpura(ours, theirs[:-1], cost) + 1,
        naive_victor_purpura(ours[:-1], theirs[:-1], cost) + cost * abs(ours[-1] - theirs[-1]),
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), tau=st.sampled_from([1.0, 5.0, 30.0]))
def test_van_rossum_is_the_integral(seed: int, tau: float) -> None:
    lower, upper = rasters(seed)
    found = van_rossum(lower, upper, tau)
    for sample in range(3):
        for neuron in range(4):
            trains = (times(item[sample, :, neuron]) for item in (lower, upper))
            assert found[sample, neuron] == pytest.approx(naive_van_rossum(*trains, tau), abs=1e-6)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), cost=st.sampled_from([0.0, 0.1, 0.7, 3.0]))
def test_victor_purpura_is_the_edit_distance(seed: int, cost: float) -> None:
    lower, upper = (item[0, :7].T for item in rasters(seed))
    found = victor_purpura(lower, upper, cost)
    for index, pair in enumerate(zip(lower, upper, strict=True)):
        assert found[index] == pytest.approx(naive_victor_purpura(*map(times, pair), cost))


def test_one_spike_more_and_a_moved_spike() -> None:
    empty, one, moved = np.zeros((1, 30, 1), np.uint8), *(np.zeros((1, 30, 1)) for _ in "ab")
    one[0, 4], moved[0, 7] = 1, 1
    assert van_rossum(empty, one, 10.0).item() == pytest.approx(math.sqrt(0.5))
    assert van_rossum(one, moved, 10.0).item() == pytest.approx(math.sqrt(1 - math.exp(-0.3)))
    flat = (item[:, :, 0] for item in (one, moved))
    assert victor_purpura(*flat, 0.1).item() == pytest.approx(0.3)
    assert victor_purpura(empty[:, :, 0], one[:, :, 0], 0.1).item() == 1.0


def gamma(lower: Array, upper: Array, window: int = 1) -> Array:
    counts = [(item > 0).sum(axis=(0, 1)) for item in (lower, upper)]
    near = coincidences(lower, upper, window)
    steps = lower.shape[0] * lower.shape[1]
    return coincidence_factor(near, *counts, steps=steps, window=window)


def test_coincidence_is_one_for_equal_trains_and_none_without_spikes() -> None:
    lower, _ = rasters(1)
    lower[..., 0], lower[..., 1] = 0, 1
    found = gamma(lower, lower)
    assert np.isnan(found[:2]).all()  # silent; and one that always spikes, which chance equals
    assert found[2:] == pytest.approx(1.0)


def test_coincidence_is_zero_on_average_for_independent_trains() -> None:
    rng = np.random.default_rng(3)
    lower, upper = (rng.random((50, 200, 40)) < 0.1 for _ in range(2))
    assert abs(gamma(lower, upper).mean()) < 0.01


def test_coincidences_look_both_ways_within_the_sample() -> None:
    lower, upper = np.zeros((2, 2, 10, 1), np.uint8)
    lower[0, [0, 3, 9], 0] = 1
    upper[0, [1, 5, 8], 0] = 1
    upper[1, 0, 0] = 1  # the next sample is far away
    assert coincidences(lower, upper, 0).item() == 0
    assert coincidences(lower, upper, 1).item() == 2
    assert coincidences(lower, upper, 2).item() == 3


def test_for_low_rates_the_factor_is_kistlers() -> None:
    rng = np.random.default_rng(4)
    lower = rng.random((20, 500, 3)) < 0.004
    upper = np.roll(lower, 1, axis=1) ^ (rng.random(lower.shape) < 0.001)
    for neuron in range(3):
        ours, theirs = lower[..., neuron].sum(), upper[..., neuron].sum()
        near = coincidences(lower, upper, 1)[neuron]
        rate = theirs / (20 * 500)
        expected = (near - 3 * rate * ours) / ((ours + theirs) / 2) / (1 - 3 * rate)
        assert gamma(lower, upper)[neuron] == pytest.approx(expected, rel=1e-2)


def test_the_earth_movers_distance_moves_rates() -> None:
    rates = np.array([0.1, 0.3, 0.2])
    assert earth_movers(rates, rates[::-1]) == 0.0
    assert earth_movers(rates, rates + 0.05) == pytest.approx(0.05)
    assert earth_movers(np.array([0.0, 1.0]), np.array([0.5, 0.5])) == pytest.approx(0.5)


def test_three_spikes_against_elephant() -> None:
    """Elephant 1.2.1: van_rossum_distance (sqrt(2) times ours) and victor_purpura_distance."""
    ours, theirs = np.zeros((2, 30), np.uint8)
    ours[[1, 5, 9]] = theirs[[2, 5, 20]] = 1
    distance = van_rossum(ours[None, :, None], theirs[None, :, None], 10.0).item()
    assert distance * math.sqrt(2) == pytest.approx(1.2089379, abs=1e-7)
    assert victor_purpura(ours[None], theirs[None], 0.1).item() == pytest.approx(1.2)
