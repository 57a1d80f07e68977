"""Random networks in every framework's equations spike as the ONNX file itself does."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.onnx_networks import NEURONS, Network, Truth, random_network

from spikec.compiler import reference
from spikec.compiler.errors import SpikecError
from spikec.compiler.frontends import load_graph
from spikec.compiler.ir import Graph
from spikec.compiler.trace import Trace

BLOCKS, NETWORKS = 10, 50
#: A membrane nearer to its threshold than this, relative to it, may fall on either side.
TIE = 1e-5


def outcome(network: Network, path: Path, rng: np.random.Generator) -> str:
    """Return "equal", "tie", or what is wrong."""
    onnx.save(network.model, path)
    spikes = network.inputs(rng, int(rng.integers(8, 13)))
    truth = network.run(spikes)
    try:
        graph = load_graph(path)
    except SpikecError as error:
        return str(error).replace(str(path), "the file")
    except Exception as error:  # noqa: BLE001 - a mistake of ours; the others are wanted too
        return f"{type(error).__name__}: {str(error)[:60]}"
    given = {node.name: np.swapaxes(spikes, 0, 1) for node in graph.inputs}
    return compared(network, graph, reference.run(graph, given, dtype=np.float32), truth)


def compared(network: Network, graph: Graph, trace: Trace, truth: Truth) -> str:
    shown = [*network.spiking, *([network.readout] if network.readout else [])]
    if len(graph.outputs) != len(shown):
        return f"the file has {len(shown)} outputs, the graph {graph.outputs}"
    first = len(truth.margins)
    for name, output in zip(graph.outputs, shown, strict=True):
        expected = truth.outputs[output][:, 0]
        if output == network.readout:
            if first == len(truth.margins) and not np.allclose(
                trace[name, "voltage"][0], expected, rtol=1e-4, atol=1e-4
            ):
                return f"{name}: other voltages"
            continue
        wrong = (trace.spikes(name)[0] != expected).reshape(len(expected), -1).any(axis=1)
        first = min(first, int(wrong.argmax()) if wrong.any() else first)
    if first == len(truth.margins):
        return "equal"
    nearest = truth.margins[: first + 1].min()
    if not network.exact and nearest < TIE:
        return "tie"
    return f"other spikes from step {first}; the nearest membrane was {nearest:.1e} away"


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_networks_spike_as_the_file_does(block: int, tmp_path: Path) -> None:
    found: Counter[str] = Counter()
    problems = []
    for number in range(NETWORKS):
        network = random_network((block, number))
        rng = np.random.default_rng((block, number, 1))
        result = outcome(network, tmp_path / "network.onnx", rng)
        found[result] += 1
        if result not in ("equal", "tie"):
            problems.append(f"({block}, {number}) {network.title}: {result}")
    assert not problems, "\n" + "\n".join(problems)
    assert found["tie"] <= NETWORKS // 50


def test_the_networks_are_lively_and_of_every_kind() -> None:
    titles, rates, nearest, most = [], [], [], []
    for number in range(200):
        network = random_network((0, number))
        onnx.checker.check_model(network.model, full_check=True)
        truth = network.run(network.inputs(np.random.default_rng(number), 10))
        titles.append(network.title)
        rates += [float((truth.outputs[name] > 0).mean()) for name in network.spiking]
        counts = [float(truth.outputs[name].max()) for name in network.spiking]
        most.append(max(counts, default=0.0))
        nearest.append(float(truth.margins.min()) if network.exact else np.inf)
    for kind in (*NEURONS, "norse LI", "step,", "scan,", "loop,", "position", "name", "metadata"):
        assert sum(kind in title for title in titles) >= 4, kind
    assert 0.2 < np.mean(rates) < 0.7
    several = np.array(["several" in title for title in titles])
    assert np.mean(np.array(most)[several] > 1) > 0.5
    assert max(most) < 255
    assert np.mean(np.equal(rates, 0)) < 0.15
    assert np.mean(np.equal(rates, 1)) < 0.05
    assert np.mean(np.equal(nearest, 0)) > 0.1  # thresholds are met exactly
