"""From NIR nodes and edges to a Graph: paths between populations become edges."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import networkx as nx
import numpy as np

from spikec.compiler.arrays import Array, Shape, frozen, size
from spikec.compiler.errors import UsageError
from spikec.compiler.frontends.nir_answers import Answers
from spikec.compiler.frontends.nir_file import NEURONS, SPIKING, NirFile, NirNode, problem
from spikec.compiler.frontends.nir_layers import Layer
from spikec.compiler.frontends.nir_neurons import Neuron, fit_of, population, spread_over
from spikec.compiler.frontends.nir_shapes import Shapes
from spikec.compiler.frontends.options import no_effect
from spikec.compiler.ir import LI, LIF, Choice, Edge, Graph, Input, Node
from spikec.compiler.limits import MOST_STEPS, allowed_by
from spikec.compiler.operators import Chain, Conv2d, Dense, Operator, Reshape, Scale, Stage

__all__ = ["lower"]

_MOST_PATHS = 10_000
#: Linear nodes one after the other: each is a call of a call.
_LONGEST_PATH = 200
#: A delay may miss a whole number of steps by this much: files store single precision.
_STEP_TOLERANCE = 1e-3
#: Rounded delays that are listed one by one.
_SHOWN = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class _Arrival:
    """What one path brings: from ``source``, or a constant, through ``stages``, late."""

    source: str
    stages: tuple[Stage, ...]
    delay: int
    names: tuple[str, ...]


@dataclass(eq=False, kw_only=True)
class _Constants:
    """Biases on the way to one target, by the steps they come late."""

    shape: Shape
    by_delay: dict[int, Array] = field(default_factory=dict)

    def add(self, delay: int, values: Array) -> None:
        before = self.by_delay.get(delay, np.zeros(self.shape))
        self.by_delay[delay] = before + values.reshape(self.shape)


def lower(file: NirFile, answers: Answers, shapes: Shapes) -> Graph:
    """Return the graph that ``file`` means under ``answers``."""
    return _Lowering(file, answers, shapes).graph()


class _Lowering:
    def __init__(self, file: NirFile, answers: Answers, shapes: Shapes) -> None:
        self.file, self.answers, self.shapes = file, answers, shapes
        self.choices: list[Choice] = []
        self.nodes: dict[str, Node] = {}
        self.edges: dict[str, Edge] = {}
        self.constants: dict[str, _Constants] = {}
        self.paths = 0
        self.rounded: set[str] = set()

    def graph(self) -> Graph:
        for node in self.file.nodes.values():
            if node.kind == "Input":
                self.nodes[node.name] = self._input(node)
        neurons = [node for node in self.file.nodes.values() if node.kind in NEURONS]
        for node in neurons:
            self._connect(node.name, self.shapes.of(node.name))
        outputs = [name for node in self._of_kind("Output") for name in self._output(node)]
        for node in neurons:
            self.nodes[node.name] = self._population(node)
        if self.answers.round_delays and not self.rounded:
            raise UsageError(no_effect("round_delays", self.file.path))
        self._constant_sources()
        self._delay_cycles()
        self._assumed(neurons, outputs)
        return Graph(
            nodes=self.nodes.values(),
            edges=self.edges.values(),
            outputs=tuple(dict.fromkeys(outputs)),
            dt=self.answers.dt,
            choices=(
                *self.answers.choices,
                *self.file.repairs,
                *self.shapes.repairs,
                *self.choices,
            ),
        )

    def _of_kind(self, kind: str) -> list[NirNode]:
        return [node for node in self.file.nodes.values() if node.kind == kind]

    def _input(self, node: NirNode) -> Input:
        noted = self.answers.metadata.get("inputs", {}).get(node.name, {})
        shape = self.shapes.of(node.name)
        bounds = (noted.get("low"), noted.get("high"))
        sound = all(bound is None or type(bound) in (int, float) for bound in bounds)
        if sound and noted.get("kind") in ("binary", "graded", "analog"):
            return Input(
                name=node.name,
                shape=shape,
                kind=noted["kind"],
                low=bounds[0],
                high=bounds[1],
            )
        self.choices.append(
            Choice(what=f"input '{node.name}'", value="spikes of 0 and 1", origin="assumed")
        )
        return Input(name=node.name, shape=shape)

    def _population(self, node: NirNode) -> LIF | LI:
        built = population(
            Neuron(
                node=node,
                shape=self.shapes.of(node.name),
                recurrent=any(
                    edge.source == node.name == edge.target for edge in self.edges.values()
                ),
            ),
            self.answers,
        )
        if self.answers.profile.name == "snntorch" and (built.gain != 1).any():
            self.choices.append(
                Choice(
                    what=f"gain of '{node.name}'",
                    value=f"{built.gain.min():g}..{built.gain.max():g}",
                    origin="the file: snnTorch's own exporter writes 1, so check who wrote it",
                )
            )
        constants = self.constants.get(node.name)
        if built.alpha is None and constants is not None and 0 in constants.by_delay:
            bias = frozen(built.gain * constants.by_delay.pop(0))
            return replace(built, bias=bias)
        return built

    def _connect(self, target: str, shape: Shape) -> None:
        """Add an edge for each path that ends at ``target``; keep the biases on the way."""
        self.constants[target] = _Constants(shape=shape)
        for arrival in self._arrivals(target, shape):
            source = self.file.nodes[arrival.source]
            if source.kind in ("I", "LI", "CubaLI"):
                raise problem(
                    "F119",
                    source.where,
                    f"it gives a voltage, not spikes, to '{target}'",
                    "only outputs may read it: give it a threshold, or merge it into the neurons",
                )
            before = self.shapes.of(arrival.source)
            name = self._edge_name(arrival, target)
            extra = (
                self.answers.profile.input_delay
                if source.kind == "Input"
                else self.answers.profile.population_delay
            )
            self.edges[name] = Edge(
                name=name,
                source=arrival.source,
                target=target,
                operator=_operator((*self._worth(source), *arrival.stages), before, shape),
                delay=arrival.delay + extra,
            )

    def _edge_name(self, arrival: _Arrival, target: str) -> str:
        name = "+".join(arrival.names) or f"{arrival.source}-{target}"
        if name in self.edges:
            name = f"{arrival.source}-{name}-{target}"
        count = 2
        unique = name
        while unique in self.edges:
            unique = f"{name}-{count}"
            count += 1
        return unique

    def _arrivals(self, target: str, shape: Shape) -> Iterator[_Arrival]:
        for before in self.shapes.before(target):
            stages = _fitted(self.shapes.of(before), shape)
            yield from self._walk(before, stages, 0, (), target, frozenset())

    def _walk(
        self,
        name: str,
        stages: tuple[Stage, ...],
        delay: int,
        names: tuple[str, ...],
        target: str,
        passed: frozenset[str],
    ) -> Iterator[_Arrival]:
        """Go back from a target along one path, to where values come from."""
        node = self.file.nodes[name]
        if node.kind == "Input" or node.kind in NEURONS:
            yield _Arrival(source=name, stages=stages, delay=delay, names=names)
            return
        self.paths += 1
        if name in passed or len(passed) > _LONGEST_PATH or self.paths > _MOST_PATHS:
            raise problem(
                "F120", node.where, "it is on a loop (or too many paths) without a neuron"
            )
        layer = self.shapes.layer(name)
        if layer is not None and layer.bias is not None and layer.bias.any():
            self.constants[target].add(delay, _carried(layer, stages))
        shown = names if node.kind in ("Identity", "Output") else (name, *names)
        for own, late in self._own(node, layer):
            for before in self.shapes.before(name):
                fit = _fitted(self.shapes.of(before), self.shapes.into(name))
                yield from self._walk(
                    before, (*fit, *own, *stages), delay + late, shown, target, passed | {name}
                )

    def _own(self, node: NirNode, layer: Layer | None) -> Sequence[tuple[tuple[Stage, ...], int]]:
        """Return a node's own stages and delay; a Delay of several lengths is several."""
        if node.kind != "Delay":
            return [(layer.stages if layer is not None else (), 0)]
        shape, dt = self.shapes.of(node.name), self.answers.dt
        assert dt is not None
        seconds = node.array("delay").astype(np.float64)
        with np.errstate(all="ignore"):  # what is no number is no number of steps
            steps = np.rint(seconds / dt)
            near = 0.5 if self.answers.round_delays else _STEP_TOLERANCE
            wrong = ~(np.abs(seconds / dt - steps) <= near) | (steps < 0)
        if wrong.any() or (steps > MOST_STEPS).any():
            found = float(seconds[wrong].flat[0]) if wrong.any() else float(seconds.max())
            raise problem(
                "F118",
                node.where,
                f"a delay of {found:g} s is {found / dt:g} steps of {dt:g} s",
                "delays are whole steps, 0 or more: --round-delays takes the nearest step, and "
                "lists by how much each is off",
            )
        between = np.abs(seconds / dt - steps) > _STEP_TOLERANCE
        if between.any() and node.name not in self.rounded:
            self._rounded(node, seconds[between] / dt, steps[between])
        if np.unique(steps).size == 1:
            return [((), int(steps.flat[0]))]
        spread = None
        if fit_of(steps.shape, shape) is not None:
            spread = spread_over(steps, shape, last_axes=self.answers.profile.last_axes)
        if spread is None:
            raise problem(
                "F114",
                node.where,
                f"delays of shape {steps.shape} do not fit values of shape {shape}, or in two ways",
                "export one delay per value",
            )
        steps = spread
        if np.unique(steps).size * steps.nbytes > allowed_by(Path(node.path)):
            raise problem(
                "F118",
                node.where,
                f"{np.unique(steps).size} delays of {steps.size} values are more than a file of "
                "this size may ask for",
            )
        return [
            ((Scale(weight=frozen((steps == late).astype(np.float64))),), int(late))
            for late in np.unique(steps)
        ]

    def _rounded(self, node: NirNode, exact: Array, steps: Array) -> None:
        """Put on record by how much each delay was rounded."""
        self.rounded.add(node.name)
        each = ", ".join(
            f"{found:g} -> {int(step)}" for found, step in zip(exact[:_SHOWN], steps, strict=False)
        )
        rest = "" if len(exact) <= _SHOWN else f", and {len(exact) - _SHOWN} more"
        self.choices.append(
            Choice(
                what=f"delays of '{node.name}'",
                value=f"{len(exact)} rounded to whole steps, by {np.abs(exact - steps).max():.3g} "
                f"of a step at most: {each}{rest}",
                origin="option --round-delays",
            )
        )

    def _worth(self, source: NirNode) -> tuple[Stage, ...]:
        """Return what a spike of ``source`` is worth to its targets, where it is not 1."""
        factor = self.answers.of_node(source.name, "spike_factor")
        if factor in (None, 1) or source.kind not in SPIKING:
            return ()
        return (Scale(weight=frozen(float(factor))),)

    def _output(self, node: NirNode) -> Iterator[str]:
        """Return the populations an Output shows; linear layers alone get one without dynamics."""
        shape = self.shapes.into(node.name)
        self.constants[node.name] = _Constants(shape=shape)
        found = list(self._arrivals(node.name, shape))
        constants = self.constants.pop(node.name)
        plain = not constants.by_delay and all(
            arrival.delay == 0
            and self.file.nodes[arrival.source].kind in NEURONS
            and all(isinstance(stage, Reshape) for stage in arrival.stages)
            for arrival in found
        )
        if plain:
            yield from (arrival.source for arrival in found)
            return
        self._connect(node.name, shape)
        constants = self.constants[node.name]
        bias = constants.by_delay.pop(0, np.zeros(shape))
        self.nodes[node.name] = LI(
            name=node.name,
            shape=shape,
            alpha=None,
            beta=np.zeros(1),
            coupling="immediate",
            bias=bias,
        )
        self.choices.append(
            Choice(
                what=f"output '{node.name}'",
                value="a linear layer without neurons: read as a voltage that keeps nothing",
                origin="the file",
            )
        )
        yield node.name

    def _constant_sources(self) -> None:
        """Feed biases that are filtered or come late from a neuron that always fires."""
        waiting = [(name, item) for name, item in self.constants.items() if item.by_delay]
        if not waiting:
            return
        name = "bias"
        while name in self.nodes:
            name += "_"
        self.nodes[name] = LIF(
            name=name, shape=(1,), alpha=None, beta=np.zeros(1), coupling="immediate",
            bias=np.full(1, 2.0), vth=np.ones(1), reset="zero", reset_order="at_spike", compare=">",
        )  # fmt: skip
        for target, constants in waiting:
            for delay, values in constants.by_delay.items():
                edge = f"{name}-{target}" if delay == 0 else f"{name}-{target}-{delay}"
                self.edges[edge] = Edge(
                    name=edge,
                    source=name,
                    target=target,
                    operator=Dense(weight=frozen(values.reshape(-1, 1))),
                    delay=delay,
                )
        targets = ", ".join(target for target, _ in waiting)
        self.choices.append(
            Choice(
                what=f"population '{name}'",
                value=f"fires every step and carries the biases of {targets}, which a synapse "
                "filters or a delay holds back",
                origin="exact rewrite",
            )
        )

    def _delay_cycles(self) -> None:
        """Let spikes on cycles without delay arrive one step later: recurrence needs that."""
        now: nx.DiGraph[str] = nx.DiGraph()
        now.add_nodes_from(self.nodes)
        now.add_edges_from((e.source, e.target) for e in self.edges.values() if e.delay == 0)
        place = self._distance(now)
        component = {
            name: index
            for index, group in enumerate(nx.strongly_connected_components(now))
            for name in group
        }
        for name, edge in self.edges.items():
            together = component[edge.source] == component[edge.target]
            if edge.delay == 0 and together and place[edge.target] <= place[edge.source]:
                self.edges[name] = replace(edge, delay=1)
                self.choices.append(
                    Choice(
                        what=f"delay of edge '{name}'",
                        value=f"1 step: it closes a loop at '{edge.target}', "
                        "which then gets the spikes of the previous step",
                        origin="NIR stores no delay; every framework does so",
                    )
                )

    def _distance(self, graph: nx.DiGraph[str]) -> Mapping[str, tuple[int, int]]:
        """Return how far each node is from the inputs, then its place in the file."""
        inputs = [name for name, node in self.nodes.items() if isinstance(node, Input)]
        far = nx.multi_source_dijkstra_path_length(graph, set(inputs)) if inputs else {}
        return {
            name: (int(far.get(name, len(self.nodes))), index)
            for index, name in enumerate(self.nodes)
        }

    def _assumed(self, neurons: Sequence[NirNode], outputs: Sequence[str]) -> None:
        if not neurons:
            return
        start, name = self.answers.profile.starts_at, self.answers.profile.name
        origin = f"profile '{name}'" if name else "assumed"
        value = f"voltage {start}, current 0"
        self.choices.append(Choice(what="initial state", value=value, origin=origin))
        for node in neurons:
            said = self.answers.of_node(node.name, "v_reset") is not None
            if node.kind in SPIKING and not node.has("v_reset") and not said:
                self.choices.append(
                    Choice(
                        what=f"v_reset of '{node.name}'",
                        value="0",
                        origin=f"not in files of version {self.file.version}",
                    )
                )
            if self._worth(node) and node.name in outputs:
                self.choices.append(
                    Choice(
                        what=f"output '{node.name}'",
                        value="its spikes are counted as 1, whatever its spike factor",
                        origin="option --spike-factor",
                    )
                )


def _fitted(found: Shape, needed: Shape) -> tuple[Stage, ...]:
    return () if found == needed else (Reshape(shape=needed),)


def _carried(layer: Layer, stages: Sequence[Stage]) -> Array:
    """Return what a layer's bias is after the stages that follow it."""
    assert layer.bias is not None
    values = np.broadcast_to(layer.bias.astype(np.float64), layer.shape)[None]
    for stage in stages:
        values = stage.apply(values)
    result: Array = values[0]
    return result


def _operator(stages: tuple[Stage, ...], source: Shape, target: Shape) -> Operator:
    """Return the stages as one operator; reshapes that change nothing are left out."""
    kept: list[Stage] = []
    shape = source
    for stage in stages:
        after = stage.output_shape(shape)
        if not (isinstance(stage, Reshape) and after == shape):
            kept.append(stage)
        shape = after
    while len(kept) > 1 and isinstance(kept[0], Reshape) and isinstance(kept[1], (Dense, Reshape)):
        del kept[0]
    if kept and isinstance(kept[-1], Reshape) and shape == target and len(kept) > 1:
        flat = kept[-2].output_shape(_after(kept[:-2], source))
        if flat == (size(target),):
            del kept[-1]
    if len(kept) == 1 and isinstance(kept[0], (Dense, Conv2d)):
        return kept[0]
    return Chain(stages=tuple(kept))


def _after(stages: Sequence[Stage], shape: Shape) -> Shape:
    for stage in stages:
        shape = stage.output_shape(shape)
    return shape
