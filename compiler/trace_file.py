"""Traces on disk: a ``.npz`` that any NumPy can read.

``<population>/spikes``, ``<population>/voltage`` and ``<population>/current`` are
``[sample, step, neurons...]``; ``output`` names the output populations and
``predictions`` holds one class per sample. An integer run's states are the
chip's integers: the source's voltage is ``voltage_offset + lsb * voltage`` and its
current ``lsb * current / current_scale``, under ``<population>/`` too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic, FrontendError, raise_if_any
from spikec.compiler.npz import read_npz, write_npz
from spikec.compiler.program import Populated
from spikec.compiler.trace import QUANTITIES, Probe, Trace

__all__ = ["Unit", "read_trace", "read_trace_and_units", "write_trace"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Unit:
    """The source's voltage of an integer v: ``voltage_offset + lsb * v``."""

    lsb: float
    voltage_offset: Array


def write_trace(
    path: str | Path,
    trace: Trace,
    *,
    predictions: Array | None = None,
    neurons: Sequence[Populated] = (),
) -> None:
    """Save ``trace`` to ``path``, atomically; ``neurons`` say what an integer run's units are."""
    arrays = {f"{name}/{quantity}": values for (name, quantity), values in trace.values.items()}
    arrays["output"] = np.array(trace.outputs)
    if trace.events:
        arrays["event_names"] = np.array(list(trace.events))
        arrays["event_counts"] = np.array(list(trace.events.values()), np.int64)
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
    """Load a trace that :func:`write_trace` saved; raises as :func:`read_trace_and_units`."""
    return read_trace_and_units(path)[0]


def read_trace_and_units(path: str | Path) -> tuple[Trace, dict[str, Unit]]:
    """Load a trace, and what the voltages of an integer run are worth, by population.

    Raises :class:`FrontendError` for a file that is none, and for arrays whose types or shapes
    are not those of one run.
    """
    path = Path(path)
    arrays = read_npz(path)
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
    raise_if_any(FrontendError, [*_wrong_values(path, values), *_wrong_texts(path, arrays)])
    units = {
        key.removesuffix("/lsb"): _unit(path, key.removesuffix("/lsb"), arrays)
        for key in arrays
        if key.endswith("/lsb")
    }
    trace = Trace(
        values=values,
        outputs=tuple(str(name) for name in arrays["output"]),
        events=_events(path, arrays),
    )
    return trace, units


def _events(path: Path, arrays: Mapping[str, Array]) -> dict[str, int]:
    """Return what went out of range in the run, if it is said."""
    names = arrays.get("event_names", np.array([], "U1"))
    counts = arrays.get("event_counts", np.array([], np.int64))
    sound = names.dtype.kind == "U" and counts.dtype.kind in "iu" and names.ndim == 1
    if not sound or names.shape != counts.shape or (counts < 0).any():
        found = f"they hold {names.dtype}{list(names.shape)} and {counts.dtype}{list(counts.shape)}"
        raise FrontendError(_finding(f"{path}, 'event_names' and 'event_counts'", found))
    return {str(name): int(count) for name, count in zip(names, counts, strict=True)}


def _wrong_values(path: Path, values: Mapping[Probe, Array]) -> Iterator[Diagnostic]:
    """Yield what is no ``[sample, step, neurons...]`` of numbers, as long as all others."""
    run: tuple[int, ...] | None = None
    shapes: dict[str, tuple[int, ...]] = {}
    for (name, quantity), recorded in values.items():
        where = f"{path}, '{name}/{quantity}'"
        if recorded.dtype.kind not in "biuf" or recorded.ndim < 3:
            found = f"it holds {recorded.dtype}{list(recorded.shape)}"
            yield _finding(where, f"{found}, not numbers of [sample, step, neurons...]")
            continue
        run = recorded.shape[:2] if run is None else run
        shape = shapes.setdefault(name, recorded.shape[2:])
        if recorded.shape != (*run, *shape):
            yield _finding(where, f"it has shape {list(recorded.shape)}, not {[*run, *shape]}")


def _wrong_texts(path: Path, arrays: Mapping[str, Array]) -> Iterator[Diagnostic]:
    names = arrays["output"]
    if names.dtype.kind != "U" or names.ndim != 1:
        yield _finding(
            f"{path}, 'output'", f"it holds {names.dtype}{list(names.shape)}, not a list of names"
        )


def _finding(where: str, message: str) -> Diagnostic:
    return Diagnostic(
        code="F031", where=where, message=message, hint="traces are written by 'spikec run'"
    )


def _unit(path: Path, name: str, arrays: Mapping[str, Array]) -> Unit:
    lsb, offset = arrays[f"{name}/lsb"], arrays.get(f"{name}/voltage_offset", np.zeros(()))
    neurons = {values.shape[2:] for key, values in arrays.items()
               if key in (f"{name}/{quantity}" for quantity in QUANTITIES)}  # fmt: skip
    numbers = all(values.dtype.kind in "biuf" for values in (lsb, offset))
    if not numbers or lsb.size != 1 or (offset.ndim and neurons != {offset.shape}):
        raise FrontendError(
            Diagnostic(
                code="F031",
                where=f"{path}, '{name}'",
                message=f"lsb is {lsb.dtype}{list(lsb.shape)} and voltage_offset "
                f"{offset.dtype}{list(offset.shape)}",
                hint="one number, and one per neuron, as 'spikec run' writes them",
            )
        )
    unit = Unit(lsb=float(lsb.item()), voltage_offset=offset)
    if not (math.isfinite(unit.lsb) and np.isfinite(offset).all()):
        raise FrontendError(_finding(f"{path}, '{name}'", "lsb or voltage_offset is not finite"))
    return unit
