"""What a file may ask for: one place of limits for all formats, in proportion to the file.

A header says any size in a few bytes. Before memory is taken for what a file describes, it is
held against :func:`allowance`: what a small file may always take, and a multiple of its size.
Integers that stand for steps of time end at :data:`MOST_STEPS` wherever they enter.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["MOST_PADDED", "MOST_STEPS", "allowance", "allowed_by"]

#: The longest delay, lag, shift, start and refractory time, in steps.
MOST_STEPS = (1 << 15) - 1
#: Values of one padded sample that a convolution may read, unless its source has as many.
MOST_PADDED = 1 << 22
#: Bytes that the smallest file may become, and those for each byte of a larger one. Data that
#: somebody uses seldom shrink to a thirtieth when they are compressed.
_FREE, _GROWTH = 512 << 20, 100


def allowance(num_bytes: int) -> int:
    """Return how many bytes of memory, or of disk, a file of ``num_bytes`` may become."""
    return _FREE + _GROWTH * num_bytes


def allowed_by(path: Path) -> int:
    """Return how many bytes the file at ``path`` may become."""
    return allowance(path.stat().st_size)
