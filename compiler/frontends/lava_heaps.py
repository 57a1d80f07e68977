"""A check of HDF5's heaps of texts: a damaged size there makes libhdf5 2.0 loop for ever.

Texts of varying length lie in global heap collections (HDF5 file format, III.E): ``GCOL``,
version 1, three reserved bytes, the size of the collection, then objects of a 16-byte header
(index, references, four reserved bytes, size) and their content, padded to 8 bytes. Index 0
is the free rest, whose size counts its header.
"""

from __future__ import annotations

import struct
from pathlib import Path

from spikec.compiler.frontends.lava_schema import fail

__all__ = ["check_heaps"]

_COLLECTION = struct.Struct("<4sB3xQ")
_OBJECT = struct.Struct("<HHIQ")
_HEAP = b"GCOL\x01\x00\x00\x00"


def check_heaps(path: Path) -> None:
    """Refuse a file with a heap whose objects do not fill it exactly from end to end."""
    content = path.read_bytes()
    place = content.find(_HEAP)
    while place >= 0:
        if not _is_whole(content, place):
            fail(
                "F070",
                f"{path}: byte {place}",
                "a damaged heap of texts",
                "copy the file anew from where it was written",
            )
        place = content.find(_HEAP, place + 1)


def _is_whole(content: bytes, start: int) -> bool:
    if start + _COLLECTION.size > len(content):
        return False
    _, _, length = _COLLECTION.unpack_from(content, start)
    place, end = start + _COLLECTION.size, start + length
    if end > len(content):
        return False
    while place + _OBJECT.size <= end:
        index, _, _, size = _OBJECT.unpack_from(content, place)
        needed = _OBJECT.size + (size + 7) // 8 * 8 if index else size
        if not _OBJECT.size <= needed <= end - place:
            return False
        place += needed
    return True
