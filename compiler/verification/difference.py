"""Two recorded runs side by side, down to the first value in which they differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.verification.report import Divergence
from spikec.compiler.verification.rungs import Scale

__all__ = ["DifferenceReport", "Differences", "QuantityDifference", "Recorded"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Recorded:
    """One side: a trace, its name, and what its voltages are worth where that is known.

    A population without a scale is in the source's own units.
    """

    name: str
    trace: Trace
    scales: Mapping[str, Scale] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class QuantityDifference:
    """One recorded quantity of a population; ``largest`` is the largest difference of a value."""

    population: str
    quantity: str
    values: int
    differing: int
    largest: float
    differing_samples: int


@dataclass(frozen=True, kw_only=True)
class DifferenceReport:
    """What two runs have in common and where they first part; ``left_out`` was not compared."""

    lower: str
    upper: str
    samples: int
    steps: int
    quantities: tuple[QuantityDifference, ...]
    left_out: tuple[str, ...]
    first: Divergence | None

    @property
    def same(self) -> bool:
        """Whether all that was compared is equal."""
        return all(item.differing == 0 for item in self.quantities)

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return {**asdict(self), "same": self.same}


class Differences:
    """Adds up how two runs differ, batch by batch.

    Spikes are compared always; voltages and currents where both sides have them in the same
    unit. Numbers that differ by no more than ``tolerance`` count as equal.
    """

    def __init__(self, *, tolerance: float = 0.0) -> None:
        self._tolerance = tolerance
        self._names = ("", "")
        self._samples = self._steps = 0
        self._found: dict[Probe, QuantityDifference] = {}
        self._left_out: tuple[str, ...] = ()
        self._first: Divergence | None = None

    def add(self, lower: Recorded, upper: Recorded) -> None:
        """Add a batch of both; raise :class:`UsageError` where they do not fit."""
        probes, self._left_out = _comparable(lower, upper)
        raise_if_any(UsageError, list(_misfits(lower, upper, probes)))
        self._names = (lower.name, upper.name)
        offset, self._steps = self._samples, lower.trace.num_steps
        self._samples += len(lower.trace[probes[0]])
        places = []
        for place, probe in enumerate(probes):
            one, two = (side.trace[probe].astype(np.float64) for side in (lower, upper))
            with np.errstate(invalid="ignore"):
                distance = np.where(one == two, 0, np.abs(one - two))  # equal infinities too
            different = ~(distance <= self._tolerance)
            self._count(probe, distance, different)
            if different.any():
                sample, step, *neuron = (int(item) for item in np.argwhere(different)[0])
                places.append((sample, step, place, tuple(neuron)))
        if places and self._first is None:
            sample, step, place, neuron_index = min(places)
            name = probes[place][0]
            self._first = Divergence(
                sample=offset + sample,
                step=step,
                population=name,
                neuron=neuron_index,
                states={
                    side.name: _state(side, name, (sample, step, *neuron_index))
                    for side in (lower, upper)
                },
            )

    def report(self) -> DifferenceReport:
        """Return what was found so far."""
        lower, upper = self._names
        return DifferenceReport(
            lower=lower,
            upper=upper,
            samples=self._samples,
            steps=self._steps,
            quantities=tuple(self._found.values()),
            left_out=self._left_out,
            first=self._first,
        )

    def _count(self, probe: Probe, distance: Array, different: Array) -> None:
        known = self._found.get(probe)
        rows = different.any(axis=tuple(range(1, different.ndim)))
        self._found[probe] = QuantityDifference(
            population=probe[0],
            quantity=probe[1],
            values=different.size + (known.values if known else 0),
            differing=int(different.sum()) + (known.differing if known else 0),
            largest=max(float(distance.max(initial=0.0)), known.largest if known else 0.0),
            differing_samples=int(rows.sum()) + (known.differing_samples if known else 0),
        )


def _comparable(lower: Recorded, upper: Recorded) -> tuple[list[Probe], tuple[str, ...]]:
    """Return what can be compared, population by population, and why the rest cannot."""
    one, two = lower.trace.values, upper.trace.values
    shared = [probe for probe in one if probe in two]
    left_out = [
        f"{name}/{quantity}: recorded in {side.name} only"
        for side, other in ((lower, two), (upper, one))
        for name, quantity in side.trace.values
        if (name, quantity) not in other
    ]
    probes = []
    for name, quantity in shared:
        if quantity == "spikes" or _same_unit(lower.scales.get(name), upper.scales.get(name)):
            probes.append((name, quantity))
        else:
            left_out.append(f"{name}/{quantity}: recorded in different units")
    order = list(dict.fromkeys(name for name, _ in one))
    return sorted(probes, key=lambda probe: order.index(probe[0])), tuple(left_out)


def _same_unit(one: Scale | None, two: Scale | None) -> bool:
    if one is None or two is None:
        return one is two
    return one.unit == two.unit and np.array_equal(one.offset, two.offset)


def _misfits(lower: Recorded, upper: Recorded, probes: Sequence[Probe]) -> list[Diagnostic]:
    where = f"{lower.name} and {upper.name}"
    if not probes:
        return [
            Diagnostic(
                code="U110",
                where=where,
                message="there is no population whose spikes or voltages both recorded",
                hint="compare two runs of the same network",
            )
        ]
    return [
        Diagnostic(
            code="U111",
            where=f"{where}, '{probe[0]}/{probe[1]}'",
            message=f"they have shapes {list(one)} and {list(two)}: [sample, step, neurons...]",
            hint="compare runs of the same network on the same data",
        )
        for probe in probes
        if (one := lower.trace[probe].shape) != (two := upper.trace[probe].shape)
    ]


def _state(side: Recorded, name: str, place: tuple[int, ...]) -> dict[str, float]:
    """Return all that was recorded of one neuron at one step, voltages in source units."""
    scale = side.scales.get(name, Scale())
    state: dict[str, float] = {}
    for (population, quantity), values in side.trace.values.items():
        if population == name:
            value = float(values[place])
            if quantity == "voltage":
                value = _of_neuron(scale.offset, place) + scale.unit * value
            state["spike" if quantity == "spikes" else quantity] = value
    if scale.vth is not None:
        threshold = _of_neuron(scale.offset, place) + scale.unit * _of_neuron(scale.vth, place)
        state["threshold"] = threshold
    return state


def _of_neuron(values: Array, place: tuple[int, ...]) -> float:
    return float(values[place[2:]] if values.ndim else values)
