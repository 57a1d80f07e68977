"""Traces: joining them, files of them, probes as text, and the classes read from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.compiler.errors import UsageError
from spikec.compiler.trace import Readout, Trace, parse_probes, read_out
from spikec.compiler.trace_file import read_trace_and_units, write_trace


def trace(events: dict[str, int] | None = None, **values: object) -> Trace:
    return Trace(
        values={("out", name): np.array(item) for name, item in values.items()},  # type: ignore[misc]
        outputs=("out",),
        events=events or {},
    )


def test_a_trace_gives_its_spikes_and_events() -> None:
    spikes = [[[0, 1], [1, 0], [0, 0]]]
    run = trace(spikes=spikes)
    assert run["out", "spikes"].tolist() == run.spikes("out").tolist() == spikes
    assert run.indices("out").tolist() == [[0, 0, 1], [0, 1, 0]]
    assert run.num_steps == 3
    assert Trace(values={}, outputs=()).num_steps == 0


def test_traces_join_in_time_and_over_samples() -> None:
    first = trace(spikes=[[[1]], [[0]]], events={"a": 1, "b": 2})
    second = trace(spikes=[[[0]], [[1]]], events={"b": 3})
    in_time = Trace.joined([first, second], axis="step")
    assert in_time.spikes("out").tolist() == [[[1], [0]], [[0], [1]]]
    over_samples = Trace.joined([first, second], axis="sample")
    assert over_samples.spikes("out").tolist() == [[[1]], [[0]], [[0]], [[1]]]
    assert in_time.events == over_samples.events == {"a": 1, "b": 5}
    assert in_time.outputs == ("out",)
    assert Trace.joined(iter([first]), axis="step") is first


def test_probes_are_read_from_text() -> None:
    assert parse_probes(["a:b:voltage", "c:spikes"], ["a:b", "c"]) == (
        ("a:b", "voltage"),
        ("c", "spikes"),
    )
    assert parse_probes([], ["a"]) == ()


def test_every_bad_probe_is_named() -> None:
    with pytest.raises(UsageError) as caught:
        parse_probes(["a:spikes", "b:spikes", "a:weight", "a"], ["a"])
    findings = caught.value.diagnostics
    assert [item.where for item in findings] == [
        "probe 'b:spikes'", "probe 'a:weight'", "probe 'a'",
    ]  # fmt: skip
    assert {item.code for item in findings} == {"U010"}
    assert "spikes, voltage, current" in findings[0].hint


SPIKES = [[[1, 0, 1], [0, 1, 1]], [[0, 0, 0], [0, 0, 0]], [[0, 1, 0], [0, 0, 1]]]
VOLTAGE = [[[5, 0, 1], [0, 3, 2]], [[1, 1, 1], [1, 1, 1]], [[-5, -1, -2], [-1, -5, -1]]]


@pytest.mark.parametrize(
    ("readout", "expected"),
    [
        ("spike-count", [2, 0, 1]),
        ("max-voltage", [0, 0, 0]),
        ("last-voltage", [1, 0, 0]),
        ("mean-voltage", [0, 0, 2]),
        (None, [2, 0, 1]),
    ],
)
def test_readouts_take_the_first_of_equals(readout: Readout | None, expected: list[int]) -> None:
    run = trace(spikes=SPIKES, voltage=VOLTAGE)
    assert read_out(run, readout).tolist() == expected


def test_an_integrator_is_read_by_its_largest_voltage() -> None:
    assert read_out(trace(voltage=VOLTAGE)).tolist() == [0, 0, 0]


def test_counts_beyond_the_type_of_spikes_do_not_wrap() -> None:
    spikes = np.zeros((1, 300, 2), np.uint8)
    spikes[:, :, 1] = 1  # 300 spikes would be 44 in uint8
    spikes[:, :200, 0] = 1
    assert read_out(trace(spikes=spikes)).tolist() == [1]


def test_neurons_of_any_shape_are_counted_flat() -> None:
    spikes = np.zeros((1, 2, 2, 2))
    spikes[0, :, 1, 0] = 1
    assert read_out(trace(spikes=spikes)).tolist() == [2]


@pytest.mark.parametrize("readout", ["max-voltage", "spike-count"])
def test_a_readout_without_its_recording_is_refused(readout: Readout) -> None:
    only = trace(voltage=VOLTAGE) if readout == "spike-count" else trace(spikes=SPIKES)
    with pytest.raises(UsageError, match=rf"U011 at output 'out': readout '{readout}' needs"):
        read_out(only, readout)


@pytest.mark.parametrize("seed", range(8))
def test_a_trace_comes_back_as_it_was(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng, max_populations=2, max_neurons=6)
    inputs = random_inputs(program, rng, samples=2, steps=6)
    probes = [(item.name, what) for item in program.populations for what in ("voltage", "current")]
    made = golden.run(program, inputs, probes=[*program.default_probes, *probes])  # type: ignore[list-item]
    write_trace(tmp_path / "t.npz", made, neurons=program.populations)
    read, units = read_trace_and_units(tmp_path / "t.npz")
    assert (read.outputs, read.events) == (made.outputs, made.events)
    assert read.values.keys() == made.values.keys()
    for probe, values in made.values.items():
        assert read.values[probe].dtype == values.dtype
        np.testing.assert_array_equal(read.values[probe], values)
    assert {name: unit.lsb for name, unit in units.items()} == {
        item.name: item.lsb for item in program.populations
    }


def test_traces_keep_what_left_the_range(tmp_path: Path) -> None:
    values = np.zeros((1, 2, 3), np.uint8)
    made = Trace(values={("h", "spikes"): values}, outputs=("h",), events={"h: current": 1 << 40})
    write_trace(tmp_path / "t.npz", made)
    assert read_trace_and_units(tmp_path / "t.npz")[0].events == {"h: current": 1 << 40}
