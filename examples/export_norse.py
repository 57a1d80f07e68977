"""Export a Norse network, compile it, and compare the spikes at every stage.

pip install "spikec[torch]" norse
python examples/export_norse.py
"""

import norse.torch as norse
import numpy as np
import torch
from torch import nn

from spikec.backends import open_backend
from spikec.compiler import reference
from spikec.compiler.inputs import Dataset
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.verification import verify
from spikec.models import export_torch


def build() -> nn.Module:
    network = norse.SequentialState(
        nn.Linear(40, 64),
        norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.6))),
        norse.LIFRecurrentCell(64, 10),
    )
    network[0].weight.data *= 8  # so that it is active without training
    return network


@torch.no_grad()
def framework_spikes(network: nn.Module, spikes: torch.Tensor) -> np.ndarray:
    state, rows = None, []
    for now in spikes.unbind(1):
        row, state = network(now, state)
        rows.append(row)
    return torch.stack(rows, 1).numpy()


def main() -> None:
    torch.manual_seed(0)
    network = build()
    graph = export_torch(network, "norse.onnx", inputs=40, dt=1e-3)
    print("wrote norse.onnx, compared:", graph.choices[-1].value)

    spikes = (torch.rand(8, 25, 40) < 0.3).float()
    theirs = framework_spikes(network, spikes)
    ours = reference.run(graph, {"input": spikes.numpy()}, dtype=np.float32)
    assert np.array_equal(theirs, ours.spikes(graph.outputs[0]))
    print(f"Norse and spikec: the same {int(theirs.sum())} output spikes")

    program = compile_graph(graph, load_target("loihi2"), weight_bits=7).program
    data = Dataset(inputs={"input": spikes.numpy().astype(np.uint8)})
    with open_backend("simulator").load(program) as chip:
        report = verify(program, data, golden=chip, backends={}, graph=graph)
    print(f"7-bit integers: same class on {report.rung('I').agreement:.0%} of the samples")


if __name__ == "__main__":
    main()
