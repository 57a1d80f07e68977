"""Commands that run networks: what they do between the options and the tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np

from spikec.backends import open_backend
from spikec.backends.simulator.engine import SimulatorExecutable
from spikec.cli.loading import (
    CompileOptions,
    LavaOptions,
    backend_for,
    classes_of,
    data_for,
    idle,
    load,
    read_network,
    refuse_idle,
    say_notes,
    steps_compiled_for,
)
from spikec.cli.outputs import check_output
from spikec.cli.tables import say, table
from spikec.compiler import frontends, reference
from spikec.compiler.arrays import Array, size
from spikec.compiler.backend import Executable, Progress
from spikec.compiler.batches import batch_size, run_in_batches
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.event_file import EventWriter
from spikec.compiler.files import make_folder, write_atomically
from spikec.compiler.frontends import ReadOptions
from spikec.compiler.inputs import Dataset, Stream, open_stream, to_integers
from spikec.compiler.ir import LI, Graph, Input
from spikec.compiler.npz import write_npz
from spikec.compiler.program import Neurons, Populated, Program, refused_encoders
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.sigma_delta import SigmaDelta
from spikec.compiler.trace import (
    Probe,
    Readout,
    Tally,
    Trace,
    default_readout,
    parse_probes,
    read_out,
)
from spikec.compiler.trace_file import write_trace

__all__ = [
    "EventResult",
    "RunResult",
    "convert",
    "copy_from_zoo",
    "machines",
    "refuse_with_events",
    "run",
    "run_events",
    "show",
    "show_ways",
    "writer_for",
    "zoo_entries",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class EventResult:
    """A finished run whose trace went to disk."""

    predictions: Array
    accuracy: float | None
    steps: int
    rates: Mapping[str, float]
    events: Mapping[str, int]
    notes: Sequence[str] = ()

    def summary(self, path: Path | None) -> dict[str, Any]:
        """Return the numbers that one line of output would say."""
        return {
            "output": None if path is None else str(path),
            "samples": len(self.predictions),
            "steps": self.steps,
            "accuracy": self.accuracy,
            "predictions": self.predictions.tolist(),
            "rates": dict(self.rates),
            "events": dict(self.events),
            "notes": list(self.notes),
        }


@dataclass(frozen=True, eq=False, kw_only=True)
class RunResult:
    """A finished run: its trace, predictions, and accuracy where labels were given."""

    trace: Trace
    predictions: Array
    accuracy: float | None
    neurons: Sequence[Populated]
    #: How the simulator's fast engine served each connection; empty for other engines.
    ways: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    #: Which engine of the simulator ran; empty for other backends.
    engine: str = ""
    #: What was taken for granted of the data.
    notes: Sequence[str] = ()

    def save(self, path: Path) -> None:
        """Write the trace to ``path``."""
        write_trace(path, self.trace, predictions=self.predictions, neurons=self.neurons)

    def summary(self, path: Path | None) -> dict[str, Any]:
        """Return the numbers that one line of output would say."""
        rates = {
            name: _rate(values)
            for (name, quantity), values in self.trace.values.items()
            if quantity == "spikes"
        }
        return {
            "output": None if path is None else str(path),
            "samples": len(self.predictions),
            "steps": self.trace.num_steps,
            "accuracy": self.accuracy,
            "predictions": self.predictions.tolist(),
            "rates": rates,
            "events": dict(self.trace.events),
            "notes": list(self.notes),
        }


def run(
    file: Path,
    data_file: Path,
    *,
    backend: str,
    probes: Sequence[str],
    readout: str | None,
    samples: int | None,
    options: CompileOptions,
    lava: LavaOptions,
    progress: Progress | None,
    engine: str | None = None,
    answers: bool = True,
) -> RunResult:
    """Run ``file`` on the data in ``data_file`` and read out the classes.

    ``answers`` says whether they go anywhere but into an accuracy.
    """
    chosen = cast("Readout | None", readout)
    if backend == "reference":
        if engine is not None:
            raise UsageError(idle("--engine", "the float reference has none to choose"))
        network = read_network(file, options.read)
        if isinstance(network, Graph):
            refuse_idle(options, "the float reference runs the network as it is")
            data = data_for(
                network, data_file, samples=samples, steps=options.steps, layouts=options.layouts
            )
            _refuse_unread(readout, data, answers=answers)
            return _run_graph(network, data, probes, chosen, progress)
    loaded = load(file, options)
    program = loaded.program
    data = data_for(
        program, data_file, samples=samples, steps=options.steps, layouts=options.layouts
    )
    _refuse_unread(readout, data, answers=answers)
    wanted = parse_probes(probes, [item.name for item in program.populations])
    chosen, wanted = _read_from(program, wanted, chosen)
    if backend == "reference":
        raise_if_any(UsageError, list(refused_encoders(program, "the float reference")))
        quantized = dequantize(program)
        integers, events = to_integers(program, data.inputs)
        trace = _run_reference(quantized, integers, wanted, progress)
        trace = Trace(values=trace.values, outputs=trace.outputs, events=events)
        ways, ran = {}, ""
    else:
        opened = backend_for(backend, program, lava=lava, engine=engine)
        with opened.load(program) as executable:
            trace = executable.run(data.inputs, probes=wanted, progress=progress)
            ways = {name: asdict(way) for name, way in getattr(executable, "ways", {}).items()}
            ran = str(getattr(executable, "engine", ""))
    return replace(_result(trace, data, chosen, program.populations), ways=ways, engine=ran)


def _refuse_unread(readout: str | None, data: Dataset, *, answers: bool) -> None:
    """Refuse a readout whose answers nobody is told."""
    if readout is not None and data.labels is None and not answers:
        why = "there are no labels to compare answers with; -o or --json has them"
        raise UsageError(idle("--readout", why))


def refuse_with_events(options: Mapping[str, object], *, backend: str) -> None:
    """Refuse what a run that writes events does not do."""
    given = [name for name, value in options.items() if value]
    if backend != "simulator":
        given.append(f"--backend {backend}")
    if given:
        raise UsageError(
            Diagnostic(
                code="U032",
                where="option --events",
                message=f"it goes with no {', '.join(given)}: events are the simulator's spikes",
                hint="leave one of them out",
            )
        )


#: Bytes that a piece of a streamed run sends and records.
_PIECE = 16 << 20
_PIECE_STEPS = 100


def run_events(
    file: Path,
    data_file: Path,
    output: Path,
    *,
    readout: str | None,
    samples: int | None,
    options: CompileOptions,
    progress: Progress | None,
    engine: str | None = None,
) -> EventResult:
    """Run ``file`` on the simulator piece by piece; its spikes go to ``output`` as events."""
    program = load(file, options).program
    raise_if_any(UsageError, list(refused_encoders(program, "a file of events")))
    chosen, probes = _read_from(program, (), cast("Readout | None", readout))
    with ExitStack() as stack:
        spiking = {
            item.name: (item.shape, item.max_spikes)
            for item in program.neurons
            if item.vth is not None
        }
        writer = stack.enter_context(EventWriter(output, spiking))
        data = open_stream(
            data_file, program.inputs, writer.folder, samples=samples, steps=options.steps,
            compiled_for=steps_compiled_for(program), layouts=options.layouts,
            classes=classes_of(program),
        )  # fmt: skip
        say_notes(data)
        opened = open_backend("simulator", engine=engine)
        executable = stack.enter_context(opened.load(program))
        assert isinstance(executable, SimulatorExecutable)
        result = _Streamed(program.outputs[0], chosen, writer, dict.fromkeys(spiking, 0))
        together, steps = _piece(program, data)
        done = 0
        for sample, step, trace in executable.stream(
            data, samples=together, steps=steps, probes=probes
        ):
            result.add(trace, sample=sample, step=step)
            done += trace.num_steps * min(together, data.num_samples - sample)
            if progress is not None:
                progress(done // data.num_steps, data.num_samples)
        predictions = result.predictions()
        writer.finish(
            samples=data.num_samples, steps=data.num_steps, output=np.array(program.outputs),
            predictions=predictions,
        )  # fmt: skip
    each = data.num_samples * data.num_steps
    return EventResult(
        predictions=predictions,
        accuracy=None if data.labels is None else float((predictions == data.labels).mean()),
        steps=data.num_steps,
        rates={
            name: count / (each * program.population(name).num_neurons)
            for name, count in result.spikes.items()
        },
        events=result.events,
        notes=data.notes,
    )


def _piece(program: Program, data: Stream) -> tuple[int, int]:
    """Return how many samples and steps of ``data`` to take at a time."""
    values = program.num_neurons + sum(size(item.shape) for item in program.inputs)
    steps = min(data.num_steps, _PIECE_STEPS)
    samples = max(1, min(data.num_samples, _PIECE // (values * steps)))
    return samples, max(1, _PIECE // (values * samples))


class _Streamed:
    """What is known of a streamed run so far."""

    def __init__(
        self, output: str, readout: Readout, writer: EventWriter, spikes: dict[str, int]
    ) -> None:
        self._output, self._readout, self._writer = output, readout, writer
        self._tallies: dict[int, Tally] = {}
        self.spikes = spikes
        self.events: dict[str, int] = {}

    def add(self, trace: Trace, *, sample: int, step: int) -> None:
        """Write a piece and count it."""
        self._writer.add(trace, sample=sample, step=step)
        tally = self._tallies.setdefault(sample, Tally(self._output, self._readout))
        tally.add(trace)
        for name in self.spikes:
            self.spikes[name] += int(trace.spikes(name).sum(dtype=np.int64))
        for name, count in trace.events.items():
            self.events[name] = self.events.get(name, 0) + count

    def predictions(self) -> Array:
        """Return the class of every sample."""
        return np.concatenate([tally.classes() for tally in self._tallies.values()])


def _run_graph(
    graph: Graph,
    data: Dataset,
    probes: Sequence[str],
    readout: Readout | None,
    progress: Progress | None,
) -> RunResult:
    wanted = parse_probes(probes, [node.name for node in graph.populations])
    output = graph[graph.outputs[0]]
    assert not isinstance(output, Input)
    silent = isinstance(output, LI)
    readout = readout or default_readout(spikes=not silent, leaks=bool((output.beta < 1).any()))
    wanted = _with_readout(wanted, readout, output.name, silent=silent)
    trace = _run_reference(graph, data.inputs, wanted, progress)
    return _result(trace, data, readout, ())


def _run_reference(
    graph: Graph, inputs: Mapping[str, Array], probes: Sequence[Probe], progress: Progress | None
) -> Trace:
    wanted = tuple(dict.fromkeys((*graph.default_probes, *probes)))
    neurons = sum(node.num_neurons for node in graph.populations)
    steps = next(iter(inputs.values())).shape[1]
    return run_in_batches(
        lambda part: reference.run(graph, part, probes=wanted),
        inputs,
        size=batch_size(neurons, steps),
        progress=progress,
    )


def _read_from(
    program: Program, probes: tuple[Probe, ...], readout: Readout | None
) -> tuple[Readout, tuple[Probe, ...]]:
    """Return how a program's output is read, and the probes with what that needs."""
    output = program.population(program.outputs[0])
    silent = output.vth is None
    leaks = isinstance(output, Neurons) and bool(output.dv.any())
    chosen = readout or default_readout(spikes=not silent, leaks=leaks)
    return chosen, _with_readout(probes, chosen, output.name, silent=silent)


def _with_readout(
    probes: tuple[Probe, ...], readout: Readout | None, output: str, *, silent: bool
) -> tuple[Probe, ...]:
    """Add the voltage that a voltage readout reads; an integrator has no spikes to count."""
    if silent and readout == "spike-count":
        raise UsageError(
            Diagnostic(
                code="U011",
                where=f"output '{output}'",
                message="readout 'spike-count' on a leaky integrator, which never spikes",
                hint="choose max-voltage, last-voltage or mean-voltage",
            )
        )
    if readout is None or readout == "spike-count":
        return probes
    return (*probes, (output, "voltage"))


def _result(
    trace: Trace, data: Dataset, readout: Readout | None, neurons: Sequence[Populated]
) -> RunResult:
    predictions = read_out(trace, readout)
    accuracy = None if data.labels is None else float((predictions == data.labels).mean())
    return RunResult(
        trace=trace, predictions=predictions, accuracy=accuracy, neurons=neurons, notes=data.notes
    )


def _rate(values: Array) -> float:
    """Return spikes a step, or the share of steps in which a sigma-delta neuron sent anything."""
    return float((values != 0 if values.dtype == np.int32 else values).mean(dtype=np.float64))


def _encodes(neurons: Sequence[Populated]) -> bool:
    return any(isinstance(item, SigmaDelta) for item in neurons)


def _on_golden(result: RunResult) -> bool:
    others = not all(isinstance(item, Neurons) for item in result.neurons)
    return others and result.engine == "golden"


def show_ways(result: RunResult) -> None:
    """Print how each connection was served."""
    rows = [
        [name, f"{100 * way['density']:.2f} %", way["way"]] for name, way in result.ways.items()
    ]
    if rows:
        table("how connections were served", ["connection", "not zero", "way"], rows)
        return
    if _on_golden(result):
        say("ran on the golden engine: the fast one runs current-based neurons only")
        return
    say("only the simulator's fast engine chooses between ways")


def show(result: RunResult | EventResult, path: Path | None) -> None:
    """Print what a run gave."""
    summary = result.summary(path)
    rows = [[name, f"{100 * rate:.3f} %"] for name, rate in summary["rates"].items()]
    encodes = isinstance(result, RunResult) and _encodes(result.neurons)
    sent = "messages" if encodes else "spikes"
    table(f"{sent[:-1]} rates", ["population", f"{sent} per step"], rows)
    presented = f"{summary['samples']} samples of {summary['steps']} steps"
    if result.accuracy is None:
        say(presented)
    else:
        say(f"accuracy {100 * result.accuracy:.2f} % of {presented}")
    for event, count in summary["events"].items():
        say(f"out of range: {event}, {count} times")
    if path is not None:
        say(f"wrote {path}")


@contextmanager
def machines(
    program: Program, backends: Sequence[str], *, lava: LavaOptions
) -> Iterator[tuple[Executable, dict[str, Executable]]]:
    """Give the golden engine and the named backends, with ``program`` loaded."""
    with ExitStack() as stack:
        opened = {
            name: stack.enter_context(backend_for(name, program, lava=lava).load(program))
            for name in backends
        }
        yield stack.enter_context(open_backend("simulator", engine="golden").load(program)), opened


def convert(file: Path, output: Path, options: ReadOptions) -> tuple[str, ...]:
    """Read the network in ``file`` and write it in the format that ``output``'s ending names.

    Returns what that format holds less exactly.
    """
    write = writer_for(output)
    check_output(output, file)
    return write(frontends.load_graph(file, options), output) or ()


def writer_for(output: Path) -> Callable[[Graph, Path], tuple[str, ...] | None]:
    """Return what writes a network in the format that ``output``'s ending names.

    It returns what that format holds less exactly, if there is anything.
    """
    writers = {
        ".safetensors": "spikec.compiler.frontends.native",
        ".onnx": "spikec.compiler.frontends.onnx_write",
        ".nir": "spikec.compiler.frontends.nir_graph",
    }
    if output.suffix not in writers:
        raise UsageError(
            Diagnostic(
                code="U090",
                where=str(output),
                message=f"no format ends in '{output.suffix}'",
                hint=f"one of {', '.join(writers)}",
            )
        )
    writer = import_module(writers[output.suffix]).write
    return cast("Callable[[Graph, Path], tuple[str, ...] | None]", writer)


def zoo_entries() -> list[dict[str, str]]:
    """Return name and summary of every trained network."""
    from spikec.models.zoo import ZOO

    return [{"name": item.name, "summary": item.summary} for item in ZOO]


def copy_from_zoo(name: str, folder: Path, samples: int) -> list[Path]:
    """Copy a trained network and ``samples`` test samples into ``folder``."""
    from spikec.models import zoo

    entry = zoo.entry(name)
    make_folder(folder)
    data = zoo.data(name, samples=samples)
    (spikes,) = data.inputs.values()
    assert data.labels is not None
    network, samples_file = folder / f"{name}.safetensors", folder / f"{name}-data.npz"
    write_atomically(network, entry.path.read_bytes())
    write_npz(samples_file, {"spikes": spikes, "labels": data.labels})
    return [network, samples_file]
