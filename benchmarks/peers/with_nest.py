"""NEST: ``iaf_psc_exp`` with exact integration, in floats, one long simulation in parts of T steps.

Its voltage takes the current of the step before, so each layer spikes a step later than the
chip's, and what is recurrent comes round a step later: spikes differ there. Weights are scaled by
what a unit of current adds to a voltage in one step of the exact integration.

A sample is one ``Simulate`` of T milliseconds; states go on from sample to sample, and the
spikes of all samples are given to the generators before.
"""

import math

import nest
import numpy as np
from serve import serve

#: More than are timed: after the last one nothing would enter.
SAMPLES = 600


def prepare(network, batch, threads):
    """Build the network and give it the samples' spikes, again and again."""
    assert batch == 1, "samples of a batch would be several networks"
    assert not any(layer["stride"] for layer in network.layers), "dense layers only"
    nest.ResetKernel()
    nest.set_verbosity("M_ERROR")
    nest.resolution = 1.0
    nest.local_num_threads = threads
    samples = network.batch(0, SAMPLES).reshape(-1, int(np.prod(network.input_shape)))
    source = nest.Create("spike_generator", samples.shape[1])
    source.set([{"spike_times": 1.0 + times.nonzero()[0].astype(float)} for times in samples.T])
    tau_mem, tau_syn = -1 / math.log(network.keep_voltage), -1 / math.log(network.keep_current)
    scale = (1 / tau_syn - 1 / tau_mem) / (network.keep_voltage - network.keep_current)
    recorders = []
    for layer in network.layers:
        count = int(np.prod(layer["shape"]))
        neurons = nest.Create(
            "iaf_psc_exp", count,
            {"C_m": 1.0, "tau_m": tau_mem, "tau_syn_ex": tau_syn, "tau_syn_in": tau_syn,
             "E_L": 0.0, "V_m": 0.0, "V_reset": 0.0, "V_th": float(layer["vth"]), "t_ref": 0.0},
        )  # fmt: skip
        connect(source, neurons, layer["weight"] * scale)
        if layer["recurrent"] is not None:
            connect(neurons, neurons, layer["recurrent"] * scale)
        recorder = nest.Create("spike_recorder")
        nest.Connect(neurons, recorder)
        recorders.append((recorder, neurons[0].global_id, count))
        source = neurons
    nest.Prepare()
    first = []

    def run(_):
        nest.Run(float(network.steps))
        if not first:
            first.extend(spikes_of(*item, network.steps) for item in recorders)
        return first

    return run


def connect(source, target, weight):
    """Connect all to all with a delay of one step."""
    nest.Connect(source, target, "all_to_all", {"weight": weight, "delay": 1.0})


def spikes_of(recorder, first, count, steps):
    """Return the first sample's spikes, ``[1, step, neurons]``."""
    events = recorder.events
    found = np.zeros((1, steps, count), np.uint8)
    at = np.rint(events["times"]).astype(int) - 2
    inside = (at >= 0) & (at < steps)
    found[0, at[inside], events["senders"][inside] - first] = 1
    return found


if __name__ == "__main__":
    serve(prepare, ["nest-simulator", "numpy"])
