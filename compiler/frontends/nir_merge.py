"""Integrators that alone lead to a threshold or a neuron are one neuron with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from spikec.compiler.frontends.nir_file import NirFile, NirNode
from spikec.compiler.ir import Choice

__all__ = ["with_integrators_merged"]

_INTEGRATORS = ("I", "LI", "CubaLI")


def with_integrators_merged(file: NirFile) -> NirFile:
    """Return ``file`` with integrators taken into what alone they lead to, neuron by neuron.

    A Threshold that reads one integrator holds its dynamics; a LIF (or LI) that reads one LI has
    it for its synapse, as CubaLIF (or CubaLI). The integrator stays where something else reads
    it, an output for example.
    """
    nodes, edges = dict(file.nodes), set(file.edges)
    choices = []
    for name in file.nodes:
        found = _integrator(nodes, edges, name) if name in nodes else None
        merged = None if found is None else _merged(nodes[found[0]], nodes[name])
        if found is None or merged is None:
            continue
        (integrator, between), (nodes[name], meaning) = found, merged
        edges -= {(before, after) for before, after in edges if after == name}
        edges |= {(before, name) for before, after in edges if after == integrator}
        _drop_unread(nodes, edges, [*between, integrator])
        choices.append(
            Choice(what=f"node '{name}'", value=f"'{integrator}' and it are {meaning}",
                   origin="the file")
        )  # fmt: skip
    if not choices:
        return file
    order = {edge: index for index, edge in enumerate(file.edges)}
    ordered = sorted(edges, key=lambda edge: (order.get(edge, len(order)), edge))
    repairs = (*file.repairs, *choices)
    return replace(file, nodes=nodes, edges=tuple(ordered), repairs=repairs)


def _merged(integrator: NirNode, node: NirNode) -> tuple[NirNode, str] | None:
    """Return the one node that both are, and what that is; None if they are not."""
    if node.kind == "Threshold":
        fields = {**integrator.fields, **_only(node, "threshold")}
        meaning = "one neuron that does not reset"
        return replace(node, fields=fields, integrates=integrator.kind), meaning
    rests = not integrator.has("v_leak") or not integrator.array("v_leak").any()
    if integrator.kind != "LI" or node.kind not in ("LI", "LIF") or not rests:
        return None
    fields = {name: value for name, value in node.fields.items() if name != "tau"}
    fields |= {"tau_mem": node.array("tau"), "tau_syn": integrator.array("tau")}
    fields["w_in"] = integrator.array("r")
    merged = replace(node, kind=f"Cuba{node.kind}", fields=fields, filtered=True)
    return merged, "one neuron, the first its synapse"


def _only(node: NirNode, name: str) -> dict[str, Any]:
    return {name: node.fields[name]} if node.has(name) else {}


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
