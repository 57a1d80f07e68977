"""Our distances of spike trains are elephant's on random trains, up to the factors that we name.

Elephant works on times in physical units and one train at a time; ours on rasters in steps.
"""

from __future__ import annotations

import math

import neo
import numpy as np
import pytest
import quantities as pq
from elephant.spike_train_dissimilarity import van_rossum_distance, victor_purpura_distance

from spikec.compiler.arrays import Array
from spikec.compiler.verification.trains import van_rossum, victor_purpura

pytestmark = pytest.mark.torch

STEPS = 60


def pair(seed: int) -> tuple[Array, Array]:
    """Return two trains: independent ones, or one moved and thinned; sometimes none at all."""
    rng = np.random.default_rng(seed)
    lower = (rng.random(STEPS) < rng.uniform(0, 0.4)).astype(np.uint8)
    if seed % 2:
        return lower, (rng.random(STEPS) < rng.uniform(0, 0.4)).astype(np.uint8)
    moved = np.roll(lower, int(rng.integers(-3, 4)))
    return lower, moved * (rng.random(STEPS) < 0.8).astype(np.uint8)


def train(raster: Array) -> neo.SpikeTrain:
    return neo.SpikeTrain(np.flatnonzero(raster) * pq.ms, t_stop=STEPS * pq.ms)


@pytest.mark.parametrize("seed", range(100))
def test_distances_are_elephants(seed: int) -> None:
    lower, upper = pair(seed)
    trains = [train(lower), train(upper)]
    for tau in (1.0, 7.5, 40.0):
        theirs = van_rossum_distance(trains, time_constant=tau * pq.ms)[0, 1]
        ours = van_rossum(lower[None, :, None], upper[None, :, None], tau).item()
        assert ours * math.sqrt(2) == pytest.approx(theirs, rel=1e-6, abs=1e-6)
    for cost in (0.05, 0.5, 3.0):
        theirs = victor_purpura_distance(trains, cost_factor=cost / pq.ms)[0, 1]
        ours = victor_purpura(lower[None], upper[None], cost).item()
        assert ours == pytest.approx(theirs, rel=1e-9)
