"""Floats to the target's integers: decays, grids, scales, the overflow proof, refusals."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.random_graphs import random_graph, random_graph_inputs

from spikec.backends.simulator import golden
from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import QuantizationError, SpikecError
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LIF, Graph, Reset
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput, SignMode
from spikec.compiler.quantize import Compilation, WeightBits, compile_graph
from spikec.compiler.quantize.decay import alpha_of, beta_of, du_of, dv_of, time_constant_error
from spikec.compiler.quantize.observe import observe
from spikec.compiler.quantize.weights import Grid, choose_unit
from spikec.compiler.targets import load_target
from spikec.models import analog, dense, graded, network, seed_lif, seed_readout, spikes

LOIHI2 = load_target("loihi2")
STATE_MAX = (1 << 23) - 1
SEEDS = st.integers(0, 2**32 - 1)
SIGNS: dict[SignMode, tuple[float, float]] = {
    "mixed": (-1, 1), "excitatory": (0, 1), "inhibitory": (-1, 0),
}  # fmt: skip


def integrator(name: str = "n", shape: int = 1, **fields: Any) -> LIF:
    """Return neurons without leak and filter: exact integers stay exact."""
    defaults: dict[str, Any] = {
        "alpha": None, "beta": 1.0, "coupling": "immediate", "vth": 1.0,
        "reset": "subtract", "reset_order": "next_step", "compare": ">",
    }  # fmt: skip
    return LIF(name=name, shape=(shape,), **{**defaults, **fields})


def one_layer(weight: Any, node: Any = None, entry: Any = None) -> Graph:
    weight = np.atleast_2d(weight)
    out, into = weight.shape
    node = node or seed_lif("n", out, alpha=0.5, beta=0.75)
    return network(
        nodes=[entry or spikes("in", into), node],
        edges=[dense("in", node.name, weight, name="W")],
        outputs=[node.name],
    )


def named_bits(graph: Graph, bits: int) -> int | None:
    """Return the bits that a refusal says would fit: 0 if all is fine, None if it names none."""
    try:
        compile_graph(graph, LOIHI2, weight_bits=bits)
    except QuantizationError as error:
        matched = re.search(r"--weight-bits (\d)", str(error))
        return int(matched[1]) if matched else None
    return 0


def refused(graph: Graph, **options: Any) -> QuantizationError:
    with pytest.raises(QuantizationError) as caught:
        compile_graph(graph, LOIHI2, **options)
    return caught.value


# Decays


@given(st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_du_keeps_the_nearest_share_of_the_current(alpha: float) -> None:
    kept = alpha_of(du_of(np.array(alpha), LOIHI2.du))
    every = (4095 - np.arange(4096)) / 4096
    assert abs(kept - alpha) <= np.abs(every - alpha).min()


@given(st.floats(0, 1))
@settings(deadline=None)
def test_dv_keeps_the_nearest_share_of_the_voltage(beta: float) -> None:
    kept = beta_of(dv_of(np.array(beta), LOIHI2.dv))
    every = (4096 - np.arange(4097)) / 4096
    assert abs(kept - beta) <= np.abs(every - beta).min()


def test_decays_of_known_time_constants() -> None:
    assert du_of(np.exp(-1 / np.array([5.0, 20.0])), LOIHI2.du).tolist() == [741, 199]
    assert dv_of(np.exp(-1 / np.array([10.0, 100.0])), LOIHI2.dv).tolist() == [390, 41]
    assert du_of(None, LOIHI2.du) == 4095
    assert dv_of(np.array([0.0, 1.0]), LOIHI2.dv).tolist() == [4096, 0]


@pytest.mark.parametrize(
    ("wanted", "kept", "error"),
    [
        ([np.exp(-1 / 20)], [np.exp(-1 / 21)], 0.05),
        ([np.exp(-1 / 20), np.exp(-1 / 10)], [np.exp(-1 / 20), np.exp(-1 / 9)], 0.1),
        ([0.5], [0.5], 0.0),
        ([0.99999], [1.0], 1.0),
        ([0.0001], [0.0], 1.0),
        ([0.0], [0.0], None),
        ([1.0], [1.0], None),
        ([1.0], [0.5], 1.0),
        ([0.0, 0.5], [0.0, 0.5], 0.0),
    ],
)
def test_the_error_of_time_constants(
    wanted: list[float], kept: list[float], error: float | None
) -> None:
    found = time_constant_error(np.array(wanted), np.array(kept))
    assert found == (None if error is None else pytest.approx(error))
    assert time_constant_error(None, np.array(kept)) is None


# Grids


def drawn_weights(seed: int, mode: SignMode, size: int = 60) -> Array:
    rng = np.random.default_rng(seed)
    low, high = SIGNS[mode]
    weight = rng.uniform(low, high, (4, size // 4)) * rng.choice([1.0, 1e-4, 300.0])
    weight[0, :2] = weight.min(), weight.max()
    return np.asarray(weight)


@pytest.mark.parametrize("mode", SIGNS)
@pytest.mark.parametrize("bits", range(1, 9))
def test_a_grid_has_the_levels_of_its_bits_and_rounds_to_the_nearest(
    mode: SignMode, bits: int
) -> None:
    grid = Grid(weight=drawn_weights(bits, mode), bits=bits)
    assert grid.sign_mode == mode
    every = np.arange(grid.low, grid.high + 1)
    if mode == "mixed" and bits == 1:
        every = np.array([-1, 1])
    assert len(every) == 2**bits
    for step in (grid.widest_step, grid.widest_step / 3):
        levels = grid.all_levels(step)
        assert set(levels.ravel()) <= set(every)
        nearest = np.abs(grid.weight[..., None] - step * every).min(axis=-1)
        np.testing.assert_allclose(np.abs(grid.weight - step * levels), nearest, atol=1e-12 * step)
    assert grid.clipped(grid.widest_step) == 0
    assert grid.clipped(grid.widest_step / 3) > 0 or bits == 1


@given(SEEDS, st.sampled_from(sorted(SIGNS)), st.integers(1, 8), st.integers(0, 10))
@settings(deadline=None)
def test_mantissas_are_legal_in_a_program_and_count_what_they_should(
    seed: int, mode: SignMode, bits: int, above: int
) -> None:
    grid = Grid(weight=drawn_weights(seed, mode), bits=bits)
    shift = min(grid.least_shift + above, grid.top_shift + 7)
    mantissas, exponent, stored = grid.mantissas(grid.all_levels(grid.widest_step), shift)
    connection = Connection(
        name="c", source="in", target="n", operator=Dense(weight=mantissas), weight_exp=exponent,
        num_weight_bits=stored, sign_mode=grid.sign_mode, delay=1,
    )  # fmt: skip
    Program(  # it checks ranges and steps
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=(15,), kind="binary", low=0, high=1),),
        populations=(
            Neurons(name="n", shape=(4,), du=0, dv=0, vth=1, reset="zero", reset_order="at_spike"),
        ),
        connections=(connection,),
        outputs=("n",),
    )
    expected = grid.all_levels(grid.widest_step).astype(int) * 2**shift
    np.testing.assert_array_equal(connection.effective.weight, expected)
    assert exponent <= LOIHI2.weight_exp.high


def compared_with_largest_weights(seed: int) -> float:
    """Return the loss of the chosen steps relative to the best that clip no weight."""
    rng = np.random.default_rng(seed)
    weights = [
        rng.standard_t(4, (5, 9)) * 2.0 ** rng.uniform(-6, 6) + rng.choice([0.0, 0.5])
        for _ in range(1 + seed % 4)
    ]
    grids = [Grid(weight=weight, bits=2 + seed % 7) for weight in weights]

    def loss(steps: list[float]) -> float:
        total = 0.0
        for weight, grid, step in zip(weights, grids, steps, strict=True):
            rounded = step * np.clip(np.rint(weight / step), grid.low, grid.high)
            total += float(np.mean((weight - rounded) ** 2) / np.mean(weight**2))
        return total

    def unclipped(exact: Grid) -> list[float]:
        ratios = [grid.widest_step / exact.widest_step for grid in grids]
        return [exact.widest_step * 2.0 ** np.ceil(np.log2(ratio) - 1e-12) for ratio in ratios]

    unit, powers = choose_unit(grids)
    assert 1 <= unit < 2
    return loss([unit * 2.0**power for power in powers]) / min(loss(unclipped(g)) for g in grids)


@pytest.mark.parametrize(
    "room",
    [
        1 + 1e-9,
    ],
)
def test_one_unit_serves_all_edges_no_worse_than_their_largest_weights_would(room: float) -> None:
    ratios = [compared_with_largest_weights(seed) for seed in range(300)]
    assert max(ratios) <= room
    assert np.median(ratios) < 0.95


def test_weights_of_zero_do_not_choose_the_unit() -> None:
    zero, some = Grid(weight=np.zeros((2, 2)), bits=8), Grid(weight=np.eye(2), bits=8)
    assert choose_unit([zero, some])[0] == choose_unit([some])[0]
    assert choose_unit([zero]) == (1.0, (0,))


# The overflow proof


def worst_inputs(program: Program, rng: np.random.Generator, steps: int) -> dict[str, Array]:
    """Return constant extremes: everything high, everything low, or as one neuron likes it."""
    inputs = {}
    for entry in program.inputs:
        values = np.empty((4, steps, *entry.shape))
        values[0], values[1] = entry.high, entry.low
        outgoing = [item for item in program.connections if item.source == entry.name]
        rows = [item.operator.weight.reshape(len(item.operator.weight), -1) for item in outgoing
                if isinstance(item.operator, Dense)]  # fmt: skip
        row = np.zeros(entry.shape) if not rows else rng.choice(rows[0]).reshape(entry.shape)
        values[2] = np.where(row > 0, entry.high, min(entry.low, 0))
        values[3] = np.where(row < 0, entry.high, min(entry.low, 0))
        inputs[entry.name] = np.ldexp(values, -entry.frac_bits)
    return inputs


def compiled(graph: Graph, seed: int) -> Compilation | None:
    """Return the compiled graph, or None where the target refuses it."""
    try:
        return compile_graph(graph, LOIHI2, weight_bits=3 + seed % 6)
    except QuantizationError:
        return None


def test_no_current_leaves_its_proved_bound_on_random_networks() -> None:
    done = 0
    for seed in range(120):
        rng = np.random.default_rng([7, seed])
        graph = random_graph(rng, canonicalisable=True, dyadic=bool(seed % 2))
        compilation = compiled(graph, seed)
        if compilation is None:
            continue
        done += 1
        program = compilation.program
        probes = [(item.name, "current") for item in program.populations]
        bounds = {item.population: item.proof_bound for item in compilation.report.populations}
        for inputs in (worst_inputs(program, rng, 40), random_graph_inputs(graph, rng, 4, 40)):
            trace = golden.run(program, inputs, probes=probes, strict=True)  # type: ignore[arg-type]
            for name, bound in bounds.items():
                assert np.abs(trace[name, "current"]).max() <= bound <= STATE_MAX, (seed, name)
    assert done > 90


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9, 0.97])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_worst_constant_input_reaches_the_bound_within_truncation(
    alpha: float, sign: int
) -> None:
    weight = np.random.default_rng(0).normal(size=(1, 30))
    compilation = compile_graph(one_layer(weight, seed_lif("n", 1, alpha=alpha, beta=0.5)), LOIHI2)
    (loss,) = compilation.report.populations
    levels = compilation.program.connections[0].operator.weight[0] * sign
    inputs = {"in": np.tile(levels > 0, (1, 800, 1)).astype(np.uint8)}
    other = {"in": np.tile(levels < 0, (1, 800, 1)).astype(np.uint8)}
    reached = max(
        int(np.abs(golden.run(compilation.program, data, probes=[("n", "current")])["n", "current"])
            .max())
        for data in (inputs, other)
    )  # fmt: skip
    assert loss.proof_bound - 4096 / (loss.du[0] + 1) - 1 <= reached <= loss.proof_bound
    assert loss.proof_margin == pytest.approx(STATE_MAX / loss.proof_bound)


def test_graded_inputs_count_in_the_proof_with_both_their_bounds() -> None:
    entry = graded("in", 2, low=-3, high=100)
    graph = one_layer([[0.5, -0.25]], seed_lif("n", 1, alpha=None, beta=0.5), entry)
    compilation = compile_graph(graph, LOIHI2)
    plus, minus = (int(w) for w in compilation.program.connections[0].effective.weight[0])
    expected = 64 * max(100 * plus - 3 * minus, 3 * plus - 100 * minus)
    assert compilation.report.populations[0].proof_bound == expected
    assert (compilation.program.inputs[0].low, compilation.program.inputs[0].high) == (-3, 100)


def test_an_input_may_be_silent_although_its_lower_bound_is_above_zero() -> None:
    entry = graded("in", 2, low=2, high=5)
    graph = one_layer([[0.5, -0.25]], seed_lif("n", 1, alpha=None, beta=0.5), entry)
    compilation = compile_graph(graph, LOIHI2)
    plus, minus = (int(w) for w in compilation.program.connections[0].effective.weight[0])
    assert compilation.report.populations[0].proof_bound == 64 * 5 * max(plus, -minus)


# The largest scale

LIMITED: dict[str, tuple[Graph, str]] = {
    "current": (
        one_layer(np.ones((1, 50)), seed_lif("n", 1, alpha=0.9, beta=0.5)),
        "overflow proof of the current",
    ),
    "threshold": (one_layer([[0.1, -0.2]], integrator(vth=3.0, beta=0.5)), "threshold"),
    "bias": (one_layer([[0.1]], integrator(bias=0.9, beta=0.5)), "bias"),
    "initial voltage": (
        one_layer([[0.5]], integrator(initial_voltage=-40.0, beta=0.5)), "initial voltage",
    ),
    "reset": (one_layer([[0.5]], integrator(reset="value", reset_value=-9.0, beta=0.5)), "reset"),
    "weight exponent": (one_layer([[1.0]], integrator(vth=0.7, beta=0.5)), "weight exponent"),
    "readout": (
        one_layer([[1.0, -0.5]], seed_readout("n", 1, alpha=0.5, beta=0.99)),
        "overflow proof of the readout voltage",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", LIMITED)
def test_what_limits_the_scale_would_break_at_twice_the_scale(case: str) -> None:
    graph, expected = LIMITED[case]
    compilation = compile_graph(graph, LOIHI2)
    (loss,), node = compilation.report.populations, compilation.canonical["n"]
    assert loss.limited_by == expected
    twice = 2 * loss.scale
    assert isinstance(node.bias, np.ndarray)  # type: ignore[union-attr]
    reach: dict[str, tuple[float, float]] = {
        "overflow proof of the current": (2 * loss.proof_bound, STATE_MAX),
        "overflow proof of the readout voltage": (2 / (loss.voltage_margin or 99), 1),
        "bias": (twice * np.abs(node.bias).max(), 4095 << 7),  # type: ignore[union-attr]
        "initial voltage": (twice * np.abs(node.initial_state[1]).max(), STATE_MAX),  # type: ignore[union-attr]
    }
    if isinstance(node, LIF):
        reach["threshold"] = (twice * node.vth.max() / 64, (1 << 17) - 0.5)
        reach["reset"] = (twice * np.abs(node.reset_voltage).max(), STATE_MAX)
    exponents = [item.weight_exp for item in compilation.program.connections]
    reach["weight exponent"] = (max(exponents) + 1, LOIHI2.weight_exp.high)
    broken, allowed = reach[expected]
    assert broken > allowed
    assert all(low / 2 <= limit for low, limit in reach.values() if (low, limit) != reach[
        "weight exponent"])  # fmt: skip


def test_calibration_keeps_the_seen_voltages_within_24_bits() -> None:
    graph = one_layer([[0.5, -1.0]], integrator(vth=1.0, alpha=0.5))
    data = Dataset(inputs={"in": np.tile([0, 1], (1, 30, 1))})
    (seen,) = observe(graph, data).voltages.values()
    free, kept = (compile_graph(graph, LOIHI2, calibration=item) for item in (None, data))
    for item in (free, kept):
        assert golden.run(item.program, data.inputs).events == {}
    assert free.report.populations[0].scale < kept.report.populations[0].scale
    (loss,) = kept.report.populations
    assert loss.limited_by == "voltage range of the calibration data"
    assert STATE_MAX / 2 < seen * loss.scale * 1.5 <= STATE_MAX


def test_leaky_neurons_held_far_below_the_threshold_may_saturate() -> None:
    """A voltage of -200 thresholds is seen as the 64 that should fit; one above it as it is."""
    for weight, held in ((-2.0, 64.0), (2.0, 200.0)):
        node = integrator(alpha=0.5, beta=0.98, reset="none", reset_order="at_spike")
        graph = one_layer([[weight]], node)
        data = Dataset(inputs={"in": np.ones((1, 1200, 1), np.uint8)})
        (loss,) = compile_graph(graph, LOIHI2, calibration=data).report.populations
        assert loss.limited_by == "voltage range of the calibration data"
        assert STATE_MAX / 2 < held * loss.scale * 1.25 <= STATE_MAX


def test_calibration_sees_the_voltage_that_a_reset_at_the_spike_hides() -> None:
    node = integrator(reset_order="at_spike", vth=137 / 256)
    graph = one_layer(np.array([22, 54, 37, 23, 34, 53]) / 128, node)
    senders = [[], [5], [], [0, 1, 2, 3, 5], [2, 5], [], [5], [4], [0, 2], [0, 5], [], []]
    values = np.zeros((1, len(senders), 6), np.uint8)
    for step, sending in enumerate(senders):
        values[0, step, sending] = 1
    compilation = compile_graph(graph, LOIHI2, calibration=Dataset(inputs={"in": values}))
    assert compilation.report.weights[0].max_error == 0
    trace = golden.run(compilation.program, {"in": values})
    expected = reference.run(graph, {"in": values}).spikes("n")
    assert trace.spikes("n").ravel().tolist() == expected.ravel().tolist()


def test_calibration_sees_the_voltage_before_several_spikes_lower_it() -> None:
    node = integrator(reset_order="at_spike", max_spikes=255)
    data = Dataset(inputs={"in": np.ones((1, 30, 1), np.uint8)})
    (loss,) = compile_graph(one_layer([[12.5]], node), LOIHI2, calibration=data).report.populations
    assert 12.5 * loss.scale * 1.25 <= STATE_MAX


@pytest.mark.parametrize(
    "order",
    [
        1,
        -1,
    ],
)  # fmt: skip
def test_no_weight_exponent_leaves_the_target_whatever_the_order_of_edges(order: int) -> None:
    edges = [dense("a", "n", [[1.0]], name="big"), dense("b", "n", [[0.004]], name="small")]
    graph = network(
        nodes=[spikes("a", 1), spikes("b", 1), integrator(vth=2.0)],
        edges=edges[::order],
        outputs=["n"],
    )
    program = compile_graph(graph, LOIHI2, weight_bits=4).program
    assert max(item.weight_exp for item in program.connections) <= LOIHI2.weight_exp.high


# Refusals


def test_a_refusal_names_population_factor_and_bits_that_fit() -> None:
    node = seed_lif("hidden", 2, alpha=0.99, beta=0.9)
    graph = one_layer(np.random.default_rng(0).uniform(0.5, 1, (2, 100)), node)
    (finding,) = refused(graph).diagnostics
    assert (finding.code, finding.where) == ("Q010", "population 'hidden'")
    matched = re.fullmatch(
        r"8-bit weights do not fit: the overflow proof of the current fails by a factor of (\d+)",
        finding.message,
    )
    assert matched
    factor = int(matched[1])
    bits = int(finding.hint.split()[1])
    assert finding.hint.startswith(f"--weight-bits {bits} fits, and 'auto'")
    assert factor == 2 ** (8 - bits)
    assert compile_graph(graph, LOIHI2, weight_bits=bits).report.weight_bits == bits
    refused(graph, weight_bits=bits + 1)


def test_several_populations_are_refused_at_once() -> None:
    wide = np.ones((1, 400))
    graph = network(
        nodes=[
            spikes("in", 400),
            *(seed_lif(name, 1, alpha=0.999, beta=0.9) for name in "ab"),
            seed_lif("c", 1, alpha=0.5, beta=0.9),
        ],
        edges=[dense("in", "a", wide), dense("in", "b", 0.1 * wide), dense("a", "c", [[1.0]])],
        outputs=["c"],
    )
    where = [item.where for item in refused(graph).diagnostics]
    assert where == ["population 'a'", "population 'b'"]


def test_the_bits_that_a_refusal_names_fit_for_heavy_tails() -> None:
    failed = []
    for seed in range(100):
        rng = np.random.default_rng([3, seed])
        entry = graded("in", 100, low=0, high=int(2 ** rng.uniform(4, 12)))
        graph = one_layer(rng.standard_t(2, (2, 100)), seed_lif("n", 2, alpha=0.5, beta=0.9), entry)
        hint = named_bits(graph, 8)
        if hint and named_bits(graph, hint) != 0:
            failed.append(seed)
    assert not failed


def test_what_a_target_lacks_is_refused() -> None:
    entry = graded("in", 1, low=0, high=5)
    with pytest.raises(QuantizationError, match=r"Q003 at input 'in'.*no graded spikes"):
        compile_graph(one_layer([[1.0]], entry=entry), load_target("loihi1"))
    several = integrator(reset_order="at_spike", max_spikes=3)
    with pytest.raises(QuantizationError, match=r"Q003 at population 'n'.*3 spikes a step"):
        compile_graph(one_layer([[1.0]], several), load_target("loihi1"))
    loop = network(
        nodes=[spikes("in", 1), integrator()],
        edges=[dense("in", "n", [[1.0]]), dense("n", "n", [[1.0]], delay=63, name="slow")],
        outputs=["n"],
    )
    assert "Q004 at edge 'slow': delay 63 is beyond the target's 62" in str(refused(loop))
    assert "Q005 at population 'n'" in str(
        refused(
            one_layer(
                [[1.0]], seed_lif("n", 1, alpha=0.5, beta=0.5, vth=-0.5, initial_voltage=-1.0)
            )
        )
    )
    assert "Q001" in str(refused(one_layer([[1.0]]), weight_bits=9))
    assert "Q001" in str(refused(one_layer([[1.0]]), weight_bits=0))


# Inputs


def test_the_range_of_an_analog_input_is_declared_or_seen() -> None:
    unknown = one_layer([[0.5]], integrator(), analog("in", 1))
    assert "Q002 at input 'in'" in str(refused(unknown))
    seen = Dataset(inputs={"in": np.array([[[-0.5], [0.75]]])})
    declared = one_layer([[0.5]], integrator(), analog("in", 1, low=-0.5, high=0.75))
    by_data = compile_graph(unknown, LOIHI2, calibration=seen)
    by_hand = compile_graph(declared, LOIHI2)
    for compilation, origin in ((by_data, "calibration data"), (by_hand, "declared")):
        (entry,), (loss,) = compilation.program.inputs, compilation.report.inputs
        assert loss.bounds_from == origin
        assert loss.resolution == 2.0**-entry.frac_bits
        assert (entry.low, entry.high) == (loss.low, loss.high)
        assert loss.high * loss.resolution == pytest.approx(0.75, abs=loss.resolution / 2)
        assert loss.low * loss.resolution == pytest.approx(-0.5, abs=loss.resolution / 2)


def test_values_beyond_the_range_of_an_analog_input_are_clipped_and_counted() -> None:
    graph = one_layer([[0.5]], integrator(), analog("in", 1, low=-1, high=1))
    program = compile_graph(graph, LOIHI2).program
    inputs = {"in": np.array([-3.0, -1, 0, 1, 1.5]).reshape(1, 5, 1)}
    trace = golden.run(program, inputs, probes=[("n", "current")])
    assert trace.events == {"in/input clipped": 2}
    current = trace["n", "current"].ravel()
    assert current[0] == current[1] == -current[4] == -current[3]


def test_an_analog_input_that_gets_too_few_levels_is_refused() -> None:
    node = seed_lif("n", 2, alpha=0.99, beta=0.9)
    weight = np.random.default_rng(0).normal(size=(2, 100))
    (finding,) = refused(one_layer(weight, node, analog("in", 100, low=-1, high=1))).diagnostics
    assert (finding.code, finding.where) == ("Q011", "input 'in'")
    assert "fewer than 8" in finding.message


def test_the_bits_that_a_refused_analog_input_names_fit() -> None:
    weight = np.random.default_rng(0).normal(size=(2, 3000))
    entry = analog("in", 3000, low=-1, high=1)
    graph = one_layer(weight, seed_lif("n", 2, alpha=0.5, beta=0.9), entry)
    matched = re.search(r"--weight-bits (\d+) fits", str(refused(graph)))
    assert matched
    assert 1 <= int(matched[1]) < 8
    compile_graph(graph, LOIHI2, weight_bits=int(matched[1]))


def test_the_bounds_of_an_analog_input_round_within_the_room_left_for_it() -> None:
    fitting = 0
    for count in range(90, 112):
        weight = np.repeat([[1.0, -1.0]], count, axis=1)
        entry = analog("in", 2 * count, low=-0.54, high=8.54)
        graph = one_layer(weight, integrator(vth=1.0, beta=0.9), entry)
        fitting += named_bits(graph, 8) == 0  # or it is refused, but the proof never breaks
        fitting += named_bits(graph, 6) == 0
    assert fitting


# Values of neurons


def test_parameters_per_neuron_are_rounded_one_by_one() -> None:
    alpha, beta = np.array([409, 2048, 3809]) / 4096, np.array([819, 4092, 4096]) / 4096
    vth, bias = np.array([0.5, 1.0, 1.5]), np.array([-0.01, 0.0, 0.02])
    node = seed_lif("n", 3, alpha=alpha, beta=beta, vth=vth, bias=bias)
    compilation = compile_graph(one_layer(np.eye(3) * 0.5, node), LOIHI2)
    (neurons,), (loss,) = compilation.program.populations, compilation.report.populations
    assert neurons.du.tolist() == [round((1 - a) * 4096) - 1 for a in alpha]
    assert neurons.dv.tolist() == [round((1 - b) * 4096) for b in beta]
    assert neurons.vth is not None
    assert neurons.vth.tolist() == [round(v * loss.scale / 64) for v in vth]
    assert neurons.lsb == 1 / loss.scale
    errors = np.abs(neurons.bias * neurons.lsb - bias)
    assert (errors * loss.scale <= 0.5 * 2.0**neurons.bias_exp).all()
    assert loss.bias_error == errors.max()
    assert loss.vth_error == pytest.approx(np.abs(neurons.vth * 64 / loss.scale / vth - 1).max())
    assert loss.du == (neurons.du.min(), neurons.du.max())


@given(SEEDS)
@settings(deadline=None)
def test_biases_fit_their_mantissas(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bias = rng.normal(size=4) * 10.0 ** rng.uniform(-6, 1)
    node = seed_lif("n", 4, alpha=0.5, beta=0.875, bias=bias)
    (neurons,) = compile_graph(one_layer(rng.normal(size=(4, 2)), node), LOIHI2).program.populations
    for values, allowed in (
        (neurons.bias_mant, LOIHI2.bias_mant),
        (neurons.bias_exp, LOIHI2.bias_exp),
    ):
        assert allowed.low <= values.min()
        assert values.max() <= allowed.high
    unit = neurons.lsb * 2.0**neurons.bias_exp
    assert (np.abs(neurons.bias * neurons.lsb - bias) <= 0.5 * unit * (1 + 1e-9)).all()


def exact_graph(rng: np.random.Generator, compare: str, reset: Reset) -> Graph:
    """Draw integrators whose weights, thresholds, biases and resets are multiples of 1/64."""
    sizes = rng.integers(1, 5, int(rng.integers(2, 4)))
    nodes: list[Any] = [spikes("in", int(sizes[0]))]
    edges = []
    for index, (into, out) in enumerate(pairwise(sizes)):
        name = f"n{index}"
        several = int(rng.choice([1, 2, 3])) if reset == "subtract" else 1
        late = reset == "subtract" and several == 1
        nodes.append(
            integrator(
                name,
                int(out),
                vth=rng.integers(8, 65, out) / 64,
                bias=rng.integers(-2, 3, out) / 64,
                compare=compare,
                reset=reset,
                reset_value=rng.integers(-16, 8, out) / 64 if reset == "value" else None,
                reset_order="next_step" if late else "at_spike",
                max_spikes=several,
                floor=-rng.integers(0, 64, out) / 64 if rng.random() < 0.3 else None,
            )
        )
        weight = rng.integers(-40, 64, (out, into)) / 64
        edges.append(dense(nodes[index].name, name, weight, name=f"W{index}"))
        if rng.random() < 0.5:
            loop = rng.integers(-32, 32, (out, out)) / 64
            edges.append(dense(name, name, loop, name=f"V{index}"))
    return network(nodes=nodes, edges=edges, outputs=[nodes[-1].name])


@given(SEEDS, st.sampled_from([">", ">="]), st.sampled_from(get_args(Reset)))
@settings(max_examples=60, deadline=None)
def test_a_network_on_the_grid_gives_its_float_spikes(
    seed: int, compare: str, reset: Reset
) -> None:
    rng = np.random.default_rng(seed)
    graph = exact_graph(rng, compare, reset)
    inputs = random_graph_inputs(graph, rng, 3, 25)
    compilation = compile_graph(graph, LOIHI2, calibration=Dataset(inputs=inputs))
    # What sums up beyond 24 bits at the grid's scale takes larger steps instead.
    assume(all(item.seen_margin is None or item.seen_margin >= 2
               for item in compilation.report.populations))  # fmt: skip
    assert all(item.max_error == 0 for item in compilation.report.weights)
    probes = [(item.name, quantity) for item in graph.populations
              for quantity in ("spikes", "voltage")]  # fmt: skip
    expected = reference.run(graph, inputs, probes=probes)  # type: ignore[arg-type]
    trace = golden.run(compilation.program, inputs, probes=probes)  # type: ignore[arg-type]
    for name, quantity in probes:
        unit = compilation.program.population(name).lsb if quantity == "voltage" else 1
        found = trace[name, quantity] * unit  # type: ignore[index]
        assume(reset in ("zero", "value") or not trace.events)  # the least scale may saturate
        np.testing.assert_array_equal(found, expected[name, quantity])  # type: ignore[index]


def test_reaching_the_threshold_is_passing_the_one_below() -> None:
    above, reaching = (
        compile_graph(one_layer([[0.25]], integrator(compare=compare)), LOIHI2)
        .program.populations[0]
        for compare in (">", ">=")
    )  # fmt: skip
    assert above.vth is not None
    assert reaching.vth is not None
    assert reaching.vth.tolist() == (above.vth - 1).tolist()
    assert reaching.reset_amount.tolist() == above.reset_amount.tolist()


@pytest.mark.parametrize("compare", [">", ">="])
def test_the_error_of_a_threshold_is_that_of_what_must_be_reached(compare: str) -> None:
    compilation = compile_graph(one_layer([[0.25]], integrator(compare=compare)), LOIHI2)
    assert compilation.report.populations[0].vth_error == 0


def test_a_spike_may_subtract_another_amount_than_the_threshold() -> None:
    amounts = np.array([0.25, 0.8, -0.3])
    node = integrator(shape=3, reset_value=amounts)
    (neurons,) = compile_graph(one_layer(np.full((3, 1), 0.5), node), LOIHI2).program.populations
    assert neurons.reset_amount.tolist() == np.rint(amounts / neurons.lsb).tolist()


# The report


def test_the_report_names_every_edge_population_and_analog_input_once() -> None:
    for seed in range(25):
        graph = random_graph(np.random.default_rng([9, seed]), canonicalisable=True)
        compilation = compiled(graph, seed)
        if compilation is None:
            continue
        report = compilation.report
        assert sorted(item.edge for item in report.weights) == sorted(e.name for e in graph.edges)
        names = [item.population for item in report.populations]
        assert names == [node.name for node in graph.populations]
        inputs = [item.input for item in report.inputs]
        assert inputs == [node.name for node in graph.inputs if node.kind == "analog"]
        text = json.dumps(report.as_dict(), allow_nan=False)
        assert json.loads(text)["weight_bits"] == report.weight_bits


def test_the_report_counts_what_an_independent_look_counts() -> None:
    weight = np.random.default_rng(5).laplace(size=(20, 30))
    compilation = compile_graph(one_layer(weight), LOIHI2, weight_bits=3)
    (loss,) = compilation.report.weights
    (connection,) = compilation.program.connections
    kept = connection.effective.weight * 64 / compilation.report.populations[0].scale
    error = weight - kept
    assert loss.count == 600
    assert loss.clipped == ((weight > 3.5 * loss.step) | (weight < -4.5 * loss.step)).sum() > 0
    assert loss.max_error == pytest.approx(np.abs(error).max())
    assert loss.rms_error == pytest.approx(np.sqrt((error**2).mean() / (weight**2).mean()))
    assert np.unique(kept).size <= 2**loss.bits


def test_the_program_says_where_it_came_from() -> None:
    graph = one_layer([[0.5]])
    compilation = compile_graph(graph, LOIHI2)
    provenance: Any = compilation.program.provenance
    assert provenance["quantization"] == compilation.report.as_dict()
    assert provenance["choices"] == [[c.what, c.value, c.origin] for c in graph.choices]
    assert compilation.report.passes == ("couple-immediately",)


@pytest.mark.parametrize("size", [1e-310, 1e300])
def test_weights_near_the_ends_of_float64_fit_or_are_refused(size: float) -> None:
    try:
        compile_graph(one_layer([[size]], integrator(vth=size)), LOIHI2)
    except SpikecError:
        return


def test_graded_values_fit_the_messages_of_the_target() -> None:
    narrow = replace(LOIHI2, graded_bits=4)
    entry = graded("in", 1, low=0, high=200)
    with pytest.raises(QuantizationError):
        compile_graph(one_layer([[0.5]], entry=entry), narrow)


@pytest.mark.parametrize(
    "dtype",
    [
        np.float64, np.float32, np.int64, np.int8, np.bool_,
        np.float16,
    ],
)  # fmt: skip
def test_weights_of_any_number_type_give_the_same_program(dtype: type) -> None:
    graphs = [one_layer(np.eye(2, dtype=kind)) for kind in (np.float64, dtype)]
    wide, narrow = (compile_graph(graph, LOIHI2).program.connections[0] for graph in graphs)
    np.testing.assert_array_equal(wide.effective.weight, narrow.effective.weight)


@pytest.mark.parametrize("high", [3e5, 1e9])
def test_a_threshold_that_rounds_to_nothing_is_refused(high: float) -> None:
    entry = analog("in", 1, low=0, high=high)
    refused(one_layer([[1.0]], seed_lif("n", 1, alpha=None, beta=0.9, vth=1.0), entry))


def test_no_threshold_is_negative() -> None:
    node = integrator(vth=0.0, compare=">=", initial_voltage=-1.0)
    try:
        program = compile_graph(one_layer([[0.5]], node), LOIHI2).program
    except SpikecError:
        return
    assert program.populations[0].vth is not None
    assert program.populations[0].vth.min() >= 0


@given(SEEDS, st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_a_scale_that_may_not_clip_clips_nothing(seed: int, bits: int) -> None:
    weight = np.random.default_rng(seed).standard_t(2, (5, 9))
    wide = WeightBits(default=bits, rounding="max-abs")
    (loss,) = compile_graph(one_layer(weight), LOIHI2, weight_bits=wide).report.weights
    assert loss.clipped == 0
    (least,) = compile_graph(one_layer(weight), LOIHI2, weight_bits=bits).report.weights
    assert least.rms_error <= loss.rms_error + 1e-12


def limited_to(graph: Graph, most: int) -> Graph:
    return graph.rewritten(
        nodes={
            node.name: replace(node, max_spikes=most)
            for node in graph.populations
            if isinstance(node, LIF)
        }
    )


def test_a_refusal_for_several_spikes_names_the_limit_that_fits() -> None:
    """sinabs counts up to 255 spikes a step: of many inputs, no number of bits is few enough."""
    rng = np.random.default_rng(0)

    def counts(node: LIF) -> LIF:
        return replace(node, reset="subtract", reset_order="at_spike", max_spikes=255)

    graph = network(
        nodes=[spikes("in", 8), counts(seed_lif("a", 400, alpha=0.5, beta=0.9)),
               counts(seed_lif("b", 20, alpha=0.99, beta=0.9))],
        edges=[dense("in", "a", rng.normal(0, 1, (400, 8))),
               dense("a", "b", rng.uniform(0, 1, (20, 400)))],
        outputs=["b"],
    )  # fmt: skip
    for asked in (8, 1):
        with pytest.raises(QuantizationError, match=r"Q010 at population 'b'") as caught:
            compile_graph(graph, LOIHI2, weight_bits=asked)
        hint = caught.value.diagnostics[0].hint
        said = re.fullmatch(
            r"(?:--weight-bits (\d) with )?--max-spikes (\d+) fits: .* 255 .*", hint
        )
        assert said is not None, hint
        assert (said[1] is None) == (asked == 1)
        bits, limit = int(said[1] or asked), int(said[2])
        compile_graph(limited_to(graph, limit), LOIHI2, weight_bits=bits)
        for other_bits, other in ((bits, 2 * limit), (bits + 1, 1)):
            if other_bits <= asked:
                with pytest.raises(QuantizationError):
                    compile_graph(limited_to(graph, other), LOIHI2, weight_bits=other_bits)
