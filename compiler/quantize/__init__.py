"""From float to integers: a graph, a target and data become a program and a report."""

from __future__ import annotations

from spikec.compiler.quantize.bits import WeightBits, parse_weight_bits
from spikec.compiler.quantize.budget import compile_mixed
from spikec.compiler.quantize.lower import Compilation, compile_graph
from spikec.compiler.quantize.report import QuantizationReport

__all__ = [
    "Compilation",
    "QuantizationReport",
    "WeightBits",
    "compile_graph",
    "compile_mixed",
    "parse_weight_bits",
]
