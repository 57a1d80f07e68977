"""Every rule of a program, broken once, and what its parts derive."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spikec.compiler.errors import GraphError
from spikec.compiler.operators import Conv2d, Dense
from spikec.compiler.program import (
    Connection,
    Neurons,
    Program,
    ProgramInput,
    SignMode,
    sign_mode_of,
)

STATE_MAX = (1 << 23) - 1


def entry(**fields: Any) -> ProgramInput:
    return ProgramInput(
        **{"name": "in", "shape": (2,), "kind": "binary", "low": 0, "high": 1, **fields}
    )


def neurons(**fields: Any) -> Neurons:
    return Neurons(
        **{
            "name": "n", "shape": (2,), "du": 0, "dv": 0, "vth": 5,
            "reset": "zero", "reset_order": "at_spike", **fields,
        }
    )  # fmt: skip


def connection(weight: Any = 2, **fields: Any) -> Connection:
    weights = np.broadcast_to(weight, (2, 2))
    return Connection(
        **{
            "name": "c", "source": "in", "target": "n", "operator": Dense(weight=weights),
            "weight_exp": 0, "num_weight_bits": 8, "sign_mode": "mixed", "delay": 1, **fields,
        }
    )  # fmt: skip


def program(*parts: Any, **fields: Any) -> Program:
    """Build a program from inputs, populations and connections; missing ones are added."""
    inputs = tuple(item for item in parts if isinstance(item, ProgramInput)) or (entry(),)
    populations = tuple(item for item in parts if isinstance(item, Neurons)) or (neurons(),)
    connections = tuple(item for item in parts if isinstance(item, Connection)) or (connection(),)
    return Program(
        **{
            "target": "loihi", "inputs": inputs, "populations": populations,
            "connections": connections, "outputs": ("n",), **fields,
        }
    )  # fmt: skip


def test_the_program_that_these_tests_break_is_valid() -> None:
    built = program()
    assert built.num_neurons == built.population("n").num_neurons == 2
    assert built.connections_into("n") == built.connections
    with pytest.raises(KeyError):
        built.population("in")


OUT_OF_RANGE: dict[str, tuple[dict[str, Any], str]] = {
    "du": ({"du": 4096}, "du spans 4096..4096, not 0..4095"),
    "negative du": ({"du": [0, -1]}, "du spans -1..0"),
    "dv": ({"dv": 4097}, "dv spans 4097..4097, not 0..4096"),
    "vth": ({"vth": 1 << 17}, "vth spans 131072..131072"),
    "bias_mant": ({"bias_mant": 4096}, "bias_mant spans 4096..4096, not -4096..4095"),
    "bias_exp": ({"bias_exp": 8}, "bias_exp spans 8..8, not -8..7"),
    "reset_value": (
        {"reset": "subtract", "reset_value": STATE_MAX + 65}, "reset_value spans 8388672",
    ),
    "initial_current": ({"initial_current": STATE_MAX + 1}, "initial_current spans"),
    "initial_voltage": ({"initial_voltage": -STATE_MAX - 1}, "initial_voltage spans"),
    "unknown reset": ({"reset": "soft"}, "reset soft at_spike is unknown"),
    "unknown order": ({"reset_order": "now"}, "reset zero now is unknown"),
    "value reset without value": ({"reset": "value"}, "reset 'value' without reset_value"),
    "integrator with a reset": ({"vth": None}, "a leaky integrator has reset 'none'"),
    "negative refractory": ({"refractory": -1}, "refractory is -1, not 0..32767"),
    "negative start": ({"start": -1}, "start is -1, not 0..32767"),
    "too many spikes a step": (
        {"max_spikes": 256, "reset": "subtract"}, "max_spikes is 256, not 1..255",
    ),
    "several spikes and a reset to zero": ({"max_spikes": 2}, "max_spikes needs reset 'subtract'"),
    "reset twice to zero": ({"reset_twice": True}, "reset_twice needs reset 'subtract'"),
    "starts below the floor": (
        {"floor": 0, "initial_voltage": -1}, "initial_voltage lies below floor",
    ),
    "refractory at next step": (
        {"refractory": 1, "reset_order": "next_step"}, "refractory steps need reset_order",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", OUT_OF_RANGE)
def test_a_population_out_of_range_is_named(case: str) -> None:
    fields, text = OUT_OF_RANGE[case]
    with pytest.raises(GraphError) as caught:
        program(neurons(**fields))
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.where) == ("P011", "population 'n'")
    assert text in finding.message


BROKEN: dict[str, tuple[Callable[[], object], str, str, str]] = {
    "fractional decay": (
        lambda: neurons(du=0.5), "P001", "population 'n'", "du: integers are needed",
    ),
    "decay that is text": (lambda: neurons(du="a"), "P001", "population 'n'", "du: "),
    "parameter of a wrong shape": (
        lambda: neurons(dv=[1, 2, 3]), "P001", "population 'n'", "neither scalar nor (2,)",
    ),
    "fractional weight": (
        lambda: connection(0.5), "P001", "connection 'c'", "weights: integers are needed",
    ),
    "name twice": (
        lambda: program(entry(), neurons(), neurons()), "P010", "program", "used twice",
    ),
    "name with a separator": (
        lambda: program(connection(name="a/b")), "P010", "connection 'a/b'", "hold '/'",
    ),
    "name of an input": (
        lambda: program(entry(name="in\0"), connection(source="in\0")), "P010", "input 'in\0'",
        "must not",
    ),
    "integrator that sends": (
        lambda: program(
            neurons(), neurons(name="r", vth=None, reset="none"), connection(source="r")
        ),
        "P012", "connection 'c'", "'r' sends no spikes",
    ),
    "output that is an input": (
        lambda: program(outputs=("in",)), "P013", "program", "'in' is not a population",
    ),
    "no output": (lambda: program(outputs=()), "P013", "program", "no output is named"),
    "unknown kind": (
        lambda: program(entry(kind="spikes")), "P014", "input 'in'", "kind 'spikes' is unknown",
    ),
    "bounds the wrong way": (
        lambda: program(entry(low=2)), "P014", "input 'in'", "bounds 2..1 are not ordered",
    ),
    "negative shift": (
        lambda: program(entry(shift=-1)), "P014", "input 'in'", "shift is -1, not 0..32767",
    ),
    "connection to nowhere": (
        lambda: program(connection(target="x")), "P020", "connection 'c'", "does not exist",
    ),
    "no delay": (
        lambda: program(connection(delay=0)), "P021", "connection 'c'", "retime the graph first",
    ),
    "too many bits": (
        lambda: program(connection(num_weight_bits=9)), "P022", "connection 'c'", "1..8 bits",
    ),
    "negative exponent": (
        lambda: program(connection(weight_exp=-1)), "P022", "connection 'c'", "0 and more",
    ),
    "mixed out of range": (
        lambda: program(connection(256)), "P023", "connection 'c'", "leave -256..254",
    ),
    "excitatory below zero": (
        lambda: program(connection(-1, sign_mode="excitatory")),
        "P023", "connection 'c'", "excitatory mantissas leave 0..255",
    ),
    "inhibitory above zero": (
        lambda: program(connection(1, sign_mode="inhibitory")),
        "P023", "connection 'c'", "inhibitory mantissas leave -255..0",
    ),
    "odd mixed mantissa": (
        lambda: program(connection(3)), "P023", "connection 'c'", "8 mixed bits store no finer",
    ),
    "finer than its bits": (
        lambda: program(connection(8, sign_mode="excitatory", num_weight_bits=4)),
        "P023", "connection 'c'", "not multiples of 16",
    ),
    "weight of a wrong shape": (
        lambda: program(entry(shape=(3,))), "P024", "connection 'c'", "takes 2 inputs",
    ),
    "target of a wrong shape": (
        lambda: program(neurons(shape=(3,))), "P024", "connection 'c'", "target has (3,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_rule_is_named(case: str) -> None:
    build, code, where, text = BROKEN[case]
    with pytest.raises(GraphError) as caught:
        build()
    finding = caught.value.diagnostics[0]
    assert (finding.code, finding.where) == (code, where)
    assert text in f"{finding.message} {finding.hint}"


def test_an_unknown_sign_mode_is_refused() -> None:
    with pytest.raises(GraphError, match="P023 at connection 'c'"):
        program(connection(sign_mode="both"))


def test_an_unknown_source_is_named_once() -> None:
    with pytest.raises(GraphError) as caught:
        program(connection(source="x"))
    assert [item.code for item in caught.value.diagnostics] == ["P020"]


def test_all_findings_are_raised_at_once() -> None:
    with pytest.raises(GraphError) as caught:
        program(neurons(du=-1, dv=-1), connection(delay=0, weight_exp=99), outputs=("x",))
    codes = [item.code for item in caught.value.diagnostics]
    assert codes == ["P011", "P011", "P021", "P022", "P013"]


@pytest.mark.parametrize(
    ("mode", "bits", "step"),
    [("mixed", 8, 2), ("mixed", 1, 256), ("excitatory", 8, 1), ("inhibitory", 1, 128)],
)
def test_the_step_of_mantissas_follows_bits_and_sign(mode: SignMode, bits: int, step: int) -> None:
    assert connection(0, sign_mode=mode, num_weight_bits=bits).step == step
    extreme = -step if mode != "excitatory" else step
    assert program(connection(extreme, sign_mode=mode, num_weight_bits=bits)).num_neurons == 2


def test_effective_weights_are_shifted_and_wide() -> None:
    effective = connection([[254, -256], [2, 0]], weight_exp=15).effective
    assert effective.weight.tolist() == [[254 << 15, -256 << 15], [2 << 15, 0]]
    conv = connection(operator=Conv2d(weight=np.full((1, 1, 1, 1), 4)), weight_exp=1).effective
    assert isinstance(conv, Conv2d)
    assert conv.weight.tolist() == [[[[8]]]]


def test_whole_floats_count_as_integers() -> None:
    built = neurons(du=np.array([1.0, 2.0]), vth=np.float32(3))
    assert built.du.tolist() == [1, 2]
    assert built.vth is not None
    assert built.vth.dtype == np.int64
    assert built.vth.tolist() == [3, 3]


def test_bias_and_reset_amount_are_in_units_of_the_voltage() -> None:
    built = neurons(bias_mant=[3, -3], bias_exp=[2, -1], vth=[2, 3])
    assert built.bias.tolist() == [12, -2]
    assert built.reset_amount.tolist() == [128, 192]
    assert neurons(reset="subtract", reset_value=7).reset_amount.tolist() == [7, 7]


@pytest.mark.parametrize(
    ("weights", "mode"),
    [([0, 0], "excitatory"), ([0, 3], "excitatory"), ([-3, 0], "inhibitory"), ([-1, 1], "mixed")],
)
def test_the_sign_mode_follows_the_weights(weights: list[int], mode: SignMode) -> None:
    assert sign_mode_of(np.array(weights)) == mode


MUST_BE_REFUSED: dict[str, Callable[[], object]] = {
    "a weight that wraps into 16 bits": lambda: program(connection(65538)),
    "a zero reset with a value": lambda: program(neurons(reset="zero", reset_value=77)),
    "a subtraction that drops input": lambda: program(
        neurons(reset="subtract", reset_order="next_step", reset_drops_input=True)
    ),
    "input dropped at the spike": lambda: program(neurons(reset_drops_input=True)),
    "a reset to beyond 24 bits": lambda: program(
        neurons(reset="value", reset_value=STATE_MAX + 64)
    ),
    "a connection into an input": lambda: program(connection(source="n", target="in")),
    "bounds beyond 32 bits": lambda: program(entry(kind="graded", high=1 << 40)),
}


@pytest.mark.parametrize("case", MUST_BE_REFUSED)
def test_what_would_run_as_something_else_is_refused(case: str) -> None:
    with pytest.raises(GraphError):
        MUST_BE_REFUSED[case]()
