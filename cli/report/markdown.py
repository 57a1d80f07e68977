"""A report as Markdown, for comments of a CI on a change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from spikec.cli.report.examination import Examination
from spikec.cli.report.sections import Section, sections, summary
from spikec.cli.tables import Table
from spikec.cli.text import printable
from spikec.cli.verification import heading, verdict

__all__ = ["text"]

#: Rows and characters of a cell that a comment can bear.
_MOST_ROWS, _LONGEST_CELL = 100, 300
#: What Markdown or HTML in it would take as markup.
_SPECIAL = str.maketrans({
    **{character: f"\\{character}" for character in "\\`*_[]{}#|~!@$"},
    "<": "&lt;", ">": "&gt;", "&": "&amp;",
})  # fmt: skip


def text(found: Examination) -> str:
    """Return the report: verdict and summary, then the tables, most of them folded."""
    passed, reservations = found.report.passed, found.report.reservations
    mark = ("⚠️" if reservations else "✅") if passed else "❌"
    lines = [f"## spikec: {mark} {heading(found.report)}", "", _plain(summary(found)), ""]
    if reservations or not passed:
        lines += [f"**{_plain(verdict(found.report))}**", ""]
    first, *others = sections(found)
    for item in (first, *(other for other in others if other.tables or other.points)):
        lines += _section(item, folded=item is not first)
    return "\n".join(lines) + "\n"


def _section(item: Section, *, folded: bool) -> Iterator[str]:
    title = _plain(item.title)
    yield from (f"<details><summary>{title}</summary>", "") if folded else (f"### {title}", "")
    for point in item.points:
        yield f"- {_plain(point)}"
    yield ""
    for table in (*item.tables, *item.details):
        yield from _table(table)
    if folded:
        yield from ("</details>", "")


def _table(item: Table) -> Iterator[str]:
    yield from (f"**{_plain(item.title)}**", "", _row(item.columns))
    yield _line(["---"] * len(item.columns))
    yield from (_row(row) for row in item.rows[:_MOST_ROWS])
    if len(item.rows) > _MOST_ROWS:
        yield from ("", f"{len(item.rows) - _MOST_ROWS} more rows are in the JSON form.")
    yield ""


def _row(cells: Sequence[str]) -> str:
    return _line([_plain(cell) for cell in cells])


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(words: str) -> str:
    """Return ``words`` so that they are shown as they are."""
    one_line = words[: _LONGEST_CELL * 10].replace("\n", " ")
    return printable(one_line).translate(_SPECIAL)
