"""``spikec attribute``: what each choice of the quantizer costs, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from spikec.cli import tables
from spikec.cli.loading import CompileOptions, data_for, load, network_of
from spikec.compiler.backend import Progress
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.trace import Readout
from spikec.compiler.verification.attribution import Attribution, Cost
from spikec.compiler.verification.attribution import attribute as measure

__all__ = ["attribute", "costs", "no_source", "show"]


def attribute(
    file: Path,
    data_file: Path,
    *,
    source: Path | None,
    readout: str | None,
    samples: int | None,
    options: CompileOptions,
    progress: Progress | None,
) -> Attribution:
    """Measure the variants of the network in ``file``, or of the one a program came from."""
    loaded = load(file, options)
    graph = network_of(loaded, file, source, options.read)
    if graph is None:
        raise no_source(file)
    data = data_for(
        loaded.program, data_file, samples=samples, steps=options.steps, layouts=options.layouts
    )
    return measure(
        canonicalise(graph),
        loaded.program,
        data,
        readout=cast("Readout | None", readout),
        progress=progress,
    )


def no_source(file: Path) -> UsageError:
    """Return the error of a program without the network that it came from."""
    return UsageError(
        Diagnostic(
            code="U113",
            where=str(file),
            message="the network it was compiled from is not beside it",
            hint="name it with --source FILE, or give the network instead of the program",
        )
    )


def show(report: Attribution) -> None:
    """Print one row per choice, alone and left out, and what to do."""
    tables.show(costs(report))
    for line in report.suggestions:
        tables.say(f"- {line}")


def costs(report: Attribution) -> tables.Table:
    """Return one row per choice, alone and left out."""
    without = {item.what: item for item in report.without}
    rows = [("everything", *_cells(report.everything), "-", "-")]
    for item in report.alone:
        rest = without[item.what]
        what = f"{item.what} (exact)" if item.exact else item.what
        rows.append((what, *_cells(item), _lost(rest), _points(rest)))
    accuracy = "" if report.accuracy is None else f", float accuracy {100 * report.accuracy:.2f} %"
    return tables.Table(
        title=f"what quantizing costs: {report.samples} samples of {report.steps} steps, "
        f"readout {report.readout}{accuracy}",
        columns=("quantized alone", "spike mismatch", "readout rmse", "same as F", "accuracy",
                 "all but this: mismatch", "accuracy"),
        rows=tuple(rows),
    )  # fmt: skip


def _cells(item: Cost) -> tuple[str, str, str, str]:
    return (
        "-" if item.mismatch is None else f"{100 * item.mismatch:.3f} %",
        "-" if item.voltage_rmse is None else f"{100 * item.voltage_rmse:.3f} %",
        f"{100 * item.agreement:.2f} %",
        _points(item),
    )


def _lost(item: Cost) -> str:
    share = item.voltage_rmse if item.mismatch is None else item.mismatch
    return "-" if share is None else f"{100 * share:.3f} %"


def _points(item: Cost) -> str:
    return "-" if item.change is None else f"{100 * item.change.change:+.2f}"
