"""The quantization benchmark runs in its short form, and names the goals that are missed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(not FOLDER.is_dir(), reason="the source tree is not beside the tests"),
]


@pytest.fixture
def quantization(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    import quantization

    return quantization


def test_the_short_form_compares_three_ways_on_other_samples(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "quantization.py", "--quick", "--output", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "quantization.json").read_text(encoding="utf-8"))
    assert [item["name"] for item in document["networks"]] == [
        "mnist-feedforward", "mnist-recurrent", "mnist-convolution",
    ]  # fmt: skip
    for network in document["networks"]:
        assert network["calibration"] + network["samples"] == 40
        assert len(network["points"]) == 3
        mismatch = {(item["bits"], item["way"]): item["mismatch"] for item in network["points"]}
        assert mismatch[2, "fitted"] < mismatch[2, "max-abs"]
    assert "| 2 |" in (tmp_path / "quantization.md").read_text(encoding="utf-8")


def test_missed_goals_are_named(quantization: ModuleType) -> None:
    def point(bits: int, way: str, lost: int, gained: int) -> dict[str, object]:
        right = [True] * lost + [False] * gained + [True] * (1000 - lost - gained)
        after = [False] * lost + [True] * gained + [True] * (1000 - lost - gained)
        change = quantization.changed(np.array(right), np.array(after))
        return {"bits": bits, "way": way, "change": quantization.asdict(change)}

    good = [point(8, "fitted", 2, 1), point(4, "fitted", 5, 0), point(3, "fitted", 10, 0),
            point(2, "fitted", 50, 0), point(2, "least squares", 100, 0)]  # fmt: skip
    assert not list(quantization.verdicts({"points": good}))
    bad = [point(8, "fitted", 20, 0), point(4, "fitted", 6, 0), point(3, "fitted", 11, 0),
           point(2, "fitted", 51, 0), point(2, "least squares", 100, 0)]  # fmt: skip
    found = list(quantization.verdicts({"points": bad}))
    assert [text.split(":")[0] for text in found] == [
        f"missed at {bits} bits" for bits in (8, 4, 3, 2)
    ]
