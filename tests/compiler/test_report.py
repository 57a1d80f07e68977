"""A report comes back from JSON as it was; anything else is no report, and no error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from spikec.compiler.inputs import Dataset
from spikec.compiler.quantize import QuantizationReport, compile_mixed
from spikec.compiler.quantize.report import report_from
from spikec.compiler.targets import load_target
from spikec.models import dense, network, seed_lif, seed_readout, spikes


@pytest.fixture(scope="module")
def report() -> QuantizationReport:
    rng = np.random.default_rng(0)
    graph = network(
        nodes=[spikes("in", 12), seed_lif("n", 8, alpha=0.7, beta=0.9),
               seed_readout("out", 3, alpha=0.7, beta=0.9)],
        edges=[dense("in", "n", rng.normal(0, 0.4, (8, 12))),
               dense("n", "out", rng.normal(size=(3, 8)))],
        outputs=["out"],
    )  # fmt: skip
    data = Dataset(inputs={"in": (rng.random((20, 15, 12)) < 0.3).astype(np.uint8)})
    return compile_mixed(graph, load_target("loihi2"), calibration=data, budget=64).report


def test_a_report_comes_back_from_json(report: QuantizationReport) -> None:
    assert report.tradeoff is not None
    assert report.activity
    assert report_from(json.loads(json.dumps(report.as_dict()))) == report


@pytest.mark.parametrize("wrong", [None, 3, [], {}, {"target": "loihi2"}])
def test_anything_else_is_no_report(wrong: object) -> None:
    assert report_from(wrong) is None


@pytest.mark.parametrize(
    ("place", "value"),
    [(("populations", 0, "proof_margin"), "much"), (("populations", 0, "du"), [1, 2, 3]),
     (("weights", 0, "bits"), True), (("tradeoff", "points", 0, "bits"), {"n": "x"}),
     (("activity",), {}), (("calibration_samples",), None)],
)  # fmt: skip
def test_a_report_with_a_wrong_value_is_none(
    report: QuantizationReport, place: tuple[Any, ...], value: object
) -> None:
    values: Any = json.loads(json.dumps(report.as_dict()))
    inner = values
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert report_from(values) is None
