"""A network drawn as one SVG file that needs nothing else: boxes, arrows, texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

from rich.cells import cell_len

from spikec.cli.diagram import diagram_of
from spikec.cli.layout import Layout, PlacedBox, Point, arrange
from spikec.cli.text import printable
from spikec.compiler.files import write_atomically
from spikec.compiler.ir import Graph
from spikec.compiler.program import Program

__all__ = ["svg_text", "write_svg"]

#: Pixels of one cell of the layout, of the margin, of a rounded corner and of an arrow's tip.
_CELL_WIDTH, _CELL_HEIGHT = 8, 17
_MARGIN, _CORNER, _TIP = 16, 8.0, 7
#: Rows above and below the drawing, for its heading and what dashes mean.
_HEADING, _LEGEND = 2, 2
#: Columns after which rows are broken, if they can be.
_WIDTH = 220
_FILLS = {"Input": ("#e3f1f7", "#1b6b93"), "LIF": ("#eaf5e4", "#3c7a2a"),
          "LI": ("#fdf3d8", "#96690a"), "Sigma": ("#fdf3d8", "#96690a"),
          "Delta": ("#e8eaf8", "#3a4a9b"), "SigmaDelta": ("#e8eaf8", "#3a4a9b"),
          "RF": ("#f8e8f4", "#8a2a74"), "RF_IZ": ("#f8e8f4", "#8a2a74")}  # fmt: skip
#: Colours of wires by source, all dark enough on white.
_WIRES = ("#37474f", "#1f5fa8", "#a34707", "#6a3d9a", "#9c1c4b", "#1b6e5a")
_FONT = "'DejaVu Sans Mono', Menlo, Consolas, monospace"


def write_svg(network: Graph | Program, path: Path) -> None:
    """Draw ``network`` into ``path``; raises ``UsageError`` where it cannot be written."""
    write_atomically(path, svg_text(network).encode())


def svg_text(network: Graph | Program) -> str:
    """Return the drawing of ``network`` as an SVG document."""
    diagram = diagram_of(network, stacked=True)
    layout = arrange(diagram, width=_WIDTH, measure=cell_len, spread=1)
    if layout is None:
        layout = arrange(diagram, width=1 << 30, measure=cell_len, spread=1)
    assert layout is not None
    heading = _heading(network)
    columns = max(layout.width, cell_len(heading), 40)
    width = columns * _CELL_WIDTH + 2 * _MARGIN
    height = (layout.height + _HEADING + _LEGEND) * _CELL_HEIGHT + 2 * _MARGIN
    root = ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "width": f"{width}",
            "height": f"{height}",
            "viewBox": f"0 0 {width} {height}",
            "font-family": _FONT,
            "font-size": "12.5",
        },
    )
    _put(root, "title", text=heading)
    _put(root, "rect", width=width, height=height, fill="#ffffff")
    _text(root, (0, -_HEADING), heading, fill="#222222", weight="bold")
    _wires(root, layout)
    for placed in layout.boxes:
        _box(root, placed)
    _labels(root, layout)
    if layout.loops or any(arrow.is_back for arrow in layout.arrows):
        _text(root, (0, layout.height + 1), "dashed: recurrent", fill="#555555")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def _heading(network: Graph | Program) -> str:
    if isinstance(network, Program):
        return f"program for {printable(network.target)}: {network.num_neurons} neurons"
    neurons = sum(node.num_neurons for node in network.populations)
    name = printable(Path(network.source.path).name) or "network"
    return f"{name}: {neurons} neurons"


def _wires(root: ET.Element, layout: Layout) -> None:
    """Draw every arrow as a line with rounded corners, in the colour of its source."""
    order = {placed.box.name: place for place, placed in enumerate(layout.boxes)}
    lines = [(arrow.arrow.source, arrow.points, (0, 1), arrow.is_back) for arrow in layout.arrows]
    lines += [(loop.name, loop.points, (-1, 0), True) for loop in layout.loops]
    for source, points, (right, down), is_back in lines:
        color = _WIRES[order[source] % len(_WIRES)]
        corners = [_pixel(point) for point in points]
        x, y = _pixel((points[-1][0] + right, points[-1][1] + down))
        corners[-1] = (x - right * _TIP, y - down * _TIP)
        dashes = {"stroke_dasharray": "6 3"} if is_back else {}
        _put(root, "path", d=_rounded(corners), fill="none", stroke=color, stroke_width=1.5,
             **dashes)  # fmt: skip
        base_x, base_y = x - right * _TIP, y - down * _TIP
        half = _TIP / 2
        ends = [(x, y), (base_x + down * half, base_y + right * half),
                (base_x - down * half, base_y - right * half)]  # fmt: skip
        _put(root, "polygon", points=" ".join(f"{a:g},{b:g}" for a, b in ends), fill=color)


def _rounded(corners: Sequence[tuple[float, float]]) -> str:
    """Return a path through ``corners`` that curves at each of them."""
    path = [f"M {corners[0][0]:g} {corners[0][1]:g}"]
    for before, corner, after in zip(corners, corners[1:], corners[2:], strict=False):
        (x0, y0), (x1, y1) = _towards(corner, before), _towards(corner, after)
        path.append(f"L {x0:g} {y0:g} Q {corner[0]:g} {corner[1]:g} {x1:g} {y1:g}")
    path.append(f"L {corners[-1][0]:g} {corners[-1][1]:g}")
    return " ".join(path)


def _towards(corner: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    """Return the point one radius from ``corner``, but no further than half-way to ``other``."""
    dx, dy = other[0] - corner[0], other[1] - corner[1]
    length = max(abs(dx), abs(dy))  # lines run along an axis
    share = min(_CORNER, length / 2) / length if length else 0.0
    return corner[0] + dx * share, corner[1] + dy * share


def _box(root: ET.Element, placed: PlacedBox) -> None:
    fill, stroke = _FILLS[placed.box.kind]
    x, y = _pixel((placed.left, placed.top))
    right, bottom = _pixel((placed.left + placed.width - 1, placed.top + placed.height - 1))
    group = _put(root, "g")
    _put(group, "title", text=printable(placed.box.name))
    _put(group, "rect", x=x, y=y, width=right - x, height=bottom - y, rx=5, fill=fill,
         stroke=stroke, stroke_width=1.5)  # fmt: skip
    for number, line in enumerate(placed.box.lines):
        at = (placed.left + 2, placed.top + 1 + number)
        _text(group, at, line, fill="#222222", weight="normal" if number else "bold")


def _labels(root: ET.Element, layout: Layout) -> None:
    for arrow in layout.arrows:
        _text(root, arrow.label_at, arrow.arrow.label, fill="#444444")
    for loop in layout.loops:
        for number, label in enumerate(loop.labels):
            at = (loop.labels_at[0], loop.labels_at[1] + number)
            _text(root, at, label, fill="#444444")


def _text(parent: ET.Element, at: Point, text: str, *, fill: str, weight: str = "normal") -> None:
    """Write ``text`` from the cell ``at`` on."""
    x, y = _pixel(at)
    _put(parent, "text", text=text, x=x - _CELL_WIDTH / 2, y=y + 4.5, fill=fill,
         font_weight=weight)  # fmt: skip


def _pixel(point: Point) -> tuple[float, float]:
    """Return the middle of a cell."""
    column, row = point
    return (
        _MARGIN + (column + 0.5) * _CELL_WIDTH,
        _MARGIN + (row + _HEADING + 0.5) * _CELL_HEIGHT,
    )


def _put(parent: ET.Element, tag: str, *, text: str = "", **attributes: str | float) -> ET.Element:
    """Add an element; ``a_b`` stands for the attribute ``a-b``."""
    given = {
        name.replace("_", "-"): value if isinstance(value, str) else f"{value:g}"
        for name, value in attributes.items()
    }
    element = ET.SubElement(parent, tag, given)
    element.text = text or None
    return element
