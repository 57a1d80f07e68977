"""Traces on disk: a ``.npz`` that any NumPy can read.

``<population>/spikes``, ``<population>/voltage`` and ``<population>/current`` are
``[sample, step, neurons...]``; ``output`` names the output populations and
``predictions`` holds one class per sample. An integer run's states are the
chip's integers: ``<population>/lsb`` says how many source volts one unit is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import read_npz, write_npz
from spikec.compiler.trace import QUANTITIES, Probe, Trace

__all__ = ["read_trace", "write_trace"]


def write_trace(
    path: str | Path,
    trace: Trace,
    *,
    predictions: Array | None = None,
    lsb: Mapping[str, float] | None = None,
) -> None:
    """Save ``trace`` to ``path``, atomically."""
    arrays = {f"{name}/{quantity}": values for (name, quantity), values in trace.values.items()}
    arrays["output"] = np.array(trace.outputs)
    if predictions is not None:
        arrays["predictions"] = predictions
    for name, value in (lsb or {}).items():
        if any(probe[0] == name and probe[1] != "spikes" for probe in trace.values):
            arrays[f"{name}/lsb"] = np.array(value)
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
