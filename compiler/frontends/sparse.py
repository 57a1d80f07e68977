"""Sparse synapses for formats that have none: small ones are written as matrices."""

from __future__ import annotations

from dataclasses import replace

from spikec.compiler.errors import Diagnostic, FrontendError, raise_if_any
from spikec.compiler.ir import Edge, Graph
from spikec.compiler.operators import Chain, Operator, Sparse, written_out

__all__ = ["without_sparse"]


def without_sparse(graph: Graph, *, code: str, form: str) -> Graph:
    """Return ``graph`` with matrices for its sparse operators.

    Raises :class:`FrontendError` (with ``code``) naming every edge whose matrix would
    be too large; ``form`` is what has no words for it.
    """
    edges: dict[str, Edge] = {}
    findings = []
    for edge in graph.edges:
        try:
            operator = _dense(edge.operator)
        except ValueError as error:
            findings.append(
                Diagnostic(
                    code=code,
                    where=f"edge '{edge.name}'",
                    message=f"{form} has no sparse weights: {error}",
                    hint="keep the network in spikec's own format",
                )
            )
            continue
        if operator is not edge.operator:
            edges[edge.name] = replace(edge, operator=operator)
    raise_if_any(FrontendError, findings)
    return graph.rewritten(edges=edges) if edges else graph


def _dense(operator: Operator) -> Operator:
    if isinstance(operator, Sparse):
        return written_out(operator)
    if not isinstance(operator, Chain) or not any(isinstance(s, Sparse) for s in operator.stages):
        return operator
    stages = (written_out(s) if isinstance(s, Sparse) else s for s in operator.stages)
    return Chain(stages=tuple(stages))
