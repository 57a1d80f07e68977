"""One picture of a verified network: where float and integers part, and how much."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from spikec.backends import open_backend
from spikec.cli.loading import Loaded
from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.files import write_atomically
from spikec.compiler.inputs import Dataset
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.verification import VerificationReport
from spikec.compiler.verification.report import Divergence

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw"]

_FLOAT, _INTEGER, _BOTH = "#1f6fb2", "#d1495b", "#2b2d42"


def draw(
    loaded: Loaded, data: Dataset, report: VerificationReport, path: Path, *, title: str
) -> None:
    """Draw rasters, the neuron where they first part, errors and accuracy into a PNG file.

    ``loaded`` needs its float graph. Rasters show the first spiking population
    on the first sample on which float and quantized network differ.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    first = next(item.first for item in report.comparisons if item.upper == "Q")
    figure = plt.figure(figsize=(13, 7.5), layout="constrained")
    grid = figure.add_gridspec(2, 3, width_ratios=(1.2, 1.2, 1), height_ratios=(1.6, 1))
    name = loaded.program.populations[0].name if first is None else first.population
    sample = 0 if first is None else first.sample
    probes: tuple[Probe, ...] = ((name, "spikes"), (name, "voltage"))
    traces = _both(loaded, data.samples(sample, sample + 1), probes)
    _rasters(figure.add_subplot(grid[0, :2]), traces, name, sample)
    if first is not None:
        _voltages(figure.add_subplot(grid[1, :2]), loaded, traces, first)
    _errors(figure.add_subplot(grid[0, 2]), report)
    _accuracies(figure.add_subplot(grid[1, 2]), report)
    figure.suptitle(title)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    plt.close(figure)
    write_atomically(path, buffer.getvalue())


def _both(loaded: Loaded, data: Dataset, probes: tuple[Probe, ...]) -> tuple[Trace, Trace]:
    assert loaded.graph is not None
    with open_backend("simulator").load(loaded.program) as executable:
        integers = executable.run(data.inputs, probes=probes)
    return reference.run(loaded.graph, data.inputs, probes=probes), integers


def _rasters(axes: Axes, traces: tuple[Trace, Trace], name: str, sample: int) -> None:
    """Draw the spikes both have, and those that only one has."""
    flat = [trace.spikes(name)[0].reshape(trace.num_steps, -1) for trace in traces]
    in_float, in_integers = (spikes.astype(bool) for spikes in flat)
    groups: tuple[tuple[Array, str, str, str], ...] = (
        (in_float & in_integers, _BOTH, "both", "|"),
        (in_float & ~in_integers, _FLOAT, "float only", "o"),
        (in_integers & ~in_float, _INTEGER, "integers only", "s"),
    )
    for chosen, color, label, marker in groups:
        step, neuron = np.nonzero(chosen)
        axes.scatter(step, neuron, s=16, c=color, marker=marker, linewidths=1.0,
                     label=f"{label}: {len(step)}")  # fmt: skip
    parts = np.flatnonzero((in_float != in_integers).any(axis=1))
    if len(parts):
        axes.axvline(parts[0], color="0.6", linestyle=":")
    axes.set(xlabel="time step", ylabel=f"neuron of {name}",
             xlim=(-0.5, len(in_float)),
             title=f"spikes of sample {sample}: dotted line where they first part")  # fmt: skip
    axes.legend(loc="upper left", framealpha=0.95)


def _voltages(axes: Axes, loaded: Loaded, traces: tuple[Trace, Trace], first: Divergence) -> None:
    """Draw the neuron that parts first, against its threshold."""
    name = first.population
    neurons = loaded.program.population(name)
    volts = neurons.view.voltage_offset + neurons.lsb * traces[1][name, "voltage"]
    threshold = first.states[next(iter(first.states))]["threshold"]
    axes.plot(
        _of_neuron(traces[0][name, "voltage"], first), color=_FLOAT, marker=".", label="float"
    )
    axes.plot(
        _of_neuron(volts, first), color=_INTEGER, marker=".", linestyle="--", label="integers"
    )
    axes.axhline(threshold, color="0.4", linewidth=0.8, label="threshold")
    axes.axvline(first.step, color="0.6", linestyle=":")
    axes.set_yscale("symlog", linthresh=max(abs(threshold), 1e-9))
    axes.set(xlabel="time step", ylabel="voltage", xlim=(-0.5, traces[0].num_steps),
             title=f"{name}{list(first.neuron)}, the first neuron to differ")  # fmt: skip
    axes.legend(loc="lower left", ncols=3)


def _of_neuron(values: Array, first: Divergence) -> Array:
    """Return the course of one neuron from ``[1, step, *neurons]``."""
    place = int(np.ravel_multi_index(first.neuron, values.shape[2:]))
    course: Array = values[0].reshape(values.shape[1], -1)[:, place]
    return course


def _errors(axes: Axes, report: VerificationReport) -> None:
    """Draw the error of every population on every step of the ladder, in percent."""
    labels, heights, colors = [], [], []
    for item in report.comparisons:
        for row in item.populations:
            value = row.mismatch if row.mismatch is not None else row.voltage_rmse
            kind = "spikes" if row.mismatch is not None else "voltage"
            labels.append(f"{item.lower} to {item.upper}\n{row.population} {kind}")
            heights.append(100 * (value or 0.0))
            colors.append(_BOTH if item.must_agree else _FLOAT if item.lower == "F" else _INTEGER)
    places = np.arange(len(labels))
    axes.barh(places, heights, color=colors)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.margins(x=0.25)
    for place, height in zip(places, heights, strict=True):
        axes.annotate(f" {height:.3g} %", (height, float(place)), va="center")
    axes.set(xlabel="differing spikes, or voltage error (%)", title="error by layer")


def _accuracies(axes: Axes, report: VerificationReport) -> None:
    known = [(rung, rung.accuracy) for rung in report.rungs if rung.accuracy is not None]
    if not known:
        axes.set_axis_off()
        return
    values = [100 * accuracy for _, accuracy in known]
    axes.bar([f"{rung.name}\n{rung.samples}" for rung, _ in known], values, color=_BOTH)
    axes.set_ylim(max(0.0, min(values) - 5), 101)
    for place, value in enumerate(values):
        axes.annotate(f"{value:.2f}", (place, value), ha="center", va="bottom")
    axes.set(ylabel="accuracy (%)", title="accuracy (and samples)")
