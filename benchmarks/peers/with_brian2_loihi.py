"""Brian2Loihi, the Loihi emulator on Brian2: its own neurons and synapses, integers in floats.

A network runs on from sample to sample. A ``run`` of one sample would mostly be start-up, so a
call is one ``run`` of :data:`SAMPLES`, the same ones each time, and is reported per sample.
Compiled by Cython, Brian2's default: a minute when its cache is cold, which is not timed. Names are
given, as they are in the code and so in the cache's keys.
Convolutions would be lists of synapses and are left out.
"""

import time

import brian2 as b
import numpy as np
from brian2_loihi import (
    LoihiNetwork,
    LoihiNeuronGroup,
    LoihiSpikeGeneratorGroup,
    LoihiSpikeMonitor,
    LoihiSynapses,
    synapse_sign_mode,
)
from serve import serve

SAMPLES = 10


class Net:
    """A running network."""

    def __init__(self, network):
        self.steps, self.layers = network.steps, network.layers
        flat = network.batch(0, SAMPLES).reshape(SAMPLES * network.steps, -1)
        self.times, self.indices = flat.nonzero()
        self.source = LoihiSpikeGeneratorGroup(
            flat.shape[1], self.indices, self.times + 1, sorted=True, name="source"
        )
        objects, source, self.monitors = [self.source], self.source, []
        for index, layer in enumerate(network.layers):
            name = f"layer{index}"
            # Its decay is x - ceil(x d / 4096), so the chip's extra one is added to d.
            group = LoihiNeuronGroup(
                int(np.prod(layer["shape"])), threshold_v_mant=layer["vth"],
                decay_v=network.dv, decay_I=network.du + 1, name=name,
            )  # fmt: skip
            monitor = LoihiSpikeMonitor(group, name=f"{name}_spikes")
            objects += [group, monitor, synapses(source, group, layer["weight"], f"to_{name}")]
            if layer["recurrent"] is not None:
                objects.append(synapses(group, group, layer["recurrent"], f"in_{name}"))
            self.monitors.append(monitor)
            source = group
        self.net = LoihiNetwork(*objects)
        self.ran = 0

    def run(self):
        """Run all samples once more."""
        if self.ran:
            self.source.set_spikes(self.indices, (self.times + 1 + self.ran) * b.ms, sorted=True)
        self.net.run(SAMPLES * self.steps)
        self.ran += SAMPLES * self.steps

    def first(self):
        """Return the first sample's spikes, ``[1, step, neuron]`` per layer."""
        layers = []
        for monitor, layer in zip(self.monitors, self.layers, strict=True):
            found = np.zeros((1, self.steps, int(np.prod(layer["shape"]))), np.uint8)
            at = np.rint(np.asarray(monitor.t_) * 1000).astype(int)
            inside = at < self.steps
            found[0, at[inside], np.asarray(monitor.i)[inside]] = 1
            layers.append(found)
        return layers


def synapses(source, target, weight, name):
    """Connect all to all; a neuron hears in the step after the spike."""
    made = LoihiSynapses(source, target, sign_mode=synapse_sign_mode.MIXED, name=name)
    count, heard = weight.shape
    made.connect(i=np.repeat(np.arange(heard), count), j=np.tile(np.arange(count), heard))
    made.w = weight.T.reshape(-1).astype(np.int64)
    return made


def prepare(network, batch, threads):  # noqa: ARG001 - it has no threads
    """Build the network, which compiles in its first run."""
    assert batch == 1, "samples of a batch would be several networks"
    assert not any(layer["stride"] for layer in network.layers), "dense layers only"
    b.start_scope()
    net = Net(network)
    net.run()
    spikes = net.first()

    def run(_):
        begin, used = time.perf_counter(), time.process_time()
        net.run()
        wall, processor = time.perf_counter() - begin, time.process_time() - used
        run.seconds = (wall / SAMPLES, processor / SAMPLES)
        return spikes

    return run


if __name__ == "__main__":
    serve(prepare, ["brian2-loihi", "brian2", "numpy"])
