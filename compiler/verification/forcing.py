"""Teacher forcing: a population by itself, fed with the spikes that another run recorded.

What it then gets wrong is its own error: nothing is inherited from the populations before
it. Recorded values carry the source framework's steps, so the lags of two differently
rewritten networks do not matter: index n is the same moment in both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.ir import Graph, Input, Population
from spikec.compiler.operators import Operator, cast
from spikec.compiler.reference import Equations
from spikec.compiler.trace import Probe, Trace

__all__ = ["Arrivals", "obstacle", "run_forced"]


def obstacle(graph: Graph, name: str) -> str | None:
    """Return why ``name`` cannot be run from recorded spikes, or None.

    Steps before the first recorded one are taken as silent, and what arrives in a step must
    have been recorded at or before it.
    """
    for node in [graph[name], *(graph[edge.source] for edge in graph.edges_into(name))]:
        if isinstance(node, Population) and node.view.lag > node.start:
            return f"'{node.name}' runs before its first recorded step"
    target = graph[name]
    assert isinstance(target, Population)
    for edge in graph.edges_into(name):
        source = graph[edge.source]
        lag = source.view.lag if isinstance(source, Population) else source.shift
        if target.view.lag - edge.delay > lag:
            return f"edge '{edge.name}' brings spikes of later steps than are recorded"
    return None


class Arrivals:
    """What arrives at one population, step by step, given what every source sent.

    ``messages`` hold, per source, ``[sample, source step, *shape]``: the data of inputs and
    recorded spikes of populations. Steps count the population's own, as its equations do.
    """

    def __init__(self, graph: Graph, name: str, messages: Mapping[str, Array]) -> None:
        node = graph[name]
        assert isinstance(node, Population)
        self.shape = node.shape
        self._links: list[tuple[int, Operator, Array]] = []
        for edge in graph.edges_into(name):
            source = graph[edge.source]
            late = source.shift if isinstance(source, Input) else source.view.lag
            operator = cast(edge.operator, np.float64)
            self._links.append((edge.delay + late, operator, messages[edge.source]))

    def at(self, step: int) -> list[Array]:
        """Return one array per edge that brings something at ``step``."""
        found = []
        for delay, operator, sent in self._links:
            if 0 <= step - delay < sent.shape[1]:
                values = operator.apply(sent[:, step - delay].astype(np.float64))
                found.append(values.reshape(len(sent), *self.shape))
        return found


def run_forced(
    graph: Graph, names: Sequence[str], messages: Mapping[str, Array], steps: int
) -> Trace:
    """Run each of ``names`` by itself on ``messages``; record spikes and voltages at source steps.

    Each population keeps its own state and resets itself; all spikes that arrive,
    its own recurrent ones too, are those of ``messages``.
    """
    values: dict[Probe, Array] = {}
    for name in names:
        node = graph[name]
        assert isinstance(node, Population)
        assert obstacle(graph, name) is None
        equations, arrivals = Equations(node, np.float64), Arrivals(graph, name, messages)
        samples = len(next(iter(messages.values())))
        state = equations.initial(samples)
        lag = node.view.lag
        spikes = np.zeros((samples, steps, *node.shape), np.uint8)
        voltages = np.empty((samples, steps, *node.shape))
        for step in range(min(lag, 0), steps + lag):
            if step >= node.start:
                state = equations.advance(state, arrivals.at(step))
            if step >= lag:
                spikes[:, step - lag], voltages[:, step - lag] = state.spikes, state.voltage
        values[name, "spikes"], values[name, "voltage"] = spikes, voltages
    return Trace(values=values, outputs=graph.outputs)
