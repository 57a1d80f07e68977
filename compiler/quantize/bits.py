"""How many bits the weights of each edge get: one number, a number by name, or all that fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from spikec.compiler.by_name import parse_by_name
from spikec.compiler.entrance import whole
from spikec.compiler.errors import Diagnostic, QuantizationError, raise_if_any
from spikec.compiler.ir import Edge, Graph
from spikec.compiler.targets import Target

__all__ = ["AUTO", "Rounding", "WeightBits", "parse_weight_bits"]

Rounding = Literal["max-abs", "least-squares", "fitted"]

#: Stands for the most bits that the overflow proof and an input's resolution allow.
AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class WeightBits:
    """Bits by population (all its incoming edges) or by edge; None means as many as fit.

    An edge's own name comes before its population's, and that before ``default``.
    ``rounding`` is how weights become levels: nearest ones at a scale that clips none
    (``max-abs``) or of the least square error, or ``fitted`` to data where there are any (the
    nearest of the least square error without).
    """

    default: int | None = 8
    named: Mapping[str, int | None] = field(default_factory=dict)
    rounding: Rounding = "fitted"

    def wanted(self, edge: Edge) -> int | None:
        """Return the bits for ``edge``, None for as many as fit."""
        return self.named.get(edge.name, self.named.get(edge.target, self.default))

    def most(self, edges: Sequence[Edge], target: Target) -> tuple[int, ...]:
        """Return the bits to try first."""
        return tuple(self.wanted(edge) or target.weight_bits.high for edge in edges)

    def __str__(self) -> str:
        """Return it as an option says it: ``auto``, or ``layer1=6,readout=8,8``."""
        parts = [f"{name}={bits or AUTO}" for name, bits in self.named.items()]
        return ",".join([*parts, str(self.default or AUTO)])

    def check(self, graph: Graph, target: Target) -> None:
        """Raise :class:`QuantizationError` for bits the target lacks, and for unknown names."""
        raise_if_any(QuantizationError, list(self._findings(graph, target)))

    def _findings(self, graph: Graph, target: Target) -> Iterator[Diagnostic]:
        for bits in (self.default, *self.named.values()):
            if bits is not None and (not whole(bits) or bits not in target.weight_bits):
                yield Diagnostic(
                    code="Q001",
                    where=f"target '{target.name}'",
                    message=f"weights of {bits!r} bits do not exist",
                    hint=f"choose {target.weight_bits}",
                )
        known = [*(node.name for node in graph.populations), *(edge.name for edge in graph.edges)]
        for name in self.named:
            if name not in known:
                yield Diagnostic(
                    code="Q012",
                    where=f"weight bits of '{name}'",
                    message="there is no such population or edge",
                    hint=f"one of {', '.join(known)}",
                )


def parse_weight_bits(text: str) -> WeightBits:
    """Return what an option says: ``8``, ``auto``, ``layer1=6,readout=8``, ``layer1=auto,4``.

    A part without a name is the default (8 if there is none). Raises
    :class:`UsageError` for anything else.
    """
    said = parse_by_name(
        text,
        _bits_text,
        option="--weight-bits",
        kind="a number of bits",
        hint="a number, 'auto', or a list such as layer1=6,readout=8 or layer1=auto,4",
        code="U082",
    )
    default = WeightBits.default if said.default is None else _bits(said.default)
    return WeightBits(
        default=default, named={name: _bits(value) for name, value in said.named.items()}
    )


def _bits_text(text: str) -> str:
    if text != AUTO and not text.isdecimal():
        raise ValueError(text)
    return text


def _bits(text: str) -> int | None:
    return None if text == AUTO else int(text)
