"""What every measured tool speaks: one request a line on stdin, one answer a line on stdout.

A request names a workload, how many samples at a time and how many calls to time; the
answer has the wall and processor seconds per sample of each call. Needs NumPy only, as
it runs in the environments of all peers. A tool is a function

    prepare(network, batch, threads) -> run(spikes) -> spikes of every layer, or None

where ``run`` takes ``[sample, step, *shape]`` and may return ``[sample, step, neurons]`` per
layer, in order. What ``prepare`` does is not timed, nor is ``run.convert``, which may turn
the samples into what ``run`` takes. A tool that knows better what is its own time puts it
into ``run.seconds``, as (wall, processor). ``took`` of an answer are the seconds that all its
calls needed, conversion included: what another call will cost.
"""

import json
import os
import sys
import time
import traceback
from pathlib import Path

import numpy as np


class Network:
    """A workload as read from its file."""

    def __init__(self, path):
        with np.load(path) as held:
            text = json.loads(str(held["network"]))
            self.spikes = held["spikes"]
            self.layers = text["layers"]
            for index, layer in enumerate(self.layers):
                layer["weight"] = held[f"w{index}"]
                layer["recurrent"] = held[f"r{index}"] if layer["recurrent"] else None
        self.name = text["name"]
        self.input_shape = tuple(text["input_shape"])
        self.keep_current = (4095 - text["du"]) / 4096
        self.keep_voltage = (4096 - text["dv"]) / 4096
        self.du, self.dv = text["du"], text["dv"]
        self.steps = self.spikes.shape[1]

    def batch(self, first, count):
        """Return ``count`` samples from ``first``, beginning again after the last."""
        places = np.arange(first, first + count) % len(self.spikes)
        return self.spikes[places]


def _children_seconds():
    """Return the processor time of the children that this process has now."""
    return sum(map(_seconds_of, _children()))


def _children():
    try:
        return Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    except OSError:
        return []


def _seconds_of(process):
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(prepare, versions):
    """Answer requests until stdin ends; ``versions`` are the names of packages to report."""
    # What tools print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**values):
        answers.write(json.dumps(values) + "\n")
        answers.flush()

    answer(ready=True, versions=_versions(versions))
    networks, prepared = {}, {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            path, batch, threads = request["workload"], request["batch"], request["threads"]
            if path not in networks:
                prepared.clear()
                networks.clear()
                networks[path] = Network(path)
            key = (batch, threads)
            if key not in prepared:
                run = prepare(networks[path], batch, threads)
                run(_given(run, networks[path], 0, batch))
                prepared[key] = [run, 0]
            answer(**_measured(prepared[key], batch, networks[path], request))
        except Exception as error:  # noqa: BLE001 - the runner reports it
            traceback.print_exc()
            answer(error=f"{type(error).__name__}: {error}")


def _given(run, network, first, batch):
    samples = network.batch(first, batch)
    return run.convert(samples) if hasattr(run, "convert") else samples


def _measured(state, batch, network, request):
    if request.get("spikes"):
        layers = state[0](_given(state[0], network, 0, batch))
        if layers is None:
            return {"spikes": None}
        arrays = {
            f"layer{index}": np.asarray(item, np.uint8).reshape(batch, network.steps, -1)
            for index, item in enumerate(layers)
            if item is not None
        }
        np.savez(request["spikes"], **arrays)
        return {"spikes": request["spikes"]}
    wall, processor, start = [], [], time.perf_counter()
    for _ in range(request["calls"]):
        run, first = state
        samples = _given(run, network, first, batch)
        children, own, begin = _children_seconds(), time.process_time(), time.perf_counter()
        run(samples)
        end, used = time.perf_counter(), time.process_time() - own
        used += _children_seconds() - children
        seconds = getattr(run, "seconds", None) or (end - begin, used)
        wall.append(seconds[0] / batch)
        processor.append(seconds[1] / batch)
        state[1] = (first + batch) % len(network.spikes)
    return {"wall": wall, "processor": processor, "took": time.perf_counter() - start}


def _versions(names):
    from importlib.metadata import version

    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}
