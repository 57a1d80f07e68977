"""The equations of ``spikec.compiler.ir``'s docstring, one sample and one neuron at a time.

With ``number=Fraction`` every value is exact; with ``number=float`` it is IEEE double.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from spikec.compiler.ir import LIF, Edge, Graph, Input, Population
from support.scalar_operators import Taps, flat, taps

__all__ = ["run"]

Number = Any
Values = dict[tuple[str, str], list[list[list[Number]]]]


@dataclass
class Neuron:
    """One neuron's constants, state and history; ``history`` starts at step -1."""

    alpha: Number | None
    beta: Number
    gain: Number
    bias: Number
    rest: Number
    vth: Number | None
    reset_value: Number | None
    current: Number
    voltage: Number
    floor: Number | None
    spike: int = 0
    silent: int = 0
    history: list[tuple[Number, Number, Number]] = field(default_factory=list)


def run(graph: Graph, inputs: dict[str, Any], number: Callable[[Any], Number] = Fraction) -> Values:
    """Return ``[population, quantity][sample][step][neuron]`` in the source's units."""
    values: Values = {
        (item.name, quantity): []
        for item in graph.populations
        for quantity in ("spikes", "voltage", "current")
    }
    for sample in range(len(next(iter(inputs.values())))):
        data = {
            item.name: [
                [number(value) for value in flat(step)] for step in inputs[item.name][sample]
            ]
            for item in graph.inputs
        }
        for probe, recorded in _run_sample(graph, data, number).items():
            values[probe].append(recorded)
    return values


def _run_sample(
    graph: Graph, data: dict[str, list[list[Number]]], number: Callable[[Any], Number]
) -> dict[tuple[str, str], list[list[Number]]]:
    steps = len(next(iter(data.values())))
    neurons = {item.name: _neurons(item, number) for item in graph.populations}
    wires = {edge.name: _wires(graph, edge, number) for edge in graph.edges}
    shifts = {item.name: item.shift for item in graph.inputs}
    for cells in neurons.values():
        for cell in cells:
            cell.history.append((cell.spike, cell.voltage, cell.current))
    for step in range(steps + _longest_lag(graph)):
        for item in _order(graph):
            cells = neurons[item.name]
            arriving = [number(0)] * len(cells)
            for edge in graph.edges_into(item.name):
                source, then = edge.source, step - edge.delay
                sent = (
                    _given(data[source], then - shifts[source])
                    if source in data
                    else _fired(neurons[source], then)
                )
                given = _through(wires[edge.name], sent)
                arriving = [total + one for total, one in zip(arriving, given, strict=True)]
            for cell, arrived in zip(cells, arriving, strict=True):
                if step >= item.start:
                    _advance(item, cell, arrived)
                cell.history.append((cell.spike, cell.voltage, cell.current))
    return _aligned(graph, neurons, steps, number)


def _longest_lag(graph: Graph) -> int:
    views = [item.view for item in graph.populations]
    return max(0, *(view.lag for view in views), *(view.current_lag for view in views))


def _given(data: list[list[Number]], step: int) -> list[Number]:
    return data[step] if 0 <= step < len(data) else [0] * len(data[0])


def _fired(cells: list[Neuron], step: int) -> list[int]:
    return [cell.history[step + 1][0] if step >= 0 else 0 for cell in cells]


def _through(rows: Taps, source: list[Number]) -> list[Number]:
    return [sum(weight * source[place] for place, weight in row) for row in rows]


def _order(graph: Graph) -> list[Population]:
    """Return the populations, each after all it hears from without delay."""
    done: list[Population] = []
    waiting = list(graph.populations)
    while waiting:
        names = {item.name for item in waiting}
        ready = next(
            item
            for item in waiting
            if not any(e.delay == 0 and e.source in names for e in graph.edges_into(item.name))
        )
        waiting.remove(ready)
        done.append(ready)
    return done


def _wires(graph: Graph, edge: Edge, number: Callable[[Any], Number]) -> Taps:
    rows = taps(edge.operator, graph[edge.source].shape)
    return [[(source, number(weight)) for source, weight in row] for row in rows]


def _neurons(item: Population, number: Callable[[Any], Number]) -> list[Neuron]:
    def each(name: str) -> list[Number | None]:
        values = getattr(item, name, None)
        if values is None:
            return [None] * item.num_neurons
        return [number(value) for value in flat(values)]

    names = ("alpha", "beta", "gain", "bias", "rest", "vth", "reset_value")
    columns = [each(name) for name in (*names, "initial_current", "initial_voltage", "floor")]
    return [Neuron(*row) for row in zip(*columns, strict=True)]  # type: ignore[arg-type]


def _advance(item: Population, cell: Neuron, arrived: Number) -> None:
    previous = cell.current
    cell.current = arrived if cell.alpha is None else cell.alpha * previous + arrived
    drive = cell.gain * (cell.current if item.coupling == "immediate" else previous) + cell.bias
    if not isinstance(item, LIF):
        cell.voltage = _floored(cell, cell.rest + cell.beta * (cell.voltage - cell.rest) + drive)
        return
    if cell.silent:
        cell.silent -= 1
        cell.spike = 0
        return
    left = item.reset_twice and _fires(item, cell)
    amount = cell.vth - cell.rest if cell.reset_value is None else cell.reset_value
    target = cell.reset_value if item.reset == "value" else cell.rest
    late = item.reset_order == "next_step" and cell.spike == 1
    before = target if late and item.reset in ("zero", "value") else cell.voltage
    if late and item.reset_drops_input:
        cell.voltage = target
    else:
        cell.voltage = cell.rest + cell.beta * (before - cell.rest) + drive
        if late and item.reset == "subtract":
            cell.voltage -= amount
    cell.spike = int(_fires(item, cell, amount if left else 0))
    if cell.spike:
        cell.silent = item.refractory
    if cell.spike and item.reset_order == "at_spike":
        if item.reset == "subtract":
            cell.voltage -= amount
            while cell.spike < item.max_spikes and _fires(item, cell):
                cell.voltage -= amount
                cell.spike += 1
        elif item.reset in ("zero", "value"):
            cell.voltage = target
    cell.voltage = _floored(cell, cell.voltage)


def _fires(item: LIF, cell: Neuron, less: Number = 0) -> bool:
    compared = cell.voltage - less
    return compared > cell.vth or (item.compare == ">=" and compared == cell.vth)


def _floored(cell: Neuron, voltage: Number) -> Number:
    return voltage if cell.floor is None else max(voltage, cell.floor)


def _aligned(
    graph: Graph,
    neurons: dict[str, list[Neuron]],
    steps: int,
    number: Callable[[Any], Number],
) -> dict[tuple[str, str], list[list[Number]]]:
    values = {}
    for item in graph.populations:
        assert not isinstance(item, Input)
        cells, view = neurons[item.name], item.view
        offsets = [number(value) for value in flat(view.voltage_offset)]
        scales = [number(value) for value in flat(view.current_scale)]
        offsets = offsets * len(cells) if len(offsets) == 1 else offsets
        scales = scales * len(cells) if len(scales) == 1 else scales

        def at(step: int, place: int, cells: list[Neuron] = cells) -> list[Number]:
            return [cell.history[max(0, step + 1)][place] for cell in cells]

        rows = range(steps)
        values[item.name, "spikes"] = [at(n + view.lag, 0) for n in rows]
        values[item.name, "voltage"] = [
            [u + o for u, o in zip(at(n + view.lag, 1), offsets, strict=True)] for n in rows
        ]
        values[item.name, "current"] = [
            [i / s for i, s in zip(at(n + view.current_lag, 2), scales, strict=True)] for n in rows
        ]
    return values
