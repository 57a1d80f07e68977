"""Traces: joining them, probes as text, and the classes read from them."""

from __future__ import annotations

import numpy as np
import pytest

from spikec.compiler.errors import UsageError
from spikec.compiler.trace import Readout, Trace, parse_probes, read_out


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
