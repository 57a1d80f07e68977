"""Names of nodes, edges and connections: one rule for all of them, and one maker of new ones.

Traces and HDF5 files use ``/`` as separator, so no name holds it; a name that spikec makes of
others puts a dot between them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["SEPARATOR", "cleaned", "distinct", "fault", "joined"]

#: What traces and HDF5 files put between a name and what it has.
SEPARATOR = "/"


def fault(name: str) -> str | None:
    """Return why ``name`` cannot be one, or None."""
    if not name or SEPARATOR in name or "\x00" in name:
        return "a name must not be empty or hold '/' (traces use it as separator)"
    if any("\ud800" <= character <= "\udfff" for character in name):
        return "a name must be text that files can hold; half a character (a surrogate) is none"
    return None


def joined(name: str, *labels: str) -> str:
    """Return the name of a part of ``name``: ``a-b.delay5.low``. Empty labels are left out."""
    return ".".join((name, *(label for label in labels if label)))


def cleaned(name: str, otherwise: str = "input") -> str:
    """Return a foreign ``name`` as one that all formats take; ``otherwise`` if none is left."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("_") or otherwise


def distinct(names: Iterable[str]) -> dict[str, str]:
    """Return each foreign name's clean one; those that would be the same get a number."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for foreign in names:
        name, number = cleaned(foreign), 2
        while name in taken:
            name, number = f"{cleaned(foreign)}_{number}", number + 1
        taken.add(name)
        found[foreign] = name
    return found
