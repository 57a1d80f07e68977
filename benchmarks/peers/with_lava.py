"""lava-nc, its stock processes in fixed point, written as a user of Lava would.

One network holds all samples one behind the other in a RingBuffer; the first run of T
steps is the warm-up, each further run of T steps is timed as one sample (what Lava does in
a step does not depend on the state, so it is not reset between samples). The output's
spikes go into a RingBuffer as well. For the comparison every layer's spikes do, from the
fresh state. Building, which takes a few tenths of a second, is not in the time.
"""

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.lif.process import LIF
from serve import serve

#: Samples that are kept in a network, so that successive runs differ.
SAMPLES = 24


class Net:
    """The processes of a workload."""

    def __init__(self, network, samples, *, all_layers):
        self.steps = network.steps
        self.processes, self.sinks = [], []
        data = np.moveaxis(samples, (0, 1), (-2, -1))  # [*shape, sample, step]
        if len(network.input_shape) == 3:
            data = data.transpose(2, 1, 0, 3, 4)  # Lava's pictures are (x, y, channel)
        data = data.reshape(*data.shape[:-2], -1).astype(np.int32)
        source = self.keep(Source(data=data))
        shape = data.shape[:-1]
        for layer in network.layers:
            source, shape = self.layer(source, shape, layer, network)
            if all_layers or layer is network.layers[-1]:
                sink = self.keep(Sink(shape=shape, buffer=data.shape[-1]))
                source.s_out.connect(sink.a_in)
                self.sinks.append(sink)

    def keep(self, process):
        """Hold on to a process."""
        self.processes.append(process)
        return process

    def layer(self, source, shape, layer, network):
        """Add a connection and a population."""
        weight = layer["weight"].astype(np.int32)
        if layer["stride"]:
            # Lava's Conv is a convolution: PyTorch's, which correlates, is turned round.
            kernel = weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
            link = self.keep(
                Conv(weight=kernel, input_shape=shape, stride=layer["stride"], num_weight_bits=8)
            )
            source.s_out.connect(link.s_in)
            shape = link.output_shape
        else:
            if len(shape) == 3:
                x, y, channels = shape
                weight = weight.reshape(-1, channels, y, x).transpose(0, 3, 2, 1)
                weight = weight.reshape(len(weight), -1)
            link = self.keep(Dense(weights=weight, num_weight_bits=8))
            out = source.s_out if len(shape) == 1 else source.s_out.flatten()
            out.connect(link.s_in)
            shape = (len(weight),)
        neurons = self.keep(
            LIF(shape=shape, du=network.du, dv=network.dv, vth=layer["vth"], bias_mant=0)
        )
        link.a_out.connect(neurons.a_in)
        if layer["recurrent"] is not None:
            loop = self.keep(Dense(weights=layer["recurrent"].astype(np.int32), num_weight_bits=8))
            neurons.s_out.connect(loop.s_in)
            loop.a_out.connect(neurons.a_in)
        return neurons, shape

    def run(self):
        """Run T steps further."""
        self.processes[0].run(
            condition=RunSteps(num_steps=self.steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt")
        )

    def recorded(self):
        """Return ``[1, step, neurons]`` per layer that has a sink, pictures as (c, y, x)."""
        found = []
        for sink in self.sinks:
            values = sink.data.get()[..., : self.steps]
            if values.ndim == 4:
                values = values.transpose(2, 1, 0, 3)
            found.append(values.reshape(1, -1, self.steps).transpose(0, 2, 1) != 0)
        return found

    def stop(self):
        """End Lava's processes."""
        self.processes[0].stop()


def prepare(network, batch, threads):  # noqa: ARG001 - Lava has processes, not threads
    """Compare on a network of its own, then build the one to time."""
    assert batch == 1, "Lava has no batch"
    checked = Net(network, network.batch(0, 1), all_layers=True)
    checked.run()
    spikes = checked.recorded()
    checked.stop()
    while RUNNING:
        RUNNING.pop().stop()
    net = Net(network, network.batch(0, SAMPLES), all_layers=False)
    RUNNING.append(net)

    def run(_):
        net.run()
        return spikes

    return run


#: The network that runs: the one before it is stopped.
RUNNING = []

if __name__ == "__main__":
    serve(prepare, ["lava-nc", "numpy"])
    while RUNNING:
        RUNNING.pop().stop()
