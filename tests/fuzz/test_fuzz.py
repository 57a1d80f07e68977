"""Some damaged files of every format; ``make fuzz`` tries as many as are wanted."""

from __future__ import annotations

import resource  # noqa: F401 - damaged files are not tried where memory cannot be measured
from pathlib import Path

import pytest
from support.fuzz import FORMATS, attempts

#: How many files of each format a commit is tried with: about four seconds each.
COUNTS = {"onnx": 60, "nir": 150, "net": 100, "spk": 150, "st": 150}
OTHERS = 400


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_is_taken_or_refused_by_name(kind: str, tmp_path: Path) -> None:
    outcomes = attempts(kind, range(COUNTS.get(kind, OTHERS)), 0, tmp_path)
    assert not outcomes.findings
    assert outcomes.counts["clean"] > outcomes.counts.total() // 4
    assert outcomes.counts["taken"] > 0
