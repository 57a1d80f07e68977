"""Chips as data: one TOML file a target, and the type that holds it.

A user's own target is a file of the same form, given by its path.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast, get_args

from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.fixedpoint import DECAY_UNITY, VTH_SHIFT
from spikec.compiler.sniffing import kind_of
from spikec.compiler.targets.section import Section

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SHIPPED", "Convolution", "Cores", "Costs", "Range", "Span", "Target", "load_target"]

#: The targets that come with spikec.
SHIPPED = ("loihi2", "loihi1", "generic")

#: What the arithmetic and the file formats hold, whatever a chip may have.
_STATE_BITS, _LONGEST_DELAY, _MOST, _MOST_TILES = 24, 1 << 16, 1 << 40, 1 << 10
#: Target files are a page or two long.
_MOST_BYTES = 1 << 20
_BIAS_MANT, _BIAS_EXP, _WEIGHT_EXP = (-(1 << 12), (1 << 12) - 1), (0, 7), (0, 15)
_SECTIONS = ("decay", "state", "weights", "messages", "delays", "cores", "costs")


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

    def bias_mant_max(self, sign: int) -> int:
        """The largest magnitude of a bias's mantissa of ``sign`` (-1 or 1); 1 at least."""
        return max(1, self.bias_mant.high if sign > 0 else -self.bias_mant.low)

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
        return _from_table(_table(path))
    except UnicodeDecodeError as error:
        raise _unreadable(path, "it is not text") from error
    except (ValueError, OSError) as error:
        raise _unreadable(path, str(error)) from error


def _table(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; ``ValueError`` where it is none."""
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"it is larger than {_MOST_BYTES} bytes")
    text = path.read_text(encoding="utf-8")
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # the parser follows every bracket by a call
        why = "too deep" if isinstance(error, RecursionError) else str(error)
        raise ValueError(f"it is not TOML: {why}") from error
    return table


def _unreadable(path: Path, why: str) -> UsageError:
    """Return the error about a file that is no target: what it is instead, or else ``why``."""
    kind, hint = kind_of(path), "copy a shipped target and change its numbers"
    if kind is not None:
        why, hint = f"it is {kind.what}", f"{kind.remedy}; or {hint}"
    return UsageError(Diagnostic(code="U021", where=str(path), message=why, hint=hint))


def _from_table(table: Mapping[str, Any]) -> Target:
    whole, decay, state = Section(table), Section(table, "decay"), Section(table, "state")
    weights, messages = Section(table, "weights"), Section(table, "messages")
    delays = Section(table, "delays")
    least = delays.integer("min", 1, _LONGEST_DELAY)
    target = Target(
        name=whole.text("name"),
        summary=whole.text("summary"),
        du=Range(*decay.span("du", 0, DECAY_UNITY - 1)),
        dv=Range(*decay.span("dv", 0, DECAY_UNITY)),
        per_neuron_decay=decay.flag("per_neuron"),
        state_bits=_state_bits(state),
        vth_bits=state.integer("vth_bits", 1, _STATE_BITS - 1 - VTH_SHIFT),
        bias_mant=Range(*state.span("bias_mant", *_BIAS_MANT)),
        bias_exp=Range(*state.span("bias_exp", *_BIAS_EXP)),
        weight_bits=Range(*weights.span("bits", 1, 8)),
        weight_exp=Range(*weights.span("weight_exp", *_WEIGHT_EXP)),
        graded_bits=messages.integer("graded_bits", 0, _STATE_BITS),
        delay=Range(least, delays.integer("max", least, _LONGEST_DELAY)),
        cores=_cores(Section(table, "cores")) if "cores" in whole else None,
        costs=_costs(Section(table, "costs")) if "costs" in whole else None,
    )
    for section in (decay, state, weights, messages, delays):
        section.end()
    whole.end(also=_SECTIONS)
    return target


def _state_bits(state: Section) -> int:
    """Return the width of currents and voltages: no engine computes with another."""
    bits = state.integer("bits", 1, 64)
    if bits != _STATE_BITS:
        raise ValueError(
            f"[state] bits is {bits}: currents wrap and voltages saturate at {_STATE_BITS} bits in "
            f"every engine, and at no other width; only bits = {_STATE_BITS} is obeyed"
        )
    return bits


def _cores(section: Section) -> Cores:
    counts = {
        item.name: section.integer(item.name, 1, _MOST)
        for item in fields(Cores)
        if item.type == "int"
    }
    columns, rows = section.integers("tiles", 1, _MOST_TILES, count=2)
    there = columns * rows * counts["cores_per_tile"]
    if counts["count"] > there:
        raise ValueError(
            f"[cores] count is {counts['count']}: tiles [{columns}, {rows}] of cores_per_tile "
            f"{counts['cores_per_tile']} are {there} cores"
        )
    cores = Cores(
        tiles=(columns, rows),
        weight_widths=section.integers("weight_widths", 1, 64),
        index_widths=section.integers("index_widths", 1, 64),
        convolution=cast("Convolution", section.text("convolution", get_args(Convolution))),
        **counts,
    )
    section.end()
    return cores


def _costs(section: Section) -> Costs:
    spans = {item.name: section.costs(item.name) for item in fields(Costs) if item.name != "basis"}
    costs = Costs(basis=section.text("basis"), **spans)
    section.end()
    return costs
