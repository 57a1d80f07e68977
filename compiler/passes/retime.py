"""Give every edge a delay the target can build, without changing a spike.

Running population p ``lateness[p]`` steps later adds
``lateness[target] - lateness[source]`` to the delay of each edge: the total
around every cycle stays (Leiserson and Saxe, 1991). Each population is
scheduled as early as its inputs allow, so that in a feed-forward chain every
edge gets the least delay. A late population waits for its ``start``: before it,
it must neither integrate its bias nor leak its initial state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from spikec.compiler.errors import Diagnostic, GraphError
from spikec.compiler.ir import Edge, Graph, Input, Node

__all__ = ["Retime"]


@dataclass(frozen=True)
class Retime:
    """Move populations in time until every edge takes ``min_delay`` steps or more."""

    min_delay: int = 1

    name = "retime"

    def __call__(self, graph: Graph, /) -> Graph:
        """Return the rewritten graph, or ``graph`` itself."""
        lateness = _lateness(graph, self.min_delay)
        if not any(lateness.values()):
            return graph
        nodes = {node.name: _later(node, lateness[node.name]) for node in graph.nodes}
        edges = {
            edge.name: replace(
                edge, delay=edge.delay + lateness[edge.target] - lateness[edge.source]
            )
            for edge in graph.edges
        }
        return graph.rewritten(nodes=nodes, edges=edges)


def _lateness(graph: Graph, min_delay: int) -> dict[str, int]:
    """Return how many steps later each node runs: longest paths, by relaxation."""
    driven = graph.reachable_from_inputs()
    late: dict[str, int | None] = {
        node.name: None if node.name in driven else 0 for node in graph.nodes
    }
    edges = graph.edges
    for _ in range(len(late) + 1):
        changed = False
        for edge in edges:
            change = _needed(edge, late, min_delay)
            if change is not None:
                late[edge.target] = change
                changed = True
        if not changed:
            break
    else:
        raise GraphError(
            Diagnostic(
                code="G062",
                where=f"edges {', '.join(edge.name for edge in edges if edge.delay < min_delay)}",
                message=f"a cycle has less total delay than {min_delay} steps per edge",
                hint="the target needs that much time for each edge of a recurrent loop",
            )
        )
    known = {name: steps for name, steps in late.items() if steps is not None}
    assert len(known) == len(late)  # what inputs reach was reached above
    earliest = min(known.values(), default=0)
    return {name: steps - earliest for name, steps in known.items()}


def _needed(edge: Edge, late: dict[str, int | None], min_delay: int) -> int | None:
    """Return the later time that ``edge`` forces on its target, or None."""
    source, target = late[edge.source], late[edge.target]
    if source is None:
        return None
    needed = source + min_delay - edge.delay
    return needed if target is None or needed > target else None


def _later(node: Node, steps: int) -> Node:
    if steps == 0:
        return node
    if isinstance(node, Input):
        return replace(node, shift=node.shift + steps)
    return replace(node, start=node.start + steps, view=node.view.later(steps))
