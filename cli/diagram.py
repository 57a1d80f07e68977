"""What a drawing of a network shows: a box for every node, an arrow for every edge."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from spikec.cli.text import printable
from spikec.compiler.arrays import Shape
from spikec.compiler.ir import Edge, Graph
from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Operator,
    Permute,
    Reshape,
    Scale,
    Sparse,
    Stage,
)
from spikec.compiler.program import Connection, Populated, Program
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import SigmaDelta

__all__ = ["Arrow", "Box", "Diagram", "diagram_of"]

_LONGEST_NAME = 24
_LONGEST_LABEL, _SHORT_LABEL = 32, 12
_MOST_PARALLEL = 3


@dataclass(frozen=True, kw_only=True)
class Box:
    """What is drawn of an input or a population.

    ``kind`` is Input, LIF, LI, Delta, SigmaDelta, Sigma, RF or RF_IZ.
    """

    name: str
    lines: tuple[str, ...]
    kind: str

    @property
    def is_input(self) -> bool:
        """Whether data enter here."""
        return self.kind == "Input"


@dataclass(frozen=True, kw_only=True)
class Arrow:
    """What is drawn of an edge."""

    source: str
    target: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """Boxes and the arrows between them, in the order of the network."""

    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]


def diagram_of(network: Graph | Program, *, stacked: bool = False, short: bool = False) -> Diagram:
    """Return what to draw of a network.

    ``stacked`` puts the name on a line of its own; ``short`` leaves out the shapes of weights.
    """
    nodes = list(_nodes(network))
    edges = network.edges if isinstance(network, Graph) else network.connections
    return Diagram(
        boxes=tuple(
            Box(name=name, kind=kind, lines=_lines(name, said, stacked=stacked))
            for name, kind, said in nodes
        ),
        arrows=tuple(_arrows(edges, short=short)),
    )


def _nodes(network: Graph | Program) -> Iterator[tuple[str, str, str]]:
    """Yield name, kind and what is said of it for each node."""
    named: list[tuple[str, str, Shape]] = []
    if isinstance(network, Graph):
        named += [(node.name, type(node).__name__, node.shape) for node in network.nodes]
    else:
        named += [(item.name, "Input", item.shape) for item in network.inputs]
        named += [(item.name, _neuron(item), item.shape) for item in network.populations]
    for name, kind, shape in named:
        output = ", output" if name in network.outputs else ""
        yield name, kind, f"{kind} {_by(shape)}{output}"


def _neuron(item: Populated) -> str:
    if isinstance(item, SigmaDelta):
        return {"delta": "Delta", "sigma_delta": "SigmaDelta", "sigma": "Sigma"}[item.encoding]
    if isinstance(item, Resonator):
        return "RF" if item.resonance == "phase" else "RF_IZ"
    return "LI" if item.vth is None else "LIF"


def _lines(name: str, said: str, *, stacked: bool) -> tuple[str, ...]:
    shown = _cut(printable(name), _LONGEST_NAME)
    return (shown, said) if stacked else (f"{shown}  {said}",)


def _arrows(edges: Sequence[Edge | Connection], *, short: bool) -> Iterator[Arrow]:
    """Yield an arrow for every edge, but one for all between the same two nodes if many."""
    between: dict[tuple[str, str], list[Edge | Connection]] = {}
    for edge in edges:
        between.setdefault((edge.source, edge.target), []).append(edge)
    for (source, target), parallel in between.items():
        labels = [_label(edge.operator, edge.delay, short=short) for edge in parallel]
        if len(parallel) > _MOST_PARALLEL:
            delays = [edge.delay for edge in parallel]
            labels = [f"{len(parallel)} edges, delays {min(delays)} to {max(delays)}"]
        for label in labels:
            yield Arrow(source=source, target=target, label=label)


def _label(operator: Operator, delay: int, *, short: bool) -> str:
    stages = operator.stages if isinstance(operator, Chain) else (operator,)
    weighted = [stage for stage in stages if not isinstance(stage, (Reshape, Permute))]
    text = " ".join(f"{_kind(stage)} {_by(_shape(stage))}".rstrip() for stage in weighted)
    if short or len(text) > _LONGEST_LABEL:
        text = " ".join(map(_kind, weighted))
    text = text or " ".join(map(_kind, stages)) or "one to one"
    late = (f" +{delay}" if short else f", delay {delay}") if delay else ""
    return _cut(text, _SHORT_LABEL if short else _LONGEST_LABEL) + late


def _kind(stage: Stage) -> str:
    return type(stage).__name__.lower()


def _shape(stage: Dense | Sparse | Conv2d | Scale) -> Shape:
    """Return the shape of a stage's weights; of a sparse one, that of its matrix."""
    if isinstance(stage, Sparse):
        return (stage.synapses.outputs, stage.synapses.inputs)
    return stage.weight.shape


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
