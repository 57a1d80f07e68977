"""spikec itself: one of its engines, named on the command line; a call is the public ``run``."""

import sys
from pathlib import Path

from serve import serve

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from workloads import Layer, Workload

from spikec.backends import open_backend


def backend(name, threads):
    """Return the backend of an engine's name."""
    if name == "golden":
        return open_backend("simulator", engine="golden")
    return open_backend({"fast": "simulator"}.get(name, name), threads=threads)


def prepare(network, batch, threads):  # noqa: ARG001 - any number of samples
    """Compile the workload for the engine."""
    layers = tuple(Layer(**{**item, "shape": tuple(item["shape"])}) for item in network.layers)
    workload = Workload(
        name=network.name, title="", input_shape=network.input_shape, layers=layers,
        spikes=network.spikes,
    )  # fmt: skip
    chip = backend(ENGINE, threads).load(workload.program())

    def run(spikes):
        trace = chip.run({"input": spikes})
        assert not trace.events, trace.events
        return [trace[f"layer{index}", "spikes"] for index in range(len(layers))]

    return run


ENGINE = sys.argv[1]

if __name__ == "__main__":
    serve(prepare, ["spikec", "numba", "numpy"])
