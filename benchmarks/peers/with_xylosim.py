"""XyloSim, the simulator under Rockpool's: other neurons, on the same weights and spikes.

A Xylo neuron decays by shifts (the nearest to the workload's), subtracts its threshold and
may spike several times a step, so spikes differ and only rates are shown; thresholds are tuned
anew, layer by layer, so that there are as many spikes. Hidden layers are blocks of one recurrent
population, the last layer is the readout, as on that chip. A call starts from silence.
Convolutions are left out: the chip has none.

The simulator keeps bare pointers to the synapses it is given: they must outlive it, or it
reads freed memory and ends with a segmentation fault.
"""

import math

import numpy as np
from serve import serve
from xylosim.v2 import XyloLayer, XyloSynapse

#: Spikes a step of every layer, as the workloads are tuned, and the highest threshold.
RATE, HIGHEST = 0.05, 2**15 - 1


class Net:
    """A network and the synapses that it points to."""

    def __init__(self, network):
        hidden, last = network.layers[:-1], network.layers[-1]
        assert hidden, "a readout alone"
        assert last["recurrent"] is None, "a readout has no recurrence"
        counts = [int(np.prod(layer["shape"])) for layer in hidden]
        ends = np.cumsum(counts)
        self.parts = [slice(end - n, end) for n, end in zip(counts, ends, strict=True)]
        count, out = int(ends[-1]), int(np.prod(last["shape"]))
        arriving = np.zeros((hidden[0]["weight"].shape[1], count), np.int64)
        arriving[:, : counts[0]] = hidden[0]["weight"].T
        between = np.zeros((count, count), np.int64)
        for index, layer in enumerate(hidden):
            place = self.parts[index]
            if index:
                between[self.parts[index - 1], place] = layer["weight"].T
            if layer["recurrent"] is not None:
                between[place, place] = layer["recurrent"].T
        leaving = np.zeros((count, out), np.int64)
        leaving[self.parts[-1]] = last["weight"].T
        self.synapses = [synapses(weight) for weight in (arriving, between, leaving)]
        current, voltage = shift(network.du), shift(network.dv)
        self.layer = XyloLayer(
            *self.synapses, aliases=[[] for _ in range(count)],
            threshold=[HIGHEST] * count, threshold_out=[HIGHEST] * out,
            has_bias=False, bias=[0] * count, bias_out=[0] * out,
            weight_shift_inp=0, weight_shift_rec=0, weight_shift_out=0,
            dash_mem=[voltage] * count, dash_mem_out=[voltage] * out,
            dash_syns=[[current]] * count, dash_syns_out=[[current]] * out, name="layer",
        )  # fmt: skip

    def tune(self, spikes):
        """Set the layers' thresholds, one after the other, so that they fire at :data:`RATE`."""
        hidden = [self.layer.iaf_neurons[part] for part in self.parts]
        for index, neurons in enumerate([*hidden, self.layer.iaf_neurons_out]):
            low, high = 0, HIGHEST
            while high - low > 1:
                middle = (low + high) // 2
                for neuron in neurons:
                    neuron.v_th = middle
                found = self.run(spikes)[index].mean()
                low, high = (middle, high) if found > RATE else (low, middle)

    def run(self, spikes):
        """Return every layer's spikes ``[1, step, neuron]``."""
        self.layer.reset_all()
        out = np.array(self.layer.evolve(spikes))
        between = np.array(self.layer.rec_recurrent_spikes)
        return [item[None] for item in (*(between[:, part] for part in self.parts), out)]


def synapses(weight):
    """Return each source's synapses that are not zero."""
    return [
        [XyloSynapse(int(target), 0, int(row[target])) for target in row.nonzero()[0]]
        for row in weight
    ]


def shift(decay):
    """Return the shift whose decay is nearest to ``decay`` / 4096."""
    return round(math.log2(4096 / decay))


def prepare(network, batch, threads):  # noqa: ARG001 - it has no threads
    """Build the network."""
    assert batch == 1, "XyloSim has no batch"
    assert not any(layer["stride"] for layer in network.layers), "dense layers only"
    net = Net(network)

    def convert(samples):
        return samples.reshape(network.steps, -1).astype(int).tolist()

    def run(spikes):
        return net.run(spikes)

    run.convert = convert
    net.tune(convert(network.batch(0, 1)))
    return run


if __name__ == "__main__":
    serve(prepare, ["xylosim", "numpy"])
