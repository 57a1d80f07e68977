"""What a run gives: spikes and probed state, and the classes read from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np

from spikec.compiler.arrays import Array, size
from spikec.compiler.entrance import as_array, worthless
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any

__all__ = [
    "QUANTITIES",
    "Probe",
    "Quantity",
    "Readout",
    "Tally",
    "Trace",
    "check_probes",
    "default_readout",
    "parse_probes",
    "read_out",
]

Quantity: TypeAlias = Literal["spikes", "voltage", "current"]
QUANTITIES: tuple[Quantity, ...] = get_args(Quantity)
#: A population's name and what to record of it.
Probe: TypeAlias = tuple[str, Quantity]
Readout: TypeAlias = Literal["spike-count", "max-voltage", "last-voltage", "mean-voltage"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Trace:
    """Recorded values, ``[sample, step, *neurons]`` under ``(population, quantity)``.

    Index n is what the source framework gives at step n: every lag is undone.
    ``outputs`` names the output populations. ``events`` counts what went out of
    range, e.g. ``{"hidden/voltage saturated": 3}``; an integer run that stayed
    in range has none.
    """

    values: Mapping[Probe, Array]
    outputs: tuple[str, ...]
    events: Mapping[str, int] = field(default_factory=dict)

    def __getitem__(self, probe: Probe) -> Array:
        return self.values[probe]

    def spikes(self, population: str) -> Array:
        """Return what ``population`` sent: 0 or 1, counts, or messages with sign."""
        return self.values[population, "spikes"]

    def indices(self, population: str) -> Array:
        """Return the spikes as events: rows of (sample, step, neuron...) in order."""
        return np.argwhere(self.spikes(population))

    @property
    def num_steps(self) -> int:
        """The number of recorded steps."""
        return int(next(iter(self.values.values())).shape[1]) if self.values else 0

    @staticmethod
    def joined(traces: Iterable[Trace], axis: Literal["sample", "step"]) -> Trace:
        """Return one trace from consecutive ones; events add up."""
        parts = list(traces)
        events: dict[str, int] = {}
        for part in parts:
            for name, count in part.events.items():
                events[name] = events.get(name, 0) + count
        if len(parts) == 1:
            return parts[0]
        place = 0 if axis == "sample" else 1
        values = {
            probe: np.concatenate([part.values[probe] for part in parts], axis=place)
            for probe in parts[0].values
        }
        return Trace(values=values, outputs=parts[0].outputs, events=events)


def parse_probes(specs: Sequence[str], populations: Sequence[str]) -> tuple[Probe, ...]:
    """Read ``NAME:quantity`` texts; raise :class:`UsageError` naming every bad one."""
    probes: list[Probe] = []
    findings = []
    for spec in specs:
        name, _, quantity = spec.rpartition(":")
        known = [item for item in QUANTITIES if item == quantity]
        if name in populations and known:
            probes.append((name, known[0]))
            continue
        findings.append(_no_probe(spec, populations, "NAME:QUANTITY"))
    raise_if_any(UsageError, findings)
    return tuple(probes)


def check_probes(probes: Iterable[Probe], populations: Sequence[str]) -> None:
    """Raise :class:`UsageError` naming every probe that is no population and quantity."""
    findings = [
        _no_probe(probe, populations, "(NAME, QUANTITY)")
        for probe in probes
        if not (
            isinstance(probe, tuple)
            and len(probe) == 2
            and probe[0] in populations
            and probe[1] in QUANTITIES
        )
    ]
    raise_if_any(UsageError, findings)


def _no_probe(probe: object, populations: Sequence[str], form: str) -> Diagnostic:
    return Diagnostic(
        code="U010",
        where=f"probe '{probe}'",
        message="it does not name a population and one of its quantities",
        hint=f"{form} with NAME one of {', '.join(populations)} "
        f"and QUANTITY one of {', '.join(QUANTITIES)}",
    )


def default_readout(*, spikes: bool, leaks: bool = True) -> Readout:
    """Return how an output is read where nobody says so.

    An integrator that does not leak holds the sum of all steps at the last one.
    """
    if spikes:
        return "spike-count"
    return "max-voltage" if leaks else "last-voltage"


def read_out(trace: Trace, readout: Readout | None = None) -> Array:
    """Return the predicted class of each sample, read from the first output population.

    ``spike-count`` takes the neuron with most spikes, the voltage readouts the
    one with the largest maximum, last or mean voltage; the first of equals
    wins. By default an output that spikes is read by spike count, a leaky
    integrator by its maximum voltage. Raises :class:`UsageError` for a readout that does not
    exist, and for a trace without steps, without what the readout needs, or of anything but
    finite numbers ``[sample, step, *neurons]``.
    """
    if not trace.outputs:
        raise UsageError(_no_readout("trace", "it names no output"))
    output = trace.outputs[0]
    has_spikes = (output, "spikes") in trace.values
    tally = Tally(output, readout or ("spike-count" if has_spikes else "max-voltage"))
    tally.add(trace)
    return tally.classes()


class Tally:
    """A readout while its run goes on: what is read of the steps so far, of some samples."""

    def __init__(self, output: str, readout: Readout) -> None:
        if readout not in get_args(Readout):
            raise UsageError(
                _no_readout(
                    f"readout '{readout}'",
                    "there is no such readout",
                    f"one of {', '.join(get_args(Readout))}",
                )
            )
        self._output, self._readout = output, readout
        self._score: Array | None = None
        self._steps = 0

    def add(self, trace: Trace) -> None:
        """Take the next steps of the same samples."""
        values = _recorded(trace, self._output, self._readout)
        values = values.reshape(*values.shape[:2], size(values.shape[2:]))
        if not values.shape[1] and self._readout != "spike-count":
            return
        self._steps += values.shape[1]
        before = self._score
        if self._readout == "spike-count":
            score = values.sum(axis=1, dtype=np.int64)
            self._score = score if before is None else before + score
        elif self._readout == "max-voltage":
            score = values.max(axis=1)
            self._score = score if before is None else np.maximum(before, score)
        elif self._readout == "last-voltage":
            self._score = values[:, -1].copy()
        else:
            score = values.sum(axis=1, dtype=np.float64)
            self._score = score if before is None else before + score

    def classes(self) -> Array:
        """Return the class of each sample; :class:`UsageError` before any step was taken."""
        if self._score is None:
            raise UsageError(
                _no_readout(f"output '{self._output}'", "a readout needs a step, and there is none")
            )
        mean = self._readout == "mean-voltage"
        classes: Array = np.argmax(self._score / self._steps if mean else self._score, axis=1)
        return classes


def _recorded(trace: Trace, output: str, chosen: Readout) -> Array:
    needed: Quantity = "spikes" if chosen == "spike-count" else "voltage"
    where = f"output '{output}'"
    if (output, needed) not in trace.values:
        raise UsageError(
            _no_readout(
                where,
                f"readout '{chosen}' needs its {needed}, which the run did not record",
                f"probe {output}:{needed}, or choose another readout",
            )
        )
    values, problem = as_array(trace.values[output, needed])
    if problem is None and (values.ndim < 3 or not size(values.shape[2:])):
        problem = f"has shape {list(values.shape)}", "[sample, step, *neurons] is needed"
    if problem is None:
        problem = worthless(values, "analog")
    if problem is not None:
        raise UsageError(_no_readout(where, f"its {needed} {problem[0]}", problem[1]))
    return values


def _no_readout(where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code="U011", where=where, message=message, hint=hint)
