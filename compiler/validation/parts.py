"""A program's parts against the canonical graph's: none missing, none more, all where they were."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np

from spikec.compiler.errors import Diagnostic
from spikec.compiler.ir import LIF, Edge, Graph, Input
from spikec.compiler.operators import Operator
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.validation.findings import equal, finding

__all__ = ["check_connection", "check_inputs", "check_names"]


def check_names(canonical: Graph, program: Program) -> Iterator[Diagnostic]:
    """Yield parts that only one of the two has, and outputs or a time step that differ."""
    for what, found, wanted in (
        ("input", {x.name for x in program.inputs}, {x.name for x in canonical.inputs}),
        ("population", {x.name for x in program.populations},
         {x.name for x in canonical.populations}),
        ("edge", {x.name for x in program.connections}, {x.name for x in canonical.edges}),
    ):  # fmt: skip
        for name in sorted(wanted - found):
            yield finding("V001", f"{what} '{name}'", "the program does not have it")
        for name in sorted(found - wanted):
            yield finding("V001", f"{what} '{name}'", "the network does not have it")
    yield from equal("V001", "program", "outputs", program.outputs, canonical.outputs)
    yield from equal("V001", "program", "dt", program.dt, canonical.dt)
    nodes = {node.name: node for node in canonical.nodes}
    for population in program.populations:
        node = nodes.get(population.name)
        if node is None:
            continue
        where = f"population '{population.name}'"
        if not isinstance(population, Neurons) or isinstance(node, Input):
            yield finding("V001", where, "it is not of the network's kind")
            continue
        yield from equal("V001", where, "shape", population.shape, node.shape)
        spiking = isinstance(node, LIF)
        yield from equal("V001", where, "whether it spikes", population.vth is not None, spiking)


def check_inputs(
    canonical: Graph, program: Program, seen: Mapping[str, tuple[float, float]]
) -> Iterator[Diagnostic]:
    """Yield inputs that are read otherwise; ``seen`` is the range of data, where it is known."""
    known = {item.name: item for item in canonical.inputs}
    for entry in program.inputs:
        if entry.name in known:
            yield from _check_input(known[entry.name], entry, seen.get(entry.name))


def _check_input(
    node: Input, entry: ProgramInput, seen: tuple[float, float] | None
) -> Iterator[Diagnostic]:
    where = f"input '{node.name}'"
    for field in ("shape", "kind", "shift"):
        yield from equal("V030", where, field, getattr(entry, field), getattr(node, field))
    if node.kind != "analog":
        yield from equal("V030", where, "frac_bits", entry.frac_bits, 0)
    bounds = (node.low, node.high)
    low, high = seen if seen is not None and None in bounds else bounds
    for field, found, wanted in (("low", entry.low, low), ("high", entry.high, high)):
        if wanted is not None and abs(found - math.ldexp(wanted, entry.frac_bits)) > 0.5:
            yield finding(
                "V030",
                where,
                f"{field} is {found}, the network's {wanted:g} is "
                f"{math.ldexp(wanted, entry.frac_bits):.9g} in its units",
            )


def check_connection(edge: Edge, connection: Connection) -> Iterator[Diagnostic]:
    """Yield what differs between an edge and a connection beside their weights."""
    where = f"edge '{edge.name}'"
    for field in ("source", "target", "delay"):
        yield from equal("V021", where, field, getattr(connection, field), getattr(edge, field))
    yield from _check_form(edge.operator, connection.operator, where)


def _check_form(wanted: Operator, found: Operator, where: str) -> Iterator[Diagnostic]:
    """Yield what differs in two operators but for the numbers of their weights."""
    if type(wanted) is not type(found):
        kinds = type(found).__name__, type(wanted).__name__
        yield from equal("V021", where, "operator", *kinds)
        return
    for field in fields(wanted):
        mine, other = getattr(found, field.name), getattr(wanted, field.name)
        if field.name == "weight":
            yield from equal("V021", where, "shape of weights", mine.shape, other.shape)
        elif field.name == "synapses":
            same = mine is other or (
                mine.outputs == other.outputs
                and np.array_equal(mine.targets, other.targets)
                and np.array_equal(mine.pointers, other.pointers)
            )
            if not same:
                yield finding("V021", where, "its synapses join other neurons")
        else:
            yield from equal("V021", where, field.name, mine, other)
