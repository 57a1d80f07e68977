"""Where the boxes and arrows of a drawn network go: by rank, from inputs down to outputs.

Pure positions in character cells, used by the terminal and the SVG alike. Between two rows of
boxes lies a channel, in which every wire that turns has a track of its own; all arrows of
one source share one wire. It passes between the boxes of rows that an arrow skips. Arrows that
close a cycle go up on the right; loops of one population lie right of its box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

from spikec.cli.diagram import Arrow, Box, Diagram
from spikec.cli.rows import GAP, LOOP, Size, ranked, sizes_of, wrapped

__all__ = ["Layout", "Loop", "PlacedArrow", "PlacedBox", "Point", "arrange"]

#: A column and a row.
Point: TypeAlias = tuple[int, int]
#: A wire: a source, and whether it holds the arrows that go up.
_Wire: TypeAlias = tuple[str, bool]
#: A name and a row: the box itself, or its wire where that passes a lower row.
_Item: TypeAlias = tuple[str, int]

#: Columns from one wire that goes up to the next.
_LANE = 3
_SWEEPS = 6


@dataclass(frozen=True, kw_only=True)
class PlacedBox:
    """A box whose frame covers ``width`` columns and ``height`` rows."""

    box: Box
    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True)
class PlacedArrow:
    """An arrow from the lower frame of its source to the cell above its target.

    The label follows the tip. ``is_back`` says that the arrow closes a cycle.
    """

    arrow: Arrow
    points: tuple[Point, ...]
    label_at: Point
    is_back: bool


@dataclass(frozen=True, kw_only=True)
class Loop:
    """The arrows from a population to itself: one line, and a row of text for each."""

    name: str
    points: tuple[Point, ...]
    labels: tuple[str, ...]
    labels_at: Point


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A diagram with positions, ``width`` columns and ``height`` rows large."""

    boxes: tuple[PlacedBox, ...]
    arrows: tuple[PlacedArrow, ...]
    loops: tuple[Loop, ...]
    width: int
    height: int


def arrange(
    diagram: Diagram, *, width: int, measure: Callable[[str], int] = len, spread: int = 0
) -> Layout | None:
    """Return positions within ``width`` columns, None where they do not fit.

    ``measure`` gives the columns a text takes; ``spread`` rows are added between rows of boxes.
    """
    rows, back = ranked(diagram)
    sizes = sizes_of(diagram, measure)
    for share in (1.0, 0.75, 0.5):
        broken = wrapped(rows, sizes, int(width * share))
        for loose in (True, False):
            attempt = _Arrangement(diagram, broken, back, sizes, loose=loose)
            if attempt.width <= width:
                return attempt.layout(spread)
    return None


class _Channel:
    """What passes between two rows: the columns of every wire, and the track it turns on."""

    def __init__(self) -> None:
        self.columns: dict[_Wire, set[int]] = {}
        self.tracks: dict[_Wire, int] = {}
        self.num_tracks = 0

    def enter(self, wire: _Wire, column: int) -> None:
        self.columns.setdefault(wire, set()).add(column)

    def free(self, wire: _Wire, column: int) -> int:
        """Return ``column``, or the next one where another wire stands there."""
        return column + any(
            column in columns for other, columns in self.columns.items() if other != wire
        )

    def assign_tracks(self) -> None:
        """Give each wire that turns a track; those that do not meet share one."""
        ends: list[int] = []
        spans = sorted((min(found), max(found), wire) for wire, found in self.columns.items())
        for low, high, wire in spans:
            if low == high:
                continue
            track = next((i for i, end in enumerate(ends) if end + 1 < low), len(ends))
            ends[track : track + 1] = [high]
            self.tracks[wire] = track
        self.num_tracks = len(ends)


class _Arrangement:
    """One attempt: rows of boxes and passing wires, their order, columns and channels.

    Channel ``c`` lies above row ``c``; one more lies below the last row.
    """

    def __init__(
        self,
        diagram: Diagram,
        rows: Sequence[Sequence[str]],
        back: frozenset[tuple[str, str]],
        sizes: Mapping[str, Size],
        *,
        loose: bool,
    ) -> None:
        self._diagram = diagram
        self._sizes = sizes
        self._row = {name: place for place, row in enumerate(rows) for name in row}
        self._arrows = {
            index: (arrow, (arrow.source, arrow.target) in back)
            for index, arrow in enumerate(diagram.arrows)
            if arrow.source != arrow.target
        }
        self._rows = self._with_passing(rows)
        self._above, self._below = self._joined()
        self._order()
        self._column = self._columns(loose=loose)
        self._lanes = self._going_up()
        self._channels = [_Channel() for _ in range(len(rows) + 1)]
        self._ports: dict[int, int] = {}
        for row in range(len(rows)):
            self._route(row)
        for channel in self._channels:
            channel.assign_tracks()
        self.width = max([self._right, *(lane + 1 for lane in self._lanes.values())])

    def _with_passing(self, rows: Sequence[Sequence[str]]) -> list[list[_Item]]:
        """Return the rows with the wires that pass them."""
        last = dict(self._row)
        for arrow, is_back in self._arrows.values():
            if not is_back:
                last[arrow.source] = max(last[arrow.source], self._row[arrow.target])
        full = [[(name, place) for name in row] for place, row in enumerate(rows)]
        for name, first in self._row.items():
            for place in range(first + 1, last[name]):
                full[place].append((name, place))
        return full

    def _is_box(self, item: _Item) -> bool:
        return self._row[item[0]] == item[1]

    def _joined(self) -> tuple[dict[_Item, list[_Item]], dict[_Item, list[_Item]]]:
        """Return what each item is joined to in the row above, and in the row below."""
        above: dict[_Item, list[_Item]] = {item: [] for row in self._rows for item in row}
        below: dict[_Item, list[_Item]] = {item: [] for row in self._rows for item in row}
        pairs = [((name, row - 1), (name, row)) for name, row in above if self._row[name] < row]
        for arrow, is_back in self._arrows.values():
            if not is_back:
                row = self._row[arrow.target]
                pairs.append(((arrow.source, row - 1), (arrow.target, row)))
        for upper, lower in pairs:
            above[lower].append(upper)
            below[upper].append(lower)
        return above, below

    def _order(self) -> None:
        """Sort rows by the mean place of what they are joined to, down and up in turn."""
        for sweep in range(_SWEEPS):
            step, joined = (1, self._above) if sweep % 2 == 0 else (-1, self._below)
            places = _places(*self._rows)
            for row in self._rows[1:] if step == 1 else self._rows[-2::-1]:
                wanted = {
                    item: _mean([places[near] for near in joined[item]], places[item])
                    for item in row
                }
                row.sort(key=lambda item, wanted=wanted: wanted[item])  # type: ignore[misc]
                places |= _places(row)

    def _room(self, item: _Item) -> tuple[int, int]:
        """Return the columns an item takes before its column, and from there on."""
        if not self._is_box(item):
            return 0, 1
        size = self._sizes[item[0]]
        return size.before, size.after

    def _columns(self, *, loose: bool) -> dict[_Item, int]:
        """Return the column of every anchor and passing wire; ``loose``: below what feeds it."""
        column: dict[_Item, int] = {}
        for row in self._rows:
            column |= self._settled(row, dict.fromkeys(row, 0.0))
        for joined in (self._above, self._below, self._above) if loose else ():
            for row in self._rows if joined is self._above else self._rows[::-1]:
                wanted = {
                    item: _mean([column[near] for near in joined[item]], column[item])
                    for item in row
                }
                column |= self._settled(row, wanted)
        left = min((x - self._room(item)[0] for item, x in column.items()), default=0)
        return {item: x - left for item, x in column.items()}

    def _settled(self, row: Sequence[_Item], wanted: Mapping[_Item, float]) -> dict[_Item, int]:
        """Return columns near the wanted ones (least squares) that keep order and distances."""
        offsets = [0]
        for left, right in pairwise(row):
            offsets.append(offsets[-1] + self._room(left)[1] + GAP + self._room(right)[0])
        targets = [wanted[item] - offset for item, offset in zip(row, offsets, strict=True)]
        moved = zip(row, _rising(targets), offsets, strict=True)
        return {item: round(target) + offset for item, target, offset in moved}

    @property
    def _right(self) -> int:
        """The column after the last one that boxes, their texts and passing wires take."""
        # A passing wire may be moved by one.
        return max((x + self._room(item)[1] + 1 for item, x in self._column.items()), default=0)

    def _going_up(self) -> dict[str, int]:
        """Return the columns of wires that go up, right of everything, the shortest first."""
        reach: dict[str, int] = {}
        for arrow, is_back in self._arrows.values():
            if is_back:
                rows = self._row[arrow.source] - self._row[arrow.target]
                reach[arrow.source] = max(reach.get(arrow.source, 0), rows)
        nearest_first = sorted(reach, key=lambda name: reach[name])
        return {name: self._right + 2 + _LANE * k for k, name in enumerate(nearest_first)}

    def _route(self, row: int) -> None:
        """Lead all wires through the channel above ``row``, and fix where they end."""
        channel = self._channels[row]
        for name, place in self._rows[row]:
            # What goes down from this row enters the next channel, where nothing stands yet.
            if place != self._row[name]:
                self._column[name, place] = channel.free((name, False), self._column[name, place])
                channel.enter((name, False), self._column[name, place])
            else:
                self._end(name, channel)
        below = self._channels[row + 1]
        for item in self._rows[row]:
            goes_up = self._is_box(item) and item[0] in self._lanes
            if self._below[item] or goes_up:
                below.enter((item[0], False), self._column[item])
            if goes_up:
                below.enter((item[0], False), self._lanes[item[0]])

    def _end(self, name: str, channel: _Channel) -> None:
        """Give each arrow that ends at box ``name`` a port, in the order of their wires."""
        row = self._row[name]
        coming = sorted(
            (self._lanes[arrow.source] if is_back else self._column[arrow.source, row - 1], index)
            for index, (arrow, is_back) in self._arrows.items()
            if arrow.target == name
        )
        anchor = self._column[name, row]
        for (start, index), port in zip(coming, self._sizes[name].ports, strict=True):
            arrow, is_back = self._arrows[index]
            wire = (arrow.source, is_back)
            if is_back:
                channel.enter(wire, start)
            self._ports[index] = channel.free(wire, anchor + port)
            channel.enter(wire, self._ports[index])

    def layout(self, spread: int) -> Layout:
        """Return the positions, with ``spread`` more rows between rows of boxes."""
        tracks_at, tops, row = [], [], 0
        for place, items in enumerate(self._rows):
            channel = self._channels[place]
            tracks_at.append(row + (spread // 2 if place else 0))
            row += channel.num_tracks + bool(channel.columns) + (spread if place else 0)
            tops.append(row)
            row += max(self._sizes[item[0]].height for item in items if self._is_box(item))
        tracks_at.append(row)
        boxes = {box.name: self._placed(box, tops) for box in self._diagram.boxes}
        return Layout(
            boxes=tuple(boxes.values()),
            arrows=tuple(self._drawn(index, boxes, tracks_at) for index in self._arrows),
            loops=tuple(
                _loop(box, size.loops) for box in boxes.values()
                if (size := self._sizes[box.box.name]).loops
            ),
            width=self.width,
            height=row + self._channels[-1].num_tracks,
        )  # fmt: skip

    def _placed(self, box: Box, tops: Sequence[int]) -> PlacedBox:
        size, row = self._sizes[box.name], self._row[box.name]
        left = self._column[box.name, row] - size.before
        return PlacedBox(box=box, left=left, top=tops[row], width=size.width, height=size.height)

    def _drawn(
        self, index: int, boxes: Mapping[str, PlacedBox], tracks_at: Sequence[int]
    ) -> PlacedArrow:
        arrow, is_back = self._arrows[index]
        first, last = self._row[arrow.source], self._row[arrow.target]
        source = boxes[arrow.source]
        points = [(self._column[arrow.source, first], source.top + source.height - 1)]
        stops = [((arrow.source, False), first + 1, self._lanes.get(arrow.source, 0)),
                 ((arrow.source, True), last, self._ports[index])]  # fmt: skip
        if not is_back:
            stops = [
                ((arrow.source, False), row, self._column[arrow.source, row])
                for row in range(first + 1, last)
            ]
            stops.append(((arrow.source, False), last, self._ports[index]))
        for wire, channel, column in stops:
            track = self._channels[channel].tracks.get(wire)
            if track is not None:
                turn = tracks_at[channel] + track
                points += [(points[-1][0], turn), (column, turn)]
        port, above = self._ports[index], boxes[arrow.target].top - 1
        return PlacedArrow(
            arrow=arrow,
            points=_without_repeats([*points, (port, above)]),
            label_at=(port + 2, above),
            is_back=is_back,
        )


def _loop(placed: PlacedBox, labels: tuple[str, ...]) -> Loop:
    right, upper = placed.left + placed.width - 1, placed.top + 1
    lower, turn = placed.top + placed.height - 2, right + LOOP
    return Loop(
        name=placed.box.name,
        points=((right, lower), (turn, lower), (turn, upper), (right + 1, upper)),
        labels=labels,
        labels_at=(turn + 2, upper),
    )


def _places(*rows: Sequence[_Item]) -> dict[_Item, float]:
    """Return where in its row every item is, 0 to 1."""
    return {item: (at + 0.5) / len(row) for row in rows for at, item in enumerate(row)}


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _rising(values: Sequence[float]) -> list[float]:
    """Return the rising values nearest to ``values``: runs that fall become their mean."""
    runs: list[tuple[float, int]] = []
    for value in values:
        mean, count = value, 1
        while runs and runs[-1][0] > mean:
            before, length = runs.pop()
            mean = (mean * count + before * length) / (count + length)
            count += length
        runs.append((mean, count))
    return [mean for mean, count in runs for _ in range(count)]


def _without_repeats(points: Sequence[Point]) -> tuple[Point, ...]:
    """Return the corners of a path only."""
    kept: list[Point] = []
    for point in points:
        if kept and kept[-1] == point:
            continue
        if len(kept) > 1 and _in_line(kept[-2], kept[-1], point):
            kept.pop()
        kept.append(point)
    return tuple(kept)


def _in_line(a: Point, b: Point, c: Point) -> bool:
    return a[0] == b[0] == c[0] or a[1] == b[1] == c[1]
