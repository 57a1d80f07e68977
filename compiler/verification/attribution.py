"""What each choice of the quantizer costs: one at a time, and all but one.

A variant is the float network with some of its parameters replaced by the quantized ones,
expressed in the source's units. What a choice costs *alone* is what it breaks; what is better
*without* it is what leaving it in float would repair. The two differ where errors add up or
cancel. A decay comes with its gain: weights and bias that it leaves in float are multiplied by
what makes up best for it, those that are quantized lose the part that belongs to decays left in
float.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from typing import Literal, TypeAlias, get_args

import networkx as nx
import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, FloatArray, frozen, size
from spikec.compiler.backend import Progress
from spikec.compiler.batches import batch_size, in_batches
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT, VTH_SHIFT
from spikec.compiler.inputs import Dataset, check_data
from spikec.compiler.ir import LI, LIF, Edge, Graph, Node
from spikec.compiler.operators import Chain, weights_of, with_weight
from spikec.compiler.program import Connection, Neurons, Program
from spikec.compiler.quantize.decay import alpha_of, beta_of, kernel_gain
from spikec.compiler.quantize.gain import bias_factor, compensated, with_gain
from spikec.compiler.trace import Probe, Readout, Trace, default_readout, read_out
from spikec.compiler.verification.significance import AccuracyChange, accuracy_change

__all__ = ["KINDS", "Attribution", "Cost", "Kind", "attribute", "replaced"]

Kind: TypeAlias = Literal[
    "synaptic decay", "membrane decay", "feed-forward weights", "recurrent weights",
    "thresholds", "bias",
]  # fmt: skip
KINDS: tuple[Kind, ...] = get_args(Kind)

#: A choice: one kind of parameter of one population (its own, or of the edges that end there).
Choice: TypeAlias = tuple[str, Kind]

_Mode: TypeAlias = Literal["everything", "alone", "without"]

_REMEDIES: Mapping[Kind, str] = {
    "synaptic decay": "decays have 12 bits: shorten the synaptic time constant, or train with it "
    "as rounded",
    "membrane decay": "decays have 12 bits: shorten the membrane time constant, or train with it "
    "as rounded",
    "feed-forward weights": "give them more bits, or fine-tune with quantized weights",
    "recurrent weights": "give them more bits, or fine-tune with quantized weights",
    "thresholds": "the scale is too small: 'spikec compile' shows what limits it",
    "bias": "the scale is too small: 'spikec compile' shows what limits it",
}
#: Choices that cost at least this share of the costliest one are worth a word.
_NOTABLE = 0.5


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One variant beside the float network.

    ``quantized`` says what it has: everything, one choice ("alone"), or all but one
    ("without"). ``mismatch`` is the differing spikes of all populations relative to the float
    network's, ``populations`` the same one by one; ``voltage_rmse`` is that of a readout,
    relative to its RMS. ``exact`` marks a choice whose rounding changed no parameter.
    """

    what: str
    quantized: _Mode
    accuracy: float | None
    change: AccuracyChange | None
    agreement: float
    mismatch: float | None
    populations: Mapping[str, float]
    voltage_rmse: float | None
    exact: bool = False

    @property
    def size(self) -> tuple[float, float]:
        """What costs are ordered by: spikes if there are any, else the readout's voltage."""
        return (self.mismatch or 0.0, self.voltage_rmse or 0.0)


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """All variants: ``everything``, then each choice alone and left out, and what to do."""

    samples: int
    steps: int
    readout: str
    accuracy: float | None
    everything: Cost
    alone: tuple[Cost, ...]
    without: tuple[Cost, ...]
    suggestions: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return asdict(self)


def attribute(
    canonical: Graph,
    program: Program,
    data: Dataset,
    *,
    readout: Readout | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> Attribution:
    """Run every variant on ``data``, on all processors (or ``threads``).

    ``canonical`` is the float graph that ``program`` was lowered from: the same populations and
    edges. Rounding of analog inputs is not looked at. Raises :class:`UsageError` for data that
    the inputs do not take.
    """
    classes = size(canonical[canonical.outputs[0]].shape)
    data = check_data(data, canonical.inputs, where="data", classes=classes)
    groups = _groups(canonical)
    everything = frozenset(choice for group in groups.values() for choice in group)
    variants: dict[tuple[_Mode, str], frozenset[Choice]] = {("everything", ""): everything}
    for what, group in groups.items():
        variants["alone", what] = group
        variants["without", what] = everything - group
    chosen = readout or _readout_of(canonical)
    graphs = {choices: replaced(canonical, program, choices) for choices in variants.values()}
    sums = _run_all(canonical, graphs, data, chosen, progress, threads)
    costs = {
        (mode, what): sums[choices].cost(what, mode, exact=graphs[choices] is canonical)
        for (mode, what), choices in variants.items()
    }
    alone = tuple(cost for cost in costs.values() if cost.quantized == "alone")
    everything_cost = costs["everything", ""]
    right = sums[everything].right_before
    return Attribution(
        samples=data.num_samples,
        steps=data.num_steps,
        readout=chosen,
        accuracy=None if data.labels is None else right / data.num_samples,
        everything=everything_cost,
        alone=alone,
        without=tuple(cost for cost in costs.values() if cost.quantized == "without"),
        suggestions=tuple(_suggestions(everything_cost, alone)),
    )


def _groups(graph: Graph) -> dict[str, frozenset[Choice]]:
    """Return the named sets of choices: each kind everywhere, then each population."""
    names = [node.name for node in graph.populations]
    kinds = [kind for kind in KINDS if kind != "recurrent weights" or _recurrent(graph)]
    groups = {str(kind): frozenset((name, kind) for name in names) for kind in kinds}
    if len(names) > 1:
        groups |= {
            f"population '{name}'": frozenset((name, kind) for kind in kinds) for name in names
        }
    return groups


def _recurrent(graph: Graph) -> set[str]:
    """Return the names of the edges that lie on a cycle."""
    links: nx.DiGraph[str] = nx.DiGraph((edge.source, edge.target) for edge in graph.edges)
    loops = list(nx.strongly_connected_components(links))
    return {
        edge.name
        for edge in graph.edges
        if any(edge.source in loop and edge.target in loop for loop in loops)
    }


def _readout_of(graph: Graph) -> Readout:
    output = graph[graph.outputs[0]]
    leaks = isinstance(output, LI) and bool((output.beta < 1).any())
    return default_readout(spikes=isinstance(output, LIF), leaks=leaks)


def replaced(canonical: Graph, program: Program, choices: Collection[Choice]) -> Graph:
    """Return ``canonical`` with the parameters that ``choices`` name as ``program`` has them.

    It is ``canonical`` itself where that changes nothing.
    """
    recurrent = _recurrent(canonical)
    nodes: dict[str, Node] = {}
    for node in canonical.populations:
        kinds = {kind for name, kind in choices if name == node.name}
        other = _quantized_node(node, program.neuron(node.name), kinds)
        if not _equal(node, other):
            nodes[node.name] = other
    edges: dict[str, Edge] = {}
    for connection in program.connections:
        kind: Kind = "recurrent weights" if connection.name in recurrent else "feed-forward weights"
        edge = next(item for item in canonical.edges if item.name == connection.name)
        kinds = {chosen for name, chosen in choices if name == connection.target}
        other_edge = _with_gains(edge, connection, program, canonical, kinds, kind)
        if not _same_weights(edge, other_edge):
            edges[edge.name] = other_edge
    return canonical.rewritten(nodes=nodes, edges=edges) if nodes or edges else canonical


def _decays(
    node: LIF | LI, neurons: Neurons, kinds: Collection[Kind]
) -> tuple[Array | None, Array]:
    """Return the decays of a variant, alpha and beta."""
    alpha, beta = node.alpha, node.beta
    if "synaptic decay" in kinds and alpha is not None:
        alpha = frozen(alpha_of(neurons.du))
    if "membrane decay" in kinds:
        beta = frozen(beta_of(neurons.dv))
    return alpha, beta


def _gains(
    node: LIF | LI, neurons: Neurons, kinds: Collection[Kind]
) -> tuple[FloatArray, FloatArray]:
    """Return the gain of a variant's decays, and the one that the program's weights carry."""
    mine, whole = (_decays(node, neurons, chosen) for chosen in (kinds, KINDS))
    return kernel_gain(node.alpha, node.beta, *mine), kernel_gain(node.alpha, node.beta, *whole)


def _quantized_node(node: LIF | LI, neurons: Neurons, kinds: Collection[Kind]) -> LIF | LI:
    original = node.beta
    alpha, beta = _decays(node, neurons, kinds)
    gain, carried = _gains(node, neurons, kinds)
    node = replace(compensated(node, beta, gain), alpha=alpha, beta=beta)
    if "bias" in kinds:
        left = bias_factor(original, beta) / bias_factor(original, beta_of(neurons.dv))
        node = replace(node, bias=frozen(neurons.bias * neurons.lsb * left))
    if "thresholds" not in kinds:
        return node
    node = replace(
        node,
        floor=None if neurons.floor is None else frozen(neurons.floor * neurons.lsb),
        initial_current=frozen(neurons.initial_current * neurons.lsb * (gain / carried)),
        initial_voltage=frozen(neurons.initial_voltage * neurons.lsb),
    )
    if not isinstance(node, LIF) or neurons.vth is None:
        return node
    # A program spikes above its threshold only: v >= t became v > t - 1.
    vth = (neurons.vth + (node.compare == ">=")) * (neurons.lsb * (1 << VTH_SHIFT))
    value = node.reset_value
    if node.reset == "subtract":
        value = frozen(neurons.reset_amount * neurons.lsb)
    elif neurons.reset_value is not None:
        value = frozen(neurons.reset_value * neurons.lsb)
    return replace(node, vth=frozen(vth), reset_value=value)


def _with_gains(
    edge: Edge,
    connection: Connection,
    program: Program,
    canonical: Graph,
    kinds: Collection[Kind],
    kind: Kind,
) -> Edge:
    """Return the edge, quantized if ``kinds`` hold its ``kind``, with the gain of the decays."""
    node = canonical[edge.target]
    assert isinstance(node, (LIF, LI))
    gain, carried = _gains(node, program.neuron(edge.target), kinds)
    if kind in kinds:
        edge, gain = _quantized_edge(edge, connection, program), gain / carried
    if (gain == 1).all():
        return edge
    assert not isinstance(edge.operator, Chain), "the canonical passes fuse chains"
    return replace(edge, operator=with_gain(edge.operator, gain))


def _quantized_edge(edge: Edge, connection: Connection, program: Program) -> Edge:
    sources = {item.name: item.frac_bits for item in program.inputs}
    unit = program.population(connection.target).lsb * 2.0 ** (
        ACTIVATION_SHIFT + sources.get(connection.source, 0)
    )
    effective = connection.effective
    weight = frozen(effective.weight.astype(np.float64) * unit)
    return replace(edge, operator=with_weight(effective, weight))


def _equal(one: LIF | LI, two: LIF | LI) -> bool:
    """Say whether two nodes have the same numbers."""
    if one is two:
        return True
    pairs = [(getattr(one, name), getattr(two, name)) for name in one.PER_NEURON]
    if isinstance(one, LIF) and isinstance(two, LIF) and one.reset == "subtract":
        pairs.append((one.reset_amount, two.reset_amount))
        pairs = [pair for pair in pairs if pair[0] is not None or pair[1] is None]
    return all(a is b or (a is not None and b is not None and (a == b).all()) for a, b in pairs)


def _same_weights(one: Edge, two: Edge) -> bool:
    return all(
        np.array_equal(ours, theirs)
        for ours, theirs in zip(weights_of(one.operator), weights_of(two.operator), strict=True)
    )


class _Sums:
    """What one variant adds up beside the float network."""

    def __init__(self) -> None:
        self.samples = self.right = self.right_before = self.lost = self.gained = self.agreeing = 0
        self.differing: dict[str, int] = {}
        self.spikes: dict[str, int] = {}
        self.square_error = self.square = 0.0
        self.labelled = False

    def add(self, lower: Trace, upper: Trace, labels: Array | None, readout: Readout) -> None:
        """Add a batch."""
        predicted, before = read_out(upper, readout), read_out(lower, readout)
        self.samples += len(predicted)
        self.agreeing += int((predicted == before).sum())
        if labels is not None:
            self.labelled = True
            right, was_right = predicted == labels, before == labels
            self.right += int(right.sum())
            self.right_before += int(was_right.sum())
            self.lost += int((was_right & ~right).sum())
            self.gained += int((right & ~was_right).sum())
        for (name, quantity), values in lower.values.items():
            other = upper[name, quantity]
            if quantity == "spikes":
                different = int((values != other).sum())
                self.differing[name] = self.differing.get(name, 0) + different
                self.spikes[name] = self.spikes.get(name, 0) + int(values.sum(dtype=np.int64))
            elif name == lower.outputs[0]:
                self.square_error += float(((values - other) ** 2).sum())
                self.square += float((values * values).sum())

    def cost(self, what: str, mode: _Mode, *, exact: bool) -> Cost:
        """Return the numbers of these sums."""
        total = sum(self.spikes.values())
        change = None
        if self.labelled:
            change = accuracy_change(
                "F", what, samples=self.samples, lost=self.lost, gained=self.gained
            )
        return Cost(
            what=what or "everything",
            quantized=mode,
            accuracy=self.right / self.samples if self.labelled else None,
            change=change,
            agreement=self.agreeing / self.samples,
            mismatch=sum(self.differing.values()) / total if total else None,
            populations={
                name: self.differing[name] / max(count, 1) for name, count in self.spikes.items()
            },
            voltage_rmse=float(np.sqrt(self.square_error / self.square)) if self.square else None,
            exact=exact,
        )


def _run_all(
    canonical: Graph,
    graphs: Mapping[frozenset[Choice], Graph],
    data: Dataset,
    readout: Readout,
    progress: Progress | None,
    threads: int | None,
) -> dict[frozenset[Choice], _Sums]:
    """Run every variant that differs from ``canonical`` on every batch, in threads."""
    sums = {choices: _Sums() for choices in graphs}
    probes: tuple[Probe, ...] = canonical.default_probes
    if readout != "spike-count":
        probes = tuple(dict.fromkeys((*probes, (canonical.outputs[0], "voltage"))))
    neurons = sum(node.num_neurons for node in canonical.populations)
    workers = threads or os.cpu_count() or 1
    parts = list(in_batches(data.num_samples, batch_size(workers * neurons, data.num_steps)))
    done, tasks = 0, len(parts) * (len(graphs) + 1)
    with ThreadPoolExecutor(workers) as pool:
        for part in parts:
            batch = data.samples(part.start, part.stop)
            lower = reference.run(canonical, batch.inputs, probes=probes)
            running = {}
            for choices, graph in graphs.items():
                if graph is canonical:
                    sums[choices].add(lower, lower, batch.labels, readout)
                    continue
                future = pool.submit(reference.run, graph, batch.inputs, probes=probes)
                running[future] = choices
            done += 1 + len(graphs) - len(running)
            for future in as_completed(running):
                sums[running.pop(future)].add(lower, future.result(), batch.labels, readout)
                done += 1
                if progress is not None:
                    progress(done, tasks)
    return sums


def _suggestions(everything: Cost, alone: Sequence[Cost]) -> Iterator[str]:
    """Say what to change, the costliest first."""
    change = everything.change
    if change is not None and change.low <= 0 <= change.high:
        yield (
            f"the accuracy lost ({0 - 100 * change.change:.2f} points) is within chance on "
            f"{change.samples} samples"
        )
    costly = sorted((item for item in alone if any(item.size)), key=lambda item: item.size)[::-1]
    kinds = [item for item in costly if item.what in KINDS]
    for item in kinds:
        if item.size >= _halved(kinds[0].size):
            remedy = _REMEDIES[next(kind for kind in KINDS if kind == item.what)]
            yield f"{item.what}: {remedy}"
    places = [item for item in costly if item.what not in KINDS]
    if len(places) > 1 and places[-1].size < _halved(places[0].size):
        yield (
            f"most is lost in {places[0].what}, least in {places[-1].what}: bits are better spent "
            "in the first"
        )


def _halved(size: tuple[float, float]) -> tuple[float, float]:
    return (_NOTABLE * size[0], _NOTABLE * size[1])
