"""snnTorch: ``Synaptic`` and ``RSynaptic``, with ``reset_mechanism="zero"``."""

import snntorch
import torch
from serve import serve
from torch_layers import chain


def neurons(weights, network):
    """Return a neuron layer that is called step by step, as its documentation does."""
    parameters = {
        "alpha": network.keep_current,
        "beta": network.keep_voltage,
        "threshold": weights.threshold,
        "reset_mechanism": "zero",
    }
    if weights.recurrent is None:
        cell = snntorch.Synaptic(**parameters)
    else:
        cell = snntorch.RSynaptic(linear_features=len(weights.recurrent), **parameters)
        cell.recurrent.weight.copy_(weights.recurrent)
        cell.recurrent.bias.zero_()

    def run(arriving):
        state = cell.init_synaptic() if weights.recurrent is None else cell.init_rsynaptic()
        sent = []
        for arrived in arriving:
            if weights.recurrent is None:
                spikes, *state = cell(arrived, *state)
            else:
                state = cell(arrived, *state)
                spikes = state[0]
            sent.append(spikes)
        return torch.stack(sent)

    return run


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Build the network."""
    return chain(network, threads, neurons)


if __name__ == "__main__":
    serve(prepare, ["snntorch", "torch"])
