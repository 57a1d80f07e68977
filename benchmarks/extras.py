"""What is measured besides the workloads: start-up, trained networks, where the time goes."""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from workloads import Workload

from spikec.backends import open_backend
from spikec.compiler.backend import Executable
from spikec.compiler.errors import SpikecError
from spikec.compiler.program import Program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.models import zoo

#: What a second process does until its first spike.
FIRST_SPIKE = """
import sys
sys.path.insert(0, {folder!r})
from pathlib import Path
from spikec.backends import open_backend
from workloads import Workload
work = Workload.load(Path({path!r}))
trace = open_backend({backend!r}, threads=1).load(work.program()).run({{"input": work.spikes[:1]}})
assert trace["layer0", "spikes"].any()
"""
NETWORKS = ("mnist-feedforward", "mnist-recurrent")
#: Weights of a layer above which fewer samples are profiled.
WIDE = 1 << 22


def start_up(path: Path, engines: Sequence[str], times: int) -> dict[str, dict[str, list[float]]]:
    """Return wall and processor seconds of whole processes, after one that fills caches."""
    folder = str(Path(__file__).parent)
    commands = {
        f"first spike of W1, {name}": [
            sys.executable,
            "-c",
            FIRST_SPIKE.format(folder=folder, path=str(path), backend=_backend(name)),
        ]
        for name in engines
    }
    commands["python -c pass"] = [sys.executable, "-c", "pass"]
    commands["spikec --help"] = [str(Path(sys.executable).with_name("spikec")), "--help"]
    found: dict[str, dict[str, list[float]]] = {}
    for turn in range(times + 1):
        for name, command in commands.items():
            measured = found.setdefault(name, {"wall": [], "processor": []})
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            begin = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)  # noqa: S603 - no shell
            end, after = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            if turn:
                measured["wall"].append(end - begin)
                used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
                measured["processor"].append(used)
    return found


def _backend(name: str) -> str:
    return {"fast": "simulator"}.get(name, name)


def _engine(name: str, program: Program) -> Executable:
    return open_backend(_backend(name), threads=1).load(program)


def trained(
    engines: Sequence[str], *, samples: int, rounds: int, lava: bool
) -> dict[str, dict[str, Any]]:
    """Run the zoo's networks, compiled to integers, on real images; compare with golden and Lava.

    Seconds are per image with all of them in one call; Lava's whole call on four images,
    which builds its network.
    """
    found = {}
    for name in NETWORKS:
        program = compile_graph(zoo.graph(name), load_target("loihi2"), weight_bits=8).program
        inputs = zoo.data(name, samples=samples).inputs
        few = {key: values[:100] for key, values in inputs.items()}
        expected = open_backend("simulator", engine="golden").load(program).run(few)
        chips = {engine: _engine(engine, program) for engine in engines}
        result: dict[str, Any] = {"samples": samples, "engines": {}, "equal": {}}
        for engine, chip in chips.items():
            trace = chip.run(few)
            result["equal"][engine] = all(
                np.array_equal(trace[probe], values) for probe, values in expected.values.items()
            )
            result["engines"][engine] = {"wall": [], "processor": []}
        for _ in range(rounds):
            for engine, chip in chips.items():
                wall, processor = _timed(partial(chip.run, inputs))
                result["engines"][engine]["wall"].append(wall / samples)
                result["engines"][engine]["processor"].append(processor / samples)
        if lava:
            result |= _on_lava(program, {key: values[:4] for key, values in inputs.items()})
        found[name] = result
    return found


def _on_lava(program: Program, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return whether Lava gives the same and how long it takes; nothing if it cannot run."""
    expected = open_backend("simulator").load(program).run(inputs)
    try:
        with open_backend("lava").load(program) as chip:
            begin = time.perf_counter()
            trace = chip.run(inputs)
            seconds = time.perf_counter() - begin
    except SpikecError as error:
        return {"lava": str(error)}
    equal = all(np.array_equal(trace[probe], values) for probe, values in expected.values.items())
    return {"lava": "equal" if equal else "DIFFERENT", "lava seconds": seconds}


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    processor, wall = time.process_time(), time.perf_counter()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def profile(paths: Sequence[Path], engines: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Return how an engine's time on each workload divides, found by leaving work out.

    Processor seconds per sample of four runs of the same samples in one call: the network
    as it is; with thresholds that no neuron reaches and no input, so that nothing is added
    and no spike is found; the same with a tenth of the steps; and with input but thresholds
    out of reach. ``overhead`` is what does not depend on the steps (a tenth and the whole,
    drawn out to none), ``scan`` what silent steps cost beyond it (updates, and looking for
    spikes that are not there), ``input events`` what the input adds, ``other events`` the rest:
    rows of neurons' own spikes, finding these, and resets.
    """
    found = []
    for path in paths:
        work = Workload.load(path)
        many = max(layer.weight.size for layer in work.layers) > WIDE
        work = replace(work, spikes=work.spikes[: 4 if many else 16])
        layers = tuple(replace(layer, vth=(1 << 17) - 1) for layer in work.layers)
        silent = np.zeros_like(work.spikes)
        tenth = silent[:, : max(1, silent.shape[1] // 10)]
        for engine in engines:
            real = _engine(engine, work.program())
            still = _engine(engine, replace(work, layers=layers).program())
            runs = {"whole": (real, work.spikes), "silent": (still, silent),
                    "tenth": (still, tenth), "input": (still, work.spikes)}  # fmt: skip
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(rounds + 1):
                for name, (chip, spikes) in runs.items():
                    processor = _timed(partial(chip.run, {"input": spikes}))[1]
                    times[name].append(processor / len(spikes))
            middle = {name: statistics.median(values[1:]) for name, values in times.items()}
            overhead = max(0.0, (10 * middle["tenth"] - middle["silent"]) / 9)
            found.append({
                "workload": work.name, "engine": engine, "whole": middle["whole"],
                "overhead": overhead,
                "scan": middle["silent"] - overhead,
                "input events": middle["input"] - middle["silent"],
                "other events": middle["whole"] - middle["input"],
            })  # fmt: skip
    return found
