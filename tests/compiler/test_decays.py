"""Decays and gain chosen for the synaptic kernel: against kernels that are simulated."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikec.backends.simulator import golden
from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.ir import Edge
from spikec.compiler.operators import Dense, Sparse, Synapses
from spikec.compiler.quantize import compile_graph
from spikec.compiler.quantize.decay import (
    Decays,
    alpha_of,
    beta_of,
    du_of,
    dv_of,
    fitted_decays,
    kernel_error,
)
from spikec.compiler.quantize.weights import Grid, choose_unit
from spikec.compiler.targets import load_target
from spikec.models import dense, network, seed_lif, seed_readout, spikes

LOIHI2 = load_target("loihi2")
FACTORS = st.floats(0.0, 0.9995)


def fitted(alpha: float | None, beta: float) -> Decays:
    current = None if alpha is None else np.array([alpha])
    return fitted_decays(current, np.array([beta]), LOIHI2.du, LOIHI2.dv)


def simulated(alpha: float, beta: float, steps: int = 30_000) -> Array:
    kernel, current, voltage = np.empty(steps), 1.0, 0.0
    for step in range(steps):
        voltage = beta * voltage + current
        kernel[step] = voltage
        current *= alpha
    return kernel


@given(FACTORS, FACTORS)
@settings(max_examples=15, deadline=None)
def test_the_error_is_that_of_simulated_kernels(alpha: float, beta: float) -> None:
    found = fitted(alpha, beta)
    if found.error is None:
        return
    wanted = simulated(alpha, beta)
    kept = simulated(float(alpha_of(found.du)[0]), float(beta_of(found.dv)[0]))
    error = np.linalg.norm(wanted - found.gain[0] * kept) / np.linalg.norm(wanted)
    assert found.error == pytest.approx(error, rel=1e-3, abs=1e-6)
    assert found.gain[0] == pytest.approx(wanted @ kept / (kept @ kept), rel=1e-6)
    near = simulated(
        float(alpha_of(du_of(np.array(alpha), LOIHI2.du))),
        float(beta_of(dv_of(np.array(beta), LOIHI2.dv))),
    )
    nearest = np.linalg.norm(wanted - near) / np.linalg.norm(wanted)
    assert found.nearest_error == pytest.approx(nearest, rel=1e-3, abs=1e-6)


@given(st.none() | st.floats(0.0, 1.0, exclude_max=True), st.floats(0.0, 1.0))
@settings(max_examples=300, deadline=None)
def test_fitted_decays_are_legal_and_no_worse(alpha: float | None, beta: float) -> None:
    found = fitted(alpha, beta)
    assert LOIHI2.du.low <= found.du.min() <= found.du.max() <= LOIHI2.du.high
    assert LOIHI2.dv.low <= found.dv.min() <= found.dv.max() <= LOIHI2.dv.high
    if found.error is None:
        assert found.gain == 1
        assert found.dv == dv_of(np.array([beta]), LOIHI2.dv)
        return
    assert found.nearest_error is not None
    assert found.error <= found.nearest_error + 1e-7
    current = None if alpha is None else np.array([alpha])
    exact = kernel_error(current, np.array([beta]), found.du, found.dv, found.gain)
    assert exact == pytest.approx(found.error, abs=2e-7)


def test_factors_the_chip_has_stay_as_they_are() -> None:
    for du, dv in ((0, 1), (741, 390), (4095, 4096), (2047, 0)):
        alpha, beta = float(alpha_of(np.array(du))), float(beta_of(np.array(dv)))
        found = fitted(alpha, beta)
        assert (found.du, found.dv, found.gain) == (du, dv, 1.0)
        assert not found.error


def test_kernels_are_kept_at_least_twice_as_well_as_by_the_nearest() -> None:
    rng = np.random.default_rng(0)
    taus = np.exp(rng.uniform(np.log(5), np.log(200), (400, 2)))
    errors = [fitted(*np.exp(-1 / pair)) for pair in taus]
    nearest = np.median([item.nearest_error for item in errors])
    assert nearest / np.median([item.error for item in errors]) > 2.3


@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_spikes_part_less_from_the_float_ones(reset: str) -> None:
    """Against programs whose decays are the nearest: made by giving those as the network's."""
    wrong = np.zeros(2)
    for seed in range(12):
        rng = np.random.default_rng(seed)
        alpha, beta = np.exp(-1 / np.exp(rng.uniform(np.log(30), np.log(200), 2)))
        levels = np.clip(np.rint(rng.normal(1, 8, (20, 50))), -31, 31)
        levels[0, :2] = -32, 31  # six bits hold them all: only decays are rounded
        weight = levels / 40 / np.linalg.norm(simulated(alpha, beta, 4000))
        nearest = alpha_of(du_of(alpha, LOIHI2.du)), beta_of(dv_of(beta, LOIHI2.dv))
        data = {"in": (rng.random((8, 120, 50)) < 0.05).astype(np.uint8)}
        graphs = [
            network(
                nodes=[spikes("in", 50), replace(seed_lif("n", 20, alpha=a, beta=b), reset=reset)],
                edges=[dense("in", "n", weight)],
                outputs=["n"],
            )
            for a, b in ((alpha, beta), nearest)
        ]
        expected = reference.run(graphs[0], data).spikes("n")
        for place, graph in enumerate(graphs):
            program = compile_graph(graph, LOIHI2, weight_bits=6).program
            found = golden.run(program, data).spikes("n")
            wrong[place] += (found != expected).sum()
    assert wrong[0] < wrong[1]


def test_a_bias_keeps_the_voltage_it_leads_to_and_a_current_its_unit() -> None:
    node = seed_readout("n", 1, tau_syn=40, tau_mem=150, dt=1, bias=1.0)
    graph = network(nodes=[spikes("in", 1), node], edges=[dense("in", "n", [[0.5]])], outputs=["n"])
    compilation = compile_graph(graph, LOIHI2)
    assert compilation.report.populations[0].kernel_error
    silent = {"in": np.zeros((1, 2500, 1), np.uint8)}
    (neurons,) = compilation.program.populations
    reached = golden.run(compilation.program, silent)["n", "voltage"][0, -1, 0] * neurons.lsb
    assert reached == pytest.approx(1.0 / (1 - np.exp(-1 / 150)), rel=2e-3)
    scale = neurons.view.current_scale[0]
    assert scale != 1
    data = {"in": np.ones((1, 400, 1), np.uint8)}
    current = golden.run(compilation.program, data, probes=[("n", "current")])["n", "current"]
    wanted = reference.run(graph, data, probes=[("n", "current")])["n", "current"]
    assert current[0, -1, 0] * neurons.lsb / scale == pytest.approx(wanted[0, -1, 0], rel=1e-2)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.floats(0.9, 1.1))
@settings(max_examples=30, deadline=None)
def test_a_grid_with_a_gain_is_one_of_weights_multiplied(seed: int, bits: int, gain: float) -> None:
    weight = np.random.default_rng(seed).normal(size=(5, 7))
    lazy, plain = Grid(weight=weight, bits=bits, gain=gain), Grid(weight=weight * gain, bits=bits)
    assert lazy.widest_step == pytest.approx(plain.widest_step, rel=1e-12)
    step = 2.0 ** choose_unit([plain])[1][0]
    levels = plain.all_levels(step)
    np.testing.assert_array_equal(lazy.all_levels(step), levels)
    np.testing.assert_array_equal(lazy.values(), plain.weight)
    assert lazy.errors(step, levels) == plain.errors(step, levels)
    assert lazy.clipped(step) == plain.clipped(step)


def test_single_synapses_carry_the_gain_of_their_targets() -> None:
    rng = np.random.default_rng(0)
    synapses = Synapses(targets=np.tile([0, 2, 3], 6), pointers=np.arange(7) * 3, outputs=4)
    weight = rng.normal(size=18)
    matrix = np.zeros((4, 6))
    matrix[synapses.targets, np.repeat(np.arange(6), 3)] = weight
    node = seed_lif("n", 4, alpha=0.85, beta=np.array([0.8, 0.9, 0.97, 0.993]))
    found = []
    for operator in (Sparse(weight=weight, synapses=synapses), Dense(weight=matrix)):
        edge = Edge(name="W", source="in", target="n", operator=operator, delay=1)
        graph = network(nodes=[spikes("in", 6), node], edges=[edge], outputs=["n"])
        compiled = compile_graph(graph, LOIHI2)
        assert (fitted_decays(node.alpha, node.beta, LOIHI2.du, LOIHI2.dv).gain != 1).any()
        found.append(compiled.program.connections[0].effective.weight)
    sparse, whole = found
    np.testing.assert_allclose(
        sparse, whole[synapses.targets, np.repeat(np.arange(6), 3)], rtol=0, atol=0
    )
