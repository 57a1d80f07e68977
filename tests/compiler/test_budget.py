"""Mixed precision: the knapsack against trying everything, and chosen points measured again."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikec.cli.loading import parse_share, parse_size
from spikec.compiler.errors import QuantizationError, UsageError
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import Graph
from spikec.compiler.quantize import compile_mixed
from spikec.compiler.quantize.budget import Option, frontier, weight_bytes
from spikec.compiler.targets import load_target
from spikec.models import dense, network, seed_lif, seed_readout, spikes

LOIHI2 = load_target("loihi2")

OPTIONS = st.lists(
    st.builds(
        Option, bits=st.integers(1, 8), memory=st.integers(0, 40),
        loss=st.integers(0, 40).map(float),
    ),
    min_size=1, max_size=4,
)  # fmt: skip


@given(st.lists(OPTIONS, min_size=1, max_size=4), st.integers(0, 160))
@settings(max_examples=200, deadline=None)
def test_no_choice_beats_the_best_of_the_frontier(groups: list[list[Option]], budget: int) -> None:
    table = {f"p{index}": options for index, options in enumerate(groups)}
    points = frontier(table)
    losses = [
        sum(item.loss for item in choice)
        for choice in itertools.product(*groups)
        if sum(item.memory for item in choice) <= budget
    ]
    fitting = [loss for memory, loss, _ in points if memory <= budget]
    assert min(fitting, default=math.inf) == min(losses, default=math.inf)
    memories = [memory for memory, _, _ in points]
    assert memories == sorted(set(memories))
    assert all(list(chosen) == list(table) for _, _, chosen in points)


def small() -> tuple[Graph, Dataset]:
    rng = np.random.default_rng(0)
    graph = network(
        nodes=[
            spikes("in", 20),
            seed_lif("hidden", 16, alpha=0.5, beta=0.75),
            seed_readout("out", 3, alpha=0.5, beta=0.75),
        ],
        edges=[
            dense("in", "hidden", rng.normal(0, 0.4, (16, 20))),
            dense("hidden", "out", rng.normal(0, 0.4, (3, 16))),
        ],
        outputs=["out"],
    )
    return graph, Dataset(inputs={"in": (rng.random((60, 12, 20)) < 0.3).astype(np.uint8)})


def test_a_budget_is_kept_and_used_for_the_layer_that_needs_it() -> None:
    graph, data = small()
    compilation = compile_mixed(graph, LOIHI2, calibration=data, budget=170)
    tradeoff = compilation.report.tradeoff
    assert tradeoff is not None
    assert weight_bytes(compilation.program) == tradeoff.bytes_used <= 170
    chosen = tradeoff.points[tradeoff.chosen]
    bits = {item.edge: item.bits for item in compilation.report.weights}
    by_target = {edge.target: bits[edge.name] for edge in graph.edges}
    assert by_target == chosen.bits
    assert chosen.bytes == tradeoff.bytes_used
    assert all(item.loss >= chosen.loss for item in tradeoff.points if item.bytes <= 170)
    provenance = compilation.program.provenance["quantization"]
    assert provenance == compilation.report.as_dict()


def test_a_drop_is_kept_with_less_memory_than_all_bits() -> None:
    graph, data = small()
    compilation = compile_mixed(graph, LOIHI2, calibration=data, max_drop=0.2)
    tradeoff = compilation.report.tradeoff
    assert tradeoff is not None
    drop = tradeoff.points[tradeoff.chosen].drop
    assert drop is not None
    assert drop <= 0.2
    assert tradeoff.bytes_used < tradeoff.points[-1].bytes
    assert tradeoff.drop_from == "changed classes"
    for cheaper in tradeoff.points[: tradeoff.chosen]:  # measured too, and none of them does
        assert cheaper.drop is None or cheaper.drop > 0.2
    again = compile_mixed(graph, LOIHI2, calibration=data, max_drop=drop).report.tradeoff
    assert again is not None
    assert again.points[again.chosen].drop == drop  # exactly what is allowed is accepted


def test_what_fits_nowhere_is_refused_with_how_near_it_comes() -> None:
    graph, data = small()
    with pytest.raises(QuantizationError, match=r"Q013.*least memory of its weights is \d+ bytes"):
        compile_mixed(graph, LOIHI2, calibration=data, budget=10)
    with pytest.raises(QuantizationError, match=r"Q013.*loses \d+"):
        compile_mixed(graph, LOIHI2, calibration=data, budget=115, max_drop=0.0)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("64KiB", 65536),
        ("1.5MiB", 1572864),
        ("64 kB", 64000),
        ("64KB", 64000),
        ("12", 12),
        ("3B", 3),
        ("7 bytes", 7),
        ("2MB", 2_000_000),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_amounts_that_say_nothing_are_refused() -> None:
    assert parse_share("0.5%") == pytest.approx(0.005)
    assert parse_share("0.02") == pytest.approx(0.02)
    # K may be 1000 or 1024, and b may be bits.
    for text in ("", "64K", "64kb", "64Kib", "-3", "KiB", "1e3", "64 k iB", "half"):
        with pytest.raises(UsageError, match=r"U084(?s:.)*B, bytes, kB, KB, MB, GB, KiB, MiB, GiB"):
            parse_size(text)
    for text in ("", "5", "0.5", "101%", "half"):
        with pytest.raises(UsageError, match="U084"):
            parse_share(text)
