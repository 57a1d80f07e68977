"""What happened on single samples: a few of them, the most telling first, to be looked at.

The ladder counts over all samples. A :class:`Survey` that watches it remembers which samples,
steps and neurons part; :func:`gather` then runs the chosen samples once more and keeps their
spikes and voltages, in source units, of the neurons that differ most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, IntArray, Shape
from spikec.compiler.inputs import Dataset
from spikec.compiler.program import Program
from spikec.compiler.trace import Probe, Readout, Trace, read_out
from spikec.compiler.verification.report import VerificationReport
from spikec.compiler.verification.rungs import Way

__all__ = ["MOST", "Evidence", "Exhibit", "Limits", "Panel", "Rates", "Survey", "gather"]

#: Steps are put together so that no course over them has more points.
_MOST_POINTS = 400
#: Neurons whose rates are shown, and spikes that one panel shows of a rung.
_MOST_RATES, _MOST_SPIKES = 400, 5000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much evidence is kept: ``rows`` are neurons with spikes, ``courses`` with voltages."""

    samples: int
    populations: int
    rows: int
    courses: int
    steps: int


#: What is gathered; :meth:`Evidence.within` takes less.
MOST = Limits(samples=12, populations=24, rows=128, courses=8, steps=600)


@dataclass(frozen=True, eq=False, kw_only=True)
class Panel:
    """One population on one sample; ``neurons`` are flat indices, the most telling first.

    ``spikes`` has, per rung, ``[step, neuron]`` (empty for a readout), ``voltages``
    ``[step, course]`` in source volts of the first neurons, ``thresholds`` one value for each
    of those. ``differing`` counts the spikes of all neurons and steps in which the first rung
    and I differ.
    """

    population: str
    shape: Shape
    neurons: IntArray
    spikes: Mapping[str, Array]
    voltages: Mapping[str, FloatArray]
    thresholds: Mapping[str, FloatArray]
    differing: int

    def within(self, limits: Limits) -> Panel:
        """Return the first neurons and steps."""
        return replace(
            self,
            neurons=self.neurons[: limits.rows],
            spikes={
                name: values[: limits.steps, : limits.rows] for name, values in self.spikes.items()
            },
            voltages={
                name: values[: limits.steps, : limits.courses]
                for name, values in self.voltages.items()
            },
            thresholds={name: values[: limits.courses] for name, values in self.thresholds.items()},
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Exhibit:
    """One sample and ``why`` it was chosen; recorded steps begin at ``start``.

    ``focus`` is the population to look at first, where one tells most.
    """

    sample: int
    why: str
    label: int | None
    predictions: Mapping[str, int]
    start: int
    panels: tuple[Panel, ...]
    focus: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class Rates:
    """Spikes a step of ``neurons`` (flat) of a population of ``total``, over all samples."""

    population: str
    total: int
    neurons: IntArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """What is to be looked at; ``rungs`` are those with spikes and voltages, the lowest first.

    ``by_step`` has, per spiking population, the differing spikes a step and sample between the
    first rung and I, in groups of ``steps_together`` steps. ``asked`` is how many samples were
    asked for by number, 0 where the most telling were chosen.
    """

    rungs: tuple[str, ...]
    exhibits: tuple[Exhibit, ...]
    by_step: Mapping[str, FloatArray]
    steps_together: int
    rates: tuple[Rates, ...]
    samples: int
    steps: int
    asked: int = 0

    def within(self, limits: Limits) -> Evidence:
        """Return less evidence, the most telling part of it."""
        exhibits = self.exhibits[: limits.samples]
        differing: dict[str, int] = {}
        for panel in (panel for exhibit in exhibits for panel in exhibit.panels):
            differing[panel.population] = differing.get(panel.population, 0) + panel.differing
        kept = sorted(differing, key=lambda name: -differing[name])[: limits.populations]
        named = {item.population for item in self.rates[: limits.populations]}
        return replace(
            self,
            exhibits=tuple(
                replace(
                    exhibit,
                    panels=tuple(
                        panel.within(limits) for panel in exhibit.panels if panel.population in kept
                    ),
                )
                for exhibit in exhibits
            ),
            by_step={name: values for name, values in self.by_step.items() if name in named},
            rates=self.rates[: limits.populations],
        )


class Survey:
    """Watches the ladder: which samples, steps and neurons of the first rung and I part."""

    def __init__(self, readout: Readout) -> None:
        self._readout = readout
        self._differing: list[Array] = []
        self._predicted: dict[str, list[Array]] = {}
        self.steps: dict[str, IntArray] = {}
        self.counts: dict[str, tuple[IntArray, IntArray]] = {}

    def add(self, batch: Dataset, traces: Mapping[str, Trace]) -> None:
        """Add a batch that every rung has run, the lowest rung first."""
        lower = next(iter(traces))
        one, two = traces[lower], traces["I"]
        differing = np.zeros(batch.num_samples, np.int64)
        for name, spikes in _spikes_of(one):
            other = _flat(two[name, "spikes"])
            different = spikes != other
            differing += different.sum(axis=(1, 2))
            known = self.steps.get(name, np.zeros(spikes.shape[1], np.int64))
            self.steps[name] = known + different.sum(axis=(0, 2))
            before = self.counts.get(name, (0, 0))
            self.counts[name] = (
                before[0] + spikes.sum(axis=(0, 1), dtype=np.int64),
                before[1] + other.sum(axis=(0, 1), dtype=np.int64),
            )
        self._differing.append(differing)
        for rung in (lower, "I"):
            self._predicted.setdefault(rung, []).append(read_out(traces[rung], self._readout))

    @property
    def differing(self) -> IntArray:
        """The differing spikes of every sample."""
        return np.concatenate(self._differing)

    @property
    def changed(self) -> Array:
        """Whether the answer to a sample changed."""
        lower, upper = (np.concatenate(items) for items in self._predicted.values())
        changed: Array = lower != upper
        return changed


def gather(
    program: Program,
    data: Dataset,
    report: VerificationReport,
    survey: Survey,
    ways: Sequence[Way],
    *,
    asked: Sequence[int] = (),
) -> Evidence:
    """Run the most telling samples once more on the rungs, and keep what is worth a look.

    Those are the samples ``asked`` for, if any are. ``ways`` are the rungs that ``report``
    climbed. A backend is run only if it failed, on the sample where it first parts.
    """
    exhibits = tuple(
        _exhibit(program, data, report, ways, sample, why)
        for sample, why in (_asked(report, survey, asked) if asked else _chosen(report, survey))
    )
    together = -(-data.num_steps // _MOST_POINTS)
    decisions = data.num_samples * data.num_steps
    return Evidence(
        rungs=tuple(way.name for way in ways if not way.must_agree),
        exhibits=exhibits,
        by_step={
            name: _in_groups(counts / data.num_samples, together)
            for name, counts in survey.steps.items()
        },
        steps_together=together,
        rates=tuple(
            _rates(name, lower / decisions, upper / decisions)
            for name, (lower, upper) in survey.counts.items()
        ),
        samples=data.num_samples,
        steps=data.num_steps,
        asked=len(asked),
    )


def _asked(
    report: VerificationReport, survey: Survey, asked: Sequence[int]
) -> list[tuple[int, str]]:
    """Return the samples asked for, with what there is to say of each."""
    told = _reasons(report, survey, answers=len(survey.changed))
    return [(sample, "; ".join(["asked for", *told.get(sample, ())])) for sample in asked]


def _chosen(report: VerificationReport, survey: Survey) -> list[tuple[int, str]]:
    """Return the samples to show with the reason for each, the most telling first."""
    told = _reasons(report, survey, answers=MOST.samples // 2)
    return [(sample, "; ".join(known)) for sample, known in list(told.items())[: MOST.samples]]


def _reasons(report: VerificationReport, survey: Survey, *, answers: int) -> dict[int, list[str]]:
    """Return what makes samples worth a look, the most telling first.

    At most ``answers`` are told because their answer changed.
    """
    differing, changed = survey.differing, survey.changed
    order = [int(sample) for sample in np.argsort(-differing, kind="stable")]
    places = [
        (item.first.sample, f"{item.lower} and {item.upper} first part here")
        for item in reversed(report.comparisons)
        if item.first is not None
    ]
    places += [
        (item.first.sample, "rounding cannot explain I here")
        for item in report.certificates
        if item.first is not None
    ]
    places += [(sample, "the answer changed") for sample in order if changed[sample]][:answers]
    places += [(order[0], "the most differing spikes"), (order[-1], "the fewest differing spikes")]
    places += [(sample, "many differing spikes") for sample in order[1 : MOST.samples + 1]]
    reasons: dict[int, list[str]] = {}
    for sample, why in places:
        known = reasons.setdefault(sample, [])
        if why not in known and not (known and why.startswith("many")):
            known.append(why)
    return reasons


def _exhibit(
    program: Program,
    data: Dataset,
    report: VerificationReport,
    ways: Sequence[Way],
    sample: int,
    why: str,
) -> Exhibit:
    batch = data.samples(sample, sample + 1)
    probes: tuple[Probe, ...] = tuple(
        dict.fromkeys(
            (*program.default_probes, *((name, "voltage") for name in ways[0].scales))
        )
    )  # fmt: skip
    parted = {
        item.upper
        for item in report.comparisons
        if item.first is not None and item.first.sample == sample
    }
    shown = [way for way in ways if not way.must_agree or way.name in parted]
    traces = {way.name: way.run(batch.inputs, probes) for way in shown}
    leading = _leading(report, sample)
    start = _start(traces)
    panels = (
        _panel(program, name, shown, traces, start, leading.get(name, ()))
        for name in ways[0].scales
    )
    return Exhibit(
        sample=sample,
        why=why,
        label=None if batch.labels is None else int(batch.labels[0]),
        predictions={
            name: int(read_out(trace, _readout(report))[0]) for name, trace in traces.items()
        },
        start=start,
        panels=tuple(panels),
        focus=next(reversed(leading), ""),
    )


def _leading(report: VerificationReport, sample: int) -> dict[str, tuple[int, ...]]:
    """Return where rungs first part on ``sample``, neurons by population, the worst last.

    That is a backend that failed, and before it what nothing explains.
    """
    measured = [item.first for item in report.comparisons if item.passed]
    unexplained = [item.first for item in report.certificates]
    failed = [item.first for item in report.comparisons if not item.passed]
    leading: dict[str, tuple[int, ...]] = {}
    for item in (*measured, *unexplained, *failed):
        if item is not None and item.sample == sample:
            leading.pop(item.population, None)
            leading[item.population] = item.neuron
    return leading


def _readout(report: VerificationReport) -> Readout:
    readout: Readout = report.readout  # type: ignore[assignment]
    return readout


def _start(traces: Mapping[str, Trace]) -> int:
    """Return the first step to show: all of a short run, else a while before rungs part."""
    lower, *others = traces.values()
    if lower.num_steps <= MOST.steps:
        return 0
    parts = [
        int(step[0])
        for other in others
        for name, spikes in _spikes_of(lower)
        if len(step := np.flatnonzero((spikes != _flat(other[name, "spikes"])).any(axis=(0, 2))))
    ]
    return max(0, min(min(parts, default=0) - MOST.steps // 4, lower.num_steps - MOST.steps))


def _panel(
    program: Program,
    name: str,
    ways: Sequence[Way],
    traces: Mapping[str, Trace],
    start: int,
    leading: tuple[int, ...],
) -> Panel:
    neurons = program.population(name)
    steps = slice(start, start + MOST.steps)
    volts = {way.name: _volts(way, traces[way.name], name, neurons.shape)[steps] for way in ways}
    spikes = {
        rung: _flat(trace[name, "spikes"])[0, steps]
        for rung, trace in traces.items()
        if neurons.vth is not None
    }
    score, activity = _telling(spikes or volts, spiking=bool(spikes))
    order = np.lexsort((-activity, -score))
    if leading:
        place = int(np.ravel_multi_index(leading, neurons.shape))
        order = np.concatenate(([place], order[order != place]))
    rows = order[: _rows(spikes, order)]
    courses = rows[: MOST.courses] if spikes else rows[: 2 * MOST.courses]
    thresholds: dict[str, FloatArray] = {}
    for way in ways:
        scale = way.scales[name]
        if scale.vth is not None:
            height = np.broadcast_to(scale.volts(scale.vth), neurons.shape)
            thresholds[way.name] = height.reshape(-1)[courses]
    return Panel(
        population=name,
        shape=neurons.shape,
        neurons=rows,
        spikes={rung: values[:, rows] for rung, values in spikes.items()},
        voltages={rung: values[:, courses] for rung, values in volts.items()},
        thresholds=thresholds,
        differing=_differing(traces, name) if spikes else 0,
    )


def _differing(traces: Mapping[str, Trace], name: str) -> int:
    lower = next(iter(traces.values()))
    return int((lower[name, "spikes"] != traces["I"][name, "spikes"]).sum())


def _telling(values: Mapping[str, Array], *, spiking: bool) -> tuple[Array, Array]:
    """Return how much each neuron differs from the first rung, and how active it is.

    Of a readout, whose voltages all differ a little, the highest decide.
    """
    lower, *others = values.values()
    if not spiking:
        return np.zeros(lower.shape[1]), lower.max(axis=0, initial=-np.inf)
    different = [lower != other for other in others]
    return np.sum(different, axis=(0, 1)), lower.sum(axis=0, dtype=np.int64)


def _rows(spikes: Mapping[str, Array], order: Array) -> int:
    """Return how many neurons of ``order`` have spikes that one panel can show."""
    if not spikes:
        return 2 * MOST.courses
    busy = np.max([(values[:, order] > 0).sum(axis=0) for values in spikes.values()], axis=0)
    fitting = int(np.searchsorted(np.cumsum(busy), _MOST_SPIKES, side="right"))
    return max(1, min(MOST.rows, fitting))


def _volts(way: Way, trace: Trace, name: str, shape: Shape) -> FloatArray:
    """Return the voltages of the only sample, ``[step, neuron]`` in source volts."""
    recorded = trace[name, "voltage"][0]
    values = np.broadcast_to(way.scales[name].volts(recorded), (len(recorded), *shape))
    flat: FloatArray = values.reshape(len(recorded), -1)
    return flat


def _spikes_of(trace: Trace) -> Iterator[tuple[str, Array]]:
    for (name, quantity), values in trace.values.items():
        if quantity == "spikes":
            yield name, _flat(values)


def _flat(values: Array) -> Array:
    return values.reshape(*values.shape[:2], -1)


def _in_groups(values: FloatArray, together: int) -> FloatArray:
    """Return the means of ``together`` neighbours each; the last group may be smaller."""
    begins = np.arange(0, len(values), together)
    sizes = np.diff(np.append(begins, len(values)))
    means: FloatArray = np.add.reduceat(values, begins) / sizes
    return means


def _rates(name: str, lower: FloatArray, upper: FloatArray) -> Rates:
    """Keep all neurons of a small population, else those that changed most and every k-th."""
    total = len(lower)
    kept = np.arange(total)
    if total > _MOST_RATES:
        changed = np.argsort(-np.abs(upper - lower), kind="stable")[: _MOST_RATES // 2]
        regular = np.linspace(0, total - 1, _MOST_RATES // 2).astype(np.int64)
        kept = np.unique(np.concatenate((changed, regular)))
    return Rates(
        population=name, total=total, neurons=kept, lower=lower[kept], upper=upper[kept]
    )  # fmt: skip
