"""The tables of ``spikec verify``, and its verdict."""

from __future__ import annotations

from collections.abc import Sequence

from spikec.cli.tables import say, table
from spikec.compiler.verification import VerificationReport
from spikec.compiler.verification.certificate import Breach
from spikec.compiler.verification.drift import Drift
from spikec.compiler.verification.report import Comparison, Divergence
from spikec.compiler.verification.significance import AccuracyChange

__all__ = ["show_verification", "verdict"]


def show_verification(report: VerificationReport) -> None:
    """Print the ladder, what differs between its rungs, and the verdict."""
    rows = [
        [item.name, item.meaning, str(item.samples), _percent(item.accuracy, 2),
         _percent(item.agreement, 2),
         ", ".join(f"{count} {event}" for event, count in item.events.items()) or "-"]
        for item in report.rungs
    ]  # fmt: skip
    first = report.rungs[0].name
    table(
        f"ladder: {report.samples} samples of {report.steps} steps, readout {report.readout}",
        ["rung", "meaning", "samples", "accuracy", f"same as {first}", "out of range"],
        rows,
    )
    table(
        "differences",
        ["between", "population", "differing", "of spikes", "mismatch", "rate", "voltage rmse",
         "identical samples"],
        [row for item in report.comparisons for row in _difference_rows(item)],
    )  # fmt: skip
    margins = [
        [item.population, item.rung, str(item.decisions), f"{item.smallest:.2g}",
         f"{item.median:.2g}", _percent(item.near, 3)]
        for item in report.margins
    ]  # fmt: skip
    if margins:
        table(
            "distance to threshold, relative to it",
            ["population", "rung", "decisions", "smallest", "median", "within 1 %"],
            margins,
        )
    _show_drifts(report.drifts)
    _show_certificates(report)
    for change in report.changes:
        say(_significance(change))
    for item in report.comparisons:
        if item.first is not None:
            say(f"{item.lower} and {item.upper} first part at {_place(item.first)}")
    for certificate in report.certificates:
        if certificate.first is not None:
            say(_unexplained(certificate.first))
    say(verdict(report))


def verdict(report: VerificationReport) -> str:
    """Return what the report says, in one or two sentences."""
    broken = [
        f"{item.upper} differs from {item.lower} in {item.differing} values"
        for item in report.comparisons
        if not item.passed
    ]
    if report.unexplained:
        broken.append(
            f"{report.unexplained} spikes or voltages of the integers are beyond what truncation "
            "explains: a bug of the compiler or the engine"
        )
    if broken:
        return "FAILED: " + "; ".join(broken)
    equal = [item for item in report.comparisons if item.must_agree]
    same = ", ".join(f"{item.upper} ({item.samples} samples)" for item in equal)
    promise = f"every recorded value of I equals {same}" if equal else "no backend was compared"
    lower, integers = report.rungs[0], report.rung("I")
    if lower.accuracy is None or integers.accuracy is None or lower.name != "F":
        return f"passed: {promise}."
    change = 100 * (integers.accuracy - lower.accuracy)
    return f"passed: {promise}; integers change accuracy by {change:+.2f} points."


def _show_drifts(drifts: Sequence[Drift]) -> None:
    if not drifts:
        return
    rows = [
        [item.population, item.fed, _percent(item.mismatch, 2), _percent(item.rate_error, 2),
         _number(item.rate_emd), _silent(item), _percent(item.voltage_rmse, 2),
         _number(item.van_rossum), _number(item.victor_purpura), _number(item.coincidence)]
        for item in drifts
    ]  # fmt: skip
    table(
        "activity, F -> Q: with inherited errors, and each population by itself on F's spikes",
        ["population", "fed", "spike mismatch", "rate error", "rate EMD", "silent neurons",
         "voltage rmse", "van Rossum", "Victor-Purpura", "coincidence"],
        rows,
    )  # fmt: skip


def _silent(item: Drift) -> str:
    if item.mismatch is None:
        return "-"
    died = f" ({item.died} died)" if item.died else ""
    return f"{item.silent} -> {item.other_silent}{died}"


def _show_certificates(report: VerificationReport) -> None:
    rows = [
        [item.population, str(item.decisions), _percent(item.certified_share, 4),
         f"{item.proved_samples} of {report.samples}" if item.decisions else "-",
         str(item.explained), str(item.unexplained), f"{item.widest:.3g}", item.reason or "-"]
        for item in report.certificates
    ]  # fmt: skip
    table(
        "certificate, Q -> I: spikes proved equal, and flips that truncation explains",
        ["population", "decisions", "proved", "samples proved", "explained flips", "unexplained",
         "widest bound", "not compared"],
        rows,
    )  # fmt: skip


def _significance(change: AccuracyChange) -> str:
    if change.lost + change.gained == 0:
        # The bootstrap of equal answers is a point: the rule of three says what it hides.
        return (
            f"{change.lower} -> {change.upper}: no sample turned right or wrong; at 95 % fewer "
            f"than {min(100.0, 300 / change.samples):.2g} % of all would"
        )
    return (
        f"{change.lower} -> {change.upper}: accuracy {100 * change.change:+.2f} points, 95 % "
        f"interval {100 * change.low:+.2f} to {100 * change.high:+.2f}; {change.lost} samples "
        f"lost, {change.gained} gained (McNemar p = {change.p_value:.3g})"
    )


def _unexplained(first: Breach) -> str:
    neuron = ",".join(map(str, first.neuron))
    against = "" if first.threshold is None else f", threshold {first.threshold:g}"
    return (
        f"unexplained {first.what} at sample {first.sample}, step {first.step}, "
        f"{first.population}[{neuron}]: I has spike {first.spike} and voltage {first.voltage:g}, "
        f"Q proves a voltage of {first.low:.6g} to {first.high:.6g} "
        f"{'before' if first.what == 'spike' else 'after'} the reset{against}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _difference_rows(item: Comparison) -> list[list[str]]:
    return [
        [f"{item.lower} -> {item.upper}", row.population, str(row.differing),
         str(row.spikes) if row.mismatch is not None else "-", _percent(row.mismatch, 3),
         _percent(row.rate_change, 3), _percent(row.voltage_rmse, 3),
         f"{row.identical_samples} of {item.samples}"]
        for row in item.populations
    ]  # fmt: skip


def _place(first: Divergence) -> str:
    sides = "; ".join(
        f"{name} " + ", ".join(f"{key} {value:.6g}" for key, value in state.items())
        for name, state in first.states.items()
    )
    neuron = ",".join(map(str, first.neuron))
    return f"sample {first.sample}, step {first.step}, {first.population}[{neuron}] ({sides})"


def _percent(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f} %"
