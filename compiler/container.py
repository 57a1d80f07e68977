"""One safetensors file for graphs and programs: raw arrays and one JSON header.

The header is canonical JSON with a schema name and version and a SHA-256 digest
per tensor, and from version 2 on one of all that the file says: no field, name,
type or shape can change unseen. Equal content gives equal bytes. Array fields of
equal values are kept as one number. Nothing in a file is executed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from spikec.compiler.arrays import MAX_NEURONS, Array, frozen, size
from spikec.compiler.errors import Diagnostic, FrontendError, SpikecError
from spikec.compiler.files import canonical_json, unwritable, written
from spikec.compiler.ir import SourceView
from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Permute,
    Reshape,
    Scale,
    Sparse,
    Synapses,
)
from spikec.compiler.pages import blocks, of_file

__all__ = [
    "BROKEN",
    "Packer",
    "Unpacker",
    "content_digest",
    "read_container",
    "read_header",
    "write_container",
]

#: Classes that may stand in a field, by the name they have in files.
_NESTED: dict[str, type[Any]] = {
    "chain": Chain,
    "conv2d": Conv2d,
    "dense": Dense,
    "permute": Permute,
    "reshape": Reshape,
    "scale": Scale,
    "sparse": Sparse,
    "synapses": Synapses,
    "view": SourceView,
}
_NESTED_NAMES = {kind: name for name, kind in _NESTED.items()}

_MAX_HEADER = 100 << 20
#: Headers of this version and later have a digest of the whole content.
_WHOLE = 2

#: The types of arrays, by the name they have in safetensors files.
_TYPES = {"BOOL": "?"} | {
    f"{letter}{bits}": f"<{kind}{bits // 8}"
    for letter, kind, widths in (("U", "u", (8, 16, 32, 64)), ("I", "i", (8, 16, 32, 64)),
                                 ("F", "f", (16, 32, 64)))
    for bits in widths
}  # fmt: skip

_T = TypeVar("_T")


class Packer:
    """Turns frozen dataclasses into JSON tables and named tensors."""

    def __init__(self) -> None:
        self.tensors: dict[str, Array] = {}

    def pack(self, value: Any, key: str) -> Any:
        """Return ``value`` as JSON; arrays go to :attr:`tensors` under ``key``."""
        if isinstance(value, np.ndarray):
            return self._array(value, key)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            table = {
                item.name: self.pack(getattr(value, item.name), f"{key}/{item.name}")
                for item in dataclasses.fields(value)
            }
            if type(value) in _NESTED_NAMES:
                table["is"] = _NESTED_NAMES[type(value)]
            return table
        if isinstance(value, tuple):
            return [self.pack(item, f"{key}/{index}") for index, item in enumerate(value)]
        return value

    def _array(self, values: Array, key: str) -> Any:
        first = values.reshape(-1)[:1]
        if values.size and (values == first).all() and not np.signbit(first).any():
            return {"all": first[0].item(), "shape": list(values.shape), "dtype": str(values.dtype)}
        self.tensors[key] = np.ascontiguousarray(values)
        return {"tensor": key}


class Unpacker:
    """Turns JSON tables and tensors back into dataclasses.

    What they take beside the tensors is at most ``allowed`` bytes: a field of one value for
    millions of neurons is short in a file.
    """

    def __init__(self, tensors: Mapping[str, Array], allowed: int) -> None:
        self._tensors = tensors
        self._allowed = allowed

    def unpack(self, kind: type[_T], table: Mapping[str, Any]) -> _T:
        """Build ``kind`` from its table; ``ValueError`` names what is missing or unknown."""
        known = {item.name for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
        unknown = set(table) - known - {"is"}
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        values = {name: self._value(table[name]) for name in table if name != "is"}
        hints = get_type_hints(kind)
        for name, value in values.items():
            if not _fits(value, hints[name]):
                raise ValueError(f"field '{name}' cannot be {value!r:.60}")
        self._allowed -= _needed(kind, values)
        if self._allowed < 0:
            what = f"{kind.__name__.lower()} '{values.get('name', '')!s:.60}'"
            raise ValueError(f"with {what} it is larger than a file of its size may describe")
        written_out = {
            name: frozen(value) for name, value in values.items() if isinstance(value, np.ndarray)
        }
        return kind(**values | written_out)

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(self._value(item) for item in value)
        if not isinstance(value, dict):
            return value
        if "tensor" in value:
            return self._tensors[value["tensor"]]
        if "all" in value:
            return _filled(value["all"], value["shape"], value["dtype"])
        return self.unpack(_NESTED[value["is"]], value)


def _needed(kind: type[Any], values: Mapping[str, Any]) -> int:
    """Return the bytes that fields of one value repeated take once they are written out."""
    arrays = (value for value in values.values() if isinstance(value, np.ndarray))
    repeated = sum(value.nbytes for value in arrays if 0 in value.strides)
    shape = values.get("shape")
    if not isinstance(shape, tuple):
        return repeated
    # A population writes out one number per neuron in each of its fields, whatever the file
    # says; what has a shape has a state or a value of each element at least.
    return max(repeated, 8 * size(shape) * max(1, len(getattr(kind, "PER_NEURON", ()))))


def _filled(value: Any, shape: Any, dtype: Any) -> Array:
    """Return an array of one value repeated, which takes no memory yet."""
    extents = tuple(shape)
    if not all(_fits(extent, int) and extent >= 0 for extent in extents):
        raise ValueError(f"a field of shape {extents!r:.60}")
    if size(extents) > MAX_NEURONS:
        raise ValueError(f"a field of shape {extents} is larger than any network")
    kind = np.dtype(dtype)
    if kind.kind not in "iuf" or not _fits(value, float):
        raise ValueError(f"a field of {dtype!r:.20} filled with {value!r:.60}")
    with np.errstate(over="ignore"):  # it is seen below
        single = np.array(value, kind)
    if single.item() != value:
        raise ValueError(f"a field of {dtype} filled with {value}")
    return np.broadcast_to(single, extents)


def _fits(value: Any, hint: Any) -> bool:
    """Say whether a value read from a file is what a dataclass field declares."""
    # NumPy 2.5 declares NDArray as a lazy alias (PEP 695): look at what it stands for.
    hint = getattr(hint, "__value__", hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(_fits(value, option) for option in arguments)
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin is tuple:
        options = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return (
            isinstance(value, tuple)
            and len(value) == len(options)
            and all(_fits(item, option) for item, option in zip(value, options, strict=True))
        )
    if origin is np.ndarray:
        return isinstance(value, np.ndarray)
    if hint is float:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return number and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else False


#: What building a network from a damaged file may raise.
BROKEN = (
    LookupError, TypeError, ValueError, AttributeError, ArithmeticError, MemoryError,
    RecursionError,
)  # fmt: skip


def write_container(
    path: Path, *, schema: str, version: int, body: object, tensors: Mapping[str, Array]
) -> None:
    """Write ``body`` (JSON values) and ``tensors`` to ``path`` atomically."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    digests = {name: _digest(values) for name, values in tensors.items()}
    header = {"schema": schema, "version": version, "digests": digests, "body": body}
    if version >= _WHOLE:
        # As a reader will see it: JSON turns every key into text.
        header["digest"] = content_digest(json.loads(canonical_json(header)), tensors)
    with written(path) as temporary:
        try:
            save_file(dict(tensors), temporary, metadata={"spikec": canonical_json(header)})
        except SafetensorError as error:
            raise unwritable(path, str(error)) from error


def read_header(path: Path) -> dict[str, Any] | None:
    """Return the spikec header of a safetensors file, or None if it is not one of ours."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(_MAX_HEADER, path.stat().st_size):
                return None
            outer = json.loads(file.read(length))
        header = json.loads(outer["__metadata__"]["spikec"])
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError):
        return None
    return header if isinstance(header, dict) and "schema" in header else None


def content_digest(header: Mapping[str, Any], tensors: Mapping[str, Array]) -> str:
    """Return the SHA-256 of a header without its own ``digest``, and of the tensors' forms.

    A form is a type and a shape; what tensors hold is in the header's ``digests``.

    Raises ``ValueError`` for a header of numbers that JSON lacks.
    """
    said = {key: value for key, value in header.items() if key != "digest"}
    forms = {name: [item.dtype.str, list(item.shape)] for name, item in tensors.items()}
    return hashlib.sha256(canonical_json([said, forms]).encode()).hexdigest()


def read_container(path: Path, *, schema: str, version: int) -> tuple[Any, dict[str, Array]]:
    """Return body and tensors of a file of ours, of ``version`` or before; digests are checked.

    Raises :class:`FrontendError` naming the file and what is wrong with it.
    """
    header = read_header(path)
    if header is None:
        raise _damaged(path, "it is not a spikec file")
    if header["schema"] != schema:
        raise _damaged(path, f"it holds '{header['schema']}', not '{schema}'")
    found = header.get("version")
    if not isinstance(found, int) or not 1 <= found <= version:
        raise _damaged(
            path, f"it has version {found} of '{schema}'; this spikec reads up to {version}"
        )
    tensors = _tensors(path)
    digests = {name: _digest(values) for name, values in tensors.items()}
    if "body" not in header:
        raise _damaged(path, "its header has no body")
    if digests != header.get("digests"):
        raise _damaged(path, "a tensor does not match its digest")
    if found >= _WHOLE and not _is_whole(header, tensors):
        raise _damaged(path, "its header does not match its digest: it was changed")
    return header["body"], tensors


def _is_whole(header: Mapping[str, Any], tensors: Mapping[str, Array]) -> bool:
    try:
        return content_digest(header, tensors) == header.get("digest")
    except (ValueError, RecursionError):
        return False


def _tensors(path: Path) -> dict[str, Array]:
    """Return the arrays of a safetensors file, read-only; large ones stay in it."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy"):
            pass  # The parts fill the file: it checks that without reading them.
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            table = json.loads(file.read(length))
            table.pop("__metadata__")
            return {
                name: of_file(
                    file, 8 + length + part["data_offsets"][0], tuple(part["shape"]),
                    _TYPES[part["dtype"]],
                )
                for name, part in table.items()
            }  # fmt: skip
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, str(error)) from error


def _digest(values: Array) -> str:
    digest = hashlib.sha256()
    for part in blocks(values):
        digest.update(part.data)
    return digest.hexdigest()


def reading(path: Path, error: Exception) -> SpikecError:
    """Return the error to raise for ``error``, met while building what ``path`` holds."""
    if isinstance(error, SpikecError):
        return error
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return _damaged(path, f"{kind}{error}")


def _damaged(path: Path, message: str) -> FrontendError:
    return FrontendError(
        Diagnostic(
            code="F020",
            where=str(path),
            message=message,
            hint="write it again with 'spikec compile' or spikec.models.save",
        )
    )
