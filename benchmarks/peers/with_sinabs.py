"""sinabs: ``LIF`` and ``LIFRecurrent`` with two time constants, one spike a step, reset to 0.

Its current decays in the step that an input arrives in, so that both states are the chip's
times that decay; the threshold is, too.
"""

import math

import torch
from serve import serve
from sinabs.activation import MembraneReset, SingleSpike
from sinabs.layers import LIF, LIFRecurrent
from torch_layers import chain


def neurons(weights, network):
    """Return a layer over all steps; sinabs has samples first."""
    parameters = {
        "tau_mem": -1 / math.log(network.keep_voltage),
        "tau_syn": -1 / math.log(network.keep_current),
        "spike_threshold": torch.tensor(weights.threshold * network.keep_current),
        "spike_fn": SingleSpike,
        "reset_fn": MembraneReset(),
        "norm_input": False,
    }
    if weights.recurrent is None:
        cell = LIF(**parameters)
    else:
        cell = LIFRecurrent(rec_connect=weights.loop(), **parameters)

    def run(arriving):
        cell.reset_states()
        return cell(arriving.transpose(0, 1)).transpose(0, 1)

    return run


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Build the network."""
    return chain(network, threads, neurons)


if __name__ == "__main__":
    serve(prepare, ["sinabs", "torch"])
