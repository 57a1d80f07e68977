"""Write a Graph as a NIR file, through the ``nir`` package.

NIR holds time constants, not decays: they are chosen so that Euler with the
graph's time step gives the decays back to the last bit where doubles allow it.
What NIR cannot say (kind and order of resets, the comparison, the time step or that
there is none, pictures that had to be flattened) is noted in the file's metadata, which
our own reader understands.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, Shape, size
from spikec.compiler.errors import Diagnostic, FrontendError, raise_if_any
from spikec.compiler.files import canonical_json, optional_package, write_atomically
from spikec.compiler.frontends.sparse import without_sparse
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input
from spikec.compiler.operators import Chain, Conv2d, Dense, Reshape, Scale, Stage

__all__ = ["write"]

#: The time step of a graph that has none, in seconds.
_DEFAULT_DT = 1e-3
#: dt / tau of a state that does not leak: 1 - 2**-60 is 1 in double precision.
_NO_LEAK = 2.0**-60


def write(graph: Graph, path: str | Path) -> None:
    """Save ``graph`` to ``path`` as NIR.

    Raises :class:`FrontendError` with everything that NIR has no words for.
    """
    raise_if_any(FrontendError, list(_inexpressible(graph)))
    graph = without_sparse(graph, code="F121", form="NIR")
    nir = optional_package("nir", code="F122", where=path, need="writing NIR needs the package nir")
    content = io.BytesIO()
    nir.write(content, _Writer(graph, nir).network())
    write_atomically(Path(path), content.getvalue())


def _inexpressible(graph: Graph) -> Iterator[Diagnostic]:
    for node in graph.populations:
        findings = []
        if node.start:
            findings.append(f"it starts at step {node.start}")
        lasting = node.alpha is not None or node.coupling == "delayed"
        if lasting and node.initial_current.any():
            findings.append("its current does not start at 0")
        if node.floor is not None:
            findings.append("its voltage has a floor")
        if isinstance(node, LIF) and node.max_spikes > 1:
            findings.append(f"it sends up to {node.max_spikes} spikes a step")
        if isinstance(node, LIF) and node.reset_twice:
            findings.append("what a reset leaves above threshold counts twice")
        if isinstance(node, LIF) and node.refractory:
            findings.append(f"it has {node.refractory} refractory steps")
        if node.alpha is not None and (node.bias.any() and (node.beta == 1).any()):
            findings.append("it has a bias, a synapse and no leak")
        for finding in findings:
            yield Diagnostic(
                code="F121",
                where=f"population '{node.name}'",
                message=f"NIR cannot say that {finding}",
                hint="change the network, or keep it in spikec's own format",
            )


@dataclass(eq=False, kw_only=True)
class _Draft:
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)


class _Writer:
    def __init__(self, graph: Graph, nir: Any) -> None:
        self.graph, self.nir = graph, nir
        self.dt = graph.dt or _DEFAULT_DT
        self.draft = _Draft()
        self.stages = {edge.name: self._stages(edge) for edge in graph.edges}
        self.flat = self._flat()
        self.names = {node.name for node in graph.nodes}

    def network(self) -> Any:
        for node in self.graph.nodes:
            if isinstance(node, Input):
                shape = np.array(node.shape)
                self.draft.nodes[node.name] = self.nir.Input(input_type={"input": shape})
            else:
                self._population(node)
        for node in self.graph.populations:
            self._edges_into(node)
        for index, name in enumerate(self.graph.outputs):
            output = self._unique(f"output{index:03d}" if index else "output")
            shape = np.array(self._shape(name))
            self.draft.nodes[output] = self.nir.Output(output_type={"output": shape})
            self.draft.edges.append((name, output))
        inputs = {
            node.name: {"kind": node.kind, "low": node.low, "high": node.high}
            for node in self.graph.inputs
        }
        metadata = {
            "version": 1,
            "dt": self.dt,
            "discretization": "euler",
            "nodes": self.draft.notes,
            "inputs": inputs,
            "timed": self.graph.dt is not None,
        }
        return self.nir.NIRGraph(
            nodes=self.draft.nodes,
            edges=self.draft.edges,
            metadata={"spikec": canonical_json(metadata)},
            type_check=False,
        )

    def _stages(self, edge: Edge) -> tuple[Stage, ...]:
        """Return an edge's layers if NIR has them all, else its matrix."""
        operator, source = edge.operator, self.graph[edge.source].shape
        stages = operator.stages if isinstance(operator, Chain) else (operator,)
        return stages if _has_words(stages, source) else (_matrix(stages, source),)

    def _flat(self) -> frozenset[str]:
        """Return the populations that lose their picture shape: NIR can flatten, not unflatten.

        What needs a picture from one of them becomes a matrix, which may flatten more.
        """
        flat: set[str] = {node.name for node in self.graph.populations if len(node.shape) != 3}
        count = -1
        while count != len(flat):
            count = len(flat)
            for edge in self.graph.edges:
                source, stages = self.graph[edge.source].shape, self.stages[edge.name]
                if edge.source in flat and len(source) > 1 and not _takes_flat(stages):
                    self.stages[edge.name] = stages = (_matrix(stages, source),)
                if len(_after(stages, source)) == 1:
                    flat.add(edge.target)
            flat |= {node.name for node in self.graph.populations if self._needs_flat(node)}
        return frozenset(flat)

    def _needs_flat(self, node: LIF | LI) -> bool:
        """Say whether nothing gives a population a picture, or takes its bias as it is."""
        edges = self.graph.edges_into(node.name)
        if not edges:
            return True
        if node.alpha is not None or not node.bias.any() or len(node.shape) != 3:
            return False
        share = node.bias / node.gain
        by_channel = bool((share == share[:, :1, :1]).all())
        last = [self.stages[edge.name][-1:] for edge in edges]
        return not (by_channel and any(isinstance(s, Conv2d) for item in last for s in item))

    def _shape(self, name: str) -> Shape:
        shape = self.graph[name].shape
        return (size(shape),) if name in self.flat else shape

    def _unique(self, name: str) -> str:
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name

    def _population(self, node: LIF | LI) -> None:
        shape = self._shape(node.name)
        start = node.initial_state[1]
        rest = node.rest - start
        leak, gain = rest, node.gain
        if node.alpha is not None and node.bias.any():
            leak = rest + node.bias / (1 - node.beta)
        share, tau = _time_constant(node.beta, self.dt)
        fields: dict[str, Any] = {
            "r": _solved(gain, gain / share, lambda r: r * share),
            "v_leak": leak,
        }
        late = int(node.coupling == "delayed")
        note: dict[str, Any] = {"lag": node.view.lag, "current_lag": node.view.current_lag + late}
        offset = start + node.view.voltage_offset
        if offset.any():
            note["voltage_offset"] = offset.reshape(-1).tolist()
        if shape != node.shape:
            note["shape"] = list(node.shape)
        if isinstance(node, LIF):
            fields["v_threshold"] = node.vth - start
            fields["v_reset"] = _reset_target(node, rest)
            note |= {"reset": node.reset, "reset_order": node.reset_order}
            note |= {"compare": node.compare, "drops_input": node.reset_drops_input}
        if node.alpha is None:
            fields["tau"] = tau
        else:
            share_syn, tau_syn = _time_constant(node.alpha, self.dt)
            ones = np.ones(node.shape)
            fields |= {"tau_mem": tau, "tau_syn": tau_syn}
            fields["w_in"] = _solved(ones, 1 / share_syn, lambda w: w * share_syn)
        kind = ("" if node.alpha is None else "Cuba") + ("LIF" if isinstance(node, LIF) else "LI")
        values = {name: np.array(item, np.float64).reshape(shape) for name, item in fields.items()}
        self.draft.nodes[node.name] = getattr(self.nir, kind)(**values)
        self.draft.notes[node.name] = note

    def _edges_into(self, node: LIF | LI) -> None:
        bias: FloatArray | None = None
        if node.alpha is None and node.bias.any():
            bias = _solved(node.bias, node.bias / node.gain, lambda c: node.gain * c)
        late = int(node.coupling == "delayed")
        wanted = Dense if node.name in self.flat else Conv2d
        for edge in self.graph.edges_into(node.name):
            takes = any(isinstance(stage, wanted) for stage in self.stages[edge.name][-1:])
            self._edge(edge, edge.delay + late, bias if takes else None)
            bias = None if takes else bias
        if bias is not None:
            source = self.graph.inputs[0] if self.graph.inputs else node
            zero = Dense(weight=np.zeros((node.num_neurons, size(source.shape))))
            name = f"{node.name}-bias"
            self.stages[name] = (zero,)
            edge = Edge(name=name, source=source.name, target=node.name, operator=zero)
            self._edge(edge, int(source is node), bias)

    def _edge(self, edge: Edge, delay: int, bias: FloatArray | None) -> None:
        source = self.graph[edge.source]
        shape, last = self._shape(edge.source), edge.source
        delay += source.shift if isinstance(source, Input) else 0
        if delay:
            node = self.nir.Delay(delay=np.full(shape, delay * self.dt))
            last = self._chained(last, f"{edge.name}-delay", node)
        stages = self.stages[edge.name] or (Scale(weight=np.ones(())),)
        for index, stage in enumerate(stages):
            if len(shape) > 1 and isinstance(stage, (Dense, Reshape)):
                last, shape = self._flattened(last, edge.name, shape)
            if isinstance(stage, Reshape):
                continue
            final = index == len(stages) - 1
            node = self._layer(stage, shape, bias if final else None)
            last = self._chained(last, edge.name if final else f"{edge.name}-{index}", node)
            shape = stage.output_shape(shape)
        if len(shape) > 1 and edge.target in self.flat:
            last, shape = self._flattened(last, edge.name, shape)
        self.draft.edges.append((last, edge.target))

    def _flattened(self, last: str, name: str, shape: Shape) -> tuple[str, Shape]:
        node = self.nir.Flatten(input_type={"input": np.array(shape)}, start_dim=0, end_dim=-1)
        return self._chained(last, f"{name}-flatten", node), (size(shape),)

    def _layer(self, stage: Stage, shape: Shape, bias: FloatArray | None) -> Any:
        if isinstance(stage, Conv2d):
            return self._convolution(stage, shape, bias)
        assert isinstance(stage, (Dense, Scale))
        weight = np.array(stage.weight)
        if isinstance(stage, Scale):
            return self.nir.Scale(scale=np.array(np.broadcast_to(weight, shape)))
        if bias is None:
            return self.nir.Linear(weight=weight)
        return self.nir.Affine(weight=weight, bias=np.array(bias).reshape(-1))

    def _chained(self, before: str, name: str, node: Any) -> str:
        name = self._unique(name)
        self.draft.nodes[name] = node
        self.draft.edges.append((before, name))
        return name

    def _convolution(self, operator: Conv2d, shape: Shape, bias: FloatArray | None) -> Any:
        channels = operator.weight.shape[0]
        values = np.zeros(channels) if bias is None else bias[:, 0, 0]
        return self.nir.Conv2d(
            input_shape=shape[1:],
            weight=np.array(operator.weight),
            stride=operator.stride,
            padding=operator.padding,
            dilation=operator.dilation,
            groups=operator.groups,
            bias=np.array(values),
        )


def _after(stages: Sequence[Stage], shape: Shape) -> Shape:
    for stage in stages:
        shape = stage.output_shape(shape)
    return shape


def _has_words(stages: Sequence[Stage], shape: Shape) -> bool:
    """Say whether NIR has a node for each stage: it flattens, but never unflattens or permutes."""
    for stage in stages:
        after = stage.output_shape(shape)
        known = isinstance(stage, (Dense, Conv2d, Scale))
        if not known and not (isinstance(stage, Reshape) and len(after) == 1):
            return False
        shape = after
    return True


def _takes_flat(stages: Sequence[Stage]) -> bool:
    """Say whether the first layer reads its source flat anyway."""
    return bool(stages) and isinstance(stages[0], (Dense, Reshape))


def _matrix(stages: Sequence[Stage], source: Shape) -> Dense:
    values: Array = np.eye(size(source)).reshape(-1, *source)
    for stage in stages:
        values = stage.apply(values)
    return Dense(weight=np.ascontiguousarray(values.reshape(size(source), -1).T))


def _reset_target(node: LIF, rest: FloatArray) -> FloatArray:
    """Return v_reset in voltages that start at 0: Euler readers subtract v_threshold - v_reset."""
    start = node.initial_state[1]
    if node.reset == "value":
        return np.asarray(node.reset_voltage - start)
    if node.reset == "subtract":
        threshold = node.vth - start
        amount = node.reset_amount
        return _solved(amount, threshold - amount, lambda target: threshold - target)
    return rest


def _time_constant(decay: Array, dt: float) -> tuple[FloatArray, FloatArray]:
    """Return dt/tau and tau such that ``1 - dt/tau`` is ``decay``."""
    with np.errstate(divide="ignore"):
        guess = np.where(decay == 1, dt / _NO_LEAK, dt / (1 - decay))
    tau = _solved(decay, guess, lambda tau: 1 - dt / tau)
    return np.asarray(dt / tau), tau


def _solved(
    wanted: FloatArray, guess: FloatArray, function: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Return values near ``guess`` that ``function`` maps to ``wanted``, as exactly as it can."""
    best = np.array(guess, np.float64)
    error = np.abs(function(best) - wanted)
    for direction in (np.inf, -np.inf):
        trial = np.array(guess, np.float64)
        for _ in range(4):
            trial = np.nextafter(trial, direction)
            closer = np.abs(function(trial) - wanted) < error
            best = np.where(closer, trial, best)
            error = np.minimum(error, np.abs(function(trial) - wanted))
    return best
