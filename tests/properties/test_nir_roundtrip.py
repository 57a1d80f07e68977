"""NIR there and back keeps spikes; files of the official package mean what Euler says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_graphs import random_graph, random_graph_inputs

from spikec.compiler import reference
from spikec.compiler.arrays import Array, frozen
from spikec.compiler.errors import FrontendError, SpikecError
from spikec.compiler.frontends import ReadOptions, nir_graph
from spikec.compiler.ir import LI, LIF, Graph, Input

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

EULER = ReadOptions(
    dt=1e-3, discretization="euler", reset="zero", reset_order="at_spike", compare=">"
)


def expressible(rng: np.random.Generator, *, dyadic: bool) -> Graph:
    """Draw a graph that NIR has words for."""
    graph = random_graph(rng, dyadic=dyadic)
    nodes: dict[str, Any] = {}
    for node in graph.populations:
        fields: dict[str, Any] = {"start": 0, "initial_current": 0.0, "floor": None}
        if isinstance(node, LIF):
            fields |= {"refractory": 0, "max_spikes": 1, "reset_twice": False}
        if node.alpha is not None and (node.beta == 1).any():
            fields["bias"] = 0.0
        nodes[node.name] = replace(node, **fields)
    changed = graph.rewritten(nodes=nodes)
    return Graph(
        nodes=changed.nodes,
        edges=changed.edges,
        outputs=changed.outputs,
        dt=None if rng.random() < 0.5 else float(rng.choice([1e-3, 0.1 / 3, 7.0])),
    )


def with_thresholds(graph: Graph, by: float) -> Graph:
    return graph.rewritten(
        nodes={
            node.name: replace(node, vth=node.vth + by)
            for node in graph.populations
            if isinstance(node, LIF)
        }
    )


def spikes_of(graph: Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    trace = reference.run(graph, inputs)
    return {node.name: trace.spikes(node.name) for node in graph.populations
            if isinstance(node, LIF)}  # fmt: skip


def facts(graph: Graph) -> dict[str, tuple[object, ...]]:
    """Return what every node is, but for the numbers that NIR writes in another form."""
    return {
        node.name: (node.shape, node.kind, node.low, node.high)
        if isinstance(node, Input)
        else (type(node), node.shape, node.view.lag)
        for node in graph.nodes
    }


def has_ties(graph: Graph, inputs: dict[str, Array], truth: dict[str, Array]) -> bool:
    """Say whether some voltage is so close to its threshold that rounding decides."""
    nudged = [with_thresholds(graph, by) for by in (1e-9, -1e-9)]
    return any(
        (spikes_of(other, inputs)[name] != spikes).any()
        for other in nudged
        for name, spikes in truth.items()
    )


@pytest.mark.parametrize("seed", range(150))
def test_round_trips_keep_every_spike(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    graph = expressible(rng, dyadic=seed % 2 == 0)
    inputs = random_graph_inputs(graph, rng, 2, 12)
    try:
        truth = spikes_of(graph, inputs)
        tied = has_ties(graph, inputs, truth)
    except SpikecError:  # an initial voltage at the threshold
        return
    path = tmp_path / "net.nir"
    nir_graph.write(graph, path)
    back = nir_graph.read(path)
    assert (back.outputs, back.dt) == (graph.outputs, graph.dt)
    assert facts(back) == facts(graph)
    found = spikes_of(back, inputs)
    for name, spikes in truth.items():
        if not tied:
            np.testing.assert_array_equal(found[name], spikes)
    for node in graph.populations:
        if isinstance(node, LI) and not tied:
            shown = [reference.run(one, inputs)[node.name, "voltage"] for one in (graph, back)]
            np.testing.assert_allclose(shown[0], shown[1], rtol=1e-9, atol=1e-9)
    again = tmp_path / "again.nir"
    nir_graph.write(back, again)
    second = spikes_of(nir_graph.read(again), inputs)
    for name, spikes in found.items():
        if not tied:
            np.testing.assert_array_equal(second[name], spikes)


def test_round_trips_are_seldom_ties() -> None:
    """The property above has something to say: most draws have no tie."""
    free = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        graph = expressible(rng, dyadic=seed % 2 == 0)
        inputs = random_graph_inputs(graph, rng, 2, 12)
        try:
            free += not has_ties(graph, inputs, spikes_of(graph, inputs))
        except SpikecError:
            continue
    assert free >= 15


def test_the_official_reader_takes_what_we_write(tmp_path: Path) -> None:
    taken = 0
    for seed in range(30):
        graph = expressible(np.random.default_rng(seed), dyadic=True)
        nir_graph.write(graph, tmp_path / "net.nir")
        network = nir.read(tmp_path / "net.nir", type_check=False)
        assert set(network.nodes) >= {node.name for node in graph.nodes}
        taken += 1
    assert taken == 30


def test_equal_graphs_give_equal_bytes(tmp_path: Path) -> None:
    graph = expressible(np.random.default_rng(5), dyadic=True)
    for name in ("a.nir", "b.nir"):
        nir_graph.write(graph, tmp_path / name)
    assert (tmp_path / "a.nir").read_bytes() == (tmp_path / "b.nir").read_bytes()


class Euler:
    """A NIR network built node by node, and its simulation by the differential equations."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.inputs = int(rng.integers(1, 5))
        self.nodes: dict[str, Any] = {"input": nir.Input(np.array([self.inputs]))}
        self.edges: list[tuple[str, str]] = []
        self.layers: list[dict[str, Any]] = []
        before, size = "input", self.inputs
        for index in range(rng.integers(1, 4)):
            before, size = self.layer(index, before, size)
        self.nodes["output"] = nir.Output(np.array([size]))
        self.edges.append((before, "output"))

    def layer(self, index: int, before: str, size: int) -> tuple[str, int]:
        rng, count = self.rng, int(self.rng.integers(1, 6))
        layer = {
            "W": rng.normal(0.3, 0.8, (count, size)) * 3,
            "b": rng.normal(0, 0.5, count) if rng.random() < 0.6 else None,
            "kind": str(rng.choice(["LIF", "CubaLIF", "IF"])),
            "delay": int(rng.integers(0, 3)) if rng.random() < 0.5 else 0,
            "V": rng.normal(0, 0.8, (count, count)) if rng.random() < 0.4 else None,
            "s": float(rng.uniform(0.5, 2)) if rng.random() < 0.3 else None,
            "r": rng.uniform(2, 5, count),
            "tau_mem": rng.uniform(2e-3, 2e-2, count),
            "tau_syn": rng.uniform(2e-3, 1e-2, count),
            "w_in": rng.uniform(1, 4, count),
            "v_leak": rng.normal(0, 0.3, count),
            "v_threshold": rng.uniform(0.4, 1.5, count),
            "v_reset": rng.choice([0.0, -0.3], count),
        }
        if layer["kind"] == "IF":
            layer["r"] = layer["r"] * 100
        name = f"n{index}"
        last = self.chain(name, layer, before, size)
        self.nodes[name] = self.neuron(layer)
        self.edges.append((last, name))
        if layer["V"] is not None:
            self.nodes[f"{name}_rec"] = nir.Linear(layer["V"])
            self.edges += [(name, f"{name}_rec"), (f"{name}_rec", name)]
        self.layers.append(layer)
        return name, count

    def chain(self, name: str, layer: dict[str, Any], before: str, size: int) -> str:
        if layer["delay"]:
            self.nodes[f"{name}_wait"] = nir.Delay(np.full(size, layer["delay"] * 1e-3))
            self.edges.append((before, f"{name}_wait"))
            before = f"{name}_wait"
        weights = (
            nir.Linear(layer["W"]) if layer["b"] is None else nir.Affine(layer["W"], layer["b"])
        )
        self.nodes[f"{name}_in"] = weights
        self.edges.append((before, f"{name}_in"))
        if layer["s"] is None:
            return f"{name}_in"
        self.nodes[f"{name}_scale"] = nir.Scale(np.full(len(layer["W"]), layer["s"]))
        self.edges.append((f"{name}_in", f"{name}_scale"))
        return f"{name}_scale"

    def neuron(self, layer: dict[str, Any]) -> Any:
        names = {
            "IF": ("r", "v_threshold", "v_reset"),
            "LIF": ("r", "v_leak", "v_threshold", "v_reset"),
            "CubaLIF": ("r", "v_leak", "v_threshold", "v_reset", "tau_mem", "tau_syn", "w_in"),
        }[layer["kind"]]
        values = {name: layer[name] for name in names}
        if layer["kind"] == "LIF":
            values["tau"] = layer["tau_mem"]
        return getattr(nir, layer["kind"])(**values)

    def run(self, given: Array, dt: float = 1e-3) -> tuple[dict[str, Array], float]:
        """Return all spikes, and how close a voltage came to its threshold."""
        margin = np.inf
        for layer in self.layers:
            zero = np.zeros(len(layer["W"]))
            layer.update(i=zero, v=zero, z=zero, past=[])
        found: dict[str, list[Array]] = {f"n{index}": [] for index in range(len(self.layers))}
        for values in given:
            for index, layer in enumerate(self.layers):
                layer["past"].append(values)
                late = len(layer["past"]) - 1 - layer["delay"]
                sent = layer["past"][late] if late >= 0 else np.zeros_like(values)
                current = layer["W"] @ sent + (0 if layer["b"] is None else layer["b"])
                current = current * (1 if layer["s"] is None else layer["s"])
                if layer["V"] is not None:
                    current = current + layer["V"] @ layer["z"]
                v = self.step(layer, current, dt)
                margin = min(margin, float(np.abs(v - layer["v_threshold"]).min()))
                layer["z"] = (v > layer["v_threshold"]).astype(float)
                layer["v"] = np.where(layer["z"] > 0, layer["v_reset"], v)
                found[f"n{index}"].append(layer["z"])
                values = layer["z"]  # noqa: PLW2901 - on to the next layer
        return {name: np.array(rows) for name, rows in found.items()}, margin

    @staticmethod
    def step(layer: dict[str, Any], current: Array, dt: float) -> Array:
        if layer["kind"] == "IF":
            return np.asarray(layer["v"] + dt * layer["r"] * current)
        if layer["kind"] == "CubaLIF":
            change = -layer["i"] + layer["w_in"] * current
            layer["i"] = current = layer["i"] + dt / layer["tau_syn"] * change
        change = layer["v_leak"] - layer["v"] + layer["r"] * current
        return np.asarray(layer["v"] + dt / layer["tau_mem"] * change)


@pytest.mark.parametrize("seed", range(200))
def test_files_of_the_official_package_mean_what_euler_says(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    network = Euler(rng)
    path = tmp_path / "net.nir"
    nir.write(path, nir.NIRGraph(nodes=network.nodes, edges=network.edges, type_check=False))
    given = (rng.random((30, network.inputs)) < 0.5).astype(float)
    truth, margin = network.run(given)
    if margin < 1e-9:
        return
    graph = nir_graph.read(path, EULER)
    trace = reference.run(graph, {"input": given[None]})
    for name, spikes in truth.items():
        np.testing.assert_array_equal(trace.spikes(name)[0], spikes, err_msg=name)


@pytest.mark.parametrize("part", range(6))
def test_damaged_files_are_refused_or_read_but_never_crash(part: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(part)
    graph = expressible(rng, dyadic=True)
    nir_graph.write(graph, tmp_path / "sound.nir")
    sound = (tmp_path / "sound.nir").read_bytes()
    used = np.flatnonzero(np.frombuffer(sound, np.uint8))
    path = tmp_path / "net.nir"
    for trial in range(60):
        content = bytearray(sound)
        for place in rng.choice(used, int(rng.integers(1, 6))):
            content[place] = rng.integers(256)
        if trial % 10 == 0:
            content = content[: rng.integers(len(content))]
        path.write_bytes(content)
        try:
            if nir_graph.recognises(path):
                nir_graph.read(path)
        except SpikecError:
            pass


@pytest.mark.parametrize("shape", [[], [2, 0], [5], [2.0, 2], "picture", [True, 4], None])
def test_a_damaged_shape_is_refused(shape: object, tmp_path: Path) -> None:
    graph = Graph(
        nodes=[LI(name="p", shape=(2, 2, 1), alpha=None, beta=frozen(0.5), coupling="immediate")],
        edges=[],
        outputs=["p"],
    )
    path = tmp_path / "net.nir"
    nir_graph.write(graph, path)
    assert nir_graph.read(path)["p"].shape == (2, 2, 1)
    with h5py.File(path, "a") as file:
        note = json.loads(file["node/metadata/spikec"][()])
        assert note["nodes"]["p"]["shape"] == [2, 2, 1]
        note["nodes"]["p"]["shape"] = shape
        del file["node/metadata/spikec"]
        file["node/metadata/spikec"] = json.dumps(note)
    with pytest.raises(FrontendError, match=r"F110.*'p': its shape is"):
        nir_graph.read(path)


def test_damaged_notes_of_ours_are_refused(tmp_path: Path) -> None:
    graph = expressible(np.random.default_rng(1), dyadic=True)
    path = tmp_path / "net.nir"
    for note in ("{", "[]", '{"dt": 1}', '{"dt": 0.1, "nodes": {"a": 3}}', "null"):
        nir_graph.write(graph, path)
        with h5py.File(path, "a") as file:
            del file["node/metadata/spikec"]
            file["node/metadata/spikec"] = note
        with pytest.raises(FrontendError, match="F110"):
            nir_graph.read(path)
