"""HDF5 from strangers: every link and data set is looked at before anything is read.

An HDF5 file can point to other files (external storage, external links, virtual
data sets), hold cycles of links, load filters from plug-ins, and unpack to far
more than its size. :func:`open_checked` refuses all of these first; what it
yields holds groups, arrays of numbers and texts, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, size
from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.files import optional_package

__all__ = ["numbers", "open_checked", "texts", "top_level_names"]

#: All arrays together may unpack to this much, and to so many bytes for each byte of the file.
_SMALL, _MOST_GROWTH = 128 << 20, 100
_MOST_OBJECTS = 100_000
_MOST_TEXT = 16 << 20
#: Bytes of texts that are read at a time, should each be as long as the file.
_TEXTS = 256 << 20
#: deflate, shuffle, fletcher32, lzf: filters that come with h5py and need no plug-in.
_FILTERS = frozenset({1, 2, 3, 32000})
#: How a text of varying length is stored: its length, the heap it is in, its number there.
_TEXT = np.dtype([("length", "<u4"), ("heap", "<u8"), ("index", "<u4")])
#: What h5py raises on damaged files.
_DAMAGE = (
    OSError,
    RuntimeError,
    ValueError,
    KeyError,
    TypeError,
    OverflowError,
    AttributeError,
    SystemError,
    MemoryError,
    struct.error,
)


def top_level_names(path: Path) -> list[str]:
    """Return the names in the root group of an HDF5 file; no link is followed.

    Raises :class:`FrontendError` for a damaged file.
    """
    with _opened(path) as file, _damage_named(path):
        return list(islice(_names(file, path), 1000))


@contextmanager
def open_checked(path: Path, *, max_bytes: int) -> Iterator[Any]:
    """Open an HDF5 file for reading, after a walk that refuses what could harm.

    Yields an ``h5py.File``; read its arrays with :func:`numbers` and
    :func:`texts`. Raises :class:`FrontendError` for links that are not hard,
    external or virtual storage, cycles, unknown filters and types, for more
    than ``max_bytes`` of unpacked data, and for a damaged file.
    """
    with _opened(path) as file:
        allowed = min(max_bytes, _SMALL + _MOST_GROWTH * path.stat().st_size)
        with _damage_named(path):
            _Walk(path, allowed).check(file)
        yield file


def numbers(dataset: Any) -> Array:
    """Return all values of a data set of an opened file."""
    with _damage_named(f"{dataset.file.filename}: {dataset.name}"):
        return np.asarray(dataset[()])


def texts(dataset: Any) -> Array:
    """Return a data set of texts as an array of ``str``, of the same shape.

    Texts of varying length may share storage: they are read a few at a time,
    so that memory stays bounded, and their total length is too.
    """
    flat: list[str] = []
    total = 0
    with _damage_named(f"{dataset.file.filename}: {dataset.name}"):
        for item in _few_at_a_time(dataset):
            text = item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item)
            total += len(text)
            if total > _MOST_TEXT:
                raise _refused(dataset.file.filename, dataset.name, "its texts are too long")
            flat.append(text)
    result = np.empty(len(flat), dtype=object)
    result[:] = flat
    shaped: Array = result.reshape(dataset.shape)
    return shaped


def _few_at_a_time(dataset: Any) -> Iterator[Any]:
    if dataset.ndim == 0:
        yield dataset[()]
        return
    row = max(1, size(dataset.shape[1:]))
    length = max(1, Path(dataset.file.filename).stat().st_size)
    step = max(1, _TEXTS // (length * row))
    for first in range(0, len(dataset), step):
        yield from np.asarray(dataset[first : first + step]).ravel()


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    h5py = _h5py(path)
    with _damage_named(path):
        file = h5py.File(path, "r")
    with file:
        yield file


@contextmanager
def _damage_named(where: Path | str) -> Iterator[None]:
    try:
        yield
    except FrontendError:
        raise
    except _DAMAGE as error:
        raise FrontendError(
            Diagnostic(
                code="F061",
                where=str(where),
                message=f"a damaged HDF5 file: {_one_line(error)}",
                hint="copy it anew from where it was written",
            )
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _h5py(path: Path) -> Any:
    need = "it is an HDF5 file, and reading those needs h5py"
    return optional_package("h5py", code="F060", where=path, need=need)


def _refused(path: Path | str, name: str, message: str) -> FrontendError:
    return FrontendError(
        Diagnostic(
            code="F062",
            where=f"{path}: {name}",
            message=message,
            hint="a network needs none of this; write the file anew with plain arrays",
        )
    )


def _names(group: Any, path: Path) -> Iterator[str]:
    for name in group:
        if not isinstance(name, str):  # h5py gives bytes that are no UTF-8 as they are
            raise _refused(path, group.name, f"the name {name!r} is no text")
        yield name


class _Walk:
    """One walk over all links of a file; nothing it meets is read."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self.path = path
        self.h5py = _h5py(path)
        self.max_bytes = max_bytes
        self.bytes = 0
        self.objects = 0
        self.visited: set[tuple[int, ...]] = set()
        self.heaps: set[int] = set()

    def check(self, root: Any) -> None:
        waiting = [root]
        while waiting:
            group = waiting.pop()
            self._enter(group)
            for name in _names(group, self.path):
                place = f"{group.name.rstrip('/')}/{name}"
                self._check_link(group, name, place)
                item = group[name]
                if isinstance(item, self.h5py.Group):
                    waiting.append(item)
                elif isinstance(item, self.h5py.Dataset):
                    self._check_dataset(item, place)
                else:
                    raise _refused(self.path, place, "it is neither a group nor an array")

    def _enter(self, group: Any) -> None:
        info = self.h5py.h5g.get_objinfo(group.id)  # h5o.get_info may hang on a damaged tree
        key = (*info.fileno, *info.objno)
        if key in self.visited:
            raise _refused(self.path, group.name, "two paths lead to this group, or a cycle")
        self.visited.add(key)

    def _check_link(self, group: Any, name: str, place: str) -> None:
        self.objects += 1
        if self.objects > _MOST_OBJECTS:
            raise _refused(self.path, place, f"the file has more than {_MOST_OBJECTS} objects")
        link = group.get(name, getlink=True)
        if not isinstance(link, self.h5py.HardLink):
            raise _refused(self.path, place, f"it is a link to elsewhere ({type(link).__name__})")

    def _check_dataset(self, dataset: Any, place: str) -> None:
        properties = dataset.id.get_create_plist()
        if properties.get_external_count():
            raise _refused(self.path, place, "its data are in another file (external storage)")
        if properties.get_layout() == self.h5py.h5d.VIRTUAL:
            raise _refused(self.path, place, "its data are elsewhere (a virtual data set)")
        filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
        if not filters <= _FILTERS:
            raise _refused(self.path, place, f"it needs filter {min(filters - _FILTERS)}")
        if dataset.shape is None:
            raise _refused(self.path, place, "it has no values")
        self._check_type(dataset, place)
        # Readers make numbers of eight bytes of all that are shorter.
        wide = dataset.dtype.itemsize if dataset.dtype.kind in "SU" else 8
        self.bytes += size(dataset.shape) * max(1, wide)
        if self.bytes > self.max_bytes:
            raise _refused(
                self.path, place, f"with it the file unpacks to more than {self.max_bytes} bytes"
            )

    def _check_type(self, dataset: Any, place: str) -> None:
        dtype = dataset.dtype
        text = dtype.kind in "SU" or self.h5py.check_string_dtype(dtype) is not None
        if dtype.kind == "O" and text:
            self._check_texts(dataset, place)
        plain = dtype.kind in "biuf" and dtype.subdtype is None and dtype.itemsize <= 8
        if not (text or plain):
            raise _refused(self.path, place, f"its type {dtype} is neither a number nor a text")

    def _check_texts(self, dataset: Any, place: str) -> None:
        """Check where texts of varying length lie: the library loops for ever on damaged heaps."""
        contiguous = dataset.id.get_create_plist().get_layout() == self.h5py.h5d.CONTIGUOUS
        offset = dataset.id.get_offset()
        if not contiguous or offset is None:
            raise _refused(self.path, place, "its texts are not stored in one piece")
        raw = self._bytes(offset, size(dataset.shape) * _TEXT.itemsize, place)
        for heap in np.unique(np.frombuffer(raw, _TEXT)["heap"]).tolist():
            if heap and heap not in self.heaps:
                self.heaps.add(heap)
                self._check_heap(heap, place)

    def _check_heap(self, start: int, place: str) -> None:
        """Check that the objects of a heap follow one another to its end."""
        signature, extent = struct.unpack("<4s4xQ", self._bytes(start, 16, place))
        if signature != b"GCOL" or extent < 16:
            raise _refused(self.path, place, "its texts are damaged")
        objects = self._bytes(start + 16, extent - 16, place)
        at = 0
        while len(objects) - at >= 16:
            index, length = struct.unpack_from("<H6xQ", objects, at)
            step = 16 + (length + 7) // 8 * 8 if index else length  # 0: free space, header included
            at += step
            if step < 16 or at > len(objects):
                raise _refused(self.path, place, "its texts are damaged")

    def _bytes(self, start: int, count: int, place: str) -> bytes:
        """Return bytes of the file itself, which must hold them."""
        if start + count > self.path.stat().st_size:
            raise _refused(self.path, place, "it ends beyond the file")
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(count)
