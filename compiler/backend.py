"""What a backend offers: the two protocols that runs and verification are written against."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Protocol, TypeAlias

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic
from spikec.compiler.program import Program
from spikec.compiler.trace import Probe, Trace

__all__ = ["Backend", "Executable", "Progress"]

#: Called with (samples done, samples in all) while a run goes on.
Progress: TypeAlias = Callable[[int, int], None]


class Executable(Protocol):
    """A loaded program; a context manager that frees what it holds."""

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:
        """Run ``inputs``, ``[sample, step, *shape]`` per input name, each sample from its start.

        Records all spikes, the voltage of readouts, and ``probes``; states come
        as the program's integers.
        """
        ...

    def __enter__(self) -> Executable:  # noqa: PYI034 - a protocol's own type says enough
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...


class Backend(Protocol):
    """Runs programs; built with its options, holds no program state."""

    @property
    def name(self) -> str:
        """The word users say."""
        ...

    def check(self, program: Program) -> Sequence[Diagnostic]:
        """Return what this backend cannot do with ``program``, before anything runs."""
        ...

    def load(self, program: Program) -> Executable:
        """Return ``program`` ready to run; raises ``BackendError`` with what ``check`` finds."""
        ...
