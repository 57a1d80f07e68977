"""Damage of files that knows their structure: one change after another, drawn from a generator."""

from __future__ import annotations

import hashlib
import io
import json
import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from spikec.compiler.arrays import Array

__all__ = ["CHANGES", "Change"]

Rng: TypeAlias = np.random.Generator
#: Makes a damaged file of a sound one.
Change: TypeAlias = Callable[[bytes, Rng, Path], bytes]

INTEGERS = (0, -1, 1, 2, 3, 7, 255, 1 << 16, 1 << 24, (1 << 27) + 1, (1 << 31) - 1, 1 << 31,
            1 << 40, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), 10**30)  # fmt: skip
FLOATS = (0.0, -0.0, 0.5, 1e-320, 5e-324, 1e-30, 1e30, 3.4e38, 1e308, -1e308, np.nan, np.inf,
          -np.inf)  # fmt: skip
TEXTS = ("", "x", "LIF", "in", "a/b", "\x00", "\u202e", "é" * 300, "same", "zero", "1e999")
DTYPES = ("?", "<i1", "<u2", "<i4", "<i8", ">i8", "<u8", "<f2", "<f4", "<f8", ">f4", "<c16", "<U3",
          "|S2", "<M8[s]", "|V3")  # fmt: skip


def _pick(rng: Rng, items: Sequence[Any]) -> Any:
    return items[int(rng.integers(len(items)))]


def _few(rng: Rng) -> int:
    """Return how many changes are made: one most often, so that much of the file stays sound."""
    return 1 if rng.random() < 0.7 else int(rng.integers(2, 4))


def _array(rng: Rng) -> Array:
    """Return an array of any type and few axes, some of its elements at the ends of the type."""
    shape = tuple(int(n) for n in rng.integers(0, 5, int(rng.integers(0, 4))))
    kind = np.dtype(_pick(rng, [name for name in DTYPES if "M8" not in name and "V" not in name]))
    if kind.kind in "US":
        return np.full(shape, "ab", kind)
    with np.errstate(all="ignore"):
        if kind.kind == "f":
            return np.full(shape, _pick(rng, FLOATS)).astype(kind)
        return rng.integers(-5, 300, shape).astype(kind)


# --- any file ------------------------------------------------------------------------------


def bits(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Flip a few bits."""
    damaged = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        damaged[int(rng.integers(len(damaged)))] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def cut(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Leave out the end, or a piece."""
    begin, end = sorted(int(n) for n in rng.integers(0, len(content) + 1, 2))
    return content[:begin] if rng.random() < 0.5 else content[:begin] + content[end:]


def numbers(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Overwrite some bytes with an extreme integer."""
    value = int(_pick(rng, INTEGERS))
    width = int(_pick(rng, (2, 4, 8)))
    at = int(rng.integers(max(1, len(content) - width)))
    piece = (value % (1 << (8 * width))).to_bytes(width, "little")
    return content[:at] + piece + content[at + width :]


def doubled(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Put a piece of the file in again."""
    begin = int(rng.integers(len(content)))
    piece = content[begin : begin + int(rng.integers(1, 200))]
    at = int(rng.integers(len(content)))
    return content[:at] + piece + content[at:]


ANY: tuple[Change, ...] = (bits, cut, numbers, doubled)


# --- JSON in safetensors -----------------------------------------------------------------------


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container with a key or an index into it."""
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        yield value, key
        if isinstance(value[key], (dict, list)) and value[key]:
            yield from _places(value[key])


def _other(value: Any, rng: Rng) -> Any:
    """Return another value: of the same kind most often."""
    kinds: tuple[Any, ...] = (
        (*INTEGERS, value + 1 if isinstance(value, int) else 1), FLOATS[:-3], TEXTS,
        (None, True, False), ([], {}, [1, 2], [[1]], {"a": 1}, json.loads("[" * 40 + "]" * 40)),
        tuple({"all": fill, "shape": [extent], "dtype": dtype} for fill in (0, 0.5, 1e308)
              for extent in (1, 1 << 20, 1 << 27, -1) for dtype in ("float64", "int64", "uint8")),
    )  # fmt: skip
    fitting = 0 if isinstance(value, int) else 1 if isinstance(value, float) else 2
    return _pick(rng, kinds[fitting if rng.random() < 0.6 else int(rng.integers(len(kinds)))])


def _changed_table(table: Any, rng: Rng) -> None:
    places = list(_places(table))
    plain = [(holder, key) for holder, key in places if not isinstance(holder[key], (dict, list))
             and not (isinstance(holder, dict) and "dtype" in holder)]  # fmt: skip
    container, key = _pick(rng, plain if plain and rng.random() < 0.7 else places)
    chance = rng.random()
    if chance < 0.7:
        container[key] = _other(container[key], rng)
    elif chance < 0.8:
        other, place = _pick(rng, list(_places(table)))
        container[key] = json.loads(json.dumps(other[place]))
    elif isinstance(container, dict):
        kept = container.pop(key)
        if chance < 0.9:
            container[_pick(rng, TEXTS)] = kept
    else:
        container.append(container[key])


def container(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Change the header of one of our files; most often its digests fit what it then says."""
    (length,) = struct.unpack("<Q", content[:8])
    outer, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    header = json.loads(outer["__metadata__"]["spikec"])
    for _ in range(_few(rng)):
        _changed_table(header["body"] if rng.random() < 0.95 else header, rng)
    if rng.random() < 0.1:
        _changed_table({k: v for k, v in outer.items() if k != "__metadata__"} or {"": 1}, rng)
    if rng.random() < 0.9 and header.get("version") == 2:
        header["digest"] = _digest(header, outer)
    outer["__metadata__"]["spikec"] = json.dumps(header)
    text = json.dumps(outer).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def _digest(header: dict[str, Any], outer: dict[str, Any]) -> str:
    said = {key: value for key, value in header.items() if key != "digest"}
    names = {"BOOL": "|b1", "U8": "|u1", "I8": "|i1"}
    names |= {f"{letter}{8 * width}": f"<{letter.lower()}{width}" for letter in "UIF"
              for width in (2, 4, 8)}  # fmt: skip
    forms = {
        name: [names.get(part["dtype"], "?"), part["shape"]]
        for name, part in outer.items()
        if name != "__metadata__"
    }
    text = json.dumps([said, forms], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


# --- npz ----------------------------------------------------------------------------------------


def _described(rng: Rng) -> bytes:
    """Return the header of an array that nobody wrote."""
    shape = ", ".join(str(_pick(rng, INTEGERS)) for _ in range(int(rng.integers(1, 4))))
    text = _pick(rng, (
        f"{{'descr': '{_pick(rng, DTYPES)}', 'fortran_order': False, 'shape': ({shape},), }}",
        f"{{'descr': {_pick(rng, DTYPES)!r}, 'fortran_order': 3, 'shape': ({shape},), }}",
        f"{{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': ({shape}), }}",
        "(" * int(rng.integers(1, 3000)), "{'descr': '|O', 'fortran_order': True, 'shape': (1,)}",
        "{}", "7", "{'descr': '<f8', 'shape': ((((",
    ))  # fmt: skip
    body = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(body)) + body + bytes(int(rng.integers(99)))


def _archived(members: dict[str, bytes], rng: Rng) -> bytes:
    buffer = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            method = methods[int(rng.integers(2 if rng.random() < 0.9 else 4))]
            file.writestr(zipfile.ZipInfo(name), content, method)
    return buffer.getvalue()


def archive(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Change arrays of a ``.npz``, their headers, names and number."""
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        members = {name: file.read(name) for name in file.namelist()}
    for _ in range(_few(rng)):
        name, chance = _pick(rng, list(members)), rng.random()
        if chance < 0.5:
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, _array(rng), allow_pickle=False)
            members[name] = buffer.getvalue()
        elif chance < 0.75:
            members[name] = _described(rng)
        elif chance < 0.85:
            members[_pick(rng, [*members, "y.npy", "notes.txt"])] = members.pop(name)
        elif chance < 0.9 and len(members) > 1:
            del members[name]
        else:
            members[name] = bits(members[name], rng, folder)
    return _archived(members, rng)


def fields(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Change the flags, method, version or sizes of an archive's entries."""
    damaged = bytearray(content)
    central = rng.random() < 0.7
    signature, offsets = (
        (b"PK\x01\x02", (6, 8, 10, 16, 20, 24, 28, 30, 42)) if central
        else (b"PK\x03\x04", (4, 6, 8, 14, 18, 22, 26, 28))
    )  # fmt: skip
    starts = [item.start() for item in re.finditer(re.escape(signature), content)]
    at = _pick(rng, starts) + int(_pick(rng, offsets))
    for place, value in enumerate(rng.integers(0, 256, int(rng.integers(1, 3)))):
        damaged[min(at + place, len(damaged) - 1)] = int(value)
    return bytes(damaged)


# --- ONNX ----------------------------------------------------------------------------------------


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for item in node.attribute:
            if item.type == AttributeProto.GRAPH:
                yield from _graphs(item.g)


def _tensor(rng: Rng, name: str) -> onnx.TensorProto:
    values = _array(rng)
    while values.dtype.kind in "USc" or values.dtype.byteorder == ">":
        values = _array(rng)
    return numpy_helper.from_array(values, name)


def _changed_node(graph: onnx.GraphProto, rng: Rng) -> None:
    node = _pick(rng, list(graph.node))
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    chance = rng.random()
    if chance < 0.3 and node.input:
        node.input[int(rng.integers(len(node.input)))] = _pick(rng, [*names, "", "nothing"])
    elif chance < 0.4 and node.input:
        del node.input[int(rng.integers(len(node.input)))]
    elif chance < 0.5:
        node.input.append(_pick(rng, names))
    elif chance < 0.6:
        node.op_type = _pick(rng, [item.op_type for item in graph.node] + list(OPERATORS))
    elif chance < 0.7 and node.attribute:
        del node.attribute[int(rng.integers(len(node.attribute)))]
    elif chance < 0.9:
        key = _pick(rng, [item.name for item in node.attribute] + list(ATTRIBUTES))
        kept = [item for item in node.attribute if item.name != key]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(key, _value(rng))])
    elif len(graph.node) > 1:
        graph.node.remove(node)


OPERATORS = (
    "Add", "Mul", "Concat", "Tile", "Expand", "Gemm", "MatMul", "Conv", "If", "Scan", "Pad", "Loop",
    "Gather", "Slice", "Reshape", "Transpose", "Split", "Resize", "ConstantOfShape", "Where",
    "Cast", "Squeeze", "Relu", "Floor", "Clip", "Range", "Identity", "Einsum", "AveragePool",
    "Flatten", "ReduceSum", "Dropout", "NoSuch",
)  # fmt: skip
ATTRIBUTES = ("axis", "axes", "perm", "to", "alpha", "pads", "strides", "kernel_shape", "group",
              "transA", "value", "keepdims", "dilations", "num_scan_inputs", "mode")  # fmt: skip


def _value(rng: Rng) -> Any:
    def small() -> int:
        return int(np.clip(_pick(rng, INTEGERS), -(1 << 63), (1 << 63) - 1))

    return _pick(rng, (
        small(), [small() for _ in range(int(rng.integers(1, 6)))],
        float(_pick(rng, FLOATS)), [0.5, 1.5], "text", ["a", "b"], _tensor(rng, "t"),
    ))  # fmt: skip


def model(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Change nodes, constants, inputs or outputs of a model."""
    found = onnx.load_model_from_string(content)
    for _ in range(_few(rng)):
        graph = _pick(rng, list(_graphs(found.graph)))
        chance = rng.random()
        if chance < 0.6 and graph.node:
            _changed_node(graph, rng)
        elif chance < 0.75 and graph.initializer:
            place = int(rng.integers(len(graph.initializer)))
            tensor = graph.initializer[place]
            if rng.random() < 0.5:
                tensor.CopyFrom(_tensor(rng, tensor.name))
            elif tensor.dims:
                extent = int(np.clip(_pick(rng, INTEGERS), -(1 << 63), (1 << 63) - 1))
                tensor.dims[int(rng.integers(len(tensor.dims)))] = extent
            else:
                tensor.data_type = int(_pick(rng, (0, 1, 6, 7, 8, 9, 10, 11, 99)))
        elif graph.input:
            entry = _pick(rng, [*graph.input, *graph.output])
            axes = entry.type.tensor_type.shape.dim
            if axes and rng.random() < 0.8:
                extent = int(np.clip(_pick(rng, INTEGERS), -(1 << 63), (1 << 63) - 1))
                axes[int(rng.integers(len(axes)))].dim_value = extent
            elif rng.random() < 0.5:
                entry.name = str(_pick(rng, TEXTS)).replace("\u202e", "")
            else:
                entry.type.tensor_type.elem_type = int(_pick(rng, (TensorProto.INT64, 9, 0, 99)))
    return bytes(found.SerializeToString())


# --- HDF5 ----------------------------------------------------------------------------------------


def tree(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Change data sets and groups of an HDF5 file."""
    path = folder / "tree.h5"
    path.write_bytes(content)
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(_few(rng)):
            _changed_item(file, str(_pick(rng, names)), names, rng)
    return path.read_bytes()


def _changed_item(file: Any, name: str, names: Sequence[str], rng: Rng) -> None:
    if name not in file:
        return
    item, chance = file[name], rng.random()
    if chance < 0.1:
        del file[name]
    elif chance < 0.2:
        other = str(_pick(rng, names))
        if other in file and other != name and not other.startswith(f"{name}/"):
            copy = file[other][()] if isinstance(file[other], h5py.Dataset) else None
            del file[name]
            if copy is None:
                file.create_group(name)
            else:
                file[name] = copy
    elif not isinstance(item, h5py.Dataset):
        file[f"{name}/{_pick(rng, ('x', '7', 'type', 'weight'))}_"] = 1
    else:
        values = _other_values(item[()], rng)
        del file[name]
        file[name] = values


def _other_values(values: Any, rng: Rng) -> Any:
    array = np.asarray(values)
    if array.dtype.kind in "iufb" and rng.random() < 0.7:
        chance = rng.random()
        if chance < 0.5:
            flat = array.astype(np.float64).reshape(-1).copy()
            if flat.size:
                extremes = (*FLOATS, *(float(n) for n in INTEGERS))
                some = slice(None) if rng.random() < 0.5 else slice(0, 1)
                flat[some] = _pick(rng, extremes)
            return flat.reshape(array.shape)
        if chance < 0.8 and array.ndim:
            return np.moveaxis(array, 0, -1)[..., : int(rng.integers(0, 4))]
        return array.reshape(-1) if chance < 0.9 else array[None]
    found = _array(rng)
    if found.dtype.kind == "U":
        return _pick(rng, ([b"LIF", b"LIF"], b"LIF", b"", "x" * 500, "é"))
    return found


# --- TOML ----------------------------------------------------------------------------------------


def lines(content: bytes, rng: Rng, folder: Path) -> bytes:
    """Change values and lines of a target file."""
    found = content.decode().splitlines()
    for _ in range(_few(rng)):
        at = int(rng.integers(len(found)))
        key, equals, _ = found[at].partition("=")
        chance = rng.random()
        if equals and chance < 0.75:
            found[at] = f"{key}= {_literal(rng)}"
        elif chance < 0.85:
            del found[at]
        elif chance < 0.95:
            found.insert(int(rng.integers(len(found))), found[at])
        else:
            found[at] = str(_pick(rng, TEXTS))
        found = found or [""]
    return "\n".join(found).encode()


def _literal(rng: Rng) -> str:
    deep = int(rng.integers(1, 400))
    return str(_pick(rng, (
        _pick(rng, INTEGERS), repr(_pick(rng, FLOATS)), "true", "'x'", "''", "[]", "[1]", "[0, 1]",
        "[3, 1]", "[[1], 2]", "{}", "{a = 1}", "1979-05-27", "[" * deep + "]" * deep,
        "1" * 5000, "0x" + "f" * 300, "[0, inf]", "nan", "[1e308, 1e309]", "9" * 30,
    )))  # fmt: skip


#: What may be done to the files of each format.
CHANGES: dict[str, tuple[Change, ...]] = {
    "spk": (*ANY, *[container] * 12),
    "st": (*ANY, *[container] * 12),
    "onnx": (*ANY, model, model, model, model),
    "nir": (bits, cut, tree, tree, tree, tree),
    "net": (bits, cut, tree, tree, tree, tree),
    "npz": (*ANY, archive, archive, archive, fields),
    "trace": (*ANY, archive, archive, archive, fields),
    "events": (*ANY, archive, archive, archive, fields),
    "toml": (bits, cut, doubled, lines, lines, lines, lines),
}
