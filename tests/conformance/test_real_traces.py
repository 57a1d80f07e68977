"""Networks and recordings that others made, reproduced bit for bit where that is possible.

The data is found through ``SPIKEC_SHARED_DATA``; its MANIFEST.md says where it is from.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.engines import ENGINES, Engine, run_on

from spikec.backends.simulator import golden
from spikec.compiler import reference
from spikec.compiler.arrays import Array, Shape
from spikec.compiler.ir import LIF, Edge, Graph, Input, SourceView
from spikec.compiler.operators import Conv2d, Dense, Operator
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.trace import QUANTITIES, Probe

DEFAULT = Path(__file__).parents[2] / "../shared/data"
DATA = Path(os.environ.get("SPIKEC_SHARED_DATA", DEFAULT)).resolve()

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not DATA.is_dir(),
        reason=f"there is no folder {DATA}: set SPIKEC_SHARED_DATA to the shared test data",
    ),
]


def lava_neurons(name: str, shape: Shape, **fields: object) -> Neurons:
    defaults: dict[str, object] = {"reset": "zero", "reset_order": "at_spike", "du": 4095}
    return Neurons(name=name, shape=shape, **{**defaults, **fields})  # type: ignore[arg-type]


def connected(source: str, target: str, operator: Operator) -> Connection:
    return Connection(
        name=f"{source}-{target}",
        source=source,
        target=target,
        operator=operator,
        weight_exp=0,
        num_weight_bits=8,
        sign_mode="mixed",
        delay=1,
    )


def binary(name: str, *shape: int) -> ProgramInput:
    return ProgramInput(name=name, shape=shape, kind="binary", low=0, high=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_lava_dl_dense_layer(engine: Engine) -> None:
    """200 inputs, 256 neurons, 2000 steps: the ground truth of lava-dl's dense block."""
    folder = DATA / "lava" / "dense"
    weight, spikes_in = np.load(folder / "weight.npy"), np.load(folder / "in.npy")
    program = Program(
        target="loihi",
        inputs=(binary("in", 200),),
        populations=(lava_neurons("out", (256,), dv=415, vth=6),),
        connections=(connected("in", "out", Dense(weight=weight)),),
        outputs=("out",),
    )
    probes: list[Probe] = [("out", quantity) for quantity in QUANTITIES]
    trace = run_on(engine, program, {"in": spikes_in.T[None]}, probes)
    spikes, current = np.load(folder / "out.npy").T, np.load(folder / "current.npy").T
    np.testing.assert_array_equal(trace["out", "current"][0], current.astype(np.int64) << 6)
    np.testing.assert_array_equal(trace.spikes("out")[0], spikes)
    assert spikes.sum() > 1000
    assert not trace.events


#: Contiguous float32 datasets in tiny.net (HDF5, no compression): byte offset and shape of
#: /layer/<k>/weight and /layer/<k>/bias. Both layers have stride 2 and no padding; all neurons
#: have iDecay 4096 (du 4095), vDecay 1024 and vThMant 25.
TINY = {
    "layer/1/weight": (17792, (24, 3, 5, 5)),
    "layer/1/bias": (2276, (24, 1, 1)),
    "layer/2/weight": (33424, (36, 24, 5, 5)),
    "layer/2/bias": (2574, (36, 1, 1)),
}


def tiny(field: str) -> Array:
    offset, shape = TINY[field]
    count = math.prod(shape)
    values = np.fromfile(DATA / "lava" / "tiny.net", "<f4", count, offset=offset)
    return values.reshape(shape).astype(np.int64)


def tiny_net(*, gated: bool = True) -> Program:
    """Return bias-driven neurons and two convolutions; each layer starts one step later."""
    first = np.load(DATA / "lava" / "tinynet" / "input_bias.npy").transpose(2, 1, 0)
    layers = [
        ("in", (3, 16, 16), first.astype(np.int64), SourceView(lag=-1, current_lag=-1)),
        ("l1", (24, 6, 6), tiny("layer/1/bias"), SourceView()),
        ("out", (36, 1, 1), tiny("layer/2/bias"), SourceView(lag=1, current_lag=1)),
    ]
    return Program(
        target="loihi",
        inputs=(binary("unused", 1),),
        populations=tuple(
            lava_neurons(
                name,
                shape,
                dv=1024,
                vth=25,
                bias_mant=np.broadcast_to(bias, shape),
                bias_exp=6,
                start=index if gated else 0,
                view=view,
            )
            for index, (name, shape, bias, view) in enumerate(layers)
        ),
        connections=(
            connected("in", "l1", Conv2d(weight=tiny("layer/1/weight"), stride=(2, 2))),
            connected("l1", "out", Conv2d(weight=tiny("layer/2/weight"), stride=(2, 2))),
        ),
        outputs=("out",),
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_lava_dl_tiny_net(engine: Engine) -> None:
    """Three layers with biases and two convolutions over 16 steps, as netx runs them in Lava."""
    folder = DATA / "lava" / "tinynet"
    probes: list[Probe] = [
        ("in", "spikes"), ("l1", "spikes"), ("out", "spikes"), ("l1", "current"),
    ]  # fmt: skip
    silence = {"unused": np.zeros((1, 16, 1), np.uint8)}
    trace = run_on(engine, tiny_net(), silence, probes)
    for name, file in (("in", "input"), ("l1", "layer1"), ("out", "output")):
        recorded = np.moveaxis(np.load(folder / f"{file}.npy"), -1, 1)
        np.testing.assert_array_equal(trace.spikes(name), recorded)
        assert recorded.any()
    current = np.moveaxis(np.load(folder / "current.npy"), -1, 1).astype(np.int64)
    np.testing.assert_array_equal(trace["l1", "current"], current << 6)
    assert not trace.events


def test_the_kernel_of_tiny_net_is_lavas() -> None:
    kernel = np.load(DATA / "lava" / "tinynet" / "layer1_kernel.npy")  # (out, x, y, in), flipped
    np.testing.assert_array_equal(
        kernel, tiny("layer/1/weight")[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    )


def test_lava_dl_tiny_net_needs_its_staggered_start() -> None:
    silence = {"unused": np.zeros((1, 16, 1), np.uint8)}
    recorded = np.load(DATA / "lava" / "tinynet" / "layer1.npy")
    hasty = golden.run(tiny_net(gated=False), silence)
    wrong = (np.moveaxis(hasty.spikes("l1"), 1, -1) != recorded).sum()
    assert wrong > recorded.sum() / 4


def nir_trace(platform: str) -> tuple[Array, Array, Array]:
    """Return input, voltage and spikes of the NIR paper's single neuron."""
    columns = np.loadtxt(DATA / "nir" / f"lif_{platform}.csv", delimiter=",", unpack=True)
    given, voltage, spikes = columns
    assert spikes.sum() == 4
    return given, voltage, spikes


@pytest.mark.parametrize("platform", ["lava_cpu_fixed", "lava_loihi_fixed"])
def test_the_nir_neuron_in_lavas_integers(platform: str) -> None:
    """``v = rtz(v * (4096 - 163), 12) + 640 * x[n-1]``; the second is a real Loihi 2."""
    given, voltage, spikes = nir_trace(platform)
    program = Program(
        target="loihi",
        inputs=(binary("in", 1),),
        populations=(lava_neurons("n", (1,), dv=163, vth=25),),
        connections=(connected("in", "n", Dense(weight=np.array([[10]]))),),
        outputs=("n",),
    )
    probes = [("n", "spikes"), ("n", "voltage")]
    trace = golden.run(program, {"in": given.reshape(1, -1, 1)}, probes=probes)  # type: ignore[arg-type]
    np.testing.assert_array_equal(trace.spikes("n").ravel(), spikes)
    if platform == "lava_loihi_fixed":  # the chip's probe shows 128 at a spike
        np.testing.assert_array_equal(voltage[spikes == 1], 128)
        voltage = np.where(spikes == 1, 0, voltage)
    np.testing.assert_array_equal(trace["n", "voltage"].ravel(), voltage)


EULER, EXACT = 1 - 1e-4 / 0.0025, math.exp(-1e-4 / 0.0025)

#: Decay, input weight, threshold, reset, delay, precision, and how far voltages may differ:
#: 0 where the order of operations is ours, a rounding where it is v + k (x - v) or Lava's.
NIR_FLOAT = {
    "snntorch": (EULER, 1.0, 2.5, "zero", 0, np.float32, 0.0),
    "sinabs": (EXACT, 0.04, 0.1, "subtract", 0, np.float32, 0.0),
    "rockpool": (EXACT, 0.04, 0.1, "subtract", 0, np.float32, 5e-9),  # 8 digits in the file
    "norse": (EULER, 0.04, 0.1, "zero", 0, np.float32, 1e-7),
    "lava_cpu_float": (EULER, 0.04, 0.1, "zero", 1, np.float64, 1e-7),
}


@pytest.mark.parametrize("platform", NIR_FLOAT)
def test_the_nir_neuron_in_float(platform: str) -> None:
    beta, weight, vth, reset, delay, dtype, tolerance = NIR_FLOAT[platform]
    given, voltage, spikes = nir_trace(platform)
    graph = Graph(
        nodes=[
            Input(name="in", shape=(1,)),
            LIF(
                name="n",
                shape=(1,),
                alpha=None,
                beta=np.array(beta),
                coupling="immediate",
                vth=np.array(vth),
                reset=reset,  # type: ignore[arg-type]
                reset_order="at_spike",
                compare=">",
            ),
        ],
        edges=[
            Edge(
                name="e",
                source="in",
                target="n",
                operator=Dense(weight=np.array([[weight]])),
                delay=delay,
            )
        ],
        outputs=("n",),
    )
    spikes_in = (given > 0).reshape(1, -1, 1)
    probes = [("n", "spikes"), ("n", "voltage")]
    trace = reference.run(graph, {"in": spikes_in}, dtype=dtype, probes=probes)  # type: ignore[arg-type]
    np.testing.assert_array_equal(trace.spikes("n").ravel(), spikes)
    np.testing.assert_allclose(trace["n", "voltage"].ravel(), voltage, rtol=0, atol=tolerance)


def seed_network() -> Graph:
    """Return the trained 64-64(recurrent)-10 net as its ONNX step file states it."""
    model = onnx.load(DATA / "onnx" / "hand_cuba_rec.step.dyn.onnx")
    values = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}

    def population(name: str, neurons: int, alpha: str) -> LIF:
        return LIF(
            name=name,
            shape=(neurons,),
            alpha=values[alpha],
            beta=values["val_3"],
            coupling="delayed",
            vth=values["val_0"],
            reset="subtract",
            reset_order="next_step",
            compare=">",
            view=SourceView(lag=-1, current_lag=-1),
        )

    def edge(source: str, target: str, weight: str, delay: int) -> Edge:
        operator = Dense(weight=values[weight].T)
        return Edge(name=weight, source=source, target=target, operator=operator, delay=delay)

    return Graph(
        nodes=[
            Input(name="in", shape=(64,)),
            population("l1", 64, "val_2"),
            population("l2", 10, "val_4"),
        ],
        edges=[edge("in", "l1", "t", 0), edge("l1", "l1", "t_1", 1), edge("l1", "l2", "t_2", 1)],
        outputs=("l2",),
    )


def test_the_trained_seed_network_spikes_as_its_framework_did() -> None:
    recorded = np.load(DATA / "onnx" / "hand_cuba_rec.npz")
    stable = recorded["stable"]
    assert stable.sum() >= 359
    trace = reference.run(seed_network(), {"in": recorded["spikes"]}, dtype=np.float32)
    for name, file in (("l1", "spk_0"), ("l2", "spk_1")):
        np.testing.assert_array_equal(trace.spikes(name)[stable], recorded[file][stable])
    predicted = trace.spikes("l2").sum(axis=1).argmax(axis=1)
    np.testing.assert_array_equal(predicted, recorded["pred"])


def test_the_trained_seed_network_has_its_frameworks_states() -> None:
    """The file holds states after every step: index n is the reference's index n + 1."""
    recorded = np.load(DATA / "onnx" / "hand_cuba_rec.npz")
    inputs = {"in": recorded["spikes"][:8]}
    probes = [(name, quantity) for name in ("l1", "l2") for quantity in QUANTITIES]
    trace = reference.run(seed_network(), inputs, dtype=np.float32, probes=probes)
    for name in ("l1", "l2"):
        for quantity, letter in (("current", "I"), ("voltage", "U")):
            after = recorded[f"trace8_{name}_{letter}"]
            found = trace[name, quantity]  # type: ignore[index]
            np.testing.assert_allclose(found[:, 1:], after[:, :-1], rtol=1e-6, atol=1e-5)
            assert not found[:, 0].any()
