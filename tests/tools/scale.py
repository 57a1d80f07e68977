"""Compile, save, load, run and map a large random sparse network; print what it took.

    python tests/tools/scale.py --neurons 1000000 --fan-out 100

Each phase is a process of its own, so that its peak memory is its own. ``minimum_mb``
is 5 bytes a synapse: a target of 4 bytes and a weight of 1.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from spikec.backends.simulator.engine import SimulatorBackend
from spikec.compiler.arrays import sealed
from spikec.compiler.inputs import Stream
from spikec.compiler.ir import Edge, Graph
from spikec.compiler.mapping.mapper import map_program
from spikec.compiler.operators import Sparse, Synapses
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.models import network, seed_lif, spikes

INPUTS, STEPS = 1000, 20


def random_sparse(
    rng: np.random.Generator, sources: int, neurons: int, fan_out: int, weight: float
) -> Sparse:
    """Draw ``fan_out`` synapses a source, one in each of as many equal parts of the target."""
    part = neurons // fan_out
    targets = np.empty((sources, fan_out), np.int32)
    for begin in range(0, sources, 4096):
        some = targets[begin : begin + 4096]
        some[:] = rng.integers(0, part, some.shape, np.int32)
        some += np.arange(fan_out, dtype=np.int32) * np.int32(part)
    weights = rng.standard_normal(sources * fan_out, np.float32)
    weights *= np.float32(weight)
    synapses = Synapses(
        targets=sealed(targets.reshape(-1)),
        pointers=sealed(np.arange(sources + 1) * fan_out),
        outputs=neurons,
    )
    return Sparse(weight=sealed(weights), synapses=synapses)


def large_network(neurons: int, fan_out: int) -> Graph:
    """Return inputs and one recurrent population, each with ``fan_out`` synapses a source."""
    rng = np.random.default_rng(0)
    return network(
        nodes=[spikes("in", INPUTS), seed_lif("pop", neurons, alpha=0.5, beta=0.9, bias=0.12)],
        edges=[
            Edge(name="from-in", source="in", target="pop", delay=0,
                 operator=random_sparse(rng, INPUTS, neurons, fan_out, 1.0)),
            Edge(name="among", source="pop", target="pop", delay=1,
                 operator=random_sparse(rng, neurons, neurons, fan_out, 0.2)),
        ],
        outputs=["pop"],
    )  # fmt: skip


def random_spikes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {"in": (rng.random((1, STEPS, INPUTS)) < 0.05).astype(np.uint8)}


def _print(line: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


class _Report:
    def __init__(self, phase: str) -> None:
        self.phase, self.start = phase, time.perf_counter()

    def __call__(self, what: str, **more: object) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        line = {
            "phase": self.phase,
            "what": what,
            "seconds": round(time.perf_counter() - self.start, 2),
            "held_mb": pages * resource.getpagesize() // 1_000_000,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 1_000_000,
        }
        _print(line | more)


def compiling(path: Path, neurons: int, fan_out: int) -> None:
    say = _Report("compile")
    say("imports")
    graph = large_network(neurons, fan_out)
    say("graph")
    program = compile_graph(graph, load_target("loihi2")).program
    say("compiled")
    write_program(program, path)
    say("written", bytes=path.stat().st_size)


def running(path: Path) -> None:
    say = _Report("run")
    program = read_program(path)
    say("read")
    executable = SimulatorBackend(threads=1).load(program)
    say("laid out")
    spiked = 0
    data = Stream(inputs=random_spikes(), entries=program.inputs)
    for _, _, trace in executable.stream(data, samples=1, steps=5):
        spiked += int(trace.spikes("pop").sum())
    say("ran", steps=STEPS, rate=spiked / STEPS / program.num_neurons)


def mapping(path: Path) -> None:
    say = _Report("map")
    program = read_program(path)
    say("read")
    start = time.process_time()
    mapped = map_program(program, load_target("loihi2"), chips=1000)
    say(
        "mapped",
        cores=mapped.core_map.num_cores,
        least=mapped.bound,
        processor_seconds=round(time.process_time() - start, 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=20_000)
    parser.add_argument("--fan-out", type=int, default=100)
    parser.add_argument("--phase", choices=["compile", "run", "map"])
    parser.add_argument("--program", type=Path)
    words = parser.parse_args()
    if words.phase == "compile":
        compiling(words.program, words.neurons, words.fan_out)
    elif words.phase == "run":
        running(words.program)
    elif words.phase == "map":
        mapping(words.program)
    else:
        synapses = (words.neurons + INPUTS) * words.fan_out
        _print({"synapses": synapses, "minimum_mb": synapses * 5 // 1_000_000})
        with tempfile.TemporaryDirectory() as folder:
            for phase in ("compile", "run", "map"):
                own = ["--phase", phase, "--program", f"{folder}/large.spk"]
                subprocess.run([sys.executable, __file__, *sys.argv[1:], *own], check=True)


if __name__ == "__main__":
    main()
