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

from spikec.backends import open_backend
from spikec.backends.simulator.engine import SimulatorBackend
from spikec.compiler.inputs import Stream
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
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


@pytest.mark.parametrize("density", [0.02, 0.9])
@pytest.mark.parametrize("backend", ["simulator", "c"])
def test_dense_weights_of_a_file_are_in_memory_once(
    backend: str, density: float, tmp_path: Path
) -> None:
    path, size = tmp_path / "dense.spk", 4096
    weight = np.random.default_rng(0).integers(-128, 128, (size, size)) * 2
    neurons = Neurons(
        name="n", shape=(size,), du=np.array(400), dv=np.array(200), vth=np.array(9000),
        reset="zero", reset_order="at_spike",
    )  # fmt: skip
    connection = Connection(
        name="w", source="in", target="n", operator=Dense(weight=weight), weight_exp=0,
        num_weight_bits=8, sign_mode="mixed", delay=1,
    )  # fmt: skip
    write_program(
        Program(
            target="loihi2",
            inputs=(ProgramInput(name="in", shape=(size,), kind="binary", low=0, high=1),),
            populations=(neurons,), connections=(connection,), outputs=("n",),
        ),
        path,
    )  # fmt: skip
    spikes = (np.random.default_rng(1).random((1, 3, size)) < density).astype(np.uint8)
    opened = open_backend(backend, threads=1)
    expected = opened.load(read_program(path)).run({"in": spikes})  # compiles the loops
    program, peak, held = bytes_a_synapse(lambda: read_program(path), size * size)
    assert peak < 0.1  # mantissas stay in the file
    executable, peak, held = bytes_a_synapse(lambda: opened.load(program), size * size)
    assert peak < 1.4
    assert held < 1.1
    trace, peak, held = bytes_a_synapse(lambda: executable.run({"in": spikes}), size * size)
    assert peak < 2  # where most are not zero, some weights at a time become floats of 4 bytes
    assert held < 1  # lists of what is sent, which do not grow with the weights
    np.testing.assert_array_equal(trace.spikes("n"), expected.spikes("n"))
    assert 0 < trace.spikes("n").mean() < 1
