"""What a user or a file says of the inputs: spikes, integers or real numbers, and their range."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

from spikec.compiler.by_name import parse_by_name
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.files import canonical_json
from spikec.compiler.ir import Choice, Graph, InputKind

__all__ = ["InputSaid", "inputs_noted", "note_of_inputs", "with_inputs_declared"]

_RANGE = re.compile(r"(?P<kind>graded|analog):(?P<low>[^:]+?)\.\.(?P<high>[^:]+)")


@dataclass(frozen=True, kw_only=True)
class InputSaid:
    """Kind and range of an input; an analog one may leave its range to calibration data."""

    kind: InputKind
    low: float | None
    high: float | None

    def __str__(self) -> str:
        """Return it as the option says it."""
        if self.kind == "binary" or self.low is None:
            return self.kind
        return f"{self.kind}:{self.low:g}..{self.high:g}"


def input_said(text: str) -> InputSaid:
    """Return what ``binary``, ``analog``, ``analog:-1..1`` or ``graded:0..15`` says.

    Raises :class:`ValueError` for anything else.
    """
    if text == "binary":
        return InputSaid(kind="binary", low=0, high=1)
    if text == "analog":
        return InputSaid(kind="analog", low=None, high=None)
    matched = _RANGE.fullmatch(text)
    if matched is None:
        raise ValueError(text)
    low, high = float(matched["low"]), float(matched["high"])
    whole = matched["kind"] == "analog" or (low.is_integer() and high.is_integer())
    if not (math.isfinite(low) and math.isfinite(high) and low <= high and whole):
        raise ValueError(text)
    kind: InputKind = "analog" if matched["kind"] == "analog" else "graded"
    return InputSaid(kind=kind, low=low, high=high)


def with_inputs_declared(
    graph: Graph, text: str | None, *, origin: str = "option --input"
) -> Graph:
    """Return ``graph`` with its inputs as ``text`` says: ``x=analog:-1..1,graded:0..15``.

    A part without a name is for all inputs; ``origin`` is who says so. Raises
    :class:`UsageError` for a text that says nothing, and for inputs that do not exist.
    """
    if text is None:
        return graph
    said = parse_by_name(
        text,
        input_said,
        option="--input",
        kind="a kind of input",
        hint="binary, graded:LOW..HIGH (whole numbers), analog:LOW..HIGH, or analog, whose range "
        "--calibrate then shows; by name: x=graded:0..15,mask=binary",
        code="U084",
    )
    known = [node.name for node in graph.inputs]
    findings = [
        Diagnostic(
            code="U085",
            where="option --input",
            message=f"there is no input '{name}'",
            hint=f"there are {', '.join(known)}",
        )
        for name in said.named
        if name not in known
    ]
    raise_if_any(UsageError, findings)
    given = {node.name: found for node in graph.inputs if (found := said.of(node.name))}
    nodes = {
        node.name: replace(node, kind=found.kind, low=found.low, high=found.high)
        for node in graph.inputs
        if (found := given.get(node.name))
    }
    before = {choice.what: choice.origin for choice in graph.choices}
    choices = []
    for name, found in given.items():
        what = f"input '{name}'"
        over = f", in place of the file's {before[what]}" if what in before else ""
        choices.append(Choice(what=what, value=str(found), origin=origin + over))
    return graph.rewritten(nodes=dict(nodes), choices=choices)


def note_of_inputs(graph: Graph) -> str:
    """Return what a file keeps of the inputs' kinds and ranges, for :func:`inputs_noted`."""
    return canonical_json(
        {node.name: {"kind": node.kind, "low": node.low, "high": node.high}
         for node in graph.inputs}
    )  # fmt: skip


def inputs_noted(text: str) -> dict[str, InputSaid]:
    """Return what a file's note says of its inputs; :class:`ValueError` for what says nothing."""
    try:
        tables = json.loads(text)
        return {name: _noted(name, table) for name, table in tables.items()}
    except (AttributeError, RecursionError, TypeError) as error:
        raise ValueError(f"it is no table of inputs: {error}") from error


def _noted(name: str, table: Mapping[str, Any]) -> InputSaid:
    kind: Any = table.get("kind")
    low, high = table.get("low"), table.get("high")
    numbers = all(item is None or type(item) in (int, float) for item in (low, high))
    if kind in get_args(InputKind) and numbers:
        return InputSaid(kind=kind, low=low, high=high)
    raise ValueError(f"'{name}' has kind {kind!r}, low {low!r}, high {high!r}")
