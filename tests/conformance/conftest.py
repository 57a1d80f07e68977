"""What the comparisons with Lava share."""

from __future__ import annotations

import pytest

from spikec.backends.lava.environment import search
from spikec.backends.lava.run import LavaBackend


@pytest.fixture(scope="module")
def backend() -> LavaBackend:
    result = search()
    if result.found is None:
        tried = "; ".join(result.tried)
        pytest.fail(f"no Python with Lava; run 'spikec setup-lava'. Tried: {tried}")
    return LavaBackend(python=str(result.found.path), timeout=300)
