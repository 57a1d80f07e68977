"""What spikec notes in a NIR file because NIR has no words for it: pictures, and no time step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from spikec.compiler.arrays import Shape, size
from spikec.compiler.entrance import whole
from spikec.compiler.frontends.nir_file import problem
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input
from spikec.compiler.operators import Chain, Dense, Reshape

__all__ = ["as_noted"]


def as_noted(graph: Graph, metadata: Mapping[str, Any], path: str) -> Graph:
    """Return ``graph`` with the shapes and the time step that ``metadata`` of ours note.

    NIR flattens and never unflattens: a population that had to be written flat becomes the
    picture that it was. Raises :class:`FrontendError` for a shape of another size.
    """
    notes = metadata.get("nodes", {})
    shapes = {
        node.name: _shape(notes[node.name]["shape"], node, path)
        for node in graph.populations
        if "shape" in notes.get(node.name, {})
    }
    return Graph(
        nodes=[
            node
            if isinstance(node, Input) or node.name not in shapes
            else _shaped(node, shapes[node.name])
            for node in graph.nodes
        ],
        edges=[_flattening(edge, graph) if edge.source in shapes else edge for edge in graph.edges],
        outputs=graph.outputs,
        dt=None if metadata.get("timed") is False else graph.dt,
        source=graph.source,
        choices=graph.choices,
    )


def _shape(noted: object, node: LIF | LI, path: str) -> Shape:
    extents = noted if isinstance(noted, list) and all(map(whole, noted)) else []
    if not extents or min(extents) < 1 or size(tuple(extents)) != node.num_neurons:
        raise problem(
            "F110", f"{path}: node '{node.name}'", f"its shape is {noted!r}", "export it anew"
        )
    return tuple(extents)


def _shaped(node: LIF | LI, shape: Shape) -> LIF | LI:
    fields = {name: getattr(node, name) for name in node.PER_NEURON}
    arrays = {name: item.reshape(shape) for name, item in fields.items() if item is not None}
    offset, scale = (
        item.reshape(shape) if item.ndim else item
        for item in map(np.asarray, (node.view.voltage_offset, node.view.current_scale))
    )
    view = replace(node.view, voltage_offset=offset, current_scale=scale)
    return replace(node, shape=shape, view=view, **arrays)


def _flattening(edge: Edge, graph: Graph) -> Edge:
    """Return an edge that takes flat what its source, a picture now, gives."""
    stages = edge.operator.stages if isinstance(edge.operator, Chain) else (edge.operator,)
    if any(isinstance(stage, (Dense, Reshape)) for stage in stages[:1]):
        return edge
    flat = Reshape(shape=(size(graph[edge.source].shape),))
    return replace(edge, operator=Chain(stages=(flat, *stages)))
