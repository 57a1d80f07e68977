"""Rung Q: where nothing is truncated, a program's float graph gives the program's integers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.compiler import reference
from spikec.compiler.arrays import Array, frozen
from spikec.compiler.inputs import to_integers
from spikec.compiler.ir import LI, LIF
from spikec.compiler.program import Program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.targets import load_target
from spikec.compiler.trace import QUANTITIES, Trace
from spikec.models import dense, network, seed_lif, spikes

PROGRAMS = 300


def untruncated(rng: np.random.Generator) -> Program:
    """Draw a program without filter (du 4095) and leak (dv 0): nothing is ever rounded.

    An initial voltage above the threshold is left out: with a reset one step
    late a graph does not define whether it counts as a spike.
    """
    program = random_program(rng, max_weight_exp=2)
    populations = []
    for item in program.populations:
        voltage = item.initial_voltage
        if item.vth is not None:
            voltage = frozen(np.minimum(voltage, item.vth << 6))
        populations.append(
            replace(item, du=frozen(4095), dv=frozen(0), initial_voltage=voltage)  # type: ignore[type-var]
        )
    return replace(program, populations=tuple(populations))


def runs() -> Iterator[tuple[Program, Trace, Trace]]:
    """Yield programs with their integer and float traces, where no integer left its range."""
    for seed in range(PROGRAMS):
        rng = np.random.default_rng([11, seed])
        program = untruncated(rng)
        inputs = random_inputs(program, rng, 2, int(rng.integers(6, 13)))
        probes = [(item.name, quantity) for item in program.populations for quantity in QUANTITIES]
        integers = golden.run(program, inputs, probes=probes)
        if any("wrapped" in event or "saturated" in event for event in integers.events):
            continue
        quantized = reference.run(
            dequantize(program), to_integers(program, inputs)[0], probes=probes
        )
        yield program, integers, quantized


def test_without_truncation_the_float_graph_equals_the_integers() -> None:
    compared, spiking, lagging = 0, 0, 0
    for program, integers, quantized in runs():
        compared += 1
        spiking += any(integers.spikes(item.name).any() for item in program.populations)
        lagging += any(item.view.lag != 0 for item in program.populations)
        for probe, values in integers.values.items():
            np.testing.assert_array_equal(quantized[probe], values, str(probe))
    assert compared > PROGRAMS / 3
    assert spiking > compared / 2
    assert lagging > compared / 2


def test_a_graph_has_the_programs_parts_in_the_programs_units() -> None:
    for seed in range(40):
        program = untruncated(np.random.default_rng([12, seed]))
        graph = dequantize(program)
        assert [node.name for node in graph.inputs] == [item.name for item in program.inputs]
        assert graph.outputs == program.outputs
        for item in program.populations:
            node = graph[item.name]
            assert isinstance(node, LI if item.vth is None else LIF)
            assert (node.start, node.view) == (item.start, item.view)  # type: ignore[union-attr]
            np.testing.assert_array_equal(node.bias, item.bias)  # type: ignore[union-attr]
        edges = {edge.name: edge for edge in graph.edges}
        for item in program.connections:
            weight = edges[item.name].operator.weight  # type: ignore[union-attr]
            np.testing.assert_array_equal(weight, 64 * item.effective.weight)
            assert edges[item.name].delay == item.delay


def test_decays_become_the_factors_that_the_chip_keeps() -> None:
    program = untruncated(np.random.default_rng(0))
    leaky = replace(
        program, populations=tuple(replace(item, du=frozen(1023), dv=frozen(1024))  # type: ignore[type-var]
                                   for item in program.populations)
    )  # fmt: skip
    for node in dequantize(leaky).populations:
        assert node.alpha is not None
        assert (node.alpha == 0.75).all()
        assert (node.beta == 0.75).all()


def slow_start(compare: str, voltage: Array) -> LIF:
    return replace(
        seed_lif("n", 1, alpha=0.5, beta=1.0, initial_voltage=voltage),
        compare=compare,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "compare",
    [
        ">",
        ">=",
    ],
)  # fmt: skip
def test_a_network_that_starts_at_its_threshold_has_a_rung_q(compare: str) -> None:
    start = np.array(1.0 if compare == ">" else np.nextafter(1.0, 0.0))
    graph = network(
        nodes=[spikes("in", 1), slow_start(compare, start)],
        edges=[dense("in", "n", [[0.5]])],
        outputs=["n"],
    )
    dequantize(compile_graph(graph, load_target("loihi2")).program)


def test_rounding_does_not_lift_an_initial_voltage_over_the_threshold() -> None:
    for vth in np.linspace(0.3, 0.9, 50):
        node = seed_lif("n", 1, alpha=0.5, beta=1.0, initial_voltage=vth, vth=vth)
        graph = network(
            nodes=[spikes("in", 1), node], edges=[dense("in", "n", [[0.5]])], outputs=["n"]
        )
        dequantize(compile_graph(graph, load_target("loihi2")).program)
