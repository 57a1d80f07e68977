"""Fine-tune a network of the zoo at 2 bits: the straight-through recipe, from program to program.

pip install "spikec[torch]"
python examples/finetune_quantized.py

The program says which levels exist: weights ``step * level``, decays, biases. Training keeps a
float weight beside each level; forward rounds it to the grid, backward passes the gradient as if
nothing was rounded. What comes out lies on the grid, so that compiling gives the same levels.
The images are MNIST's test set, which ships with spikec: 4,000 to train with, 2,000 to judge by.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from spikec.backends import open_backend
from spikec.compiler.inputs import Dataset
from spikec.compiler.operators import with_weight
from spikec.compiler.quantize import Compilation, compile_graph
from spikec.compiler.quantize.decay import alpha_of, beta_of
from spikec.compiler.quantize.weights import Grid
from spikec.compiler.targets import load_target
from spikec.compiler.trace import read_out
from spikec.models import zoo

NETWORK, TARGET, SLOPE = "mnist-recurrent", load_target("loihi2"), 3.0


class Spike(torch.autograd.Function):
    """A step, whose derivative is taken as ``1 / (1 + slope |x|)**2``."""

    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        return gradient / (1 + SLOPE * distance.abs()) ** 2


class OnGrid(nn.Module):
    """Weights of one edge, rounded to its levels as they are used."""

    def __init__(self, levels: np.ndarray, grid: Grid, step: float) -> None:
        super().__init__()
        self.low, self.high, self.step = grid.low, grid.high, step
        self.free = nn.Parameter(torch.from_numpy(levels).float())

    @property
    def levels(self) -> Tensor:
        return self.free.round().clamp(self.low, self.high)

    def forward(self) -> Tensor:
        inside = self.free.clamp(self.low - 0.5, self.high + 0.5)
        return self.step * (inside + (self.levels - inside).detach())


class Quantized(nn.Module):
    """The seed model's equations with the numbers of a program, in the network's own volts."""

    def __init__(self, compilation: Compilation, bits: int) -> None:
        super().__init__()
        program = compilation.program
        self.hidden, self.readout = program.populations
        self.edges = nn.ModuleDict()
        for loss in compilation.report.weights:
            (made,) = (item for item in program.connections if item.name == loss.edge)
            lsb = program.population(made.target).lsb
            weight = made.effective.weight * 64.0 * lsb  # a weight counts 64 units of a voltage
            grid = Grid(weight=weight, bits=bits)
            self.edges[loss.edge] = OnGrid(np.rint(weight / loss.step), grid, loss.step)

    def forward(self, spikes: Tensor) -> tuple[Tensor, Tensor]:
        first, last = (leaks(item) for item in (self.hidden, self.readout))
        w, v, out = (self.edges[name]() for name in ("W1", "V1", "W2"))
        driven = spikes @ w.T
        current = voltage = torch.zeros_like(driven[:, 0])
        i_out = u_out = spikes.new_zeros(len(spikes), len(out))
        best, rate = torch.full_like(u_out, -1e9), 0.0
        for step in range(spikes.shape[1]):
            spike = Spike.apply(voltage - 1)
            u_out = last[1] * u_out + i_out + last[2]
            i_out = last[0] * i_out + spike @ out.T
            voltage = first[1] * voltage + current + first[2] - spike
            current = first[0] * current + driven[:, step] + spike @ v.T
            best, rate = torch.maximum(best, u_out), rate + spike.mean() / spikes.shape[1]
        return best, rate


def leaks(neurons) -> tuple[Tensor, ...]:
    """Return alpha, beta and the bias in volts of a population of a program."""
    values = alpha_of(neurons.du), beta_of(neurons.dv), neurons.bias * neurons.lsb
    return tuple(torch.from_numpy(np.asarray(value)).float() for value in values)


def fine_tuned(compilation: Compilation, data: Dataset, *, bits: int, epochs: int) -> Quantized:
    """Return the network after ``epochs`` of training on ``data``."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    network = Quantized(compilation, bits)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.03)
    steps = epochs * (data.num_samples // 128)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    (spikes,) = data.inputs.values()
    for _ in range(epochs):
        order = rng.permutation(data.num_samples)[: data.num_samples // 128 * 128]
        for batch in order.reshape(-1, 128):
            score, rate = network(torch.from_numpy(spikes[batch]).float())
            loss = nn.functional.cross_entropy(score, torch.from_numpy(data.labels[batch]).long())
            loss = loss + 0.5 * torch.relu(rate - 0.2)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            schedule.step()
    return network


def compiled_again(network: Quantized, graph, *, bits: int) -> Compilation:
    """Compile what was trained: the network's own graph with the program's numbers in it."""
    nodes = {
        item.name: replace(
            graph[item.name],
            alpha=alpha_of(item.du),
            beta=beta_of(item.dv),
            bias=item.bias * item.lsb,
        )
        for item in (network.hidden, network.readout)
    }
    edges = {
        edge.name: replace(
            edge,
            operator=with_weight(
                edge.operator,
                network.edges[edge.name].levels.detach().numpy().astype(np.float64)
                * network.edges[edge.name].step,
            ),
        )
        for edge in graph.edges
    }
    return compile_graph(graph.rewritten(nodes=nodes, edges=edges), TARGET, weight_bits=bits)


def accuracy(compilation: Compilation, data: Dataset) -> float:
    """Return the accuracy of the integers."""
    with open_backend("simulator").load(compilation.program) as chip:
        trace = chip.run(data.inputs)
    return float((read_out(trace, "max-voltage") == data.labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--bits", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=2)
    options, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    graph, images = zoo.graph(NETWORK), zoo.data(NETWORK, samples=6000)
    train, test = images.samples(0, 4000), images.samples(4000, 6000)
    before = compile_graph(graph, TARGET, weight_bits=options.bits, calibration=train)
    print(f"{options.bits} bits, fitted to data: {accuracy(before, test):.2%}")
    network = fine_tuned(before, train, bits=options.bits, epochs=options.epochs)
    after = compiled_again(network, graph, bits=options.bits)
    for loss, connection in zip(after.report.weights, after.program.connections, strict=True):
        lsb = after.program.population(connection.target).lsb
        found = np.rint(connection.effective.weight * 64.0 * lsb / loss.step)
        assert np.array_equal(found, network.edges[loss.edge].levels.detach().numpy())
    print(f"fine-tuned, compiled to the same levels: {accuracy(after, test):.2%}")


if __name__ == "__main__":
    main()
