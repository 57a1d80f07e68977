"""Export a SpikingJelly network, compile it, and compare the spikes at every stage.

pip install "spikec[torch]" spikingjelly
python examples/export_spikingjelly.py
"""

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
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
        layer.Conv2d(2, 4, 3, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(),
        layer.Flatten(),
        layer.Linear(144, 10),
        neuron.ParametricLIFNode(init_tau=1.5),
    )
    network[0].weight.data *= 6  # so that it is active without training
    network[4].weight.data *= 6
    functional.set_step_mode(network, "m")  # mode "s" is as good
    return network.eval()


@torch.no_grad()
def framework_spikes(network: nn.Module, spikes: torch.Tensor) -> np.ndarray:
    functional.reset_net(network)
    return network(spikes.transpose(0, 1)).transpose(0, 1).numpy()


def main() -> None:
    torch.manual_seed(0)
    network = build()
    graph = export_torch(network, "spikingjelly.onnx", inputs=(2, 8, 8))
    print("wrote spikingjelly.onnx, compared:", graph.choices[-1].value)

    spikes = (torch.rand(8, 25, 2, 8, 8) < 0.3).float()
    theirs = framework_spikes(network, spikes)
    ours = reference.run(graph, {"input": spikes.numpy()}, dtype=np.float32)
    assert np.array_equal(theirs, ours.spikes(graph.outputs[0]))
    print(f"SpikingJelly and spikec: the same {int(theirs.sum())} output spikes")

    program = compile_graph(graph, load_target("loihi2"), weight_bits=8).program
    data = Dataset(inputs={"input": spikes.numpy().astype(np.uint8)})
    with open_backend("simulator").load(program) as chip:
        report = verify(program, data, golden=chip, backends={}, graph=graph)
    print(f"8-bit integers: same class on {report.rung('I').agreement:.0%} of the samples")


if __name__ == "__main__":
    main()
