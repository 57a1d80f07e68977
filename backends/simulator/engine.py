"""The ``simulator`` backend: programs run in integers on the CPU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType

from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.backend import Progress
from spikec.compiler.batches import batch_size, run_in_batches
from spikec.compiler.errors import Diagnostic
from spikec.compiler.program import Program
from spikec.compiler.trace import Probe, Trace

__all__ = ["SimulatorBackend"]


@dataclass(frozen=True, kw_only=True)
class SimulatorBackend:
    """Runs every program; with ``strict`` a current that wraps is an error, not a count."""

    strict: bool = False

    name = "simulator"

    def check(self, program: Program) -> Sequence[Diagnostic]:  # noqa: ARG002 - it runs all
        """Return nothing: there is no program it cannot run."""
        return ()

    def load(self, program: Program) -> GoldenExecutable:
        """Return ``program`` ready to run."""
        return GoldenExecutable(program=program, strict=self.strict)


@dataclass(frozen=True, eq=False, kw_only=True)
class GoldenExecutable:
    """A program run by :mod:`spikec.backends.simulator.golden`, batch by batch."""

    program: Program
    strict: bool = False

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:
        """Run ``inputs``, ``[sample, step, *shape]`` per input name, each sample from its start."""
        wanted = tuple(dict.fromkeys((*self.program.default_probes, *probes)))
        steps = next(iter(inputs.values())).shape[1]
        return run_in_batches(
            lambda part: golden.run(self.program, part, probes=wanted, strict=self.strict),
            inputs,
            size=batch_size(self.program.num_neurons, steps),
            progress=progress,
        )

    def __enter__(self) -> GoldenExecutable:  # noqa: PYI034 - it is final
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held."""
