"""Export a network in plain PyTorch, the seed equations, with its states named by hand.

pip install "spikec[torch]"
python examples/export_torch.py
"""

import numpy as np
import torch
from torch import Tensor, nn

from spikec.backends import open_backend
from spikec.compiler import reference
from spikec.compiler.inputs import Dataset
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.verification import verify
from spikec.models import export_torch

STATES = {"hidden_I": 64, "hidden_U": 64, "out_I": 10, "out_U": 10}


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.W = nn.Linear(40, 64, bias=False)
        self.V = nn.Linear(64, 64, bias=False)
        self.W_out = nn.Linear(64, 10, bias=False)

    def forward(self, x: Tensor, i: Tensor, u: Tensor, i_out: Tensor, u_out: Tensor):
        s, s_out = (u > 1).to(x), (u_out > 1).to(x)
        new = 0.8 * i + self.W(x) + self.V(s), 0.9 * u + i - s
        return s_out, *new, 0.8 * i_out + self.W_out(s), 0.9 * u_out + i_out - s_out


@torch.no_grad()
def framework_spikes(network: nn.Module, spikes: Tensor) -> np.ndarray:
    states, rows = [torch.zeros(len(spikes), size) for size in STATES.values()], []
    for now in spikes.unbind(1):
        row, *states = network(now, *states)
        rows.append(row)
    return torch.stack(rows, 1).numpy()


def main() -> None:
    torch.manual_seed(0)
    network = Network()
    graph = export_torch(network, "torch.onnx", inputs={"x": 40}, states=STATES, dt=1e-3)
    print("wrote torch.onnx, compared:", graph.choices[-1].value)

    spikes = (torch.rand(8, 25, 40) < 0.3).float()
    theirs = framework_spikes(network, spikes)
    ours = reference.run(graph, {"x": spikes.numpy()}, dtype=np.float32)
    assert np.array_equal(theirs, ours.spikes(graph.outputs[0]))
    print(f"PyTorch and spikec: the same {int(theirs.sum())} output spikes")

    program = compile_graph(graph, load_target("loihi2"), weight_bits=8).program
    data = Dataset(inputs={"x": spikes.numpy().astype(np.uint8)})
    with open_backend("simulator").load(program) as chip:
        report = verify(program, data, golden=chip, backends={}, graph=graph)
    print(f"8-bit integers: same class on {report.rung('I').agreement:.0%} of the samples")


if __name__ == "__main__":
    main()
