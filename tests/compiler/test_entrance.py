"""Wrong arrays, at every entrance: what is not refused gives what the right array gives."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.odd_arrays import SAME, SPIKES, WRONG, WRONG_SPIKES

from spikec.backends import open_backend
from spikec.backends.lava.environment import LavaPython
from spikec.backends.lava.run import LavaExecutable
from spikec.backends.sanafe import run as sanafe
from spikec.backends.simulator import fast, golden
from spikec.backends.simulator.engine import SimulatorExecutable
from spikec.backends.simulator.layout import laid_out
from spikec.compiler import rate, reference
from spikec.compiler.arrays import Array, frozen
from spikec.compiler.entrance import checked, taken
from spikec.compiler.errors import GraphError, QuantizationError, SpikecError, UsageError
from spikec.compiler.inputs import Dataset, Stream, check_data, to_integers
from spikec.compiler.ir import Graph, Input, Source
from spikec.compiler.mapping.mapper import map_program, recorded
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.quantize import compile_graph
from spikec.compiler.quantize.budget import compile_mixed, loss_table
from spikec.compiler.quantize.observe import observe
from spikec.compiler.relu import Branch, Layer, ReluNetwork
from spikec.compiler.targets import load_target
from spikec.compiler.trace import Trace, read_out
from spikec.compiler.validation.validate import validate
from spikec.compiler.verification.attribution import attribute
from spikec.compiler.verification.ladder import verify
from spikec.models import (
    conv2d,
    decay_factor,
    dense,
    network,
    seed_lif,
    seed_network,
    sparse,
    spikes,
)  # fmt: skip

TARGET = load_target("loihi2")
#: Forms whose shape is right, and numbers are not.
NUMBERS = ("NaN", "NaN of 16 bits", "infinity", "minus infinity", "a half")


@cache
def graph() -> Graph:
    rng = np.random.default_rng(1)
    return network(
        dt=1e-3,
        nodes=[
            spikes("x", 5),
            seed_lif("h", 4, alpha=0.6, beta=0.8),
            seed_lif("o", 3, alpha=0.5, beta=0.9),
        ],
        edges=[
            dense("x", "h", rng.normal(0.3, 0.6, (4, 5))),
            dense("h", "o", rng.normal(0.3, 0.6, (3, 4))),
        ],
        outputs=["o"],
    )


@cache
def program() -> Program:
    return compile_graph(graph(), TARGET).program


@cache
def engine(name: str) -> Any:
    options = {} if name == "c" else {"engine": name}
    return open_backend("c" if name == "c" else "simulator", **options).load(program())


@cache
def relu() -> ReluNetwork:
    entry = Input(name="x", shape=(5,), kind="analog", low=None, high=None)
    weight = np.random.default_rng(2).normal(0.4, 0.4, (4, 5))
    branch = Branch(source="x", operator=Dense(weight=weight))
    layers = (
        Layer(name="h", shape=(4,), branches=(branch,), bias=np.full(4, 0.1)),
        Layer(name="r", shape=(3,), bias=np.zeros(3), rectified=False,
              branches=(Branch(source="h", operator=Dense(weight=weight[:3, :4])),)),
    )  # fmt: skip
    return ReluNetwork(inputs=(entry,), layers=layers, outputs=("r",), source=Source())


def content(trace: Trace) -> dict[str, Any]:
    return {str(probe): values for probe, values in trace.values.items()} | dict(trace.events)


def chunked(session: Any, inputs: Any) -> dict[str, Any]:
    return content(session.run(inputs, last=True)) | dict(session.events)


def streamed(executable: SimulatorExecutable, inputs: Any) -> dict[str, Any]:
    data = Stream(inputs=inputs, entries=program().inputs)
    pieces = [piece for _, _, piece in executable.stream(data, samples=2, steps=3)]
    return {f"{number}": piece["o", "spikes"] for number, piece in enumerate(pieces)}


def on_lava(inputs: Any) -> dict[str, Any]:
    """What would enter Lava: the child is not started."""
    given: dict[str, Any] = {}

    class Stopped(LavaExecutable):
        def _run_child(self, integers: Mapping[str, Array], *_: Any) -> dict[str, Array]:
            given.update(integers)
            return {}

    python = LavaPython(path=Path("python"), version="0.10.0", origin="test")
    Stopped(program=program(), python=python, timeout=1, batch=1).run(inputs)
    return given


def on_sanafe(inputs: Any) -> dict[str, Any]:
    """What would enter SANA-FE: nothing is emitted."""
    given: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sanafe, "emit", lambda *_: None)
        patch.setattr(sanafe, "run_child", lambda command, **_: given.update(
            np.load(command[command.index("--input") + 1])) or _stop())  # fmt: skip
        with pytest.raises(_StoppedError):
            sanafe.simulate(program(), inputs, python="python", timeout=1)
    return given


class _StoppedError(Exception):
    pass


def _stop() -> None:
    raise _StoppedError


def integers(inputs: Any) -> dict[str, Any]:
    found, events = to_integers(program(), inputs)
    return found | dict(events)


def compiled(inputs: Any) -> dict[str, Any]:
    result = compile_graph(graph(), TARGET, calibration=Dataset(inputs=inputs))
    return {item.name: item.operator.weight for item in result.program.connections}


def mixed(inputs: Any) -> dict[str, Any]:
    table = loss_table(graph(), TARGET, Dataset(inputs=inputs))
    result = compile_mixed(
        graph(), TARGET, calibration=Dataset(inputs=inputs), budget=30, table=table
    )
    return {item.name: item.operator.weight for item in result.program.connections}


def verified(inputs: Any) -> dict[str, Any]:
    data = Dataset(inputs=inputs)
    report = verify(program(), data, golden=engine("golden"), graph=graph(),
                    backends={"simulator": engine("fast")})  # fmt: skip
    return report.as_dict()


def costs(inputs: Any) -> dict[str, Any]:
    canonical = compile_graph(graph(), TARGET).canonical
    return attribute(canonical, program(), Dataset(inputs=inputs), threads=1).as_dict()


#: Every way in, and what comes out: the same for all forms of the same numbers.
ENTRANCES: dict[str, Callable[[Any], Mapping[str, Any]]] = {
    "golden executable": lambda inputs: content(engine("golden").run(inputs)),
    "fast executable": lambda inputs: content(engine("fast").run(inputs)),
    "c executable": lambda inputs: content(engine("c").run(inputs)),
    "lava executable": on_lava,
    "sanafe": on_sanafe,
    "golden session": lambda inputs: chunked(engine("golden").session(3), inputs),
    "fast session": lambda inputs: chunked(engine("fast").session(3), inputs),
    "golden stream": lambda inputs: streamed(engine("golden"), inputs),
    "fast stream": lambda inputs: streamed(engine("fast"), inputs),
    "golden.run": lambda inputs: content(golden.run(program(), inputs)),
    "golden.session": lambda inputs: content(golden.session(program(), samples=3).run(inputs)),
    "golden.Chunks": lambda inputs: chunked(
        golden.Chunks(program(), samples=3, probes=program().default_probes), inputs
    ),
    "fast.run": lambda inputs: content(
        fast.run(laid_out(program()), inputs, program().default_probes)
    ),
    "fast.Session": lambda inputs: chunked(
        fast.Session(laid_out(program()), samples=3, probes=program().default_probes), inputs
    ),
    "reference.run": lambda inputs: content(reference.run(graph(), inputs)),
    "reference.session": lambda inputs: content(reference.session(graph(), samples=3).run(inputs)),
    "to_integers": integers,
    "checked": lambda inputs: checked(inputs, graph().inputs),
    "check_data": lambda inputs: (
        check_data(Dataset(inputs=inputs), graph().inputs, where="data").inputs
    ),
    "observe": lambda inputs: observe(graph(), Dataset(inputs=inputs)).voltages,
    "compile_graph": compiled,
    "compile_mixed": mixed,
    "verify": verified,
    "validate": lambda inputs: {"": str(validate(program(), graph(), data=Dataset(inputs=inputs)))},
    "attribute": costs,
}


def equal(found: Any, expected: Any) -> bool:
    if isinstance(expected, np.ndarray):
        return np.array_equal(found, expected) and np.shape(found) == expected.shape
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(
            equal(found[key], expected[key]) for key in expected
        )
    return bool(found == expected)


@cache
def expected(entrance: str) -> Mapping[str, Any]:
    return ENTRANCES[entrance]({"x": SPIKES})


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("form", SAME)
def test_forms_of_the_same_numbers_are_the_same(entrance: str, form: str) -> None:
    assert equal(dict(ENTRANCES[entrance](SAME[form](SPIKES))), dict(expected(entrance)))


@pytest.mark.parametrize(
    ("entrance", "form"),
    [
        (entrance, form)
        for entrance in ENTRANCES
        for form in (*WRONG, *WRONG_SPIKES)
        # A stream's features may have any shape, as those of files.
        if not (form == "an axis more" and entrance.endswith("stream"))
    ],
)
def test_what_no_network_takes_is_refused(entrance: str, form: str) -> None:
    with pytest.raises(UsageError) as caught:
        ENTRANCES[entrance]({**WRONG, **WRONG_SPIKES}[form](SPIKES))
    assert {item.code for item in caught.value.diagnostics} <= {"U040", "U041", "U042"}


@pytest.mark.parametrize("shape", [(0, 7, 5), (3, 0, 5), (0, 0, 5)])
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_no_samples_and_no_steps_are_nothing_or_refused(entrance: str, shape: Any) -> None:
    try:
        found = ENTRANCES[entrance]({"x": np.zeros(shape, np.uint8)})
    except SpikecError:
        return
    assert not any(np.any(item) for item in found.values())


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("another name", "there is no array 'x'; it holds y"),
        ("a name more", "inputs, 'y': the network has no such input"),
        ("one sample", "has shape [7, 5]: 2 axes where there are 3"),
        ("one feature more", "axis 2 is 6 where the network has 5"),
        ("features before steps", "its last two axes look swapped, transpose(0, 2, 1)"),
        ("features first", "axis 2 is 7 where the network has 5"),
        ("NaN", "holds NaN or infinity, first at [2, 6, 1]"),
        ("two", "spans 0..2 where a binary input takes 0 and 1, first at [2, 6, 1]"),
        ("complex numbers", "holds complex128, not numbers"),
        ("masked", "is a masked array"),
    ],
)
def test_what_is_wrong_is_named(form: str, text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(text)):
        engine("fast").run({**WRONG, **WRONG_SPIKES}[form](SPIKES))


def test_pictures_in_another_order_are_named() -> None:
    entry = Input(name="x", shape=(2, 4, 4), kind="binary", low=0, high=1)
    with pytest.raises(UsageError, match="its features are in another order, transpose them"):
        taken({"x": np.zeros((3, 7, 4, 4, 2), np.uint8)}, [entry])


def test_all_that_is_wrong_is_said_at_once() -> None:
    entries = [Input(name=name, shape=(2,), kind="graded", low=0, high=3) for name in "abc"]
    given = {"a": np.zeros((1, 2)), "b": np.full((1, 2, 2), 0.5), "d": np.zeros(1)}
    with pytest.raises(UsageError) as caught:
        checked(given, entries)
    assert [item.where for item in caught.value.diagnostics] == [
        "inputs, 'd'", "inputs, 'a'", "inputs",
    ]  # fmt: skip
    halves = dict.fromkeys("abc", given["b"])
    with pytest.raises(UsageError, match="holds fractions where a graded input takes integers"):
        checked(halves, entries)
    uneven = {"a": np.zeros((1, 2, 2)), "b": np.zeros((1, 3, 2)), "c": np.zeros((1, 2, 2))}
    with pytest.raises(UsageError, match=r"differ in samples and steps: \[\(1, 2\), \(1, 3\)\]"):
        checked(uneven, entries)


# --- the ReLU network, whose data have one step and real numbers


def converted(inputs: Any) -> dict[str, Any]:
    found = rate.convert(relu(), Dataset(inputs=inputs))[1]
    return {item.population: (item.threshold, item.rate) for item in found}


@cache
def spiking() -> Graph:
    return rate.convert(relu(), Dataset(inputs={"x": SPIKES[:, :1]}))[0]


def measured(inputs: Any) -> dict[str, Any]:
    return rate.measure(relu(), spiking(), Dataset(inputs=inputs), steps=(2, 4)).as_dict()


@pytest.mark.parametrize("entrance", [converted, measured])
@pytest.mark.parametrize("form", {**SAME, **WRONG})
def test_rate_conversion_takes_what_it_can_and_refuses_the_rest(
    entrance: Callable[[Any], dict[str, Any]], form: str
) -> None:
    stills = SPIKES[:, :1]
    if form in SAME:
        assert equal(entrance(SAME[form](stills)), entrance({"x": stills}))
        return
    with pytest.raises(UsageError):
        entrance(WRONG[form](stills))


# --- values of graded and analog inputs

LOW, HIGH = -(1 << 15), 1 << 15


def heard(kind: str, frac_bits: int = 0) -> Program:
    """One neuron that keeps what it hears, clipped at 16 bits, for a step."""
    return Program(
        target="loihi",
        inputs=(ProgramInput(name="x", shape=(1,), kind=kind, low=LOW, high=HIGH,  # type: ignore[arg-type]
                             frac_bits=frac_bits),),
        populations=(Neurons(name="p", shape=(1,), du=frozen(4095), dv=frozen(4096), vth=None,
                             reset="none", reset_order="at_spike"),),
        connections=(Connection(name="c", source="x", target="p", weight_exp=0, delay=1,
                                operator=Dense(weight=np.array([[2]])), num_weight_bits=8,
                                sign_mode="mixed"),),
        outputs=("p",),
    )  # fmt: skip


#: What is given, and the integer that enters: Python's own arithmetic.
VALUES: dict[str, tuple[str, int, Any, int]] = {
    "graded in 8 bits": ("graded", 0, np.uint8(255), 255),
    "graded in 8 bits with sign": ("graded", 0, np.int8(-128), -128),
    "graded in 16 bits": ("graded", 0, np.float16(2048), 2048),
    "graded float": ("graded", 0, np.float32(-77), -77),
    "graded beyond": ("graded", 0, np.int64(1 << 40), HIGH),
    "graded below": ("graded", 0, np.int64(-(1 << 62)), LOW),
    "graded of 64 bits without sign": ("graded", 0, np.uint64((1 << 64) - 1), HIGH),
    "graded of 32 bits without sign": ("graded", 0, np.uint32((1 << 32) - 1), HIGH),
    "graded float beyond": ("graded", 0, np.float64(1e300), HIGH),
    "graded half float beyond": ("graded", 0, np.float16(-65504), LOW),
    "graded boolean": ("graded", 0, np.bool_(True), 1),
    "analog, half to even": ("analog", 0, np.float64(2.5), 2),
    "analog with a fraction": ("analog", 3, np.float32(0.3), 2),
    "analog integers": ("analog", 3, np.int16(-5), -40),
    "analog boolean": ("analog", 3, np.bool_(True), 8),
    "analog beyond": ("analog", 3, np.float64(-1e300), LOW),
    "analog beyond all numbers": ("analog", 1023, np.float64(2), HIGH),
    "analog of nearly nothing": ("analog", -1023, np.float64(1e300), 0),
    "analog long": ("analog", 3, np.longdouble(0.75), 6),
}


@pytest.mark.parametrize("case", VALUES)
def test_values_enter_as_the_same_integer_everywhere(case: str) -> None:
    kind, frac_bits, value, wanted = VALUES[case]
    made = heard(kind, frac_bits)
    given = {"x": np.array([0, value, 0], type(value)).reshape(1, 3, 1)}
    exact = round(
        Fraction(float(value) if kind == "analog" else int(value)) * Fraction(2) ** frac_bits
    )  # half to even
    assert wanted == max(LOW, min(HIGH, exact))
    for name, options in (("simulator", {"engine": "golden"}), ("simulator", {}), ("c", {})):
        with open_backend(name, **options).load(made) as executable:
            trace = executable.run(given, probes=[("p", "current")])
        assert trace["p", "current"].ravel().tolist() == [0, 0, wanted * 2 << 6]
        assert trace.events.get("x/input clipped", 0) == (exact != wanted)


@pytest.mark.parametrize("kind", ["graded", "analog"])
@pytest.mark.parametrize("form", {**WRONG, "a half": WRONG_SPIKES["a half"]})
def test_other_inputs_refuse_what_is_no_number_of_theirs(kind: str, form: str) -> None:
    made = heard(kind)
    values = {**WRONG, **WRONG_SPIKES}[form](SPIKES)
    if form in NUMBERS:
        values = {"x": values["x"][..., 1:2]}
    for name, options in (("simulator", {"engine": "golden"}), ("simulator", {}), ("c", {})):
        with open_backend(name, **options).load(made) as executable:
            if (kind, form) == ("analog", "a half"):
                executable.run(values)
                continue
            with pytest.raises(UsageError):
                executable.run(values)


# --- sessions, probes, labels, bits


@pytest.mark.parametrize("name", ["golden", "fast"])
def test_a_session_takes_its_own_samples_until_the_last_chunk(name: str) -> None:
    session = engine(name).session(3)
    whole = engine(name).run({"x": SPIKES})
    first = session.run({"x": SPIKES[:, :4]})
    for wrong in ({"x": SPIKES[:1]}, {"x": SPIKES[:2]}, {"x": np.zeros((8, 7, 5), np.uint8)}):
        with pytest.raises(UsageError, match=r"samples \(axis 0\) where 3 run side by side"):
            session.run(wrong)
    with pytest.raises(UsageError, match="binary input takes 0 and 1"):
        session.run({"x": SPIKES + np.uint8(1)})
    second = session.run({"x": SPIKES[:, 4:]}, last=True)
    joined = Trace.joined([first, second], axis="step")
    assert equal({**joined.values}, {**whole.values})
    with pytest.raises(UsageError, match="U046 at session: it has had its last chunk"):
        session.run({"x": SPIKES})


@pytest.mark.parametrize("samples", [0, -1, 1.5, True, "3", None])
def test_a_session_is_of_some_samples(samples: Any) -> None:
    for opened in (
        engine("golden").session,
        engine("fast").session,
        lambda count: reference.session(graph(), samples=count),
        lambda count: list(engine("fast").stream(
            Stream(inputs={"x": SPIKES}, entries=program().inputs), samples=count, steps=2)),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="where a number of 1 or more is needed"):
            opened(samples)


PROBES: list[Any] = [
    [("z", "spikes")], [("h", "spike")], [("x", "spikes")], ["h:spikes"], [("h",)],
    [["h", "spikes"]], "h", [None], [("h", "spikes", 1)],
]  # fmt: skip


@pytest.mark.parametrize("probes", PROBES, ids=str)
def test_unknown_probes_are_named(probes: Any) -> None:
    given = {"x": SPIKES}
    python = LavaPython(path=Path("python"), version="0.10.0", origin="test")
    lava = LavaExecutable(program=program(), python=python, timeout=1, batch=1)
    runs: list[Callable[[], object]] = [
        lambda: engine("golden").run(given, probes=probes),
        lambda: engine("fast").run(given, probes=probes),
        lambda: engine("c").run(given, probes=probes),
        lambda: lava.run(given, probes=probes),
        lambda: engine("golden").session(3, probes),
        lambda: engine("fast").session(3, probes),
        lambda: golden.run(program(), given, probes=probes),
        lambda: reference.run(graph(), given, probes=probes),
        lambda: reference.session(graph(), samples=3, probes=probes),
    ]
    for run in runs:
        with pytest.raises(UsageError, match="U010 at probe"):
            run()


LABELS: dict[str, Any] = {
    "negative": [0, -1, 2], "beyond the outputs": [0, 9, 2], "text": ["a", "b", "x"],
    "fractions": [0.0, 1.0, 2.0], "one less": [0, 1], "two axes": [[0], [1], [2]],
    "objects": np.array([0, 1, None]), "truth values": [True, False, True],
}  # fmt: skip


@pytest.mark.parametrize("case", LABELS)
def test_labels_are_one_output_a_sample(case: str) -> None:
    def data() -> Dataset:
        return Dataset(inputs={"x": SPIKES}, labels=np.asarray(LABELS[case]))

    canonical = compile_graph(graph(), TARGET).canonical
    runs: list[Callable[[], object]] = [
        lambda: verify(program(), data(), golden=engine("golden"), backends={}),
        lambda: attribute(canonical, program(), data()),
        lambda: loss_table(graph(), TARGET, data()),
        lambda: compile_mixed(graph(), TARGET, calibration=data(), budget=30),
    ]
    for run in runs:
        with pytest.raises(UsageError, match=r"U04[35] at (data|calibration data), 'labels'"):
            run()


@pytest.mark.parametrize("bits", [True, 8.0, "8", 0, 9, -3])
def test_bits_of_weights_are_a_whole_number(bits: Any) -> None:
    with pytest.raises(QuantizationError, match=r"Q001 at target 'loihi2': weights of .* bits"):
        compile_graph(graph(), TARGET, weight_bits=bits)


@pytest.mark.parametrize("delay", [6, 7, 12])
def test_calibration_may_be_shorter_than_a_delay(delay: int) -> None:
    late = graph().rewritten(nodes={"x": replace(graph()["x"], shift=delay)})
    observed = observe(late, Dataset(inputs={"x": SPIKES}))
    shown = np.zeros_like(SPIKES)
    shown[:, delay:] = SPIKES[:, : max(0, 7 - delay)]
    assert equal(observed.sent["x"], shown)


RATES: dict[str, Any] = {
    "not there": {"h": np.ones(4)}, "no source": {"z": np.ones(1)}, "shape": {"x": np.ones(4)},
    "negative": {"x": -np.ones(5)}, "NaN": {"x": np.full(5, np.nan)}, "text": {"x": list("abcde")},
}  # fmt: skip


@pytest.mark.parametrize("case", RATES)
def test_rates_are_one_number_a_source(case: str) -> None:
    whole = {"x": np.ones(5), "h": np.ones(4)}
    assert map_program(program(), TARGET, rates=whole).measured
    wrong = RATES[case] if case == "not there" else {**whole, **RATES[case]}
    mapped = map_program(program(), TARGET).program
    for run in (lambda: map_program(program(), TARGET, rates=wrong),
                lambda: recorded(mapped, TARGET, rates=wrong)):  # fmt: skip
        with pytest.raises(UsageError, match="U131 at rates, '"):
            run()


# --- readouts


READ: dict[str, Any] = {
    "flat": np.zeros((3, 7)), "no neurons": np.zeros((3, 7, 0)), "text": np.full((3, 7, 3), "a"),
    "NaN": np.full((3, 7, 3), np.nan), "objects": np.full((3, 7, 3), None), "none": None,
    "no steps": np.zeros((3, 0, 3)), "complex": np.zeros((3, 7, 3), complex),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_readouts_refuse_what_they_cannot_read(case: str) -> None:
    trace = Trace(values={("o", "voltage"): READ[case]}, outputs=("o",))
    for readout in ("max-voltage", "last-voltage", "mean-voltage"):
        with pytest.raises(UsageError, match="U011 at output 'o'"):
            read_out(trace, readout)  # type: ignore[arg-type]


def test_readouts_that_do_not_exist_are_named() -> None:
    trace = Trace(values={("o", "voltage"): np.zeros((3, 7, 3))}, outputs=("o",))
    with pytest.raises(UsageError, match="U011 at readout 'most': there is no such readout"):
        read_out(trace, "most")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="U011 at trace: it names no output"):
        read_out(Trace(values={}, outputs=()))


# --- parameters

PARAMETERS: dict[str, Any] = {
    "objects": [[None] * 5] * 4, "text": [["1"] * 5] * 4, "complex": np.ones((4, 5), complex),
    "masked": np.ma.masked_equal(np.eye(4, 5), 1), "rows of different length": [[1, 2], [3]],
    "days": np.zeros((4, 5), "M8[D]"), "a dictionary": {}, "a word": "a", "NaN": np.nan,
    "three axes": np.ones((2, 2, 2)), "five axes": np.ones((1, 1, 1, 1, 2)), "none": None,
}  # fmt: skip


@pytest.mark.parametrize("case", PARAMETERS)
def test_parameters_of_graphs_are_numbers(case: str) -> None:
    value = PARAMETERS[case]

    def built(edge: Any = None, shape: Any = 5, **fields: Any) -> Graph:
        node = seed_lif("h", 4, **{"alpha": 0.5, "beta": 0.5, **fields})
        return network(
            dt=1e-3,
            nodes=[spikes("x", shape), node],
            edges=[edge or dense("x", "h", np.ones((4, 5)))],
            outputs=["h"],
        )

    builders: dict[str, Callable[[], object]] = {
        "dense": lambda: built(dense("x", "h", value)),
        "conv2d": lambda: built(conv2d("x", "h", value), shape=(1, 3, 3)),
        "sparse": lambda: built(sparse("x", "h", value, sources=[0], targets=[0], shape=(4, 5))),
        "sources": lambda: built(sparse("x", "h", [1.0], sources=value, targets=[0], shape=(4, 5))),
        "seed_network": lambda: seed_network(feedforward=[value], alpha=0.5, beta=0.5),
        "decay_factor": lambda: decay_factor(value, dt=-1e-3),
        **{
            name: lambda name=name: built(**{name: value})
            for name in ("alpha", "beta", "vth", "rest", "gain", "initial_current")
            if not (value is None and name in ("alpha", "initial_current"))
        },
    }
    for build in builders.values():
        with pytest.raises(SpikecError):
            build()


@pytest.mark.parametrize("case", PARAMETERS)
@pytest.mark.parametrize("field", Neurons.PER_NEURON)
def test_parameters_of_programs_are_numbers(case: str, field: str) -> None:
    value = PARAMETERS[case]
    if value is None and field in ("vth", "reset_value", "floor"):
        value = "None"
    defaults = {"du": frozen(1), "dv": frozen(1), "vth": frozen(1)}
    with pytest.raises(GraphError, match=f"P001 at population 'p': {field}: "):
        Neurons(name="p", shape=(4,), reset="zero", reset_order="at_spike",
                **{**defaults, field: value})  # fmt: skip
