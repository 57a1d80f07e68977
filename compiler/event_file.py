"""Spikes on disk as events: memory follows spikes, and neither neurons nor steps.

A ``.npz`` that any NumPy can read. ``<population>/sample``, ``<population>/step`` and
``<population>/neuron`` (flat, row-major) are columns of equal length, one row a spike;
populations of several spikes a step have ``<population>/count`` too.
``<population>/shape`` says how neurons are numbered, ``samples`` and ``steps`` how long the run
was. Rows come batch by batch of samples, within a batch in the order of (step, sample,
neuron). ``output`` and ``predictions`` are those of :mod:`spikec.compiler.trace_file`.

While a run goes on the columns grow in files of a temporary folder beside the
result, which is written whole or not at all.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from spikec.compiler.arrays import MAX_NEURONS, Array, IntArray, Shape, size
from spikec.compiler.errors import Diagnostic, FrontendError, UsageError
from spikec.compiler.files import unwritable, written
from spikec.compiler.limits import allowance
from spikec.compiler.npz import read_npz
from spikec.compiler.temporary import temporary_folder
from spikec.compiler.trace import Trace

__all__ = ["EventWriter", "Events", "read_events"]

_COLUMNS: Mapping[str, type[np.generic]] = {
    "sample": np.int32,
    "step": np.int64,
    "neuron": np.int32,
    "count": np.uint8,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Events:
    """The spikes of a run: ``columns[population]["step"]`` and so on, see the module."""

    columns: Mapping[str, Mapping[str, Array]]
    shapes: Mapping[str, Shape]
    num_samples: int
    num_steps: int
    outputs: tuple[str, ...]
    predictions: Array | None = None

    def indices(self, population: str) -> IntArray:
        """Return rows of (sample, step, neuron...) in order, as :meth:`Trace.indices` does."""
        columns = self.columns[population]
        places = np.unravel_index(columns["neuron"], self.shapes[population])
        rows = np.stack([columns["sample"], columns["step"], *places], axis=1).astype(np.int64)
        order = np.lexsort(rows.T[::-1])
        ordered: IntArray = rows[order]
        return ordered

    def spikes(self, population: str, *, samples: slice = slice(None)) -> Array:
        """Return the dense spikes of some samples, ``[sample, step, *neurons]``.

        Raises :class:`UsageError` where they would take far more memory than the events.
        """
        columns, shape = self.columns[population], self.shapes[population]
        first, end, _ = samples.indices(self.num_samples)
        end = max(first, end)
        needed = (end - first) * self.num_steps * size(shape)
        if needed > allowance(sum(values.nbytes for values in columns.values())):
            raise UsageError(
                Diagnostic(
                    code="U117",
                    where=f"events of '{population}'",
                    message=f"as a dense array they would take {needed:,} bytes",
                    hint="take fewer samples at a time, or work with the events",
                )
            )
        kept = (columns["sample"] >= first) & (columns["sample"] < end)
        dense = np.zeros((end - first, self.num_steps, size(shape)), np.uint8)
        place = (columns["sample"][kept] - first, columns["step"][kept], columns["neuron"][kept])
        dense[place] = columns["count"][kept] if "count" in columns else 1
        return dense.reshape(*dense.shape[:2], *shape)


class EventWriter:
    """Takes pieces of traces as they come; :meth:`finish` makes the file.

    A context manager: leaving it without :meth:`finish` leaves nothing behind. Raises
    :class:`UsageError` where it cannot write.
    """

    def __init__(self, path: str | Path, populations: Mapping[str, tuple[Shape, int]]) -> None:
        """Write to ``path`` the spikes of ``populations``: shape, and most spikes a step.

        :attr:`folder` is for temporary files, and vanishes with them.
        """
        self._path = Path(path)
        self._populations = populations
        self._stack = ExitStack()
        try:
            beside = Path(os.path.realpath(self._path)).parent
            self.folder = self._stack.enter_context(temporary_folder(beside))
        except OSError as error:
            raise unwritable(self._path, str(error.strerror)) from error

    def add(self, trace: Trace, *, sample: int, step: int) -> None:
        """Append a piece of a run whose first row is that of ``sample`` and ``step``."""
        for number, (name, (shape, most)) in enumerate(self._populations.items()):
            spikes = trace.spikes(name)
            by_step = spikes.reshape(*spikes.shape[:2], size(shape)).swapaxes(0, 1)
            steps, samples, neurons = np.nonzero(by_step)
            columns = {"sample": samples + sample, "step": steps + step, "neuron": neurons}
            if most > 1:
                columns["count"] = by_step[steps, samples, neurons]
            for column, values in columns.items():
                self._append(self._part(number, column), values.astype(_COLUMNS[column]))

    def _append(self, part: Path, values: Array) -> None:
        try:
            with part.open("ab") as file:
                file.write(values.data)
        except OSError as error:
            raise unwritable(self._path, str(error.strerror)) from error

    def finish(self, *, samples: int, steps: int, **arrays: Array) -> None:
        """Write the file, with ``arrays`` beside the events."""
        whole = {"samples": np.array(samples), "steps": np.array(steps), **arrays}
        whole |= {f"{name}/shape": np.array(s) for name, (s, _) in self._populations.items()}
        with written(self._path) as path, zipfile.ZipFile(path, "w") as archive:
            for name, values in whole.items():
                with _member(archive, name) as file:
                    np.lib.format.write_array(file, values, allow_pickle=False)
            for number, (name, (_, most)) in enumerate(self._populations.items()):
                for column, dtype in _COLUMNS.items():
                    if column != "count" or most > 1:
                        part = self._part(number, column)
                        part.touch()
                        _append_column(archive, f"{name}/{column}", part, np.dtype(dtype))

    def _part(self, number: int, column: str) -> Path:
        return self.folder / f"{number}.{column}"

    def __enter__(self) -> EventWriter:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def _member(archive: zipfile.ZipFile, name: str) -> Any:
    """Open an array's place in an archive, with no time of day in it."""
    member = zipfile.ZipInfo(f"{name}.npy")
    member.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(member, "w", force_zip64=True)


def _append_column(archive: zipfile.ZipFile, name: str, part: Path, dtype: np.dtype[Any]) -> None:
    """Copy a column into the archive, a little at a time."""
    header = {
        "descr": np.lib.format.dtype_to_descr(dtype),
        "fortran_order": False,
        "shape": (part.stat().st_size // dtype.itemsize,),
    }
    with _member(archive, name) as file, part.open("rb") as source:
        np.lib.format.write_array_header_1_0(file, header)
        shutil.copyfileobj(source, file, 1 << 20)


def read_events(path: str | Path) -> Events:
    """Load events that :class:`EventWriter` wrote.

    Raises :class:`FrontendError` where a file holds none, and where its columns are not those
    of one run: integers, of one length, within its samples, steps and neurons.
    """
    path = Path(path)
    arrays = read_npz(path)
    names = [key.removesuffix("/shape") for key in arrays if key.endswith("/shape")]
    try:
        samples, steps = (_length(arrays, name) for name in ("samples", "steps"))
        shapes = {name: _shape(arrays, f"{name}/shape") for name in names}
        return Events(
            columns={
                name: _columns(arrays, name, (samples, steps, size(shapes[name]))) for name in names
            },
            shapes=shapes,
            num_samples=samples,
            num_steps=steps,
            outputs=_texts(arrays, "output"),
            predictions=_predictions(arrays, samples),
        )
    except ValueError as error:
        raise FrontendError(
            Diagnostic(
                code="F031",
                where=str(path),
                message=f"it does not hold the events of a run: {error}",
                hint="events are written by 'spikec run --events'",
            )
        ) from error


def _array(arrays: Mapping[str, Array], key: str, kinds: str, axes: int) -> Array:
    """Return an array of a file, of such types and so many axes, or raise ``ValueError``."""
    if key not in arrays:
        raise ValueError(f"'{key}' is missing")
    values = arrays[key]
    if values.dtype.kind not in kinds or values.ndim != axes:
        raise ValueError(f"'{key}' holds {values.dtype}{list(values.shape)}")
    return values


def _length(arrays: Mapping[str, Array], key: str) -> int:
    value = int(_array(arrays, key, "iu", 0))
    if value < 0:
        raise ValueError(f"'{key}' is {value}")
    return value


def _shape(arrays: Mapping[str, Array], key: str) -> Shape:
    shape = tuple(_array(arrays, key, "iu", 1).tolist())
    if not shape or min(shape) < 1 or size(shape) > MAX_NEURONS:
        raise ValueError(f"'{key}' is {list(shape)[:8]}")
    return shape


def _texts(arrays: Mapping[str, Array], key: str) -> tuple[str, ...]:
    return tuple(str(name) for name in _array(arrays, key, "U", 1))


def _predictions(arrays: Mapping[str, Array], samples: int) -> Array | None:
    if "predictions" not in arrays:
        return None
    values = _array(arrays, "predictions", "iu", 1)
    if len(values) != samples:
        raise ValueError(f"'predictions' are {len(values)}, of {samples} samples")
    return values


def _columns(
    arrays: Mapping[str, Array], name: str, ends: tuple[int, int, int]
) -> dict[str, Array]:
    """Return the columns of a population, whose samples, steps and neurons lie below ``ends``."""
    columns = {
        column: _array(arrays, f"{name}/{column}", "iu", 1)
        for column in _COLUMNS
        if column != "count" or f"{name}/count" in arrays
    }
    lengths = {column: len(values) for column, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns of '{name}' differ in length: {lengths}")
    for column, end in zip(_COLUMNS, ends, strict=False):
        values = columns[column]
        if values.size and (values.min() < 0 or values.max() >= end):
            raise ValueError(f"'{name}/{column}' spans {values.min()}..{values.max()} of {end}")
    return columns
