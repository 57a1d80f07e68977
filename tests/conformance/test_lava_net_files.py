"""lava-dl's own networks: their published traces, bit for bit, and damaged copies of them.

``tests/data/lava`` holds networks and traces from lava-dl's wheel; PilotNet's come from a
Loihi 2. Other traces are in the shared test data, found through ``SPIKEC_SHARED_DATA``.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.engines import HERE as NO_LAVA
from support.engines import Engine, run_on

from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError, GraphError
from spikec.compiler.files import sha256_of
from spikec.compiler.frontends import ReadOptions, lava_net
from spikec.compiler.program import Program
from spikec.compiler.trace import Probe, Trace

h5py = pytest.importorskip("h5py")

HERE = Path(__file__).parents[1] / "data" / "lava"
DEFAULT = Path(__file__).parents[2] / "../shared/data"
SHARED = Path(os.environ.get("SPIKEC_SHARED_DATA", DEFAULT)).resolve() / "lava"

shared = pytest.mark.skipif(
    not SHARED.is_dir(),
    reason=f"there is no folder {SHARED}: set SPIKEC_SHARED_DATA to the shared test data",
)


def read(path: Path) -> Program:
    assert lava_net.recognises(path)
    return lava_net.read(path, ReadOptions())


def unpacked(recorded: dict[str, Array], name: str) -> Array:
    shape = tuple(recorded[f"{name}_shape"])
    return np.unpackbits(recorded[name], count=math.prod(shape)).reshape(shape)


GOLDEN: Engine = ("simulator", {"engine": "golden"})


def run(program: Program, values: Array, engine: Engine = GOLDEN) -> Trace:
    probes: list[Probe] = [
        (item.name, quantity)
        for item in program.populations
        for quantity in ("spikes", "current", "voltage")
        if item.vth is not None or quantity != "spikes"
    ]
    trace = run_on(engine, program, {"input": values}, probes)
    assert not trace.events
    return trace


@pytest.mark.shared
@shared
def test_tiny_net() -> None:
    """Index n of every layer is Lava's column n; the published output begins one step later."""
    program = read(SHARED / "tiny.net")
    bias = np.load(SHARED / "tinynet" / "input_bias.npy").astype(np.int64).transpose(2, 1, 0)
    trace = run(program, np.broadcast_to(bias, (1, 17, *bias.shape)))
    published = {
        name: np.moveaxis(np.load(SHARED / "tinynet" / f"{name}.npy")[0], -1, 0)
        for name in ("input", "layer1", "output", "current")
    }
    np.testing.assert_array_equal(trace.spikes("layer0")[0, :15], published["input"][1:])
    np.testing.assert_array_equal(trace.spikes("layer1")[0, :16], published["layer1"])
    np.testing.assert_array_equal(trace.spikes("layer2")[0, 2:17], published["output"][1:])
    current = published["current"].astype(np.int64) << 6
    np.testing.assert_array_equal(trace["layer1", "current"][0, :16], current)
    assert published["output"].sum() > 90


@pytest.mark.shared
@shared
def test_dense_block(tmp_path: Path) -> None:
    """The weights of lava-dl's dense ground truth, written as a file without an input layer."""
    weight = np.load(SHARED / "dense" / "weight.npy")
    path = tmp_path / "dense.net"
    with h5py.File(path, "w") as file:
        layer = file.create_group("layer/0")
        layer["type"], layer["shape"], layer["weight"] = b"dense", [256], weight.astype("f4")
        neuron = {"type": b"CUBA", "iDecay": 4096, "vDecay": 415, "vThMant": 6, "refDelay": 1}
        for name, value in neuron.items():
            layer[f"neuron/{name}"] = value
    spikes = np.load(SHARED / "dense" / "in.npy").T[None]
    trace = run(read(path), spikes)
    np.testing.assert_array_equal(
        trace.spikes("layer0")[0], np.load(SHARED / "dense" / "out.npy").T
    )
    current = np.load(SHARED / "dense" / "current.npy").T.astype(np.int64) << 6
    np.testing.assert_array_equal(trace["layer0", "current"][0], current)


@pytest.mark.once
@pytest.mark.parametrize("engine", NO_LAVA)
def test_ntidigits(engine: Engine) -> None:
    """Three layers with axonal delays up to 62 over 3000 steps.

    SLAYER's input layer holds spikes back one step, netx's does not.
    """
    with np.load(HERE / "ntidigits.npz") as file:
        recorded = dict(file)
    spikes, published = unpacked(recorded, "input"), unpacked(recorded, "output")
    program = read(HERE / "ntidigits.net")
    probes: list[Probe] = [("layer4", "spikes"), ("layer5", "voltage")]
    values = spikes.reshape(1, -1, 1, 1, 64)
    trace = run_on(engine, program, {"input": values}, probes)
    assert published.sum() > 22_000
    np.testing.assert_array_equal(trace.spikes("layer4")[0, :-1], published[1:])
    assert not trace.events

    mean = trace["layer5", "voltage"][0] * program.population("layer5").lsb
    expected = trace.spikes("layer4")[0].reshape(-1, 11, 22).mean(axis=2)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12)


LAYERS = ("input", "conv-0", "conv-1", "conv-2", "conv-3", "conv-4", "fc-0", "fc-1", "fc-2")


@pytest.mark.parametrize("engine", NO_LAVA)
def test_pilotnet_lif_as_on_loihi_2(engine: Engine) -> None:
    """Nine layers, 74,000 neurons, biases, uneven strides and paddings, flattening."""
    with np.load(HERE / "pilotnet_lif.npz") as file:
        recorded = dict(file)
    image = recorded["image"].astype(np.int64)
    program = read(HERE / "pilotnet_lif.net")
    trace = run(program, np.broadcast_to(image, (1, 24, *image.shape)), engine)
    for index, name in enumerate(LAYERS):
        published = unpacked(recorded, name)
        population = program.populations[index].name
        steps = slice(index, index + len(published))
        np.testing.assert_array_equal(trace.spikes(population)[0, steps], published, err_msg=name)
        assert published.any()
        if f"{name}_u" in recorded:
            current = recorded[f"{name}_u"].astype(np.int64) << 6
            np.testing.assert_array_equal(trace[population, "current"][0, steps], current)


def test_the_source_is_recorded() -> None:
    path = HERE / "ntidigits.net"
    provenance = read(path).provenance
    assert provenance["source"] == {
        "path": str(path),
        "format": "lava-dl.net",
        "sha256": sha256_of(path.read_bytes()),
    }


def accepted(path: Path) -> bool:
    """Read ``path``; any exception but ours escapes and fails the test."""
    try:
        if lava_net.recognises(path):
            lava_net.read(path, ReadOptions())
            return True
    except (FrontendError, GraphError):
        pass
    return False


def small_net(path: Path) -> None:
    neuron = {"type": b"CUBA", "iDecay": 4096, "vDecay": 512, "vThMant": 20, "refDelay": 1}
    layers: list[dict[str, object]] = [
        {"type": b"input", "shape": [2, 4, 4]},
        {
            "type": b"conv", "shape": [3, 2, 2], "weight": np.arange(54.0).reshape(3, 2, 3, 3) - 27,
            "stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1, "bias": [1.0] * 3,
        },
        {"type": b"flatten", "shape": [12]},
        {"type": b"dense", "shape": [5], "weight": np.ones((5, 12)), "delay": [0.0, 1, 2, 3, 4]},
        {"type": b"average", "shape": [5]},
    ]  # fmt: skip
    with h5py.File(path, "w") as file:
        for index, fields in enumerate(layers):
            if "weight" in fields:
                fields |= {f"neuron/{name}": value for name, value in neuron.items()}
            for name, value in fields.items():
                file[f"layer/{index}/{name}"] = value


def small_sdnn(path: Path) -> None:
    """Write the same network of sigma-delta neurons, driven by a value a step."""
    small_net(path)
    with h5py.File(path, "r+") as file:
        del file["layer/4"]
        for index in (0, 1, 3):
            if index:
                del file[f"layer/{index}/neuron"]
            neuron = file.create_group(f"layer/{index}/neuron")
            neuron["type"], neuron["activation"] = b"SDNN", b"relu"
            neuron["vThMant"], neuron["messageBits"] = 20, 16
        file["layer/3/neuron/sigma_output"] = True


def test_mutated_bytes_give_only_our_errors(tmp_path: Path) -> None:
    path = tmp_path / "small.net"
    small_net(path)
    assert accepted(path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(200):
        mutant = bytearray(content)
        for place in rng.integers(0, len(mutant), rng.integers(1, 9)):
            mutant[place] = rng.integers(0, 256)
        cut = rng.integers(1, len(mutant) + 1) if rng.random() < 0.2 else len(mutant)
        path.write_bytes(bytes(mutant[:cut]))
        accepted(path)


@pytest.mark.parametrize("size", [0, 2**63, 2**64 - 1, 2**64 - 24, 5000])
def test_a_damaged_heap_is_refused_before_libhdf5_loops(tmp_path: Path, size: int) -> None:
    path = tmp_path / "small.net"
    small_net(path)
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    index, _, _, length = struct.unpack_from("<HHIQ", content, heap + 16)
    assert (index, length) == (1, 5)
    free = heap + 16
    while struct.unpack_from("<H", content, free)[0]:
        free += 16 + (struct.unpack_from("<Q", content, free + 8)[0] + 7) // 8 * 8
    struct.pack_into("<Q", content, (free if size == 0 else heap + 16) + 8, size)
    path.write_bytes(bytes(content))
    with pytest.raises(FrontendError, match="heap of texts"):
        lava_net.read(path, ReadOptions())


ODD = [
    b"text", b"conv", b"dense", -1, 0, 1, 3, 2**40, 2**62, 0.5, math.nan, math.inf, True,
    np.zeros(0), np.zeros((0, 4)), np.ones((2, 2, 2, 2, 2, 2)), np.arange(5.0), np.array([-3, 7]),
    np.array([b"conv"]), np.array([b"a", b"b"]), np.full((3, 3), 1e30), np.uint64(2**64 - 1),
]  # fmt: skip


@pytest.mark.parametrize(("write", "times"), [(small_net, 400), (small_sdnn, 200)])
def test_mutated_fields_give_only_our_errors(
    tmp_path: Path, write: Callable[[Path], None], times: int
) -> None:
    path = tmp_path / "small.net"
    write(path)
    assert accepted(path)
    names: list[str] = []
    with h5py.File(path) as file:
        file.visit(names.append)
    rng = np.random.default_rng(1)
    good = 0
    for _ in range(times):
        write(path)
        with h5py.File(path, "r+") as file:
            for _ in range(int(rng.integers(1, 3))):
                name = names[rng.integers(1, len(names))]
                if name in file:
                    del file[name]
                choice = rng.integers(0, len(ODD) + 2)
                if choice == len(ODD) and name not in file:
                    file.create_group(name)
                elif choice < len(ODD) and isinstance(
                    file.get(name.rpartition("/")[0]), h5py.Group
                ):
                    file[name] = ODD[choice]
        good += accepted(path)
    assert good > 5  # some fields may change without harm


CASES = SHARED.parent / "cases"


@shared
def test_decays_of_single_neurons_in_recurrent_layers_are_as_netx_runs_them() -> None:
    folder = CASES / "net-per-neuron-decay"
    spikes = np.load(folder / "data.npz")["spikes"]
    recorded = np.load(folder / "netx_spikes.npz")  # [neuron, step]
    trace = run(read(folder / "recurrent_example.net"), spikes)
    for name, layer in (("l0", "layer0"), ("l1", "layer1")):
        assert recorded[name].any()
        np.testing.assert_array_equal(trace.spikes(layer)[0].T, recorded[name])


@shared
def test_the_old_slayers_recurrent_layer_is_read() -> None:
    """A layer of type recurrent with recWeight: spikes and both states."""
    folder = CASES / "net-recurrent-nxsdk"
    recorded = np.load(folder / "in_and_right.npz")
    trace = run(read(folder / "recurrent_nxsdk.net"), recorded["spikes"])
    for quantity, name in (("spikes", "spikes"), ("voltage", "v"), ("current", "u")):
        found = trace["layer2", quantity][0].reshape(len(recorded["layer2_spikes"]), -1)
        np.testing.assert_array_equal(found, recorded[f"layer2_{name}"])
