"""SANA-FE: an architecture model; its Loihi, with timing at its simplest and spikes traced.

Its neurons keep currents as floats that are not rounded and voltages in steps of 1/64, so a few
spikes differ. Every weight is an object of about 8 kB: larger networks than :data:`SYNAPSES`
are left out, and convolutions. Each layer has a core of its own. A call resets the chip, gives the
inputs their spike trains and simulates T steps: the energies that it is made for are counted in
the same time.
"""

import numpy as np
import sanafe
from serve import serve

#: The most synapses that are tried.
SYNAPSES = 500_000


class Net:
    """A network on a chip."""

    def __init__(self, network):
        arch = sanafe.load_loihi()
        self.cores = [core for tile in arch.tiles for core in tile.cores]
        self.steps = network.steps
        net = sanafe.Network()
        self.inputs = int(np.prod(network.input_shape))
        source = net.create_neuron_group("input", self.inputs)
        for index, neuron in enumerate(source):
            neuron.set_attributes(soma_hw_name=f"loihi_inputs[{index}]")
        groups = [source]
        for index, layer in enumerate(network.layers):
            target = population(net, f"layer{index}", layer, network)
            connect(source, target, layer["weight"])
            if layer["recurrent"] is not None:
                connect(target, target, layer["recurrent"])
            groups.append(target)
            source = target
        self.counts = [int(np.prod(layer["shape"])) for layer in network.layers]
        for core, group in zip(self.cores, groups, strict=False):
            group.map_to_core(core)
        self.chip = sanafe.SpikingChip(arch)
        self.chip.load(net)

    def run(self, spikes, threads):
        """Return every layer's spikes ``[1, step, neuron]``."""
        self.chip.reset()
        inputs = self.chip.mapped_neuron_groups["input"]
        for neuron, sent in zip(inputs, spikes, strict=True):
            neuron.set_attributes(model_attributes={"spikes": sent})
        result = self.chip.sim(
            self.steps, timing_model="simple", processing_threads=threads, spike_trace=True
        )
        found = [np.zeros((1, self.steps, count), np.uint8) for count in self.counts]
        for step, sent in enumerate(result["spike_trace"]):
            for neuron in sent:
                found[int(neuron.group_name[5:])][0, step, neuron.neuron_offset] = 1
        return found


def population(net, name, layer, network):
    """Add a layer's neurons."""
    return net.create_neuron_group(
        name, int(np.prod(layer["shape"])), log_spikes=True,
        soma_hw_name="loihi_lif", default_synapse_hw_name="loihi_dense_synapse",
        default_dendrite_hw_name="loihi_dendrites",
        model_attributes={
            "threshold": float(layer["vth"]), "reset": 0.0, "reset_mode": "hard",
            "leak_decay": network.keep_voltage, "input_decay": network.keep_current,
            "reverse_threshold": -float(2**17), "reverse_reset_mode": "none",
        },
    )  # fmt: skip


def connect(source, target, weight):
    """Connect all to all."""
    source.connect_neurons_dense(target, {"weight": weight.T.reshape(-1).astype(float).tolist()})


def prepare(network, batch, threads):
    """Build the network."""
    assert batch == 1, "SANA-FE has no batch"
    assert not any(layer["stride"] for layer in network.layers), "dense layers only"
    count = sum(layer["weight"].size for layer in network.layers)
    assert count <= SYNAPSES, f"{count} synapses would take gigabytes"
    net = Net(network)

    def run(spikes):
        return net.run(spikes, threads)

    run.convert = lambda samples: samples.reshape(network.steps, -1).T.astype(bool).tolist()
    return run


if __name__ == "__main__":
    serve(prepare, ["sanafe", "numpy"])
