"""``spikec sweep``: bits, policies and targets against what they cost, on the user's own data."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, product
from pathlib import Path
from typing import cast

import numpy as np

from spikec.backends import open_backend
from spikec.cli.loading import CompileOptions, calibration_of, data_for
from spikec.cli.tables import say, table
from spikec.compiler import frontends, reference
from spikec.compiler.arrays import Array
from spikec.compiler.backend import Progress
from spikec.compiler.batches import batch_size, run_in_batches
from spikec.compiler.errors import Diagnostic, QuantizationError, UsageError
from spikec.compiler.files import write_atomically
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, Graph, Population
from spikec.compiler.program import Program
from spikec.compiler.quantize import WeightBits, compile_graph, compile_mixed
from spikec.compiler.quantize.bits import Rounding
from spikec.compiler.quantize.budget import Option, loss_table, weight_bytes
from spikec.compiler.targets import Target, load_target
from spikec.compiler.trace import Probe, Readout, Trace, default_readout, read_out
from spikec.compiler.verification.significance import AccuracyChange, accuracy_change

__all__ = ["Point", "Sweep", "draw", "show", "sweep"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One program; ``refused`` says why there is none.

    ``weight_bytes`` is what the weights take, packed, ``mismatch`` the differing spikes of all
    populations relative to those of the float network, ``events`` what went out of range.
    With the policy ``mixed``, ``bits`` are those of the uniform program whose memory is kept.
    """

    target: str
    policy: str
    bits: int
    weight_bytes: float | None = None
    accuracy: float | None = None
    change: AccuracyChange | None = None
    agreement: float | None = None
    mismatch: float | None = None
    events: Mapping[str, int] | None = None
    refused: str = ""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """All points; ``knee`` is the place of the smallest one whose loss is within chance.

    Without labels it is the smallest one with 99 % of the float network's answers.
    """

    network: str
    samples: int
    steps: int
    readout: str
    accuracy: float | None
    points: tuple[Point, ...]
    knee: int | None

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return asdict(self)


#: How weights become levels: a scale that clips none of them, or the one of the least square
#: error (which needs no data); levels fitted to calibration data; the same with bits that
#: differ between populations, in no more memory.
POLICIES = ("max-abs", "least-squares", "fitted", "mixed")

#: Without labels: answers equal to the float network's that count as nothing lost.
_AGREEING = 0.99


def sweep(
    file: Path,
    data_file: Path,
    *,
    bits: str,
    targets: str,
    policies: str | None,
    plot: bool,
    readout: str | None,
    samples: int | None,
    options: CompileOptions,
    progress: Progress | None,
) -> Sweep:
    """Compile the network in ``file`` for every target, policy and number of bits; run each."""
    if plot and importlib.util.find_spec("matplotlib") is None:
        raise UsageError(_finding("U114", "option --plot", "matplotlib is missing",
                                  "pip install 'spikec[plot]'"))  # fmt: skip
    numbers, chips = _numbers(bits), [load_target(name) for name in _words(targets)]
    if not chips:
        raise UsageError(_finding("U115", "option --targets", "it names none", "--targets loihi2"))
    ways = _policies(policies, calibrated=options.calibrate is not None)
    graph = frontends.load_graph(file, options.read)
    data = data_for(graph, data_file, samples=samples, steps=options.steps, layouts=options.layouts)
    calibration = calibration_of(graph, options)
    chosen = cast("Readout | None", readout) or _readout_of(graph)
    float_run = _run_float(graph, data, chosen)
    maker = _Maker(graph, calibration)
    points: list[Point] = []
    for target, policy, number in product(chips, ways, numbers):
        points.append(_point(maker, target, policy, number, data, chosen, float_run))
        if progress is not None:
            progress(len(points), len(chips) * len(ways) * len(numbers))
    right = None if data.labels is None else read_out(float_run, chosen) == data.labels
    return Sweep(
        network=file.name,
        samples=data.num_samples,
        steps=data.num_steps,
        readout=chosen,
        accuracy=None if right is None else float(right.mean()),
        points=tuple(points),
        knee=_knee(points),
    )


def _finding(code: str, where: str, message: str, hint: str) -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _numbers(text: str) -> list[int]:
    words = _words(text)
    if not words or not all(word.isdecimal() and 1 <= int(word) <= 8 for word in words):
        raise UsageError(
            _finding("U115", "option --bits", f"'{text}' lists no numbers of bits",
                     "numbers from 1 to 8 with commas between, e.g. 8,4,2")
        )  # fmt: skip
    return [int(word) for word in words]


def _policies(text: str | None, *, calibrated: bool) -> list[str]:
    words = _words(text or ("fitted" if calibrated else "least-squares"))
    if not words or not set(words) <= set(POLICIES):
        raise UsageError(
            _finding("U115", "option --policies", f"'{text}' lists no policies",
                     f"some of {','.join(POLICIES)}")
        )  # fmt: skip
    if not calibrated and {"fitted", "mixed"} & set(words):
        raise UsageError(
            _finding("U116", "option --policies", "'fitted' and 'mixed' need data",
                     "add --calibrate DATA.npz: other data than --data")
        )  # fmt: skip
    return words


class _Maker:
    """Compiles one network by every policy; what mixed bits lose is measured once a target."""

    def __init__(self, graph: Graph, calibration: Dataset | None) -> None:
        self.graph, self.calibration = graph, calibration
        self._tables: dict[str, dict[str, list[Option]]] = {}

    def program(self, target: Target, policy: str, bits: int) -> Program:
        """Return the program with ``bits`` bits; :class:`QuantizationError` if it does not fit."""
        rounding = cast("Rounding", "fitted" if policy == "mixed" else policy)
        uniform = compile_graph(
            self.graph,
            target,
            weight_bits=WeightBits(default=bits, rounding=rounding),
            calibration=self.calibration,
        ).program
        if policy != "mixed":
            return uniform
        assert self.calibration is not None, "refused before"
        if target.name not in self._tables:
            self._tables[target.name] = loss_table(self.graph, target, self.calibration)
        return compile_mixed(
            self.graph,
            target,
            calibration=self.calibration,
            budget=weight_bytes(uniform),
            table=self._tables[target.name],
        ).program


def _readout_of(graph: Graph) -> Readout:
    output = graph[graph.outputs[0]]
    assert isinstance(output, Population)
    silent = isinstance(output, LI)
    return default_readout(spikes=not silent, leaks=bool((output.beta < 1).any()))


def _probes(graph: Graph, readout: Readout) -> tuple[Probe, ...]:
    needed: Probe = (graph.outputs[0], "spikes" if readout == "spike-count" else "voltage")
    if isinstance(graph[needed[0]], LI) and needed[1] == "spikes":
        raise UsageError(
            _finding("U011", f"output '{needed[0]}'", "readout 'spike-count' on a leaky "
                     "integrator, which never spikes",
                     "choose max-voltage, last-voltage or mean-voltage")
        )  # fmt: skip
    return tuple(dict.fromkeys((*graph.default_probes, needed)))


def _run_float(graph: Graph, data: Dataset, readout: Readout) -> Trace:
    probes = _probes(graph, readout)
    neurons = sum(node.num_neurons for node in graph.populations)
    return run_in_batches(
        lambda part: reference.run(graph, part, probes=probes),
        data.inputs,
        size=batch_size(neurons, data.num_steps),
    )


def _point(
    maker: _Maker,
    target: Target,
    policy: str,
    bits: int,
    data: Dataset,
    readout: Readout,
    float_run: Trace,
) -> Point:
    try:
        program = maker.program(target, policy, bits)
    except QuantizationError as error:
        return Point(
            target=target.name, policy=policy, bits=bits, refused=str(error.diagnostics[0])
        )
    with open_backend("simulator").load(program) as executable:
        trace = executable.run(data.inputs, probes=_probes(maker.graph, readout))
    predicted, before = read_out(trace, readout), read_out(float_run, readout)
    return Point(
        target=target.name,
        policy=policy,
        bits=bits,
        weight_bytes=_weight_bytes(program),
        accuracy=None if data.labels is None else float((predicted == data.labels).mean()),
        change=_change(predicted, before, data.labels),
        agreement=float((predicted == before).mean()),
        mismatch=_mismatch(float_run, trace),
        events=dict(trace.events),
    )


def _weight_bytes(program: Program) -> float:
    """Return what all weights take at their stored bits; shared kernels count once."""
    bits = sum(item.operator.weight.size * item.num_weight_bits for item in program.connections)
    return bits / 8


def _change(predicted: Array, before: Array, labels: Array | None) -> AccuracyChange | None:
    if labels is None:
        return None
    right, was_right = predicted == labels, before == labels
    return accuracy_change(
        "F",
        "I",
        samples=len(labels),
        lost=int((was_right & ~right).sum()),
        gained=int((right & ~was_right).sum()),
    )


def _mismatch(lower: Trace, upper: Trace) -> float | None:
    spiking = [probe for probe in lower.values if probe[1] == "spikes"]
    total = sum(int(lower[probe].sum(dtype=np.int64)) for probe in spiking)
    differing = sum(int((lower[probe] != upper[probe]).sum()) for probe in spiking)
    return differing / total if total else None


def _knee(points: Sequence[Point]) -> int | None:
    """Return the place of the smallest program that loses nothing that can be shown."""
    good = [
        (point.weight_bytes, place)
        for place, point in enumerate(points)
        if point.weight_bytes is not None and _loses_nothing(point)
    ]
    return min(good)[1] if good else None


def _loses_nothing(point: Point) -> bool:
    if point.change is not None:
        return point.change.high >= 0
    return (point.agreement or 0.0) >= _AGREEING


def show(result: Sweep) -> None:
    """Print one row per point, and the knee."""
    rows = [_row(point, result.knee == place) for place, point in enumerate(result.points)]
    accuracy = "" if result.accuracy is None else f", float accuracy {100 * result.accuracy:.2f} %"
    table(
        f"{result.network}: {result.samples} samples of {result.steps} steps, readout "
        f"{result.readout}{accuracy}",
        ["target", "policy", "bits", "weights", "accuracy", "change (95 % interval)", "same as F",
         "spike mismatch", "note"],
        rows,
    )  # fmt: skip
    if result.knee is None:
        say("every point loses more than chance explains")
        return
    knee = result.points[result.knee]
    lost = "whose loss is within chance" if knee.change else "with the float network's answers"
    say(f"the smallest {lost}: {knee.bits} bits on {knee.target}, {knee.policy}")


def _row(point: Point, knee: bool) -> list[str]:  # noqa: FBT001 - a private helper
    if point.refused:
        return [point.target, point.policy, str(point.bits), "-", "-", "-", "-", "-", point.refused]
    change = point.change
    assert point.weight_bytes is not None
    assert point.agreement is not None
    return [
        point.target,
        point.policy,
        str(point.bits),
        f"{point.weight_bytes / 1024:.1f} KiB",
        "-" if point.accuracy is None else f"{100 * point.accuracy:.2f} %",
        "-" if change is None else f"{100 * change.change:+.2f} "
        f"({100 * change.low:+.2f} to {100 * change.high:+.2f})",
        f"{100 * point.agreement:.2f} %",
        "-" if point.mismatch is None else f"{100 * point.mismatch:.2f} %",
        "knee" if knee else "-",
    ]  # fmt: skip


def draw(result: Sweep, path: Path) -> None:
    """Draw accuracy (or equal answers) against the memory of the weights into a PNG file."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7.5, 4.8), layout="constrained")
    labelled = result.accuracy is not None
    names = dict.fromkeys((point.target, point.policy) for point in result.points)
    for (target, policy), style in zip(names, cycle(("-", "--", ":", "-.")), strict=False):
        mine = [p for p in result.points if (p.target, p.policy) == (target, policy)]
        ran = [p for p in mine if p.weight_bytes is not None]
        sizes = [cast("float", point.weight_bytes) / 1024 for point in ran]
        heights = [100 * ((point.accuracy if labelled else point.agreement) or 0) for point in ran]
        spread = [_spread(point) for point in ran]
        axes.errorbar(sizes, heights, yerr=np.transpose(spread) if ran else None, marker="o",
                      linestyle=style, capsize=3, label=f"{target}, {policy}")  # fmt: skip
        for point, place, height in zip(ran, sizes, heights, strict=True):
            axes.annotate(f"{point.bits} bit", (place, height), xytext=(4, -12),
                          textcoords="offset points", fontsize=8)  # fmt: skip
    if result.accuracy is not None:
        axes.axhline(100 * result.accuracy, color="0.4", linestyle=":", label="float")
    if result.knee is not None:
        knee = result.points[result.knee]
        axes.axvline(cast("float", knee.weight_bytes) / 1024, color="0.7", linewidth=0.8,
                     label="smallest, loss within chance")  # fmt: skip
    axes.set(xlabel="weights (KiB)", title=f"{result.network}, {result.samples} samples",
             ylabel="accuracy (%)" if labelled else "same answer as float (%)")  # fmt: skip
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    plt.close(figure)
    write_atomically(path, buffer.getvalue())


def _spread(point: Point) -> tuple[float, float]:
    """Return how far the interval of the change reaches below and above it, in percent."""
    if point.change is None:
        return 0.0, 0.0
    change = point.change
    return 100 * max(0.0, change.change - change.low), 100 * max(0.0, change.high - change.change)
