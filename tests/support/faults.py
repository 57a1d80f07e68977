"""Faults planted into programs after a correct compile: each kind that a review planted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.operators import with_weight
from spikec.compiler.program import Connection, Neurons, Program

__all__ = ["FAULTS", "FILE_FAULTS", "Fault", "same"]

#: Returns the program with a fault; the program itself where it has nothing of that kind.
Fault = Callable[[Program], Program]


def same(one: Program, other: Program) -> bool:
    """Say whether two programs hold the same numbers."""

    def parts(program: Program) -> list[tuple[Any, ...]]:
        neurons = [
            tuple(None if getattr(item, name) is None else getattr(item, name).tobytes()
                  for name in Neurons.PER_NEURON)
            for item in program.neurons
        ]  # fmt: skip
        edges = [(x.operator.weight.tobytes(), x.delay, x.weight_exp) for x in program.connections]
        return [*neurons, *edges]

    return parts(one) == parts(other)


def _with_neurons(program: Program, change: Callable[[Neurons], Neurons]) -> Program:
    return replace(program, populations=tuple(change(item) for item in program.neurons))


def _with_largest(program: Program, change: Callable[[Connection], Connection]) -> Program:
    largest = max(program.connections, key=lambda item: item.operator.weight.size)
    return replace(
        program,
        connections=tuple(change(x) if x is largest else x for x in program.connections),
    )


def _weights(change: Callable[[Array, int], Array]) -> Fault:
    def changed(connection: Connection) -> Connection:
        weight = change(connection.operator.weight.copy(), connection.step)
        return replace(connection, operator=with_weight(connection.operator, weight))

    return lambda program: _with_largest(program, changed)


def _zeroed(weight: Array, _: int) -> Array:
    rows = [row for row in range(len(weight)) if weight[row].any()]
    weight[rows[:3]] = 0
    return weight


def _swapped(weight: Array, _: int) -> Array:
    for row in range(1, len(weight)):
        if (weight[row] != weight[0]).any():
            weight[[0, row]] = weight[[row, 0]]
            return weight
    return weight


def _smaller(share: float) -> Callable[[Array, int], Array]:
    return lambda weight, step: (np.rint(weight * (1 - share) / step) * step).astype(np.int16)


def _late(program: Program) -> Program:
    return _with_largest(program, lambda item: replace(item, delay=item.delay + 1))


def _unbiased(program: Program) -> Program:
    return _with_neurons(program, lambda item: replace(item, bias_mant=np.zeros_like(item.bias)))


def _thresholds(change: Callable[[Array], Array]) -> Fault:
    def changed(item: Neurons) -> Neurons:
        if item.vth is None:
            return item
        vth = np.minimum(change(item.vth), (1 << 17) - 1)
        return replace(item, vth=vth)

    return lambda program: _with_neurons(program, changed)


def _raised(share: float) -> Fault:
    return _thresholds(lambda vth: np.rint(vth * (1 + share)).astype(np.int64))


def _slower(share: float) -> Fault:
    """Return the fault of time constants that are longer by ``share``."""

    def decay(dv: Array, most: int) -> Array:
        kept = (4096 - dv) / 4096
        longer = np.rint((1 - kept ** (1 / (1 + share))) * 4096).astype(np.int64)
        return np.where((dv > 0) & (dv < most), np.clip(longer, 1, most), dv)

    def changed(item: Neurons) -> Neurons:
        du = decay(item.du + 1, 4096) - 1
        return replace(item, du=du, dv=decay(item.dv, 4096))

    return lambda program: _with_neurons(program, changed)


def _decay(units: int) -> Fault:
    """Return the fault of one population's membrane decay, some units off."""

    def changed(program: Program) -> Program:
        first = next((x for x in program.neurons if 1 < x.dv.min() <= x.dv.max() < 4096), None)
        return _with_neurons(
            program, lambda item: replace(item, dv=item.dv + units) if item is first else item
        )

    return changed


def _halved(program: Program) -> Program:
    first = next((x for x in program.neurons if x.reset_value is not None), None)

    def changed(item: Neurons) -> Neurons:
        if item is not first or item.reset_value is None:
            return item
        amounts = item.reset_value.copy()
        amounts.reshape(-1)[0] //= 2
        return replace(item, reset_value=amounts)

    return _with_neurons(program, changed)


#: The kinds of the review. What ``>=`` became is ``>`` of one threshold step less.
FAULTS: dict[str, Fault] = {
    "rows zeroed": _weights(_zeroed),
    "rows swapped": _weights(_swapped),
    "an edge a step late": _late,
    "biases lost": _unbiased,
    "thresholds +1 %": _raised(0.01),
    "thresholds +5 %": _raised(0.05),
    "time constants 10 % off": _slower(0.1),
    "a decay one unit more": _decay(1),
    "a decay one unit less": _decay(-1),
    "one reset halved": _halved,
    "weights 2 % small": _weights(_smaller(0.02)),
    "'>=' as '>'": _thresholds(lambda vth: vth + 1),
}
#: Those planted into program files, whose digests are computed anew.
FILE_FAULTS: dict[str, Fault] = {
    "rows zeroed": FAULTS["rows zeroed"],
    "rows swapped": FAULTS["rows swapped"],
    "an edge a step late": FAULTS["an edge a step late"],
    "thresholds +5 %": FAULTS["thresholds +5 %"],
    "biases lost": FAULTS["biases lost"],
    "time constants 10 % off": FAULTS["time constants 10 % off"],
    "weights 5 % small": _weights(_smaller(0.05)),
    "one reset halved": FAULTS["one reset halved"],
}
