"""Resonate-and-fire neurons: lava-dl's published traces, and random networks against Lava's.

The traces are those of lava-dl's block tests: spikes over 2000 steps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikec.backends.lava.placement import placement
from spikec.backends.lava.run import LavaBackend
from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.frontends import ReadOptions, lava_net
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.ir import SourceView
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.resonator import Resonator
from spikec.compiler.trace import QUANTITIES, Probe

h5py = pytest.importorskip("h5py")

DATA = Path(__file__).parents[1] / "data" / "lava"


def recorded(name: str, neurons: int) -> Array:
    with np.load(DATA / "complex_dense.npz") as file:
        return np.unpackbits(file[name], count=2000 * neurons).reshape(2000, neurons)


def factors(alpha: float, period: float) -> dict[str, int]:
    """Return what Lava's RF makes of a decay and a period."""
    angle = np.pi * 2 * 1 / period
    sine, cosine = (1 - alpha) * np.sin(angle), (1 - alpha) * np.cos(angle)
    return {"sin_decay": int(sine * 4096), "cos_decay": int(cosine * 4096)}


def both(source: str, target: str, real: Array, imaginary: Array) -> list[Connection]:
    return [
        replace(one, name=f"{one.name}.{part}")
        for part, weight in (("real", real), ("imag", imaginary))
        for one in connections(source=source, target=target, operator=Dense(weight=weight), delay=1)
    ]


def block(real: Array, imaginary: Array, **fields: object) -> Program:
    entry = ProgramInput(name="in", shape=real.shape[1:], kind="binary", low=0, high=1)
    links = both("in", "n", real, imaginary)
    parts = tuple(item.name for item in links if item.name.endswith(".imag"))
    neurons = Resonator(name="n", shape=(len(real),), imaginary=parts, **fields)  # type: ignore[arg-type]
    return Program(
        target="loihi2", inputs=(entry,), populations=(neurons,), connections=tuple(links),
        outputs=("n",),
    )  # fmt: skip


def test_the_input_block() -> None:
    """Spikes straight into both parts of neurons that reset (RF_IZ), threshold 1.1."""
    each = np.eye(200, dtype=np.int64)
    program = block(
        each, each, resonance="izhikevich", vth=int(1.1 * 64),
        view=SourceView(lag=1, current_lag=1), **factors(0.05, 7),
    )  # fmt: skip
    trace = golden.run(program, {"in": recorded("given", 200)[None]})
    published = recorded("input", 200)
    assert published.sum() == 13548
    np.testing.assert_array_equal(trace.spikes("n")[0], published)
    assert not trace.events


def weights() -> tuple[Array, Array]:
    with np.load(DATA / "complex_dense.npz") as file:
        return file["weight_r"].astype(np.int64), file["weight_img"].astype(np.int64)


def test_the_dense_block() -> None:
    """Complex weights into 256 neurons that spike where the imaginary part turns positive."""
    program = block(*weights(), resonance="phase", vth=25 << 6, **factors(0.05, 11))
    trace = golden.run(program, {"in": recorded("given", 200)[None]})
    published = recorded("output", 256)
    assert published.sum() == 41512
    np.testing.assert_array_equal(trace.spikes("n")[0], published)
    assert not trace.events


def write(path: Path, **neuron: object) -> Path:
    real, imaginary = weights()
    fields = {"type": b"RF_PHASE", "vThMant": 25, **neuron}
    with h5py.File(path, "w") as file:
        layer = file.create_group("layer/0")
        layer["type"], layer["shape"] = b"dense", [256]
        layer["weight/real"], layer["weight/imag"] = real.astype("f4"), imaginary.astype("f4")
        for name, value in fields.items():
            layer[f"neuron/{name}"] = value
    return path


def test_the_dense_block_as_a_file(tmp_path: Path) -> None:
    found = factors(0.05, 11)
    neuron = {"sinDecay": found["sin_decay"], "cosDecay": found["cos_decay"]}
    path = write(tmp_path / "rf.net", **neuron)
    program = lava_net.read(path, ReadOptions())
    trace = golden.run(program, {"input": recorded("given", 200)[None]})
    np.testing.assert_array_equal(trace.spikes("layer0")[0], recorded("output", 256))


def draw(seed: int) -> tuple[Program, dict[str, Array]]:
    """Return resonators in a chain, one of them with a loop, and current-based neurons after."""
    rng = np.random.default_rng(seed)
    inputs, sizes = int(rng.integers(2, 9)), [int(n) for n in rng.integers(2, 9, 2)]
    entry = ProgramInput(name="in", shape=(inputs,), kind="binary", low=0, high=1)
    wild = seed % 3 == 2
    populations: list[Resonator | Neurons] = []
    links: list[Connection] = []
    source, before = "in", inputs
    for index, count in enumerate(sizes):
        name = f"p{index}"
        most = 255 if wild else 40
        found = both(
            source, name, *(rng.integers(-most, most + 1, (count, before)) for _ in range(2))
        )
        if index:
            found += both(name, name, *(rng.integers(-9, 10, (count, count)) for _ in range(2)))
        if wild:
            found = [replace(item, weight_exp=item.weight_exp + 8) for item in found]
        angle = rng.uniform(0.05, 3.1)
        decay = rng.uniform(0.9, 0.999)
        populations.append(
            Resonator(
                name=name, shape=(count,), resonance=("phase", "izhikevich")[(seed + index) % 2],
                sin_decay=int(4096 * decay * np.sin(angle)),
                cos_decay=int(4096 * decay * np.cos(angle)),
                vth=int(rng.integers(1, 40)) << 6,
                imaginary=tuple(item.name for item in found if item.name.endswith(".imag")),
            )
        )  # fmt: skip
        links += found
        source, before = name, count
    last = Neurons(
        name="out", shape=(3,), du=np.array(4095), dv=np.array(300), vth=np.array(9), reset="zero",
        reset_order="at_spike",
    )  # fmt: skip
    weight = Dense(weight=rng.integers(-20, 30, (3, before)))
    links += connections(source=source, target="out", operator=weight, delay=1)
    program = Program(
        target="loihi2", inputs=(entry,), populations=(*populations, last),
        connections=tuple(links), outputs=("out",),
    )  # fmt: skip
    return program, {"in": (rng.random((1 + seed % 2, 40, inputs)) < 0.3).astype(np.uint8)}


@pytest.mark.lava
@pytest.mark.parametrize("seed", range(9))
def test_lava_equals_golden(backend: LavaBackend, seed: int) -> None:
    """Stock RF and RF_IZ, spikes and both parts of the state; where it saturates too."""
    program, inputs = draw(seed)
    probes: list[Probe] = [
        (i.name, quantity) for i in program.populations for quantity in QUANTITIES
    ]
    expected = golden.run(program, inputs, probes=probes)
    trace = backend.load(program).run(inputs, probes=probes)
    for probe in probes:
        assert trace[probe].dtype == expected[probe].dtype
        np.testing.assert_array_equal(trace[probe], expected[probe], err_msg=str(probe))
    assert all(item.stock for item in placement(program))


def test_the_networks_are_worth_running() -> None:
    spikes, events = 0, 0
    for seed in range(9):
        program, inputs = draw(seed)
        trace = golden.run(program, inputs)
        spikes += all(trace.spikes(item.name).any() for item in program.populations[:2])
        events += any("saturated" in key for key in trace.events)
    assert spikes > 6
    assert events >= 2


def test_lava_refuses_input_that_its_32_bits_would_wrap() -> None:
    program = block(np.array([[64]]), np.array([[0]]), resonance="phase", vth=9,
                    state_exp=6, **factors(0.1, 10))  # fmt: skip
    assert not LavaBackend().check(program)
    entry = replace(program.inputs[0], kind="graded", low=-(1 << 21), high=1 << 21)
    (finding,) = LavaBackend().check(replace(program, inputs=(entry,)))
    assert finding.code == "B047"
    assert f"real input can reach {(64 << 21) << 6}" in finding.message
