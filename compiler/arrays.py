"""Read-only arrays: the values that nodes, programs and traces share."""

from __future__ import annotations

from ctypes import addressof, c_char
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "LINE",
    "MAX_NEURONS",
    "Array",
    "FloatArray",
    "IntArray",
    "Shape",
    "address",
    "aligned",
    "frozen",
    "held_back",
    "integers",
    "numbers",
    "per_neuron",
    "sealed",
    "size",
]

Array: TypeAlias = npt.NDArray[Any]
FloatArray: TypeAlias = npt.NDArray[np.float64]
IntArray: TypeAlias = npt.NDArray[np.int64]
Shape: TypeAlias = tuple[int, ...]

#: No population is larger: a file that says so is damaged, and would take all memory.
MAX_NEURONS = 1 << 28
#: Bytes of a line of the cache.
LINE = 64


def address(values: Array) -> int:
    """Return where the elements of an array without gaps begin.

    The quickest of several ways to ask, where values may be written.
    """
    if values.size and values.flags.writeable:
        return addressof(c_char.from_buffer(values.data))
    return values.ctypes.data


def aligned(shape: Shape, dtype: npt.DTypeLike, *, blank: bool = True) -> Array:
    """Return zeros that begin with a line of the cache, so that no whole vector meets two.

    Not ``blank``, they are whatever was there.
    """
    kind = np.dtype(dtype)
    room = (np.zeros if blank else np.empty)(size(shape) * kind.itemsize + LINE, np.uint8)
    blanks: Array = np.ndarray(shape, kind, room, -address(room) % LINE)
    return blanks


def size(shape: Shape) -> int:
    """Return the number of elements of ``shape`` as a Python integer (it cannot wrap)."""
    product = 1
    for extent in shape:
        product *= extent
    return product


def held_back(values: Array, steps: int) -> Array:
    """Return ``[sample, step, ...]`` as it arrives ``steps`` later: first zeros, or zeros alone."""
    if steps == 0:
        return values
    late = np.zeros_like(values)
    late[:, steps:] = values[:, : max(0, values.shape[1] - steps)]
    return late


def numbers(values: object) -> Array:
    """Return ``values`` as an array of booleans, integers or floats; ``ValueError`` if it is none.

    A masked array is none either: NumPy would give what its mask hides.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise ValueError("is a masked array")  # noqa: TRY004 - one kind to catch
    try:
        array: Array = np.asarray(values)
    except (AttributeError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"is no array: {error}") from error
    if array.dtype.kind not in "buif":
        raise ValueError(f"holds {array.dtype}, not numbers")
    return array


def frozen(values: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> Array:
    """Return ``values`` as a contiguous array that nobody can write to.

    A read-only array of the right type is returned as it is, so that rewritten
    graphs share memory; anything else is copied. ``ValueError`` for what holds no numbers.
    """
    array = np.asarray(numbers(values), dtype=dtype)
    if array.flags.writeable or not array.flags.c_contiguous:
        array = np.array(array, order="C")
        array.flags.writeable = False
    return array


def sealed(array: Array) -> Array:
    """Return ``array``, which nobody else holds, made read-only in place: no copy is taken."""
    array.flags.writeable = False
    return array


def per_neuron(values: npt.ArrayLike, shape: Shape, dtype: npt.DTypeLike = np.float64) -> Array:
    """Return one value per neuron as a read-only array of ``shape``.

    A scalar stands for the same value everywhere. Raises ``ValueError`` when
    ``values`` has neither one element nor the given shape, and where it holds no numbers.
    """
    if size(shape) > MAX_NEURONS:
        raise ValueError(f"shape {shape} is larger than any network")
    array = np.asarray(numbers(values), dtype=dtype)
    if array.size == 1:
        return frozen(np.full(shape, array.reshape(()), dtype=dtype))
    if array.shape != shape:
        raise ValueError(f"shape {array.shape} is neither scalar nor {shape}")
    return frozen(array)


def integers(values: npt.ArrayLike) -> Array:
    """Return ``values`` in an integer type; ``TypeError`` or ``ValueError`` if they are none."""
    array = numbers(values)
    if array.dtype.kind in "ui":
        return array
    if array.dtype.kind != "f" or not (np.rint(array) == array).all():
        raise TypeError("integers are needed")
    if array.size and np.abs(array).max() >= 1 << 53:
        raise ValueError("values beyond 2**53 are no exact integers")
    rounded: Array = np.rint(array).astype(np.int64)
    return rounded
