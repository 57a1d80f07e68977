"""``spikec convert --convert rate``: a ReLU network to spikes, and how that does over time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikec.cli import running
from spikec.cli.loading import CompileOptions, data_for
from spikec.cli.outputs import check_output
from spikec.cli.tables import say, say_aside, table
from spikec.compiler import rate
from spikec.compiler.backend import Progress
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any

__all__ = ["Conversion", "convert", "refuse_idle", "show"]


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A finished conversion: what was chosen, and how it does on data."""

    output: Path
    populations: tuple[rate.Converted, ...]
    report: rate.RateReport
    tested_on: Path
    #: What the file holds less exactly.
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "output": str(self.output),
            "populations": [asdict(item) for item in self.populations],
            "tested_on": str(self.tested_on),
            "notes": list(self.notes),
            **self.report.as_dict(),
        }


def convert(
    file: Path,
    output: Path,
    *,
    data: Path | None,
    test: Path | None,
    percentile: float | None,
    samples: int | None,
    options: CompileOptions,
    progress: Progress | None,
) -> Conversion:
    """Convert the ReLU network in ``file``, write it to ``output`` and measure it.

    ``data`` sets the thresholds; accuracies are those on ``test``, by default the same
    data, of which ``samples`` are taken.
    """
    from spikec.compiler.frontends.onnx_relu import read_relu

    if data is None:
        raise UsageError(
            Diagnostic(
                code="U104",
                where="option --convert",
                message="thresholds are set from activations, and there are no data to see any",
                hint="--data D.npz, with some hundred samples of what the network was trained on",
            )
        )
    options.read.refuse_all_but((), "the conversion")
    write = running.writer_for(output)
    check_output(output, file, data, test)
    network = read_relu(file)
    calibration = data_for(network, data, steps=1, layouts=options.layouts)
    graph, populations = rate.convert(
        network,
        calibration,
        percentile=rate.DEFAULT_PERCENTILE if percentile is None else percentile,
    )
    judged = (
        calibration if test is None else data_for(network, test, steps=1, layouts=options.layouts)
    )
    judged = judged if samples is None else judged.samples(0, samples)
    report = rate.measure(network, graph, judged, progress=progress)
    return Conversion(
        output=output,
        populations=populations,
        report=report,
        tested_on=test or data,
        notes=write(graph, output) or (),
    )


def refuse_idle(**given: object) -> None:
    """Refuse options of a conversion where none is asked for: they would do nothing."""
    raise_if_any(
        UsageError,
        [
            Diagnostic(
                code="U081",
                where=f"option --{name}",
                message="it has no effect without --convert rate",
                hint="leave it out, or convert a ReLU network with it",
            )
            for name, value in given.items()
            if value is not None
        ],
    )


def show(result: Conversion) -> None:
    """Print what was chosen, and accuracy against time."""
    table(
        "populations",
        ["population", "neurons", "threshold", "largest activation", "spikes a step"],
        [
            [item.population, str(item.neurons), f"{item.threshold:.4g}", f"{item.largest:.4g}",
             f"{item.rate:.3f}"]
            for item in result.populations
        ],
    )  # fmt: skip
    report = result.report
    rows = [["ReLU network", _percent(report.accuracy), "", ""]]
    rows += [
        [str(row.steps), _percent(row.accuracy), _percent(row.agreement), f"{row.spikes:,.0f}"]
        for row in report.rows
    ]
    title = f"{report.samples} samples of {result.tested_on}"
    table(title, ["steps", "accuracy", "same class", "spikes per sample"], rows)
    for note in result.notes:
        say_aside(note)
    say(f"wrote {result.output}")


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.2f} %"
