"""Chips as data: one TOML file a target, and the type that holds it.

A user's own target is a file of the same form, given by its path.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from spikec.compiler.errors import Diagnostic, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SHIPPED", "Convolution", "Cores", "Costs", "Range", "Span", "Target", "load_target"]

#: The targets that come with spikec.
SHIPPED = ("loihi2", "loihi1", "generic")


@dataclass(frozen=True)
class Range:
    """An inclusive range of integers."""

    low: int
    high: int

    def __contains__(self, value: object) -> bool:
        return isinstance(value, int) and self.low <= value <= self.high

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"


#: The least and the most that published figures say.
Span: TypeAlias = tuple[float, float]
#: How a core holds a convolution: its kernel once, or every synapse that it stands for.
Convolution: TypeAlias = Literal["kernel", "unrolled"]


@dataclass(frozen=True, kw_only=True)
class Cores:
    """What one chip and each of its cores hold; the section ``[cores]`` of a target file.

    ``tiles`` are the columns and rows of the mesh. A list of synapses (all that one axon
    reaches) is kept in packs of at most ``pack_synapses``, each with a header, each in
    whole words. ``accumulators`` is how many neurons times steps of delay a core has room for.
    """

    count: int
    tiles: tuple[int, int]
    cores_per_tile: int
    neurons: int
    accumulators: int
    synapse_bits: int
    word_bits: int
    pack_header_bits: int
    pack_synapses: int
    weight_widths: tuple[int, ...]
    index_widths: tuple[int, ...]
    axons_in: int
    axons_out: int
    profiles: int
    thresholds: int
    formats: int
    convolution: Convolution


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What activity costs, least and most; the section ``[costs]`` of a target file.

    Energies are in picojoules, times in nanoseconds. ``basis`` says where they are from.
    """

    basis: str
    synapse_pj: Span
    update_pj: Span
    spike_pj: Span
    message_pj: Span
    hop_pj: Span
    synapse_ns: Span
    update_ns: Span
    spike_ns: Span
    message_ns: Span
    barrier_ns: Span


@dataclass(frozen=True, kw_only=True)
class Target:
    """The limits that a program for one chip obeys.

    ``cores`` and ``costs`` are None for a chip whose file does not say.
    """

    name: str
    summary: str
    du: Range
    dv: Range
    per_neuron_decay: bool
    state_bits: int
    vth_bits: int
    bias_mant: Range
    bias_exp: Range
    weight_bits: Range
    weight_exp: Range
    graded_bits: int
    delay: Range
    cores: Cores | None = None
    costs: Costs | None = None

    @property
    def state_max(self) -> int:
        """The largest magnitude of currents and voltages."""
        return (1 << (self.state_bits - 1)) - 1

    @property
    def vth_max(self) -> int:
        """The largest threshold mantissa."""
        return (1 << self.vth_bits) - 1


def load_target(name: str) -> Target:
    """Return a shipped target by name, or the one in the TOML file at path ``name``.

    Raises :class:`UsageError` when there is neither, or the file lacks a field.
    """
    path = Path(__file__).with_name(f"{name}.toml") if name in SHIPPED else Path(name)
    if path.suffix != ".toml" or not path.is_file():
        raise UsageError(
            Diagnostic(
                code="U020",
                where=f"target '{name}'",
                message="there is no such target",
                hint=f"one of {', '.join(SHIPPED)}, or the path of a .toml file",
            )
        )
    try:
        return _from_table(tomllib.loads(path.read_text(encoding="utf-8")))
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(
            Diagnostic(
                code="U021",
                where=str(path),
                message=f"the target file is not complete: {error}",
                hint="copy a shipped target and change its numbers",
            )
        ) from error


def _from_table(table: Mapping[str, Any]) -> Target:
    def span(section: str, key: str) -> Range:
        low, high = table[section][key]
        return Range(int(low), int(high))

    return Target(
        name=str(table["name"]),
        summary=str(table["summary"]),
        du=span("decay", "du"),
        dv=span("decay", "dv"),
        per_neuron_decay=bool(table["decay"]["per_neuron"]),
        state_bits=int(table["state"]["bits"]),
        vth_bits=int(table["state"]["vth_bits"]),
        bias_mant=span("state", "bias_mant"),
        bias_exp=span("state", "bias_exp"),
        weight_bits=span("weights", "bits"),
        weight_exp=span("weights", "weight_exp"),
        graded_bits=int(table["messages"]["graded_bits"]),
        delay=Range(int(table["delays"]["min"]), int(table["delays"]["max"])),
        cores=_cores(table["cores"]) if "cores" in table else None,
        costs=_costs(table["costs"]) if "costs" in table else None,
    )


def _cores(section: Mapping[str, Any]) -> Cores:
    values: dict[str, Any] = {}
    for item in fields(Cores):
        value = section[item.name]
        values[item.name] = tuple(map(int, value)) if isinstance(value, list) else value
    cores = Cores(**values)
    if cores.convolution not in get_args(Convolution):
        raise ValueError(f"convolution is '{cores.convolution}'")
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        if name != "convolution" and not all(type(n) is int and n > 0 for n in numbers):
            raise ValueError(f"[cores] {name} is {value}")
    return cores


def _costs(section: Mapping[str, Any]) -> Costs:
    values: dict[str, Any] = {"basis": str(section["basis"])}
    for item in fields(Costs):
        if item.name == "basis":
            continue
        low, high = (float(value) for value in section[item.name])
        if not 0 <= low <= high:
            raise ValueError(f"[costs] {item.name} is {section[item.name]}")
        values[item.name] = (low, high)
    return Costs(**values)
