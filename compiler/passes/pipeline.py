"""The passes that make a graph canonical for a target, in the order they run.

Afterwards every population has rest 0, gain 1 and immediate coupling, and every
edge is one weighted operator that takes at least the target's shortest delay.
"""

from __future__ import annotations

from typing import Protocol

from spikec.compiler.ir import Graph
from spikec.compiler.passes.couple_immediately import CoupleImmediately
from spikec.compiler.passes.fold_gain import FoldGain
from spikec.compiler.passes.fold_rest import FoldRest
from spikec.compiler.passes.fuse_chains import FuseChains
from spikec.compiler.passes.retime import Retime

__all__ = ["Pass", "canonical_passes", "canonicalise", "run_passes"]


class Pass(Protocol):
    """A pure rewrite; returns its argument itself when nothing changed."""

    @property
    def name(self) -> str:
        """A verb phrase, for reports."""
        ...

    def __call__(self, graph: Graph, /) -> Graph:
        """Return the rewritten graph."""
        ...


def canonical_passes(min_delay: int = 1) -> tuple[Pass, ...]:
    """Return the canonical pipeline for a target whose edges take ``min_delay`` steps or more."""
    return (FuseChains(), FoldRest(), FoldGain(), CoupleImmediately(), Retime(min_delay))


def run_passes(graph: Graph, passes: tuple[Pass, ...]) -> tuple[Graph, tuple[str, ...]]:
    """Run ``passes`` in order; return the result and the names of those that changed something."""
    changed = []
    for rewrite in passes:
        rewritten = rewrite(graph)
        if rewritten is not graph:
            changed.append(rewrite.name)
        graph = rewritten
    return graph, tuple(changed)


def canonicalise(graph: Graph, min_delay: int = 1) -> Graph:
    """Return ``graph`` in canonical form; its spikes are the same, lags are in its views."""
    return run_passes(graph, canonical_passes(min_delay))[0]
