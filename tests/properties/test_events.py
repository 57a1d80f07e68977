"""A streamed run is the run: the same events, classes and counts, in pieces of any size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.random_programs import random_inputs, random_program

from spikec.backends.simulator import golden
from spikec.backends.simulator.engine import ENGINES, Engine, SimulatorBackend
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError, UsageError
from spikec.compiler.event_file import EventWriter, read_events
from spikec.compiler.inputs import Stream, open_stream
from spikec.compiler.program import Program
from spikec.compiler.trace import QUANTITIES, Readout, Tally, Trace, read_out

SAMPLES, STEPS = 4, 11


def drawn(seed: int) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng([21, seed])
    program = random_program(rng)
    return program, random_inputs(program, rng, SAMPLES, STEPS)


def streamed(
    program: Program, data: Stream, path: Path, *, samples: int, steps: int, engine: Engine
) -> dict[str, int]:
    """Write the events of a run to ``path``; return what went out of range."""
    spiking = {
        item.name: (item.shape, item.max_spikes)
        for item in program.populations
        if item.vth is not None
    }
    counted: dict[str, int] = {}
    executable = SimulatorBackend(engine=engine).load(program)
    with EventWriter(path, spiking) as writer:
        for sample, step, trace in executable.stream(data, samples=samples, steps=steps):
            writer.add(trace, sample=sample, step=step)
            for name, count in trace.events.items():
                counted[name] = counted.get(name, 0) + count
        writer.finish(samples=SAMPLES, steps=STEPS, output=np.array(program.outputs))
    return counted


def assert_events_are(path: Path, expected: Trace) -> None:
    events = read_events(path)
    assert (events.num_samples, events.num_steps) == (SAMPLES, STEPS)
    assert events.outputs == expected.outputs
    populations = {name for name, quantity in expected.values if quantity == "spikes"}
    assert set(events.columns) == populations
    for name in populations:
        np.testing.assert_array_equal(events.spikes(name), expected.spikes(name))
        np.testing.assert_array_equal(events.indices(name), expected.indices(name))
        some = slice(1, 3)
        np.testing.assert_array_equal(
            events.spikes(name, samples=some), expected.spikes(name)[some]
        )


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 1 << 20),
    samples=st.integers(1, SAMPLES + 1),
    steps=st.integers(1, STEPS + 1),
    engine=st.sampled_from(ENGINES),
)
def test_events_are_the_dense_trace(
    seed: int, samples: int, steps: int, engine: Engine, tmp_path: Path
) -> None:
    program, inputs = drawn(seed)
    expected = golden.run(program, inputs)
    data = Stream(inputs=inputs, entries=program.inputs)
    path = tmp_path / "events.npz"
    counted = streamed(program, data, path, samples=samples, steps=steps, engine=engine)
    assert counted == expected.events
    assert_events_are(path, expected)
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_does_not_depend_on_the_chunks_of_steps(tmp_path: Path) -> None:
    program, inputs = drawn(3)
    data = Stream(inputs=inputs, entries=program.inputs)
    for steps in (1, 4, STEPS):
        streamed(program, data, tmp_path / str(steps), samples=2, steps=steps, engine="golden")
    assert len({(tmp_path / str(steps)).read_bytes() for steps in (1, 4, STEPS)}) == 1


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_data_are_read_from_disk_as_the_run_goes_on(save: object, tmp_path: Path) -> None:
    program, inputs = drawn(5)
    assert len(program.inputs) > 1
    save(tmp_path / "data.npz", **inputs, labels=np.arange(SAMPLES))  # type: ignore[operator]
    (tmp_path / "unpacked").mkdir()
    data = open_stream(tmp_path / "data.npz", program.inputs, tmp_path / "unpacked", samples=3)
    assert data.labels is not None
    assert data.labels.tolist() == [0, 1, 2]
    for begin in range(0, STEPS, 4):
        part = data.read(slice(1, 3), slice(begin, begin + 4))
        for name, values in part.items():
            np.testing.assert_array_equal(values, inputs[name][1:3, begin : begin + 4])


def test_a_chunk_that_does_not_fit_is_refused_when_it_is_read(tmp_path: Path) -> None:
    program, inputs = next(
        (program, inputs)
        for program, inputs in map(drawn, range(20))
        if program.inputs[0].kind == "binary"
    )
    entry = program.inputs[0]
    spoilt: Mapping[str, Array] = {name: values.copy() for name, values in inputs.items()}
    spoilt[entry.name][2, 7] = 2
    np.savez(tmp_path / "data.npz", **spoilt)
    data = open_stream(tmp_path / "data.npz", program.inputs, tmp_path)
    data.read(slice(0, 2), slice(0, STEPS))
    with pytest.raises(UsageError, match=r"samples from 2, steps from 4.*takes 0 and 1"):
        data.read(slice(2, 3), slice(4, 9))


def test_a_run_that_fails_leaves_nothing(tmp_path: Path) -> None:
    writer = EventWriter(tmp_path / "e.npz", {"p": ((3,), 1)})
    assert list(tmp_path.iterdir()) == [writer.folder]
    with pytest.raises(RuntimeError, match="stop"), writer:
        raise RuntimeError("stop")
    assert not list(tmp_path.iterdir())


def test_what_holds_no_events_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "trace.npz", **{"p/spikes": np.zeros((1, 2, 3)), "output": np.array(["p"])})
    with pytest.raises(FrontendError, match="events of a run"):
        read_events(tmp_path / "trace.npz")
    with pytest.raises(UsageError, match="cannot write"):
        EventWriter(tmp_path / "no" / "e.npz", {})


@pytest.mark.parametrize("readout", ["spike-count", "max-voltage", "last-voltage", "mean-voltage"])
@pytest.mark.parametrize("seed", range(10))
def test_a_readout_of_pieces_is_that_of_the_whole(readout: Readout, seed: int) -> None:
    program, inputs = drawn(seed)
    name = program.outputs[0]
    probes = [(name, quantity) for quantity in QUANTITIES]
    whole = golden.run(program, inputs, probes=probes)
    tally = Tally(name, readout)
    for begin, end in ((0, 4), (4, 4), (4, 5), (5, STEPS)):
        tally.add(
            Trace(
                values={probe: values[:, begin:end] for probe, values in whole.values.items()},
                outputs=whole.outputs,
            )
        )
    np.testing.assert_array_equal(tally.classes(), read_out(whole, readout))
