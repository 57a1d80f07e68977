"""Tables for people, drawn by Rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from spikec.compiler.targets import Target
from spikec.compiler.verification import VerificationReport
from spikec.compiler.verification.report import Comparison, Divergence

__all__ = [
    "say",
    "show_emitted",
    "show_targets",
    "show_verification",
    "show_zoo",
    "table",
    "verdict",
]


def say(text: str) -> None:
    """Print one line as it is."""
    Console(soft_wrap=True, highlight=False).print(text, markup=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one table; a terminal's width is kept, a pipe gets what it needs."""
    drawn = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))  # as it is: names may hold brackets
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(drawn)


def show_targets(targets: Sequence[Target]) -> None:
    """Print the targets and their main limits."""
    rows = [
        [item.name, str(item.weight_bits), str(item.weight_exp), str(item.vth_bits),
         str(item.delay), str(item.graded_bits or "no"), item.summary]
        for item in targets
    ]  # fmt: skip
    table(
        "targets",
        ["name", "weight bits", "exponent", "vth bits", "delay", "graded bits", "what it is"],
        rows,
    )


def show_zoo(entries: Sequence[Mapping[str, str]]) -> None:
    """Print the trained networks."""
    table("zoo", ["name", "what it is"], [[item["name"], item["summary"]] for item in entries])
    say("'spikec zoo NAME -o DIR' copies one, with test data, to start from")


def show_emitted(report: Mapping[str, Any]) -> None:
    """Print what was emitted: which Lava process each population runs on, or what C takes."""
    if "bytes" in report:
        rows = [[name, f"{count:,}"] for name, count in report["bytes"].items()]
        table("bytes, without code", ["what", "bytes"], rows)
        return
    rows = [
        [str(item["population"]), str(item["process"]), "stock" if item["stock"] else "own model",
         str(item["reason"])]
        for item in report["populations"]
    ]  # fmt: skip
    table("populations on Lava", ["population", "process", "model", "why"], rows)


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
    for item in report.comparisons:
        if item.first is not None:
            say(f"{item.lower} and {item.upper} first part at {_place(item.first)}")
    say(verdict(report))


def verdict(report: VerificationReport) -> str:
    """Return what the report says, in one or two sentences."""
    broken = [item for item in report.comparisons if not item.passed]
    if broken:
        return "FAILED: " + "; ".join(
            f"{item.upper} differs from {item.lower} in {item.differing} values" for item in broken
        )
    equal = [item for item in report.comparisons if item.must_agree]
    same = ", ".join(f"{item.upper} ({item.samples} samples)" for item in equal)
    promise = f"every recorded value of I equals {same}" if equal else "no backend was compared"
    lower, integers = report.rungs[0], report.rung("I")
    if lower.accuracy is None or integers.accuracy is None or lower.name != "F":
        return f"passed: {promise}."
    change = 100 * (integers.accuracy - lower.accuracy)
    return f"passed: {promise}; integers change accuracy by {change:+.2f} points."


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
