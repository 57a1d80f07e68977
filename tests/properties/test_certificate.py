"""The certificate never cries wolf, and finds the smallest bugs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exact_q import Exact, exact_q
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.inputs import to_integers
from spikec.compiler.ir import SourceView
from spikec.compiler.operators import Dense, with_weight
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.quantize import compile_graph
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.targets import load_target
from spikec.compiler.trace import Probe, Readout, Trace, read_out
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
            assert found.certified + found.clipped == found.decisions
            assert found.explained == found.unexplained == 0
            assert found.widest == 0


def summing(program: Program) -> Program:
    """Return the program without any leak, so that its voltages clip and stay wrong."""
    exact = (
        replace(item, du=np.full_like(item.du, 4095), dv=np.zeros_like(item.dv))
        for item in program.populations
    )
    return replace(program, populations=tuple(exact))


def seen(program: Program, inputs: dict[str, Array]) -> tuple[dict[str, Array], Trace]:
    """Return what every input and population sent, and the trace of all voltages."""
    probes: list[Probe] = [(item.name, "voltage") for item in program.populations]
    probes += [(item.name, "spikes") for item in program.populations if item.vth is not None]
    trace = golden.run(program, inputs, probes=probes)
    spikes = {name: trace.spikes(name) for name, what in trace.values if what == "spikes"}
    return {**to_integers(program, inputs)[0], **spikes}, trace


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), leaks=st.booleans(), quiet=st.booleans())
def test_what_is_proved_is_what_rational_numbers_say(seed: int, leaks: bool, quiet: bool) -> None:
    program, inputs = drawn(seed, quiet_overflow=quiet, max_neurons=4)
    program = program if leaks else summing(program)
    sent, trace = seen(program, inputs)
    for neurons, found in zip(program.populations, certificates(program, inputs), strict=True):
        exact = exact_q(program, neurons, sent)
        assert found.unexplained == 0, found.first
        if neurons.vth is None:
            continue
        spikes = sent[neurons.name].reshape(exact.decisions.shape)
        flips = exact.decisions != spikes
        assert flips.sum() <= found.decisions - found.certified
        assert (~flips.any(axis=(1, 2))).sum() >= found.proved_samples
        if found.wrapped == 0:
            assert flips.sum() == found.explained + found.clipped_flips
            distance = away(trace[neurons.name, "voltage"], exact)
            if not found.clipped:
                assert distance <= found.widest + 1
            if not leaks:
                assert found.clipped > 0 or distance == 0


def away(voltages: Array, exact: Exact) -> float:
    """Return how far voltages are from those of rational numbers at most."""
    flat = voltages.reshape(*voltages.shape[:2], -1)
    return max(
        float(abs(int(flat[place]) - exact.voltages[place[0]][place[1]][place[2]]))
        for place in np.ndindex(flat.shape)
    )


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    leaks=st.booleans(),
    readout=st.sampled_from(["max-voltage", "last-voltage", "mean-voltage", "spike-count"]),
)
def test_proved_answers_are_those_of_rational_numbers(
    seed: int, leaks: bool, readout: Readout
) -> None:
    program, inputs = drawn(seed, max_neurons=4)
    program = program if leaks else summing(program)
    output = program.neuron(program.outputs[0])
    if readout == "spike-count" and output.vth is None:
        return
    sent, trace = seen(program, inputs)
    exact = exact_q(program, output, sent)
    quantity = "spikes" if readout == "spike-count" else "voltage"
    answers = read_out(trace, readout)
    (found,) = (
        item
        for item in certify(dequantize(program), to_integers(program, inputs)[0], trace,
                            readout=readout)
        if item.population == output.name
    )  # fmt: skip
    assert found.answers is not None
    wanted = []
    for sample, rows in enumerate(exact.voltages):
        steps = exact.decisions[sample].tolist() if quantity == "spikes" else rows
        columns = list(zip(*steps, strict=True))
        score = {"max-voltage": max, "last-voltage": lambda column: column[-1]}.get(readout, sum)
        scores = [score(column) for column in columns]
        wanted.append(scores.index(max(scores)))
    assert found.answers.unexplained == 0
    assert found.answers.samples == len(wanted)
    assert (answers != wanted).sum() <= found.answers.samples - found.answers.proved
    if not found.wrapped and not found.answers.clipped:
        assert (answers != wanted).sum() == found.answers.explained


def test_most_answers_are_proved_and_clipped_ones_are_found() -> None:
    proved = samples = clipped = 0
    for seed in range(60):
        program, inputs = drawn(seed, quiet_overflow=True)
        for item in (program, summing(program)):
            _, trace = seen(item, inputs)
            for found in certify(dequantize(item), to_integers(item, inputs)[0], trace,
                                 readout="last-voltage"):  # fmt: skip
                if found.answers is not None:
                    proved += found.answers.proved
                    samples += found.answers.samples
                    clipped += found.answers.clipped
    assert samples == 2 * 60 * 4
    assert proved / samples > 0.6
    assert clipped > 20


def test_a_leak_forgets_a_clip() -> None:
    """A neuron is driven out of its 24 bits for a while, and certified again later."""
    neurons = Neurons(
        name="n", shape=(1,), du=np.array(4095), dv=np.array(400), vth=np.array(100_000),
        reset="none", reset_order="at_spike",
    )  # fmt: skip
    program = Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=(1,), kind="graded", low=-1000, high=1000),),
        populations=(neurons,),
        connections=(
            Connection(
                name="w", source="in", target="n", operator=Dense(weight=np.array([[100]])),
                weight_exp=0, num_weight_bits=8, sign_mode="excitatory", delay=1,
            ),
        ),
        outputs=("n",),
    )  # fmt: skip
    inputs = {"in": np.zeros((1, 400, 1), np.int64)}
    inputs["in"][:, :30] = 1000
    (found,) = certificates(program, inputs)
    assert found.unexplained == 0
    assert 100 < found.clipped < 250  # 0.9 to the power of 150 is a ten-millionth
    assert found.certified > 150
    summed = replace(program, populations=(replace(neurons, dv=np.array(0)),))
    (never,) = certificates(summed, inputs)
    assert never.clipped > 380


def test_a_bound_wider_than_24_bits_is_said() -> None:
    """Currents drop fractions, and no leak of the voltage forgets them."""
    program, _ = drawn(3)
    slow = replace(
        Neurons(
            name="n", shape=(2,), du=np.array(10), dv=np.array(0), vth=None, reset="none",
            reset_order="at_spike",
        ),
    )  # fmt: skip
    entry = ProgramInput(name="in", shape=(2,), kind="graded", low=-1, high=1)
    connection = Connection(
        name="w", source="in", target="n", operator=Dense(weight=np.eye(2, dtype=np.int64) * 2),
        weight_exp=0, num_weight_bits=8, sign_mode="excitatory", delay=1,
    )  # fmt: skip
    program = Program(target="loihi2", inputs=(entry,), populations=(slow,),
                      connections=(connection,), outputs=("n",))  # fmt: skip
    rng = np.random.default_rng(0)
    inputs = {"in": rng.integers(-1, 2, (1, 25_000, 2))}
    (found,) = certificates(program, inputs)
    assert found.unexplained == 0
    assert found.widest > 2**23
    assert found.open_from is not None
    assert 10_000 < found.open_from < 25_000
    (short,) = certificates(program, {"in": inputs["in"][:, :1000]})
    assert short.open_from is None


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
