"""A network drawn in the terminal, with the characters of boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from spikec.cli.diagram import diagram_of
from spikec.cli.layout import Layout, Loop, PlacedArrow, PlacedBox, Point, arrange
from spikec.cli.rows import ranked
from spikec.cli.tables import say, table
from spikec.compiler.arrays import size
from spikec.compiler.ir import Graph
from spikec.compiler.program import Program

__all__ = ["draw", "drawn"]

#: Larger networks are summed up, rank by rank.
_MOST_BOXES = 60
_UP, _RIGHT, _DOWN, _LEFT = 1, 2, 4, 8
_LINES = {
    _UP: "│", _DOWN: "│", _UP | _DOWN: "│", _LEFT: "─", _RIGHT: "─", _LEFT | _RIGHT: "─",
    _UP | _RIGHT: "╰", _UP | _LEFT: "╯", _DOWN | _RIGHT: "╭", _DOWN | _LEFT: "╮",
    _UP | _DOWN | _RIGHT: "├", _UP | _DOWN | _LEFT: "┤", _UP | _LEFT | _RIGHT: "┴",
    _DOWN | _LEFT | _RIGHT: "┬", _UP | _DOWN | _LEFT | _RIGHT: "┼",
}  # fmt: skip
_ASCII = str.maketrans("│─╭╮╰╯├┤┬┴┼┌┐└┘▼◄…", "|-" + "+" * 13 + "v<.")
_STYLES = {"Input": "cyan", "LIF": "green", "LI": "yellow", "Delta": "blue",
           "SigmaDelta": "blue", "Sigma": "yellow", "RF": "magenta",
           "RF_IZ": "magenta"}  # fmt: skip
_FORWARD, _BACK, _LABEL = "", "magenta", "dim"


def draw(network: Graph | Program) -> None:
    """Print a network as boxes and arrows, or what its ranks hold if it is too large."""
    console = Console(highlight=False)
    layout = _fitting(network, console.width)
    if layout is None:
        _sum_up(network)
        return
    rows = drawn(layout)
    if not console.encoding.lower().startswith("utf"):
        rows = [_in_ascii(row) for row in rows]
    for row in rows:
        console.print(row, no_wrap=True, overflow="ignore", crop=False)


def _fitting(network: Graph | Program, width: int) -> Layout | None:
    """Return the layout of the most telling drawing that fits; None for none."""
    if len(network.inputs) + len(network.populations) > _MOST_BOXES:
        return None
    layouts = (
        arrange(diagram_of(network, stacked=small, short=small), width=width, measure=cell_len)
        for small in (False, True)
    )
    return next((layout for layout in layouts if layout is not None), None)


def drawn(layout: Layout) -> list[Text]:
    """Return the lines of the drawing."""
    canvas = _Canvas(layout)
    for arrow in layout.arrows:
        canvas.arrow(arrow)
    for loop in layout.loops:
        canvas.loop(loop)
    canvas.draw_wires()
    for box in layout.boxes:
        canvas.box(box)
    return canvas.lines()


class _Canvas:
    """Cells, each with a character and a style; the cell after a wide one is empty."""

    def __init__(self, layout: Layout) -> None:
        self._cells = [[(" ", "")] * layout.width for _ in range(layout.height)]
        self._wires: dict[Point, dict[str, tuple[int, str]]] = {}
        self._starts: set[Point] = set()
        self._tips: dict[Point, tuple[str, str]] = {}

    def lines(self) -> list[Text]:
        lines = []
        for row in self._cells:
            line = Text()
            for character, style in row:
                line.append(character, style)
            line.rstrip()
            lines.append(line)
        return lines

    def arrow(self, placed: PlacedArrow) -> None:
        self._note(placed.points, placed.arrow.source, "▼", _BACK if placed.is_back else _FORWARD)
        self._write(placed.label_at, placed.arrow.label, _LABEL)

    def loop(self, loop: Loop) -> None:
        self._note(loop.points, loop.name, "◄", _BACK)
        column, row = loop.labels_at
        for number, label in enumerate(loop.labels):
            self._write((column, row + number), label, _LABEL)

    def _note(self, points: Sequence[Point], source: str, tip: str, style: str) -> None:
        for point, sides in _cells_of(points):
            crossing = self._wires.setdefault(point, {})
            known, _ = crossing.get(source, (0, ""))
            crossing[source] = known | sides, style
        self._starts.add(points[0])
        self._tips[points[-1]] = tip, style

    def draw_wires(self) -> None:
        """Write all paths noted; where two wires cross, the vertical one is over the other."""
        for point, crossing in self._wires.items():
            sides, style = max(crossing.values(), key=lambda found: found[0] & (_UP | _DOWN))
            self._write(point, _LINES[sides], style)
        for point, (tip, style) in self._tips.items():
            self._write(point, tip, style)

    def box(self, placed: PlacedBox) -> None:
        style = _STYLES[placed.box.kind]
        right, bottom = placed.left + placed.width - 1, placed.top + placed.height - 1
        across = "─" * (placed.width - 2)
        self._write((placed.left, placed.top), f"┌{across}┐", style)
        for row in range(placed.top + 1, bottom):
            self._write((placed.left, row), "│", style)
            self._write((right, row), "├" if (right, row) in self._starts else "│", style)
        self._write((placed.left, bottom), f"└{across}┘", style)
        for number, line in enumerate(placed.box.lines):
            self._write((placed.left + 2, placed.top + 1 + number), line, "bold" * (not number))
        middle = (placed.left + placed.width // 2, bottom)
        if middle in self._starts:
            self._write(middle, "┬", style)

    def _write(self, at: Point, text: str, style: str) -> None:
        column, row = at
        for character in text:
            width = cell_len(character)
            if not width:
                continue
            self._cells[row][column] = (character, style)
            for place in range(column + 1, column + width):
                self._cells[row][place] = ("", style)
            column += width


def _cells_of(points: Sequence[Point]) -> Iterator[tuple[Point, int]]:
    """Yield every cell of a path with the sides at which the path leaves it."""
    for (x0, y0), (x1, y1) in pairwise(points):
        dx, dy = (x1 > x0) - (x1 < x0), (y1 > y0) - (y1 < y0)
        out, back = {
            (1, 0): (_RIGHT, _LEFT), (-1, 0): (_LEFT, _RIGHT),
            (0, 1): (_DOWN, _UP), (0, -1): (_UP, _DOWN),
        }[dx, dy]  # fmt: skip
        steps = abs(x1 - x0) + abs(y1 - y0)
        for step in range(steps + 1):
            sides = out * (step < steps) | back * (step > 0)
            yield (x0 + dx * step, y0 + dy * step), sides


def _in_ascii(row: Text) -> Text:
    copy = row.copy()
    copy.plain = row.plain.translate(_ASCII)
    return copy


def _sum_up(network: Graph | Program) -> None:
    """Print a line for each rank: how many boxes it has, and of which kinds."""
    diagram = diagram_of(network)
    sizes = _neurons(network)
    kinds = {box.name: box.kind for box in diagram.boxes}
    rows, back = ranked(diagram)
    lines = []
    for place, row in enumerate(rows):
        names = set(row)
        arriving = [arrow for arrow in diagram.arrows if arrow.target in names]
        recurrent = sum((arrow.source, arrow.target) in back for arrow in arriving)
        counted = [f"{n} {kind}" for kind in _STYLES
                   if (n := sum(kinds[name] == kind for name in row))]  # fmt: skip
        first = row[0] if len(row) == 1 else f"{row[0]} .. {row[-1]}"
        lines.append([str(place), first, ", ".join(counted), str(sum(sizes[n] for n in row)),
                      str(len(arriving)), str(recurrent)])  # fmt: skip
    table("ranks, from inputs to outputs",
          ["rank", "nodes", "kinds", "neurons", "edges in", "recurrent"], lines)  # fmt: skip
    say("too large to draw here: --svg FILE draws it")


def _neurons(network: Graph | Program) -> dict[str, int]:
    return {item.name: size(item.shape) for item in (*network.inputs, *network.populations)}
