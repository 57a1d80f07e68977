"""The ladder: F (float) -> Q (quantized parameters, float) -> I (integers) -> backends.

F to Q is approximation and Q to I is truncation: both are measured. I to a
backend is a promise: every recorded value must be equal.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.backend import Executable, Progress
from spikec.compiler.batches import batch_size, in_batches
from spikec.compiler.errors import Diagnostic, UsageError, VerificationError, raise_if_any
from spikec.compiler.inputs import Dataset, check_data, to_integers
from spikec.compiler.ir import LIF, Graph
from spikec.compiler.program import Neurons, Program
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.trace import Probe, Quantity, Readout, Trace, default_readout, read_out
from spikec.compiler.validation import Extent, Validation, validate
from spikec.compiler.verification.certificate import Certificate, certify
from spikec.compiler.verification.drift import DriftMeter
from spikec.compiler.verification.metrics import (
    Tally,
    first_difference,
    tally_spikes,
    tally_voltages,
)
from spikec.compiler.verification.report import (
    Comparison,
    Divergence,
    Margin,
    Rung,
    VerificationReport,
)
from spikec.compiler.verification.rungs import Way, build_ways, has_encoders
from spikec.compiler.verification.significance import AccuracyChange, accuracy_change

__all__ = ["Watch", "readout_of", "verify"]

#: Is shown every batch and what the rungs recorded of it, the lowest rung first.
Watch: TypeAlias = Callable[[Dataset, Mapping[str, Trace]], None]

#: Samples whose voltages are compared with the threshold.
_MARGIN_SAMPLES = 64
#: A decision this close to the threshold, relative to it, counts as near.
_NEAR = 0.01


def verify(
    program: Program,
    data: Dataset,
    *,
    golden: Executable,
    backends: Mapping[str, Executable],
    graph: Graph | None = None,
    readout: Readout | None = None,
    backend_samples: Mapping[str, int] | None = None,
    calibration: Dataset | None = None,
    extent: Extent = "bounded",
    watch: Watch | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Climb the ladder with ``data`` and report every rung and every step between.

    ``graph`` is the float network the program was compiled from; without it the
    ladder starts at Q. With it the program is validated first
    (:mod:`spikec.compiler.validation`), on some samples or all (``extent``), with the
    ``calibration`` data of the quantizer if they are known; a program of other parts raises
    :class:`VerificationError`. ``golden`` runs the integers; each of ``backends`` must
    equal it in every recorded value, on all samples, or on the first
    ``backend_samples[name]``. Raises :class:`UsageError` for data that the inputs do not take.
    """
    chosen = readout or readout_of(program)
    _check_request(program, data, chosen, backend_samples or {})
    classes = program.population(program.outputs[0]).num_neurons
    data = check_data(data, program.inputs, where="data", classes=classes)
    validation = _validation(program, graph, data, calibration, extent)
    compared = program.default_probes
    quantity: Quantity = "spikes" if chosen == "spike-count" else "voltage"
    probes = tuple(dict.fromkeys((*compared, (program.outputs[0], quantity))))
    ways = build_ways(program, graph, golden, backends, backend_samples or {})
    sums = {way.name: _Sums() for way in ways}
    states = _States(program, graph, ways, chosen)
    # Voltages of four runs of a batch are held at once.
    for part in in_batches(data.num_samples, batch_size(4 * program.num_neurons, data.num_steps)):
        traces = _climb(ways, sums, compared, probes, data, part, chosen)
        batch = data.samples(part.start, part.stop)
        states.add(batch, traces, part.start)
        if watch is not None:
            watch(batch, traces)
        if progress is not None:
            progress(part.stop, data.num_samples)
    labelled = data.labels is not None
    return VerificationReport(
        samples=data.num_samples,
        steps=data.num_steps,
        readout=chosen,
        rungs=tuple(sums[way.name].rung(way, labelled=labelled) for way in ways),
        comparisons=tuple(
            _comparison(way, sums[way.name], ways, compared, data)
            for way in ways
            if way.below is not None
        ),
        margins=_margins(ways[0], graph, program, data),
        changes=tuple(_changes(ways, sums)) if labelled else (),
        drifts=() if states.meter is None else states.meter.drifts(),
        certificates=states.certificates,
        notes=tuple(_notes(program, graph, backends)),
        output=program.outputs[0],
        sums_up=_sums_up(program),
        validation=validation,
    )


def _sums_up(program: Program) -> bool:
    """Whether the output is of neurons without leak, in one of them or more."""
    output = program.population(program.outputs[0])
    return isinstance(output, Neurons) and bool((output.dv == 0).any())


def _validation(
    program: Program,
    graph: Graph | None,
    data: Dataset,
    calibration: Dataset | None,
    extent: Extent,
) -> Validation | None:
    """Compare the program with its source, if there is one."""
    if graph is None or has_encoders(program):
        return None
    found = validate(program, graph, data=data, calibration=calibration, extent=extent)
    # What has other parts cannot be compared step by step.
    raise_if_any(VerificationError, [item for item in found.findings if item.code == "V001"])
    return found


def _notes(
    program: Program, graph: Graph | None, backends: Mapping[str, Executable]
) -> Iterator[str]:
    """Say which rungs are missing, and which say nothing."""
    if graph is None and "quantization" in program.provenance:
        yield "not validated: no float network is here to compare the program with"
    elif graph is None:
        yield "nothing to validate: the network is integers from the start"
    if not has_encoders(program):
        return
    yield (
        "no rung below I: the network is integers from the start, and the float reference knows "
        "current-based neurons only"
    )
    if "simulator" in backends:
        more = "" if "lava" in backends else "; --backends lava compares with Lava"
        yield f"the simulator runs this network on golden, which is I: it equals itself{more}"


class _States:
    """What looks at all spikes and voltages of F, Q and I: drift and certificate."""

    def __init__(
        self, program: Program, graph: Graph | None, ways: Sequence[Way], readout: Readout
    ) -> None:
        self.program, self.readout = program, readout
        self.quantized = None if has_encoders(program) else dequantize(program)
        self.certificates: tuple[Certificate, ...] = ()
        self.meter: DriftMeter | None = None
        if graph is not None and self.quantized is not None:
            (scales,) = (way.scales for way in ways if way.name == "Q")
            self.meter = DriftMeter(graph, self.quantized, scales)

    def add(self, batch: Dataset, traces: Mapping[str, Trace], offset: int) -> None:
        """Add a batch that every rung has run; ``offset`` numbers its first sample."""
        if self.quantized is None:
            return
        messages, _ = to_integers(self.program, batch.inputs)
        if self.meter is not None:
            self.meter.add(messages, traces["F"], traces["Q"])
        found = certify(self.quantized, messages, traces["I"], offset=offset, readout=self.readout)
        known = self.certificates or tuple(Certificate(population=x.population) for x in found)
        self.certificates = tuple(map(operator.add, known, found))


def _changes(ways: Sequence[Way], sums: Mapping[str, _Sums]) -> Iterator[AccuracyChange]:
    """Compare accuracies with the first rung's; backends equal the integers."""
    for way in ways[1:]:
        if not way.must_agree:
            total = sums[way.name]
            yield accuracy_change(
                ways[0].name,
                way.name,
                samples=total.samples,
                lost=total.lost,
                gained=total.gained,
            )


@dataclass(eq=False, kw_only=True)
class _Sums:
    """What one rung adds up while the batches go by."""

    samples: int = 0
    right: int = 0
    agreeing: int = 0
    lost: int = 0
    gained: int = 0
    events: dict[str, int] = field(default_factory=dict)
    tallies: dict[Probe, Tally] = field(default_factory=dict)
    first: tuple[int, int, str, tuple[int, ...]] | None = None

    def add_predictions(self, predicted: Array, first_rung: Array, labels: Array | None) -> None:
        """Count right and agreeing predictions of one batch."""
        self.samples += len(predicted)
        self.agreeing += int((predicted == first_rung[: len(predicted)]).sum())
        if labels is not None:
            right, before = predicted == labels, first_rung[: len(predicted)] == labels
            self.right += int(right.sum())
            self.lost += int((before & ~right).sum())
            self.gained += int((right & ~before).sum())

    def add_events(self, events: Mapping[str, int]) -> None:
        """Count what went out of range."""
        for event, count in events.items():
            self.events[event] = self.events.get(event, 0) + count

    def rung(self, way: Way, *, labelled: bool) -> Rung:
        """Return the rung these sums describe."""
        return Rung(
            name=way.name,
            meaning=way.meaning,
            samples=self.samples,
            accuracy=self.right / self.samples if labelled else None,
            agreement=self.agreeing / self.samples,
            events=self.events,
        )


def _check_request(
    program: Program, data: Dataset, readout: Readout, most: Mapping[str, int]
) -> None:
    output = program.outputs[0]
    findings = []
    if readout == "spike-count" and program.population(output).vth is None:
        findings.append(
            Diagnostic(
                code="U011",
                where=f"output '{output}'",
                message="readout 'spike-count' on a leaky integrator, which never spikes",
                hint="choose max-voltage, last-voltage or mean-voltage",
            )
        )
    if min([data.num_samples, *most.values()]) < 1:
        findings.append(
            Diagnostic(
                code="U012",
                where="verification",
                message="there are no samples to run",
                hint="give data, and 1 or more samples for each backend",
            )
        )
    raise_if_any(UsageError, findings)


def readout_of(program: Program) -> Readout:
    """Return how classes are read from ``program`` if nobody says otherwise."""
    output = program.population(program.outputs[0])
    leaks = isinstance(output, Neurons) and bool(output.dv.any())
    return default_readout(spikes=output.vth is not None, leaks=leaks)


def _climb(
    ways: Sequence[Way],
    sums: Mapping[str, _Sums],
    compared: tuple[Probe, ...],
    probes: tuple[Probe, ...],
    data: Dataset,
    part: slice,
    readout: Readout,
) -> dict[str, Trace]:
    """Run one batch on every rung, add up what it shows, and return the traces."""
    voltages: tuple[Probe, ...] = tuple((name, "voltage") for name in ways[0].scales)
    traces: dict[str, Trace] = {}
    first_rung: Array | None = None
    for way in ways:
        stop = part.stop if way.most_samples is None else min(part.stop, way.most_samples)
        if stop <= part.start:
            continue
        batch = data.samples(part.start, stop)
        wanted = probes if way.must_agree else tuple(dict.fromkeys((*probes, *voltages)))
        trace = way.run(batch.inputs, wanted)
        total = sums[way.name]
        predicted = read_out(trace, readout)
        first_rung = predicted if first_rung is None else first_rung
        total.add_predictions(predicted, first_rung, batch.labels)
        total.add_events(trace.events)
        traces[way.name] = trace
        if way.below is not None:
            below = next(item for item in ways if item.name == way.below)
            lower = _first_samples(traces[way.below], batch.num_samples)
            _add_comparison(total, below, way, lower, trace, compared, part.start)
    return traces


def _first_samples(trace: Trace, samples: int) -> Trace:
    values = {probe: recorded[:samples] for probe, recorded in trace.values.items()}
    return replace(trace, values=values)


def _add_comparison(
    total: _Sums,
    below: Way,
    way: Way,
    lower: Trace,
    upper: Trace,
    compared: Sequence[Probe],
    offset: int,
) -> None:
    for probe in compared:
        name, quantity = probe
        if quantity == "spikes":
            found = tally_spikes(lower[probe], upper[probe])
        elif way.must_agree:
            found = tally_voltages(lower[probe], upper[probe])
        else:
            volts = (side.scales[name].volts(trace[probe])
                     for side, trace in ((below, lower), (way, upper)))  # fmt: skip
            # Voltages of approximations always differ: their error counts, not their number.
            found = replace(tally_voltages(*volts), differing=0)
        total.tallies[probe] = total.tallies.get(probe, Tally()) + found
    if total.first is None:
        looked_at = [probe for probe in compared if way.must_agree or probe[1] == "spikes"]
        first = first_difference(lower, upper, looked_at)
        if first is not None:
            total.first = (first[0] + offset, *first[1:])


def _comparison(
    way: Way, total: _Sums, ways: Sequence[Way], compared: Sequence[Probe], data: Dataset
) -> Comparison:
    below = next(item for item in ways if item.name == way.below)
    first = None if total.first is None else _divergence(below, way, total.first, data)
    return Comparison(
        lower=below.name,
        upper=way.name,
        samples=total.samples,
        must_agree=way.must_agree,
        populations=tuple(total.tallies[probe].difference(probe) for probe in compared),
        first=first,
    )


def _divergence(
    below: Way, way: Way, first: tuple[int, int, str, tuple[int, ...]], data: Dataset
) -> Divergence:
    """Run the sample once more on both rungs and look at the neuron that parted."""
    sample, step, name, neuron = first
    batch = data.samples(sample, sample + 1)
    probes: tuple[Probe, ...] = ((name, "spikes"), (name, "voltage"), (name, "current"))
    states = {}
    for side in (below, way):
        trace = side.run(batch.inputs, probes)
        place = (0, step, *neuron)
        scale = side.scales[name]
        state = {
            "spike": float(trace[name, "spikes"][place]),
            "voltage": float(np.broadcast_to(scale.volts(trace[name, "voltage"][0, step]),
                                             trace[name, "voltage"].shape[2:])[neuron]),
        }  # fmt: skip
        if scale.vth is not None:
            state["threshold"] = float(np.broadcast_to(scale.volts(scale.vth),
                                                       scale.vth.shape)[neuron])  # fmt: skip
        states[side.name] = state
    return Divergence(sample=sample, step=step, population=name, neuron=neuron, states=states)


def _margins(way: Way, graph: Graph | None, program: Program, data: Dataset) -> tuple[Margin, ...]:
    """Return how near to threshold the lowest rung's decisions are, on the first samples."""
    some = data.samples(0, _MARGIN_SAMPLES)
    spiking = [name for name, scale in way.scales.items() if scale.vth is not None]
    margins = []
    for name in spiking:
        trace = way.run(some.inputs, ((name, "voltage"), (name, "spikes")))
        neurons = program.population(name) if graph is None else graph[name]
        margins.append(_margin(way, name, neurons, trace))
    return tuple(margins)


def _margin(way: Way, name: str, neurons: object, trace: Trace) -> Margin:
    vth = way.scales[name].vth
    assert vth is not None
    assert isinstance(neurons, (LIF, Neurons))
    scale = np.maximum(np.abs(vth), np.finfo(np.float64).tiny)
    distance = np.abs(trace[name, "voltage"] - vth) / scale
    if neurons.reset_order == "at_spike" and neurons.reset != "none":
        # The recorded voltage is the one after the reset: those decisions cannot be seen.
        distance = distance[trace.spikes(name) == 0]
    if distance.size == 0:
        return Margin(population=name, rung=way.name, decisions=0, smallest=0, median=0, near=0)
    return Margin(
        population=name,
        rung=way.name,
        decisions=int(distance.size),
        smallest=float(distance.min()),
        median=float(np.median(distance)),
        near=float((distance < _NEAR).mean()),
    )
