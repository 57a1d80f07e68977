"""A report as one HTML page that needs nothing else: no network, no other file.

Whatever comes from a network file is text here: escaped in the page, and in the data of the
script. Beyond that the page allows no script but its own two, by their hashes, and no request.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from importlib import resources

from spikec.cli.report.examination import Examination
from spikec.cli.report.figures import figures
from spikec.cli.report.sections import Section, Tile, sections, summary, tiles
from spikec.cli.tables import Table
from spikec.cli.text import printable
from spikec.cli.verification import heading, verdict
from spikec.compiler.version import VERSION

__all__ = ["MOST_BYTES", "page"]

#: No page is larger.
MOST_BYTES = 6_000_000
#: Rows of a table, fewer where tables would take more than this share of what is left
#: beside the scripts.
_MOST_ROWS, _MOST_TABLES = (200, 50, 10), 0.5
_LONG_CELL, _LONGEST_CELL = 24, 300

_PICKERS = {
    "rates": (("rates", "population"),),
    "weights": (("weights", "edge"),),
    "decays": (("decays", "decay"),),
    "samples": (
        ("sample", "sample"), ("population", "population"), ("neuron", "neuron"),
        ("left", "compare"), ("right", "with"),
    ),
}  # fmt: skip
_PLOTS = {"samples": ("left", "right", "voltage")}
_CAPTIONS = {
    "layers": "Error of every layer: differing spikes, relative to those of the lower rung; of a "
    "readout, the voltage's error relative to its size.",
    "steps": "Where in time spikes differ between the first rung and the integers, per sample.",
    "rates": "How often each neuron spikes, before and after. On the line nothing changed; on "
    "the axis below, a neuron fell silent.",
    "samples": "Diamonds are spikes that the other run does not have (or has fewer of), circles "
    "are where it has more. Click a spike to see its neuron's voltage: what a step leaves, after "
    "its reset, shaded where spikes differ, and around the threshold; double-click to see all.",
    "weights": "Levels of the quantized weights, and the float weights in the same bins.",
    "decays": "What a state keeps a step, one value for each neuron.",
    "attribution": "Error with one thing quantized, and with everything but it.",
}


def page(found: Examination) -> str:
    """Return the page, of at most :data:`MOST_BYTES` bytes in UTF-8."""
    drawn = found.evidence is not None
    scripts = (_library(), _own("page.js")) if drawn else ()
    inline = "".join(f"<script>{script}</script>\n" for script in scripts)
    head = _head(found, scripts)
    room = MOST_BYTES - len((head + inline).encode()) - 1000
    body = ""
    for rows in _MOST_ROWS:
        body = "".join(_body(found, rows))
        if len(body.encode()) < room * _MOST_TABLES:
            break
    data = figures(found, room - len(body.encode())) if drawn else "{}"
    return (
        f"{head}{body}<script id='data' type='application/json'>{data}</script>\n"
        f"{inline}</body></html>\n"
    )


def _library() -> str:
    """Return Plotly, as its package brings it."""
    source = resources.files("plotly") / "package_data" / "plotly.min.js"
    # As HTML reads a script: with line feeds alone. Its hash depends on it.
    return source.read_text(encoding="utf-8").replace("\r\n", "\n").replace("\r", "\n")


def _own(name: str) -> str:
    return (resources.files("spikec.cli.report") / name).read_text(encoding="utf-8")


def _head(found: Examination, scripts: Sequence[str]) -> str:
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts) or "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{_text(found.name)}: spikec verification</title>\n"
        f"<style>{_own('page.css')}</style></head>\n<body>\n"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _body(found: Examination, rows: int) -> Iterator[str]:
    parts = sections(found)
    passed, reservations = found.report.passed, found.report.reservations
    word = heading(found.report)
    mood = "good" if passed and not reservations else "bad"
    yield "<header>\n<p class='kind'>spikec verification</p>\n"
    yield f"<h1>{_text(found.name)}</h1>\n"
    yield f"<p class='verdict {mood}'>{word}</p>"
    if mood == "bad":
        yield f"\n<p class='failure'>{_text(verdict(found.report), 4000)}</p>"
    yield f"\n<p class='summary'>{_text(summary(found), 4000)}</p>\n"
    yield f"<div class='tiles'>{''.join(map(_tile, tiles(found)))}</div>\n"
    yield "<noscript><p>The drawings need JavaScript; all tables are below.</p></noscript>\n"
    links = (f"<a href='#{item.anchor}'>{item.title}</a>" for item in parts)
    yield f"</header>\n<nav>{''.join(links)}</nav>\n<main>\n"
    for item in parts:
        yield from _section(item, rows)
    yield f"</main>\n<footer>written by spikec {VERSION}</footer>\n"


def _tile(item: Tile) -> str:
    mark = {True: "good", False: "bad", None: ""}[item.good]
    return (
        f"<div class='tile {mark}'><span>{_text(item.label)}</span>"
        f"<b>{_text(item.value)}</b><small>{_text(item.note)}</small></div>"
    )


def _section(item: Section, rows: int) -> Iterator[str]:
    yield f"<section id='{item.anchor}'>\n<h2>{item.title}</h2>\n"
    if item.intro:
        yield f"<p class='intro'>{_text(item.intro, 4000)}</p>\n"
    if item.points:
        points = (f"<li>{_text(point, 2000)}</li>" for point in item.points)
        yield f"<ul>{''.join(points)}</ul>\n"
    yield from map(_figure, item.figures)
    for table in item.tables:
        yield f"<h3>{_text(table.title)}</h3>{_table(table, rows)}"
    for table in item.details:
        shown = _table(table, rows)
        yield f"<details><summary>{_text(table.title)}</summary>{shown}</details>\n"
    yield "</section>\n"


def _figure(name: str) -> str:
    pickers = "".join(
        f"<label>{label} <select id='pick-{key}'></select></label>"
        for key, label in _PICKERS.get(name, ())
    )
    plots = "".join(
        f"<div class='plot' id='plot-{plot}'></div>" for plot in _PLOTS.get(name, (name,))
    )
    before = after = last = ""
    if name == "samples":
        before = "<button id='previous'>previous</button><button id='next'>next</button>"
        after, last = "<p id='about-sample'></p>", "<p id='selection'></p>"
    return (
        f"<figure id='figure-{name}'><div class='pickers'>{before}{pickers}{after}</div>"
        f"<div class='plots'>{plots}</div><figcaption>{_CAPTIONS[name]}</figcaption>"
        f"{last}</figure>\n"
    )


def _table(item: Table, most: int) -> str:
    rows = [_row(row) for row in item.rows[:most]]
    rest = len(item.rows) - most
    more = f"<p>{rest} more rows are in the JSON form.</p>" if rest > 0 else ""
    columns = "".join(f"<th>{_text(column)}</th>" for column in item.columns)
    return (
        "<div class='table'><table>"
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}\n"
    )


def _row(cells: Iterable[str]) -> str:
    return f"<tr>{''.join(map(_cell, cells))}</tr>"


def _cell(words: str) -> str:
    return f"<td{' class=long' if len(words) > _LONG_CELL else ''}>{_text(words)}</td>"


def _text(words: str, longest: int = _LONGEST_CELL) -> str:
    """Return ``words`` as text of a page, cut where they are longer than any honest ones."""
    short = words if len(words) <= longest else f"{words[: longest - 1]}…"
    return escape(printable(short)).replace(" %", "\N{NO-BREAK SPACE}%")
