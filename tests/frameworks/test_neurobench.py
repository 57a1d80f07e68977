"""Our metrics are those that NeuroBench's own package takes of the same network, run by snnTorch.

Integer weights, thresholds and inputs are exact in floats: both networks have the same spikes and,
times 64, the same voltages. What is defined differently is said where it is.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import snntorch
import torch
from neurobench.benchmarks import Benchmark
from neurobench.metrics.static import ConnectionSparsity, Footprint
from neurobench.metrics.workload import ActivationSparsity, MembraneUpdates, SynapticOperations
from neurobench.models import SNNTorchModel
from torch.utils.data import DataLoader, TensorDataset

from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.ir import SourceView
from spikec.compiler.mapping.activity import ActivityTally, Metrics, metrics_of
from spikec.compiler.mapping.use import Network
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.targets import load_target
from spikec.compiler.trace import Trace

pytestmark = pytest.mark.torch

SIZES, SAMPLES, STEPS = (12, 20, 7), 8, 25
THRESHOLDS = (60, 40)


def weights(rng: np.random.Generator) -> list[Array]:
    """Draw even integers, a third of them 0."""
    return [
        rng.integers(-20, 30, (after, before)) * 2 * (rng.random((after, before)) < 0.67)
        for before, after in pairwise(SIZES)
    ]


def program(matrices: list[Array]) -> Program:
    """Write the integer program; each layer runs a step later than the one before."""
    names = ["in", "hidden", "out"]
    return Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=SIZES[:1], kind="binary", low=0, high=1),),
        populations=tuple(
            Neurons(
                name=names[number], shape=(SIZES[number],), du=4095, dv=0, vth=vth,
                reset="subtract", reset_order="next_step", view=SourceView(lag=number),
            )
            for number, vth in enumerate(THRESHOLDS, start=1)
        ),
        connections=tuple(
            Connection(
                name=f"w{number}", source=names[number], target=names[number + 1],
                operator=Dense(weight=matrix), weight_exp=0, num_weight_bits=8,
                sign_mode="mixed", delay=1,
            )
            for number, matrix in enumerate(matrices)
        ),
        outputs=("out",),
    )  # fmt: skip


def ours(built: Program, spikes: Array) -> tuple[Metrics, Trace]:
    probes = [(item.name, quantity) for item in built.populations
              for quantity in ("spikes", "voltage")]  # fmt: skip
    trace = golden.run(built, {"in": spikes}, probes=probes)  # type: ignore[arg-type]
    tally = ActivityTally(built)
    tally.add({"in": spikes}, trace)
    cores = load_target("loihi2").cores
    assert cores is not None
    return metrics_of(Network(built, cores), tally.activity()), trace


def theirs(matrices: list[Array], spikes: Array) -> tuple[dict[str, Any], Array, int]:
    """Return NeuroBench's results, the spikes of the output, and the bytes of buffers."""
    layers: list[torch.nn.Module] = []
    for number, (matrix, vth) in enumerate(zip(matrices, THRESHOLDS, strict=True)):
        linear = torch.nn.Linear(matrix.shape[1], matrix.shape[0], bias=False)
        linear.weight.data = torch.tensor(matrix, dtype=torch.float32)
        last = number == len(matrices) - 1
        neuron = snntorch.Leaky(beta=1.0, threshold=float(vth), init_hidden=True, output=last)
        layers += [linear, neuron]
    network = torch.nn.Sequential(*layers)
    data = TensorDataset(torch.tensor(spikes, dtype=torch.float32), torch.zeros(len(spikes)))
    model = SNNTorchModel(network)
    with torch.no_grad():
        sent = model(data.tensors[0]).numpy()
    buffers = sum(item.numel() * item.element_size() for item in network.buffers())
    static = [Footprint, ConnectionSparsity]
    of_a_run = [ActivationSparsity, SynapticOperations, MembraneUpdates]
    loader = DataLoader(data, batch_size=SAMPLES)
    benchmark = Benchmark(model, loader, [], [], [static, of_a_run])
    return benchmark.run(quiet=True), sent, buffers


@pytest.mark.parametrize("seed", range(3))
def test_metrics_are_those_of_neurobench_itself(seed: int) -> None:
    rng = np.random.default_rng([17, seed])
    matrices = weights(rng)
    spikes = (rng.random((SAMPLES, STEPS, SIZES[0])) < 0.3).astype(np.uint8)
    metrics, trace = ours(program(matrices), spikes)
    found, sent, buffers = theirs(matrices, spikes)
    np.testing.assert_array_equal(trace.spikes("out"), sent)
    assert trace.spikes("out").any()
    assert metrics.connection_sparsity == found["ConnectionSparsity"]
    assert metrics.activation_sparsity == pytest.approx(found["ActivationSparsity"], abs=1e-12)
    assert metrics.effective_acs == pytest.approx(found["SynapticOperations"]["Effective_ACs"])
    assert metrics.effective_macs == found["SynapticOperations"]["Effective_MACs"] == 0
    assert metrics.dense == pytest.approx(found["SynapticOperations"]["Dense"])
    assert metrics.membrane_updates == found["MembraneUpdates"]
    # Theirs are the float network's bytes, 4 a weight and what snnTorch buffers; ours are the
    # program's: 1 a weight, and 20 for the parameters and state of each neuron.
    number = sum(matrix.size for matrix in matrices)
    assert found["Footprint"] == 4 * number + buffers
    assert metrics.footprint_bytes == number + 20 * sum(SIZES[1:])
