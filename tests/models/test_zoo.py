"""The trained networks: what their card promises, on all 10,000 test images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from spikec.backends import open_backend
from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.batches import run_in_batches
from spikec.compiler.errors import UsageError
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import Graph
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.trace import read_out
from spikec.models import zoo
from spikec.models.encoding import rate_code, scan_code

LEAST = {"mnist-feedforward": 0.97, "mnist-recurrent": 0.96}


def predictions(graph: Graph, data: Dataset) -> Array:
    output = graph.outputs[0]
    quantity = "voltage" if (output, "voltage") in graph.default_probes else "spikes"
    trace = run_in_batches(
        lambda part: reference.run(graph, part, dtype=np.float32, probes=[(output, quantity)]),
        data.inputs,
        size=500,
    )
    return read_out(trace)


@dataclass(frozen=True)
class Judged:
    """A network of the zoo with its accuracies in float and in integers."""

    name: str
    graph: Graph
    data: Dataset
    in_float: float
    in_integers: float


@pytest.fixture(scope="module", params=[item.name for item in zoo.ZOO])
def judged(request: pytest.FixtureRequest) -> Judged:
    name = request.param
    graph, data = zoo.graph(name), zoo.data(name)
    program = compile_graph(graph, load_target("loihi2")).program
    with open_backend("simulator").load(program) as executable:
        integers = read_out(executable.run(data.inputs))
    return Judged(
        name=name,
        graph=graph,
        data=data,
        in_float=float((predictions(graph, data) == data.labels).mean()),
        in_integers=float((integers == data.labels).mean()),
    )


def test_the_float_network_is_accurate(judged: Judged) -> None:
    assert judged.data.num_samples == 10_000
    assert judged.in_float >= LEAST[judged.name]


def test_eight_bit_integers_are_within_three_tenths_of_a_point(judged: Judged) -> None:
    assert abs(judged.in_integers - judged.in_float) <= 0.003


def test_the_recurrent_weights_matter() -> None:
    name = "mnist-recurrent"
    graph, data = zoo.graph(name), zoo.data(name, samples=1500)
    loops = [edge for edge in graph.edges if edge.source == edge.target]
    assert loops
    cut = Graph(
        nodes=graph.nodes,
        edges=[edge for edge in graph.edges if edge not in loops],
        outputs=graph.outputs,
    )
    kept, without = (float((predictions(g, data) == data.labels).mean()) for g in (graph, cut))
    assert without < kept - 0.10


def test_the_data_are_mnists_test_images_in_order() -> None:
    data = zoo.data("mnist-feedforward", samples=10)
    assert data.labels is not None
    assert data.labels.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert data.inputs["input"].shape == (10, 16, 784)
    assert zoo.data("mnist-recurrent", samples=3).inputs["input"].shape == (3, 36, 56)


def test_an_unknown_network_is_refused_with_those_there_are() -> None:
    for call in (zoo.entry, zoo.graph, zoo.data):
        with pytest.raises(UsageError, match=r"(?s)mnist-cnn.*mnist-feedforward"):
            call("mnist-cnn")


def test_rate_coded_pixels_spike_in_proportion_and_evenly() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    for steps in (1, 7, 16, 100):
        coded = rate_code(images, steps=steps)
        assert coded.shape == (1, steps, 256)
        assert coded.dtype == np.uint8
        assert coded.max() <= 1
        counts = coded.sum(axis=1)[0].tolist()
        assert counts == [(value * steps * 2 + 256) // 512 for value in range(256)]  # half up
        so_far = coded.cumsum(axis=1)[0]
        even = np.arange(1, steps + 1)[:, None] * np.arange(256) / 256
        assert np.abs(so_far - even).max() <= 0.5


def test_scanned_images_show_row_and_column_of_each_step() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 5, 5)).astype(np.uint8)
    coded = scan_code(images, above=96, silent_steps=3)
    assert coded.shape == (2, 8, 10)
    assert not coded[:, 5:].any()
    for sample in range(2):
        for step in range(5):
            for place in range(5):
                assert coded[sample, step, place] == (images[sample, step, place] >= 96)
                assert coded[sample, step, 5 + place] == (images[sample, place, step] >= 96)
