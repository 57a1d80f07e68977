"""Drawings of networks: in the terminal, and as an SVG file."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.cli import drawing
from spikec.cli.diagram import diagram_of
from spikec.cli.main import app
from spikec.cli.svg import svg_text
from spikec.compiler.ir import LIF, Edge, Graph, Input
from spikec.compiler.operators import Chain, Conv2d, Dense, Reshape
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.models import save, seed_network

SVG = "{http://www.w3.org/2000/svg}"


def lif(name: str, size: int = 3) -> LIF:
    return LIF(name=name, shape=(size,), alpha=None, beta=np.array(0.5), coupling="immediate",
               vth=np.array(1.0), reset="zero", reset_order="at_spike", compare=">")  # fmt: skip


def edge(source: str, target: str, *, delay: int = 0, name: str = "") -> Edge:
    return Edge(name=name or f"{source}-{target}", source=source, target=target, delay=delay,
                operator=Dense(weight=np.ones((3, 3))))  # fmt: skip


def graph(names: list[str], edges: list[Edge], *, entry: str = "x") -> Graph:
    return Graph(
        nodes=[Input(name=entry, shape=(3,)), *map(lif, names)], edges=edges, outputs=[names[-1]]
    )


def terminal(
    network: Graph, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    drawing.draw(network)
    return capsys.readouterr().out


def test_a_chain_with_a_loop_in_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = graph(["a", "b"], [edge("x", "a"), edge("a", "a", delay=1), edge("a", "b", delay=2)])
    assert terminal(network, capsys, monkeypatch, 80).splitlines() == [
        "   ┌────────────┐",
        "   │ x  Input 3 │",
        "   └──────┬─────┘",
        "          ▼ dense 3x3",
        "    ┌──────────┐",
        "    │ a  LIF 3 │◄─╮ dense 3x3, delay 1",
        "    │          ├──╯",
        "    └─────┬────┘",
        "          ▼ dense 3x3, delay 2",
        "┌──────────────────┐",
        "│ b  LIF 3, output │",
        "└──────────────────┘",
    ]


def test_branches_skips_and_feedback_are_drawn_within_the_width(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = graph(
        ["a", "b", "c"],
        [edge("x", "a"), edge("x", "b"), edge("a", "c"), edge("b", "c"), edge("x", "c"),
         edge("c", "a", delay=1)],
    )  # fmt: skip
    wide = terminal(network, capsys, monkeypatch, 120)
    assert 48 < max(map(len, wide.splitlines())) <= 120
    assert wide.count("dense 3x3") == wide.count("▼") == 6
    narrow = terminal(network, capsys, monkeypatch, 48)
    assert max(map(len, narrow.splitlines())) <= 48
    assert narrow.count("dense") == narrow.count("▼") == 6
    assert narrow.count("dense +1") == 1


def test_forty_populations_side_by_side_are_drawn_in_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"column{index}" for index in range(39)]
    edges = [edge("x", name) for name in names] + [edge(name, "sum") for name in names[:3]]
    text = terminal(graph([*names, "sum"], edges), capsys, monkeypatch, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in names)
    assert text.count("▼") == 42


def test_what_does_not_fit_is_summed_up_rank_by_rank(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"a{index}" for index in range(70)]
    edges = [edge("x", name) for name in names] + [edge("a0", "a0", delay=1)]
    text = terminal(graph([*names, "b"], [*edges, edge("a1", "b")]), capsys, monkeypatch, 100)
    assert "▼" not in text
    rows = [line.replace("│", " ").split() for line in text.splitlines()]
    assert ["0", "x", "1", "Input", "3", "0", "0"] in rows
    assert ["1", "a0", "..", "a69", "70", "LIF", "210", "71", "1"] in rows
    assert "--svg FILE" in text


def test_many_parallel_edges_are_one_arrow_and_long_labels_name_kinds() -> None:
    many = [edge("x", "a", delay=delay, name=f"e{delay}") for delay in range(5)]
    (arrow,) = diagram_of(graph(["a"], many)).arrows
    assert arrow.label == "5 edges, delays 0 to 4"
    stages = (
        Reshape(shape=(1, 1, 3)),
        Conv2d(weight=np.ones((1, 1, 1, 1))),
        Conv2d(weight=np.ones((1, 1, 1, 1))),
        Dense(weight=np.ones((3, 3))),
    )
    chained = Edge(name="e", source="x", target="a", operator=Chain(stages=stages))
    (arrow,) = diagram_of(graph(["a"], [chained])).arrows
    assert arrow.label == "conv2d conv2d dense"
    same = Edge(name="e", source="x", target="a", operator=Chain(stages=()))
    assert diagram_of(graph(["a"], [same])).arrows[0].label == "one to one"


def test_a_program_is_drawn_like_its_network() -> None:
    network = seed_network(
        feedforward=[np.ones((4, 3)), np.ones((2, 4))], recurrent=[np.ones((4, 4))],
        alpha=0.5, beta=0.5, readout=True, dt=1e-3,
    )  # fmt: skip
    of_graph = diagram_of(network)
    of_program = diagram_of(compile_graph(network, load_target("loihi2"), weight_bits=8).program)
    assert of_program.boxes == of_graph.boxes
    assert [(a.source, a.target) for a in of_program.arrows] == [
        (a.source, a.target) for a in of_graph.arrows
    ]


def test_svg_is_well_formed_whatever_names_hold(tmp_path: Path) -> None:
    names = ['<a & "b">', "c\u202e]]>", "d'é字"]
    network = graph(
        names, [edge("x<", names[0]), edge(names[0], names[1]), edge(names[1], names[2])],
        entry="x<",
    )  # fmt: skip
    root = ET.fromstring(svg_text(network))
    titles = [group.findtext(f"{SVG}title") for group in root.iter(f"{SVG}g")]
    assert titles == ["x<", '<a & "b">', "c\ufffd]]>", "d'é字"]


def test_svg_has_boxes_arrows_labels_and_dashes_for_what_recurs() -> None:
    network = graph(
        ["a", "b"],
        [edge("x", "a"), edge("a", "b"), edge("b", "a", delay=1), edge("b", "b", delay=2)],
    )
    root = ET.fromstring(svg_text(network))
    width, height = float(root.get("width", "")), float(root.get("height", ""))
    assert len(list(root.iter(f"{SVG}g"))) == 3
    paths = list(root.iter(f"{SVG}path"))
    assert len(paths) == len(list(root.iter(f"{SVG}polygon"))) == 4
    assert sum(path.get("stroke-dasharray") is not None for path in paths) == 2
    written = [element.text for element in root.iter(f"{SVG}text")]
    for text in ("x", "Input 3", "LIF 3, output", "dense 3x3, delay 1", "dense 3x3, delay 2"):
        assert text in written
    for rect in root.iter(f"{SVG}rect"):
        assert float(rect.get("x", "0")) + float(rect.get("width", "")) <= width
        assert float(rect.get("y", "0")) + float(rect.get("height", "")) <= height


def test_inspect_draws_in_the_terminal_and_into_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(graph(["a"], [edge("x", "a")]), "net.safetensors")
    result = CliRunner().invoke(app, ["inspect", "net.safetensors", "--svg", "net.svg"])
    assert result.exit_code == 0, result.output
    assert "▼ dense 3x3" in result.stdout
    assert "wrote net.svg" in result.stdout
    ET.fromstring(Path("net.svg").read_text(encoding="utf-8"))
    refused = CliRunner().invoke(
        app, ["inspect", "net.safetensors", "--svg", "net.safetensors", "--json"]
    )
    assert refused.exit_code == 2
    assert "U031" in refused.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.safetensors", "net.svg"]


def test_a_terminal_without_unicode_gets_ascii(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich.console.Console.encoding", "ascii")
    text = terminal(graph(["a"], [edge("x", "a")]), capsys, monkeypatch, 80)
    assert text.isascii()
    assert "v dense 3x3" in text
