"""Soft resets of stock graded processes: the same spikes as golden, within 24-bit messages."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_programs import merged, merged_inputs, random_inputs, random_program

from spikec.backends.lava import graded
from spikec.backends.lava.emit import emit
from spikec.backends.lava.placement import edge_placement, placement
from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.npz import npz_bytes
from spikec.compiler.program import Neurons, Program

SOFT = (("subtract", "at_spike"), ("subtract", "next_step"))
#: A population without leak, of the default program in conftest.
FREE = {"reset": "subtract", "du": 4095, "dv": 0}


def freed(item: Neurons, rng: np.random.Generator) -> Neurons:
    """Take the leaks of a population, and what only our model does."""
    value = item.reset_value
    low = None if item.floor is None else np.full(item.shape, item.floor.min())
    voltage = np.where(rng.random(item.shape) < 0.5, 0, item.initial_voltage)
    if item.vth is not None:
        voltage = np.minimum(voltage, item.vth << 5)
    return replace(
        item, du=np.array(4095), dv=np.array(0), bias_exp=np.array(rng.integers(3, 8)),
        reset_value=None if value is None else value // 8 * 8, floor=low, reset_twice=False,
        refractory=0, start=min(item.start, 1), initial_voltage=voltage,
    )  # fmt: skip


def draw(seed: int, count: int = 1) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng([41, seed])
    programs = []
    for _ in range(count):
        program = random_program(
            rng, quiet_overflow=True, resets=SOFT, several=(1,), max_refractory=0
        )
        populations = tuple(freed(item, rng) for item in program.populations)
        programs.append(replace(program, populations=populations))
    inputs = [random_inputs(program, rng, 2, 30) for program in programs]
    return merged(programs), merged_inputs(inputs)


def by_units(program: Program, neurons: Neurons, drive: Array) -> tuple[Array, int]:
    """Compute the spikes ``[step, neuron]`` with three units, and the largest magnitude met.

    ``drive`` is what arrives, as whole numbers of weights.
    """
    reset = graded.integrator(neurons)
    zeros = np.zeros(neurons.num_neurons, np.int64)
    kept, taken, spiked, spikes, largest = zeros, zeros, zeros, [], 0
    for step, arriving in enumerate(drive):
        total = kept - taken + (arriving << reset.weight_shift) - reset.amounts * spiked
        if step >= reset.first:
            total = total + reset.biases + reset.kick * (step == reset.first)
        seen = (total, total - reset.span, total - reset.thresholds)
        kept, taken, message = (np.maximum(item, 0) for item in seen)
        if step < reset.first:
            taken, message = zeros, zeros
        spiked = (message > 0).astype(np.int64)
        spikes.append(spiked)
        largest = max(largest, *(int(np.abs(item).max()) for item in seen))
    return np.array(spikes), largest


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_three_units_are_a_saturating_integrator(build, data):
    """Golden saturates at both ends of 24 bits, or at a floor; the units do just the same."""
    exponent = data.draw(st.integers(0, 7), "bias_exp")
    mantissas = st.lists(st.integers(-4096, 4095), min_size=3, max_size=3)
    start = data.draw(st.integers(0, 3), "start")
    vth = data.draw(st.sampled_from([0, 1, 500, 131_071]), "vth")
    floor = data.draw(st.one_of(st.none(), st.integers(-(2**23) + 1, 0)), "floor")
    lowest = -(2**23) + 1 if floor is None else floor
    program = build(
        **FREE | {
            "bias_mant": data.draw(mantissas, "bias_mant"), "bias_exp": exponent, "vth": vth,
            "reset_order": data.draw(st.sampled_from(["at_spike", "next_step"]), "order"),
            "reset_value": data.draw(st.one_of(st.none(), st.integers(0, 2**23 - 1)), "value"),
            "floor": floor, "start": start,
            "initial_voltage": data.draw(st.integers(lowest, max(lowest, vth << 6)), "voltage"),
        },
        kind="graded", high=data.draw(st.sampled_from([1, 20, 80]), "high"),
        delay=max(1, start), weight_exp=data.draw(st.integers(0, 3), "weight_exp"),
    )  # fmt: skip
    (cells,) = program.populations
    if list(graded.obstacles(program, cells)):
        return
    (source,), (link,) = program.inputs, program.connections
    rng = np.random.default_rng(data.draw(st.integers(0, 99), "seed"))
    given = rng.integers(0, source.high + 1, (1, 60, *source.shape))
    given[:, :, int(rng.integers(3))] = rng.choice([0, source.high])  # drives to an end
    expected = golden.run(program, {"x": given}).spikes("cells")[0]
    drive = np.zeros((60, 3), np.int64)
    drive[link.delay :] = given[0, : 60 - link.delay] @ link.effective.weight.T
    found, largest = by_units(program, cells, drive)
    np.testing.assert_array_equal(found, expected)
    assert largest <= graded.MAX_MESSAGE


def test_what_is_drawn_reaches_both_ends(build):
    """Saturation is met from the grid and from between two of its points, above and below."""
    program = build(
        **FREE | {"vth": 131_071, "bias_mant": [4095, -4095, 100], "bias_exp": 7,
                  "initial_voltage": [12_345, -777, 3]}, kind="graded", high=60,
    )  # fmt: skip
    (cells,) = program.populations
    assert list(graded.obstacles(program, cells)) == []
    steps = np.zeros((1, 90, 3), np.int64)
    steps[:, 40:60] = 60
    trace = golden.run(program, {"x": steps})
    assert trace.events["cells/voltage saturated"] > 20
    drive = np.zeros((90, 3), np.int64)
    drive[1:] = steps[0, :-1] @ program.connections[0].effective.weight.T
    found, _ = by_units(program, cells, drive)
    np.testing.assert_array_equal(found, trace.spikes("cells")[0])
    assert 0 < found.sum() < found.size


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_spikes": 3}, "up to 3 spikes a step"),
        ({"refractory": 2}, "2 refractory steps"),
        ({"reset_twice": True}, "pass it twice"),
        ({"floor": [-3, -4, -5]}, "its floor differs"),
        ({"bias_mant": [1, 2, 3]}, "go in steps of 1: messages reach 33894914 of 8388607"),
        ({"bias_mant": [4, 8, -12]}, "go in steps of 4: messages reach 8"),
        ({"start": 2}, "input of step 1 must not count"),
        ({"start": 63, "delay": 63}, "starts at step 63, 62 at most"),
        ({"initial_voltage": 32_001}, "spikes in step 0"),
        ({"initial_voltage": 31_999, "bias_mant": 8, "bias_exp": 3}, "spikes in step 0"),
        ({"vth": -1}, "negative"),
        ({"reset_value": -64}, "raises the voltage"),
        ({"floor": -64, "reset_value": 64_000}, "its reset alone can reach the lowest"),
        ({"weight_exp": 7}, "an exponent of 8, 7 at most"),
        (
            {"vth": 131_071, "bias_mant": 8, "reset_value": 2**23 - 8},
            "takes off 2097150 units of 4",
        ),
        ({"weight_exp": 9, "kind": "graded", "high": 99}, "its input may wrap"),
    ],
)
def test_what_units_cannot_do_is_ours(build, changes, reason):
    (place,) = placement(build(**FREE | changes))
    assert (place.process, place.stock) == ("ExactLIF", False)
    assert reason in place.reason
    assert place.alternative


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vth": [10, 500, 900]},
        {"reset_value": [64, 32_000, 8_000], "bias_mant": [-8, 0, 16]},
        {"initial_voltage": [-5, 16_001, 31_999]},
        {"floor": -12_345, "start": 2, "delay": 2},
        {"floor": -32_000, "bias_mant": [4, 8, -12], "weight_exp": 2},
        {"vth": None, "reset": "none"},
        {"vth": None, "reset": "none", "floor": -64, "bias_mant": 8, "initial_voltage": 3},
    ],
)
def test_integrators_are_stock(build, changes):
    program = build(**FREE | changes)
    (place,) = placement(program)
    assert (place.process, place.stock) == ("GradedReluVec", True)
    (edge,) = edge_placement(program)
    assert edge.process in ("Dense", "DelayDense")
    assert "to all three units" in edge.reason
    (place,) = placement(program, own=["cells"])
    assert (place.process, place.stock) == ("ExactLIF", False)


@pytest.mark.lava
@pytest.mark.parametrize("seed", range(6))
def test_lava_equals_golden(backend, seed):
    """Random networks with recurrence, delays and saturation; one sample at a time, and batches."""
    program, inputs = draw(seed, 6)
    probes = program.default_probes
    expected = golden.run(program, inputs, probes=probes)
    trace = replace(backend, batch=1 + seed % 2).load(program).run(inputs, probes=probes)
    wrong = {probe: int((trace[probe] != expected[probe]).sum()) for probe in probes}
    assert {probe: count for probe, count in wrong.items() if count} == {}


def test_the_programs_are_worth_running():
    seen: Counter[str] = Counter()
    for seed in range(6):
        program, inputs = draw(seed, 6)
        stock = {item.population for item in placement(program) if item.process == "GradedReluVec"}
        trace = golden.run(program, inputs)
        spiking = {item.name for item in program.populations if item.vth is not None} & stock
        seen["populations"] += len(spiking)
        seen["readouts"] += len(stock) - len(spiking)
        seen["spikes"] += sum(int(trace.spikes(name).sum()) for name in spiking)
        seen["saturated"] += sum(f"{name}/voltage saturated" in trace.events for name in stock)
        for item in program.connections:
            seen["to themselves"] += item.source == item.target and item.source in stock
            seen["from delayed"] += item.source in stock and item.delay > 1
    assert seen["populations"] > 40
    assert seen["spikes"] > 2000
    assert min(seen.values()) >= 5, seen


@pytest.mark.lava
@pytest.mark.parametrize("floor", [None, -4_000_001])
@pytest.mark.parametrize("start", [0, 2])
def test_a_readout_that_saturates_has_the_voltage_of_golden(build, backend, floor, start):
    """From 12,345, between multiples of 8, to both ends of 24 bits and back, and to a floor."""
    program = build(
        **FREE | {"vth": None, "reset": "none", "bias_mant": [100, -100, 8], "bias_exp": 7,
                  "initial_voltage": [12_345, -777, 3], "floor": floor, "start": start},
        weights=((60, 20, -90), (-80, 90, 10), (90, -60, -30)), kind="graded", high=60,
        delay=max(1, start), weight_exp=3,
    )  # fmt: skip
    (place,) = placement(program)
    assert place.process == "GradedReluVec"
    given = np.zeros((3, 150, 3), np.int64)
    for sample in range(3):
        given[sample, 10:50, sample] = given[sample, 60:110, (sample + 1) % 3] = 60
    trace = golden.run(program, {"x": given})
    voltage = trace["cells", "voltage"]
    assert voltage.max() == 2**23 - 1
    assert voltage.min() == (floor or 1 - 2**23)
    found = backend.load(program).run({"x": given})
    np.testing.assert_array_equal(found["cells", "voltage"], voltage)


@pytest.mark.lava
def test_a_probed_voltage_is_our_models(build, backend):
    program = build(**FREE | {"bias_mant": 8})
    inputs = {"x": np.ones((2, 20, 3), np.uint8)}
    probes = [("cells", quantity) for quantity in ("spikes", "voltage", "current")]
    expected = golden.run(program, inputs, probes=probes)
    trace = backend.load(program).run(inputs, probes=probes)
    for probe in probes:
        np.testing.assert_array_equal(trace[probe], expected[probe])


@pytest.mark.lava
def test_nothing_but_stock_processes_runs_on_a_chip(build, lava_python, tmp_path):
    """What a hardware run would build: one sample, and only recorders are not Lava's own."""
    program = build(**FREE | {"bias_mant": [8, 16, -24], "start": 2}, delay=2, readout=True)
    to_units, from_units = edge_placement(program)
    assert (to_units.process, from_units.process) == ("DelayDense", "DelaySparse")
    emit(program, tmp_path / "net")
    code = (
        "import json, runtime, network, numpy as np\n"
        "net = runtime.Network(parameters=dict(np.load('parameters.npz').items()),\n"
        "    data={'x': np.ones((1, 8, 3), np.uint8)}, steps=9, probes=[], folder='.',\n"
        "    stepwise=True)\n"
        "network.build(net)\n"
        "print(json.dumps([[type(p).__module__, type(p).__name__] for p in net.processes]))\n"
    )
    result = subprocess.run(
        [lava_python, "-c", code], capture_output=True, text=True, cwd=tmp_path / "net", check=True
    )
    classes = [tuple(pair) for pair in json.loads(result.stdout)]
    own = {name for module, name in classes if not module.startswith("lava.proc.")}
    assert own == {"Recorder"}
    assert {name for _, name in classes} >= {"GradedReluVec", "LIF", "Sparse", "DelaySparse"}


@pytest.mark.lava
def test_a_voltage_that_nobody_keeps_is_refused_by_hand(build, lava_python, tmp_path):
    emit(build(**FREE), tmp_path / "net")
    (tmp_path / "data.npz").write_bytes(npz_bytes({"x": np.ones((1, 5, 3), np.uint8)}))
    command = [
        lava_python, "net/network.py", "--input", "data.npz", "--output", "trace.npz",
        "--probe", "cells:voltage",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode != 0
    assert result.stderr.strip() == "'cells': graded processes keep no such voltage or current"
    assert not (tmp_path / "trace.npz").exists()
