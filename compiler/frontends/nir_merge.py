"""A leaky integrator and the threshold behind it are one neuron that never resets."""

from __future__ import annotations

from dataclasses import replace

from spikec.compiler.frontends.nir_file import NirFile, NirNode
from spikec.compiler.ir import Choice

__all__ = ["with_thresholds_merged"]

_INTEGRATORS = ("I", "LI", "CubaLI")


def with_thresholds_merged(file: NirFile) -> NirFile:
    """Return ``file`` with each Threshold that reads one integrator holding its dynamics.

    The integrator stays where something else reads it, an output for example.
    """
    nodes, edges, merged = dict(file.nodes), set(file.edges), []
    for name in [name for name, node in nodes.items() if node.kind == "Threshold"]:
        found = _integrator(nodes, edges, name)
        if found is None:
            continue
        integrator, between = found
        nodes[name] = _merged(nodes[integrator], nodes[name])
        edges -= {(before, after) for before, after in edges if after == name}
        edges |= {(before, name) for before, after in edges if after == integrator}
        _drop_unread(nodes, edges, [*between, integrator])
        merged.append(
            Choice(
                what=f"node '{name}'",
                value=f"'{integrator}' and its threshold are one neuron that does not reset",
                origin="the file",
            )
        )
    if not merged:
        return file
    order = {edge: index for index, edge in enumerate(file.edges)}
    ordered = sorted(edges, key=lambda edge: (order.get(edge, len(order)), edge))
    repairs = (*file.repairs, *merged)
    return replace(file, nodes=nodes, edges=tuple(ordered), repairs=repairs)


def _merged(integrator: NirNode, threshold: NirNode) -> NirNode:
    fields = {**integrator.fields, "threshold": threshold.fields.get("threshold")}
    if not threshold.has("threshold"):
        del fields["threshold"]
    return replace(threshold, fields=fields, integrates=integrator.kind)


def _integrator(
    nodes: dict[str, NirNode], edges: set[tuple[str, str]], name: str
) -> tuple[str, list[str]] | None:
    """Return the integrator that alone leads to ``name``, and the ends of sub-graphs between."""
    between: list[str] = []
    while True:
        before = [source for source, target in edges if target == name]
        if len(before) != 1 or before[0] in between:
            return None
        name = before[0]
        if nodes[name].kind in _INTEGRATORS:
            return None if (name, name) in edges else (name, between)
        if nodes[name].kind != "Identity":
            return None
        between.append(name)


def _drop_unread(
    nodes: dict[str, NirNode], edges: set[tuple[str, str]], candidates: list[str]
) -> None:
    """Leave out nodes that nothing reads any more; each comes after those that read it."""
    for name in candidates:
        if not any(source == name for source, _ in edges):
            del nodes[name]
            edges -= {edge for edge in edges if edge[1] == name}
