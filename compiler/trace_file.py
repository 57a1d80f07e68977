"""Traces on disk: a ``.npz`` that any NumPy can read.

``<population>/spikes``, ``<population>/voltage`` and ``<population>/current`` are
``[sample, step, neurons...]``; ``output`` names the output populations and
``predictions`` holds one class per sample. An integer run's states are the
chip's integers: the source's voltage is ``voltage_offset + lsb * voltage`` and its
current ``lsb * current / current_scale``, under ``<population>/`` too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import read_npz, write_npz
from spikec.compiler.program import Neurons
from spikec.compiler.trace import QUANTITIES, Probe, Trace

__all__ = ["read_trace", "write_trace"]


def write_trace(
    path: str | Path,
    trace: Trace,
    *,
    predictions: Array | None = None,
    neurons: Sequence[Neurons] = (),
) -> None:
    """Save ``trace`` to ``path``, atomically; ``neurons`` say what an integer run's units are."""
    arrays = {f"{name}/{quantity}": values for (name, quantity), values in trace.values.items()}
    arrays["output"] = np.array(trace.outputs)
    if predictions is not None:
        arrays["predictions"] = predictions
    probed = {name for name, quantity in trace.values if quantity != "spikes"}
    for item in neurons:
        if item.name in probed:
            arrays[f"{item.name}/lsb"] = np.array(item.lsb)
            arrays[f"{item.name}/voltage_offset"] = item.view.voltage_offset
            arrays[f"{item.name}/current_scale"] = item.view.current_scale
    write_npz(Path(path), arrays)


def read_trace(path: str | Path) -> Trace:
    """Load a trace that :func:`write_trace` saved."""
    arrays = read_npz(Path(path))
    if "output" not in arrays:
        raise FrontendError(
            Diagnostic(
                code="F030",
                where=str(path),
                message="it has no 'output': it is not a trace",
                hint="traces are written by 'spikec run'",
            )
        )
    values: dict[Probe, Array] = {}
    for key, recorded in arrays.items():
        name, _, ending = key.rpartition("/")
        for quantity in QUANTITIES:
            if quantity == ending:
                values[name, quantity] = recorded
    return Trace(values=values, outputs=tuple(str(name) for name in arrays["output"]))
