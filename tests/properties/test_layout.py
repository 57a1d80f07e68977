"""Drawings of random networks: nothing overlaps, and every arrow leads where it should."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from spikec.cli.diagram import Arrow, Box, Diagram
from spikec.cli.drawing import drawn
from spikec.cli.layout import Layout, PlacedArrow, PlacedBox, Point, arrange
from spikec.cli.rows import ranked

LABELS = st.sampled_from(["", "d", "dense 10x20", "conv2d 8x1x3x3, delay 12"])
WIDE = 1 << 20


@st.composite
def diagrams(draw: st.DrawFn) -> Diagram:
    """Inputs and populations with arrows of every kind: skips, cycles, loops, parallel ones."""
    inputs = draw(st.integers(0, 3))
    count = draw(st.integers(max(1 - inputs, 0), 12))
    names = [f"n{index}" for index in range(inputs + count)]
    boxes = tuple(
        Box(
            name=name,
            kind="Input" if index < inputs else draw(st.sampled_from(["LIF", "LI"])),
            lines=tuple(draw(st.lists(st.text("abc ", max_size=20), min_size=1, max_size=3))),
        )
        for index, name in enumerate(names)
    )
    pairs = st.tuples(st.sampled_from(names), st.sampled_from(names[inputs:] or [""]), LABELS)
    chosen = draw(st.lists(pairs, max_size=3 * count)) if count else []
    return Diagram(
        boxes=boxes,
        arrows=tuple(Arrow(source=a, target=b, label=label) for a, b, label in chosen),
    )


def frame(placed: PlacedBox) -> set[Point]:
    columns = range(placed.left, placed.left + placed.width)
    return {(x, y) for x in columns for y in range(placed.top, placed.top + placed.height)}


def texts(layout: Layout) -> Iterator[set[Point]]:
    """Yield the cells of each text outside of boxes."""
    for arrow in layout.arrows:
        x, y = arrow.label_at
        yield {(x + place, y) for place in range(len(arrow.arrow.label))}
    for loop in layout.loops:
        x, y = loop.labels_at
        for row, label in enumerate(loop.labels):
            yield {(x + place, y + row) for place in range(len(label))}


def segments(points: tuple[Point, ...]) -> Iterator[set[tuple[Point, Point]]]:
    """Yield the steps from cell to cell of each straight part of a path."""
    for (x0, y0), (x1, y1) in pairwise(points):
        assert (x0 == x1) != (y0 == y1)
        if y0 == y1:
            yield {((x, y0), (x + 1, y0)) for x in range(min(x0, x1), max(x0, x1))}
        else:
            yield {((x0, y), (x0, y + 1)) for y in range(min(y0, y1), max(y0, y1))}


def steps(points: tuple[Point, ...]) -> set[tuple[Point, Point]]:
    return set().union(*segments(points))


def cells(points: tuple[Point, ...]) -> set[Point]:
    return {cell for step in steps(points) for cell in step} | set(points)


def ends_well(arrow: PlacedArrow, source: PlacedBox, target: PlacedBox) -> bool:
    (x0, y0), (x1, y1) = arrow.points[0], arrow.points[-1]
    below = y0 == source.top + source.height - 1
    above = y1 == target.top - 1
    inside = source.left < x0 < source.left + source.width - 1
    return below and above and inside and target.left < x1 < target.left + target.width - 1


@settings(max_examples=200, deadline=None)
@given(diagrams(), st.integers(0, 2))
def test_nothing_overlaps_and_arrows_lead_from_source_to_target(
    diagram: Diagram, spread: int
) -> None:
    layout = arrange(diagram, width=WIDE, spread=spread)
    assert layout is not None
    boxes = {placed.box.name: placed for placed in layout.boxes}
    assert list(boxes) == [box.name for box in diagram.boxes]
    frames = {name: frame(placed) for name, placed in boxes.items()}
    assert not any(a & b for a, b in combinations(frames.values(), 2))

    written = list(texts(layout))
    assert not any(a & b for a, b in combinations([*frames.values(), *written], 2))

    assert len(layout.arrows) + sum(len(loop.labels) for loop in layout.loops) == len(
        diagram.arrows
    )
    for arrow in layout.arrows:
        source, target = boxes[arrow.arrow.source], boxes[arrow.arrow.target]
        assert ends_well(arrow, source, target)
        assert arrow.is_back == (source.top > target.top)
        path = cells(arrow.points) - {arrow.points[0]}
        assert not any(path & taken for taken in [*frames.values(), *written])
    for one, other in combinations(layout.arrows, 2):  # two wires may cross, not share a way
        if one.arrow.source != other.arrow.source:
            assert not steps(one.points) & steps(other.points)
    for loop in layout.loops:
        path = cells(loop.points) - {loop.points[0]}
        assert loop.points[0] in frames[loop.name]
        assert not any(path & taken for taken in [*frames.values(), *written])
        assert not any(path & cells(arrow.points) for arrow in layout.arrows)

    everything = [*frames.values(), *written, *(cells(a.points) for a in layout.arrows)]
    assert all(0 <= x < layout.width and 0 <= y < layout.height
               for taken in everything for x, y in taken)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(diagrams(), st.integers(30, 120))
def test_a_layout_is_no_wider_than_asked_for(diagram: Diagram, width: int) -> None:
    layout = arrange(diagram, width=width)
    if layout is not None:
        assert layout.width <= width
        assert all(len(line.plain) <= width for line in drawn(layout))


@settings(max_examples=100, deadline=None)
@given(diagrams())
def test_ranks_follow_the_arrows_but_those_that_close_a_cycle(diagram: Diagram) -> None:
    rows, back = ranked(diagram)
    rank = {name: place for place, row in enumerate(rows) for name in row}
    assert sorted(rank) == sorted(box.name for box in diagram.boxes)
    for arrow in diagram.arrows:
        falls = rank[arrow.source] < rank[arrow.target]
        assert falls != ((arrow.source, arrow.target) in back)


@settings(max_examples=100, deadline=None)
@given(diagrams())
def test_the_terminal_shows_every_text_and_every_tip(diagram: Diagram) -> None:
    layout = arrange(diagram, width=WIDE)
    assert layout is not None
    lines = [line.plain for line in drawn(layout)]
    for placed in layout.boxes:
        for row, text in enumerate(placed.box.lines):
            at = placed.left + 2
            assert lines[placed.top + 1 + row][at : at + len(text)] == text
    assert sum(line.count("▼") for line in lines) == len(layout.arrows)
    assert sum(line.count("◄") for line in lines) == len(layout.loops)
