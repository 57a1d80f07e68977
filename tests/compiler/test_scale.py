"""A large sparse network takes memory in proportion to its synapses, and little of it."""

from __future__ import annotations

import importlib.util
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

import numpy as np
import pytest

from spikec.backends.simulator.engine import SimulatorBackend
from spikec.compiler.inputs import Stream
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target

NEURONS, FAN_OUT = 20_000, 100
#: What one neuron may take beside its synapses: a program has nine numbers of 8 bytes for each.
A_NEURON = 400

_T = TypeVar("_T")


@pytest.fixture(scope="module")
def scale() -> ModuleType:
    path = Path(__file__).parent.parent / "tools" / "scale.py"
    spec = importlib.util.spec_from_file_location("scale", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Blocks are small beside a large network; let them be small beside this one too."""
    monkeypatch.setattr("spikec.compiler.operators._BLOCK", 1 << 14)
    monkeypatch.setattr("spikec.compiler.quantize.weights._BLOCK", 1 << 14)
    yield
    tracemalloc.stop()


def bytes_a_synapse(work: Callable[[], _T], synapses: int) -> tuple[_T, float, float]:
    """Return what ``work`` gives, and what it took at most and holds, for each synapse."""
    tracemalloc.start()
    result = work()
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, (peak - A_NEURON * NEURONS) / synapses, (held - A_NEURON * NEURONS) / synapses


def test_memory_follows_the_synapses(scale: ModuleType, tmp_path: Path) -> None:
    graph = scale.large_network(NEURONS, FAN_OUT)
    synapses = sum(len(edge.operator.weight) for edge in graph.edges)
    assert synapses > 2_000_000
    path = tmp_path / "large.spk"

    target = load_target("loihi2")
    compiled, peak, held = bytes_a_synapse(lambda: compile_graph(graph, target), synapses)
    assert peak < 5  # levels and mantissas of 2 bytes, and a mask
    assert held < 2.2  # mantissas; targets are the graph's own
    for before, after in zip(graph.edges, compiled.program.connections, strict=True):
        assert after.operator.synapses is before.operator.synapses

    _, peak, held = bytes_a_synapse(lambda: write_program(compiled.program, path), synapses)
    assert peak < 1.2  # a mask that says whether all weights are equal, or all targets
    assert held < 0.1

    program, peak, held = bytes_a_synapse(lambda: read_program(path), synapses)
    assert peak < 8
    assert held < 6.2

    backend = SimulatorBackend(threads=1)
    backend.load(program)  # compiles the loops, which takes memory of its own
    executable, peak, held = bytes_a_synapse(lambda: backend.load(program), synapses)
    assert peak < 0.5  # synapses are read where they lie
    data = Stream(inputs=scale.random_spikes(), entries=program.inputs)
    pieces, peak, _ = bytes_a_synapse(
        lambda: [trace for *_, trace in executable.stream(data, samples=1, steps=5)], synapses
    )
    assert peak < 0.5
    rate = np.mean([trace.spikes("pop").mean() for trace in pieces])
    assert 0.01 < rate < 0.9
