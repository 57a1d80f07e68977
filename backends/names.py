"""Names of a file may hold anything: what of them goes into generated code and text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

__all__ = ["identifiers", "one_line"]


def identifiers(names: Iterable[str], *, is_taken: Callable[[str], bool]) -> dict[str, str]:
    """Return a distinct identifier for each name; those that ``is_taken`` get a prefix."""
    given: dict[str, str] = {}
    for name in names:
        plain = re.sub(r"[^0-9A-Za-z_]+", "_", name).strip("_") or "unnamed"
        if plain[0].isdigit() or is_taken(plain):
            plain = f"n_{plain}"
        unique, count = plain, 2
        while unique in given.values():
            unique, count = f"{plain}_{count}", count + 1
        given[name] = unique
    return given


def one_line(text: str) -> str:
    """Return ``text`` fit for a comment, a docstring or a table."""
    return re.sub(r"[^\w \-.,:;/()<>=\'+]", "?", text)
