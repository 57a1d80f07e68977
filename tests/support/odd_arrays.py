"""Arrays as callers give them: forms of the same numbers, and what no network takes."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, sealed

__all__ = ["SAME", "SPIKES", "WRONG", "WRONG_SPIKES", "Form"]

#: Makes what is given of an array of spikes, ``[sample, step, feature]``, called ``x``.
Form: TypeAlias = Callable[[Array], Any]

#: Three samples of seven steps of five features: no two axes are alike.
SPIKES: Array = sealed((np.random.default_rng(0).random((3, 7, 5)) < 0.4).astype(np.uint8))


class _Own(np.ndarray[Any, Any]):
    """A subclass that adds nothing."""


def _typed(dtype: Any) -> Form:
    return lambda values: {"x": values.astype(dtype)}


def _with(value: Any, dtype: Any) -> Form:
    """Put one odd value among the others, at the end of the last sample."""

    def form(values: Array) -> Mapping[str, Array]:
        odd = values.astype(dtype)
        odd[-1, -1, 1] = value
        return {"x": odd}

    return form


def _gapped(values: Array) -> Mapping[str, Array]:
    wide = np.zeros((*values.shape[:2], 3 * values.shape[2]), np.uint8)
    wide[..., ::3] = values
    return {"x": wide[..., ::3]}


def _matrix(values: Array) -> Mapping[str, Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matrices are on their way out
        return {"x": np.asmatrix(values[0])}


#: Forms of the same numbers: every entrance gives what it gives for ``{"x": values}``.
SAME: dict[str, Form] = {
    **{
        f"{np.dtype(kind).name}": _typed(kind)
        for kind in (bool, np.int8, np.int16, np.int64, np.uint16, np.uint32, np.uint64,
                     np.float16, np.float32, np.float64, np.longdouble)
    },
    "big-endian integers": _typed(">i4"),
    "big-endian floats": _typed(">f8"),
    "Fortran order": lambda values: {"x": np.asfortranarray(values)},
    "with gaps": _gapped,
    "every other step": lambda values: {"x": np.repeat(values, 2, axis=1)[:, ::2]},
    "backwards": lambda values: {"x": values[::-1].copy()[::-1]},
    "transposed": lambda values: {"x": values.transpose(2, 0, 1).copy().transpose(1, 2, 0)},
    "read-only": lambda values: {"x": sealed(values.copy())},
    "writeable": lambda values: {"x": values.copy()},
    "lists": lambda values: {"x": values.tolist()},
    "a subclass": lambda values: {"x": values.view(_Own)},
    "another mapping": lambda values: MappingProxyType({"x": values}),
}  # fmt: skip

#: What no entrance takes, whatever its input holds.
WRONG: dict[str, Form] = {
    "no mapping": lambda values: values,
    "nothing": lambda values: {},
    "None": lambda values: {"x": None},
    "another name": lambda values: {"y": values},
    "a name more": lambda values: {"x": values, "y": values},
    "a name that is no text": lambda values: {"x": values, 3: values},
    "a number": lambda values: {"x": 1},
    "a scalar": lambda values: {"x": np.array(1)},
    "one axis": lambda values: {"x": values[0, 0]},
    "one sample": lambda values: {"x": values[0]},
    "an axis more": lambda values: {"x": values[..., np.newaxis]},
    "one feature more": lambda values: {"x": np.zeros((*values.shape[:2], 6), np.uint8)},
    "one feature less": lambda values: {"x": values[..., 1:]},
    "no features": lambda values: {"x": values[..., :0]},
    "many features": lambda values: {"x": np.zeros((3, 1, 200_000), np.uint8)},
    "two axes, many": lambda values: {"x": np.zeros((4, 200_000), np.uint8)},
    "features before steps": lambda values: {"x": values.swapaxes(1, 2)},
    "features first": lambda values: {"x": values.transpose(2, 0, 1)},
    "objects": lambda values: {"x": values.astype(object)},
    "text": lambda values: {"x": values.astype(str)},
    "bytes of text": lambda values: {"x": values.astype("S1")},
    "complex numbers": lambda values: {"x": values.astype(complex)},
    "days": lambda values: {"x": values.astype("M8[D]")},
    "records": lambda values: {"x": np.zeros(values.shape, [("a", "u1")])},
    "masked": lambda values: {"x": np.ma.masked_equal(values, 1)},
    "a matrix": _matrix,
    "rows of different length": lambda values: {"x": [[[0, 1], [1]]]},
    "a dictionary": lambda values: {"x": {"y": values}},
    "a generator": lambda values: {"x": iter(values)},
    "NaN": _with(np.nan, np.float64),
    "NaN of 16 bits": _with(np.nan, np.float16),
    "infinity": _with(np.inf, np.float32),
    "minus infinity": _with(-np.inf, np.float64),
}

#: What no entrance of spikes takes.
WRONG_SPIKES: dict[str, Form] = {
    "a half": _with(0.5, np.float32),
    "nearly one": _with(np.nextafter(1, 0), np.float64),
    "the least number": _with(5e-324, np.float64),
    "minus one": _with(-1, np.int8),
    "two": _with(2, np.uint8),
    "255": _with(255, np.uint8),
    "300": _with(300, np.int64),
    "2^40": _with(1 << 40, np.int64),
    "2^32": _with(1 << 32, np.int64),
    "2^63": _with(1 << 63, np.uint64),
    "1e300": _with(1e300, np.float64),
}
