"""The ``c`` backend: programs compiled for this computer, run over samples in parallel."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import TracebackType

import numpy as np

from spikec.backends.c.compiler import compile_engine
from spikec.backends.c.native import generate
from spikec.backends.c.plan import Plan, check, plan
from spikec.backends.threads import Company, default_threads
from spikec.compiler.arrays import Array, address
from spikec.compiler.backend import Progress
from spikec.compiler.entrance import taken
from spikec.compiler.errors import BackendError, Diagnostic
from spikec.compiler.inputs import crowded, to_integers
from spikec.compiler.program import Neurons, Program, ProgramInput
from spikec.compiler.trace import QUANTITIES, Probe, Quantity, Trace, check_probes

__all__ = ["CBackend", "CExecutable"]

_Pointers = ctypes.POINTER(ctypes.c_void_p)
#: Additions above which threads share a sample.
_WORTH_SHARING = 1 << 29


@dataclass(frozen=True, kw_only=True)
class CBackend:
    """Runs programs as compiled C, bit for bit what the simulator's ``golden`` gives.

    ``threads`` is how many samples are worked on at once; by default one for each
    processor that this process may use.
    """

    threads: int | None = None

    name = "c"

    def check(self, program: Program) -> Sequence[Diagnostic]:
        """Return why C cannot be generated for ``program``."""
        return check(program)

    def load(self, program: Program) -> CExecutable:
        """Return ``program`` compiled.

        Raises :class:`BackendError` with what :meth:`check` finds, when there is no
        C compiler, or when it fails.
        """
        built = plan(program)
        native = generate(built)
        library = compile_engine(native.source)
        return CExecutable(
            plan=built,
            arrays=native.arrays,
            library=library,
            group=native.group,
            divisible=native.divisible,
            threads=self.threads or default_threads(),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class CExecutable:
    """A compiled program with its arrays; :meth:`run` may be called from several threads."""

    plan: Plan
    arrays: tuple[Array, ...]
    library: ctypes.CDLL
    group: int
    divisible: int
    threads: int
    rooms: list[Array] = field(default_factory=list)
    company: Company = field(default_factory=Company)

    def _take_room(self) -> Array:
        """Return memory to work in: what an earlier run has left, else new."""
        try:
            return self.rooms.pop()
        except IndexError:
            return _room(int(self._library.spikec_room()))

    @cached_property
    def _library(self) -> ctypes.CDLL:
        place, number = ctypes.c_void_p, ctypes.c_int64
        self.library.spikec_room.restype = number
        self.library.spikec_phases.argtypes = [number, number]
        self.library.spikec_phases.restype = number
        self.library.spikec_run.argtypes = [
            _Pointers, _Pointers, _Pointers, number, number, place, place, number, place,
        ]  # fmt: skip
        self.library.spikec_run.restype = None
        return self.library

    @cached_property
    def _default_probes(self) -> tuple[Probe, ...]:
        return self.plan.program.default_probes

    @cached_property
    def _neurons(self) -> dict[str, Neurons]:
        return {cell.neurons.name: cell.neurons for cell in self.plan.cells}

    @cached_property
    def _records(self) -> list[Probe]:
        """What the engine can record, in its order."""
        return [(name, quantity) for name in self._neurons for quantity in QUANTITIES]

    @cached_property
    def _given_arrays(self) -> ctypes.Array[ctypes.c_void_p]:
        return _pointers(self.arrays)

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:
        """Run ``inputs``, ``[sample, step, *shape]`` per input name, each sample from its start.

        ``events`` counts wraps, saturations and clipped inputs as the simulator does. Raises
        :class:`UsageError` for arrays of another shape, values that an input does not take, and
        unknown probes.
        """
        entries = self.plan.program.inputs
        arrays = taken(inputs, entries)
        if probes:
            check_probes(probes, [*self._neurons])
        plain = {item.name: _bytes(arrays[item.name], item) for item in entries}
        if not any(item is None for item in plain.values()):
            given = [item for item in plain.values() if item is not None]
            trace = self._traced(given, crowded(entries, arrays), probes, progress)
            if trace is not None:
                return trace
        return _known(self._traced(*_prepared(self.plan, arrays), probes, progress))

    def _traced(
        self,
        given: Sequence[Array],
        events: dict[str, int],
        probes: Sequence[Probe],
        progress: Progress | None,
    ) -> Trace | None:
        """Run what the engine takes; return None if bytes of spikes were neither 0 nor 1."""
        samples, steps = given[0].shape[:2]
        wanted = self._default_probes
        if probes:
            wanted = tuple(dict.fromkeys((*wanted, *probes)))
        values = {
            probe: _blank(self._neurons[probe[0]], probe[1], samples, steps) for probe in wanted
        }
        counts = np.zeros(2 * len(self.plan.cells) + 1, np.int64)
        if samples and steps:
            self._run(given, values, counts, progress)
        found = counts.tolist()
        if found[-1]:
            return None
        if any(found):
            names = self._neurons
            kinds = [f"{name}/{what}" for name in names
                     for what in ("current wrapped", "voltage saturated")]  # fmt: skip
            pairs = zip(kinds, found[:-1], strict=True)
            events = events | {kind: count for kind, count in pairs if count}
        return Trace(values=values, outputs=self.plan.program.outputs, events=events)

    def _run(
        self,
        given: Sequence[Array],
        values: Mapping[Probe, Array],
        counts: Array,
        progress: Progress | None,
    ) -> None:
        samples, steps = given[0].shape[:2]
        outputs = [values.get(record) for record in self._records]
        if self.threads >= 2 * samples and self.divisible * steps > _WORTH_SHARING:
            self._share(given, outputs, counts)
            if progress is not None:
                progress(samples, samples)
            return

        def work(part: slice) -> tuple[int, Array]:
            found = np.zeros_like(counts)
            room = self._take_room()
            self._call(given, outputs, part, found, room, 1, found)
            self.rooms.append(room)
            return part.stop - part.start, found

        done = 0
        for size, found in _in_threads(work, self._parts(samples), self.threads):
            counts += found
            done += size
            if progress is not None:
                progress(done, samples)

    def _share(
        self, given: Sequence[Array], outputs: Sequence[Array | None], counts: Array
    ) -> None:
        """Run few samples, all threads at once on each."""
        samples, steps = given[0].shape[:2]
        parts = self.threads // samples
        found = np.zeros((parts, len(counts)), np.int64)
        meeting = np.zeros(int(self._library.spikec_phases(samples, steps)), np.int64)
        room = self._take_room()

        def work(part: int) -> None:
            self._call(given, outputs, slice(0, samples), found[part], room, parts, meeting)

        self.company.do([partial(work, part) for part in range(parts)])
        self.rooms.append(room)
        counts += found.sum(axis=0)

    def _call(
        self,
        given: Sequence[Array],
        outputs: Sequence[Array | None],
        part: slice,
        found: Array,
        room: Array,
        parts: int,
        meeting: Array,
    ) -> None:
        self._library.spikec_run(
            self._given_arrays,
            _pointers([item[part] for item in given]),
            _pointers([None if item is None else item[part] for item in outputs]),
            part.stop - part.start,
            given[0].shape[1],
            address(found),
            address(room),
            parts,
            address(meeting),
        )

    def _parts(self, samples: int) -> Sequence[slice]:
        """Return slices of samples: whole groups, and several a thread to even them out."""
        threads, group = self.threads, self.group
        if threads == 1 or samples == 1:
            return (slice(0, samples),)
        size = -(-samples // (4 * threads))
        size = -(-size // group) * group if samples >= group * threads else -(-samples // threads)
        return [slice(at, min(at + size, samples)) for at in range(0, samples, size)]

    def __enter__(self) -> CExecutable:  # noqa: PYI034 - it is final
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the memory that runs left; the library stays loaded, as others may have it."""
        self.rooms.clear()


def _known(trace: Trace | None) -> Trace:
    assert trace is not None, "what was converted is 0 or 1"
    return trace


def _bytes(values: Array, entry: ProgramInput) -> Array | None:
    """Return spikes that are bytes already, which the engine checks; None for all else."""
    if values.dtype.char not in "B?" or entry.kind != "binary":
        return None
    return np.ascontiguousarray(values)


def _prepared(built: Plan, inputs: Mapping[str, Array]) -> tuple[list[Array], dict[str, int]]:
    """Return contiguous bytes of inputs that are 0 or 1 and 32-bit integers of graded ones."""
    integers, events = to_integers(built.program, inputs)
    return [
        np.ascontiguousarray(
            integers[entry.name], np.int32 if built.source(entry.name).graded else np.uint8
        )
        for entry in built.program.inputs
    ], events


def _blank(neurons: Neurons, quantity: Quantity, samples: int, steps: int) -> Array:
    """Return a record of zeros, with the initial state where a negative lag shows it."""
    kind = np.uint8 if quantity == "spikes" else np.int64
    record = np.zeros((samples, steps, *neurons.shape), kind)
    if quantity == "spikes":
        return record
    lag = neurons.view.current_lag if quantity == "current" else neurons.view.lag
    initial = neurons.initial_current if quantity == "current" else neurons.initial_voltage
    if lag < 0:
        record[:, : min(-lag, steps)] = initial
    return record


def _in_threads(
    work: Callable[[slice], tuple[int, Array]], parts: Sequence[slice], threads: int
) -> Iterator[tuple[int, Array]]:
    """Yield the result of each part as it is ready."""
    if threads == 1 or len(parts) == 1:
        for part in parts:
            yield work(part)
        return
    with ThreadPoolExecutor(max_workers=threads) as pool:
        waiting = {pool.submit(work, part) for part in parts}
        while waiting:
            ready, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for item in ready:
                yield item.result()


def _room(count: int) -> Array:
    """Return ``count`` bytes; raise :class:`BackendError` where there are not as many."""
    try:
        return np.empty(count, np.uint8)
    except MemoryError as error:
        raise BackendError(
            Diagnostic(
                code="B054",
                where="backend 'c'",
                message=f"there is not enough memory for the network's state, {count} bytes",
                hint="use fewer threads, or a smaller network",
            )
        ) from error


def _pointers(arrays: Sequence[Array | None]) -> ctypes.Array[ctypes.c_void_p]:
    places = [None if item is None else address(item) for item in arrays]
    return (ctypes.c_void_p * max(1, len(places)))(*places)
