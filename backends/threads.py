"""Threads that engines share: how many there are, and how they work on one thing at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

__all__ = ["Company", "default_threads"]


def default_threads() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Company:
    """Threads that stay ready: one run after another begins without making them anew."""

    def __init__(self) -> None:
        self._helpers: ThreadPoolExecutor | None = None

    def do(self, parts: Sequence[Callable[[], None]]) -> None:
        """Do the first of some parts; threads that are free do others, and those not begun never.

        For work of which each part takes what none has begun, so that one alone can do it all.
        """
        first, *others = parts
        if self._helpers is None:
            self._helpers = ThreadPoolExecutor(max(1, len(others)))
        waiting = [self._helpers.submit(other) for other in others]
        first()
        for other in waiting:
            if not other.cancel():
                other.result()
