"""Norse: ``LIF`` and ``LIFRecurrent`` over all steps; their voltage takes (1 - decay) * current."""

import norse.torch as norse
import torch
from serve import serve
from torch_layers import chain


def neurons(weights, network):
    """Return a module over all steps."""
    leak = 1 - network.keep_voltage
    parameters = norse.LIFParameters(
        tau_syn_inv=torch.tensor(1 - network.keep_current),
        tau_mem_inv=torch.tensor(leak),
        v_th=torch.tensor(weights.threshold * leak),
    )
    if weights.recurrent is None:
        cell = norse.LIF(p=parameters, dt=1.0)
        return lambda arriving: cell(arriving)[0]
    count = len(weights.recurrent)
    cell = norse.LIFRecurrent(
        count, count, p=parameters, dt=1.0, autapses=True,
        input_weights=torch.eye(count), recurrent_weights=weights.recurrent,
    )  # fmt: skip
    return lambda arriving: cell(arriving)[0]


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Build the network."""
    return chain(network, threads, neurons)


if __name__ == "__main__":
    serve(prepare, ["norse", "torch"])
