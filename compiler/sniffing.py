"""What a file that no reader takes is instead, by its first bytes, and what to do about it."""

from __future__ import annotations

import json
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

from spikec.compiler.errors import Diagnostic, FrontendError

__all__ = ["ARCHIVE", "ARRAYS", "Kind", "kind_of", "refused"]


@dataclass(frozen=True)
class Kind:
    """What a file is, in words that follow "it is", and what to do where it is not wanted."""

    what: str
    remedy: str


_PACKED = "unpack it, and name the file in it"
_EXPORT = "export the network as ONNX or NIR, or with spikec.models.export_torch"
_DATA = "give it as --data, and a network as FILE"
_NETWORK = "give it as FILE, and data as a .npz"
_AGAIN = "download it again, with the address of the file itself"
_IMAGE = "save samples as arrays: numpy.savez(path, spikes=..., labels=...)"
_PICKLE = Kind("a PyTorch or pickle file, which is a program and is never run", _EXPORT)

#: What data files are.
ARRAYS = Kind("a .npz file of arrays", _DATA)
#: A .npz with entries that are no arrays is one as well.
ARCHIVE = Kind("a zip archive", _PACKED)

#: By how a file begins. Text comes last: see :func:`_text`.
_BEGINNINGS: tuple[tuple[bytes, Kind], ...] = (
    (b"version https://git-lfs.github.com/spec/",
     Kind("a Git LFS pointer, not the file that it stands for",
          "fetch the file: git lfs install && git lfs pull")),
    (b"\x93NUMPY", Kind("a .npy file of one array",
                        "save it under a name: numpy.savez(path, spikes=numpy.load(file))")),
    (b"\x89PNG\r\n\x1a\n", Kind("a PNG picture", _IMAGE)),
    (b"\xff\xd8\xff", Kind("a JPEG picture", _IMAGE)),
    (b"GIF8", Kind("a GIF picture", _IMAGE)),
    (b"%PDF-", Kind("a PDF document", "name a network or data file")),
    (b"\x1f\x8b", Kind("a gzip archive", _PACKED)),
    (b"BZh", Kind("a bzip2 archive", _PACKED)),
    (b"\xfd7zXZ\x00", Kind("an xz archive", _PACKED)),
    (b"\x28\xb5\x2f\xfd", Kind("a Zstandard archive", _PACKED)),
    (b"7z\xbc\xaf\x27\x1c", Kind("a 7-zip archive", _PACKED)),
    (b"\x7fELF", Kind("a compiled program or library", "name a network or data file")),
    (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", _PICKLE),
    *((bytes([0x80, protocol]), _PICKLE) for protocol in range(2, 6)),
)  # fmt: skip
_HDF5 = b"\x89HDF\r\n\x1a\n"
_TAR = 257
#: ONNX begins with its version, and goes on with the producer, a graph or its operators' version.
_VERSION_FIELD, _NEXT_FIELDS = 0x08, (b"\x12", b"\x1a", b"\x22", b":", b"B")
_HEAD = 4096


def kind_of(path: Path) -> Kind | None:
    """Return what the file at ``path`` is; None where its first bytes do not tell."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return None
    if not head:
        return Kind("empty", "copy it anew from where it was written")
    for beginning, kind in _BEGINNINGS:
        if head.startswith(beginning):
            return kind
    if head.startswith(b"PK"):
        return _archive(path)
    if head.startswith(_HDF5):
        return _hdf5(path)
    if head[_TAR : _TAR + 5] == b"ustar":
        return Kind("a tar archive", _PACKED)
    if head[0] == _VERSION_FIELD and head[1:2] < b"\x20" and head[2:3] in _NEXT_FIELDS:
        return Kind("an ONNX model", "give it as FILE, if it is whole, and data as a .npz")
    return _safetensors(path, head) or _text(head)


def refused(path: Path, code: str, otherwise: str, hint: str) -> FrontendError:
    """Return the error about a file that cannot be read: what it is, or else ``otherwise``."""
    kind = kind_of(path)
    message = otherwise if kind is None else f"it is {kind.what}"
    return FrontendError(
        Diagnostic(
            code=code,
            where=str(path),
            message=message,
            hint=hint if kind is None else kind.remedy,
        )
    )


def _archive(path: Path) -> Kind | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - zipfile raises whatever damaged fields lead to
        return Kind("a zip archive, cut short or damaged", "copy it anew")
    if any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return _PICKLE
    if names and all(name.endswith(".npy") for name in names):
        return ARRAYS
    if {"config.json", "model.weights.h5"} <= set(names):
        return Kind("a Keras model", _EXPORT)
    return ARCHIVE


def _hdf5(path: Path) -> Kind:
    """Name an HDF5 file by the names that stand in its first megabyte, which need no library."""
    with path.open("rb") as file:
        start = file.read(1 << 20)
    if b"keras_version" in start or b"model_weights" in start:
        return Kind("a Keras model", _EXPORT)
    return Kind("an HDF5 file", "as a network spikec reads NIR and lava-dl .net; as data .npz")


def _safetensors(path: Path, head: bytes) -> Kind | None:
    if len(head) < 10 or head[8:9] != b"{":
        return None
    (length,) = struct.unpack("<Q", head[:8])
    if not 2 <= length <= path.stat().st_size - 8:
        return None
    if b'"spikec"' in head:
        what = "a compiled program" if b"spikec.program" in head else "a network of spikec"
        return Kind(what, _NETWORK)
    return Kind("a safetensors file of another library: weights without a network", _EXPORT)


def _text(head: bytes) -> Kind | None:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")[:64].lower()
    if start.startswith((b"<!doctype html", b"<html")):
        return Kind("a web page, perhaps an error of a server", _AGAIN)
    if start.startswith((b"<?xml", b"<svg")):
        return Kind("an XML file", "name a network or data file")
    if start[:1] in (b"{", b"[") and _is_json(head):
        return Kind("a JSON file", "name a network or data file")
    return None


def _is_json(head: bytes) -> bool:
    """Say whether text reads as JSON up to where it is cut."""
    try:
        json.loads(head)
    except json.JSONDecodeError as error:
        return len(head) == _HEAD and error.pos > _HEAD // 2
    except (ValueError, RecursionError):
        return False
    return True
