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

import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, IntArray, Shape, size
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import unwritable, written
from spikec.compiler.npz import read_npz
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
        """Return the dense spikes of some samples, ``[sample, step, *neurons]``."""
        columns, shape = self.columns[population], self.shapes[population]
        first, end, _ = samples.indices(self.num_samples)
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
        try:
            self.folder = Path(
                tempfile.mkdtemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            )
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
                with self._part(number, column).open("ab") as file:
                    file.write(values.astype(_COLUMNS[column]).data)

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
        shutil.rmtree(self.folder, ignore_errors=True)


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
    """Load events that :class:`EventWriter` wrote; :class:`FrontendError` if it holds none."""
    arrays = read_npz(Path(path))
    names = [key.removesuffix("/shape") for key in arrays if key.endswith("/shape")]
    try:
        return Events(
            columns={
                name: {
                    column: arrays[f"{name}/{column}"]
                    for column in _COLUMNS
                    if column != "count" or f"{name}/count" in arrays
                }
                for name in names
            },
            shapes={name: tuple(arrays[f"{name}/shape"].tolist()) for name in names},
            num_samples=int(arrays["samples"]),
            num_steps=int(arrays["steps"]),
            outputs=tuple(str(name) for name in arrays["output"]),
            predictions=arrays.get("predictions"),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FrontendError(
            Diagnostic(
                code="F031",
                where=str(path),
                message=f"it does not hold the events of a run: {error}",
                hint="events are written by 'spikec run --events'",
            )
        ) from error
