"""What the PyTorch tools share: weights as floats, and all steps of a layer's input at once.

A feed-forward layer's matrix product or convolution takes all steps together, which is
the fastest way to use these frameworks; only their neurons go step by step. Weights are
integers in floats, and a threshold is the integer one: u and v are the chip's divided by
64, without its rounding, so spikes differ a little from the exact ones. Arrays are
``[step, sample, *shape]``. No layer waits a step for the one before it.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name

torch.set_grad_enabled(False)


class Weights:
    """A layer's synapses."""

    def __init__(self, layer):
        self.weight = torch.tensor(layer["weight"].astype(np.float32))
        recurrent = layer["recurrent"]
        self.recurrent = None if recurrent is None else torch.tensor(recurrent.astype(np.float32))
        self.stride, self.shape = layer["stride"], tuple(layer["shape"])
        self.threshold = float(layer["vth"])

    def __call__(self, spikes):
        """Return what arrives in all steps."""
        steps, samples = spikes.shape[:2]
        flat = spikes.flatten(0, 1)
        if self.stride:
            result = F.conv2d(flat, self.weight, stride=self.stride)
        else:
            result = F.linear(flat.flatten(1), self.weight)
        return result.view(steps, samples, *self.shape)

    def loop(self):
        """Return the recurrent connection as a module."""
        loop = torch.nn.Linear(*self.recurrent.shape, bias=False)
        loop.weight.copy_(self.recurrent)
        return loop


def chain(network, threads, neurons):
    """Return the ``run`` of a tool; ``neurons(weights, network)`` maps input to spikes.

    With recurrent weights they are the neurons' affair.
    """
    torch.set_num_threads(threads)
    layers = [Weights(layer) for layer in network.layers]
    cells = [neurons(weights, network) for weights in layers]

    def run(spikes):
        found = []
        for weights, cell in zip(layers, cells, strict=True):
            spikes = cell(weights(spikes))
            found.append(spikes.transpose(0, 1))
        return found

    run.convert = lambda samples: (
        torch.tensor(samples, dtype=torch.float32).transpose(0, 1).contiguous()
    )
    return run
