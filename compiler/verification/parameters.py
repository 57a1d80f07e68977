"""Weights and decays before and after quantization, as histograms, and what they take.

All in source units: what a weight adds to the current, what a state keeps a step. Float weights
come with the gain that makes up for rounded decays, so that what differs is their rounding. Bins
are whole numbers of quantization steps wide, around the levels, so that equal distributions
look equal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, IntArray, size
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT
from spikec.compiler.ir import Graph, Population
from spikec.compiler.operators import Conv2d, row_sums, weights_of
from spikec.compiler.program import Connection, Neurons, Program
from spikec.compiler.quantize.decay import alpha_of, beta_of
from spikec.compiler.verification.attribution import Kind, replaced

__all__ = ["Decays", "Histogram", "Parameters", "Resources", "Weights", "parameters"]

_BINS = 64
#: Weights looked at together.
_BLOCK = 1 << 20
#: Bits of a current and of a voltage.
_STATE_BITS = 24


@dataclass(frozen=True, eq=False, kw_only=True)
class Histogram:
    """Counts in bins of ``width`` from ``start``; ``before`` needs the float network."""

    start: float
    width: float
    before: IntArray | None
    after: IntArray


@dataclass(frozen=True, eq=False, kw_only=True)
class Weights:
    """One edge: ``step`` is the distance of levels, errors are against the float weights.

    ``rms_error`` is relative to the weights' RMS; ``zeros`` are weights that are 0 before
    (None without the float network) and after.
    """

    edge: str
    source: str
    target: str
    count: int
    bits: int
    sign_mode: str
    exponent: int
    step: float
    zeros: tuple[int | None, int]
    rms_error: float | None
    max_error: float | None
    histogram: Histogram


@dataclass(frozen=True, eq=False, kw_only=True)
class Decays:
    """What one state keeps a step, least and most; None without the float network."""

    population: str
    kind: str
    before: tuple[float, float] | None
    after: tuple[float, float]
    histogram: Histogram


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a population and the edges into it take.

    ``weight_bytes`` are packed at the stored bits, shared kernels once; ``synapses`` counts the
    weights that are not 0 at every place they act; ``state_bytes`` has 24 bits a current (where
    there is one) and a voltage.
    """

    population: str
    neurons: int
    synapses: int
    weight_bytes: float
    state_bytes: float
    longest_delay: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Parameters:
    """All of a program."""

    weights: tuple[Weights, ...]
    decays: tuple[Decays, ...]
    resources: tuple[Resources, ...]


def parameters(program: Program, canonical: Graph | None) -> Parameters:
    """Return the parameters of ``program`` beside those of the graph it was lowered from."""
    floats = {} if canonical is None else _with_gain(program, canonical)
    return Parameters(
        weights=tuple(_weights(program, item, floats) for item in program.connections),
        decays=tuple(
            found for item in program.neurons for found in _decays(item, canonical)
        ),
        resources=tuple(_resources(program, item) for item in program.neurons),
    )  # fmt: skip


def _with_gain(program: Program, canonical: Graph) -> dict[str, Array]:
    """Return the weights of each edge as they were before rounding, flat."""
    decays: tuple[Kind, ...] = ("synaptic decay", "membrane decay")
    choices = [(node.name, kind) for node in canonical.populations for kind in decays]
    graph = replaced(canonical, program, choices)
    return {edge.name: weights_of(edge.operator)[0].reshape(-1) for edge in graph.edges}


def _weights(program: Program, connection: Connection, known: Mapping[str, Array]) -> Weights:
    sources = {item.name: item.frac_bits for item in program.inputs}
    shift = connection.weight_exp + ACTIVATION_SHIFT + sources.get(connection.source, 0)
    unit = math.ldexp(program.population(connection.target).lsb, shift)
    mantissas = connection.operator.weight.reshape(-1)
    floats = known.get(connection.name)
    step = unit * connection.step
    tally = _Tally(_span(mantissas, floats, unit), step)
    for block in _blocks(len(mantissas)):
        tally.add(mantissas[block] * unit, None if floats is None else floats[block])
    return Weights(
        edge=connection.name,
        source=connection.source,
        target=connection.target,
        count=len(mantissas),
        bits=connection.num_weight_bits,
        sign_mode=connection.sign_mode,
        exponent=connection.weight_exp,
        step=step,
        zeros=(None if floats is None else tally.zeros[0], tally.zeros[1]),
        rms_error=None if floats is None else tally.rms_error,
        max_error=None if floats is None else tally.largest,
        histogram=tally.histogram(with_floats=floats is not None),
    )


def _span(mantissas: Array, floats: Array | None, unit: float) -> tuple[float, float]:
    low, high = (float(part(mantissas, initial=0)) * unit for part in (np.min, np.max))
    if floats is not None and floats.size:
        low, high = min(low, float(floats.min())), max(high, float(floats.max()))
    return low, high


def _blocks(count: int) -> Iterator[slice]:
    for begin in range(0, count, _BLOCK):
        yield slice(begin, begin + _BLOCK)


class _Tally:
    """What weights add up to, block by block."""

    def __init__(self, span: tuple[float, float], step: float) -> None:
        levels = (span[1] - span[0]) / step + 1
        # An odd number of steps: a level in the middle of every bin.
        self.width = (
            (2 * math.ceil((levels / _BINS - 1) / 2) + 1) * step if levels > _BINS else step
        )
        self.first = math.floor(span[0] / self.width + 0.5)
        bins = math.floor(span[1] / self.width + 0.5) - self.first + 1
        self.before, self.after = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
        self.zeros = [0, 0]
        self.largest = self.square_error = self.square = 0.0

    def add(self, after: FloatArray, before: Array | None) -> None:
        """Add a block."""
        self.after += self._counts(after)
        self.zeros[1] += int((after == 0).sum())
        if before is not None:
            self.before += self._counts(before)
            self.zeros[0] += int((before == 0).sum())
            error = after - before
            self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))
            self.square_error += float((error * error).sum())
            self.square += float((before * before).sum(dtype=np.float64))

    @property
    def rms_error(self) -> float:
        """The error's RMS, relative to that of the float weights."""
        return math.sqrt(self.square_error / self.square) if self.square else 0.0

    def _counts(self, values: Array) -> IntArray:
        places = np.floor(values / self.width + 0.5).astype(np.int64) - self.first
        counts: IntArray = np.bincount(
            np.clip(places, 0, len(self.after) - 1), minlength=len(self.after)
        )
        return counts

    def histogram(self, *, with_floats: bool) -> Histogram:
        """Return what was counted."""
        return Histogram(
            start=(self.first - 0.5) * self.width,
            width=self.width,
            before=self.before if with_floats else None,
            after=self.after,
        )


def _decays(neurons: Neurons, canonical: Graph | None) -> Iterator[Decays]:
    node = None if canonical is None else canonical[neurons.name]
    assert node is None or isinstance(node, Population)
    alpha, beta = alpha_of(neurons.du), beta_of(neurons.dv)
    if alpha.any() and (node is None or node.alpha is not None):
        yield _decay(neurons, "synaptic", None if node is None else node.alpha, alpha)
    yield _decay(neurons, "membrane", None if node is None else node.beta, beta)


def _decay(neurons: Neurons, kind: str, before: Array | None, after: Array) -> Decays:
    both = after if before is None else np.concatenate((np.ravel(before), np.ravel(after)))
    low, high = float(both.min()), float(both.max())
    width = max((high - low) / _BINS, 1 / 4096)
    start = low - width / 2
    bins = math.floor((high - start) / width) + 1

    def counts(values: Array) -> IntArray:
        full = np.broadcast_to(values, neurons.shape).reshape(-1)
        places = np.floor((full - start) / width).astype(np.int64)
        found: IntArray = np.bincount(np.clip(places, 0, bins - 1), minlength=bins)
        return found

    return Decays(
        population=neurons.name,
        kind=kind,
        before=None if before is None else (float(before.min()), float(before.max())),
        after=(float(after.min()), float(after.max())),
        histogram=Histogram(
            start=start,
            width=width,
            before=None if before is None else counts(before),
            after=counts(after),
        ),
    )


def _resources(program: Program, neurons: Neurons) -> Resources:
    incoming = program.connections_into(neurons.name)
    states = 1 + int(bool(alpha_of(neurons.du).any()))
    return Resources(
        population=neurons.name,
        neurons=neurons.num_neurons,
        synapses=sum(_synapses(item, neurons) for item in incoming),
        weight_bytes=sum(item.operator.weight.size * item.num_weight_bits for item in incoming) / 8,
        state_bytes=neurons.num_neurons * states * _STATE_BITS / 8,
        longest_delay=max((item.delay for item in incoming), default=0),
    )


def _synapses(connection: Connection, neurons: Neurons) -> int:
    """Return the weights that are not 0; a kernel's count wherever it is put, edges included."""
    each = row_sums(connection.operator, lambda weight: weight != 0)
    places = 1
    if isinstance(connection.operator, Conv2d):
        places = size(neurons.shape) // max(1, len(each))
    return int(each.sum()) * places
