"""A program against the limits of a target: what it holds that the chip does not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic
from spikec.compiler.program import Neurons, Program
from spikec.compiler.targets import Range, Target

__all__ = ["broken_limits"]


def broken_limits(program: Program, target: Target) -> Iterator[Diagnostic]:
    """Yield each limit of ``target`` that ``program`` breaks, by the name of the file's field.

    Sigma-delta and resonate-and-fire neurons have states of their own; of them, messages
    and connections are looked at.
    """
    for item in program.populations:
        if isinstance(item, Neurons):
            yield from _of_neurons(item, target)
    for connection in program.connections:
        where = f"connection '{connection.name}'"
        bits, exponent = connection.num_weight_bits, connection.weight_exp
        if bits > target.weight_bits.high:  # fewer bits than asked for are stored in as many
            yield _broken(target, where, "[weights] bits", str(bits), target.weight_bits)
        if exponent not in target.weight_exp:
            yield _broken(target, where, "[weights] weight_exp", str(exponent), target.weight_exp)
        if connection.delay not in target.delay:
            yield _broken(target, where, "[delays]", str(connection.delay), target.delay)
    yield from _of_messages(program, target)


def _of_neurons(item: Neurons, target: Target) -> Iterator[Diagnostic]:
    where = f"population '{item.name}'"
    limits: tuple[tuple[str, Array | None, Range], ...] = (
        ("[decay] du", item.du, target.du),
        ("[decay] dv", item.dv, target.dv),
        ("[state] vth_bits", item.vth, Range(-target.vth_max - 1, target.vth_max)),
        ("[state] bias_mant", item.bias_mant, target.bias_mant),
        ("[state] bias_exp", item.bias_exp[item.bias_mant != 0], target.bias_exp),
    )
    for field, values, limit in limits:
        if values is None or not values.size:
            continue
        least, most = int(values.min()), int(values.max())
        if least not in limit or most not in limit:
            yield _broken(target, where, field, f"{least}..{most}", limit)
    if not target.per_neuron_decay and (np.ptp(item.du) or np.ptp(item.dv)):
        yield Diagnostic(
            code="Q014",
            where=where,
            message=f"its neurons have different decays; '{target.name}' has one for all, "
            "[decay] per_neuron = false",
            hint="train with one time constant a population, or choose another target",
        )


def _of_messages(program: Program, target: Target) -> Iterator[Diagnostic]:
    most = (1 << target.graded_bits >> 1) - 1
    binary = {item.name for item in program.inputs if item.kind == "binary"}
    for name, (low, high) in program.message_bounds.items():
        single = name in binary or (low, high) in ((0, 0), (0, 1))
        if not single and not -most <= low <= high <= most:
            yield _broken(
                target, f"messages of '{name}'", "[messages] graded_bits", f"{low}..{high}",
                Range(-most, most),
            )  # fmt: skip


def _broken(target: Target, where: str, field: str, found: str, limit: Range) -> Diagnostic:
    return Diagnostic(
        code="Q014",
        where=where,
        message=f"{field} of target '{target.name}' allows {limit}, and the program has {found}",
        hint="choose another target, or train within its limits",
    )
