"""Arrays on disk as ``.npz``, written the same way each time, and read without trusting them."""

from __future__ import annotations

import io
import mmap
import os
import shutil
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import check_file, write_atomically

__all__ = ["MAX_ARRAY_BYTES", "map_npz", "npz_bytes", "read_npz", "write_npz"]

#: No array in a file we read may unpack to more than this.
MAX_ARRAY_BYTES = 16 << 30

#: Where an entry of an archive says how long its name and its extra field are, which the
#: data follow.
_LOCAL_NAME = 26


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Return ``arrays`` as the bytes of an ``.npz`` file, with no time of day in it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, values in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
    return buffer.getvalue()


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to ``path`` as compressed ``.npz``, atomically; the same arrays, same bytes."""
    write_atomically(path, npz_bytes(arrays))


def read_npz(path: Path) -> dict[str, Array]:
    """Read a ``.npz`` of plain arrays; sizes are checked before memory is taken.

    Raises :class:`FrontendError` for a missing or damaged file, for pickled
    objects, and for arrays above :data:`MAX_ARRAY_BYTES`.
    """
    with _readable_npz(path):
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                _check_member(archive, member)
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def map_npz(path: Path, folder: Path) -> tuple[dict[str, Array], tuple[mmap.mmap, ...]]:
    """Return the arrays of a ``.npz`` and the memory maps they live in; see :func:`read_npz`.

    Stored arrays are mapped where they are; compressed ones are unpacked to ``folder``
    first, so that memory stays bounded, though disk does not.
    """
    arrays, maps = {}, []
    with _readable_npz(path), zipfile.ZipFile(path) as archive:
        for index, member in enumerate(archive.infolist()):
            _check_member(archive, member.filename)
            place, begin = Path(path), member.header_offset
            if member.compress_type != zipfile.ZIP_STORED:
                place, begin = folder / f"{index}.npy", -1
                with archive.open(member) as source, place.open("wb") as unpacked:
                    shutil.copyfileobj(source, unpacked, 1 << 20)
            array, mapped = _mapped(place, begin)
            arrays[member.filename.removesuffix(".npy")] = array
            maps.append(mapped)
    return arrays, tuple(maps)


def _mapped(path: Path, begin: int) -> tuple[Array, mmap.mmap]:
    """Map the array in a ``.npy`` file, or, with ``begin``, in an archive's entry that is there."""
    with path.open("rb") as file:
        if begin >= 0:
            file.seek(begin + _LOCAL_NAME)
            file.seek(sum(struct.unpack("<2H", file.read(4))), os.SEEK_CUR)
        shape, is_fortran, dtype = _array_header(file)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        flat = np.frombuffer(mapped, dtype, size(shape), file.tell())
    return flat.reshape(shape, order="F" if is_fortran else "C"), mapped


@contextmanager
def _readable_npz(path: Path) -> Iterator[None]:
    """Turn what a missing or damaged file raises into a :class:`FrontendError`."""
    check_file(Path(path))
    try:
        yield
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib_error()) as error:
        raise FrontendError(
            Diagnostic(
                code="F010",
                where=str(path),
                message=f"not a readable .npz of plain arrays: {error}",
                hint="write it with numpy.savez(path, spikes=..., labels=...)",
            )
        ) from error


def zlib_error() -> type[Exception]:
    """Return the error of damaged compressed data (zlib is imported with it)."""
    import zlib

    return zlib.error


def _array_header(file: Any) -> tuple[Shape, bool, np.dtype[Any]]:
    """Read shape, order and type of an array; the file is then at its first element."""
    version = np.lib.format.read_magic(file)
    read_header: Any = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, is_fortran, dtype = read_header(file)
    return shape, is_fortran, dtype


def _check_member(archive: zipfile.ZipFile, member: str) -> None:
    with archive.open(member) as file:
        shape, _, dtype = _array_header(file)
    if dtype.hasobject:
        raise ValueError(f"'{member}' holds Python objects, not numbers")
    if size(shape) * dtype.itemsize > MAX_ARRAY_BYTES:
        raise ValueError(f"'{member}' would take {size(shape) * dtype.itemsize} bytes")
