"""Mixed precision: bits for each population that fit a memory, or keep the accuracy asked for.

Each population is quantized to each number of bits on its own, the others at their most,
and what that does to the output is measured on calibration data. The choice is then a
multiple-choice knapsack: of all combinations those that no other beats in both memory
and summed loss are kept, population by population, which loses none of the best. The chosen
point is compiled and measured as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, FloatArray, size
from spikec.compiler.errors import Diagnostic, QuantizationError
from spikec.compiler.inputs import Dataset, check_data, to_integers
from spikec.compiler.ir import LI, Graph
from spikec.compiler.program import Program
from spikec.compiler.quantize.bits import WeightBits
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.quantize.horizon import busiest
from spikec.compiler.quantize.lower import Compilation, translate, validated, with_report
from spikec.compiler.quantize.report import BitsLoss, Tradeoff, TradeoffPoint
from spikec.compiler.targets import Target
from spikec.compiler.trace import Trace, default_readout, read_out
from spikec.compiler.validation import Extent

__all__ = ["Option", "compile_mixed", "frontier", "loss_table", "weight_bytes"]

#: Samples that fill the table, and that the points of the curve are measured on.
_TABLE_SAMPLES, _MEASURED_SAMPLES = 64, 512
#: Points of the curve that are compiled and measured at most, spread over it.
_MOST_MEASURED = 40
#: Shares of samples are sums of floats.
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class Option:
    """One number of bits for one population: the memory (bits) and the loss it comes with."""

    bits: int
    memory: int
    loss: float


def weight_bytes(program: Program) -> int:
    """Return what the stored bits of all weights take, packed."""
    return math.ceil(sum(_memory(program, item.name) for item in program.populations) / 8)


def frontier(
    table: Mapping[str, Sequence[Option]],
) -> list[tuple[int, float, dict[str, int]]]:
    """Return all choices that no other beats in both memory and summed loss, by memory."""
    points: list[tuple[int, float, dict[str, int]]] = [(0, 0.0, {})]
    for name, options in table.items():
        merged = sorted(
            (
                (memory + option.memory, loss + option.loss, {**chosen, name: option.bits})
                for memory, loss, chosen in points
                for option in options
            ),
            key=lambda item: (item[0], item[1]),
        )
        points = []
        for point in merged:
            if not points or point[1] < points[-1][1]:
                points.append(point)
    return points


def compile_mixed(
    graph: Graph,
    target: Target,
    *,
    calibration: Dataset,
    budget: int | None = None,
    max_drop: float | None = None,
    table: Mapping[str, Sequence[Option]] | None = None,
    horizon: int | None = None,
    headroom: float | None = None,
    extent: Extent = "bounded",
    max_active: int | Literal["data"] | None = None,
) -> Compilation:
    """Compile with the bits that cost least and fit ``budget`` bytes, or the other way round.

    With ``max_drop`` (a share: 0.005 for half a point) the least memory is taken whose
    accuracy on the calibration data falls by no more, of at most 40 points spread over the
    curve, all measured from the least on; without labels, the share of samples whose class
    changes counts. With both, both hold. ``table`` is
    what :func:`loss_table` gave, if that is known; ``horizon``, ``headroom`` and ``max_active`` are
    those of :func:`compile_graph`, which validates the program alike. Raises
    :class:`QuantizationError` where nothing fits, saying how near the curve comes.
    """
    judge = _Judge(graph, calibration)
    table = loss_table(graph, target, calibration, max_active) if table is None else table
    points = frontier(table)
    affordable = [item for item in points if budget is None or item[0] <= 8 * budget]
    if not affordable:
        raise _refusal(
            f"the least memory of its weights is {math.ceil(points[0][0] / 8)} bytes",
            "raise --budget, or train a smaller network",
        )
    measured: dict[int, tuple[Compilation, float]] = {}

    def at(index: int) -> tuple[Compilation, float]:
        if index not in measured:
            bits = WeightBits(named=affordable[index][2])
            compilation = translate(
                graph,
                target,
                weight_bits=bits,
                calibration=calibration,
                horizon=horizon,
                headroom=headroom,
                max_active=max_active,
            )
            measured[index] = compilation, judge.drop(compilation.program)
        return measured[index]

    chosen = len(affordable) - 1
    if max_drop is not None:
        # Accuracy does not fall evenly with memory: all are measured, from the least on.
        tried = _spread(len(affordable), _MOST_MEASURED)
        fitting = (index for index in tried if at(index)[1] <= max_drop + _ROUNDING)
        found = next(fitting, None)
        if found is None:
            least = min(drop for _, drop in measured.values())
            raise _refusal(
                f"the best of {len(tried)} choices loses {100 * least:.2f} points",
                "allow a larger --max-drop, or a larger --budget",
            )
        chosen = found
    compilation, _ = at(chosen)
    used = weight_bytes(compilation.program)
    if budget is not None and used > budget:
        raise _refusal(f"the chosen point takes {used} bytes once compiled", "lower the budget")
    tradeoff = Tradeoff(
        budget=budget,
        max_drop=max_drop,
        chosen=chosen,
        bytes_used=used,
        drop_from="labels" if calibration.labels is not None else "changed classes",
        table=tuple(
            BitsLoss(population=name, bits=item.bits, memory_bits=item.memory, loss=item.loss)
            for name, options in table.items()
            for item in options
        ),
        points=tuple(
            TradeoffPoint(
                bits=choice,
                bytes=math.ceil(memory / 8),
                loss=loss,
                drop=measured[index][1] if index in measured else None,
            )
            for index, (memory, loss, choice) in enumerate(points)
        ),
    )
    report = replace(compilation.report, tradeoff=tradeoff)
    program = with_report(compilation.program, report)
    chosen_one = replace(compilation, program=program, report=report)
    return validated(chosen_one, graph, target, calibration=calibration, extent=extent)


def loss_table(
    graph: Graph,
    target: Target,
    calibration: Dataset,
    max_active: int | Literal["data"] | None = None,
) -> dict[str, list[Option]]:
    """Measure every population at every number of bits up to the most that fits."""
    if max_active == "data":  # of all the data, and not of those that the table is made of
        max_active = max(busiest(values) for values in calibration.inputs.values())
    some = calibration.samples(0, _TABLE_SAMPLES)
    most = translate(
        graph,
        target,
        weight_bits=WeightBits(default=None),
        calibration=calibration,
        max_active=max_active,
    )
    named: dict[str, int | None] = {item.edge: item.bits for item in most.report.weights}
    judge = _Judge(graph, some)
    table: dict[str, list[Option]] = {}
    for node in graph.populations:
        mine = {edge.name: named[edge.name] for edge in graph.edges_into(node.name)}
        top = max((bits for bits in mine.values() if bits), default=target.weight_bits.low)
        table[node.name] = []
        for bits in range(target.weight_bits.low, top + 1):
            fewer = {name: min(bits, count or bits) for name, count in mine.items()}
            program = translate(
                graph,
                target,
                weight_bits=WeightBits(named={**named, **fewer}),
                calibration=some,
                max_active=max_active,
            ).program
            option = Option(
                bits=bits, memory=_memory(program, node.name), loss=judge.distance(program)
            )
            table[node.name].append(option)
    return table


def _spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` of ``range(count)``, evenly, the last among them."""
    return sorted({(count - 1) - place * count // most for place in range(most)} & {*range(count)})


def _memory(program: Program, name: str) -> int:
    return sum(
        int(item.operator.weight.size) * item.num_weight_bits
        for item in program.connections_into(name)
    )


class _Judge:
    """How far a program's output is from the float network's, on some data."""

    def __init__(self, graph: Graph, data: Dataset) -> None:
        node = graph[graph.outputs[0]]
        some = data.samples(0, _MEASURED_SAMPLES)
        self.data = check_data(
            some, graph.inputs, where="calibration data", classes=size(node.shape)
        )
        self.probe = (node.name, "voltage" if isinstance(node, LI) else "spikes")
        leaks = not isinstance(node, LI) or bool((node.beta < 1).any())
        self.readout = default_readout(spikes=not isinstance(node, LI), leaks=leaks)
        trace = reference.run(graph, self.data.inputs, probes=[self.probe])  # type: ignore[list-item]
        self.wanted = self._scores(trace, 1.0)
        self.classes = read_out(trace, self.readout)

    def distance(self, program: Program) -> float:
        """Return the mean square change of the output over time, relative to its variance."""
        lsb = program.population(self.probe[0]).lsb if self.probe[1] == "voltage" else 1.0
        error = self._scores(self._trace(program), lsb) - self.wanted
        return float((error * error).mean() / max(float(self.wanted.var()), 1e-30))

    def drop(self, program: Program) -> float:
        """Return the accuracy lost; without labels, the share of classes that change."""
        found = read_out(self._trace(program), self.readout)
        if self.data.labels is None:
            return float((found != self.classes).mean())
        right = (self.classes == self.data.labels).mean()
        return float(right - (found == self.data.labels).mean())

    def _trace(self, program: Program) -> Trace:
        integers, _ = to_integers(program, self.data.inputs)
        return reference.run(dequantize(program), integers, probes=[self.probe])  # type: ignore[list-item]

    def _scores(self, trace: Trace, lsb: float) -> FloatArray:
        values: Array = trace.values[self.probe]  # type: ignore[index]
        scores: FloatArray = values.astype(np.float64) * lsb
        return scores.sum(axis=1) if self.probe[1] == "spikes" else scores


def _refusal(message: str, hint: str) -> QuantizationError:
    return QuantizationError(
        Diagnostic(code="Q013", where="mixed precision", message=message, hint=hint)
    )
