"""The ``simulator`` backend: programs run in integers on the CPU, by one of two engines."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import TracebackType
from typing import Literal, Protocol, TypeAlias, get_args

from spikec.backends.simulator import golden
from spikec.backends.simulator.fast import Way
from spikec.compiler.arrays import Array
from spikec.compiler.backend import Progress
from spikec.compiler.batches import batch_size, in_batches, run_in_batches
from spikec.compiler.bounds import refused_sums
from spikec.compiler.entrance import refuse_few, taken
from spikec.compiler.errors import BackendError, Diagnostic, UsageError, raise_if_any
from spikec.compiler.inputs import Stream
from spikec.compiler.program import Neurons, Program, refused_encoders
from spikec.compiler.trace import Probe, Trace, check_probes

__all__ = ["ENGINES", "Engine", "SimulatorBackend", "SimulatorExecutable", "Steps"]

#: ``golden`` is the definition in plain NumPy, ``fast`` equals it bit for bit.
Engine: TypeAlias = Literal["fast", "golden"]
ENGINES: tuple[Engine, ...] = get_args(Engine)


@dataclass(frozen=True, kw_only=True)
class SimulatorBackend:
    """Runs every program; with ``strict`` a current that wraps is an error, not a count.

    ``engine`` None is the fast one where it can run the program: sigma-delta and
    resonate-and-fire populations run on golden. ``threads`` None takes every processor that
    the process may use; the golden engine has one.
    """

    strict: bool = False
    engine: Engine | None = None
    threads: int | None = None

    name = "simulator"

    def __post_init__(self) -> None:
        if self.engine not in (None, *ENGINES):
            raise UsageError(
                Diagnostic(
                    code="U072",
                    where=f"engine '{self.engine}'",
                    message="there is no such engine",
                    hint=f"one of {', '.join(ENGINES)}",
                )
            )

    def check(self, program: Program) -> Sequence[Diagnostic]:
        """Return what the engine that was asked for cannot run, and sums that none can."""
        return (*self._unfit(program), *refused_sums(program))

    def _unfit(self, program: Program) -> Sequence[Diagnostic]:
        """Return the populations that the engine that was asked for does not know."""
        if self.engine != "fast":
            return ()
        return tuple(
            replace(item, hint="leave --engine out, or take --engine golden: it computes them")
            for item in refused_encoders(program, "the fast engine")
        )

    def load(self, program: Program) -> SimulatorExecutable:
        """Return ``program`` ready to run; :class:`BackendError` if the engine cannot start."""
        raise_if_any(BackendError, self._unfit(program))
        unfit = [item.name for item in program.populations if not isinstance(item, Neurons)]
        golden_engine = self.engine == "golden" or bool(unfit)
        run_batch, session, explain = (
            _golden(program) if golden_engine else _fast(program, self.threads)
        )
        return SimulatorExecutable(
            program=program,
            strict=self.strict,
            run_batch=run_batch,
            open_session=session,
            explain=explain,
            engine="golden" if golden_engine else "fast",
        )


#: Runs a batch of inputs and records probes.
RunBatch: TypeAlias = Callable[[Mapping[str, Array], Sequence[Probe]], Trace]


class Steps(Protocol):
    """Samples side by side at work; chunks of steps go in, complete steps come out.

    Each chunk holds what the program's inputs take, ``[sample, step, *shape]`` of the samples
    that the session was opened for. Others raise :class:`UsageError`, and the session is as it
    was; after its last chunk it takes no more.
    """

    @property
    def events(self) -> Mapping[str, int]:
        """What wrapped or saturated so far."""
        ...

    def run(self, inputs: Mapping[str, Array], *, last: bool = False) -> Trace:
        """Take the next steps; all that is left comes out of the ``last`` ones."""
        ...


#: Opens a session of some samples that records probes.
OpenSession: TypeAlias = Callable[[int, Sequence[Probe]], Steps]
#: What an engine is: how it runs a batch, opens a session, and served connections last.
Parts: TypeAlias = tuple[RunBatch, OpenSession, Callable[[], Mapping[str, Way]]]


@dataclass(frozen=True, eq=False, kw_only=True)
class SimulatorExecutable:
    """A program and the engine that runs it, batch by batch."""

    program: Program
    run_batch: RunBatch
    open_session: OpenSession
    strict: bool = False
    explain: Callable[[], Mapping[str, Way]] = dict
    engine: Engine = "fast"

    @property
    def ways(self) -> Mapping[str, Way]:
        """How the fast engine served each connection in its last batch."""
        return self.explain()

    @cached_property
    def _default_probes(self) -> tuple[Probe, ...]:
        return self.program.default_probes

    @cached_property
    def _neurons(self) -> int:
        return self.program.num_neurons

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(item.name for item in self.program.populations)

    @cached_property
    def _waits(self) -> int:
        """For how many steps a run keeps what was sent, beside its own."""
        return self.program.longest_wait

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:
        """Run ``inputs``, ``[sample, step, *shape]`` per input name, each sample from its start.

        Raises :class:`UsageError` for arrays of another shape, values that an input does not
        take, and unknown probes.
        """
        arrays = taken(inputs, self.program.inputs)
        wanted = self._wanted(probes) if probes else self._default_probes
        steps = next(iter(arrays.values())).shape[1] + self._waits
        trace = run_in_batches(
            lambda part: self.run_batch(part, wanted),
            arrays,
            size=batch_size(self._neurons, steps, lean=self.engine == "fast" and progress is None),
            progress=progress,
        )
        if self.strict:
            golden.refuse_wrapped(trace.events)
        return trace

    def session(self, samples: int, probes: Sequence[Probe] = ()) -> Steps:
        """Open a session of ``samples`` samples side by side, which records ``probes``.

        By default it records all spikes and the voltage of readouts. Raises
        :class:`UsageError` for unknown probes and less than one sample.
        """
        refuse_few(samples, "samples of a session")
        wanted = self._default_probes
        if probes:
            check_probes(probes, self._names)
            wanted = tuple(probes)
        return self.open_session(samples, wanted)

    def _wanted(self, probes: Sequence[Probe]) -> tuple[Probe, ...]:
        check_probes(probes, self._names)
        return tuple(dict.fromkeys((*self._default_probes, *probes)))

    def stream(
        self,
        data: Stream,
        *,
        samples: int,
        steps: int,
        probes: Sequence[Probe] = (),
    ) -> Iterator[tuple[int, int, Trace]]:
        """Run ``data`` in pieces: yield first sample, first step, and the trace from there.

        A piece takes up to ``samples`` samples and ``steps`` steps of the data; of a run
        of any length, only a piece and the state are in memory. Batches of samples come one
        after the other, each in the order of steps. A batch's last piece counts its events.
        Raises :class:`UsageError` as :meth:`run` does, for values when they are read.
        """
        refuse_few(samples, "samples of a piece")
        refuse_few(steps, "steps of a piece")
        taken(data.inputs, self.program.inputs, where=data.where, any_features=True)
        wanted = self._wanted(probes)
        for batch in in_batches(data.num_samples, samples):
            session = self.session(batch.stop - batch.start, wanted)
            reported = 0
            for chunk in in_batches(data.num_steps, steps):
                last = chunk.stop == data.num_steps
                trace = session.run(data.read(batch, chunk), last=last)
                if last:
                    trace = replace(trace, events={**trace.events, **session.events})
                if last and self.strict:
                    golden.refuse_wrapped(session.events)
                yield batch.start, reported, trace
                reported += trace.num_steps

    def __enter__(self) -> SimulatorExecutable:  # noqa: PYI034 - it is final
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held."""


def _golden(program: Program) -> Parts:
    return (
        lambda inputs, probes: golden.run(program, inputs, probes=probes),
        lambda samples, probes: golden.Chunks(program, samples=samples, probes=probes),
        dict,
    )


@contextmanager
def _uncollected() -> Iterator[None]:
    """Look for no garbage meanwhile: importing makes many objects, and none of them is."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_uncollected()
def _fast(program: Program, threads: int | None) -> Parts:
    try:
        from spikec.backends.simulator import fast, kernels, layout  # noqa: F401 - Numba's part
    except ImportError as error:
        raise BackendError(
            Diagnostic(
                code="B013",
                where="simulator",
                message=f"the fast engine cannot start: {error}",
                hint="install a numba that fits your NumPy, or run with --engine golden",
            )
        ) from error
    laid_out = layout.laid_out(program)
    kept = fast.Kept(laid_out)
    fast.Session(laid_out, samples=1, probes=(), kept=kept).prepare()
    return (
        partial(fast.run, laid_out, threads=threads, kept=kept),
        lambda samples, probes: fast.Session(
            laid_out, samples=samples, probes=probes, threads=threads, kept=kept
        ),
        kept.ways,
    )
