"""The gate: what every array passes on its way from Python, or a file, into a run.

Names, types and shapes are checked before anything is read (:func:`taken`), values where
they are read: by :func:`worthless`, or by the compiled loops that check spikes while they copy
them. Behind this gate nobody checks again, and engines hand out addresses.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from spikec.compiler.arrays import Array, Shape, numbers, size
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any

__all__ = [
    "Entry", "as_array", "checked", "refuse_after_last", "refuse_few", "taken", "uneven",
    "whole", "worthless",
]  # fmt: skip

#: Kinds of NumPy types that are numbers: booleans, integers and floats.
_NUMBERS = "buif"


class Entry(Protocol):
    """What arrays are held against: an input of a graph, or of a program."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def shape(self) -> Shape:
        """The shape of what enters in a step."""
        ...

    @property
    def kind(self) -> str:
        """What its values are: ``binary``, ``graded`` or ``analog``."""
        ...


def taken(
    arrays: Mapping[str, Array],
    entries: Sequence[Entry],
    *,
    where: str = "inputs",
    samples: int | None = None,
    any_features: bool = False,
    others: bool = False,
) -> dict[str, Array]:
    """Return one array of numbers per entry, ``[sample, step, *shape]``; values are not read.

    With ``samples`` there have to be as many. ``any_features`` is how files are read: features
    may have any shape of the right number of elements, and some must be there. Arrays that no
    input needs are refused, unless there may be ``others``. Raises :class:`UsageError` with
    everything that does not fit.
    """
    if not any_features and _fits(arrays, entries, samples):
        assert isinstance(arrays, dict)
        return arrays
    if not isinstance(arrays, Mapping):
        raise UsageError(
            _finding(
                "U042",
                where,
                f"{type(arrays).__name__} where a mapping from names to arrays is needed",
                f"give {{{', '.join(f'{item.name!r}: array' for item in entries)}}}",
            )
        )
    if not entries:
        raise UsageError(
            _finding("U042", where, "the network has no input: nothing says for how many steps")
        )
    findings = [] if others else list(_unused(arrays, entries, where))
    found: dict[str, Array] = {}
    for entry in entries:
        if entry.name not in arrays:
            findings.append(_missing(entry, arrays, where, file=others and len(entries) == 1))
            continue
        values, problem = as_array(arrays[entry.name])
        problem = problem or _shape_problem(values, entry, any_features=any_features)
        if problem is not None:
            findings.append(_finding("U040", f"{where}, '{entry.name}'", *problem))
        elif any_features:
            found[entry.name] = values.reshape(*values.shape[:2], *entry.shape)
        else:
            found[entry.name] = values
    raise_if_any(UsageError, findings)
    raise_if_any(UsageError, list(uneven(found, where, samples)))
    return found


def checked(
    arrays: Mapping[str, Array],
    entries: Sequence[Entry],
    *,
    where: str = "inputs",
    samples: int | None = None,
    any_features: bool = False,
    others: bool = False,
) -> dict[str, Array]:
    """Return what :func:`taken` does, whose values are what each input takes.

    That is 0 and 1 for a binary input, integers for a graded one, finite numbers for all.
    """
    found = taken(
        arrays, entries, where=where, samples=samples, any_features=any_features, others=others
    )
    findings = []
    for entry in entries:
        problem = worthless(found[entry.name], entry.kind)
        if problem is not None:
            findings.append(_finding("U040", f"{where}, '{entry.name}'", *problem))
    raise_if_any(UsageError, findings)
    return found


def worthless(values: Array, kind: str) -> tuple[str, str] | None:
    """Return why ``values`` are none that an input of ``kind`` takes, and what to do about it."""
    if not values.size:
        return None
    real = values.dtype.kind == "f"
    if real and not np.isfinite(values).all():
        return f"holds NaN or infinity{_first(~np.isfinite(values))}", "clean the data"
    if kind == "binary":
        if values.dtype.kind in "bu" and values.max() <= 1:
            return None
        odd = (values != 0) & (values != 1)
        if odd.any():
            span = f"spans {values.min()}..{values.max()}"
            return (
                f"{span} where a binary input takes 0 and 1{_first(odd)}",
                "encode it as spikes, or declare the input graded or analog",
            )
    if kind == "graded" and real and (np.rint(values) != values).any():
        odd = np.rint(values) != values
        return (
            f"holds fractions where a graded input takes integers{_first(odd)}",
            "declare the input analog",
        )
    return None


def as_array(values: object) -> tuple[Array, tuple[str, str] | None]:
    """Return ``values`` as an array of numbers; or an empty one, why it is none, and a remedy."""
    try:
        return numbers(values), None
    except ValueError as error:
        hint = (
            "give numbers, as many in each row and none masked: integers, or floats for a current"
        )
        return np.zeros(0), (str(error), hint)


def uneven(
    found: Mapping[str, Array], where: str, samples: int | None = None
) -> Iterator[Diagnostic]:
    """Yield why arrays ``[sample, step, ...]`` are not of as many samples and steps each."""
    counts: Collection[tuple[int, ...]] = {values.shape[:2] for values in found.values()}
    if len(counts) > 1:
        yield _finding("U041", where, f"inputs differ in samples and steps: {sorted(counts)}")
    for given in sorted({count[0] for count in counts} - {samples}):
        if samples is not None:
            yield _finding(
                "U041",
                where,
                f"{given} samples (axis 0) where {samples} run side by side",
                "a session takes chunks of the samples it was opened for",
            )


def refuse_after_last(*, over: bool) -> None:
    """Raise :class:`UsageError` if a session has had its last chunk."""
    if over:
        raise UsageError(
            _finding(
                "U046", "session", "it has had its last chunk", "open another for other samples"
            )
        )


def refuse_few(count: object, what: str) -> None:
    """Raise :class:`UsageError` unless ``count`` is a whole number of 1 or more."""
    if not whole(count) or count < 1:  # type: ignore[operator]
        raise UsageError(_finding("U046", what, f"{count!r} where a number of 1 or more is needed"))


def whole(value: object) -> bool:
    """Say whether ``value`` is an integer, of Python's or NumPy's, and no truth value."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _fits(arrays: object, entries: Sequence[Entry], samples: int | None) -> bool:
    """Say whether nothing is wrong with what is given: the usual case, quickly."""
    if type(arrays) is not dict or len(arrays) != len(entries) or not entries:
        return False
    counts: tuple[int, ...] | None = None
    for entry in entries:
        values = arrays.get(entry.name)
        if type(values) is not np.ndarray or values.dtype.kind not in _NUMBERS:
            return False
        shape = values.shape
        if shape[2:] != entry.shape or len(shape) < 2 or shape[:2] != (counts or shape[:2]):
            return False
        counts = shape[:2]
    return counts is not None and samples in (None, counts[0])


def _finding(code: str, where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)


def _wanted(entry: Entry) -> str:
    return f"[sample, step, {', '.join(map(str, entry.shape))}]"


def _unused(
    arrays: Mapping[str, Array], entries: Sequence[Entry], where: str
) -> Iterator[Diagnostic]:
    known = {entry.name for entry in entries}
    for name in arrays:
        if name not in known:
            yield _finding(
                "U042",
                f"{where}, {name!r}",
                "the network has no such input",
                f"its inputs are {', '.join(repr(item.name) for item in entries)}",
            )


def _missing(entry: Entry, arrays: Mapping[str, Array], where: str, *, file: bool) -> Diagnostic:
    wanted = "'spikes'" if file else f"'{entry.name}'"
    return _finding(
        "U042",
        where,
        f"there is no array {wanted}; it holds {', '.join(sorted(map(str, arrays))) or 'nothing'}",
        f"{'save' if file else 'give'} {wanted} with shape {_wanted(entry)}",
    )


def _shape_problem(values: Array, entry: Entry, *, any_features: bool) -> tuple[str, str] | None:
    """Return which axis of an array is wrong, and what to do about it."""
    features, wanted = values.shape[2:], tuple(entry.shape)
    needed = f"the network needs {_wanted(entry)}"
    told = f"has shape {list(values.shape)}"
    if any_features:
        wrong = values.ndim < 3 or size(features) != size(wanted) or 0 in values.shape
        return (told, needed) if wrong else None
    if features == wanted and values.ndim >= 2:
        return None
    if values.ndim != len(wanted) + 2:
        return f"{told}: {values.ndim} axes where there are {len(wanted) + 2}", needed
    axes = [axis for axis in range(len(wanted)) if features[axis] != wanted[axis]]
    axis = axes[0]
    message = f"{told}: axis {axis + 2} is {features[axis]} where the network has {wanted[axis]}"
    if sorted(values.shape[1:]) == sorted((values.shape[1], *wanted)):
        return message, f"{needed}: its features are in another order, transpose them"
    if len(wanted) == 1 and values.shape[1] == wanted[0]:
        return message, f"{needed}: its last two axes look swapped, transpose(0, 2, 1)"
    return message, needed


def _first(odd: Array) -> str:
    """Say where the first value is that is odd."""
    place = np.unravel_index(int(odd.argmax()), odd.shape)
    return f", first at [{', '.join(map(str, place))}]"
