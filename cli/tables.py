"""Tables for people, drawn by Rich."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import table as rich_table
from rich.console import Console
from rich.text import Text

from spikec.cli.text import printable, shown
from spikec.compiler.targets import Target

__all__ = [
    "Table",
    "say",
    "say_aside",
    "show",
    "show_targets",
    "show_zoo",
    "table",
]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table, for a terminal or a report."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def say(text: str) -> None:
    """Print text as it is, but for what a terminal would take as more than text."""
    Console(soft_wrap=True, highlight=False, emoji=False).print(shown(text), markup=False)


def say_aside(text: str) -> None:
    """Print one line to the error stream: standard output is the result's."""
    console = Console(stderr=True, soft_wrap=True, highlight=False, emoji=False)
    console.print(f"note: {shown(text)}", markup=False)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print one table; a terminal's width is kept, a pipe gets what it needs."""
    drawn = rich_table.Table(
        title=Text(printable(title), style="table.title"), title_justify="left", header_style="bold"
    )
    for column in columns:
        drawn.add_column(Text(printable(column)), overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(shown(cell)) for cell in row))  # names may hold brackets
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    console.print(drawn)


def show(item: Table) -> None:
    """Print a table."""
    table(item.title, item.columns, item.rows)


def show_targets(targets: Sequence[Target]) -> None:
    """Print the targets and their main limits."""
    rows = [
        [item.name, str(item.weight_bits), str(item.weight_exp), str(item.vth_bits),
         str(item.delay), str(item.graded_bits or "no"), item.summary]
        for item in targets
    ]  # fmt: skip
    table(
        "targets",
        ["name", "weight bits", "exponent", "vth bits", "delay", "graded bits", "what it is"],
        rows,
    )


def show_zoo(entries: Sequence[Mapping[str, str]]) -> None:
    """Print the trained networks."""
    table("zoo", ["name", "what it is"], [[item["name"], item["summary"]] for item in entries])
    say("'spikec zoo NAME -o DIR' copies one, with test data, to start from")
