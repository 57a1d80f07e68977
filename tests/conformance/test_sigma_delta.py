"""Sigma-delta networks: lava-dl's published traces, and random ones against Lava's processes.

``tests/data/lava`` holds PilotNet SDNN with the states that a Loihi 2 gave, and the traces of
lava-dl's blocks; the square PilotNet is the same network with other shapes. The comparisons are
those of lava-dl's own tests, over all columns that it publishes.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.random_encoders import random_encoders

from spikec.backends.lava.placement import placement
from spikec.backends.lava.run import LavaBackend
from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.errors import BackendError
from spikec.compiler.frontends import ReadOptions, lava_net
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.ir import SourceView
from spikec.compiler.operators import Conv2d, Dense, Weighted
from spikec.compiler.program import Program, ProgramInput
from spikec.compiler.sigma_delta import SigmaDelta
from spikec.compiler.trace import QUANTITIES, Probe, Trace

h5py = pytest.importorskip("h5py")

DATA = Path(__file__).parents[1] / "data" / "lava"
PILOTNET = DATA / "pilotnet_sdnn.net"


def recorded(name: str) -> dict[str, Array]:
    with np.load(DATA / name) as file:
        return dict(file)


def pilotnet(steps: int, spike_exp: int | None = None) -> tuple[Program, Array]:
    program = lava_net.read(PILOTNET, ReadOptions(spike_exp=spike_exp))
    image = recorded("pilotnet_sdnn.npz")["input"].astype(np.int64)
    return program, np.broadcast_to(image, (1, steps, *image.shape))


def test_pilotnet_sdnn() -> None:
    """Nine layers: the sums of the output layer over nine steps, as in test_hdf5.py."""
    program, image = pilotnet(9)
    trace = golden.run(program, {"input": image})
    published = recorded("pilotnet_sdnn.npz")["output"]
    np.testing.assert_array_equal(trace["layer9", "voltage"][0, :, 0], published)
    assert np.count_nonzero(published) == 8
    assert not trace.events
    # A value of 1 is 2**18: SLAYER's 64ths of weights and messages, and state_exp.
    assert program.population("layer9").lsb == 2.0**-18


def test_pilotnet_sdnn_as_on_loihi_2() -> None:
    """The messages of the input and the sums of two layers, 20 columns."""
    program, image = pilotnet(20)
    probes: list[Probe] = [("layer0", "spikes"), ("layer1", "current"), ("layer2", "current")]
    trace = golden.run(program, {"input": image}, probes=probes)
    published = recorded("pilotnet_sdnn.npz")
    np.testing.assert_array_equal(trace.spikes("layer0")[0], published["act0"])
    for layer in (1, 2):
        sigma = published[f"sigma{layer}"].cumsum(axis=0, dtype=np.int64)
        np.testing.assert_array_equal(trace[f"layer{layer}", "current"][0], sigma)
        assert len(np.unique(sigma)) > 1000


SQUARE = {
    "layer/0/shape": [3, 33, 33], "layer/1/shape": [24, 16, 16], "layer/2/shape": [36, 7, 7],
    "layer/3/shape": [64, 4, 4], "layer/3/padding": [1, 1], "layer/3/stride": [2, 2],
    "layer/4/shape": [64, 2, 2],
}  # fmt: skip


def test_square_pilotnet_sdnn_as_on_loihi_2(tmp_path: Path) -> None:
    """Four convolutions over a square part of the picture: 20 columns of all sums."""
    path = tmp_path / "square.net"
    path.write_bytes(PILOTNET.read_bytes())
    with h5py.File(path, "r+") as file:
        for name, value in SQUARE.items():
            file[name][...] = value
        for layer in range(5, 10):
            del file[f"layer/{layer}"]
    program = lava_net.read(path, ReadOptions())
    published = recorded("pilotnet_sdnn.npz")
    image = published["input"][:, :33, :33].astype(np.int64)
    probes: list[Probe] = [(f"layer{k}", "current") for k in range(1, 5)]
    trace = golden.run(
        program, {"input": np.broadcast_to(image, (1, 20, *image.shape))}, probes=probes
    )
    for layer in range(1, 5):
        sigma = published[f"sigma{layer}_square"].cumsum(axis=0, dtype=np.int64)
        np.testing.assert_array_equal(trace[f"layer{layer}", "current"][0], sigma)


@pytest.mark.parametrize("spike_exp", [0, 2, 3, 8])
def test_spike_exp_is_the_precision_of_messages(spike_exp: int) -> None:
    """The same output but for its scale and what messages lose; lava-dl's test is of 0."""
    program, image = pilotnet(9, spike_exp)
    trace = golden.run(program, {"input": image})
    published = recorded("pilotnet_sdnn.npz")["output"] * 2.0 ** (spike_exp - 6)
    error = np.abs(trace["layer9", "voltage"][0, :, 0] - published)
    if spike_exp == 0:
        assert error.mean() < 2 * (1 << 6 - spike_exp)
    assert 0 < error.max() < 0.06 * np.abs(published).max()


def block(
    shape: tuple[int, ...], operator: Weighted, entry: ProgramInput, **fields: object
) -> Program:
    population = SigmaDelta(name="n", shape=shape, **fields)  # type: ignore[arg-type]
    return Program(
        target="loihi2",
        inputs=(entry,),
        populations=(population,),
        connections=tuple(connections(source="in", target="n", operator=operator, delay=1)),
        outputs=("n",),
    )


def graded(*shape: int) -> ProgramInput:
    return ProgramInput(name="in", shape=shape, kind="graded", low=-(1 << 15), high=1 << 15)


def wide(weight: list[list[list[list[int]]]], delay: int) -> tuple[Program, dict[str, Array]]:
    entry = ProgramInput(name="in", shape=(2, 1, 1), kind="graded", low=-(1 << 22), high=1 << 22)
    convolution = Conv2d(weight=np.array(weight))
    program = block((1, 1, 1), convolution, entry, encoding="sigma_delta", vth=0)
    links = connections(source="in", target="n", operator=convolution, delay=delay)
    values = np.zeros((1, 5, 2, 1, 1), np.int64)
    values[0, 0, :, 0, 0] = 40000, 12000
    return replace(program, connections=tuple(links)), {"in": values}


@pytest.mark.parametrize("encoding", ["sigma_delta", "sigma"])
def test_sums_that_float64_would_round_are_refused(encoding: str) -> None:
    """16,600 products of 254 and up to 2**31 - 1 pass 2**53."""
    most = (1 << 31) - 1
    entry = ProgramInput(name="in", shape=(16_600,), kind="graded", low=-most, high=most)
    vth = None if encoding == "sigma" else 0
    weight = np.full((1, 16_600), 254)
    program = block((1,), Dense(weight=weight), entry, encoding=encoding, vth=vth)
    with pytest.raises(BackendError, match=r"B011 at connection 'in-n': .* pass 2\*\*53"):
        golden.run(program, {"in": np.ones((1, 2, 16_600), np.int64)})


#: Kernels, delays, the sum that must arrive, and how many connections they are.
WIDE = [
    ([[[[255]], [[-253]]]], 1, 255 * 40000 - 253 * 12000, 2),
    ([[[[200]], [[200]]]], 1, 200 * 52000 - (1 << 24), 1),  # Lava's Conv cuts it
    ([[[[254]], [[254]]]], 2, 254 * 52000, 1),  # a matrix with delays, which does not
]


@pytest.mark.parametrize(("weight", "delay", "expected", "parts"), WIDE)
def test_a_convolution_is_cut_to_24_bits_once(
    weight: list[list[list[list[int]]]], delay: int, expected: int, parts: int
) -> None:
    """By hand: parts of one sign are no convolutions of their own."""
    program, inputs = wide(weight, delay)
    assert len(program.connections) == parts
    trace = golden.run(program, inputs, probes=[("n", "current")])
    assert trace["n", "current"][0, -1].item() == expected
    assert ("n/input left 24 bits" in trace.events) == (abs(expected) < 1 << 23 and parts == 1)


@pytest.mark.lava
def test_a_convolution_is_cut_to_24_bits_once_by_lava() -> None:
    for weight, delay, expected, _ in WIDE:
        program, inputs = wide(weight, delay)
        with LavaBackend().load(program) as executable:
            trace = executable.run(inputs, probes=[("n", "current")])
        assert trace["n", "current"][0, -1].item() == expected


EXPONENTS = {"vth": 20, "spike_exp": 6, "state_exp": 6}


def test_the_input_block() -> None:
    """A value that follows a sine, for 15 steps."""
    published = recorded("tinynet_sdnn.npz")
    sine = np.sin(2 * np.pi * np.arange(15) / 15)
    values = (published["value"].astype(np.float64) * sine[:, None, None, None]).astype(np.int64)
    each = Conv2d(weight=np.ones((3, 1, 1, 1), np.int64), groups=3)
    program = block(
        (3, 16, 16), each, graded(3, 16, 16), encoding="delta", start=1,
        view=SourceView(lag=1, current_lag=1), **EXPONENTS,
    )  # fmt: skip
    trace = golden.run(program, {"in": values[None]})
    np.testing.assert_array_equal(trace.spikes("n")[0], published["input"])
    assert not trace.events


def test_the_convolution_block() -> None:
    """The one step that lava-dl's test runs: the bias, sent on where it passes the threshold."""
    published = recorded("tinynet_sdnn.npz")
    kernel = published["layer1_kernel"][:, ::-1, ::-1].transpose(0, 3, 2, 1).astype(np.int64)
    bias = np.broadcast_to(published["layer1_bias"][:, None, None], (24, 6, 6))
    program = block(
        (24, 6, 6), Conv2d(weight=kernel, stride=(2, 2)), graded(3, 16, 16),
        encoding="sigma_delta", activation="relu", bias=bias, **EXPONENTS,
    )  # fmt: skip
    trace = golden.run(program, {"in": published["input"][None].astype(np.int64)})
    np.testing.assert_array_equal(trace.spikes("n")[0, 0], published["layer1"][0])
    assert np.count_nonzero(published["layer1"]) == 144


def test_the_dense_block() -> None:
    """A sum over 16 steps; what enters are spikes, as lava-dl's test takes its messages."""
    published = recorded("tinynet_sdnn.npz")
    weight = published["layer2_weight"].astype(np.int64)
    spikes = np.unpackbits(published["layer2_given"]).reshape(16, 864)
    entry = ProgramInput(name="in", shape=(864,), kind="binary", low=0, high=1)
    program = block((100,), Dense(weight=weight), entry, encoding="sigma", vth=None)
    trace = golden.run(program, {"in": spikes[None]})
    np.testing.assert_array_equal(trace["n", "voltage"][0], published["layer2"])
    assert published["layer2"].any()


def same(backend: LavaBackend, program: Program, inputs: dict[str, Array]) -> Trace:
    probes: list[Probe] = [
        (item.name, quantity)
        for item in program.populations
        for quantity in QUANTITIES
        if item.vth is not None or quantity != "spikes"
    ]
    expected = golden.run(program, inputs, probes=probes)
    trace = backend.load(program).run(inputs, probes=probes)
    for probe in probes:
        assert trace[probe].dtype == expected[probe].dtype
        np.testing.assert_array_equal(trace[probe], expected[probe], err_msg=str(probe))
    return expected


SEEDS = 12
KINDS = [(driven, wild) for driven in (True, False) for wild in (False, True)]


def draw(driven: bool, wild: bool, seed: int) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng([seed, driven, wild])
    return random_encoders(rng, driven=driven, wild=wild, samples=1 + seed % 3, steps=8)


@pytest.mark.lava
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize(("driven", "wild"), KINDS)
def test_lava_equals_golden(backend: LavaBackend, driven: bool, wild: bool, seed: int) -> None:
    """Delta, SigmaDelta and Sigma as they are, with messages, states and sums; overflow too."""
    program, inputs = draw(driven, wild, seed)
    assert all(item.stock for item in placement(program))
    same(backend, program, inputs)


def test_the_networks_are_worth_running() -> None:
    seen: Counter[str] = Counter()
    for driven, wild in KINDS:
        for seed in range(SEEDS):
            program, inputs = draw(driven, wild, seed)
            trace = golden.run(program, inputs)
            for item in program.populations:
                assert isinstance(item, SigmaDelta)
                sends = item.vth is not None and trace.spikes(item.name).any()
                seen[item.encoding] += bool(sends) or item.vth is None
            seen["loops"] += any(c.source == c.target for c in program.connections)
            seen["late"] += any(c.delay > 1 for c in program.connections)
            seen["pictures"] += any(isinstance(c.operator, Conv2d) for c in program.connections)
            for key in trace.events:
                seen[key.rpartition("/")[2].split()[0]] += 1
    parts = ("delta", "sigma_delta", "sigma", "loops", "late", "pictures")
    wanted = (*parts, "state", "message", "input")
    assert {name: seen[name] for name in wanted if seen[name] < 4} == {}


@pytest.mark.lava
def test_pilotnet_sdnn_on_lava(backend: LavaBackend) -> None:
    """Stock processes, two samples: the picture held, and one that moves."""
    program, image = pilotnet(10)
    moving = np.stack([np.roll(image[0, 0], step, axis=2) for step in range(10)])
    trace = same(backend, program, {"input": np.stack([image[0], moving])})
    assert not np.array_equal(trace.spikes("layer8")[0], trace.spikes("layer8")[1])
