"""Many samples in bounded memory: a run is cut into batches of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from spikec.compiler.arrays import Array
from spikec.compiler.backend import Progress
from spikec.compiler.trace import Trace

__all__ = ["batch_size", "in_batches", "run_in_batches"]

#: State values that one batch may record.
_VALUES_PER_BATCH = 32_000_000
_MOST_SAMPLES = 500
#: The same of a run that holds little beside its trace, and the bytes of a neuron's state there.
#: Traces of batches are joined, which takes their memory a second time.
_LEAN_VALUES, _STATE_BYTES = 1 << 28, 12


def batch_size(neurons: int, steps: int, *, lean: bool = False) -> int:
    """Return how many samples to run at once so that a few records of all neurons fit memory.

    A ``lean`` run holds no more than its trace, of bytes, and a state for each sample.
    """
    if lean:
        return max(1, _LEAN_VALUES // max(1, neurons * (steps + _STATE_BYTES)))
    return max(1, min(_MOST_SAMPLES, _VALUES_PER_BATCH // max(1, neurons * steps)))


def in_batches(samples: int, size: int) -> Iterator[slice]:
    """Yield slices that cover ``samples`` in order."""
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


def run_in_batches(
    run: Callable[[Mapping[str, Array]], Trace],
    inputs: Mapping[str, Array],
    *,
    size: int,
    progress: Progress | None = None,
) -> Trace:
    """Return the trace of ``run`` over all samples, ``size`` of them at a time."""
    samples = len(next(iter(inputs.values())))
    if samples <= size and progress is None:
        return run(inputs)
    traces = []
    for part in in_batches(samples, size):
        traces.append(run({name: values[part] for name, values in inputs.items()}))
        if progress is not None:
            progress(part.stop, samples)
    return Trace.joined(traces, axis="sample")
