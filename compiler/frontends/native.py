"""Our own graph format: one safetensors file that names every semantic choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spikec.compiler.container import (
    BROKEN,
    Packer,
    Unpacker,
    read_container,
    read_header,
    reading,
    write_container,
)
from spikec.compiler.files import sha256_of
from spikec.compiler.frontends.options import ReadOptions
from spikec.compiler.frontends.spike_limits import limited
from spikec.compiler.ir import LI, LIF, Choice, Edge, Graph, Input, Node, Source
from spikec.compiler.limits import allowed_by

__all__ = ["SCHEMA", "read", "recognises", "write"]

SCHEMA = "spikec.graph"
VERSION = 1

_KINDS: dict[str, type[Any]] = {"input": Input, "lif": LIF, "li": LI}
_KIND_NAMES = {kind: name for name, kind in _KINDS.items()}


def recognises(path: Path) -> bool:
    """Say whether ``path`` holds one of our graphs, by its content."""
    header = read_header(path)
    return header is not None and header["schema"] == SCHEMA


def write(graph: Graph, path: str | Path) -> None:
    """Save ``graph`` to ``path``; the same graph gives the same bytes."""
    packer = Packer()
    body = {
        "dt": graph.dt,
        "outputs": list(graph.outputs),
        "choices": [packer.pack(choice, "choice") for choice in graph.choices],
        "nodes": [
            {"node": _KIND_NAMES[type(node)], **packer.pack(node, f"node/{node.name}")}
            for node in graph.nodes
        ],
        "edges": [packer.pack(edge, f"edge/{edge.name}") for edge in graph.edges],
    }
    write_container(Path(path), schema=SCHEMA, version=VERSION, body=body, tensors=packer.tensors)


def read(path: str | Path, options: ReadOptions | None = None) -> Graph:
    """Load a graph that :func:`write` saved; of ``options``, ``max_spikes`` lowers its limits.

    Raises :class:`~spikec.compiler.errors.FrontendError` for a damaged file and
    :class:`~spikec.compiler.errors.GraphError` for one that breaks a rule.
    """
    path = Path(path)
    options = options or ReadOptions()
    options.refuse_all_but(("max_spikes",), str(path))
    body, tensors = read_container(path, schema=SCHEMA, version=VERSION)
    try:
        graph = _graph(body, Unpacker(tensors, allowed_by(path))).with_source(
            Source(path=path.name, format=SCHEMA, sha256=sha256_of(path.read_bytes()))
        )
    except BROKEN as error:
        raise reading(path, error) from error
    wanted = options.max_spikes
    return graph if wanted is None else limited(graph, {}, wanted, str(path))


def _graph(body: Any, unpacker: Unpacker) -> Graph:
    return Graph(
        nodes=[_node(table, unpacker) for table in body["nodes"]],
        edges=[unpacker.unpack(Edge, table) for table in body["edges"]],
        outputs=[str(name) for name in body["outputs"]],
        dt=body["dt"],
        choices=[unpacker.unpack(Choice, table) for table in body["choices"]],
    )


def _node(table: dict[str, Any], unpacker: Unpacker) -> Node:
    kind = _KINDS[table["node"]]
    fields = {name: value for name, value in table.items() if name != "node"}
    node: Node = unpacker.unpack(kind, fields)
    return node
