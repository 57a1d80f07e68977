"""Compiled C equals the simulator, bit for bit, on random programs."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest
from support.c_programs import run_package
from support.delayed_programs import Drawn, delayed
from support.random_programs import merged, merged_inputs, random_inputs, random_program

from spikec.backends.c import compiler, run
from spikec.backends.c.plan import plan
from spikec.backends.c.run import CBackend
from spikec.backends.simulator import fast, golden
from spikec.backends.simulator.layout import laid_out
from spikec.compiler.arrays import Array
from spikec.compiler.program import Program
from spikec.compiler.trace import QUANTITIES, Probe

#: Whether this is an x86 processor that has all that the tests ask compilers for.
ALL_X86 = platform.machine() in ("x86_64", "AMD64") and (
    " avx2 " in Path("/proc/cpuinfo").read_text("utf-8")
    if Path("/proc/cpuinfo").is_file()
    else False
)
SANITIZED = ("-fsanitize=undefined,address", "-fno-sanitize-recover=all")


@pytest.fixture(autouse=True)
def _threads_share_even_the_smallest_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_WORTH_SHARING", -1)


def all_probes(program: Program) -> list[Probe]:
    return [(item.name, quantity) for item in program.populations for quantity in QUANTITIES]


def drawn(*seed: int, longest: int = 15, **limits: object) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    program = random_program(rng, **limits)
    return program, random_inputs(program, rng, 3, int(rng.integers(4, longest)))


def assert_native_equals(program: Program, inputs: dict[str, Array]) -> None:
    probes = all_probes(program)
    expected = golden.run(program, inputs, probes=probes)
    with CBackend(threads=2).load(program) as engine:
        found = engine.run(inputs, probes=probes)
        usual = engine.run(inputs)
    with CBackend(threads=7).load(program) as engine:  # several for each sample
        shared = engine.run(inputs, probes=probes)
    for probe in probes:
        np.testing.assert_array_equal(found[probe], expected[probe], err_msg=str(probe))
        np.testing.assert_array_equal(shared[probe], expected[probe], err_msg=str(probe))
        assert found[probe].dtype == expected[probe].dtype
    assert dict(found.events) == dict(usual.events) == dict(expected.events)
    assert dict(shared.events) == dict(expected.events)
    assert set(usual.values) == set(program.default_probes)
    for probe in program.default_probes:
        np.testing.assert_array_equal(usual[probe], expected[probe])


@pytest.mark.parametrize("seed", range(60))
def test_the_native_engine_equals_golden(seed: int) -> None:
    assert_native_equals(*drawn(1, seed))


@pytest.mark.once
@pytest.mark.skipif(not ALL_X86, reason="asks for x86's processors, and runs what is made for them")
@pytest.mark.parametrize("processor", ["x86-64", "haswell"])  # without floats; with fewer at once
def test_engines_for_lesser_processors_equal_golden(
    processor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [f"-march={processor}" if item == "-march=native" else item for item in compiler._FLAGS]
    monkeypatch.setattr(compiler, "_FLAGS", tuple(flags))
    compiler._find.cache_clear()
    for number in range(4):
        drawn_here = [drawn_for_a_block(40 + number, each) for each in range(10)]
        programs, inputs = zip(*drawn_here, strict=True)
        assert_native_equals(merged(programs), merged_inputs(inputs))
    compiler._find.cache_clear()


@pytest.mark.once
@pytest.mark.parametrize("block", range(40))
def test_ten_programs_at_a_time_are_golden_in_both_engines(block: int) -> None:
    """Compiling costs more than running: ten lie beside each other in one network."""
    drawn_here = [drawn_for_a_block(block, number) for number in range(10)]
    programs, inputs = zip(*drawn_here, strict=True)
    program, joined = merged(programs), merged_inputs(inputs)
    assert_native_equals(program, joined)
    probes = all_probes(program)
    found = fast.run(laid_out(program), joined, probes)
    expected = golden.run(program, joined, probes=probes)
    for probe in probes:
        np.testing.assert_array_equal(found[probe], expected[probe], err_msg=str(probe))
    assert dict(found.events) == dict(expected.events)


def drawn_for_a_block(block: int, number: int) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng([4, block, number])
    program = random_program(rng, max_weight_exp=7 if number % 3 else 15)
    return program, random_inputs(program, rng, 3, 14)


@pytest.mark.parametrize("seed", range(12))
def test_the_native_engine_equals_golden_beyond_a_block_and_a_chunk(seed: int) -> None:
    sizes = (90, 300, 600)
    assert_native_equals(*drawn(2, seed, longest=300, max_neurons=sizes[seed % 3]))


@pytest.mark.parametrize("seed", range(40))
def test_portable_c_equals_golden_without_warnings_or_undefined_behaviour(
    seed: int, tmp_path: Path
) -> None:
    program, inputs = drawn(3, seed)
    expected = golden.run(program, inputs, probes=all_probes(program))
    values, events = run_package(program, inputs, tmp_path / "net", *SANITIZED)
    for (name, quantity), found in values.items():
        wanted = expected[name, quantity]
        np.testing.assert_array_equal(found, wanted.reshape(found.shape), err_msg=name)
    assert events == dict(expected.events)


DELAYED: tuple[Drawn, ...] = ("source", "target", "synapse", "several")


def drawn_delayed(*seed: int, size: int = 8) -> tuple[Program, dict[str, Array]]:
    """Draw a program whose connections are apart by their delays."""
    rng = np.random.default_rng([6, *seed])
    program = random_program(rng, max_neurons=size, max_weight_exp=15 if seed[-1] % 3 else 7)
    most = (3, 9, 70)[seed[-1] // 4 % 3]
    program = delayed(program, rng, DELAYED[seed[-1] % 4], most)
    return program, random_inputs(program, rng, 2, most + 10)


@pytest.mark.once
@pytest.mark.parametrize("block", range(6))
def test_delays_of_each_synapse_in_the_native_engine(block: int) -> None:
    programs, inputs = zip(
        *(drawn_delayed(block, number) for number in range(block, 72, 9)), strict=True
    )
    steps = max(len(next(iter(item.values()))[0]) for item in inputs)
    assert_native_equals(merged(programs), merged_inputs([_longer(item, steps) for item in inputs]))


def _longer(inputs: dict[str, Array], steps: int) -> dict[str, Array]:
    return {
        name: np.pad(values, [(0, 0), (0, steps - values.shape[1])] + [(0, 0)] * (values.ndim - 2))
        for name, values in inputs.items()
    }


@pytest.mark.parametrize("seed", range(4))
def test_delays_of_each_synapse_beyond_a_block(seed: int) -> None:
    assert_native_equals(*drawn_delayed(20, seed, size=600))


@pytest.mark.parametrize("seed", range(24))
def test_delays_of_each_synapse_in_portable_c(seed: int, tmp_path: Path) -> None:
    program, inputs = drawn_delayed(7, seed)
    expected = golden.run(program, inputs, probes=all_probes(program))
    values, events = run_package(program, inputs, tmp_path / "net", *SANITIZED)
    for (name, quantity), found in values.items():
        wanted = expected[name, quantity]
        np.testing.assert_array_equal(found, wanted.reshape(found.shape), err_msg=name)
    assert events == dict(expected.events)


def test_the_delayed_programs_reach_every_kind_of_code() -> None:
    kinds = set()
    for block, numbers in ((7, range(24)), *((block, range(block, 72, 9)) for block in range(6))):
        for number in numbers:
            for cell in plan(drawn_delayed(block, number)[0]).cells:
                kinds |= {
                    (type(link.operator).__name__, link.stored.delayed, link.source.graded)
                    for link in cell.links
                }
    every = ("whole", "source", "target", "synapse")
    for graded in (False, True):
        assert {("Dense", what, graded) for what in every} <= kinds
        assert {("Conv2d", what, graded) for what in every if what != "source"} <= kinds


def test_the_random_programs_reach_every_kind_of_code() -> None:
    kinds = set()
    for number in range(60):
        for cell in plan(drawn(1, number)[0]).cells:
            kinds |= {f"wide {cell.wide}", f"wraps {cell.wraps}", f"remembers {cell.remembers}"}
            kinds |= {f"idles {cell.idles}", f"several {cell.neurons.max_spikes > 1}"}
            kinds |= {f"{type(link.operator).__name__} {link.source.graded}" for link in cell.links}
    both = ("wide", "wraps", "remembers", "idles", "several", "Dense", "Conv2d")
    missing = {f"{name} {value}" for name in both for value in (True, False)} - kinds
    assert not missing
