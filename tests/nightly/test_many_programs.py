"""Many more random programs than a commit is tested with, new ones each day: ``make nightly``."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from support.random_programs import merged, merged_inputs, random_inputs, random_program

from spikec.backends import open_backend
from spikec.backends.c.run import CBackend
from spikec.backends.lava.environment import search
from spikec.backends.lava.run import LavaBackend
from spikec.backends.simulator import fast, golden
from spikec.backends.simulator.layout import laid_out
from spikec.compiler.arrays import Array
from spikec.compiler.program import Program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.trace import QUANTITIES, Probe, Trace
from spikec.compiler.verification import verify
from spikec.models import zoo

#: Says which programs are drawn; a failure names it.
DAY = int(os.environ.get("SPIKEC_SEED", int(time.time()) // 86_400))
PROGRAMS, LAVA_PROGRAMS, BLOCK = 5_000, 500, 10


def block_of(kind: int, block: int, **limits: object) -> tuple[Program, dict[str, Array]]:
    """Return ten programs beside each other: compiling and starting costs more than running."""
    programs, inputs = [], []
    for number in range(BLOCK):
        rng = np.random.default_rng([DAY, kind, block, number])
        programs.append(random_program(rng, **limits))
        inputs.append(random_inputs(programs[-1], rng, 3, 14))
    return merged(programs), merged_inputs(inputs)


def probes_of(program: Program) -> list[Probe]:
    return [(item.name, quantity) for item in program.populations for quantity in QUANTITIES]


def assert_same(found: Trace, expected: Trace, what: Mapping[str, int]) -> None:
    for probe, values in expected.values.items():
        np.testing.assert_array_equal(found[probe], values, err_msg=f"{what}: {probe}")


@pytest.mark.parametrize("block", range(PROGRAMS // BLOCK))
def test_golden_fast_and_c_are_one(block: int) -> None:
    program, inputs = block_of(0, block, max_weight_exp=7 if block % 3 else 15)
    probes, what = probes_of(program), {"SPIKEC_SEED": DAY, "block": block}
    expected = golden.run(program, inputs, probes=probes)
    found = fast.run(laid_out(program), inputs, probes)
    assert_same(found, expected, what)
    assert dict(found.events) == dict(expected.events), what
    with CBackend(threads=1).load(program) as engine:
        compiled = engine.run(inputs, probes=probes)
    assert_same(compiled, expected, what)
    assert dict(compiled.events) == dict(expected.events), what


@pytest.mark.parametrize("features", ["", "+avx2,+fma,+bmi,+bmi2,+popcnt,+lzcnt"])
def test_the_fast_engine_needs_nothing_that_this_processor_has(
    features: str, tmp_path: Path
) -> None:
    """Integers where there is no fused multiplication, spikes listed one by one: compiled anew."""
    tests = Path(__file__).parent.parent / "properties" / "test_fast.py"
    told = {
        "NUMBA_CPU_NAME": "haswell" if features else "generic",
        "NUMBA_CPU_FEATURES": features,
        "NUMBA_CACHE_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    environment = {**os.environ, **told}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.lava
@pytest.mark.parametrize("block", range(LAVA_PROGRAMS // BLOCK))
def test_golden_and_lava_are_one(block: int) -> None:
    result = search()
    assert result.found is not None, f"no Python with Lava; tried: {'; '.join(result.tried)}"
    program, inputs = block_of(1, block, quiet_overflow=True, max_delay=63 if block % 4 == 3 else 5)
    probes = probes_of(program)
    expected = golden.run(program, inputs, probes=probes)
    backend = LavaBackend(python=str(result.found.path), timeout=600)
    found = backend.load(program).run(inputs, probes=probes)
    assert_same(found, expected, {"SPIKEC_SEED": DAY, "block": block})


def test_a_hundred_million_decisions_are_explained() -> None:
    decisions = unexplained = 0
    for item in zoo.ZOO:
        graph, data = zoo.graph(item.name), zoo.data(item.name)
        program = compile_graph(graph, load_target("loihi2")).program
        with open_backend("simulator", engine="golden").load(program) as engine:
            report = verify(program, data, golden=engine, backends={}, graph=graph)
        decisions += sum(one.decisions for one in report.certificates)
        unexplained += report.unexplained
    assert unexplained == 0
    assert decisions >= 100_000_000
