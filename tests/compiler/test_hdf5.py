"""HDF5 files read in a child process: whatever libhdf5 does there, this process goes on."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from spikec.compiler import hdf5
from spikec.compiler.errors import FrontendError
from spikec.compiler.hdf5 import is_hdf5, read_tree, top_level_names

VALUES = (
    np.float64(1.5),
    np.array(True),
    np.arange(6, dtype=np.int8).reshape(2, 3),
    np.arange(4, dtype=">i4"),
    np.array([1.5, np.inf, np.nan], np.float16),
    np.zeros((0, 3), np.float32),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "some.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("a/b")
        for index, values in enumerate(VALUES):
            group[f"values{index}"] = values
        group["words"] = ["é", "", "two words"]
        group["word"] = "one"
        group["fixed"] = np.array([b"ab", b"c"])
        file.create_dataset("z", data=np.ones((50, 50)), chunks=(8, 8), compression="gzip")
    return path


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> hdf5._Child:
    """A child of the test's own."""
    child = hdf5._Child()
    monkeypatch.setattr(hdf5, "_CHILD", child)
    return child


def running(child: hdf5._Child) -> int:
    assert child._process is not None
    return child._process.pid


def test_the_tree_is_what_h5py_reads(path: Path) -> None:
    tree = read_tree(path)
    assert set(tree) == {"a", "z"}
    inner = tree["a"]["b"]
    with h5py.File(path) as file:
        for index in range(len(VALUES)):
            found, expected = inner[f"values{index}"], file[f"a/b/values{index}"][()]
            assert found.shape == expected.shape
            assert (found.dtype.kind, found.dtype.itemsize) == (
                expected.dtype.kind, expected.dtype.itemsize,
            )  # fmt: skip
            np.testing.assert_array_equal(found, expected)
    assert inner["words"].tolist() == ["é", "", "two words"]
    assert (inner["word"].shape, inner["word"][()]) == ((), "one")
    assert inner["fixed"].tolist() == ["ab", "c"]
    np.testing.assert_array_equal(tree["z"], np.ones((50, 50)))
    assert not tree["z"].flags.writeable


def test_one_child_reads_one_file_after_the_other(path: Path, child: hdf5._Child) -> None:
    assert top_level_names(path) == {"a", "z"}
    first = running(child)
    read_tree(path)
    with pytest.raises(FrontendError, match="F062"):
        read_tree(path, max_bytes=10)
    read_tree(path)
    assert running(child) == first


def test_a_child_that_does_not_end_is_ended(
    path: Path, child: hdf5._Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hdf5, "_COMMAND", "import time; time.sleep(600)")
    monkeypatch.setattr(hdf5, "_SECONDS", 0.2)
    with pytest.raises(FrontendError, match=r"F063.*some.h5.*did not come to an end"):
        read_tree(path)
    assert child._process is None
    monkeypatch.undo()
    assert read_tree(path)


def test_an_alarm_ends_a_child_whose_parent_is_gone() -> None:
    """A parent that was killed ends nothing, and a child that libhdf5 holds up reads no pipe."""
    command = (
        "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
        "from spikec.compiler.hdf5 import child; child._GRACE_SECONDS = 0; "
        "child._found = lambda *_: [0 for _ in iter(int, 1)]; child.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-I", "-c", command, json.dumps(sys.path)],
        input=b'{"want": "names", "path": "x.h5", "seconds": 0.1}\n',
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (-signal.SIGALRM, b"")


def test_a_free_list_that_leads_to_itself_holds_up_the_child_only(
    path: Path, child: hdf5._Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libhdf5 2.0 follows such a list for ever; another release may refuse it (F061)."""
    content = bytearray(path.read_bytes())
    heap = content.index(b"HEAP")  # signature, version, size, head of the free list, address
    (data,) = struct.unpack_from("<Q", content, heap + 24)
    struct.pack_into("<Q", content, heap + 16, 16)
    struct.pack_into("<QQ", content, data + 16, 16, 16)  # the next free block, and its size
    path.write_bytes(bytes(content))
    monkeypatch.setattr(hdf5, "_SECONDS", 3.0)
    with pytest.raises(FrontendError, match=r"F063.*did not come to an end|F061"):
        read_tree(path)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("import os; os.abort()", "code -6"),
        ("import sys; sys.exit(3)", "code 3"),
        ("import sys; sys.stdin.readline(); sys.stdout.buffer.write(bytes(3))", "code 0"),
        ("import sys; sys.stdin.readline(); sys.stdout.buffer.write(bytes([255] * 16))", "code 0"),
    ],
)
def test_a_child_that_crashes_is_reported(
    path: Path, child: hdf5._Child, monkeypatch: pytest.MonkeyPatch, command: str, says: str
) -> None:
    monkeypatch.setattr(hdf5, "_COMMAND", command)
    with pytest.raises(FrontendError, match=f"F063.*the process.*ended .{says}"):
        read_tree(path)
    assert child._process is None


def test_what_an_earlier_file_did_is_not_blamed_on_the_next(path: Path, child: hdf5._Child) -> None:
    with pytest.raises(FrontendError, match="F062"):
        read_tree(path, max_bytes=10)
    first = running(child)
    os.kill(first, 9)
    assert set(read_tree(path)) == {"a", "z"}
    assert running(child) != first
    os.kill(running(child), 9)  # this one met no damage: the file would be to blame
    with pytest.raises(FrontendError, match="F063"):
        read_tree(path)


def test_groups_nested_without_end_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "deep.h5", "w") as file:
        file.create_group("/".join("a" * 300))
    with pytest.raises(FrontendError, match=r"F062.*deep"):
        read_tree(tmp_path / "deep.h5")


@pytest.mark.parametrize("place", ["", "a"])
def test_a_name_that_is_no_text_is_refused(tmp_path: Path, place: str) -> None:
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file.create_group("a")
        # The low level takes any bytes as a name.
        h5py.h5g.create(file.require_group(place or "/").id, b"\xff")
    with pytest.raises(FrontendError, match=r"F062.*name b'.xff' is no text"):
        read_tree(path)
    if not place:
        with pytest.raises(FrontendError, match=r"F062.*is no text"):
            top_level_names(path)


def test_errors_name_the_file_as_it_was_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(FrontendError) as caught:
        read_tree(Path("some.h5"), max_bytes=10)
    assert caught.value.diagnostics[0].where.startswith("some.h5: /")


def test_what_is_no_hdf5_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("text")
    assert not is_hdf5(tmp_path / "text")
    assert not is_hdf5(tmp_path / "missing")
    assert top_level_names(tmp_path / "text") == frozenset()
    with pytest.raises(FrontendError, match="F062"):
        read_tree(tmp_path / "text")


def test_this_process_needs_no_libhdf5_and_the_child_no_networks(path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from spikec.compiler.hdf5 import read_tree; "
        f"read_tree(Path({str(path)!r})); print('h5py' in sys.modules); "
        "import spikec.compiler.hdf5.child; print('networkx' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "False"]
    assert found.stderr == ""
