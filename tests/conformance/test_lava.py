"""Random programs give the same trace in golden and in Lava, element by element."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from support.delayed_programs import Drawn, delayed
from support.random_programs import merged, merged_inputs, random_inputs, random_program

from spikec.backends.lava.placement import placement
from spikec.backends.lava.run import LavaBackend
from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.program import Program
from spikec.compiler.trace import QUANTITIES, Probe

SAMPLES, STEPS = 3, 15
#: One Lava run has 0.4 s to start up and a process per part: ten programs share one.
SHARE = 10

LIMITS: dict[str, dict[str, object]] = {
    "every switch": {},
    "one value per population": {"per_neuron": False, "max_populations": 3},
    "stock neurons": {
        "per_neuron": False,
        "initial_state": False,
        "resets": (("zero", "at_spike"), ("zero", "next_step")),
        "max_refractory": 0,
        "drops_input": False,
    },
    "long delays": {"max_delay": 63, "max_populations": 2},
    "a delay each": {"max_populations": 2},
}


def started_as_retimed(program: Program) -> Program:
    """Let no population start after its first input, as the retiming pass has it."""
    populations = [replace(item, start=min(item.start, 1)) for item in program.populations]
    return replace(program, populations=tuple(populations))


def draw(kind: str, seed: int) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng([seed, list(LIMITS).index(kind)])
    programs = [random_program(rng, quiet_overflow=True, **LIMITS[kind]) for _ in range(SHARE)]
    if kind == "a delay each":
        each: tuple[Drawn, ...] = ("source", "target", "synapse", "several")
        programs = [
            delayed(program, rng, each[number % 4], (3, 12, 63)[number % 3])
            for number, program in enumerate(programs)
        ]
    if kind == "stock neurons":
        programs = [started_as_retimed(program) for program in programs]
    inputs = [random_inputs(program, rng, SAMPLES, STEPS) for program in programs]
    return merged(programs), merged_inputs(inputs)


@pytest.mark.lava
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", list(LIMITS))
def test_lava_equals_golden(backend: LavaBackend, kind: str, seed: int) -> None:
    """5 seeds of 5 kinds of 10 programs are 250; odd seeds take one sample at a time.

    The last seed records spikes alone: a probe puts a watching subclass in a stock LIF's place.
    """
    program, inputs = draw(kind, seed)
    if seed % 2:
        backend = replace(backend, batch=1)
        inputs = {name: values[:2] for name, values in inputs.items()}
    probes: list[Probe] = [
        (item.name, quantity)
        for item in program.populations
        for quantity in (QUANTITIES if seed < 4 else ("spikes",))
    ]
    expected = golden.run(program, inputs, probes=probes)
    trace = backend.load(program).run(inputs, probes=probes)
    differences = {
        probe: int((trace[probe] != expected[probe]).sum())
        for probe in probes
        if trace[probe].dtype != expected[probe].dtype
        or not np.array_equal(trace[probe], expected[probe])
    }
    assert differences == {}


def test_the_programs_are_worth_running() -> None:
    """The draw holds what the figure speaks of: spikes, recurrence, delays, both resets."""
    seen: Counter[str] = Counter()
    for kind in LIMITS:
        for seed in range(5):
            program, inputs = draw(kind, seed)
            trace = golden.run(program, inputs)
            place = {item.population: item for item in placement(program)}
            for item in program.populations:
                if item.vth is not None and trace.spikes(item.name).any():
                    seen[item.reset] += 1
                    seen[place[item.name].process] += 1
                seen["stock readout"] += item.vth is None and place[item.name].stock
            seen["self-recurrent"] += sum(c.source == c.target for c in program.connections)
            seen["delayed"] += sum(c.delay > 1 for c in program.connections)
            seen["wrapped"] += sum("wrapped" in key for key in trace.events)
    assert seen["wrapped"] == 0
    wanted = ("zero", "subtract", "value", "none", "LIF", "LIFReset", "ExactLIF", "stock readout")
    assert {name: seen[name] for name in wanted if seen[name] < 5} == {}
    assert seen["self-recurrent"] > 20
    assert seen["delayed"] > 100
