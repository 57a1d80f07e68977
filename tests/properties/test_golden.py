"""The NumPy simulator equals an independent one-neuron-at-a-time implementation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from support import scalar_golden
from support.random_programs import LAVA_RESETS, random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.errors import BackendError
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.trace import QUANTITIES, Probe, Trace

BLOCKS, PER_BLOCK = 20, 100


def all_probes(program: Program) -> list[Probe]:
    return [(item.name, quantity) for item in program.populations for quantity in QUANTITIES]


def drawn(*seed: int, **limits: object) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    program = random_program(rng, **limits)
    return program, random_inputs(program, rng, int(rng.integers(1, 4)), int(rng.integers(6, 15)))


def without_steps(values: Array) -> Array:
    return values.reshape(*values.shape[:2], -1)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_golden_equals_the_scalar_oracle(block: int) -> None:
    for number in range(PER_BLOCK):
        program, inputs = drawn(1, block, number)
        trace = golden.run(program, inputs, probes=all_probes(program))
        expected = scalar_golden.run(program, inputs)
        for probe, values in expected.values.items():
            found = without_steps(trace[probe]).tolist()
            assert found == values, f"seed (1, {block}, {number}): {probe}"
        assert dict(trace.events) == dict(expected.events), f"seed (1, {block}, {number})"


def test_the_random_programs_are_lively() -> None:
    rates, events, several = [], [], []
    for number in range(300):
        program, inputs = drawn(2, number)
        run = scalar_golden.run(program, inputs)
        events.append(" ".join(run.events))
        spikes = [
            run.values[item.name, "spikes"] for item in program.populations if item.vth is not None
        ]
        rates += [np.mean(np.greater(values, 0)) for values in spikes]
        several += [np.max(values) > 1 for values in spikes]
    silent, restless = np.mean(np.equal(rates, 0)), np.mean(np.greater(rates, 0.9))
    assert 0.1 < np.mean(rates) < 0.4
    assert silent < 0.3
    assert restless < 0.1
    assert np.mean(several) > 0.1
    for what in ("current wrapped", "voltage saturated", "input clipped"):
        assert 0.05 < np.mean([what in text for text in events]) < 0.6, what


def test_quiet_programs_never_wrap_and_lava_programs_keep_to_its_switches() -> None:
    for number in range(200):
        program, inputs = drawn(3, number, lava=True)
        trace = golden.run(program, inputs, probes=(), strict=True)
        assert not any("wrapped" in name for name in trace.events), number
        assert {(item.reset, item.reset_order) for item in program.populations} <= {
            *LAVA_RESETS,
            ("none", "next_step"),
        }
        assert all(item.kind != "analog" for item in program.inputs)


@pytest.mark.parametrize("seed", range(60))
def test_chunks_give_the_same_run(seed: int) -> None:
    program, inputs = drawn(4, seed, kinds=("binary",))
    probes = all_probes(program)
    whole = golden.run(program, inputs, probes=probes)
    steps = next(iter(inputs.values())).shape[1]
    cuts = sorted({0, *np.random.default_rng(seed).integers(0, steps, 3).tolist(), steps})
    samples = len(next(iter(inputs.values())))
    session = golden.session(program, samples=samples, probes=probes)
    parts = [
        session.run({name: values[:, start:stop] for name, values in inputs.items()})
        for start, stop in pairwise(cuts)
    ]
    joined = Trace.joined([*parts, session.finish()], axis="step")
    for probe in probes:
        np.testing.assert_array_equal(joined[probe], whole[probe])
    assert session.events == dict(whole.events)


@pytest.mark.parametrize("seed", range(30))
def test_samples_do_not_see_each_other(seed: int) -> None:
    program, inputs = drawn(5, seed)
    rng = np.random.default_rng(seed)
    inputs = random_inputs(program, rng, 5, 9)
    order = rng.permutation(5)
    whole = golden.run(program, inputs, probes=all_probes(program))
    shuffled = golden.run(
        program, {name: v[order] for name, v in inputs.items()}, probes=all_probes(program)
    )
    alone = [
        golden.run(program, {name: v[k : k + 1] for name, v in inputs.items()}) for k in range(5)
    ]
    for probe in all_probes(program):
        np.testing.assert_array_equal(shuffled[probe], whole[probe][order])
    for probe in program.default_probes:
        joined = Trace.joined(alone, axis="sample")
        np.testing.assert_array_equal(joined[probe], whole[probe])
    assert shuffled.events == whole.events


@pytest.mark.parametrize("seed", range(20))
def test_what_a_run_records_does_not_change_it(seed: int) -> None:
    program, inputs = drawn(6, seed)
    full = golden.run(program, inputs, probes=all_probes(program))
    for probe in all_probes(program):
        alone = golden.run(program, inputs, probes=[probe])
        assert list(alone.values) == [probe]
        np.testing.assert_array_equal(alone[probe], full[probe])


def one_neuron(weight: int = 2, weight_exp: int = 0, high: int = 1, **fields: object) -> Program:
    defaults: dict[str, object] = {
        "du": 0, "dv": 0, "vth": 100, "reset": "zero", "reset_order": "at_spike",
    }  # fmt: skip
    return Program(
        target="loihi",
        inputs=(ProgramInput(name="in", shape=(1,), kind="graded", low=-high, high=high),),
        populations=(Neurons(name="n", shape=(1,), **{**defaults, **fields}),),  # type: ignore[arg-type]
        connections=(
            Connection(
                name="in-n",
                source="in",
                target="n",
                operator=Dense(weight=np.array([[weight]])),
                weight_exp=weight_exp,
                num_weight_bits=8,
                sign_mode="mixed",
                delay=1,
            ),
        ),
        outputs=("n",),
    )


def graded(*values: int) -> dict[str, Array]:
    return {"in": np.array(values, dtype=np.int64).reshape(1, -1, 1)}


def test_strict_runs_refuse_to_wrap() -> None:
    program = one_neuron(weight=128, high=2000)
    inputs = graded(1024, 0, 0)  # 1024 * 128 << 6 == 2**23, the first that does not fit
    assert golden.run(program, inputs).events["n/current wrapped"] == 1
    with pytest.raises(BackendError, match="currents left 24 bits"):
        golden.run(program, inputs, strict=True)
    assert not golden.run(program, graded(1023, 0, 0), strict=True).events.get("n/current wrapped")


def test_strict_runs_accept_saturation() -> None:
    program = one_neuron(initial_voltage=(1 << 23) - 1, bias_mant=4095, reset="none")
    trace = golden.run(program, graded(0, 0), probes=[("n", "voltage")], strict=True)
    assert trace.events == {"n/voltage saturated": 2}
    assert trace["n", "voltage"].ravel().tolist() == [(1 << 23) - 1] * 2


def test_a_subtraction_at_the_spike_stays_in_24_bits() -> None:
    program = one_neuron(
        initial_voltage=(1 << 23) - 1, reset="subtract", reset_value=-64, vth=(1 << 17) - 1
    )
    trace = golden.run(program, graded(0), probes=[("n", "voltage")])
    assert trace["n", "voltage"].item() == (1 << 23) - 1


def test_sums_that_64_bits_would_not_hold_are_refused() -> None:
    program = one_neuron(weight=254, weight_exp=15, high=(1 << 31) - 1)
    with pytest.raises(BackendError, match="B050 at population 'n'"):
        golden.run(program, graded(0))


def test_by_default_spikes_and_readout_voltages_are_recorded() -> None:
    readout = one_neuron(vth=None, reset="none")
    assert readout.default_probes == (("n", "voltage"),)
    assert one_neuron().default_probes == (("n", "spikes"),)
    assert list(golden.run(readout, graded(1)).values) == [("n", "voltage")]
