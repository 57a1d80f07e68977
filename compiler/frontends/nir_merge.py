"""Integrators that alone lead to a threshold or a neuron are one neuron with it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from spikec.compiler.frontends.nir_file import NirFile, NirNode
from spikec.compiler.ir import Choice

__all__ = ["with_integrators_merged"]

_INTEGRATORS = ("I", "LI", "CubaLI")
_TAKERS = ("Threshold", "LI", "LIF")


def with_integrators_merged(file: NirFile) -> NirFile:
    """Return ``file`` with integrators taken into what alone they lead to, neuron by neuron.

    A Threshold that reads one integrator holds its dynamics; a LIF (or LI) that reads one LI has
    it for its synapse, as CubaLIF (or CubaLI). The integrator stays where something else reads
    it, an output for example.
    """
    nodes, wiring = dict(file.nodes), _Wiring(file.edges)
    choices = []
    for name in file.nodes:
        found = _integrator(nodes, wiring, name) if name in nodes else None
        merged = None if found is None else _merged(nodes[found[0]], nodes[name])
        if found is None or merged is None:
            continue
        (integrator, between), (nodes[name], meaning) = found, merged
        wiring.feed(name, wiring.before[integrator])
        _drop_unread(nodes, wiring, [*between, integrator])
        choices.append(
            Choice(what=f"node '{name}'", value=f"'{integrator}' and it are {meaning}",
                   origin="the file")
        )  # fmt: skip
    if not choices:
        return file
    order = {edge: index for index, edge in enumerate(file.edges)}
    ordered = sorted(wiring.edges(), key=lambda edge: (order.get(edge, len(order)), edge))
    repairs = (*file.repairs, *choices)
    return replace(file, nodes=nodes, edges=tuple(ordered), repairs=repairs)


class _Wiring:
    """The edges by both of their ends: what is before each node, and what after."""

    def __init__(self, edges: Iterable[tuple[str, str]]) -> None:
        self.before: defaultdict[str, set[str]] = defaultdict(set)
        self.after: defaultdict[str, set[str]] = defaultdict(set)
        for source, target in edges:
            self.before[target].add(source)
            self.after[source].add(target)

    def edges(self) -> Iterator[tuple[str, str]]:
        return ((source, target) for target, found in self.before.items() for source in found)

    def feed(self, name: str, sources: set[str]) -> None:
        """Let ``sources`` lead to ``name``, and nothing else."""
        for source in self.before[name]:
            self.after[source].discard(name)
        for source in sources:
            self.after[source].add(name)
        self.before[name] = set(sources)


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
    nodes: dict[str, NirNode], wiring: _Wiring, name: str
) -> tuple[str, list[str]] | None:
    """Return the integrator that alone leads to ``name``, and the ends of sub-graphs between."""
    if nodes[name].kind not in _TAKERS:
        return None
    between: dict[str, None] = {}
    while True:
        before = wiring.before[name]
        if len(before) != 1:
            return None
        (name,) = before
        if name in between:
            return None
        if nodes[name].kind in _INTEGRATORS:
            return None if name in wiring.before[name] else (name, list(between))
        if nodes[name].kind != "Identity":
            return None
        between[name] = None


def _drop_unread(nodes: dict[str, NirNode], wiring: _Wiring, candidates: list[str]) -> None:
    """Leave out nodes that nothing reads any more; each comes after those that read it."""
    for name in candidates:
        if not wiring.after[name]:
            del nodes[name]
            wiring.feed(name, set())
