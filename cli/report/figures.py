"""What the drawings of a page show, as small as it can be: plain values for its script.

Spikes are events, numbered ``step * neurons + place`` and given as differences; numbers have as
many digits as can be seen.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from spikec.cli.report.examination import Examination
from spikec.cli.text import printable
from spikec.compiler.arrays import Array
from spikec.compiler.files import canonical_json
from spikec.compiler.verification.attribution import Attribution, Cost
from spikec.compiler.verification.evidence import MOST, Evidence, Exhibit, Limits, Panel
from spikec.compiler.verification.parameters import Histogram
from spikec.compiler.verification.report import VerificationReport

__all__ = ["figures"]

#: What is shown if more does not fit: fewer samples first, then less of each.
_LESS = (
    MOST,
    Limits(samples=8, populations=24, rows=128, courses=8, steps=600),
    Limits(samples=6, populations=16, rows=96, courses=6, steps=400),
    Limits(samples=4, populations=12, rows=64, courses=6, steps=300),
    Limits(samples=3, populations=8, rows=48, courses=4, steps=300),
    Limits(samples=2, populations=6, rows=32, courses=4, steps=200),
    Limits(samples=1, populations=4, rows=24, courses=2, steps=200),
    Limits(samples=0, populations=0, rows=0, courses=0, steps=0),
)
_DIGITS = 6
_LONGEST_NAME = 200


def figures(found: Examination, budget: int) -> str:
    """Return what is drawn as JSON of at most ``budget`` bytes; less is shown until it fits.

    Nothing in it can end the script element it is put into.
    """
    assert found.evidence is not None
    text = ""
    for limits in _LESS:
        text = _inert(canonical_json(_values(found, found.evidence, limits)))
        if len(text.encode()) <= budget:
            break
    return text


def _inert(json: str) -> str:
    return json.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _values(found: Examination, evidence: Evidence, limits: Limits) -> dict[str, Any]:
    shown = evidence.within(limits)
    names = limits.populations
    held = found.parameters
    return {
        "rungs": list(evidence.rungs),
        "samples": [_exhibit(item) for item in shown.exhibits],
        "selection": _selection(evidence, shown, limits),
        "layers": list(_layers(found.report))[:names],
        "steps": {
            "together": evidence.steps_together,
            "courses": [
                {"name": _name(name), "values": _numbers(item, 4)}
                for name, item in shown.by_step.items()
            ],
        },
        "rates": [
            {
                "population": _name(item.population),
                "total": item.total,
                "neurons": item.neurons.tolist(),
                "lower": _numbers(item.lower, 4),
                "upper": _numbers(item.upper, 4),
            }
            for item in shown.rates
        ],
        "weights": [
            {"name": _name(item.edge), "step": item.step, **_histogram(item.histogram)}
            for item in held.weights[: 2 * names]
        ],
        "decays": [
            {"name": _name(f"{item.population}: {item.kind}"), **_histogram(item.histogram)}
            for item in held.decays[: 2 * names]
        ],
        "attribution": (
            [] if found.attribution is None else list(_costs(found.attribution))[: 3 * names]
        ),
    }


def _selection(evidence: Evidence, shown: Evidence, limits: Limits) -> str:
    """Say what of the data is in the page, and how it was chosen."""
    populations = {panel.population for item in evidence.exhibits for panel in item.panels}
    left = len(populations) - limits.populations
    which = "those where runs first part, whose answer changed, and that differ most and least"
    if evidence.asked:
        absent = evidence.asked - len(shown.exhibits)
        which = f"those asked for{f', but for {absent} that have no room' if absent else ''}"
    return (
        f"{len(shown.exhibits)} of {evidence.samples} samples are in this file: {which}. "
        f"Of each population: the spikes of at most {limits.rows} neurons and the voltages of "
        f"{limits.courses} (of a readout, the {2 * limits.courses} highest), those that differ "
        f"most, for {min(limits.steps, evidence.steps)} of {evidence.steps} steps."
        + (f" {left} populations that differ least are left out." if left > 0 else "")
    )


def _exhibit(item: Exhibit) -> dict[str, Any]:
    return {
        "sample": item.sample,
        "why": item.why,
        "label": item.label,
        "predictions": dict(item.predictions),
        "start": item.start,
        "focus": _name(item.focus),
        "panels": [_panel(panel) for panel in item.panels],
    }


def _panel(panel: Panel) -> dict[str, Any]:
    size = math.prod(panel.shape)
    return {
        "population": _name(panel.population),
        "shape": list(panel.shape),
        "total": size,
        "steps": len(next(iter(panel.voltages.values()))),
        "neurons": panel.neurons.tolist(),
        "differing": panel.differing,
        "spikes": {rung: _events(values) for rung, values in panel.spikes.items()},
        "volts": {
            rung: [_numbers(course, _DIGITS) for course in values.T]
            for rung, values in panel.voltages.items()
        },
        "vth": {rung: _numbers(values, _DIGITS) for rung, values in panel.thresholds.items()},
    }


def _events(spikes: Array) -> dict[str, list[int]]:
    """Return ``[step, neuron]`` as events; ``n`` is there where a step has several spikes."""
    flat = spikes.reshape(-1)
    places = np.flatnonzero(flat)
    events = {"at": np.diff(places, prepend=0).tolist()}
    if places.size and flat.max() > 1:
        events["n"] = flat[places].tolist()
    return events


def _layers(report: VerificationReport) -> Iterator[dict[str, Any]]:
    """Yield the errors of each population in percent, of spikes or, of a readout, of voltage."""
    known: dict[str, dict[str, Any]] = {}
    for comparison in report.comparisons:
        if comparison.must_agree:
            continue
        for row in comparison.populations:
            entry = known.setdefault(
                row.population,
                {"name": _name(row.population), "voltage": row.mismatch is None},
            )
            value = row.voltage_rmse if row.mismatch is None else row.mismatch
            entry["rounding" if comparison.lower == "Q" else "end to end"] = _share(value)
    for drift in report.drifts:
        if drift.fed == "teacher-forced":
            value = drift.voltage_rmse if drift.mismatch is None else drift.mismatch
            known[drift.population]["teacher-forced"] = _share(value)
    yield from known.values()


def _costs(found: Attribution) -> Iterator[dict[str, Any]]:
    without = {item.what: item for item in found.without}
    for item in found.alone:
        yield {
            "name": _name(item.what),
            "alone": _share(_cost(item)),
            "without": _share(_cost(without[item.what])),
            "voltage": item.mismatch is None,
        }


def _cost(item: Cost) -> float | None:
    return item.voltage_rmse if item.mismatch is None else item.mismatch


def _histogram(item: Histogram) -> dict[str, Any]:
    return {
        "start": item.start,
        "width": item.width,
        "before": None if item.before is None else item.before.tolist(),
        "after": item.after.tolist(),
    }


def _share(value: float | None) -> float | None:
    return None if value is None else _number(100 * value, 5)


def _numbers(values: Array, digits: int) -> list[float | int | None]:
    return [_number(value, digits) for value in values.tolist()]


def _number(value: float, digits: int) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short


def _name(text: str) -> str:
    return printable(text if len(text) <= _LONGEST_NAME else f"{text[: _LONGEST_NAME - 1]}…")
