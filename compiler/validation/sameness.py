"""Source and canonical graph run in float on the same data: every spike must be the same.

Sums in another order move a voltage by some units in the last place: where it meets its
threshold that closely, either answer is right. A first difference is such a tie if the source
graph itself gives the other answer once its thresholds are moved by one part in 10**9; what
follows in that sample is not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, frozen, sealed, size
from spikec.compiler.batches import in_batches
from spikec.compiler.errors import Diagnostic
from spikec.compiler.ir import LI, LIF, Graph, Node
from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Operator,
    Permute,
    Reshape,
    Stage,
    Weighted,
    weights_of,
)
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.validation.findings import finding, place

__all__ = ["MARGIN", "Outcome", "bounded", "compare_runs", "seeded"]

#: A voltage that comes so close to its threshold, relatively, may go either way.
MARGIN = 1e-9
#: Voltages of readouts differ by no more, relative to the largest.
_VOLTAGE = 1e-6
#: Products that a bounded run may take, and bytes of weights that it may read.
_MOST_PRODUCTS, _MOST_READ = 2e7, 1e8
#: Samples, and steps beside those that the longest path of delays takes.
_SAMPLES, _STEPS, _LEAST_STEPS = 4, 12, 3
#: Samples that run side by side.
_BATCH = 16
#: Shares of inputs that seeded samples have spike, from sample to sample.
_RATES = (0.05, 0.2, 0.5)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What two runs gave: spikes of the source, samples that parted at a tie, and findings."""

    spikes: int = 0
    ties: int = 0
    findings: tuple[Diagnostic, ...] = ()


def bounded(graph: Graph) -> tuple[int, int]:
    """Return how many samples and steps take a bounded time on ``graph``."""
    products = sum(_products(edge.operator, graph[edge.source]) for edge in graph.edges)
    held = 8 * sum(weight.size for edge in graph.edges for weight in weights_of(edge.operator))
    delays = [edge.delay for edge in graph.edges]
    wished = _STEPS + len(graph.populations) + max(delays, default=0)
    steps = max(_LEAST_STEPS, min(wished, int(_MOST_READ // max(1, held))))
    return max(1, min(_SAMPLES, int(_MOST_PRODUCTS // max(1, products * steps)))), steps


def _products(operator: Operator, source: Node) -> int:
    """Return how many products one sample takes."""
    stages = operator.stages if isinstance(operator, Chain) else (operator,)
    shape, total = source.shape, 0
    for stage in stages:
        shape = stage.output_shape(shape)
        if isinstance(stage, Weighted):
            places = size(shape[1:]) if isinstance(stage, Conv2d) else 1
            total += stage.weight.size * places
    return total


def seeded(graph: Graph, samples: int, steps: int) -> dict[str, Array]:
    """Return data like those an input declares: spikes at several rates, numbers in its range."""
    rng = np.random.default_rng(20)
    data: dict[str, Array] = {}
    for node in graph.inputs:
        shape = (samples, steps, *node.shape)
        rates = np.resize(_RATES, samples).reshape(-1, *(1,) * (len(shape) - 1))
        there = rng.random(shape) < rates
        low, high = (-1.0 if node.low is None else node.low), (node.high or 1.0)
        if node.kind == "binary":
            data[node.name] = there.astype(np.uint8)
        elif node.kind == "graded":
            data[node.name] = there * rng.integers(int(low), int(high), shape, endpoint=True)
        else:
            data[node.name] = rng.uniform(low, high, shape)
    return data


def compare_runs(source: Graph, canonical: Graph, inputs: Mapping[str, Array]) -> Outcome:
    """Run both graphs on ``inputs`` and return where they part."""
    found = Outcome()
    dtype: type[np.floating] = np.float32 if _alike(source, canonical) else np.float64
    if dtype is np.float64:
        known: dict[int, Stage] = {}
        source, canonical = (_in_doubles(graph, known) for graph in (source, canonical))
    samples = len(next(iter(inputs.values())))
    for part in in_batches(samples, _BATCH):
        some = {name: values[part] for name, values in inputs.items()}
        here = _compare(source, canonical, some, part.start, dtype)
        found = Outcome(
            spikes=found.spikes + here.spikes,
            ties=found.ties + here.ties,
            findings=found.findings or here.findings,
        )
    return found


def _in_doubles(graph: Graph, known: dict[int, Stage]) -> Graph:
    """Return ``graph`` with weights in double precision; what two graphs share is cast once."""

    def doubled(stage: Stage) -> Stage:
        if isinstance(stage, (Reshape, Permute)):
            return stage
        if id(stage) not in known:
            weight = stage.weight.astype(np.float64, copy=False)
            known[id(stage)] = replace(stage, weight=sealed(weight))
        return known[id(stage)]

    edges = {}
    for edge in graph.edges:
        operator = edge.operator
        if isinstance(operator, Chain):
            cast: Operator = Chain(stages=tuple(doubled(stage) for stage in operator.stages))
        else:
            only = doubled(operator)
            assert isinstance(only, Weighted)
            cast = only
        edges[edge.name] = replace(edge, operator=cast)
    return graph.rewritten(edges=edges)


def _alike(source: Graph, canonical: Graph) -> bool:
    """Say whether both graphs compute the same numbers, at other steps: any precision will do.

    Their weights are the same arrays, of single precision, and no other number was rewritten.
    """
    edges = {edge.name: edge.operator for edge in source.edges}
    return all(
        edge.operator is edges.get(edge.name)
        and all(weight.dtype == np.float32 for weight in weights_of(edge.operator))
        for edge in canonical.edges
    ) and not any(
        node.rest.any() or (node.gain != 1).any() or node.initial_current.any()
        for node in source.populations
    )


def _compare(
    source: Graph,
    canonical: Graph,
    some: Mapping[str, Array],
    offset: int,
    dtype: type[np.floating],
) -> Outcome:
    wanted = reference.run(source, some, dtype=dtype)
    found = reference.run(canonical, some, dtype=dtype)
    first = _first_differences(source, wanted, found)
    spikes = sum(
        int(values.sum(dtype=np.int64)) for (_, kind), values in wanted.values.items()
        if kind == "spikes"
    )  # fmt: skip
    excused = np.zeros(len(first), bool)
    if (first >= 0).any():
        for moved in (1 + MARGIN, 1 - MARGIN):
            other = reference.run(_shifted(source, moved), some, dtype=dtype)
            turned = _first_differences(source, wanted, other)
            excused |= (first >= 0) & (turned >= 0) & (turned <= first)
    findings = list(_parted(source, wanted, found, (first >= 0) & ~excused, offset))
    findings += _voltages(source, wanted, found, first < 0, offset)
    return Outcome(spikes=spikes, ties=int(excused.sum()), findings=tuple(findings[:1]))


def _first_differences(graph: Graph, wanted: Trace, found: Trace) -> Array:
    """Return for each sample the first step at which a population's spikes differ, or -1."""
    samples = len(next(iter(wanted.values.values())))
    first = np.full(samples, np.iinfo(np.int64).max)
    for node in graph.populations:
        if isinstance(node, LIF):
            one, other = wanted.spikes(node.name), found.spikes(node.name)
            differs = (one != other).reshape(samples, one.shape[1], -1).any(axis=2)
            step = np.where(differs.any(axis=1), differs.argmax(axis=1), first)
            first = np.minimum(first, step)
    return np.where(first == np.iinfo(np.int64).max, -1, first)


def _shifted(graph: Graph, factor: float) -> Graph:
    """Return ``graph`` with each threshold moved by a share of what voltages there are made of."""
    nodes: dict[str, Node] = {}
    for node in graph.populations:
        if isinstance(node, LIF):
            weights = [
                float(np.abs(weight).max(initial=0.0))
                for edge in graph.edges_into(node.name)
                for weight in weights_of(edge.operator)
            ]
            size_of = np.abs(node.vth) + np.abs(node.rest) + max(weights, default=0.0)
            amount = frozen(node.reset_amount) if node.reset == "subtract" else node.reset_value
            vth = frozen(node.vth + (factor - 1) * size_of)
            nodes[node.name] = replace(node, vth=vth, reset_value=amount)
    return graph.rewritten(nodes=nodes)


def _parted(
    graph: Graph, wanted: Trace, found: Trace, wrong: Array, offset: int
) -> Iterator[Diagnostic]:
    """Yield the first spike of the first ``wrong`` sample that differs."""
    if not wrong.any():
        return
    sample = int(np.flatnonzero(wrong)[0])
    places = []
    for node in graph.populations:
        if isinstance(node, LIF):
            one, other = wanted.spikes(node.name), found.spikes(node.name)
            flat = np.flatnonzero(one[sample] != other[sample])
            if len(flat):
                step, neuron = divmod(int(flat[0]), node.num_neurons)
                places.append((step, node.name, place(node.shape, neuron)))
    step, name, which = min(places)
    yield finding(
        "V003",
        f"population '{name}'",
        f"neuron {which} spikes otherwise in the canonical graph: sample {sample + offset}, step "
        f"{step}, and not for want of {MARGIN:g} of its threshold; {int(wrong.sum())} of "
        f"{len(wrong)} samples part",
    )


def _voltages(
    graph: Graph, wanted: Trace, found: Trace, whole: Array, offset: int
) -> Iterator[Diagnostic]:
    """Yield a readout whose voltage differs in a sample whose spikes are all the same."""
    for node in graph.populations:
        if isinstance(node, LI):
            probe: Probe = (node.name, "voltage")
            one, other = wanted[probe], found[probe]
            room = _VOLTAGE * max(float(np.abs(one).max(initial=0.0)), np.finfo(np.float64).tiny)
            wrong = ~(np.abs(one - other) <= room).reshape(len(one), -1).all(axis=1) & whole
            if wrong.any():
                sample = int(np.flatnonzero(wrong)[0])
                flat = int(np.flatnonzero(~(np.abs(one - other)[sample] <= room))[0])
                step, neuron = divmod(flat, node.num_neurons)
                yield finding(
                    "V003",
                    f"population '{node.name}'",
                    f"voltage {place(node.shape, neuron)} differs in the canonical graph: sample "
                    f"{sample + offset}, step {step}",
                )
