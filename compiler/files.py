"""Files written whole or not at all, and read without trusting them."""

from __future__ import annotations

import hashlib
import io
import json
import mmap
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.errors import Diagnostic, FrontendError, UsageError

__all__ = [
    "MAX_ARRAY_BYTES",
    "canonical_json",
    "check_file",
    "check_writable",
    "make_folder",
    "map_npz",
    "npz_bytes",
    "optional_package",
    "read_npz",
    "sha256_of",
    "sha256_of_file",
    "unwritable",
    "user_cache",
    "write_atomically",
    "write_npz",
    "written",
]

#: No array in a file we read may unpack to more than this.
MAX_ARRAY_BYTES = 16 << 30

#: Where an entry of an archive says how long its name and its extra field are, which the
#: data follow.
_LOCAL_NAME = 26


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path`` so that a crash leaves the old file or the new one.

    Raises :class:`UsageError` when the folder does not exist or cannot be written.
    """
    with written(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """Give a file beside ``path`` to write to; it becomes ``path`` when all went well.

    A crash leaves the old file or the new one. Raises :class:`UsageError` when the folder
    does not exist or cannot be written, or when ``path`` is no file but a device, say.
    """
    path = Path(path)
    _check_replaceable(path)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise unwritable(path, str(error.strerror)) from error
    try:
        os.close(handle)
        yield Path(temporary)
        with Path(temporary).open("rb") as file:
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise unwritable(path, str(error.strerror)) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it; :class:`UsageError` where that cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, str(error.strerror)) from error


def check_writable(path: Path) -> None:
    """Raise :class:`UsageError` where :func:`written` would, before the work for it is done."""
    _check_replaceable(path)
    if not path.parent.is_dir():
        raise unwritable(path, "there is no such folder")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise unwritable(path, "its folder is not yours to write to")


def _check_replaceable(path: Path) -> None:
    """Refuse what is no file: renaming would put one in the place of a pipe or a device."""
    if path.is_dir():
        raise unwritable(path, "it is a folder")
    if path.exists() and not path.is_file():
        raise unwritable(path, "it is a device or a pipe, not a file")


def check_file(path: Path) -> None:
    """Raise :class:`FrontendError` where there is no file to read."""
    if path.is_file():
        return
    message, hint = "there is no such file", "check the path"
    if path.is_dir():
        message, hint = "it is a folder, not a file", "name a file in it"
    elif path.exists():
        message, hint = "it is no regular file", "save it as a file, and name that"
    raise FrontendError(Diagnostic(code="F001", where=str(path), message=message, hint=hint))


def user_cache() -> Path:
    """Return the folder for what this user's spikec can make again."""
    cache = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(cache) if Path(cache).is_absolute() else Path.home() / ".cache"
    return root / "spikec"


def unwritable(path: Path, why: str) -> UsageError:
    """Return the error to raise for a place that cannot be written."""
    return UsageError(
        Diagnostic(
            code="U030",
            where=str(path),
            message=f"cannot write there: {why}",
            hint="name a place in a folder that exists and that you may write to",
        )
    )


def canonical_json(value: object) -> str:
    """Return JSON with sorted keys and no spaces: the same value gives the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_of(content: bytes | memoryview) -> str:
    """Return the SHA-256 digest as hexadecimal text."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Return the SHA-256 digest of a file, which is not held in memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


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


def optional_package(name: str, *, code: str, where: Path | str, need: str) -> Any:
    """Import a package of the extra ``nir``; without it raise FrontendError with its remedy."""
    try:
        return import_module(name)
    except ImportError as error:
        raise FrontendError(
            Diagnostic(
                code=code,
                where=str(where),
                message=f"{need}, which is missing",
                hint="pip install 'spikec[nir]'",
            )
        ) from error
