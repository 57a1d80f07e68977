"""Damaged ``.npz`` files: one error that names the file, before memory or disk is taken."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spikec.compiler import limits
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError, UsageError
from spikec.compiler.event_file import read_events
from spikec.compiler.npz import map_npz, npz_bytes, read_npz
from spikec.compiler.trace_file import read_trace_and_units
from spikec.compiler.verification.difference import Differences, Recorded


def npy(header: str, content: bytes = b"") -> bytes:
    """Return an array's file with any header at all."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


def described(shape: str, dtype: str, content: bytes = b"") -> bytes:
    return npy(f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}", content)


def archive(content: bytes, *, method: int = zipfile.ZIP_STORED, name: str = "x.npy") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr(name, content)
    return buffer.getvalue()


def patched(content: bytes, *, local: int, central: int, value: bytes) -> bytes:
    """Return an archive of one entry with a field of both its headers replaced."""
    found = bytearray(content)
    found[local : local + len(value)] = value
    place = content.index(b"PK\x01\x02") + central
    found[place : place + len(value)] = value
    return bytes(found)


SOUND = archive(described("(3,)", "'<i4'", bytes(12)))
HEADERS = {
    "a parser's own error": npy("{'descr': '<f8', 'shape': ((("),
    "nested without end": npy("(" * 5000),
    "not a table": npy("7"),
    "another version": b"\x93NUMPY\x09\x00" + bytes(80),
    "objects": described("(1,)", "'|O'", bytes(8)),
    "dates": described("(1,)", "'<M8[s]'", bytes(8)),
    "records": described("(1,)", "[('a', '<f8')]", bytes(8)),
    "texts without length": described("(1152921504606846976,)", "'<U0'"),
    "fewer than nothing": described("(-3,)", "'<i4'", bytes(12)),
    "more than bytes": described("(4,)", "'<i4'", bytes(12)),
    "fewer than bytes": described("(2,)", "'<i4'", bytes(12)),
    "nothing of much": described("(0, 9223372036854775808)", "'<i4'"),
    "much more than bytes": described("(4611686018427387904, 16)", "'<f8'", bytes(8)),
    "many axes": described("(" + "1," * 80 + ")", "'<i4'", bytes(4)),
}
ARCHIVES = {name: archive(content) for name, content in HEADERS.items()} | {
    "encrypted": patched(SOUND, local=6, central=8, value=b"\x01\x00"),
    "encrypted well": patched(SOUND, local=6, central=8, value=b"\x41\x00"),
    "a patch": patched(SOUND, local=6, central=8, value=b"\x20\x00"),
    "an unknown method": patched(SOUND, local=8, central=10, value=b"\x63\x00"),
    "another method": patched(SOUND, local=8, central=10, value=b"\x0e\x00"),
    "not deflated": patched(SOUND, local=8, central=10, value=b"\x08\x00"),
    "a later version": patched(SOUND, local=4, central=6, value=b"\xff\x00"),
    "bzip2": archive(described("(3,)", "'<i4'", bytes(12)), method=zipfile.ZIP_BZIP2),
    "lzma": archive(described("(3,)", "'<i4'", bytes(12)), method=zipfile.ZIP_LZMA),
    "cut": SOUND[:-30],
    "no array": archive(b"text", name="notes.txt"),
    "a changed element": SOUND.replace(bytes(12), bytes(11) + b"\x01"),
}


UNREADABLE = "(not a readable|it is a zip archive, cut short or damaged)"


@pytest.mark.parametrize("name", ARCHIVES)
def test_damage_is_one_error_about_the_file(name: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.npz"
    path.write_bytes(ARCHIVES[name])
    for read in (read_npz, lambda path: map_npz(path, tmp_path)):
        with pytest.raises(FrontendError, match=rf"F010 at .*damaged.npz: {UNREADABLE}"):
            read(path)


def test_what_is_sound_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sound.npz"
    path.write_bytes(SOUND)
    assert read_npz(path)["x"].tolist() == [0, 0, 0]
    assert map_npz(path, tmp_path)[0]["x"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", ["?", "<i8", ">f4", "<c16", "<U3", "|S2", "<f2"])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_saves_is_read(save: Callable[..., None], dtype: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2, (2, 3, 4)).astype(dtype)
    arrays = {"c": values, "f": np.asfortranarray(values), "n": values[:0], "s": values[0, 0, 0]}
    save(tmp_path / "a.npz", **arrays)
    loaded, _ = map_npz(tmp_path / "a.npz", tmp_path)
    for found in (read_npz(tmp_path / "a.npz"), loaded):
        for name, expected in arrays.items():
            assert found[name].dtype == expected.dtype
            np.testing.assert_array_equal(found[name], expected)


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "two.npz", "w") as file:
        for name in ("x", "x.npy"):
            file.writestr(name, described("(3,)", "'<i4'", bytes(12)))
    with pytest.raises(FrontendError, match="it holds 'x' twice"):
        read_npz(tmp_path / "two.npz")


@pytest.mark.parametrize("shape", ["(1048576,)", "(5,)"])
def test_an_archive_grows_in_proportion(
    shape: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether its header tells the truth or not, nothing is unpacked, in memory or on disk."""
    monkeypatch.setattr(limits, "_FREE", 1000)
    content = described(shape, "'<u1'", bytes(1 << 20))
    (tmp_path / "bomb.npz").write_bytes(archive(content, method=zipfile.ZIP_DEFLATED))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for read in (read_npz, lambda path: map_npz(path, folder)):
        with pytest.raises(FrontendError, match=r"unpacks to 1,048,\d+ bytes, and a file of its"):
            read(tmp_path / "bomb.npz")
    assert not list(folder.iterdir())


def test_what_we_write_is_read_however_well_it_shrinks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_FREE", 0)
    silence = {"hidden/spikes": np.zeros((10, 1000, 200), np.uint8)}
    (tmp_path / "trace.npz").write_bytes(npz_bytes(silence))
    assert read_npz(tmp_path / "trace.npz")["hidden/spikes"].shape == (10, 1000, 200)


SPIKES = np.zeros((2, 5, 3), np.uint8)
TRACE = {
    "h/spikes": SPIKES, "h/voltage": np.zeros((2, 5, 3)), "o/voltage": np.zeros((2, 5, 2)),
    "h/lsb": np.array(0.5), "h/voltage_offset": np.zeros(3), "output": np.array(["o"]),
}  # fmt: skip
WRONG_TRACES: dict[str, tuple[str, Array]] = {
    "texts for spikes": ("h/spikes", np.full((2, 5, 3), "x")),
    "complex voltages": ("h/voltage", np.zeros((2, 5, 3), complex)),
    "no axis of neurons": ("h/spikes", SPIKES[..., 0]),
    "one number": ("o/voltage", np.array(1.0)),
    "other steps": ("o/voltage", np.zeros((2, 4, 2))),
    "other samples": ("o/voltage", np.zeros((1, 5, 2))),
    "other neurons": ("h/voltage", np.zeros((2, 5, 4))),
    "a text for a unit": ("h/lsb", np.array("x")),
    "a complex unit": ("h/lsb", np.array(1j)),
    "several units": ("h/lsb", np.ones(3)),
    "no finite unit": ("h/lsb", np.array(np.inf)),
    "offsets of others": ("h/voltage_offset", np.zeros(4)),
    "offsets in words": ("h/voltage_offset", np.full(3, "x")),
    "numbers for outputs": ("output", np.array([1.0])),
    "one text for outputs": ("output", np.array("o")),
    "events without counts": ("event_names", np.array(["current"])),
    "half an event": ("event_counts", np.array([0.5])),
}


@pytest.mark.parametrize("name", WRONG_TRACES)
def test_arrays_of_no_one_run_are_no_trace(name: str, tmp_path: Path) -> None:
    key, values = WRONG_TRACES[name]
    (tmp_path / "t.npz").write_bytes(npz_bytes(TRACE))
    trace, units = read_trace_and_units(tmp_path / "t.npz")
    assert trace.outputs == ("o",)
    assert units["h"].lsb == 0.5
    (tmp_path / "t.npz").write_bytes(npz_bytes({**TRACE, key: values}))
    with pytest.raises(FrontendError, match=r"F031 at .*t.npz, '"):
        read_trace_and_units(tmp_path / "t.npz")


@pytest.mark.parametrize("shape", [(0, 5, 3), (2, 0, 3), (2, 5, 0)])
def test_traces_of_nothing_are_equal(shape: tuple[int, ...], tmp_path: Path) -> None:
    empty = {"h/spikes": np.zeros(shape, np.uint8), "output": np.array(["h"])}
    (tmp_path / "t.npz").write_bytes(npz_bytes(empty))
    trace, _ = read_trace_and_units(tmp_path / "t.npz")
    found = Differences()
    found.add(Recorded(name="a", trace=trace), Recorded(name="b", trace=trace))
    assert found.report().same


EVENTS = {
    "h/sample": np.array([0, 1], np.int32), "h/step": np.array([4, 0]),
    "h/neuron": np.array([5, 0], np.int32), "h/shape": np.array([2, 3]),
    "samples": np.array(2), "steps": np.array(5), "output": np.array(["h"]),
}  # fmt: skip
WRONG_EVENTS: dict[str, tuple[str, Array]] = {
    "a negative neuron": ("h/neuron", np.array([-1, 0])),
    "a neuron beyond": ("h/neuron", np.array([6, 0])),
    "a step beyond": ("h/step", np.array([1 << 62, 0])),
    "a sample beyond": ("h/sample", np.array([2, 0])),
    "texts for samples": ("h/sample", np.array(["a", "b"])),
    "fractions of steps": ("h/step", np.array([0.5, 0.0])),
    "columns of two axes": ("h/neuron", np.zeros((2, 1), int)),
    "another length": ("h/neuron", np.zeros(3, int)),
    "a shape of two axes": ("h/shape", np.array([[2, 3]])),
    "an empty shape": ("h/shape", np.zeros(0, int)),
    "a shape of nothing": ("h/shape", np.array([0, 3])),
    "a negative shape": ("h/shape", np.array([-2, -3])),
    "a shape beyond any": ("h/shape", np.array([1 << 62, 1 << 62])),
    "a list of steps": ("steps", np.array([5])),
    "fractions of samples": ("samples", np.array(2.5)),
    "fewer than no steps": ("steps", np.array(-5)),
    "counts in words": ("h/count", np.array(["a", "b"])),
    "numbers for outputs": ("output", np.array([1])),
    "too few predictions": ("predictions", np.array([1])),
    "predictions in words": ("predictions", np.array(["a", "b"])),
}


@pytest.mark.parametrize("name", WRONG_EVENTS)
def test_columns_of_no_one_run_are_no_events(name: str, tmp_path: Path) -> None:
    key, values = WRONG_EVENTS[name]
    (tmp_path / "e.npz").write_bytes(npz_bytes(EVENTS))
    assert read_events(tmp_path / "e.npz").spikes("h").sum() == 2
    (tmp_path / "e.npz").write_bytes(npz_bytes({**EVENTS, key: values}))
    with pytest.raises(FrontendError, match=r"F031 at .*e.npz: it does not hold the events"):
        read_events(tmp_path / "e.npz")


def test_a_dense_array_out_of_proportion_is_refused(tmp_path: Path) -> None:
    (tmp_path / "e.npz").write_bytes(npz_bytes({**EVENTS, "steps": np.array(1 << 40)}))
    with pytest.raises(UsageError, match="U117 at events of 'h': as a dense array"):
        read_events(tmp_path / "e.npz").spikes("h")
