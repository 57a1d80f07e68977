"""Turn ``delayed`` coupling into ``immediate`` coupling one step later.

``u[n] = beta u[n-1] + i[n-1]`` with arrivals x is ``u[n] = beta u[n-1] + i'[n]`` with
``i'[n] = i[n-1]``, that is, with 1 added to the delay of every incoming edge.
Only the current is seen one step later; spikes and voltages stay.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spikec.compiler.arrays import Array, frozen
from spikec.compiler.errors import Diagnostic, GraphError, raise_if_any
from spikec.compiler.ir import LI, LIF, Graph

__all__ = ["CoupleImmediately"]


class CoupleImmediately:
    """Rewrite every population to immediate coupling; spikes and voltages are identical."""

    name = "couple-immediately"

    def __call__(self, graph: Graph, /) -> Graph:
        """Return the rewritten graph, or ``graph`` itself."""
        delayed = [node for node in graph.populations if node.coupling == "delayed"]
        if not delayed:
            return graph
        raise_if_any(GraphError, [_waits(node) for node in delayed if node.start])
        nodes = {
            node.name: replace(
                node,
                coupling="immediate",
                initial_current=_before(node),
                view=replace(node.view, current_lag=node.view.current_lag + 1),
            )
            for node in delayed
        }
        edges = {
            edge.name: replace(edge, delay=edge.delay + 1)
            for node in delayed
            for edge in graph.edges_into(node.name)
        }
        return graph.rewritten(nodes=nodes, edges=edges)


def _waits(node: LIF | LI) -> Diagnostic:
    return Diagnostic(
        code="G064",
        where=f"population '{node.name}'",
        message=f"delayed coupling with start {node.start}: what arrives in step "
        f"{node.start - 1} would be seen",
        hint="couple before retiming, as the canonical pipeline does",
    )


def _before(node: LIF | LI) -> Array:
    """Return the current that decays to the initial current in one silent step."""
    if not node.initial_current.any():
        return node.initial_current
    alpha = np.zeros(node.shape) if node.alpha is None else node.alpha
    if ((alpha == 0) & (node.initial_current != 0)).any():
        raise GraphError(
            Diagnostic(
                code="G061",
                where=f"population '{node.name}'",
                message="an initial current with delayed coupling and no synaptic filter "
                "has no immediate form",
                hint="set initial_current to 0 or give alpha",
            )
        )
    return frozen(node.initial_current / np.where(alpha == 0, 1.0, alpha))
