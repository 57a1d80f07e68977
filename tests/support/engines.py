"""Everything that runs programs, for tests against what others recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from spikec.backends import open_backend
from spikec.compiler.arrays import Array
from spikec.compiler.program import Program
from spikec.compiler.trace import Probe, Trace

__all__ = ["ENGINES", "HERE", "Engine", "run_on"]

Engine = tuple[str, dict[str, object]]

#: Those that run in this process.
HERE = [
    pytest.param(("simulator", {"engine": "golden"}), id="golden"),
    pytest.param(("simulator", {"engine": "fast"}), id="fast"),
    pytest.param(("c", {}), id="c"),
]
ENGINES = [*HERE, pytest.param(("lava", {}), id="lava", marks=pytest.mark.lava)]


def run_on(
    engine: Engine, program: Program, inputs: Mapping[str, Array], probes: Sequence[Probe]
) -> Trace:
    """Run ``program`` on one of :data:`ENGINES`."""
    name, options = engine
    with open_backend(name, **options).load(program) as executable:
        return executable.run(inputs, probes=probes)
