"""A report can be written of every network that compiles."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from support.random_graphs import random_graph, random_graph_inputs

from spikec.cli.loading import LavaOptions, Loaded
from spikec.cli.report import html, markdown
from spikec.cli.report.examination import look_into
from spikec.compiler.errors import SpikecError
from spikec.compiler.inputs import Dataset
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target

SAMPLES, STEPS = 3, 12


def test_random_networks_have_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(html, "_library", str)
    compiled = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        graph = random_graph(rng, dyadic=False, canonicalisable=True)
        data = Dataset(inputs=random_graph_inputs(graph, rng, SAMPLES, STEPS))
        try:
            program = compile_graph(graph, load_target("loihi2"), calibration=data).program
        except SpikecError:
            continue
        compiled += 1
        found = look_into(
            Loaded(graph=graph if seed % 3 else None, program=program), data, name="random",
            files={}, backends=["simulator"], lava=LavaOptions(samples=1),
        )  # fmt: skip
        shown = json.loads(re.findall(r"application/json'>(.*?)</script>", html.page(found))[0])
        names = {item.name for item in program.populations}
        for item in shown["samples"]:
            assert {panel["population"] for panel in item["panels"]} == names
        counted = sum(sum(weights["after"]) for weights in shown["weights"])
        assert counted == sum(item.operator.weight.size for item in program.connections)
        assert markdown.text(found).startswith("## spikec: ")
    assert compiled > 20
