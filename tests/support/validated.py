"""Networks that validation is tried on, and random compilations of every kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from spikec.compiler.arrays import frozen
from spikec.compiler.errors import GraphError, QuantizationError
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input, Node, Source
from spikec.compiler.operators import Conv2d, Dense
from spikec.compiler.quantize import Compilation, WeightBits, compile_graph, compile_mixed
from spikec.compiler.rate import convert
from spikec.compiler.relu import Branch, Layer, ReluNetwork
from spikec.compiler.targets import load_target
from spikec.models import zoo
from support.random_graphs import random_graph, random_graph_inputs

__all__ = ["NETWORKS", "drawn"]

TARGETS = tuple(load_target(name) for name in ("loihi2", "loihi1", "generic"))


def pictures() -> Graph:
    """Return a convolution, a recurrent layer and a readout, with biases and several resets."""
    rng = np.random.default_rng(5)
    conv = LIF(
        name="conv", shape=(4, 6, 6), alpha=frozen(0.6), beta=frozen(0.85), coupling="delayed",
        bias=np.repeat(rng.normal(0, 0.05, 4), 36).reshape(4, 6, 6), gain=frozen(0.5),
        rest=frozen(-0.5), vth=frozen(0.5), reset="subtract", reset_order="at_spike", compare=">=",
    )  # fmt: skip
    layer = LIF(
        name="layer", shape=(20,), alpha=frozen(0.7), beta=rng.uniform(0.7, 0.95, 20),
        coupling="immediate", bias=rng.normal(0, 0.05, 20), vth=rng.uniform(0.8, 1.2, 20),
        reset="value", reset_value=frozen(-0.25), reset_order="next_step", compare=">=",
    )  # fmt: skip
    readout = LI(name="out", shape=(5,), alpha=frozen(0.7), beta=frozen(0.9),
                 coupling="immediate", bias=rng.normal(0, 0.1, 5))  # fmt: skip
    edges = [
        ("in", "conv", Conv2d(weight=rng.normal(0, 0.4, (4, 2, 3, 3)), padding=(1, 1)), 0),
        ("conv", "layer", Dense(weight=rng.normal(0, 0.15, (20, 144))), 2),
        ("layer", "layer", Dense(weight=rng.normal(0, 0.2, (20, 20))), 1),
        ("layer", "out", Dense(weight=rng.normal(0, 0.3, (5, 20))), 0),
    ]
    return Graph(
        nodes=[Input(name="in", shape=(2, 6, 6)), conv, layer, readout],
        edges=[
            Edge(name=f"{source}->{target}", source=source, target=target, operator=operator,
                 delay=delay)
            for source, target, operator, delay in edges
        ],
        outputs=["out"],
    )  # fmt: skip


def biased(name: str) -> Graph:
    """Return a network of the zoo with biases, and resets that take off an amount each."""
    graph, rng = zoo.graph(name), np.random.default_rng(7)
    nodes: dict[str, Node] = {}
    for node in graph.populations:
        bias = rng.normal(0, 0.05, node.shape)
        if isinstance(node, LIF):
            amounts = rng.uniform(0.9, 1.1, node.shape)
            nodes[node.name] = replace(node, bias=bias, reset="subtract", reset_value=amounts)
        else:
            nodes[node.name] = replace(node, bias=bias)
    return graph.rewritten(nodes=nodes)


def counters() -> Graph:
    """Return integrators without leak that send several spikes a step, after rate conversion."""
    rng = np.random.default_rng(6)

    def layer(name: str, source: str, inputs: int, neurons: int, *, rectified: bool) -> Layer:
        weight = rng.normal(0, 0.3, (neurons, inputs))
        branch = Branch(source=source, operator=Dense(weight=weight))
        bias = rng.normal(0, 0.2, neurons)
        return Layer(
            name=name, shape=(neurons,), bias=bias, branches=(branch,), rectified=rectified
        )

    layers = [
        layer("hidden", "image", 30, 12, rectified=True),
        layer("scores", "hidden", 12, 4, rectified=False),
    ]
    network = ReluNetwork(
        inputs=(Input(name="image", shape=(30,), kind="analog", low=0.0, high=1.0),),
        layers=tuple(layers),
        outputs=("scores",),
        source=Source(),
    )
    return convert(network, Dataset(inputs={"image": rng.random((40, 1, 30))}))[0]


#: Networks that are here wherever tests are.
NETWORKS: dict[str, Callable[[], Graph]] = {
    "mnist-feedforward": lambda: zoo.graph("mnist-feedforward"),
    "mnist-recurrent": lambda: zoo.graph("mnist-recurrent"),
    "biased-feedforward": lambda: biased("mnist-feedforward"),
    "biased-recurrent": lambda: biased("mnist-recurrent"),
    "pictures": pictures,
    "counters": counters,
}


def drawn(seed: int) -> tuple[Graph, Compilation, Dataset | None] | None:
    """Draw a network and compile it somehow: None if that target cannot hold it.

    Every target, bits and rounding, with calibration data and without, a memory or a loss.
    """
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, canonicalisable=True, dyadic=bool(seed % 2))
    target = TARGETS[int(rng.choice(3, p=[0.6, 0.1, 0.3]))]
    data = None
    if rng.random() < 0.5:
        samples, steps = int(rng.integers(1, 20)), int(rng.integers(5, 25))
        data = Dataset(inputs=random_graph_inputs(graph, rng, samples, steps))
    bits = WeightBits(
        default=[None, 1, 2, 3, 4, 5, 6, 7, 8][int(rng.integers(9))],
        named={edge.name: int(rng.integers(1, 9)) for edge in graph.edges if rng.random() < 0.2},
        rounding=rng.choice(["max-abs", "least-squares", "fitted"]),
    )
    try:
        if data is not None and rng.random() < 0.1:
            budget = int(rng.integers(20, 2000))
            return graph, compile_mixed(graph, target, calibration=data, budget=budget), data
        return graph, compile_graph(graph, target, weight_bits=bits, calibration=data), data
    except QuantizationError:
        return None
    except GraphError as refusal:
        if refusal.diagnostics[0].code != "G060":  # products of weights may be too large
            raise
        return None
