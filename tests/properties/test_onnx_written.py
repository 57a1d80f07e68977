"""What we write as ONNX runs anywhere with the same spikes, and reads back as the same network."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator
from support.random_graphs import random_graph, random_graph_inputs
from typer.testing import CliRunner

from spikec.cli.main import app
from spikec.compiler import reference
from spikec.compiler.arrays import Array, frozen
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import load_graph
from spikec.compiler.frontends.onnx_write import to_model, write
from spikec.compiler.ir import LI, LIF, Graph, Input, SourceView
from spikec.models import network, save, seed_lif, sparse, spikes, zoo

SEEDS = range(80)


def as_read(graph: Graph) -> Graph:
    """Return a graph as a frontend would give it: nothing moved in time, the plain neuron."""
    return graph.rewritten(nodes={node.name: plain(node) for node in graph.nodes})


def plain(node: Input | LIF | LI) -> Input | LIF | LI:
    if isinstance(node, Input):
        return replace(node, shift=0)
    view = SourceView(lag=node.view.lag, current_lag=node.view.lag)
    moved = replace(node, start=0, view=view)
    return replace(moved, refractory=0) if isinstance(moved, LIF) else moved


def run_file(model: onnx.ModelProto, graph: Graph, inputs: dict[str, Array]) -> list[Array]:
    feeds = {node.name: np.swapaxes(inputs[node.name][:1], 0, 1) for node in graph.inputs}
    series = {name: values.astype(np.float32) for name, values in feeds.items()}
    return [np.asarray(output) for output in ReferenceEvaluator(model).run(None, series)]


def same(graph: Graph, inputs: dict[str, Array], found: list[Array]) -> bool:
    trace = reference.run(graph, inputs, dtype=np.float32)
    for name, values in zip(graph.outputs, found, strict=True):
        if (name, "spikes") in trace.values:
            if not np.array_equal(trace.spikes(name)[0].ravel(), values.ravel()):
                return False
        elif not np.allclose(trace[name, "voltage"][0].ravel(), values.ravel(), atol=1e-5):
            return False
    return True


@pytest.mark.parametrize("seed", SEEDS)
def test_the_reference_evaluator_gives_the_same_spikes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    graph = as_read(random_graph(rng))
    inputs = random_graph_inputs(graph, rng, 1, 8)
    assert same(graph, inputs, run_file(to_model(graph), graph, inputs))


def test_what_is_written_reads_back_with_the_same_spikes(tmp_path: Path) -> None:
    outcomes: Counter[str] = Counter()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        graph = as_read(random_graph(rng))
        inputs = random_graph_inputs(graph, rng, 1, 8)
        try:
            write(graph, tmp_path / "net.onnx")
        except FrontendError as error:
            outcomes[error.diagnostics[0].message] += 1
            continue
        read = load_graph(tmp_path / "net.onnx")
        # The file does not say what values enter: it is read as taking spikes.
        read = read.rewritten(nodes={node.name: graph[node.name] for node in read.inputs})
        ours = {node.name: inputs[node.name] for node in read.inputs}
        trace = reference.run(read, ours, dtype=np.float32)
        shown = [trace.values[name, "spikes"] if (name, "spikes") in trace.values
                 else trace[name, "voltage"] for name in read.outputs]  # fmt: skip
        assert len(shown) == len(graph.outputs), seed
        assert same(graph, inputs, [values[0] for values in shown]), seed
        assert read.outputs == graph.outputs, seed
        for name in graph.outputs:
            assert type(read[name]) is type(graph[name]), seed
        outcomes["read"] += 1
    # A neuron whose leak is 0 for some and not for others, say, may be read as another kind.
    assert outcomes["read"] >= 0.9 * len(SEEDS), outcomes


@pytest.mark.parametrize("name", [item.name for item in zoo.ZOO])
def test_the_zoo_goes_to_onnx_and_back(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    words = ["convert", str(zoo.entry(name).path), str(path)]
    assert CliRunner().invoke(app, words).exit_code == 0
    graph, read, data = zoo.graph(name), load_graph(path), zoo.data(name, samples=20)
    (values,) = data.inputs.values()
    before = reference.run(graph, data.inputs, dtype=np.float32)
    after = reference.run(read, {read.inputs[0].name: values}, dtype=np.float32)
    np.testing.assert_array_equal(before.spikes("layer1"), after.spikes("layer1"))
    assert read.outputs == graph.outputs


def test_what_the_form_cannot_hold_is_refused_by_name() -> None:
    graph = zoo.graph("mnist-feedforward")
    layer = graph["layer1"]
    assert isinstance(layer, LIF)
    late = replace(layer, start=2, view=SourceView(voltage_offset=frozen(1.0)))
    with pytest.raises(FrontendError) as caught:
        to_model(graph.rewritten(nodes={"layer1": late}))
    messages = [item.message for item in caught.value.diagnostics]
    assert messages == ["the ONNX form has no late start", "the ONNX form has no shifted voltage"]


@pytest.mark.parametrize("ending", ["onnx", "nir"])
def test_a_large_sparse_operator_has_no_words(ending: str, tmp_path: Path) -> None:
    count = 5000
    ones = np.arange(count)
    graph = network(
        nodes=[spikes("in", count), seed_lif("out", count, alpha=0.5, beta=0.5)],
        edges=[
            sparse("in", "out", np.ones(count), sources=ones, targets=ones, shape=(count, count))
        ],
        outputs=["out"],
    )
    save(graph, tmp_path / "net.safetensors")
    words = ["convert", str(tmp_path / "net.safetensors"), str(tmp_path / f"net.{ending}")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code != 0
    assert "in->out" in result.stderr
    assert "no sparse weights" in result.stderr
    assert not (tmp_path / f"net.{ending}").exists()


def test_a_format_without_a_writer_is_refused(tmp_path: Path) -> None:
    words = ["convert", str(zoo.ZOO[0].path), str(tmp_path / "net.xyz")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert not (tmp_path / "net.xyz").exists()
