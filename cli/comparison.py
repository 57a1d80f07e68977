"""``spikec diff``: two traces, programs or networks, down to the first differing value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path

from spikec.backends import open_backend
from spikec.cli.loading import CompileOptions, data_for, refuse_given, steps_compiled_for
from spikec.cli.tables import say, table
from spikec.compiler import frontends, reference
from spikec.compiler.arrays import Array
from spikec.compiler.backend import Progress
from spikec.compiler.batches import batch_size, in_batches
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LIF, Graph
from spikec.compiler.program import Program
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.trace_file import read_trace_and_units
from spikec.compiler.verification.difference import DifferenceReport, Differences, Recorded
from spikec.compiler.verification.rungs import Scale, float_scales, integer_scales

__all__ = ["diff", "show"]

_TRACE = ".npz"


def diff(
    lower: Path,
    upper: Path,
    *,
    data: Path | None,
    samples: int | None,
    tolerance: float,
    options: CompileOptions,
    progress: Progress | None,
) -> DifferenceReport:
    """Compare two traces, or the runs of two networks or programs on ``data``."""
    traces = [path.suffix == _TRACE for path in (lower, upper)]
    if any(traces) and not all(traces):
        raise _refusal(
            lower,
            upper,
            "one is a trace and one is not",
            "run the network with 'spikec run -o TRACE.npz' and compare traces",
        )
    differences = Differences(tolerance=tolerance)
    if all(traces):
        _refuse_data(data, samples, options)
        differences.add(*(_read(path, name) for path, name in _named(lower, upper)))
        return differences.report()
    if data is None:
        raise _refusal(
            lower,
            upper,
            "networks are compared by what they do",
            "add --data D.npz; without it two traces (.npz) are compared",
        )
    sides = [_Side(frontends.load(path, options.read), name) for path, name in _named(lower, upper)]
    dataset = _data_for_both(sides[0].network, sides[1].network, data, samples, options)
    size = batch_size(4 * max(side.neurons for side in sides), dataset.num_steps)
    for part in in_batches(dataset.num_samples, size):
        batch = dataset.samples(part.start, part.stop)
        differences.add(*(side.recorded(batch) for side in sides))
        if progress is not None:
            progress(part.stop, dataset.num_samples)
    return differences.report()


def _data_for_both(
    lower: Graph | Program,
    upper: Graph | Program,
    path: Path,
    samples: int | None,
    options: CompileOptions,
) -> Dataset:
    """Read data that fit both, for the steps that either was compiled for."""
    known = steps_compiled_for(lower) or steps_compiled_for(upper)
    steps, layouts = options.steps, options.layouts
    data_for(upper, path, samples=1, steps=steps, layouts=layouts, known=known, quiet=True)
    return data_for(lower, path, samples=samples, steps=steps, layouts=layouts, known=known)


def _refusal(lower: Path, upper: Path, message: str, hint: str) -> UsageError:
    return UsageError(
        Diagnostic(code="U112", where=f"{lower}, {upper}", message=message, hint=hint)
    )


def _refuse_data(data: Path | None, samples: int | None, options: CompileOptions) -> None:
    given = {"--data": data, "--samples": samples, "--steps": options.steps,
             "--layout": options.layouts}  # fmt: skip
    given |= {f"--{name.replace('_', '-')}": value for name, value in asdict(options.read).items()}
    refuse_given(given, "two traces are compared as they are")


def _named(lower: Path, upper: Path) -> list[tuple[Path, str]]:
    """Return the files with short names that tell them apart."""
    if lower.name != upper.name:
        return [(lower, lower.name), (upper, upper.name)]
    if str(lower) != str(upper):
        return [(lower, str(lower)), (upper, str(upper))]
    return [(lower, f"{lower} (first)"), (upper, f"{upper} (second)")]


def _read(path: Path, name: str) -> Recorded:
    trace, units = read_trace_and_units(path)
    scales = {
        population: Scale(unit=unit.lsb, offset=unit.voltage_offset)
        for population, unit in units.items()
    }
    return Recorded(name=name, trace=trace, scales=scales)


class _Side:
    """A network in float, or a program in integers, ready to run."""

    def __init__(self, network: Graph | Program, name: str) -> None:
        self.network, self.name = network, name
        self.neurons = sum(item.num_neurons for item in network.populations)
        self.scales: Mapping[str, Scale]
        self._run: Callable[[Mapping[str, Array], tuple[Probe, ...]], Trace]
        if isinstance(network, Graph):
            self.scales = float_scales(network)
            self._run = lambda inputs, probes: reference.run(network, inputs, probes=probes)
        else:
            self.scales = integer_scales(network)
            executable = open_backend("simulator").load(network)
            self._run = lambda inputs, probes: executable.run(inputs, probes=probes)

    def recorded(self, batch: Dataset) -> Recorded:
        """Return spikes and voltages of all populations."""
        probes: list[Probe] = []
        for item in self.network.populations:
            spiking = isinstance(item, LIF) or getattr(item, "vth", None) is not None
            if spiking:
                probes.append((item.name, "spikes"))
            probes.append((item.name, "voltage"))
        trace = self._run(batch.inputs, tuple(probes))
        return Recorded(name=self.name, trace=trace, scales=self.scales)


def show(report: DifferenceReport) -> None:
    """Print what differs, and the first difference with the state on both sides."""
    rows = [
        [item.population, item.quantity, str(item.values), str(item.differing),
         f"{item.largest:.6g}", f"{item.differing_samples} of {report.samples}"]
        for item in report.quantities
    ]  # fmt: skip
    table(
        f"{report.lower} and {report.upper}: {report.samples} samples of {report.steps} steps",
        ["population", "quantity", "values", "differing", "largest difference",
         "differing samples"],
        rows,
    )  # fmt: skip
    for item in report.left_out:
        say(f"not compared: {item}")
    first = report.first
    if first is None:
        say("no difference")
        return
    neuron = ",".join(map(str, first.neuron))
    say(f"first difference: sample {first.sample}, step {first.step}, {first.population}[{neuron}]")
    for name, state in first.states.items():
        say(f"  {name}: " + ", ".join(f"{key} {value:.9g}" for key, value in state.items()))
