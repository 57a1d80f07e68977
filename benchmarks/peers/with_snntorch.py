"""snnTorch: ``Synaptic`` and ``RSynaptic``, reset to zero in the step of the spike.

``RSynaptic`` takes that option but has no effect of it (1.0): its voltage is reset here.
"""

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
        cell = snntorch.Synaptic(**parameters, reset_delay=False)
    else:
        cell = snntorch.RSynaptic(linear_features=len(weights.recurrent), **parameters)
        cell.recurrent.weight.copy_(weights.recurrent)
        cell.recurrent.bias.zero_()

    def run(arriving):
        states = 2 if weights.recurrent is None else 3
        state = [torch.zeros_like(arriving[0])] * states
        sent = []
        for arrived in arriving:
            if weights.recurrent is None:
                spikes, *state = cell(arrived, *state)
            else:
                spikes, current, voltage = cell(arrived, *state)
                state = spikes, current, voltage * (1 - spikes)
            sent.append(spikes)
        return torch.stack(sent)

    return run


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Build the network."""
    return chain(network, threads, neurons)


if __name__ == "__main__":
    serve(prepare, ["snntorch", "torch"])
