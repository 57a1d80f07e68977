"""Multiply the gain R into the incoming weights: afterwards every ``gain`` is 1.

With ``j = R i`` the drive ``R i`` becomes ``j``, and ``j`` follows the equation of
``i`` with weights ``R W`` (row by row where R differs between neurons).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spikec.compiler.arrays import Array, frozen, size
from spikec.compiler.errors import Diagnostic, GraphError
from spikec.compiler.ir import LI, LIF, Edge, Graph
from spikec.compiler.operators import Chain, Conv2d, Reshape, Scale, Sparse, with_weight

__all__ = ["FoldGain"]


class FoldGain:
    """Rewrite gains to 1; exact where the products are (a gain of 2, or of 0.5)."""

    name = "fold-gain"

    def __call__(self, graph: Graph, /) -> Graph:
        """Return the rewritten graph, or ``graph`` itself."""
        scaled = [node for node in graph.populations if (node.gain != 1).any()]
        if not scaled:
            return graph
        edges = {
            edge.name: _scaled(edge, node)
            for node in scaled
            for edge in graph.edges_into(node.name)
        }
        nodes = {
            node.name: replace(
                node,
                gain=frozen(1.0),
                initial_current=frozen(node.initial_current * node.gain),
                view=replace(node.view, current_scale=frozen(node.view.current_scale * node.gain)),
            )
            for node in scaled
        }
        return graph.rewritten(nodes=nodes, edges=edges)


def _scaled(edge: Edge, node: LIF | LI) -> Edge:
    if isinstance(edge.operator, Chain):
        scale = Scale(weight=frozen(node.gain))
        shaped = Reshape(shape=node.shape)
        return replace(edge, operator=Chain(stages=(*edge.operator.stages, shaped, scale)))
    weight = edge.operator.weight
    rows = _per_row(edge, node).reshape(-1, *(1,) * (weight.ndim - 1))
    scaled = frozen(weight.astype(np.float64) * rows)
    return replace(edge, operator=with_weight(edge.operator, scaled))


def _per_row(edge: Edge, node: LIF | LI) -> Array:
    """Return one gain per row of the weight: per neuron, synapse, or channel of a convolution."""
    if isinstance(edge.operator, Sparse):
        gains: Array = node.gain.reshape(-1)[edge.operator.synapses.targets]
        return gains
    if not isinstance(edge.operator, Conv2d):
        return node.gain.reshape(-1)
    channels = edge.operator.weight.shape[0]
    gain = node.gain.reshape(channels, size(node.shape) // channels)
    if (gain != gain[:, :1]).any():
        raise GraphError(
            Diagnostic(
                code="G060",
                where=f"population '{node.name}'",
                message="its gain differs within a channel, which convolution "
                f"'{edge.name}' cannot absorb",
                hint="give one gain per channel",
            )
        )
    return gain[:, 0]
