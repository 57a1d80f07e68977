"""Axes of data: every order of them is read by its layout, and others are refused or said."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.axes import CompiledFor, Layout, Layouts, fits, parse_layouts
from spikec.compiler.errors import UsageError
from spikec.compiler.inputs import Dataset, open_stream, read_dataset
from spikec.compiler.program import ProgramInput

SAMPLES, STEPS = 3, 5
CHW: Shape = (2, 4, 6)


def entry(shape: Shape, name: str = "in") -> ProgramInput:
    return ProgramInput(name=name, shape=shape, kind="graded", low=0, high=1 << 20)


def numbered(*shape: int) -> Array:
    return np.arange(size(shape)).reshape(shape)


def read(folder: Path, values: Array, shape: Shape, **more: object) -> Dataset:
    labels = {"labels": np.arange(int(more.pop("labels")))} if "labels" in more else {}  # type: ignore[call-overload]
    np.savez(folder / "data.npz", spikes=values, **labels)
    layout = more.pop("layout", None)
    if layout is not None:
        more["layouts"] = parse_layouts(str(layout))
    return read_dataset(folder / "data.npz", [entry(shape)], **more)  # type: ignore[arg-type]


def refusal(folder: Path, values: Array, shape: Shape, **more: object) -> str:
    with pytest.raises(UsageError) as caught:
        read(folder, values, shape, **more)
    (finding,) = caught.value.diagnostics
    return f"{finding.code} {finding.message}; {finding.hint}"


@pytest.mark.parametrize("letters", ["NTF", "NTCHW"])
def test_every_order_of_axes_is_read_by_its_layout(letters: str, tmp_path: Path) -> None:
    features = CHW if "C" in letters else (7,)
    values = numbered(SAMPLES, STEPS, *features)
    for order in map("".join, permutations(letters)):
        moved = values.transpose([letters.index(letter) for letter in order])
        found = read(tmp_path, moved, features, layout=order, labels=SAMPLES)
        np.testing.assert_array_equal(found.inputs["in"], values)
        stream = open_stream(
            tmp_path / "data.npz", [entry(features)], tmp_path, layouts=parse_layouts(order)
        )
        part = stream.read(slice(1, 3), slice(2, 4))["in"]
        np.testing.assert_array_equal(part, values[1:3, 2:4])


@pytest.mark.parametrize("order", ["".join(order) for order in permutations("NTCHW")])
def test_no_other_order_passes_where_shapes_differ(order: str, tmp_path: Path) -> None:
    """All extents differ here, so every other order is seen; the layout that fits is named."""
    moved = numbered(SAMPLES, STEPS, *CHW).transpose(["NTCHW".index(item) for item in order])
    if order == "NTCHW":
        read(tmp_path, moved, CHW, labels=SAMPLES)
        return
    assert f"--layout {order}" in refusal(tmp_path, moved, CHW, labels=SAMPLES)


def test_missing_axes(tmp_path: Path) -> None:
    images = numbered(SAMPLES, 7)
    assert read(tmp_path, images, (7,), layout="NF").inputs["in"].shape == (SAMPLES, 1, 7)
    assert read(tmp_path, images, (7,), layout="TF").inputs["in"].shape == (1, SAMPLES, 7)
    shown = read(tmp_path, images.T, (7,), layout="FN", steps=4)
    np.testing.assert_array_equal(shown.inputs["in"][:, 3], images)
    assert "--steps N" in refusal(tmp_path, images, (7,))
    channels_last = numbered(SAMPLES, 4, 6, 2)
    assert "NHWC" in refusal(tmp_path, channels_last, CHW, steps=4)
    shown = read(tmp_path, channels_last, CHW, steps=4, layout="NHWC")
    np.testing.assert_array_equal(shown.inputs["in"][:, 2], channels_last.transpose(0, 3, 1, 2))


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
)
@settings(max_examples=300)
def test_features_fit_if_no_axis_changes_its_place(ours: list[int], theirs: list[int]) -> None:
    """Numbered features read into the other shape have to have the same neighbours."""
    given_shape, shape = tuple(ours), tuple(theirs)
    squeezed = [tuple(item for item in axes if item > 1) for axes in (given_shape, shape)]
    flat = any(len(axes) < 2 for axes in squeezed)
    expected = size(given_shape) == size(shape) and (flat or squeezed[0] == squeezed[1])
    assert fits(given_shape, shape) == expected


def test_labels_tell_samples_from_steps(tmp_path: Path) -> None:
    time_first = numbered(STEPS, SAMPLES, 7)
    text = refusal(tmp_path, time_first, (7,), labels=SAMPLES)
    assert "U046 has shape [5, 3, 7]" in text
    assert "--layout TNF" in text
    found = read(tmp_path, time_first, (7,), labels=SAMPLES, layout="TNF")
    np.testing.assert_array_equal(found.inputs["in"], time_first.transpose(1, 0, 2))
    assert "U043" in refusal(tmp_path, time_first, (7,), labels=4)


def test_a_program_tells_samples_from_steps(tmp_path: Path) -> None:
    time_first = numbered(STEPS, SAMPLES, 7)
    known = CompiledFor(STEPS, presented=False)
    assert "compiled for 5 steps" in refusal(tmp_path, time_first, (7,), compiled_for=known)
    assert not read(tmp_path, time_first, (7,)).notes
    for layout in ("NTF", "TNF"):  # both settle it
        read(tmp_path, time_first, (7,), compiled_for=known, layout=layout)
    read(tmp_path, time_first, (7,), compiled_for=known, labels=STEPS)  # so do labels


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    (note,) = read(tmp_path, numbered(4, 4, 7), (7,), labels=4).notes
    assert "--layout TNF reads steps first" in note
    assert not read(tmp_path, numbered(4, 4, 7), (7,), labels=4, layout="NTF").notes
    (note,) = read(tmp_path, numbered(2, 3, 4, 4, 4), (4, 4, 4)).notes
    assert "--layout NTHWC" in note
    (note,) = read(tmp_path, numbered(2, 3, 4, 6, 2), (48,)).notes
    assert "row by row" in note
    flat = read(tmp_path, numbered(2, 3, 4, 6, 2), (48,), layout="NTHWC").inputs["in"]
    expected = numbered(2, 3, 4, 6, 2).transpose(0, 1, 4, 2, 3).reshape(2, 3, 48)
    np.testing.assert_array_equal(flat, expected)


def test_steps_of_before_are_taken_again(tmp_path: Path) -> None:
    known = CompiledFor(6, presented=True)
    for values in (numbered(SAMPLES, 7), numbered(SAMPLES, 1, 7)):
        found = read(tmp_path, values, (7,), compiled_for=known)
        assert found.num_steps == 6
        assert "presented for 6" in found.notes[0]
        other = read(tmp_path, values, (7,), compiled_for=known, steps=2)
        assert (other.num_steps, other.notes) == (2, ())
    longer = read(tmp_path, numbered(SAMPLES, 4, 7), (7,), compiled_for=known)
    assert (longer.num_steps, longer.notes) == (4, ())
    (note,) = read(tmp_path, numbered(SAMPLES, 1, 7), (7,)).notes
    assert "--steps N" in note


def test_several_inputs_have_layouts_of_their_own(tmp_path: Path) -> None:
    values = {"a": numbered(STEPS, SAMPLES, 7), "b": numbered(SAMPLES, STEPS, 4, 6, 2)}
    np.savez(tmp_path / "two.npz", **values)
    inputs = [entry((7,), "a"), entry(CHW, "b")]
    found = read_dataset(
        tmp_path / "two.npz", inputs, layouts=parse_layouts("a = tnf, NTHWC")
    ).inputs
    assert {name: item.shape for name, item in found.items()} == {
        "a": (SAMPLES, STEPS, 7), "b": (SAMPLES, STEPS, *CHW),
    }  # fmt: skip
    with pytest.raises(UsageError, match="there is no input 'c'"):
        read_dataset(tmp_path / "two.npz", inputs, layouts=parse_layouts("c=NTF"))
    with pytest.raises(UsageError, match="names 3 axes"):
        read_dataset(tmp_path / "two.npz", inputs, layouts=parse_layouts("NTF"))


@pytest.mark.parametrize("text", ["", "NTNF", "NTX", "a=", "NTF,NTF", "a=NTF,a=TNF", "NT F"])
def test_layouts_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="U046"):
        parse_layouts(text)


def test_layouts() -> None:
    assert parse_layouts("a=TNF,NTF") == Layouts(Layout("NTF"), {"a": Layout("TNF")})
    assert parse_layouts("ntchw").of("any") == Layout("NTCHW")


def test_more_samples_than_there_are(tmp_path: Path) -> None:
    text = refusal(tmp_path, numbered(SAMPLES, STEPS, 7), (7,), samples=SAMPLES + 1)
    assert "U047 4 are more than the 3" in text
    with pytest.raises(UsageError, match="U047"):
        open_stream(tmp_path / "data.npz", [entry((7,))], tmp_path, samples=SAMPLES + 1)
