"""Names from files as text for a terminal, a page or a picture."""

from __future__ import annotations

import unicodedata

__all__ = ["printable", "shown"]


def printable(text: str) -> str:
    """Return text without control characters, which neither a terminal nor XML should get.

    These are all of Unicode's category C: among them what turns the direction of writing, and
    bytes of file names that are no characters.
    """
    return "".join("\ufffd" if unicodedata.category(c)[0] == "C" else c for c in text)


def shown(text: str) -> str:
    """Return :func:`printable` text that may have several lines."""
    return "\n".join(printable(line.expandtabs(4)) for line in text.split("\n"))
