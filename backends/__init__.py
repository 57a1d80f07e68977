"""What runs or emits programs: the integer simulator, C and Lava."""

from __future__ import annotations

from typing import Any

from spikec.compiler.backend import Backend
from spikec.compiler.errors import Diagnostic, UsageError

__all__ = ["BACKENDS", "open_backend"]

#: The names of all backends that run programs.
BACKENDS = ("simulator", "c", "lava")


def open_backend(name: str, **options: Any) -> Backend:
    """Return the backend ``name``, built with its own ``options``.

    Raises :class:`UsageError` when there is no such backend.
    """
    if name == "simulator":
        from spikec.backends.simulator.engine import SimulatorBackend

        return SimulatorBackend(**options)
    if name == "c":
        from spikec.backends.c.run import CBackend

        return CBackend(**options)
    if name == "lava":
        from spikec.backends.lava.run import LavaBackend

        return LavaBackend(**options)
    raise UsageError(
        Diagnostic(
            code="U070",
            where=f"backend '{name}'",
            message="there is no such backend",
            hint=f"one of {', '.join(BACKENDS)}",
        )
    )
