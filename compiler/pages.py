"""Large arrays that stay in their file: what is done with one is done to some of it at a time.

A mapped file counts as memory while it is read, and until somebody needs the room. An engine
that has laid out its own copy of the weights has no use for it: what was read is let go.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from spikec.compiler.arrays import Array, Shape, address, sealed, size

__all__ = ["LARGE", "blocks", "let_go", "low_zeros", "of_file", "pieces", "span"]

#: Bytes from which on an array stays in its file.
LARGE = 1 << 24
#: Bytes that are worked on at a time.
_BLOCK = 1 << 20
#: Columns of a matrix in a piece.
_COLUMNS = 128


def of_file(file: BinaryIO, begin: int, shape: Shape, dtype: npt.DTypeLike) -> Array:
    """Return the array that lies ``begin`` bytes into ``file``, read-only.

    One of at least :data:`LARGE` bytes is mapped, any other is read. The file must be that long.
    """
    kind, count = np.dtype(dtype), size(shape)
    if count * kind.itemsize < LARGE or not hasattr(mmap, "MADV_DONTNEED"):
        file.seek(begin)
        return sealed(np.fromfile(file, kind, count).reshape(shape))
    first = begin // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    length = begin - first + count * kind.itemsize
    held = mmap.mmap(file.fileno(), length, access=mmap.ACCESS_READ, offset=first)
    values: Array = np.ndarray(shape, kind, held, begin - first)
    return values


def let_go(values: Array) -> None:
    """Give back the memory of a mapped array, or of part of one; it is read again when needed."""
    held: object = values
    while isinstance(held, np.ndarray):
        held = held.base
    if not isinstance(held, mmap.mmap) or not values.size:
        return
    start = address(np.frombuffer(held, np.uint8))
    begin = (address(values) - start) // mmap.PAGESIZE * mmap.PAGESIZE
    held.madvise(mmap.MADV_DONTNEED, begin, address(values) + values.nbytes - start - begin)


def blocks(values: Array) -> Iterator[Array]:
    """Yield the elements of an array without gaps, flat, some at a time, and let each part go."""
    flat = values.reshape(-1)
    step = _BLOCK // values.itemsize
    for begin in range(0, flat.size, step):
        part = flat[begin : begin + step]
        yield part
        let_go(part)


def pieces(
    matrix: Array, rows: slice | Array, columns: Array | None
) -> Iterator[tuple[slice, Array]]:
    """Yield some rows of a matrix, a few columns at a time: which of them, and their elements.

    What is given is in the order of ``rows`` and ``columns`` (None: as they are). A core's first
    cache holds a piece of some hundred rows, so that it is quickly turned round.
    """
    some = matrix[rows]
    for begin in range(0, matrix.shape[1], _COLUMNS):
        place = slice(begin, begin + _COLUMNS)
        yield place, some[:, place if columns is None else columns[place]]
    let_go(some if isinstance(rows, slice) else matrix)


def span(values: Array) -> tuple[int, int, int]:
    """Return the least and the largest of 0 and some integers, and all bits that any of them sets.

    The array has no gaps; it may be empty.
    """
    low = high = bits = 0
    for part in blocks(values):
        low, high = min(low, int(part.min())), max(high, int(part.max()))
        bits |= int(np.bitwise_or.reduce(part))
    return low, high, bits


def low_zeros(bits: int) -> int:
    """Return how many low bits are not set below the first that is; 0 where none is."""
    return (bits & -bits).bit_length() - 1 if bits else 0
