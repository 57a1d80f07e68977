"""``spikec demo``: the whole job on the zoo's recurrent network, with a report and a picture."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikec.backends.lava import environment
from spikec.cli.loading import LavaOptions, Loaded
from spikec.cli.picture import draw
from spikec.cli.report import look_into
from spikec.cli.report import write as write_report
from spikec.cli.session import progress_bar
from spikec.cli.tables import say, table
from spikec.cli.verification import verdict
from spikec.compiler.files import canonical_json, make_folder, write_atomically
from spikec.compiler.program_file import write_program
from spikec.compiler.quantize import QuantizationReport, compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.verification import VerificationReport
from spikec.models import zoo

__all__ = ["DemoResult", "run", "show"]

_NETWORK = "mnist-recurrent"


@dataclass(frozen=True, eq=False, kw_only=True)
class DemoResult:
    """What the demo did: its reports, the files it wrote, and how long it took."""

    quantization: QuantizationReport
    report: VerificationReport
    written: tuple[Path, ...]
    lava_missing: bool
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "network": _NETWORK,
            "quantization": self.quantization.as_dict(),
            "verification": self.report.as_dict(),
            "written": [str(path) for path in self.written],
            "lava_missing": self.lava_missing,
            "seconds": self.seconds,
        }


def run(
    folder: Path, *, samples: int, lava_samples: int, lava_python: str | None, quiet: bool
) -> DemoResult:
    """Compile, simulate, verify, and write program, report and picture into ``folder``."""
    started = time.perf_counter()
    make_folder(folder)
    graph, data = zoo.graph(_NETWORK), zoo.data(_NETWORK, samples=samples)
    compilation = compile_graph(graph, load_target("loihi2"))
    written = [folder / "net.spk", folder / "verification.json"]
    write_program(compilation.program, written[0])
    if lava_python is not None:
        environment.require(lava_python)  # what is named must be there
    lava_missing = environment.find(lava_python) is None
    loaded = Loaded(graph=graph, program=compilation.program)
    drawn = importlib.util.find_spec("plotly") is not None
    with progress_bar("verifying", quiet=quiet) as progress:
        found = look_into(
            loaded,
            data,
            name=_NETWORK,
            files={"program": written[0]},
            backends=[] if lava_missing else ["lava"],
            lava=LavaOptions(python=lava_python, samples=lava_samples),
            with_evidence=drawn,
            progress=progress,
        )
    report = found.report
    write_atomically(written[1], canonical_json(report.as_dict()).encode())
    if drawn:
        written.append(folder / "report.html")
        write_report(found, written[-1])
    if importlib.util.find_spec("matplotlib") is not None:
        written.append(folder / "picture.png")
        title = f"{_NETWORK} in float and in integers, {report.samples} test images"
        draw(loaded, data, report, written[-1], title=title)
    return DemoResult(
        quantization=compilation.report,
        report=report,
        written=tuple(written),
        lava_missing=lava_missing,
        seconds=time.perf_counter() - started,
    )


def show(result: DemoResult) -> None:
    """Print one table, and what it means."""
    report = result.report
    below = {item.upper: item for item in report.comparisons}
    rows = []
    for rung in report.rungs:
        comparison = below.get(rung.name)
        different = "-"
        if comparison is not None:
            (layer, *_) = comparison.populations
            different = f"{layer.differing} of {layer.spikes} spikes"
        accuracy = "-" if rung.accuracy is None else f"{100 * rung.accuracy:.2f} %"
        rows.append([rung.name, rung.meaning, str(rung.samples), accuracy,
                     f"{100 * rung.agreement:.2f} %", different])  # fmt: skip
    table(
        "MNIST, one row and one column of the image a step, 192 recurrent neurons",
        ["rung", "meaning", "images", "accuracy", "same class as F", "differs from the rung below"],
        rows,
    )
    hidden = result.quantization.populations[0]
    say("F -> Q is what 8-bit weights and 12-bit decays changed: single spikes, not classes.")
    say("Q -> I is what integer rounding added. Currents cannot overflow: the proof leaves a "
        f"factor {hidden.proof_margin:.2f}.")  # fmt: skip
    if result.lava_missing:
        say("Lava was not run: 'spikec setup-lava' makes an environment for it.")
    else:
        say("I -> lava must be 0: the integers are what Lava computes, bit for bit.")
    say(verdict(report))
    say(f"{result.seconds:.0f} s; wrote {', '.join(str(path) for path in result.written)}")
    endings = {path.suffix for path in result.written}
    if ".png" not in endings:
        say("There is no picture without matplotlib: pip install 'spikec[plot]'")
    if ".html" not in endings:
        say("There is no report without Plotly: pip install 'spikec[report]'")
