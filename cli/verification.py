"""The tables of ``spikec verify``, and its verdict."""

from __future__ import annotations

from collections.abc import Iterator

from spikec.cli.tables import Table, say, show
from spikec.compiler.validation import Validation
from spikec.compiler.verification import VerificationReport
from spikec.compiler.verification.certificate import Breach, Certificate
from spikec.compiler.verification.drift import Drift
from spikec.compiler.verification.report import Comparison, Divergence
from spikec.compiler.verification.significance import AccuracyChange

__all__ = [
    "certificates",
    "differences",
    "drifts",
    "heading",
    "ladder",
    "margins",
    "sentences",
    "show_verification",
    "tables",
    "validated",
    "verdict",
]


def show_verification(report: VerificationReport) -> None:
    """Print the ladder, what differs between its rungs, and the verdict."""
    for item in tables(report):
        show(item)
    for line in sentences(report):
        say(line)
    say(verdict(report))


def tables(report: VerificationReport) -> tuple[Table, ...]:
    """Return the ladder and what differs between its rungs."""
    every = (
        ladder(report),
        differences(report),
        margins(report),
        drifts(report),
        certificates(report),
    )
    return tuple(item for item in every if item.rows)


def ladder(report: VerificationReport) -> Table:
    """Return a row for each rung."""
    rows = [
        (item.name, item.meaning, str(item.samples), _percent(item.accuracy, 2),
         _percent(item.agreement, 2),
         ", ".join(f"{count} {event}" for event, count in item.events.items()) or "-")
        for item in report.rungs
    ]  # fmt: skip
    first = report.rungs[0].name
    return Table(
        title=f"ladder: {report.samples} samples of {report.steps} steps, readout {report.readout}",
        columns=("rung", "meaning", "samples", "accuracy", f"same as {first}", "out of range"),
        rows=tuple(rows),
    )


def differences(report: VerificationReport) -> Table:
    """Return a row for each population between two rungs."""
    return Table(
        title="differences",
        columns=("between", "population", "differing", "of spikes", "mismatch", "rate",
                 "voltage rmse", "identical samples"),
        rows=tuple(row for item in report.comparisons for row in _difference_rows(item)),
    )  # fmt: skip


def margins(report: VerificationReport) -> Table:
    """Return how near to the threshold decisions are."""
    rows = [
        (item.population, item.rung, str(item.decisions), f"{item.smallest:.2g}",
         f"{item.median:.2g}", _percent(item.near, 3))
        for item in report.margins
    ]  # fmt: skip
    return Table(
        title="distance to threshold, relative to it",
        columns=("population", "rung", "decisions", "smallest", "median", "within 1 %"),
        rows=tuple(rows),
    )


def drifts(report: VerificationReport) -> Table:
    """Return how the activity of each population changed from F to Q."""
    rows = [
        (item.population, item.fed, _percent(item.mismatch, 2), _percent(item.rate_error, 2),
         _number(item.rate_emd), _silent(item), _percent(item.voltage_rmse, 2),
         _number(item.van_rossum), _number(item.victor_purpura), _number(item.coincidence))
        for item in report.drifts
    ]  # fmt: skip
    return Table(
        title="activity, F -> Q: with inherited errors, and each population by itself on F's "
        "spikes",
        columns=("population", "fed", "spike mismatch", "rate error", "rate EMD",
                 "silent neurons", "voltage rmse", "van Rossum", "Victor-Purpura", "coincidence"),
        rows=tuple(rows),
    )  # fmt: skip


def certificates(report: VerificationReport) -> Table:
    """Return what is proved of each population from Q to I."""
    rows = [
        (item.population, str(item.decisions), _percent(item.certified_share, 4),
         f"{item.proved_samples} of {report.samples}" if item.decisions else "-",
         str(item.explained), str(item.clipped), str(item.wrapped), str(item.unexplained),
         f"{item.widest:.3g}", _not_compared(item))
        for item in report.certificates
    ]  # fmt: skip
    return Table(
        title="certificate, Q -> I: spikes proved equal, and flips that truncation explains",
        columns=("population", "decisions", "proved", "samples proved", "explained flips",
                 "clipped", "wrapped", "unexplained", "widest bound", "not compared"),
        rows=tuple(rows),
    )  # fmt: skip


def _not_compared(item: Certificate) -> str:
    if item.open_from is not None:
        return f"not certifiable from step {item.open_from} on"
    return item.reason or "-"


def sentences(report: VerificationReport) -> tuple[str, ...]:
    """Return what the tables do not hold: significance, and the first of each kind."""
    return (
        *report.notes,
        *(() if report.validation is None else validated(report.validation)),
        *(_significance(change) for change in report.changes),
        *(
            f"{item.lower} and {item.upper} first part at {_place(item.first)}"
            for item in report.comparisons
            if item.first is not None
        ),
        *_answers(report),
        *(_unexplained(item.first) for item in report.certificates if item.first is not None),
    )


#: What keeps voltages within 24 bits.
_REMEDY = (
    "compile with --calibrate DATA like these, with --horizon STEPS if they are longer, or with "
    "fewer --weight-bits"
)


def _answers(report: VerificationReport) -> Iterator[str]:
    found = report.answers
    if found is None:
        return
    rest = [
        f"{count} {what}"
        for count, what in (
            (found.clipped, "read from clipped values"),
            (found.explained, "changed within what truncation explains"),
            (found.unexplained, "UNEXPLAINED"),
        )
        if count
    ]
    yield (
        f"answers of {found.proved} of {found.samples} samples are proved to be those of Q "
        f"(readout {report.readout}, fed with the integers' own spikes)"
        + "".join(f"; {item}" for item in rest)
    )


def validated(validation: Validation) -> tuple[str, ...]:
    """Return what a program was compared in with its source, and all that was found."""
    return (*_looked_at(validation), *validation.notes, *map(str, validation.findings))


def _looked_at(validation: Validation) -> Iterator[str]:
    if not validation.passed:
        yield "validation FAILED: the program is not the network it was compiled from"
        return
    ties = ""
    if validation.ties:
        ties = f", but for {validation.ties} that part where a voltage meets its threshold"
    yield (
        f"validated: {validation.parameters:,} numbers are the source's within their rounding; "
        f"its passes keep {validation.spikes:,} spikes of {validation.samples} samples of "
        f"{validation.steps} steps ({validation.data}){ties}"
    )


def verdict(report: VerificationReport) -> str:
    """Return what the report says, in one or two sentences."""
    broken = (
        [f"the program is not the network's ({len(report.validation.findings)} findings)"]
        if report.validation is not None and not report.validation.passed
        else []
    )
    broken += [
        f"{item.upper} differs from {item.lower} in {item.differing} values"
        for item in report.comparisons
        if not item.passed
    ]
    if report.unexplained:
        broken.append(
            f"{report.unexplained} spikes or voltages of the integers are beyond what truncation "
            "explains: a bug of the compiler or the engine"
        )
    if report.clipped_answers:
        broken.append(
            f"{report.clipped_answers} of {report.samples} answers come from voltages of "
            f"'{report.output}' that clipped at 24 bits: {_REMEDY}"
        )
    broken += report.refusals
    if broken:
        return "FAILED: " + "; ".join(broken)
    equal = [item for item in report.comparisons if item.must_agree]
    same = ", ".join(f"{item.upper} ({item.samples} samples)" for item in equal)
    promise = f"every recorded value of I equals {same}" if equal else "no backend was compared"
    result = "; but ".join([_passed(report), *report.reservations])
    lower, integers = report.rungs[0], report.rung("I")
    if lower.accuracy is None or integers.accuracy is None or lower.name != "F":
        return f"{result}: {promise}."
    change = 100 * (integers.accuracy - lower.accuracy)
    return f"{result}: {promise}; integers change accuracy by {change:+.2f} points."


def heading(report: VerificationReport) -> str:
    """Return the verdict in a few words; ``, but`` says that :func:`verdict` has more."""
    if not report.passed:
        return "FAILED"
    return _passed(report) + (", but" if report.reservations else "")


def _passed(report: VerificationReport) -> str:
    return f"passed without {' and '.join(report.missing)}" if report.missing else "passed"


def _silent(item: Drift) -> str:
    if item.mismatch is None:
        return "-"
    died = f" ({item.died} died)" if item.died else ""
    return f"{item.silent} -> {item.other_silent}{died}"


def _significance(change: AccuracyChange) -> str:
    if change.lost + change.gained == 0:
        # The bootstrap of equal answers is a point. What it hides is the largest share that
        # shows in none of so many samples in one of twenty draws.
        hidden = 100 * (1 - 0.05 ** (1 / change.samples))
        return (
            f"{change.lower} -> {change.upper}: no sample turned right or wrong; at 95 % fewer "
            f"than {hidden:.2g} % of all would"
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


def _difference_rows(item: Comparison) -> list[tuple[str, ...]]:
    return [
        (f"{item.lower} -> {item.upper}", row.population, str(row.differing),
         str(row.spikes) if row.mismatch is not None else "-", _percent(row.mismatch, 3),
         _percent(row.rate_change, 3), _percent(row.voltage_rmse, 3),
         f"{row.identical_samples} of {item.samples}")
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
