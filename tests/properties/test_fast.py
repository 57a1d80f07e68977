"""The fast engine is golden to the last bit: spikes, states and counted events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.delayed_programs import apart, delayed
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import codes, fast, golden, kernels
from spikec.backends.simulator import layout as layouts
from spikec.backends.simulator.layout import Layout, laid_out
from spikec.compiler.arrays import Array, aligned, frozen, sealed
from spikec.compiler.errors import UsageError
from spikec.compiler.operators import Conv2d, Dense, Sparse
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.trace import Probe, Trace

BLOCKS, PER_BLOCK = 10, 50


@pytest.fixture(autouse=True)
def _nothing_is_read_before_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is not asked to be blank is full of what no run has sent."""

    def soiled(shape: tuple[int, ...], dtype: npt.DTypeLike, *, blank: bool = True) -> Array:
        made = aligned(shape, dtype)
        if not blank:
            made.view(np.uint8)[...] = 0xA5
        return made

    monkeypatch.setattr(fast, "aligned", soiled)


def all_probes(program: Program) -> list[Probe]:
    return [
        (item.name, quantity)
        for item in program.populations
        for quantity in ("spikes", "voltage", "current")
    ]  # type: ignore[misc]


def assert_same(found: Trace, expected: Trace, what: object) -> None:
    assert found.outputs == expected.outputs
    assert set(found.values) == set(expected.values)
    for probe, values in expected.values.items():
        np.testing.assert_array_equal(found[probe], values, err_msg=f"{what}: {probe}")
    assert dict(found.events) == dict(expected.events), what


def drawn(*seed: int, **limits: object) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng(seed)
    program = random_program(rng, **limits)
    return program, random_inputs(program, rng, samples=3, steps=14)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_fast_equals_golden_on_random_programs(block: int) -> None:
    for number in range(PER_BLOCK):
        program, inputs = drawn(11, block, number, max_weight_exp=7 if number % 3 else 15)
        probes = all_probes(program)
        expected = golden.run(program, inputs, probes=probes)
        found = fast.run(laid_out(program), inputs, probes, threads=1 + number % 3)
        assert_same(found, expected, (11, block, number))


@pytest.mark.parametrize("seed", range(60))
def test_inputs_that_are_mostly_not_zero_are_an_exact_product(seed: int) -> None:
    rng = np.random.default_rng([13, seed])
    program = random_program(rng, max_weight_exp=7 if seed % 3 else 15)
    shape = (2, 9)
    inputs = {
        item.name: np.ldexp(rng.integers(item.low, item.high + 1, (*shape, *item.shape)) * 1.0,
                            -item.frac_bits)
        if item.kind != "binary"
        else np.ones((*shape, *item.shape), np.uint8)
        for item in program.inputs
    }  # fmt: skip
    probes = all_probes(program)
    expected = golden.run(program, inputs, probes=probes)
    layout = laid_out(program)
    kept = fast.Kept(layout)
    assert_same(fast.run(layout, inputs, probes, kept=kept), expected, seed)
    ways = kept.ways()
    binary = {item.name for item in program.inputs if item.kind == "binary"}
    for connection in program.connections:
        if connection.source in binary:
            sparse = isinstance(connection.operator, Sparse)
            wanted = "synapse by synapse" if sparse else "one exact matrix product"
            assert ways[connection.name].density == 1
            assert ways[connection.name].way == wanted


@pytest.mark.parametrize("seed", range(12))
def test_matrices_that_are_read_as_single_synapses(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layouts, "_LARGE", 0)
    monkeypatch.setattr(layouts, "_THIN", (0, 3)[seed % 2])
    rng = np.random.default_rng([17, seed])
    program = delayed(random_program(rng), rng, ("synapse", "several")[seed % 2], 9)
    inputs = random_inputs(program, rng, samples=3, steps=20)
    probes = all_probes(program)
    found = fast.run(laid_out(program), inputs, probes, threads=1 + seed % 3)
    assert_same(found, golden.run(program, inputs, probes=probes), seed)


def test_a_layer_of_many_delays_takes_memory_in_proportion_to_its_synapses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layouts, "_LARGE", 1 << 17)
    count, delays = 512, 60
    rng = np.random.default_rng(3)
    whole = one_layer(2 * rng.integers(-90, 90, (count, count)))
    (wire,) = whole.connections
    parts = apart(wire, rng.integers(1, delays + 1, (count, count)))
    layout = laid_out(replace(whole, connections=tuple(parts)))
    taken = sum(item.nbytes for item in (*layout.weights, *layout.held))
    assert taken < 8 * count * count + 16 * delays * count
    inputs = {"in": (rng.random((2, 70, count)) < 0.02).astype(np.uint8)}
    probes = all_probes(layout.program)
    expected = golden.run(layout.program, inputs, probes=probes)
    assert_same(fast.run(layout, inputs, probes), expected, "many delays")


def one_layer(weight: Array) -> Program:
    """A layer that spikes, of binary inputs, with mixed weights of 8 bits."""
    return Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=weight.shape[1:], kind="binary", low=0, high=1),),
        populations=(
            Neurons(
                name="p", shape=weight.shape[:1], du=frozen(2000), dv=frozen(900),
                vth=frozen(200), reset="zero", reset_order="at_spike",
            ),
        ),
        connections=(
            Connection(
                name="w", source="in", target="p", operator=Dense(weight=weight), delay=1,
                weight_exp=0, num_weight_bits=8, sign_mode="mixed",
            ),
        ),
        outputs=("p",),
    )  # fmt: skip


def test_loops_are_compiled_once_for_each_width() -> None:
    """Whatever serves a connection: compiling takes half a minute, and versions get mixed up."""
    rng = np.random.default_rng(0)
    weight = rng.integers(-50, 50, (3, 2, 3, 3)) * 2
    program, _ = _crowd(2, neurons=2 * 8 * 8)
    picture = replace(program.inputs[0], shape=(2, 8, 8))
    neurons = Neurons(
        name="pop0", shape=(3, 6, 6), du=np.array(300), dv=np.array(100), vth=np.array(90),
        reset="zero", reset_order="at_spike",
    )  # fmt: skip
    connection = replace(program.connections[0], operator=Conv2d(weight=weight))
    program = replace(program, inputs=(picture,), populations=(neurons,), connections=(connection,))
    layout = laid_out(program)
    kept = fast.Kept(layout)
    for share in (0.1, 0.95):
        inputs = {"in": (rng.random((4, 7, 2, 8, 8)) < share).astype(np.uint8)}
        expected = golden.run(program, inputs, probes=all_probes(program))
        found = fast.run(layout, inputs, all_probes(program), threads=2, kept=kept)
        assert_same(found, expected, share)
    assert kept.ways()["c"].way == "one exact matrix product"
    signatures = kernels.run.signatures
    assert len(signatures) == len({str(item[10].dtype) for item in signatures})  # of ``room``


def test_the_random_programs_reach_every_kernel() -> None:
    kinds, values, widths, groups, plain = set(), set(), set(), set(), set()
    pictures = set()  # whether a sparse operator meets neurons in another order
    for number in range(300):
        program, _ = drawn(11, 0, number, max_weight_exp=7 if number % 3 else 15)
        layout = laid_out(program)
        kinds |= set(layout.connections[:, codes.C_KIND].tolist())
        values |= set(layout.connections[:, codes.C_VALUES].tolist())
        plain |= set(layout.populations[:, codes.P_PLAIN].tolist())
        widths.add(layout.dtype)
        pictures |= {
            any(layout.sent[name].order is not None for name in (item.source, item.target)
                if name in layout.sent)
            for item in program.connections
            if isinstance(item.operator, Sparse)
        }  # fmt: skip
        groups |= {
            (row[codes.G_POPULATIONS_END] - row[codes.G_POPULATIONS] > 1,
             row[codes.G_INNER_END] > row[codes.G_OUTER_END])
            for row in layout.groups
        }  # fmt: skip
    assert kinds == {codes.DENSE, codes.WIDE, codes.CONV, codes.SPARSE}
    assert values == {codes.HEARD, codes.BITS, codes.BYTES, codes.INTEGERS}
    assert pictures == {False, True}
    assert widths == {np.int32, np.int64}
    assert plain == {codes.GENERAL, codes.PLAIN, codes.CALM}
    assert {(False, False), (False, True), (True, True)} <= groups


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 1 << 32), neurons=st.sampled_from([63, 64, 65, 130]))
def test_rows_longer_than_a_word_and_sums_longer_than_a_pass(seed: int, neurons: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng, max_neurons=neurons, max_populations=2)
    inputs = random_inputs(program, rng, samples=2, steps=6)
    probes = all_probes(program)
    expected = golden.run(program, inputs, probes=probes)
    assert_same(fast.run(laid_out(program), inputs, probes), expected, seed)


def shared_by_threads(
    program: Program, inputs: dict[str, Array], what: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "_WORTH_SHARING", -1)  # every group is
    probes: list[Probe] = [(item.name, "spikes") for item in program.populations]
    expected = golden.run(program, inputs, probes=probes)
    for threads in (4, 7):
        found = fast.run(laid_out(program), inputs, probes, threads=threads)
        assert_same(found, expected, (what, threads))


@pytest.mark.parametrize("seed", range(80))
def test_threads_that_share_samples_do_what_one_does(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng([14, seed])
    weight = 7 if seed % 3 else 15  # some wrap, and are run again in 64 bits
    program = random_program(rng, max_weight_exp=weight, max_neurons=130 if seed % 2 else 12)
    inputs = random_inputs(program, rng, samples=1 + seed % 2, steps=40)
    shared_by_threads(program, inputs, seed, monkeypatch)


@pytest.mark.parametrize("seed", range(40))
def test_samples_side_by_side_do_what_each_does(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "_LARGE", -1)  # all weights are many
    rng = np.random.default_rng([15, seed])
    program = random_program(rng, max_neurons=300 if seed % 2 else 12, max_delay=3)
    inputs = random_inputs(program, rng, samples=11, steps=20 if seed % 3 else 150)
    probes: list[Probe] = [(item.name, "spikes") for item in program.populations]
    expected = golden.run(program, inputs, probes=probes)
    found = fast.run(laid_out(program), inputs, probes, threads=1 + seed % 2)
    assert_same(found, expected, seed)


@pytest.mark.parametrize("neurons", [255, 256, 300, 1100])
@pytest.mark.parametrize("samples", [1, 11])
def test_threads_and_samples_share_blocks_of_neurons(
    neurons: int, samples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fast, "_LARGE", -1)
    rng = np.random.default_rng(neurons)
    program, _ = _crowd(6, neurons=40)
    wide = Neurons(
        name="pop0", shape=(neurons,), du=np.array(400), dv=np.array(200), vth=np.array(200),
        reset="zero", reset_order="at_spike",
    )  # fmt: skip
    weight = rng.integers(-60, 60, (neurons, 40)) * 2
    connection = replace(program.connections[0], operator=Dense(weight=weight))
    program = replace(program, populations=(wide,), connections=(connection,))
    inputs = {"in": (rng.random((samples, 300, 40)) < 0.3).astype(np.uint8)}
    assert laid_out(program).groups[0, codes.G_FUSED]
    shared_by_threads(program, inputs, neurons, monkeypatch)


def test_sums_of_16_bits_are_emptied_before_they_overflow() -> None:
    """Every neuron of a wide layer spikes, with the heaviest weights, one sign at a time."""
    for sign, weight in (("down", -256), ("up", 254)):
        program, inputs = _crowd(weight, neurons=600)
        expected = golden.run(program, inputs, probes=all_probes(program))
        found = fast.run(laid_out(program), inputs, all_probes(program))
        assert_same(found, expected, sign)
        assert expected["pop0", "current"].any()


def _crowd(weight: int, neurons: int) -> tuple[Program, dict[str, Array]]:
    program = Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=(neurons,), kind="binary", low=0, high=1),),
        populations=(
            Neurons(name="pop0", shape=(70,), du=4095, dv=4096, vth=1000, reset="zero",
                    reset_order="at_spike"),
        ),
        connections=(
            Connection(name="c", source="in", target="pop0", weight_exp=0, num_weight_bits=8,
                       operator=Dense(weight=np.full((70, neurons), weight)), sign_mode="mixed",
                       delay=1),
        ),
        outputs=("pop0",),
    )  # fmt: skip
    return program, {"in": np.ones((1, 3, neurons), np.uint8)}


def test_places_beside_few_neurons_hear_nothing_of_what_others_heard() -> None:
    program, _ = _crowd(254, neurons=1400)
    wide, (connection,) = program.populations[0], program.connections
    weight = np.full((70, 1400), 254)
    weight[:, 1000:] = 0
    connection = replace(connection, operator=Dense(weight=weight))
    inputs = {"in": np.zeros((1, 9, 1400), np.uint8)}  # not so many that a product would serve
    inputs["in"][..., :1000] = 1  # currents of 254,000 << 6 wrap; of a voltage more would saturate
    few = Neurons(
        name="few", shape=(20,), du=np.array(400), dv=np.array(200), vth=np.array(3),
        reset="zero", reset_order="at_spike",
    )  # fmt: skip
    narrow = replace(
        connection,
        name="d",
        source="pop0",
        target="few",
        operator=Dense(weight=np.full((20, 70), 2)),
    )
    program = replace(
        program, populations=(wide, few), connections=(connection, narrow), outputs=("few",)
    )
    layout = laid_out(program)
    assert layout.populations[:, codes.P_PLAIN].tolist() == [codes.PLAIN, codes.CALM]
    assert layout.proved, "else it would run again in 64 bits"
    expected = golden.run(program, inputs, probes=program.default_probes)
    assert_same(fast.run(layout, inputs, program.default_probes), expected, "few")


@pytest.mark.parametrize("seed", range(40))
def test_a_stream_in_chunks_is_the_whole_run(seed: int) -> None:
    program, inputs = drawn(12, seed)
    probes = all_probes(program)
    whole = golden.run(program, inputs, probes=probes)
    session = fast.Session(laid_out(program), samples=3, probes=probes, threads=1)
    cuts = [0, 1, 2, 7, 7, 14]
    parts = [
        session.run({name: values[:, a:b] for name, values in inputs.items()}, last=b == 14)
        for a, b in pairwise(cuts)
    ]
    joined = Trace.joined(parts, axis="step")
    events = {**joined.events, **session.events}
    assert_same(Trace(values=joined.values, outputs=joined.outputs, events=events), whole, seed)


@pytest.mark.parametrize("steps", [127, 128, 129, 300])
def test_runs_longer_than_a_chunk(steps: int) -> None:
    rng = np.random.default_rng(steps)
    program = random_program(rng, max_delay=20)
    inputs = random_inputs(program, rng, samples=1, steps=steps)
    probes = all_probes(program)
    expected = golden.run(program, inputs, probes=probes)
    assert_same(fast.run(laid_out(program), inputs, probes), expected, steps)


def test_a_current_that_wraps_where_32_bits_might_not_hold_is_run_again_in_64() -> None:
    program, inputs = _crowd(254, neurons=4000)
    slow = replace(
        program, populations=(replace(program.populations[0], du=np.zeros(70, np.int64)),)
    )
    layout: Layout = laid_out(slow)
    assert layout.dtype is np.int32
    assert not layout.proved
    expected = golden.run(slow, inputs, probes=all_probes(slow))
    assert expected.events["pop0/current wrapped"] > 0
    assert_same(fast.run(layout, inputs, all_probes(slow)), expected, "wrapped")


def test_booleans_floats_and_integers_are_the_same_spikes() -> None:
    program, inputs = _crowd(6, neurons=20)
    layout, probes = laid_out(program), all_probes(program)
    expected = fast.run(layout, inputs, probes)
    for dtype in (bool, np.int64, np.float32):
        given = {"in": inputs["in"].astype(dtype)}
        assert_same(fast.run(layout, given, probes), expected, dtype)


#: Ways in which an owner may keep what is the same.
FORMS: tuple[Callable[[Array], Array], ...] = (
    lambda values: values,
    lambda values: values.astype(bool) if values.max(initial=0) <= 1 else values,
    lambda values: sealed(values.copy()),
    lambda values: values.astype(np.float64),
    lambda values: np.repeat(values, 2, axis=1)[:, ::2],
    np.asfortranarray,
    lambda values: values[::-1].copy()[::-1],
)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 1 << 32), neurons=st.sampled_from([1, 5, 63, 64, 65, 128, 200]))
def test_binary_inputs_are_read_where_and_how_they_are(seed: int, neurons: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng, max_neurons=neurons, kinds=("binary",), max_delay=5)
    samples, steps = int(rng.integers(1, 7)), int(rng.integers(1, 12))
    inputs = random_inputs(program, rng, samples=samples, steps=steps)
    given_forms = {name: FORMS[rng.integers(len(FORMS))](item) for name, item in inputs.items()}
    wrong = {name: values.copy() for name, values in inputs.items()}
    for values in wrong.values():  # a byte that is no spike, in one sample at every step
        values[rng.integers(samples)].reshape(steps, -1)[:, -1] = rng.integers(2, 256)
    probes = all_probes(program)
    expected = golden.run(program, inputs, probes=probes)
    layout, threads = laid_out(program), int(rng.integers(1, 4))
    with pytest.MonkeyPatch.context() as patch:
        # Samples are taken in one by one, or some together.
        patch.setattr(fast, "_TOGETHER", int(rng.choice([0, 3000, 1 << 20])))
        assert_same(fast.run(layout, given_forms, probes, threads=threads), expected, seed)
        with pytest.raises(UsageError, match="a binary input takes 0 and 1"):
            fast.run(layout, wrong, probes, threads=threads)
        session = fast.Session(layout, samples=samples, probes=probes, threads=threads)
        cuts = sorted({0, steps, *rng.integers(0, steps + 1, 3).tolist()})
        parts = []
        for a, b in pairwise(cuts):
            if b > a and rng.random() < 0.5:  # what is refused leaves no trace
                with pytest.raises(UsageError, match="a binary input takes 0 and 1"):
                    session.run({name: item[:, a:b] for name, item in wrong.items()})
            chunk = {name: item[:, a:b] for name, item in given_forms.items()}
            parts.append(session.run(chunk, last=b == steps))
    joined = Trace.joined(parts, axis="step")
    events = {**joined.events, **session.events}
    assert_same(Trace(values=joined.values, outputs=joined.outputs, events=events), expected, seed)
