"""PyTorch written by hand: what a careful user without a framework would do."""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from serve import serve
from torch_layers import chain


def neurons(weights, network):
    """Return the neurons' loop over steps, in place."""
    keep_current, keep_voltage = network.keep_current, network.keep_voltage
    threshold, recurrent = weights.threshold, weights.recurrent

    def run(arriving):
        current = torch.zeros_like(arriving[0])
        voltage = torch.zeros_like(current)
        sent = torch.empty_like(arriving)
        for step, arrived in enumerate(arriving):
            current.mul_(keep_current).add_(arrived)
            if recurrent is not None and step:
                current.add_(F.linear(sent[step - 1], recurrent))
            voltage.mul_(keep_voltage).add_(current)
            fires = voltage > threshold
            voltage.masked_fill_(fires, 0)
            sent[step] = fires
        return sent

    return run


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Build the network."""
    return chain(network, threads, neurons)


if __name__ == "__main__":
    serve(prepare, ["torch"])
