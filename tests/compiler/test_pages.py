"""Arrays that stay in their file are the arrays that were written there."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from spikec.compiler import pages
from spikec.compiler.arrays import Array

#: Elements before the array in the file, so that it begins within a page.
SHAPE, BEFORE = (700, 11000), 5
#: kB that the kernel may map on either side of what is asked for: it takes them in large pieces.
AROUND = 2048


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Path, Array]:
    """A file of 16-bit integers, and what it holds from the ``BEFORE``-th on."""
    values = np.random.default_rng(0).integers(-300, 300, SHAPE).astype(np.int16)
    path = tmp_path / "values"
    path.write_bytes(bytes(2 * BEFORE) + values.tobytes())
    return path, values


def mapped(path: Path) -> Array:
    with path.open("rb") as file:
        return pages.of_file(file, 2 * BEFORE, SHAPE, np.int16)


def resident(path: Path) -> int:
    """Return how many kB of a mapped file are in memory as this process sees it."""
    found, inside = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if "-" in line.split(" ", 1)[0]:
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            found += int(line.split()[1])
    return found


@pytest.mark.parametrize("least", [0, 1 << 40])
def test_an_array_is_what_was_written(
    least: int, stored: tuple[Path, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LARGE", least)
    path, values = stored
    array = mapped(path)
    assert isinstance(array.base, mmap.mmap) == (least == 0)
    assert not array.flags.writeable
    np.testing.assert_array_equal(array, values)


def test_what_is_let_go_comes_back(
    stored: tuple[Path, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LARGE", 0)
    path, values = stored
    array = mapped(path)
    assert array.sum() == values.sum()
    whole = resident(path)
    assert whole * 1024 >= values.nbytes
    pages.let_go(array[300:500])
    assert 0 < resident(path) < whole
    pages.let_go(array[:0])
    pages.let_go(array)
    assert resident(path) == 0
    np.testing.assert_array_equal(array, values)


def test_nothing_is_let_go_of_other_arrays() -> None:
    values = np.arange(10)
    pages.let_go(values[2:])
    assert values.tolist() == list(range(10))


def test_a_file_is_read_in_parts_that_do_not_stay(
    stored: tuple[Path, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LARGE", 0)
    path, values = stored
    array = mapped(path)
    parts = []
    for part in pages.blocks(array):
        assert resident(path) <= 1024 + 2 * AROUND
        parts.append(part.copy())
    np.testing.assert_array_equal(np.concatenate(parts), values.reshape(-1))
    assert len(parts) > 10
    assert resident(path) <= AROUND


@pytest.mark.parametrize("turned", [False, True])
def test_pieces_are_rows_and_columns_in_order(
    turned: bool, stored: tuple[Path, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages, "LARGE", 0)
    path, values = stored
    rng = np.random.default_rng(1)
    rows = rng.permutation(SHAPE[0])[:300] if turned else slice(100, 600)
    columns = rng.permutation(SHAPE[1]) if turned else None
    expected = values[rows][:, slice(None) if columns is None else columns]
    found = np.zeros_like(expected)
    array = mapped(path)
    for place, part in pages.pieces(array, rows, columns):
        found[:, place] = part
    np.testing.assert_array_equal(found, expected)
    assert resident(path) <= 2 * AROUND < 500 * array.strides[0] / 1024


@pytest.mark.parametrize("values", [[], [0, 0], [4, -12], [-256, 254], [1, 2, 4], [8]])
def test_span(values: list[int]) -> None:
    low, high, bits = pages.span(np.array(values, np.int16))
    assert (low, high) == (min([0, *values]), max([0, *values]))
    zeros = pages.low_zeros(bits)
    if any(values):
        assert all(value % (1 << zeros) == 0 for value in values)
        assert any(value % (2 << zeros) for value in values)
    else:
        assert zeros == 0
