"""Programs with fields at their ends: every engine computes exact integers, or all refuse."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_programs import random_inputs, random_program

from spikec.backends import open_backend
from spikec.compiler.arrays import Array, frozen
from spikec.compiler.errors import BackendError, GraphError
from spikec.compiler.fixedpoint import STATE_MAX
from spikec.compiler.ir import SourceView
from spikec.compiler.limits import MOST_STEPS
from spikec.compiler.operators import Conv2d, Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput

ENGINES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("simulator", {"engine": "golden"}), ("simulator", {"engine": "fast"}), ("c", {}),
)  # fmt: skip


def one(
    *,
    operator: Dense | Conv2d | None = None,
    shape: tuple[int, ...] = (1,),
    entry: dict[str, Any] | None = None,
    wire: dict[str, Any] | None = None,
    **fields: Any,
) -> Program:
    """A neuron that keeps its current, and what drives it."""
    given_input = {"shape": (1,), "kind": "binary", "low": 0, "high": 1, **(entry or {})}
    neurons = {"du": frozen(4095), "dv": frozen(4096), "vth": None, "reset": "none",
               "reset_order": "at_spike", **fields}  # fmt: skip
    connection = {"weight_exp": 0, "num_weight_bits": 8, "sign_mode": "mixed", "delay": 1,
                  **(wire or {})}  # fmt: skip
    return Program(
        target="loihi",
        inputs=(ProgramInput(name="i", **given_input),),
        populations=(Neurons(name="p", shape=shape, **neurons),),
        connections=(
            Connection(
                name="c", source="i", target="p",
                operator=operator or Dense(weight=np.array([[2]])), **connection,
            ),
        ),
        outputs=("p",),
    )  # fmt: skip


REFUSED: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"binary {low}..{high}": ("P014", {"entry": {"low": low, "high": high}})
       for low, high in ((0, 3), (0, 0), (1, 1), (-1, 1), (-9, 9), (0, 5))},
    "graded the wrong way": ("P014", {"entry": {"kind": "graded", "low": 2, "high": 1}}),
    "graded with a fraction": ("P014", {"entry": {"kind": "graded", "frac_bits": 1}}),
    "bounds of 33 bits": ("P014", {"entry": {"kind": "graded", "high": 1 << 31}}),
    "half a bound": ("P014", {"entry": {"kind": "graded", "high": 1.5}}),
    "frac_bits": ("P014", {"entry": {"kind": "analog", "frac_bits": 2000}}),
    "shift": ("P014", {"entry": {"shift": 1 << 63}}),
    "no shape": ("P017", {"entry": {"shape": ()}}),
    "a shape of lists": ("P017", {"entry": {"shape": [1]}}),
    "delay": ("P021", {"wire": {"delay": 1 << 31}}),
    "half a delay": ("P021", {"wire": {"delay": 1.5}}),
    "true delay": ("P021", {"wire": {"delay": True}}),
    "weight_exp": ("P022", {"wire": {"weight_exp": 16}}),
    "start": ("P011", {"start": 1 << 31}),
    "refractory 2^31": ("P011", {"refractory": 1 << 31}),
    "refractory 2^32 + 1": ("P011", {"refractory": (1 << 32) + 1}),
    "refractory 2^63": ("P011", {"refractory": 1 << 63}),
    "max_spikes": ("P011", {"max_spikes": 256}),
    "lag": ("P011", {"view": SourceView(lag=1 << 16)}),
    "current lag": ("P011", {"view": SourceView(current_lag=-(1 << 63))}),
    "lsb": ("P018", {"lsb": float("nan")}),
    "no lsb": ("P018", {"lsb": 0.0}),
    "offset": ("P018", {"view": SourceView(voltage_offset=frozen([1.0, 2.0]))}),
    "scale": ("P018", {"view": SourceView(current_scale=frozen(0.0))}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_engines_would_read_differently_is_no_program(case: str) -> None:
    code, fields = REFUSED[case]
    with pytest.raises(GraphError) as caught:
        one(**fields)
    assert {item.code for item in caught.value.diagnostics} == {code}


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 2, 1), (4, 1, 1), (4,), (2, 2)])
def test_a_convolution_gives_its_targets_shape(shape: tuple[int, ...]) -> None:
    operator = Conv2d(weight=np.array([2, 4, 6, 8]).reshape(2, 1, 1, 2))  # (1, 1, 3) -> (2, 1, 2)
    entry = {"shape": (1, 1, 3)}
    assert one(operator=operator, shape=(2, 1, 2), entry=entry).num_neurons == 4
    with pytest.raises(GraphError, match=r"P024 at connection 'c': gives \(2, 1, 2\), target has"):
        one(operator=operator, shape=shape, entry=entry)


def test_what_delays_keep_has_a_bound() -> None:
    wide = Dense(weight=np.zeros((1, 1 << 17), np.int16))
    entry = {"shape": (1 << 17,)}
    assert one(operator=wide, entry=entry, wire={"delay": 64}).longest_wait == 64
    with pytest.raises(GraphError, match="P021 at program: what 131073 neurons and inputs send"):
        one(operator=wide, entry=entry, wire={"delay": MOST_STEPS})


def exact_currents(program: Program, given: Array) -> list[int]:
    """The equations in Python's integers: one input, one neuron, one step of delay."""
    neurons, connection = program.populations[0], program.connections[0]
    assert isinstance(neurons, Neurons)
    weight = int(connection.operator.weight.item()) << connection.weight_exp
    keep, current, found = 4095 - int(neurons.du.item()), 0, []
    for arrived in (0, *given.ravel().tolist()[:-1]):
        summed = current * keep
        summed = (abs(summed) >> 12) * (1 if summed >= 0 else -1) + (arrived * weight << 6)
        span = 2 * (STATE_MAX + 1)
        if summed > STATE_MAX + 1:
            summed -= span
        current = summed + span if summed <= -(STATE_MAX + 1) else summed
        found.append(current)
    return found


def currents(
    name: str, options: dict[str, Any], program: Program, given: Array
) -> list[int] | None:
    """What an engine gives; None where it refuses the program, as its check says."""
    backend = open_backend(name, **options)
    codes = [item.code for item in backend.check(program)]
    if codes:
        assert codes == ["B050"]
        with pytest.raises(BackendError, match="B050 at population 'p'"):
            backend.load(program).run({"i": given})
        return None
    trace = backend.load(program).run({"i": given}, probes=[("p", "current")])
    values: list[int] = trace["p", "current"].ravel().tolist()
    return values


@settings(max_examples=25, deadline=None)
@given(
    bits=st.integers(20, 31),
    exponent=st.integers(0, 15),
    mantissa=st.sampled_from([254, -256, 2]),
    du=st.sampled_from([0, 1, 7, 4095]),
    seed=st.integers(0, 1 << 32),
)
def test_currents_are_exact_or_refused_by_all(
    bits: int, exponent: int, mantissa: int, du: int, seed: int
) -> None:
    most = (1 << bits) - 1
    program = one(
        operator=Dense(weight=np.array([[mantissa]])),
        entry={"kind": "graded", "low": -most, "high": most},
        wire={"weight_exp": exponent},
        du=frozen(du),
    )
    rng = np.random.default_rng(seed)
    given_values = rng.choice(np.array([-most, most, 0, rng.integers(-most, most)]), (1, 12, 1))
    found = [currents(name, options, program, given_values) for name, options in ENGINES]
    assert found in ([None] * 3, [exact_currents(program, given_values)] * 3)
    # Nothing is refused whose currents could not come near 50 bits.
    settled = Fraction((most * abs(mantissa) << exponent << 6) * 4096, du + 1)
    assert found[0] is not None or settled >= 1 << 49


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_engines_agree_on_the_longest_times(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng, max_neurons=5, max_populations=2)
    inputs = random_inputs(program, rng, samples=2, steps=6)
    changed = []
    for item in program.populations:
        assert isinstance(item, Neurons)
        rests = item.reset_order == "at_spike" and item.vth is not None
        rest = int(rng.choice([MOST_STEPS, MOST_STEPS - 1, 4])) if rests else 0
        lags = (int(rng.choice([-MOST_STEPS, -1, 40])), int(rng.choice([-MOST_STEPS, 0, 40])))
        view = SourceView(lag=lags[0], current_lag=lags[1])
        start = int(rng.choice([0, 3, MOST_STEPS]))
        changed.append(replace(item, refractory=rest, view=view, start=start))
    wires = tuple(replace(item, delay=int(rng.choice([1, item.delay, MOST_STEPS])))
                  for item in program.connections)  # fmt: skip
    program = replace(program, populations=tuple(changed), connections=wires)
    probes = [(item.name, what) for item in changed for what in ("spikes", "voltage", "current")]
    first, *others = (
        open_backend(name, **options).load(program).run(inputs, probes=probes)  # type: ignore[arg-type]
        for name, options in ENGINES
    )
    for trace in others:
        assert trace.events == first.events
        for probe in probes:
            np.testing.assert_array_equal(trace.values[probe], first.values[probe])  # type: ignore[index]
