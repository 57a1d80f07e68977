"""The native engine: extremes, batches, threads, compilers and their absence."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from support.c_programs import run_package

from spikec.backends import open_backend
from spikec.backends.c import compiler
from spikec.backends.c.plan import plan
from spikec.backends.c.run import CBackend
from spikec.backends.c.text import fill
from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.errors import BackendError, UsageError
from spikec.compiler.fixedpoint import decay
from spikec.compiler.operators import Conv2d, Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.trace import QUANTITIES


def network(
    weight: Array, *, weight_exp: int = 0, kind: str = "binary", low: int = 0, high: int = 1,
    shape: tuple[int, ...] | None = None, mode: str = "mixed", **fields: object,
) -> Program:  # fmt: skip
    operator = Dense(weight=weight) if weight.ndim == 2 else Conv2d(weight=weight)
    source = shape or (weight.shape[1],)
    defaults: dict[str, object] = {
        "du": 409, "dv": 205, "vth": 700, "reset": "zero", "reset_order": "at_spike",
    }  # fmt: skip
    neurons = Neurons(name="n", shape=operator.output_shape(source), **{**defaults, **fields})  # type: ignore[arg-type]
    link = Connection(
        name="w", source="x", target="n", operator=operator, weight_exp=weight_exp,
        num_weight_bits=8, sign_mode=mode, delay=1,  # type: ignore[arg-type]
    )  # fmt: skip
    entry = ProgramInput(name="x", shape=source, kind=kind, low=low, high=high)  # type: ignore[arg-type]
    return Program(
        target="loihi", inputs=(entry,), populations=(neurons,), connections=(link,), outputs=("n",)
    )


def assert_equal(program: Program, inputs: dict[str, Array], **options: int) -> dict[str, int]:
    probes = [(item.name, quantity) for item in program.populations for quantity in QUANTITIES]
    expected = golden.run(program, inputs, probes=probes)
    with CBackend(**options).load(program) as engine:
        found = engine.run(inputs, probes=probes)
    for probe in probes:
        np.testing.assert_array_equal(found[probe], expected[probe])
    assert dict(found.events) == dict(expected.events)
    return dict(found.events)


@pytest.mark.parametrize(
    ("mode", "extreme"),
    [("mixed", -256), ("mixed", 254), ("excitatory", 255), ("inhibitory", -255)],
)
@pytest.mark.parametrize("fan_in", [257, 258, 1200])
def test_sums_of_extreme_weights_do_not_overflow(mode: str, extreme: int, fan_in: int) -> None:
    weight = np.full((70, fan_in), extreme)
    weight[1] = 0
    weight[2, ::2] = 0
    program = network(weight, mode=mode, vth=(1 << 17) - 1, du=4095)
    inputs = {"x": np.ones((2, 5, fan_in), np.uint8)}
    assert_equal(program, inputs)


def test_one_signed_weights_of_all_values() -> None:
    rng = np.random.default_rng(0)
    for mode, low, high in (("excitatory", 0, 256), ("inhibitory", -255, 1)):
        program = network(rng.integers(low, high, (300, 700)), mode=mode, vth=40000)
        assert_equal(program, {"x": (rng.random((3, 40, 700)) < 0.5).astype(np.uint8)})


@pytest.mark.parametrize("kernel", ["dense", "conv"])
def test_sums_beyond_32_bits(kernel: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    size, shape = ((9, 12), None) if kernel == "dense" else ((3, 2, 2, 2), (2, 4, 3))
    program = network(
        rng.integers(-128, 128, size) * 2, weight_exp=5, kind="graded", low=-9000, high=9000,
        shape=shape, du=100, reset="subtract", reset_order="next_step",
    )  # fmt: skip
    assert plan(program).cells[0].wide
    shape = program.inputs[0].shape
    inputs: dict[str, Array] = {"x": rng.integers(-9500, 9500, (2, 30, *shape))}
    events = assert_equal(program, inputs)
    assert events["n/current wrapped"] > 100
    values, counted = run_package(program, inputs, tmp_path / "net", "-fsanitize=undefined,address")
    expected = golden.run(program, inputs, probes=[("n", "current"), ("n", "voltage")])
    for quantity in ("current", "voltage"):
        found = values["n", quantity]  # type: ignore[index]
        np.testing.assert_array_equal(found, expected["n", quantity].reshape(found.shape))  # type: ignore[index]
    assert counted == events


@pytest.mark.parametrize("kernel", ["dense", "conv"])
def test_weights_of_zero_under_the_largest_values(kernel: str, tmp_path: Path) -> None:
    most = (1 << 31) - 1
    size, shape = ((3, 4), None) if kernel == "dense" else ((2, 1, 2, 2), (1, 2, 2))
    program = network(
        np.zeros(size, np.int64), weight_exp=15, kind="graded", low=-most, high=most, shape=shape
    )
    inputs: dict[str, Array] = {"x": np.full((1, 4, *program.inputs[0].shape), -most)}
    assert assert_equal(program, inputs) == {}
    values, _ = run_package(program, inputs, tmp_path / "net", "-fsanitize=undefined,address")
    assert not any(found.any() for found in values.values())


@pytest.mark.parametrize("neurons", [1, 15, 17, 33, 257])
@pytest.mark.parametrize(
    "fields",
    [
        {"bias_mant": 4095, "bias_exp": 7},
        {"vth": -5, "reset": "subtract", "reset_value": -(1 << 22)},
        {"vth": 5, "floor": 700, "initial_voltage": 700},
        {"vth": 3, "max_spikes": 9, "reset": "subtract"},
        {"vth": 300, "initial_voltage": 1 << 20, "initial_current": -1234567},
    ],
)
def test_places_past_the_last_neuron_count_nothing(neurons: int, fields: dict[str, object]) -> None:
    rng = np.random.default_rng(7)
    program = network(rng.integers(-9, 9, (neurons, 20)) * 2, dv=0, **fields)  # type: ignore[arg-type]
    assert_equal(program, {"x": (rng.random((2, 60, 20)) < 0.4).astype(np.uint8)})


def test_sums_beyond_64_bits_are_refused() -> None:
    wide = {"weight_exp": 15, "kind": "graded", "low": 0, "high": (1 << 31) - 1}
    program = network(np.full((2, 2), 254), du=0, **wide)  # type: ignore[arg-type]
    (finding,) = CBackend().check(program)
    assert finding.code == "B050"
    with pytest.raises(BackendError, match="64 bits"):
        CBackend().load(program)


def test_the_decay_is_exact_for_every_factor_and_at_every_edge(tmp_path: Path) -> None:
    source = tmp_path / "decay.c"
    text = fill("decay32.c").replace("static ", "", 1)
    head = "void all(const int32_t *x, int32_t *y, long n, uint32_t keep)"
    loop = "for (long i = 0; i < n; ++i) { y[i] = decay32(x[i], keep); }"
    source.write_text(f"#include <stdint.h>\n{text}\n{head} {{ {loop} }}\n")
    library = tmp_path / "decay.so"
    command = [*compiler.find().command, "-O2", "-fPIC", "-shared", str(source), "-o", str(library)]
    subprocess.run(command, check=True)
    call = ctypes.CDLL(str(library)).all
    edges = [0, 1, 4095, 4096, 4097, (1 << 23) - 1, 1 << 23, (1 << 24) + 1, (1 << 30) - 1]
    rng = np.random.default_rng(2)
    values = np.concatenate([edges, np.negative(edges), rng.integers(-(1 << 30), 1 << 30, 3000)])
    given, found = values.astype(np.int32), np.empty(len(values), np.int32)
    for keep in range(4097):
        call(ctypes.c_void_p(given.ctypes.data), ctypes.c_void_p(found.ctypes.data),
             ctypes.c_long(len(given)), ctypes.c_uint32(keep))  # fmt: skip
        np.testing.assert_array_equal(found, decay(values, np.int64(keep)))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.int64, np.float64])
def test_any_type_of_spikes(kind: type) -> None:
    rng = np.random.default_rng(3)
    spikes = (rng.random((2, 20, 30)) < 0.3).astype(kind)
    assert_equal(network(rng.integers(-9, 9, (5, 30)) * 2, vth=20), {"x": spikes[:, ::2, ::-1]})


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("samples", [1, 2, 7, 33])
def test_samples_and_threads(samples: int, threads: int) -> None:
    rng = np.random.default_rng(4)
    program = network(rng.integers(-128, 128, (1100, 1000)) * 2, vth=900)  # in groups of samples
    inputs = {"x": (rng.random((samples, 6, 1000)) < 0.1).astype(np.uint8)}
    seen: list[tuple[int, int]] = []
    with CBackend(threads=threads).load(program) as engine:
        found = engine.run(inputs, progress=lambda done, total: seen.append((done, total)))
    expected = golden.run(program, inputs)
    np.testing.assert_array_equal(found.spikes("n"), expected.spikes("n"))
    assert dict(found.events) == dict(expected.events)
    assert seen[-1] == (samples, samples)


def test_nothing_to_run() -> None:
    program = network(np.ones((3, 4), np.int64) * 2)
    with open_backend("c").load(program) as engine:
        trace = engine.run({"x": np.zeros((2, 0, 4), np.uint8)})
    assert trace.spikes("n").shape == (2, 0, 3)


def test_weights_are_no_part_of_the_compiled_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(5)
    weight = rng.integers(-128, 128, (40, 50)) * 2
    inputs = {"x": (rng.random((2, 20, 50)) < 0.3).astype(np.uint8)}
    weight[0, 0] = -256
    assert_equal(network(weight), inputs)
    monkeypatch.setattr(compiler, "_build", lambda *_: pytest.fail("compiled again"))
    assert_equal(network(-2 - weight), inputs | {})


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -x")
    with pytest.raises(BackendError, match="B052") as caught:
        CBackend().load(network(np.ones((3, 4), np.int64) * 2))
    assert "no-such-compiler" in str(caught.value)
    assert "CC" in caught.value.diagnostics[0].hint


def test_a_compiler_that_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / "cc"
    fake.write_text(
        '#!/bin/sh\ncase "$*" in *--version*) echo fake; exit 0;; esac\necho broken >&2\nexit 3\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("CC", str(fake))
    with pytest.raises(BackendError, match="broken") as caught:
        CBackend().load(network(np.ones((3, 4), np.int64) * 2))
    assert caught.value.diagnostics[0].code == "B053"


def test_clang_builds_the_engine_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{sys.executable} -m ziglang cc")
    rng = np.random.default_rng(6)
    program = network(
        rng.integers(-128, 128, (4, 2, 3, 3)) * 2, shape=(2, 9, 9), vth=800, reset="subtract"
    )
    assert_equal(program, {"x": (rng.random((3, 25, 2, 9, 9)) < 0.2).astype(np.uint8)})
    dense = network(rng.integers(-128, 128, (300, 90)) * 2, vth=800)
    assert_equal(dense, {"x": (rng.random((3, 25, 90)) < 0.2).astype(np.uint8)})


@pytest.mark.parametrize("name", ["c", "simulator"])
@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64])
def test_bytes_of_spikes_that_are_neither_0_nor_1_are_refused(name: str, dtype: type) -> None:
    program = network(np.arange(-70, 70).reshape(2, 70) * 2)
    rng = np.random.default_rng(0)
    spikes = rng.choice(np.array([0, 1, 2, 200]), (2, 6, 70)).astype(dtype)
    once = np.minimum(spikes, 1)
    expected = golden.run(program, {"x": once})
    with open_backend(name).load(program) as engine:
        if dtype is not bool:
            with pytest.raises(UsageError, match=r"spans 0\.\.200 where a binary input takes 0"):
                engine.run({"x": spikes})
        found = engine.run({"x": once})
    np.testing.assert_array_equal(found["n", "spikes"], expected["n", "spikes"])
    assert not found.events


@pytest.mark.parametrize("engine", ["golden", "fast", "c"])
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0, 0)])
@pytest.mark.parametrize("picture", [False, True])
def test_no_samples_and_no_steps_give_empty_traces(
    engine: str, shape: tuple[int, int], picture: bool
) -> None:
    weight = np.full((3, 1, 2, 2), 8) if picture else np.full((3, 16), 8)
    program = network(weight, shape=(1, 4, 4) if picture else None)
    options = {} if engine == "c" else {"engine": engine}
    with open_backend("c" if engine == "c" else "simulator", **options).load(program) as ready:
        trace = ready.run({"x": np.zeros((*shape, *program.inputs[0].shape), np.uint8)})
    assert trace.spikes("n").shape == (*shape, *program.populations[0].shape)
    assert not trace.events
