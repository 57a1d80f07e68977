"""Each framework's neurons as both of torch's exporters write them, against its own spikes.

``tests/data/onnx/README.md`` says how the files and traces were made.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import load, load_graph
from spikec.compiler.ir import LIF, Graph
from spikec.compiler.trace import Probe

FOLDER = Path(__file__).parents[1] / "data" / "onnx"
CASES = json.loads((FOLDER / "cases.json").read_text(encoding="utf-8"))

#: Networks outside the supported family, and what their refusal must say.
REFUSED = {
    "sinabs-LIF-multi_spike-reset_to": "several spikes a step",
    "snntorch-Alpha-subtract": "several states",
}
FILES = [file for case in CASES.values() for file in case["files"]]
EXACT = [file for file in FILES if file.partition(".")[0] not in REFUSED]


def recorded(name: str) -> list[Array]:
    """Return the input and what each layer gave in the framework."""
    with np.load(FOLDER / "traces.npz") as archive:
        layers = sorted(key for key in archive.files if key.startswith(f"{name}/layer"))
        return [archive[f"{name}/x"], *(archive[key] for key in layers)]


def layers_of(graph: Graph) -> list[str]:
    """Return the populations in file order, without neurons that only carry a constant."""
    return [node.name for node in graph.populations if graph.edges_into(node.name)]


@pytest.mark.parametrize("file", EXACT)
def test_every_layer_spikes_as_in_the_framework(file: str) -> None:
    graph = load_graph(FOLDER / file)
    given, *expected = recorded(file.partition(".")[0])
    (source,) = graph.inputs
    inputs = {source.name: given.reshape(*given.shape[:2], *source.shape)}
    trace = reference.run(graph, inputs, dtype=np.float32)
    names = layers_of(graph)
    assert len(names) == len(expected)
    assert graph.outputs == (names[-1],)
    for name, truth in zip(names, expected, strict=True):
        if (name, "spikes") in trace.values:
            found = trace.spikes(name).reshape(truth.shape)
            np.testing.assert_array_equal(found, truth, err_msg=name)
            assert 0.01 < (truth > 0).mean() < 0.97
        else:
            voltage = trace[name, "voltage"].reshape(truth.shape)
            np.testing.assert_allclose(voltage, truth, rtol=0, atol=1e-5)


#: Networks whose neurons may send several spikes a step, and the limit that they have.
SEVERAL = {
    "sinabs-IAF-multi_spike": 255,
    "sinabs-LIF-multi_spike": 255,
    "sinabs-LIF-multi_spike-synapse-floor": 255,
    "sinabs-IAF-max_spike-floor": 3,
    "conv-sinabs-IAF-multi_spike": 255,
    "rockpool-LIF": 255,
    "rockpool-LIF-recurrent": 255,
    "rockpool-LIF-periodic": 255,
    "rockpool-LIF-limited": 3,
}


@pytest.mark.parametrize("name", CASES)
def test_who_sends_several_spikes_and_who_has_a_floor(name: str) -> None:
    if name in REFUSED:
        return
    graph = load_graph(FOLDER / CASES[name]["files"][0])
    driven = [node for node in graph.populations if graph.edges_into(node.name)]
    found = {node.max_spikes for node in driven if isinstance(node, LIF)}
    assert found == {SEVERAL.get(name, 1)}
    floors = [node.floor is not None for node in driven]
    assert all(floors) if name.endswith("floor") else not any(floors)
    if name in SEVERAL:
        counts = [values.max() for values in recorded(name)[1:]]
        assert min(counts) > 1
        assert max(counts) == 3 if SEVERAL[name] == 3 else max(counts) > 3
    limits = [item.origin for item in graph.choices if item.what == "max spikes"]
    assert len(limits) == (len(layers_of(graph)) if SEVERAL.get(name) == 255 else 0)
    assert all("--max-spikes" in origin for origin in limits)


@pytest.mark.parametrize("name", CASES)
def test_who_counts_a_voltage_left_above_threshold(name: str) -> None:
    if name in REFUSED:
        return
    graph = load_graph(FOLDER / CASES[name]["files"][0])
    driven = [graph[layer] for layer in layers_of(graph)]
    twice = [node for node in driven if isinstance(node, LIF) and node.reset_twice]
    assert twice == (driven if name.endswith("at_once") else [])
    (source,) = graph.inputs
    given = recorded(name)[0].reshape(-1, len(recorded(name)[0][0]), *source.shape)
    probes: list[Probe] = [(node.name, "voltage") for node in twice]
    trace = reference.run(graph, {source.name: given}, dtype=np.float32, probes=probes)
    assert all((trace[node.name, "voltage"] > node.vth).mean() > 0.05 for node in twice)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_outside_the_family_is_refused_with_the_reason(name: str) -> None:
    for file in CASES[name]["files"]:
        with pytest.raises(FrontendError) as caught:
            load(FOLDER / file)
        assert REFUSED[name] in str(caught.value), file
        assert file in str(caught.value)


def test_both_exporters_wrote_what_they_can() -> None:
    failed = {
        f"{name}.{form}": text
        for name, case in CASES.items()
        for form, text in case["failed"].items()
    }
    assert set(failed) == {
        "snntorch-Leaky-subtract-at_once.dyn20",
        "snntorch-RLeaky-subtract-learned-at_once.dyn20",
        "snntorch-Synaptic-subtract-at_once.dyn20",
        "spikingjelly-IF-own_surrogate.ts17",
        "spikingjelly-LIF-own_surrogate.ts17",
        "spikingjelly-ParametricLIF-own_surrogate.ts17",
    }
    assert {path.name for path in FOLDER.glob("*.onnx")} == set(FILES)


def test_opsets_and_pairings_are_all_here() -> None:
    opsets, named = set(), set()
    for file in FILES:
        model = onnx.load(FOLDER / file)
        opsets |= {item.version for item in model.opset_import if item.domain == ""}
        named.add(any(entry.name.endswith("_next") for entry in model.graph.output))
    assert opsets == {11, 13, 17, 18, 20, 23}
    assert named == {True, False}
