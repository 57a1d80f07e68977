"""Chips as data: one TOML file a target, and the type that holds it.

A user's own target is a file of the same form, given by its path.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikec.compiler.errors import Diagnostic, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["SHIPPED", "Range", "Target", "load_target"]

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


@dataclass(frozen=True, kw_only=True)
class Target:
    """The limits that a program for one chip obeys."""

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
    )
