"""Text of generated C: fragments in ``templates/`` with blanks to fill."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from string import Template

__all__ = ["fill", "indented"]


def fill(template: str, /, **blanks: object) -> str:
    """Return ``template`` with every ``$blank`` filled; a line that is one empty blank goes."""
    place = files("spikec.backends.c") / "templates" / f"{template}.txt"
    lines = place.read_text(encoding="utf-8").splitlines()
    empty = {f"${name}" for name, value in blanks.items() if value == ""}
    kept = "\n".join(line for line in lines if line not in empty)
    return Template(kept).substitute(blanks).rstrip() + "\n"


def indented(lines: Iterable[str], depth: int) -> str:
    """Return lines, or texts of several lines, ``depth`` steps to the right."""
    every = [line for text in lines for line in text.splitlines()]
    return "\n".join(f"{'    ' * depth}{line}".rstrip() for line in every)
