"""SpikingJelly: ``CUBALIFNode`` in its multi-step mode."""

import torch
from serve import serve
from spikingjelly.activation_based import functional, neuron
from torch_layers import chain


def neurons(weights, network):
    """Return a node over all steps; with recurrence one step at a time."""
    node = neuron.CUBALIFNode(
        c_decay=network.keep_current,
        v_decay=network.keep_voltage,
        v_threshold=weights.threshold,
        v_reset=0.0,
    ).eval()
    recurrent = weights.recurrent
    if recurrent is None:
        node.step_mode = "m"

        def run(arriving):
            functional.reset_net(node)
            return node(arriving)

        return run

    loop = weights.loop()

    def stepwise(arriving):
        functional.reset_net(node)
        sent = []
        for step, arrived in enumerate(arriving):
            sent.append(node(arrived + loop(sent[-1]) if step else arrived))
        return torch.stack(sent)

    return stepwise


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Build the network."""
    return chain(network, threads, neurons)


if __name__ == "__main__":
    serve(prepare, ["spikingjelly", "torch"])
