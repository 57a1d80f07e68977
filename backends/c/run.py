"""The ``c`` backend: programs compiled for this computer, run over samples in parallel."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import cached_property
from types import TracebackType

import numpy as np

from spikec.backends.c.compiler import compile_engine
from spikec.backends.c.native import generate
from spikec.backends.c.plan import Plan, check, plan
from spikec.compiler.arrays import Array
from spikec.compiler.backend import Progress
from spikec.compiler.errors import BackendError, Diagnostic
from spikec.compiler.inputs import to_integers
from spikec.compiler.program import Neurons, Program
from spikec.compiler.trace import QUANTITIES, Probe, Quantity, Trace

__all__ = ["CBackend", "CExecutable"]

_Pointers = ctypes.Array[ctypes.c_void_p]


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
            threads=self.threads or _processors(),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class CExecutable:
    """A compiled program with its arrays; :meth:`run` may be called from several threads."""

    plan: Plan
    arrays: tuple[Array, ...]
    library: ctypes.CDLL
    group: int
    threads: int
    rooms: list[Array] = field(default_factory=list)

    def _take_room(self) -> Array:
        """Return memory to work in: what an earlier run has left, else new."""
        try:
            return self.rooms.pop()
        except IndexError:
            count = self.library.spikec_room
            count.restype = ctypes.c_int64
            return _room(int(count()))

    @cached_property
    def _default_probes(self) -> tuple[Probe, ...]:
        return self.plan.program.default_probes

    @cached_property
    def _neurons(self) -> dict[str, Neurons]:
        return {cell.neurons.name: cell.neurons for cell in self.plan.cells}

    @cached_property
    def _given_arrays(self) -> _Pointers:
        return _pointers(self.arrays)

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:
        """Run ``inputs``, ``[sample, step, *shape]`` per input name, each sample from its start.

        ``events`` counts wraps, saturations and clipped inputs as the simulator does.
        """
        program = self.plan.program
        given, events = _prepared(self.plan, inputs)
        samples, steps = next(iter(given.values())).shape[:2]
        wanted = dict.fromkeys((*self._default_probes, *probes))
        values = {
            probe: _blank(self._neurons[probe[0]], probe[1], samples, steps) for probe in wanted
        }
        counts = np.zeros((len(self.plan.cells), 2), np.int64)
        if samples and steps:
            self._run(list(given.values()), values, counts, progress)
        for cell, pair in zip(self.plan.cells, counts.tolist(), strict=True):
            for what, count in zip(("current wrapped", "voltage saturated"), pair, strict=True):
                if count:
                    events[f"{cell.neurons.name}/{what}"] = count
        return Trace(values=values, outputs=program.outputs, events=events)

    def _run(
        self,
        given: Sequence[Array],
        values: Mapping[Probe, Array],
        counts: Array,
        progress: Progress | None,
    ) -> None:
        names = [cell.neurons.name for cell in self.plan.cells]
        outputs = [values.get((name, quantity)) for name in names for quantity in QUANTITIES]
        samples = len(given[0])
        parts = list(_parts(samples, self.group, self.threads))

        def work(part: slice) -> tuple[int, Array]:
            found = np.zeros_like(counts)
            room = self._take_room()
            self.library.spikec_run(
                self._given_arrays,
                _pointers([item[part] for item in given]),
                _pointers([None if item is None else item[part] for item in outputs]),
                ctypes.c_int64(part.stop - part.start),
                ctypes.c_int64(given[0].shape[1]),
                _pointer(found),
                _pointer(room),
            )
            self.rooms.append(room)
            return part.stop - part.start, found

        done = 0
        for size, found in _in_threads(work, parts, self.threads):
            counts += found
            done += size
            if progress is not None:
                progress(done, samples)

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


def _prepared(built: Plan, inputs: Mapping[str, Array]) -> tuple[dict[str, Array], dict[str, int]]:
    """Return contiguous bytes of binary inputs and 32-bit integers of graded ones."""
    ready: dict[str, Array] = {}
    slow: dict[str, Array] = {}
    events: dict[str, int] = {}
    for entry in built.program.inputs:
        values = np.asarray(inputs[entry.name])
        plain = entry.kind != "analog" and values.dtype in (np.uint8, np.bool_)
        if plain and values.size and entry.low <= 0 and int(values.max()) <= entry.high:
            ready[entry.name] = values.view(np.uint8)
        else:
            slow[entry.name] = values
    if slow:
        integers, events = to_integers(built.program, inputs)
        ready |= {name: integers[name] for name in slow}
    return {
        entry.name: np.ascontiguousarray(
            ready[entry.name], np.int32 if built.source(entry.name).graded else np.uint8
        )
        for entry in built.program.inputs
    }, events


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


def _parts(samples: int, group: int, threads: int) -> Iterator[slice]:
    """Yield slices of samples: whole groups, and several for each thread to even them out."""
    size = -(-samples // (threads if threads == 1 else 4 * threads))
    size = -(-size // group) * group if samples >= group * threads else -(-samples // threads)
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


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


def _pointer(array: Array) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.__array_interface__["data"][0])


def _pointers(arrays: Sequence[Array | None]) -> _Pointers:
    places = [None if item is None else item.__array_interface__["data"][0] for item in arrays]
    return (ctypes.c_void_p * max(1, len(places)))(*places)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
