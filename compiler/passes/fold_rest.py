"""Measure voltages from the resting voltage: afterwards every ``rest`` is 0.

With ``w = u - rest`` the step ``u' = rest + beta (u - rest) + drive`` becomes
``w' = beta w + drive``; thresholds, reset and initial voltages move along. A
``zero`` reset (to rest) stays one, ``subtract`` keeps its amount.
"""

from __future__ import annotations

from dataclasses import replace

from spikec.compiler.arrays import frozen
from spikec.compiler.ir import LI, LIF, Graph, Node

__all__ = ["FoldRest"]


class FoldRest:
    """Rewrite resting voltages to 0; exact but for the rounding of the subtraction."""

    name = "fold-rest"

    def __call__(self, graph: Graph, /) -> Graph:
        """Return the rewritten graph, or ``graph`` itself."""
        moved = [node for node in graph.populations if node.rest.any()]
        if not moved:
            return graph
        return graph.rewritten(nodes={node.name: _moved(node) for node in moved})


def _moved(node: LIF | LI) -> Node:
    rest = node.rest
    _, initial_voltage = node.initial_state
    view = replace(node.view, voltage_offset=frozen(node.view.voltage_offset + rest))
    moved = replace(
        node,
        rest=frozen(0.0),
        floor=None if node.floor is None else frozen(node.floor - rest),
        bias=node.bias,
        initial_voltage=frozen(initial_voltage - rest),
        view=view,
    )
    if not isinstance(moved, LIF):
        return moved
    value = moved.reset_value
    if value is not None and moved.reset == "value":
        value = frozen(value - rest)
    return replace(moved, vth=frozen(moved.vth - rest), reset_value=value)
