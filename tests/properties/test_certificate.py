"""The certificate never cries wolf, and finds the smallest bugs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.inputs import to_integers
from spikec.compiler.ir import SourceView
from spikec.compiler.operators import with_weight
from spikec.compiler.program import Neurons, Program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.targets import load_target
from spikec.compiler.trace import Probe
from spikec.compiler.verification.certificate import Certificate, certify
from spikec.models import zoo


def certificates(
    program: Program, inputs: dict[str, Array], ran: Program | None = None
) -> tuple[Certificate, ...]:
    """Certify what ``ran`` (by default ``program`` itself) does against Q of ``program``."""
    probes: list[Probe] = [
        (item.name, quantity)
        for item in program.populations
        for quantity in ("spikes", "voltage")
        if quantity == "voltage" or item.vth is not None
    ]
    trace = golden.run(ran or program, inputs, probes=probes)
    return certify(dequantize(program), to_integers(program, inputs)[0], trace)


def drawn(seed: int, **limits: object) -> tuple[Program, dict[str, Array]]:
    """Draw a program whose every step is recorded, and inputs for it."""
    rng = np.random.default_rng(seed)
    program = random_program(rng, **limits)
    program = replace(program, populations=tuple(map(_recorded, program.populations)))
    return program, random_inputs(program, rng, 4, 25)


def _recorded(neurons: Neurons) -> Neurons:
    initial = neurons.initial_voltage
    if neurons.vth is not None and neurons.reset_order == "next_step":
        initial = np.minimum(initial, neurons.vth << 6)  # a graph refuses a spike of step -1
        if neurons.floor is not None:
            initial = np.maximum(initial, neurons.floor)
    return replace(neurons, view=SourceView(), initial_voltage=initial)


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), quiet=st.booleans())
def test_every_integer_is_explained(seed: int, quiet: bool) -> None:
    program, inputs = drawn(seed, quiet_overflow=quiet)
    for found in certificates(program, inputs):
        assert found.reason == ""
        assert found.unexplained == 0, f"seed {seed}: {found.first}"
        assert found.certified + found.explained <= found.decisions


def test_most_decisions_are_certified_and_some_flips_are_explained() -> None:
    found = [item for seed in range(120) for item in certificates(*drawn(seed))]
    decisions, certified, explained = (
        sum(getattr(item, name) for item in found)
        for name in ("decisions", "certified", "explained")
    )
    assert decisions > 100_000
    assert certified / decisions > 0.9
    assert explained > 0


def test_where_nothing_is_truncated_all_is_certified() -> None:
    for seed in range(40):
        program, inputs = drawn(seed, quiet_overflow=True)
        exact = tuple(
            replace(item, du=np.full_like(item.du, 4095), dv=np.where(item.dv > 2000, 4096, 0))
            for item in program.populations
        )
        for found in certificates(replace(program, populations=exact), inputs):
            assert found.certified == found.decisions
            assert found.explained == found.unexplained == 0
            assert found.widest == 0


@pytest.fixture(scope="module")
def network() -> tuple[Program, dict[str, Array]]:
    program = compile_graph(zoo.graph("mnist-recurrent"), load_target("loihi2")).program
    return program, dict(zoo.data("mnist-recurrent", samples=40).inputs)


def test_a_million_decisions_of_the_zoo_network_are_explained(
    network: tuple[Program, dict[str, Array]],
) -> None:
    program, _ = network
    hidden, readout = certificates(program, dict(zoo.data("mnist-recurrent", samples=150).inputs))
    assert hidden.unexplained == readout.unexplained == 0
    assert hidden.decisions == 150 * 35 * 192  # its first step is held: it starts at 1
    assert hidden.certified_share is not None
    assert hidden.certified_share > 0.999
    assert readout.certified_share is None


def changed(program: Program, name: str, field: str, by: int) -> Program:
    return replace(
        program,
        populations=tuple(
            replace(item, **{field: _one_more(getattr(item, field), by)})
            if item.name == name
            else item
            for item in program.populations
        ),
    )


def _one_more(values: Array, by: int) -> Array:
    """Change one neuron only."""
    other = values.copy()
    other.flat[5] += by
    return other


def heavier(program: Program, name: str, source: int) -> Program:
    """Return the program with one weight of connection ``name`` off by one stored unit."""
    connections = []
    for item in program.connections:
        mantissas = item.operator.weight.astype(np.int64)
        if item.name == name:
            mantissas[5, source] += item.step if mantissas[5, source] < 0 else -item.step
        connections.append(replace(item, operator=with_weight(item.operator, mantissas)))
    return replace(program, connections=tuple(connections))


BUGS: dict[str, tuple[str, Callable[[Program], Program]]] = {
    "weight": ("layer1", lambda program: heavier(program, "W1", 20)),
    "recurrent weight": ("layer1", lambda program: heavier(program, "V1", 9)),
    "readout weight": ("layer2", lambda program: heavier(program, "W2", 9)),
    "decay of u": ("layer1", lambda program: changed(program, "layer1", "du", 1)),
    "decay of v": ("layer1", lambda program: changed(program, "layer1", "dv", -1)),
    "readout decay": ("layer2", lambda program: changed(program, "layer2", "dv", 1)),
    "threshold": ("layer1", lambda program: changed(program, "layer1", "vth", 40)),
    "reset": ("layer1", lambda program: changed(program, "layer1", "reset_value", 64)),
    "bias": ("layer1", lambda program: changed(program, "layer1", "bias_mant", 1)),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found_where_it_is(
    network: tuple[Program, dict[str, Array]], bug: str
) -> None:
    program, inputs = network
    place, plant = BUGS[bug]
    found = {item.population: item for item in certificates(program, inputs, plant(program))}
    first = found[place].first
    assert found[place].unexplained > 0
    assert first is not None
    assert (first.population, first.neuron) == (place, (5,))
    assert not first.low <= first.voltage <= first.high or first.what == "spike"
    others = [item for item in found.values() if item.population != place]
    assert all(item.unexplained == 0 for item in others)  # each stands alone


def test_thresholds_off_by_one_unit_are_found(network: tuple[Program, dict[str, Array]]) -> None:
    program, inputs = network
    hidden, readout = program.populations
    assert hidden.vth is not None
    wrong = replace(program, populations=(replace(hidden, vth=hidden.vth + 1), readout))
    found, _ = certificates(program, inputs, wrong)
    assert found.unexplained > 0
    assert found.first is not None
    assert found.first.what == "spike"
    assert found.first.threshold is not None
    assert found.first.low > found.first.threshold
    assert found.first.spike == 0


def test_a_decay_that_rounds_down_instead_of_to_zero_is_found(
    network: tuple[Program, dict[str, Array]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "decay", lambda state, factor: (state * factor) >> 12)
    assert sum(item.unexplained for item in certificates(*network)) > 0


def test_a_population_that_runs_unrecorded_says_so() -> None:
    program, inputs = drawn(3)
    first = program.populations[0]
    late = replace(first, view=SourceView(lag=2, current_lag=2), start=0)
    program = replace(program, populations=(late, *program.populations[1:]))
    found = certificates(program, inputs)
    assert "first recorded step" in found[0].reason
    assert found[0].decisions == 0
