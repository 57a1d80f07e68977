"""Export an snnTorch network, compile it, and compare the spikes at every stage.

pip install "spikec[torch]" snntorch
python examples/export_snntorch.py
"""

import numpy as np
import snntorch as snn
import torch
from snntorch import utils
from torch import nn

from spikec.backends import open_backend
from spikec.compiler import reference
from spikec.compiler.inputs import Dataset
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.verification import verify
from spikec.models import export_torch


def build() -> nn.Module:
    network = nn.Sequential(
        nn.Conv2d(2, 8, 5),
        snn.Leaky(beta=0.9, init_hidden=True),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(128, 10),
        snn.RSynaptic(alpha=0.7, beta=0.8, linear_features=10, init_hidden=True),
    )
    network[0].weight.data *= 3  # so that it is active without training
    network[4].weight.data *= 5
    return network


@torch.no_grad()
def framework_spikes(network: nn.Module, spikes: torch.Tensor) -> np.ndarray:
    utils.reset(network)
    return torch.stack([network(now) for now in spikes.unbind(1)], 1).numpy()


def main() -> None:
    torch.manual_seed(0)
    network = build()
    graph = export_torch(network, "snntorch.onnx", inputs=(2, 12, 12), dt=1e-3)
    print("wrote snntorch.onnx, compared:", graph.choices[-1].value)

    spikes = (torch.rand(8, 25, 2, 12, 12) < 0.3).float()
    theirs = framework_spikes(network, spikes)
    ours = reference.run(graph, {"input": spikes.numpy()}, dtype=np.float32)
    assert np.array_equal(theirs, ours.spikes(graph.outputs[0]))
    print(f"snnTorch and spikec: the same {int(theirs.sum())} output spikes")

    program = compile_graph(graph, load_target("loihi2"), weight_bits=7).program
    data = Dataset(inputs={"input": spikes.numpy().astype(np.uint8)})
    with open_backend("simulator").load(program) as chip:
        report = verify(program, data, golden=chip, backends={}, graph=graph)
    print(f"7-bit integers: same class on {report.rung('I').agreement:.0%} of the samples")


if __name__ == "__main__":
    main()
