"""The integer semantics of the numeric contract, one sample and one neuron at a time.

Written from the contract and the docstring of ``spikec.compiler.program`` alone.
Only Python integers and lists: nothing can overflow, broadcast or wrap unseen.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from support.scalar_operators import Taps, flat, taps

__all__ = ["ScalarRun", "rtz", "run", "sat24", "wrap24"]

STATE = 1 << 23


def rtz(value: int, shift: int) -> int:
    """Divide by ``2**shift`` toward zero."""
    return value >> shift if value >= 0 else -(-value >> shift)


def wrap24(value: int) -> int:
    """Map into (-2**23, 2**23] as Lava does: one turn at most."""
    if value > STATE:
        return value - 2 * STATE
    if value <= -STATE:
        return value + 2 * STATE
    return value


def sat24(value: int) -> int:
    """Clip to +-(2**23 - 1)."""
    return max(-(STATE - 1), min(STATE - 1, value))


@dataclass
class Neuron:
    """One neuron's constants, state and history; ``history`` starts at step -1."""

    du: int
    dv: int
    vth: int | None
    bias: int
    amount: int
    value: int
    current: int
    voltage: int
    floor: int | None
    spike: int = 0
    silent: int = 0
    history: list[tuple[int, int, int]] = field(default_factory=list)

    def record(self) -> None:
        """Append (spike, voltage, current) to the history."""
        self.history.append((self.spike, self.voltage, self.current))


@dataclass
class ScalarRun:
    """``values[population, quantity]`` as nested lists [sample][step][neuron], and events."""

    values: dict[tuple[str, str], list[list[list[int]]]]
    events: Counter[str]


def run(program: Program, inputs: dict[str, Any]) -> ScalarRun:
    """Run every sample of ``inputs``, ``[sample, step, *shape]`` a name."""
    events: Counter[str] = Counter()
    values: dict[tuple[str, str], list[list[list[int]]]] = {
        (item.name, quantity): []
        for item in program.populations
        for quantity in ("spikes", "voltage", "current")
    }
    samples = len(next(iter(inputs.values())))
    for sample in range(samples):
        data = {
            item.name: [
                [_converted(number, item, events) for number in flat(step)]
                for step in inputs[item.name][sample]
            ]
            for item in program.inputs
        }
        for probe, recorded in _run_sample(program, data, events).items():
            values[probe].append(recorded)
    return ScalarRun(values, events)


def _converted(number: Any, item: ProgramInput, events: Counter[str]) -> int:
    integer = round(number * 2.0**item.frac_bits) if item.kind == "analog" else int(number)
    clipped = max(item.low, min(item.high, integer))
    if clipped != integer:
        events[f"{item.name}/input clipped"] += 1
    return clipped


def _run_sample(
    program: Program, data: dict[str, list[list[int]]], events: Counter[str]
) -> dict[tuple[str, str], list[list[int]]]:
    steps = len(next(iter(data.values())))
    neurons = {item.name: _neurons(item) for item in program.populations}
    shapes = {item.name: item.shape for item in (*program.inputs, *program.populations)}
    wires = [(item, taps(item.operator, shapes[item.source])) for item in program.connections]
    shifts = {item.name: item.shift for item in program.inputs}
    for cells in neurons.values():
        for neuron in cells:
            neuron.record()
    for step in range(steps + _longest_lag(program)):
        # Every connection takes a step or more: what arrives was sent before this step.
        arriving = {name: [0] * len(cells) for name, cells in neurons.items()}
        for connection, rows in wires:
            source, then = connection.source, step - connection.delay
            spikes = (
                _given(data[source], then - shifts[source])
                if source in data
                else _fired(neurons[source], then)
            )
            _deliver(connection, rows, spikes, arriving[connection.target])
        for item in program.populations:
            for neuron, arrived in zip(neurons[item.name], arriving[item.name], strict=True):
                if step >= item.start:
                    _advance(item, neuron, arrived, events)
                neuron.record()
    return _aligned(program, neurons, steps)


def _longest_lag(program: Program) -> int:
    views = [item.view for item in program.populations]
    return max(0, *(view.lag for view in views), *(view.current_lag for view in views))


def _given(data: list[list[int]], step: int) -> list[int]:
    return data[step] if 0 <= step < len(data) else [0] * len(data[0])


def _fired(cells: list[Neuron], step: int) -> list[int]:
    return [cell.history[step + 1][0] if step >= 0 else 0 for cell in cells]


def _deliver(item: Connection, rows: Taps, spikes: list[int], arriving: list[int]) -> None:
    for place, row in enumerate(rows):
        total = sum(weight * spikes[source] for source, weight in row)
        arriving[place] += total << item.weight_exp


def _neurons(item: Neurons) -> list[Neuron]:
    count = item.num_neurons

    def each(values: Any) -> list[Any]:
        return [None] * count if values is None else flat(values)

    cells = []
    for du, dv, vth, mant, exp, value, current, voltage, floor in zip(
        *map(each, (item.du, item.dv, item.vth, item.bias_mant, item.bias_exp)),
        *map(each, (item.reset_value, item.initial_current, item.initial_voltage, item.floor)),
        strict=True,
    ):
        amount = value if value is not None else (vth or 0) << 6
        cells.append(
            Neuron(
                du=du,
                dv=dv,
                vth=vth,
                bias=mant << exp if exp >= 0 else mant >> -exp,
                amount=amount,
                value=value if item.reset == "value" else 0,
                current=current,
                voltage=voltage,
                floor=floor,
            )
        )
    return cells


def _advance(item: Neurons, cell: Neuron, arrived: int, events: Counter[str]) -> None:
    summed = rtz(cell.current * (4096 - (cell.du + 1)), 12) + (arrived << 6)
    cell.current = wrap24(summed)
    if abs(summed) >= STATE:  # 2**23 itself stays, but a chip's 24 bits cannot hold it
        events[f"{item.name}/current wrapped"] += 1
    if cell.silent:
        cell.silent -= 1
        cell.spike = 0
        return
    left = cell.vth is not None and item.reset_twice and cell.voltage > cell.vth << 6
    total = _integrated(item, cell)
    cell.voltage = sat24(total)
    if cell.voltage != total:
        events[f"{item.name}/voltage saturated"] += 1
    compared = cell.voltage - (cell.amount if left else 0)
    cell.spike = int(cell.vth is not None and compared > cell.vth << 6)
    if cell.spike:
        cell.silent = item.refractory
        _reset(item, cell, events)
    if cell.floor is not None:
        cell.voltage = max(cell.voltage, cell.floor)


def _reset(item: Neurons, cell: Neuron, events: Counter[str]) -> None:
    if item.reset_order != "at_spike" or item.reset == "none":
        return
    if item.reset != "subtract":
        cell.voltage = cell.value
        return
    lowered = cell.voltage - cell.amount
    while cell.vth is not None and cell.spike < item.max_spikes and lowered > cell.vth << 6:
        lowered -= cell.amount
        cell.spike += 1
    cell.voltage = sat24(lowered)
    if cell.voltage != lowered:
        events[f"{item.name}/voltage saturated"] += 1


def _integrated(item: Neurons, cell: Neuron) -> int:
    late = item.reset_order == "next_step" and cell.spike == 1
    before, amount = cell.voltage, 0
    if late and item.reset == "subtract":
        amount = cell.amount
    if late and item.reset in ("zero", "value"):
        before = cell.value
    if late and item.reset_drops_input:
        return before
    return rtz(before * (4096 - cell.dv), 12) + cell.current + cell.bias - amount


def _aligned(
    program: Program, neurons: dict[str, list[Neuron]], steps: int
) -> dict[tuple[str, str], list[list[int]]]:
    values = {}
    for item in program.populations:
        lags = (item.view.lag, item.view.lag, item.view.current_lag)
        for place, quantity in enumerate(("spikes", "voltage", "current")):
            # history[0] is step -1, the initial state; nothing is before it.
            values[item.name, quantity] = [
                [
                    neuron.history[max(0, step + lags[place] + 1)][place]
                    for neuron in neurons[item.name]
                ]
                for step in range(steps)
            ]
    return values
