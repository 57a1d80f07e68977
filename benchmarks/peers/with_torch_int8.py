"""PyTorch written by hand in integers: int8 products of all steps at once, exact neurons.

``torch._int_mm`` multiplies int8 into int32 with the processor's int8 units where it has them:
what a dense tool can reach at most, however many spikes there are. States are integers in
float64, in which product, truncation and sum are exact, so spikes are those of the chip. A
layer hears the one before it a step later. There is no convolution of int8: it is one of floats,
whose sums of whole numbers are exact as well.
"""

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from serve import serve

torch.set_grad_enabled(False)


class Layer:
    """A population and its synapses; matrices are ``[source, neuron]``."""

    def __init__(self, layer):
        weight = torch.tensor(layer["weight"].astype(np.int8))
        self.shape, self.stride = tuple(layer["shape"]), layer["stride"]
        self.threshold, self.width = float(layer["vth"] << 6), int(np.prod(self.shape))
        self.weight = weight.float() if self.stride else _padded(weight)
        recurrent = layer["recurrent"]
        self.recurrent = (
            None if recurrent is None else _padded(torch.tensor(recurrent.astype(np.int8)))
        )

    def arriving(self, spikes):
        """Return what arrives in all steps, whole numbers ``[step, sample, neuron]``."""
        steps, samples = spikes.shape[:2]
        flat = spikes.flatten(0, 1)
        if self.stride:
            return F.conv2d(flat.float(), self.weight, stride=self.stride).view(steps, samples, -1)
        return _product(flat.flatten(1), self.weight, self.width).view(steps, samples, -1)


def _padded(weight):
    """Return ``weight`` [neuron, source] turned round, neurons filled up to eights."""
    return F.pad(weight, (0, 0, 0, -len(weight) % 8)).t()


def _product(spikes, weight, width):
    return torch._int_mm(spikes, weight)[:, :width]  # noqa: SLF001 - its only name


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Lay out the weights."""
    torch.set_num_threads(threads)
    layers = [Layer(layer) for layer in network.layers]
    keep_current, keep_voltage = (4095 - network.du) / 4096, (4096 - network.dv) / 4096

    def neurons(layer, arriving):
        sent = torch.zeros(arriving.shape, dtype=torch.int8)
        current = torch.zeros(arriving.shape[1:], dtype=torch.float64)
        voltage = torch.zeros_like(current)
        for step in range(1, len(arriving)):
            current.mul_(keep_current).trunc_().add_(arriving[step - 1], alpha=64)
            if layer.recurrent is not None:
                loop = _product(sent[step - 1], layer.recurrent, layer.width)
                current.add_(loop, alpha=64)
            voltage.mul_(keep_voltage).trunc_().add_(current)
            fires = voltage > layer.threshold
            voltage.masked_fill_(fires, 0)
            sent[step] = fires
        return sent

    def run(spikes):
        found = []
        for layer in layers:
            sent = neurons(layer, layer.arriving(spikes))
            spikes = sent.view(*sent.shape[:2], *layer.shape)
            found.append(sent.transpose(0, 1))
        return found

    run.convert = lambda samples: torch.tensor(samples.astype(np.int8)).transpose(0, 1).contiguous()
    return run


if __name__ == "__main__":
    serve(prepare, ["torch"])
