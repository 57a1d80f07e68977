"""Arrays on disk as ``.npz``, written the same way each time, and read without trusting them."""

from __future__ import annotations

import errno
import io
import mmap
import shutil
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import check_file, unwritable, write_atomically
from spikec.compiler.limits import allowance, allowed_by
from spikec.compiler.sniffing import ARCHIVE, ARRAYS, kind_of, refused

__all__ = ["map_npz", "npz_bytes", "read_npz", "write_npz"]

#: Where an entry of an archive says how long its name and its extra field are, which the
#: data follow.
_LOCAL_NAME = 26
#: What an entry of an archive may say of itself: hints of the compressor, sizes behind the data,
#: a name in UTF-8. The others encrypt, patch or hide it.
_PLAIN_FLAGS = 0x2 | 0x4 | 0x8 | 0x800
#: What ``zipfile`` raises while it reads damaged data, beside ``OSError`` and ``ValueError``.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, NotImplementedError, struct.error)
_BLOCK = 1 << 20
#: How a disk says that it, or a share of it, is full.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: Bytes left for what stands before the elements of all arrays.
_HEADERS = 1 << 20
#: More axes no release of NumPy has, and more bytes no address.
_MOST_AXES, _LARGEST = 32, 1 << 62


def npz_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Return ``arrays`` as the bytes of an ``.npz`` file, with no time of day in it.

    They are compressed, unless that makes so few bytes of them that :func:`read_npz` would
    take the file for a damaged one.
    """
    packed = _packed(arrays, zipfile.ZIP_DEFLATED)
    if sum(values.nbytes for values in arrays.values()) <= allowance(len(packed)) - _HEADERS:
        return packed
    return _packed(arrays, zipfile.ZIP_STORED)


def _packed(arrays: Mapping[str, Array], method: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, values in arrays.items():
            member = zipfile.ZipInfo(f"{name}.npy")
            member.compress_type = method
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
    return buffer.getvalue()


def write_npz(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to ``path`` as compressed ``.npz``, atomically; the same arrays, same bytes."""
    write_atomically(path, npz_bytes(arrays))


def read_npz(path: Path) -> dict[str, Array]:
    """Read a ``.npz`` of plain arrays; sizes are checked before memory is taken.

    Raises :class:`FrontendError` for a missing or damaged file, for what is no array of numbers
    or texts, and for more than :func:`~spikec.compiler.limits.allowance` lets the file unpack to.
    """
    with _entries(Path(path)) as (archive, entries):
        return {entry.name: _read(archive, entry) for entry in entries}


def map_npz(path: Path, folder: Path) -> tuple[dict[str, Array], tuple[mmap.mmap, ...]]:
    """Return the arrays of a ``.npz`` and the memory maps they live in; see :func:`read_npz`.

    Stored arrays are mapped where they are; compressed ones are unpacked to ``folder``
    first, so that memory stays bounded; what they take on disk is, as if it were memory.
    """
    arrays, maps = {}, []
    with _entries(Path(path)) as (archive, entries):
        for index, entry in enumerate(entries):
            place, begin = Path(path), 0
            if entry.member.compress_type == zipfile.ZIP_STORED:
                begin = _data_of(Path(path), entry)
            else:
                place = folder / f"{index}.npy"
                with archive.open(entry.member) as source:
                    _unpack(source, place)
            arrays[entry.name], mapped = _mapped(place, begin, entry)
            maps.append(mapped)
    return arrays, tuple(maps)


def _unpack(source: IO[bytes], place: Path) -> None:
    """Copy an entry to ``place``; where there is no room, that is no fault of the archive."""
    try:
        with place.open("wb") as unpacked:
            shutil.copyfileobj(source, unpacked, _BLOCK)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise unwritable(place.parent, f"{error.strerror}, and data are unpacked there") from error


@dataclass(frozen=True, eq=False, kw_only=True)
class _Entry:
    """An array in an archive: what its header says, and how many bytes that header takes."""

    name: str
    member: zipfile.ZipInfo
    shape: Shape
    is_fortran: bool
    dtype: np.dtype[Any]
    begin: int

    def shaped(self, flat: Array) -> Array:
        """Return the elements, which are in the order of the file, in their shape."""
        return flat.reshape(self.shape, order="F" if self.is_fortran else "C")


@contextmanager
def _entries(path: Path) -> Iterator[tuple[zipfile.ZipFile, list[_Entry]]]:
    """Open an archive whose entries are checked: names, flags, headers and sizes.

    What goes wrong while it is open is a :class:`FrontendError` about ``path``.
    """
    check_file(path)
    try:
        with _opened(path) as archive:
            members = archive.infolist()
            _check_members(members, allowed_by(path))
            yield archive, [_entry(archive, member) for member in members]
    except (OSError, ValueError, EOFError, *_ZIP_ERRORS) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> FrontendError:
    """Return the error about a file: what it is instead of a .npz, or what is wrong with it."""
    hint = "write it with numpy.savez(path, spikes=..., labels=...)"
    message = f"not a readable .npz of plain arrays: {error}"
    if kind_of(path) not in (ARRAYS, ARCHIVE):
        return refused(path, "F010", message, hint)
    return FrontendError(Diagnostic(code="F010", where=str(path), message=message, hint=hint))


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # zipfile raises whatever its fields lead to
        raise ValueError(f"it is no archive: {error}") from error


def _check_members(members: Sequence[zipfile.ZipInfo], most: int) -> None:
    """Refuse two arrays of one name, and more than ``most`` bytes in all."""
    names = Counter(member.filename.removesuffix(".npy") for member in members)
    if len(names) != len(members):
        raise ValueError(f"it holds '{names.most_common(1)[0][0]}' twice")
    total = sum(member.file_size for member in members)
    if total > most:
        raise ValueError(
            f"it unpacks to {total:,} bytes, and a file of its size to {most:,} at most: "
            "write it without compression"
        )


def _entry(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> _Entry:
    """Return what an archive says of an array, which its bytes must be as many as.

    Raises ``ValueError`` for what is encrypted, packed in a way that NumPy does not write, no
    array of numbers or texts, or of another size.
    """
    name = member.filename
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    if member.flag_bits & ~_PLAIN_FLAGS or member.compress_type not in methods:
        raise ValueError(f"'{name}' is encrypted, or compressed in a way that NumPy does not write")
    try:
        file = archive.open(member)
    except (RuntimeError, NotImplementedError, UnicodeError) as error:
        raise ValueError(f"'{name}': {error}") from error
    with file:
        shape, is_fortran, dtype = _array_header(file, name)
        begin = file.tell()
    if dtype.kind not in "biufcSU":
        raise ValueError(f"'{name}' holds {dtype}, neither numbers nor texts")
    fits = len(shape) <= _MOST_AXES and all(0 <= extent <= _LARGEST for extent in shape)
    # An array without elements may still have axes that no memory could count.
    counted = size(tuple(extent or 1 for extent in shape)) * max(1, dtype.itemsize)
    length = size(shape) * max(1, dtype.itemsize)
    if not fits or counted > _LARGEST or length != member.file_size - begin:
        raise ValueError(
            f"'{name}' has shape {_short(shape)} of {dtype}, and {member.file_size - begin} bytes"
        )
    return _Entry(
        name=name.removesuffix(".npy"), member=member, shape=shape, is_fortran=is_fortran,
        dtype=dtype, begin=begin,
    )  # fmt: skip


def _short(shape: Shape) -> str:
    return f"{list(shape)}" if len(shape) <= _MOST_AXES else f"of {len(shape)} axes"


def _array_header(file: Any, name: str) -> tuple[Shape, bool, np.dtype[Any]]:
    """Read shape, order and type of an array; the file is then at its first element."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a header of Python 2, or one that nobody wrote
            version = np.lib.format.read_magic(file)
            read_header: Any = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, is_fortran, dtype = read_header(file)
    except Exception as error:  # NumPy has a parser read it, which raises all its errors
        raise ValueError(f"'{name}' has no header of an array: {error}") from error
    return tuple(int(extent) for extent in shape), bool(is_fortran), dtype


def _read(archive: zipfile.ZipFile, entry: _Entry) -> Array:
    """Return the array of an entry, whose checksum holds."""
    flat = np.empty(size(entry.shape), entry.dtype)
    content = memoryview(flat.data).cast("B") if flat.size else memoryview(b"")
    with archive.open(entry.member) as file:
        assert isinstance(file, zipfile.ZipExtFile)
        file.read(entry.begin)
        done = 0
        while done < len(content):
            got = file.readinto(content[done : done + _BLOCK])
            if not got:
                raise ValueError(f"'{entry.name}' ends after {done} of {len(content)} bytes")
            done += got
    return entry.shaped(flat)


def _data_of(path: Path, entry: _Entry) -> int:
    """Return where in the archive a stored entry begins, whose checksum holds."""
    begin = entry.member.header_offset + _LOCAL_NAME
    with path.open("rb") as file:
        file.seek(begin)
        name, extra = struct.unpack("<2H", file.read(4))
        begin += 4 + int(name) + int(extra)
        file.seek(begin)
        found, left = 0, entry.member.file_size
        while left and (block := file.read(min(left, _BLOCK))):
            found, left = zlib.crc32(block, found), left - len(block)
    if left or found != entry.member.CRC:
        raise ValueError(f"'{entry.name}' does not match its checksum")
    return begin


def _mapped(path: Path, begin: int, entry: _Entry) -> tuple[Array, mmap.mmap]:
    """Map the array whose header begins at a place of a file."""
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    flat = np.frombuffer(mapped, entry.dtype, size(entry.shape), begin + entry.begin)
    return entry.shaped(flat), mapped
