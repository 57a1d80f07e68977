"""What a validation says: findings that name the tensor and its index, and what was looked at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np

from spikec.compiler.arrays import Array, Shape
from spikec.compiler.errors import Diagnostic

__all__ = ["HINT", "Validation", "differing", "equal", "finding", "outside", "place"]

#: What to do about any finding.
HINT = (
    "the program is not the network's: do not use it, compile the network again; if that says so "
    "too, it is a mistake of spikec: please report it"
)
#: What float arithmetic of a few operations may add to a half unit, relative to the value.
_EPSILON = 1e-12


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What a program was compared in with the network it came from.

    ``parameters`` are the numbers compared one by one. Both graphs ran in float on ``samples``
    samples of ``steps`` steps (``data``: on given data, else on seeded inputs), ``spikes`` came of
    it, and in ``ties`` samples two graphs parted where a voltage met its threshold.
    ``notes`` say what could not be looked at.
    """

    parameters: int = 0
    samples: int = 0
    steps: int = 0
    spikes: int = 0
    ties: int = 0
    data: str = "seeded inputs"
    findings: tuple[Diagnostic, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return {**asdict(self), "passed": self.passed}


def finding(code: str, where: str, message: str) -> Diagnostic:
    """Return a finding of validation."""
    return Diagnostic(code=code, where=where, message=message, hint=HINT)


def place(shape: Shape, flat: int) -> str:
    """Return an index as text: ``[3,0,1]``."""
    return "[" + ",".join(str(int(item)) for item in np.unravel_index(flat, shape)) + "]"


def equal(code: str, where: str, field: str, found: object, wanted: object) -> Iterator[Diagnostic]:
    """Yield a finding where a field is not what it must be."""
    if found != wanted:
        yield finding(code, where, f"{field} is {found}, the network's is {wanted}")


def differing(
    code: str, where: str, field: str, found: Array, wanted: Array, within: Array | float
) -> Iterator[Diagnostic]:
    """Yield a finding for the first of ``found`` farther than ``within`` from ``wanted``."""
    room = within + _EPSILON * np.abs(wanted)
    wrong = ~(np.abs(found - wanted) <= room)  # what is no number is wrong
    yield from outside(code, where, field, wrong, found, wanted)


def outside(
    code: str, where: str, field: str, wrong: Array, found: Array, wanted: Array
) -> Iterator[Diagnostic]:
    """Yield a finding for the first element that is ``wrong``."""
    if not wrong.any():
        return
    flat = int(np.flatnonzero(wrong)[0])
    values = [float(np.broadcast_to(item, wrong.shape).reshape(-1)[flat])
              for item in (found, wanted)]  # fmt: skip
    count = int(wrong.sum())
    more = "" if count == 1 else f"; {count} of {wrong.size} are wrong"
    yield finding(
        code,
        where,
        f"{field}{place(wrong.shape, flat)} is {values[0]:.9g}, the network's is {values[1]:.9g}"
        f"{more}",
    )
