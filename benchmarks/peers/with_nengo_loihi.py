"""nengo-loihi's emulator, given integers as they would be after its own discretisation.

Its quantizer would choose other weights and thresholds, so blocks are filled with those of the
workload. A network runs on from sample to sample, T steps each; what it does in a step is
the chip's arithmetic, with a step per connection. Convolutions are left out: they need axons
with populations.
"""

import warnings

import numpy as np
from nengo_loihi.block import Axon, LoihiBlock, Synapse
from nengo_loihi.builder import Model
from nengo_loihi.emulator import EmulatorInterface
from nengo_loihi.inputs import SpikeInput
from nengo_loihi.probe import LoihiProbe
from serve import serve


class Net:
    """A running network."""

    def __init__(self, network):
        self.steps, self.ran = network.steps, 0
        model = Model()
        self.input = SpikeInput(int(np.prod(network.input_shape)))
        model.add_input(self.input)
        source, self.probes = self.input, []
        for layer in network.layers:
            block = LoihiBlock(int(np.prod(layer["shape"])))
            neurons(block.compartment, network, layer["vth"])
            connect(source, block, layer["weight"])
            if layer["recurrent"] is not None:
                connect(block, block, layer["recurrent"])
            model.add_block(block)
            probe = LoihiProbe(target=block, key="spiked")
            model.add_probe(probe)
            self.probes.append(probe)
            source = block
        self.emulator = EmulatorInterface(model, seed=0)

    def run(self, spikes):
        """Run T steps further and return every layer's spikes ``[1, step, neuron]``."""
        for step, sent in enumerate(spikes.reshape(self.steps, -1)):
            self.input.add_spikes(self.ran + step + 1, sent.nonzero()[0])
        self.emulator.run_steps(self.steps)
        self.ran += self.steps
        return [
            np.asarray(self.emulator.collect_probe_output(probe), np.uint8)[None]
            for probe in self.probes
        ]


def neurons(compartment, network, vth):
    """Fill in a population's integers, as ``discretize_compartment`` would leave them."""
    count = compartment.n_compartments
    compartment.decay_u = np.full(count, network.du, np.int32)
    compartment.decay_v = np.full(count, network.dv, np.int32)
    compartment.scale_u = compartment.scale_v = False
    compartment.vth = np.full(count, vth << 6, np.int32)
    compartment.bias = np.zeros(count, np.int32)
    compartment.vmin, compartment.vmax = -(2**23) + 1, 2**23 - 1


def connect(source, block, weight):
    """Connect all to all; the emulator adds weights as they are, so they come scaled."""
    synapse = Synapse(weight.shape[1])
    synapse.set_weights(weight.T << 6)
    synapse.weights = [row.astype(np.int32) for row in synapse.weights]
    block.add_synapse(synapse)
    axon = Axon(weight.shape[1])
    axon.target = synapse
    source.add_axon(axon)


def prepare(network, batch, threads):  # noqa: ARG001 - NumPy and Python
    """Build the network."""
    assert batch == 1, "the emulator has no batch"
    assert not any(layer["stride"] for layer in network.layers), "dense layers only"
    warnings.simplefilter("ignore")
    net, first = Net(network), []

    def run(spikes):
        found = net.run(spikes)
        first.append(found)
        del first[1:]
        return first[0]

    return run


if __name__ == "__main__":
    serve(prepare, ["nengo-loihi", "numpy"])
