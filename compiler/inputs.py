"""Data on its way in: checked against the network, turned into the chip's integers."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.axes import Axes, CompiledFor, Layouts
from spikec.compiler.entrance import as_array, checked, uneven
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.ir import Input
from spikec.compiler.npz import map_npz, read_npz
from spikec.compiler.program import Program, ProgramInput

__all__ = [
    "Dataset",
    "Stream",
    "check_data",
    "check_inputs",
    "open_stream",
    "read_dataset",
    "to_integers",
]


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Samples for a network: ``inputs[name][sample, step, *shape]``, and labels if known.

    Labels are integers of 0 and more, one a sample. Raises :class:`UsageError` for anything
    else; what a network's inputs take is checked where there is a network.
    """

    inputs: Mapping[str, Array]
    labels: Array | None = None
    events: Mapping[str, int] = field(default_factory=dict)
    #: What a reader of a file assumed that the file does not say.
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _plain(self.inputs))
        if self.labels is not None:
            labels = _integer_labels(self.labels, self.num_samples, "data, 'labels'")
            if labels.size and labels.min() < 0:
                raise UsageError(
                    _finding(
                        "U045",
                        "data, 'labels'",
                        f"sample {int(labels.argmin())} has label {labels.min()}",
                        "number classes from 0, and leave out samples that have none",
                    )
                )
            object.__setattr__(self, "labels", labels)

    @property
    def num_samples(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def num_steps(self) -> int:
        """The number of time steps of each sample."""
        return int(next(iter(self.inputs.values())).shape[1])

    def samples(self, start: int, stop: int) -> Dataset:
        """Return samples ``start`` to ``stop``, as views."""
        return Dataset(
            inputs={name: values[start:stop] for name, values in self.inputs.items()},
            labels=None if self.labels is None else self.labels[start:stop],
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class Stream:
    """Data that are read as a run goes on: arrays like a dataset's, of any length.

    :meth:`read` checks what it takes. Arrays may live in memory ``maps`` of files: then
    only what was read last is in memory.
    """

    inputs: Mapping[str, Array]
    entries: Sequence[Input | ProgramInput]
    labels: Array | None = None
    where: str = "inputs"
    maps: tuple[mmap.mmap, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", _plain(self.inputs))

    @property
    def num_samples(self) -> int:
        """The number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def num_steps(self) -> int:
        """The number of time steps of each sample."""
        return int(next(iter(self.inputs.values())).shape[1])

    def read(self, samples: slice, steps: slice) -> dict[str, Array]:
        """Return a chunk, checked as :func:`check_inputs` does."""
        part = {}
        for entry in self.entries:
            values = self.inputs[entry.name][samples, steps]
            part[entry.name] = values.copy().reshape(*values.shape[:2], *entry.shape)
        for mapped in self.maps:
            if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, which frees pages by itself
                mapped.madvise(mmap.MADV_DONTNEED)
        where = f"{self.where}, samples from {samples.start}, steps from {steps.start}"
        return check_inputs(part, self.entries, where=where)


def open_stream(
    path: str | Path,
    inputs: Sequence[Input | ProgramInput],
    folder: Path,
    *,
    samples: int | None = None,
    steps: int | None = None,
    compiled_for: CompiledFor | None = None,
    layouts: Layouts | None = None,
    classes: int | None = None,
) -> Stream:
    """Open what :func:`read_dataset` reads without holding it; ``folder`` is for temporary files.

    Shapes are checked now, values when they are read.
    """
    path = Path(path)
    arrays, maps = map_npz(path, folder)
    found = _placed(
        arrays,
        inputs,
        steps=steps,
        compiled_for=compiled_for,
        layouts=layouts or Layouts(),
        where=str(path),
    )
    firsts = {name: item[:1, :1] if item.ndim > 1 else item for name, item in found.inputs.items()}
    check_inputs(firsts, inputs, where=str(path))
    named = {entry.name: found.inputs[entry.name] for entry in inputs}
    raise_if_any(UsageError, list(uneven(named, str(path))))
    named, notes = _lasting_for(named, steps, compiled_for, str(path))
    labels = found.labels
    if labels is not None:
        labels = _checked_labels(np.array(labels), named, str(path), classes)
    chosen = _first(samples, len(next(iter(named.values()))), str(path))
    return Stream(
        inputs={name: values[chosen] for name, values in named.items()},
        entries=inputs,
        labels=None if labels is None else labels[chosen],
        where=str(path),
        maps=maps,
        notes=(*found.notes, *notes),
    )


class _Placed(NamedTuple):
    """What a file holds, before it is checked."""

    inputs: Mapping[str, Array]
    labels: Array | None
    notes: tuple[str, ...]


def _placed(
    arrays: Mapping[str, Array],
    inputs: Sequence[Input | ProgramInput],
    *,
    steps: int | None,
    compiled_for: CompiledFor | None,
    layouts: Layouts,
    where: str,
) -> _Placed:
    """Return a file's arrays as ``[sample, step, *features]`` and its labels, not yet checked.

    Raises :class:`UsageError` for axes that are those of data in another layout.
    """
    named = dict(arrays)
    labels = named.pop("labels", None)
    if len(inputs) == 1 and "spikes" in named:
        named = {inputs[0].name: named["spikes"]}
    count = None if labels is None or labels.ndim != 1 else len(labels)
    findings = list(layouts.unknown([entry.name for entry in inputs]))
    notes: list[str] = []
    for entry in inputs:
        values = named.get(entry.name)
        if values is None or values.dtype.kind not in "buif":
            continue  # what is missing, or no numbers, is found by the checks of values
        axes = Axes(
            given=values.shape, wanted=entry.shape, samples=count, compiled_for=compiled_for,
            layout=layouts.of(entry.name),
        )  # fmt: skip
        place = f"{where}, '{entry.name}'"
        values = axes.arranged(values, place, with_steps=steps is not None)
        named[entry.name] = values
        findings += axes.problems(values.shape, place)
        notes += axes.assumptions(values.shape, place)
    raise_if_any(UsageError, findings)
    return _Placed(named, labels, tuple(notes))


def _lasting_for(
    named: Mapping[str, Array], steps: int | None, compiled_for: CompiledFor | None, where: str
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return samples of one step as they are presented, and what was assumed for that.

    ``steps`` is what was asked for, ``compiled_for`` what the program was compiled for.
    """
    alone = all(values.shape[1] == 1 for values in named.values())
    notes: tuple[str, ...] = ()
    if steps is None and alone and compiled_for is not None and compiled_for.presented:
        steps = compiled_for.steps
        said = (
            f"{where}: its samples of one step are presented for {steps}, as they were when the "
            "program was compiled; --steps N says otherwise"
        )
        notes = (said,)
    elif steps is None and alone:
        notes = (f"{where}: its samples are one step long; --steps N presents them for N",)
    if steps is None:
        return dict(named), notes
    return {name: _lasting(values, steps, where) for name, values in named.items()}, notes


def _first(samples: int | None, available: int, where: str) -> slice:
    """Return the samples to take; raise :class:`UsageError` where there are fewer."""
    if samples is not None and samples > available:
        raise UsageError(
            _finding(
                "U047",
                "option --samples",
                f"{samples} are more than the {available} of {where}",
                f"give 1 to {available}, or leave it out to take all",
            )
        )
    return slice(0, samples)


def read_dataset(
    path: str | Path,
    inputs: Sequence[Input | ProgramInput],
    *,
    samples: int | None = None,
    steps: int | None = None,
    compiled_for: CompiledFor | None = None,
    layouts: Layouts | None = None,
    classes: int | None = None,
) -> Dataset:
    """Read a ``.npz`` of ``spikes`` ``[sample, step, features...]`` and optional ``labels``.

    A network with several inputs reads one array per input, by the input's
    name. Axes of another order are named by ``layouts``; without it, axes that are not the
    network's are refused, and what the file leaves open is said in the data's ``notes``. The first
    ``samples`` samples are kept. With ``steps``, samples of one step (the step axis may be missing)
    are presented that often, without copying; without, as the program was
    ``compiled_for``, if it was for such samples. Labels are 0 to ``classes`` - 1,
    where the number of outputs is given.

    Raises ``FrontendError`` for an unreadable file and ``UsageError`` for data that does not fit
    the network.
    """
    path = Path(path)
    found = _placed(
        read_npz(path),
        inputs,
        steps=steps,
        compiled_for=compiled_for,
        layouts=layouts or Layouts(),
        where=str(path),
    )
    named = check_inputs(found.inputs, inputs, where=str(path))
    named, notes = _lasting_for(named, steps, compiled_for, str(path))
    labels = _checked_labels(found.labels, named, str(path), classes)
    notes = (*found.notes, *notes)
    data = Dataset(inputs=named, labels=labels, notes=notes)
    chosen = _first(samples, data.num_samples, str(path))
    return (
        data if samples is None else replace(data.samples(chosen.start, chosen.stop), notes=notes)
    )


def check_inputs(
    arrays: Mapping[str, Array], inputs: Sequence[Input | ProgramInput], *, where: str = "inputs"
) -> dict[str, Array]:
    """Return one array per input, shaped ``[sample, step, *shape]``.

    Features may come in any shape with the right number of elements. Raises
    :class:`UsageError` with everything that does not fit: missing arrays, wrong
    shapes, NaN, values of a binary input other than 0 and 1, fractions in a
    graded one.
    """
    return checked(arrays, inputs, where=where, any_features=True, others=True)


def check_data(
    data: Dataset,
    inputs: Sequence[Input | ProgramInput],
    *,
    where: str,
    classes: int | None = None,
) -> Dataset:
    """Return ``data`` for a network with these ``inputs`` and, if given, that many outputs.

    Raises :class:`UsageError` for what :func:`spikec.compiler.entrance.checked` refuses, for
    no samples or no steps, and for labels of no output.
    """
    if not isinstance(data, Dataset):
        raise UsageError(
            _finding("U042", where, f"{type(data).__name__} where a Dataset is needed")
        )
    if data.labels is not None and classes is not None:
        _check_classes(data.labels, classes, f"{where}, 'labels'")
    found = checked(data.inputs, inputs, where=where)
    if not data.num_samples or not data.num_steps:
        raise UsageError(
            _finding("U012", where, f"{data.num_samples} samples of {data.num_steps} steps")
        )
    return replace(data, inputs=found)


def to_integers(
    program: Program, inputs: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, int]]:
    """Return the integers that enter the chip, and how many values had to be clipped.

    Binary and graded values must be integers already; an analog value x becomes
    ``rint(x * 2**frac_bits)``, half to even. Raises :class:`UsageError` for arrays that are
    not ``[sample, step, *shape]`` for each input, and for values that an input does not take
    (:func:`spikec.compiler.entrance.checked`).
    """
    arrays = checked(inputs, program.inputs)
    integers, events = {}, {}
    for entry in program.inputs:
        values = arrays[entry.name]
        if entry.kind == "binary":
            integers[entry.name] = values.astype(np.int32)
            continue
        if entry.kind == "analog" or values.dtype.kind == "f":
            with np.errstate(over="ignore", under="ignore"):  # infinity is clipped like all else
                wide = values.astype(np.float64, copy=False)
                values = np.rint(np.ldexp(wide, entry.frac_bits))
        else:
            values = _signed(values)
        clipped = np.clip(values, entry.low, entry.high)
        count = int(np.count_nonzero(clipped != values))
        if count:
            events[f"{entry.name}/input clipped"] = count
        integers[entry.name] = clipped.astype(np.int32)
    return integers, events | crowded(program.inputs, integers)


def active_values(values: Array) -> Array:
    """Return how many values of ``[sample, step, ...]`` differ from 0: ``[sample, step]``."""
    counts: Array = np.count_nonzero(values.reshape(*values.shape[:2], -1), axis=2)
    return counts


def crowded(inputs: Sequence[ProgramInput], arrays: Mapping[str, Array]) -> dict[str, int]:
    """Count the steps that have more active values than the overflow proof counts on."""
    events = {}
    for entry in inputs:
        if entry.max_active is None:
            continue
        count = int((active_values(arrays[entry.name]) > entry.max_active).sum())
        if count:
            events[f"{entry.name}/steps more active than the overflow proof allows"] = count
    return events


def _signed(values: Array) -> Array:
    """Return integers in a type that holds every bound of an input, and what lies beyond it."""
    if values.dtype.itemsize == 8 and values.dtype.kind == "u":
        values = np.minimum(values, np.uint64(1 << 62)).astype(np.int64)
    signed: Array = values.astype(np.promote_types(values.dtype, np.int32), copy=False)
    return signed


def _lasting(values: Array, steps: int, where: str) -> Array:
    """Return samples of one step presented ``steps`` times."""
    if values.shape[1] not in (1, steps):
        raise UsageError(
            _finding(
                "U044",
                where,
                f"its samples have {values.shape[1]} steps and cannot be presented for {steps}",
                "save samples of one step, [sample, 1, features...], or leave out --steps",
            )
        )
    return np.broadcast_to(values, (len(values), steps, *values.shape[2:]))


def _finding(code: str, where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)


def _checked_labels(
    labels: Array | None, inputs: Mapping[str, Array], where: str, classes: int | None
) -> Array | None:
    if labels is None:
        return None
    samples = len(next(iter(inputs.values())))
    labels = _integer_labels(labels, samples, f"{where}, 'labels'")
    if classes is not None:
        _check_classes(labels, classes, f"{where}, 'labels'")
    return labels


def _integer_labels(labels: object, samples: int, where: str) -> Array:
    """Return one integer a sample; raise :class:`UsageError` for anything else."""
    array, problem = as_array(labels)
    if problem is None and array.shape == (samples,) and array.dtype.kind in "ui":
        return array
    message = problem[0] if problem else f"has shape {list(array.shape)} of {array.dtype}"
    raise UsageError(_finding("U043", where, message, f"one integer per sample: [{samples}]"))


def _plain(inputs: object) -> dict[str, Array]:
    """Return a dataset's arrays as NumPy has them; raise :class:`UsageError` if some are none."""
    if not isinstance(inputs, Mapping) or not inputs:
        raise UsageError(
            _finding("U042", "data", "no arrays by the names of inputs", "give {name: array}")
        )
    found, findings = {}, []
    for name, values in inputs.items():
        array, problem = as_array(values)
        if problem is None and array.ndim < 2:
            problem = f"has shape {list(array.shape)}", "[sample, step, features...] is needed"
        if problem is not None:
            findings.append(_finding("U040", f"data, {name!r}", *problem))
        found[name] = array
    raise_if_any(UsageError, findings)
    raise_if_any(UsageError, list(uneven(found, "data")))
    return found


def _check_classes(labels: Array, classes: int, where: str) -> None:
    """Refuse labels that no answer can equal: accuracy would only seem to be low."""
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if not len(outside):
        return
    sample = int(outside[0])
    more = f", and {len(outside) - 1:,} more that cannot be" if len(outside) > 1 else ""
    raise UsageError(
        _finding(
            "U045",
            where,
            f"sample {sample} has label {labels[sample]}{more}; there are {classes} outputs",
            f"number classes from 0 to {classes - 1}, and leave out samples that have none",
        )
    )
