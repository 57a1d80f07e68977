"""Which box of a drawing stands in which row, and how much room it takes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from spikec.cli.diagram import Arrow, Box, Diagram

__all__ = ["GAP", "LOOP", "Size", "ranked", "sizes_of", "wrapped"]

#: Columns kept free between neighbours; a wire may be moved into one of them.
GAP = 4
#: How far to the right of its box a loop turns.
LOOP = 3


def ranked(diagram: Diagram) -> tuple[tuple[tuple[str, ...], ...], frozenset[tuple[str, str]]]:
    """Return the names of the boxes rank by rank, and the pairs whose arrow closes a cycle."""
    inputs_first = sorted(diagram.boxes, key=lambda box: not box.is_input)
    back = _closing([box.name for box in inputs_first], diagram.arrows)
    forward: nx.DiGraph[str] = nx.DiGraph()
    forward.add_nodes_from(box.name for box in diagram.boxes)
    pairs = [(arrow.source, arrow.target) for arrow in diagram.arrows]
    forward.add_edges_from(pair for pair in pairs if pair not in back)
    rank = {
        name: place
        for place, names in enumerate(nx.topological_generations(forward))
        for name in names
    }
    for box in diagram.boxes:  # what nothing feeds stands right before what it feeds
        fed = list(forward.successors(box.name))
        if fed and not box.is_input and not forward.in_degree(box.name):
            rank[box.name] = min(rank[name] for name in fed) - 1
    rows: list[list[str]] = [[] for _ in range(max(rank.values(), default=-1) + 1)]
    for box in diagram.boxes:
        rows[rank[box.name]].append(box.name)
    return tuple(tuple(row) for row in rows if row), back


def _closing(names: Sequence[str], arrows: Sequence[Arrow]) -> frozenset[tuple[str, str]]:
    """Return the pairs that lead back on depth-first walks from ``names``, in their order."""
    leaving: dict[str, list[str]] = {name: [] for name in names}
    for arrow in arrows:
        leaving[arrow.source].append(arrow.target)
    back: set[tuple[str, str]] = set()
    done: set[str] = set()
    for start in names:
        path: dict[str, Iterator[str]] = {} if start in done else {start: iter(leaving[start])}
        while path:
            name = next(reversed(path))
            target = next(path[name], None)
            if target is None:
                del path[name]
                done.add(name)
            elif target in path:
                back.add((name, target))
            elif target not in done:
                path[target] = iter(leaving[target])
    return frozenset(back)


@dataclass(frozen=True, kw_only=True)
class Size:
    """The room of a box, counted from its anchor: the middle column, where its wire leaves.

    It takes ``before`` columns left of the anchor, and ``after`` from there on to the right;
    arrows come in at ``ports``.
    """

    width: int
    height: int
    after: int
    ports: tuple[int, ...]
    loops: tuple[str, ...]

    @property
    def before(self) -> int:
        """The columns left of the anchor."""
        return self.width // 2


def sizes_of(diagram: Diagram, measure: Callable[[str], int]) -> dict[str, Size]:
    """Return the room of every box; ``measure`` gives the columns that a text takes."""
    arriving: dict[str, list[str]] = {box.name: [] for box in diagram.boxes}
    loops: dict[str, list[str]] = {box.name: [] for box in diagram.boxes}
    for arrow in diagram.arrows:
        kind = loops if arrow.source == arrow.target else arriving
        kind[arrow.target].append(arrow.label)
    return {
        box.name: _sized(box, arriving[box.name], loops[box.name], measure) for box in diagram.boxes
    }


def _sized(
    box: Box, labels: Sequence[str], loops: Sequence[str], measure: Callable[[str], int]
) -> Size:
    longest = max(map(measure, labels), default=0)
    pitch = longest + 4
    span = pitch * max(len(labels) - 1, 0)
    first = -((span + 1) // 2)
    ports = tuple(first + pitch * index for index in range(len(labels)))
    width = max(max(map(measure, box.lines), default=0) + 4, span + 5)
    right = width - width // 2
    after = max(right, ports[-1] + 3 + longest if ports else 0)
    if loops:
        after = max(after, right + LOOP + 2 + max(map(measure, loops)))
    height = 2 + max(len(box.lines), 2 if loops else 1, len(loops))
    return Size(width=width, height=height, after=after, ports=ports, loops=tuple(loops))


def wrapped(
    rows: Sequence[Sequence[str]], sizes: Mapping[str, Size], width: int
) -> list[list[str]]:
    """Break rows longer than ``width`` columns; arrows still point downwards."""
    broken: list[list[str]] = []
    for row in rows:
        broken.append([])
        used = 0
        for name in row:
            needed = sizes[name].before + sizes[name].after + GAP
            if broken[-1] and used + needed > width + GAP:
                broken.append([])
                used = 0
            broken[-1].append(name)
            used += needed
    return broken
