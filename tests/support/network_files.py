"""A small network of every frontend as a file, with data for it: for tests of all commands."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from spikec.cli.running import writer_for
from spikec.compiler.arrays import Array, Shape
from spikec.compiler.ir import Graph
from spikec.compiler.npz import write_npz
from spikec.compiler.program_file import write_program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.models import conv2d, dense, network, seed_lif, seed_network, seed_readout, spikes
from support.lava_files import Fields, cuba, layer, sdnn
from support.lava_files import write as write_net
from support.onnx_networks import random_network
from support.relu_networks import mlp_model

__all__ = ["DATA", "INPUTS", "LAVA", "NETWORKS", "STEPS", "data_of", "network_file"]

SAMPLES, STEPS, INPUTS, CLASSES = 3, 12, 6, 3
DATA = "data.npz"


def _chain(*, readout: bool = False, recurrent: bool = False, beta: float = 0.8) -> Graph:
    rng = np.random.default_rng(3)
    weights = [rng.normal(0.4, 0.8, (5, INPUTS)), rng.normal(0.1, 0.8, (CLASSES, 5))]
    loops = [rng.normal(0, 0.3, (5, 5)), None] if recurrent else []
    return seed_network(
        feedforward=weights, recurrent=loops, alpha=0.6, beta=[0.8, beta], readout=readout, dt=1e-3
    )


def _convolution() -> Graph:
    rng = np.random.default_rng(4)
    return network(
        nodes=[spikes("in", (1, 2, 3)), seed_lif("conv", (2, 2, 3), alpha=0.5, beta=0.9),
               seed_readout("out", CLASSES, alpha=0.5, beta=0.9)],
        edges=[conv2d("in", "conv", rng.normal(0.5, 0.5, (2, 1, 3, 3)), padding=1),
               dense("conv", "out", rng.normal(0, 0.5, (CLASSES, 12)))],
        outputs=["out"],
    )  # fmt: skip


#: Float networks, each of which can be written in every format.
GRAPHS = {
    "chain": _chain,
    "recurrent": lambda: _chain(recurrent=True),
    "readout": lambda: _chain(readout=True),
    "integrator": lambda: _chain(readout=True, beta=1.0),
    "convolution": _convolution,
}
_ENDINGS = {"native": ".safetensors", "onnx": ".onnx", "nir": ".nir"}


def _dense(weight: Array, **more: object) -> Fields:
    return layer("dense", shape=[len(weight)], weight=weight, **more)


def _net(*, parts: int = 0, **fields: object) -> list[Fields]:
    weight = np.random.default_rng(5).integers(-20, 60, (CLASSES, INPUTS)) * 2
    if parts == 2:
        weight = np.abs(weight) + 301  # of one sign, beyond eight bits
    if parts == 3:
        weight = weight // 2 + 1 - weight // 2 % 2  # odd, of both signs
    return [layer("input", shape=[INPUTS]), _dense(weight, **cuba(), **fields)]


def _encoders() -> list[Fields]:
    rng = np.random.default_rng(6)
    return [
        layer("input", shape=[INPUTS], **sdnn(2)),
        _dense(rng.integers(-9, 9, (4, INPUTS)) * 2, **sdnn(3)),
        _dense(rng.integers(-9, 9, (CLASSES, 4)) * 2, **sdnn(3, activation=b"relu")),
    ]


def _resonators() -> list[Fields]:
    fields: Fields = {
        "weight/real": np.random.default_rng(7).integers(-20, 40, (CLASSES, INPUTS)),
        "weight/imag": np.full((CLASSES, INPUTS), 30),
        "neuron/type": b"RF_PHASE", "neuron/vThMant": 5,
        "neuron/sinDecay": 2103, "neuron/cosDecay": 3273,
    }  # fmt: skip
    return [layer("input", shape=[INPUTS]), layer("dense", shape=[CLASSES], **fields)]


def _two_layers() -> list[Fields]:
    second = np.random.default_rng(8).integers(-30, 60, (CLASSES, CLASSES)) * 2
    return [*_net(delay=[0, 2, 5]), _dense(second, delay=[4], **cuba(v_decay=4096))]


def _recurrent_layer() -> list[Fields]:
    first, (_, last) = layer("input", shape=[INPUTS]), _net(parts=3)
    loop = np.array([[0, 7, -3], [2, 0, 5], [-8, 1, 0]])
    return [first, {**last, "type": b"dense_rec", "weight_rec": loop}]


def _convolved() -> list[Fields]:
    kernel = np.random.default_rng(9).integers(-9, 30, (2, 1, 3, 3))
    return [
        layer("input", shape=[1, 2, 3]),
        layer("conv", shape=[2, 2, 3], weight=kernel, padding=[1, 1], delay=[0, 3], **cuba()),
    ]


#: What lava-dl writes, among it all that spikec reads as several connections.
LAVA = {
    "plain": _net,
    "one delay": lambda: _net(delay=[5]),
    "delays of neurons": lambda: _net(delay=[0, 2, 5]),
    "delays of inputs": lambda: _net(delay=[0, 1, 2, 3, 3, 9]),
    "wide weights": lambda: _net(parts=2),
    "odd weights": lambda: _net(parts=3),
    "odd weights with delays": lambda: _net(parts=3, delay=[0, 2, 5]),
    "two layers": _two_layers,
    "recurrent layer": _recurrent_layer,
    "convolution": _convolved,
    "resonators": _resonators,
    "encoders": _encoders,
}

#: The names of all files that :func:`network_file` writes, as ``format: network``.
NETWORKS = (
    *(f"{kind}: {name}" for kind in _ENDINGS for name in GRAPHS),
    *(f"net: {name}" for name in LAVA),
    *(f"spk: {name}" for name in GRAPHS),
    "onnx: foreign",
    "relu: mlp",
)


def network_file(name: str, folder: Path) -> Path:
    """Write the network ``name`` of :data:`NETWORKS` and its data, :data:`DATA`, into ``folder``.

    Returns the network's path.
    """
    kind, _, title = name.partition(": ")
    path = folder / f"network{_ENDINGS.get(kind, '.' + kind)}"
    if title == "foreign":
        generated = random_network((1, 4))
        path.write_bytes(generated.model.SerializeToString())
        data_of(generated.shape, folder / DATA)
        return path
    data_of((1, 2, 3) if title == "convolution" else (INPUTS,), folder / DATA)
    if kind == "relu":
        rng = np.random.default_rng(2)
        weights = [rng.normal(0, 1, (5, INPUTS)), rng.normal(0, 1, (CLASSES, 5))]
        onnx.save(mlp_model(weights, [np.zeros(5), np.zeros(CLASSES)]), path)
        images = rng.random((20, INPUTS)).astype(np.float32)
        write_npz(folder / DATA, {"spikes": images, "labels": np.arange(20) % CLASSES})
    elif kind == "net":
        write_net(path, *LAVA[title]())
    elif kind == "spk":
        write_program(compile_graph(GRAPHS[title](), load_target("loihi2")).program, path)
    else:
        writer_for(path)(GRAPHS[title](), path)
    return path


def data_of(shape: Shape, path: Path, *, samples: int = SAMPLES) -> None:
    """Write spikes and labels for a network whose input has ``shape``."""
    values = np.random.default_rng(1).random((samples, STEPS, *shape)) < 0.4
    arrays: Mapping[str, Array] = {
        "spikes": values.astype(np.uint8), "labels": np.arange(samples) % CLASSES,
    }  # fmt: skip
    write_npz(path, arrays)
