"""Files that are something else are named for what they are, by every reader."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from safetensors.numpy import save

from spikec.compiler import frontends
from spikec.compiler.errors import FrontendError, SpikecError, UsageError
from spikec.compiler.frontends import native
from spikec.compiler.ir import LI, Graph, Input
from spikec.compiler.npz import npz_bytes, read_npz
from spikec.compiler.targets import load_target


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name.replace("_", "/", 1).replace("_", "."), content)
    return buffer.getvalue()


def hdf5(*groups: str) -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        for name in groups:
            file.create_group(name)
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("file"))
    return buffer.getvalue()


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 9\n"

#: What it is, its content, and words of what is said and of what to do.
FOREIGN = {
    "pointer": (POINTER, "Git LFS pointer", "git lfs pull"),
    "torch": (zipped(model_data_pkl=b"x", model_version=b"3"), "PyTorch", "ONNX"),
    "legacy torch": (pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2), "PyTorch", "ONNX"),
    "pickle": (pickle.dumps({"a": 1}), "pickle", "ONNX"),
    "npy": (npy(), ".npy", "numpy.savez"),
    "keras": (hdf5("model_weights"), "Keras", "ONNX"),
    "weights": (save({"w": np.zeros(3, np.float32)}), "another library", "ONNX"),
    "json": (json.dumps({"a": [1, 2]}).encode(), "JSON", "name"),
    "long json": (json.dumps(list(range(9999))).encode(), "JSON", "name"),
    "tar": (tar(), "tar archive", "unpack"),
    "gzip": (gzip.compress(b"x"), "gzip", "unpack"),
    "page": (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page", "download"),
    "picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG", "arrays"),
    "photo": (b"\xff\xd8\xff\xe0" + bytes(50), "JPEG", "arrays"),
    "empty": (b"", "it is empty", "copy"),
}  # fmt: skip


def told(error: SpikecError) -> str:
    (item,) = error.diagnostics
    return f"{item.message}; {item.hint}"


@pytest.mark.parametrize(("content", "what", "remedy"), FOREIGN.values(), ids=FOREIGN.keys())
def test_every_reader_names_what_it_is_given(
    content: bytes, what: str, remedy: str, tmp_path: Path
) -> None:
    for name in ("file", "file.onnx", "file.npz"):
        path = tmp_path / name
        path.write_bytes(content)
        for read in (frontends.load, read_npz):
            with pytest.raises(FrontendError) as caught:
                read(path)
            assert what in told(caught.value)
            assert remedy in told(caught.value)


@pytest.mark.parametrize("name", ["pointer", "torch", "npy", "page", "gzip", "json"])
def test_a_target_that_is_something_else_is_named(name: str, tmp_path: Path) -> None:
    content, what, _ = FOREIGN[name]
    path = tmp_path / "t.toml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        load_target(str(path))
    assert what in told(caught.value)


def test_data_as_network_and_a_network_as_data(tmp_path: Path) -> None:
    data, zipfile_ = tmp_path / "data", tmp_path / "zip"
    data.write_bytes(npz_bytes({"spikes": np.zeros(3)}))
    zipfile_.write_bytes(zipped(a_txt=b"text"))
    with pytest.raises(FrontendError, match=r"\.npz file of arrays\n.*--data"):
        frontends.load(data)
    with pytest.raises(FrontendError, match="a zip archive"):
        frontends.load(zipfile_)
    readout = LI(name="o", shape=(2,), alpha=None, beta=np.array(0.5), coupling="immediate")
    native.write(Graph(nodes=[Input(name="i", shape=(2,)), readout], edges=[], outputs=["o"]), data)
    with pytest.raises(FrontendError, match=r"a network of spikec\n.*FILE"):
        read_npz(data)
