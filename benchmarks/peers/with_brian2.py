"""Brian2's C++ standalone: the network written as code, compiled once, run as one long simulation.

Integers in float64: every product and sum is exact, so spikes are those of the chip. One
run of the program simulates :data:`SAMPLES` samples one behind the other (states go on;
a run of one sample alone would be mostly start-up); its own clock gives the time. The
samples' order is fixed when the program is built, so runs repeat it.
"""

import resource
import tempfile
from pathlib import Path

import brian2 as b
import numpy as np
from serve import serve

SAMPLES = 20

NEURON = """
current : 1
voltage : 1
arrived : 1
"""
STEP = """
current = decayed(current, {current}) + 64 * arrived
voltage = decayed(voltage, {voltage}) + current
arrived = 0
"""


def prepare(network, batch, threads):  # noqa: ARG001 - the standalone program has one
    """Write, compile and describe the program; threads need OpenMP, which is not used."""
    assert batch == 1, "samples of a batch would be several networks"
    assert not any(layer["stride"] for layer in network.layers), "dense layers only"
    folder = tempfile.mkdtemp(prefix="spikec-brian2-")
    b.device.reinit()
    b.set_device("cpp_standalone", directory=folder, build_on_run=False)
    b.prefs.devices.cpp_standalone.openmp_threads = 0
    b.prefs.codegen.cpp.extra_compile_args_gcc = ["-O3", "-march=native", "-std=c++17"]
    b.defaultclock.dt = 1 * b.ms
    samples = network.batch(0, SAMPLES)
    net, monitors = build(network, samples)
    net.run(SAMPLES * network.steps * b.ms)
    b.device.build(directory=folder, compile=True, run=True, debug=False)
    layers = [spikes_of(item, layer, network.steps) for item, layer in monitors]

    def run(_):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        b.device.run(directory=folder, with_output=False, run_args=[])
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        processor = used.ru_utime - before.ru_utime + used.ru_stime - before.ru_stime
        seconds = float((Path(folder) / "results" / "last_run_info.txt").read_text().split()[0])
        run.seconds = (seconds / SAMPLES, min(processor, seconds) / SAMPLES)
        return layers

    return run


@b.implementation(
    "cpp", "double decayed(double state, double kept) { return trunc(state * kept / 4096); }"
)
@b.check_units(state=1, kept=1, result=1)
def decayed(state, kept):
    """Round to zero, as the chip does."""
    return np.trunc(state * kept / 4096)


def build(network, samples):
    """Return the network and a monitor of each layer."""
    flat = samples.reshape(len(samples) * network.steps, -1)
    steps, sources = flat.nonzero()
    source = b.SpikeGeneratorGroup(flat.shape[1], sources, steps * b.ms, sorted=True)
    objects, monitors = [source], []
    step = STEP.format(current=4095 - network.du, voltage=4096 - network.dv)
    for layer in network.layers:
        count = int(np.prod(layer["shape"]))
        group = b.NeuronGroup(
            count, NEURON, threshold=f"voltage > {layer['vth'] << 6}", reset="voltage = 0"
        )
        group.run_regularly(step)
        monitor = b.SpikeMonitor(group)
        objects += [group, monitor, synapses(source, group, layer["weight"])]
        if layer["recurrent"] is not None:
            objects.append(synapses(group, group, layer["recurrent"]))
        monitors.append((monitor, layer))
        source = group
    return b.Network(*objects), monitors


def synapses(source, target, weight):
    """Connect all to all."""
    made = b.Synapses(source, target, "w : 1", on_pre="arrived_post += w")
    count, heard = weight.shape
    made.connect(i=np.repeat(np.arange(heard), count), j=np.tile(np.arange(count), heard))
    made.w = weight.T.reshape(-1).astype(float)
    return made


def spikes_of(monitor, layer, steps):
    """Return the first sample's spikes, ``[1, step, neurons]``."""
    found = np.zeros((1, steps, int(np.prod(layer["shape"]))), np.uint8)
    at = np.rint(np.asarray(monitor.t / b.ms)).astype(int)
    inside = at < steps
    found[0, at[inside], np.asarray(monitor.i)[inside]] = 1
    return found


if __name__ == "__main__":
    serve(prepare, ["brian2", "numpy"])
