"""How many spikes a step: a framework's limit, ours, or the one that a user chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spikec.compiler.errors import UsageError, raise_if_any
from spikec.compiler.frontends.options import no_effect
from spikec.compiler.ir import LIF, MOST_SPIKES, Choice, Graph

__all__ = ["limited"]


def limited(graph: Graph, limits: Mapping[str, float], wanted: int | None, where: str) -> Graph:
    """Return ``graph`` with every count limited to ``wanted``, and all limits on record.

    ``limits`` says what the source allows: infinitely many, perhaps. Without ``wanted``
    the most that spikec holds stands for more. :class:`UsageError` where no population
    could send ``wanted`` spikes anyway.
    """
    several = [node for node in graph.populations if isinstance(node, LIF) and node.max_spikes > 1]
    if wanted is None:
        beyond = {node.name: limits[node.name] for node in several}
        return graph.rewritten(
            choices=[_ours(name, most) for name, most in beyond.items() if most > MOST_SPIKES]
        )
    affected = [node for node in several if node.max_spikes >= wanted]
    raise_if_any(UsageError, [] if affected else [no_effect("max_spikes", where)])
    value = f"{wanted}: {', '.join(node.name for node in affected)}"
    return graph.rewritten(
        nodes={node.name: replace(node, max_spikes=wanted) for node in affected},
        choices=[Choice(what="max spikes", value=value, origin="option --max-spikes")],
    )


def _ours(name: str, most: float) -> Choice:
    limit = "has no limit" if most == float("inf") else f"allows {most:g}"
    return Choice(
        what="max spikes",
        value=f"{name}: {MOST_SPIKES}",
        origin=f"the most that spikec holds: the source {limit}; --max-spikes lowers it",
    )
