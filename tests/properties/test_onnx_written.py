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
from spikec.compiler.errors import FrontendError, SpikecError
from spikec.compiler.frontends import ReadOptions, load_graph
from spikec.compiler.frontends.onnx_write import to_model, write
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input, SourceView
from spikec.compiler.operators import Dense
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


def renamed(graph: Graph) -> Graph:
    """Return ``graph`` with names that need care, and its idle populations as outputs too."""
    names = {node.name: f"{node.name}.of a=long,name_{'x' * 30}.u" for node in graph.nodes}
    feeding = {edge.source for edge in graph.edges if edge.source != edge.target}
    idle = [node.name for node in graph.populations if node.name not in feeding]
    outputs = dict.fromkeys([*graph.outputs, *idle])
    return Graph(
        nodes=[replace(node, name=names[node.name]) for node in graph.nodes],
        edges=[
            replace(edge, source=names[edge.source], target=names[edge.target])
            for edge in graph.edges
        ],
        outputs=[names[name] for name in outputs],
        dt=0.1 / 3,
    )


def test_what_is_written_reads_back_as_the_same_network(tmp_path: Path) -> None:
    """Every node has its name, kind and shape, inputs their range, populations their spikes."""
    outcomes: Counter[str] = Counter()
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        graph = renamed(as_read(random_graph(rng)))
        inputs = random_graph_inputs(graph, rng, 1, 8)
        try:
            write(graph, tmp_path / "net.onnx")
        except FrontendError as error:
            outcomes[error.diagnostics[0].message] += 1
            continue
        read = load_graph(tmp_path / "net.onnx")
        assert (read.outputs, read.dt) == (graph.outputs, graph.dt), seed
        assert [entry(node) for node in read.inputs] == [entry(node) for node in graph.inputs], seed
        before = reference.run(graph, inputs, dtype=np.float32)
        after = reference.run(read, inputs, dtype=np.float32)
        for node in graph.populations:
            if node.name not in graph.reachable_from_inputs() and node.name not in graph.outputs:
                continue  # a constant drive: it may be read as a bias
            assert (type(read[node.name]), read[node.name].shape) == (type(node), node.shape), seed
            probe = (node.name, "spikes" if isinstance(node, LIF) else "voltage")
            np.testing.assert_allclose(before[probe], after[probe], atol=1e-5, err_msg=f"{seed}")
        outcomes["read"] += 1
    # A neuron whose leak is 0 for some and not for others, say, is read as another kind, and what
    # no output depends on, as the draws often have it, is not read.
    assert outcomes["read"] >= 0.75 * len(SEEDS), outcomes


def entry(node: Input) -> tuple[object, ...]:
    return node.name, node.shape, node.kind, node.low, node.high


def readout(bits: Input, **fields: object) -> Graph:
    given = {"alpha": 0.5, "beta": 0.5, "coupling": "immediate", **fields}
    out = LI(name="out", shape=(2,), **given)  # type: ignore[arg-type]
    edge = Edge(
        name="e", source=bits.name, target="out", operator=Dense(weight=np.array([[1.0], [0.5]]))
    )
    return Graph(nodes=[bits, out], edges=[edge], outputs=["out"])


def test_an_option_overrides_what_a_file_says_of_its_inputs(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    write(readout(Input(name="x", shape=(1,), kind="analog", low=None, high=None)), path)
    assert entry(load_graph(path).inputs[0]) == ("x", (1,), "analog", None, None)
    read = load_graph(path, ReadOptions(inputs="graded:0..15"))
    assert entry(read.inputs[0]) == ("x", (1,), "graded", 0, 15)
    said = [choice.origin for choice in read.choices if choice.what == "input 'x'"]
    assert said == [
        "metadata 'snn.inputs'", "option --input, in place of the file's metadata 'snn.inputs'",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("snn.inputs", "{"),
        ("snn.inputs", "[1]"),
        ("snn.inputs", "[" * 100_000),
        ("snn.inputs", '{"x": 1}'),
        ("snn.inputs", '{"x": {"kind": "spikes"}}'),
        ("snn.inputs", '{"x": {"kind": "analog", "low": "0", "high": 1}}'),
        ("snn.inputs", '{"x": {"kind": "graded", "low": 0.5, "high": 1}}'),
        ("snn.inputs", '{"y": {"kind": "binary", "low": 0, "high": 1}}'),
        ("snn.populations", "[]"),
        ("snn.populations", '{"out": {"lag": 0.5}}'),
    ],
)
def test_damaged_notes_are_refused(key: str, text: str, tmp_path: Path) -> None:
    model = to_model(readout(Input(name="x", shape=(1,))))
    onnx.helper.set_model_props(model, {"snn.kind": "scan", key: text})
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(SpikecError, match=f"{key}|G023"):
        load_graph(tmp_path / "net.onnx")


def test_numbers_that_32_bits_round_are_said(tmp_path: Path) -> None:
    bits = Input(name="x", shape=(1,))
    assert write(readout(bits), tmp_path / "net.onnx") == ()
    assert write(readout(bits, beta=0.1), tmp_path / "net.onnx") == (
        "'out': 2 numbers are rounded to 32 bits",
    )


def test_a_population_that_no_output_depends_on_is_not_lost(tmp_path: Path) -> None:
    graph = readout(Input(name="x", shape=(1,)))
    spare = seed_lif("spare", 1, alpha=0.5, beta=0.5)
    edge = Edge(name="s", source="x", target="spare", operator=Dense(weight=np.ones((1, 1))))
    more = Graph(nodes=[*graph.nodes, spare], edges=[*graph.edges, edge], outputs=["out"])
    with pytest.raises(FrontendError, match=r"F124.*would lack 'spare'"):
        write(more, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


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
