"""What a program says of how it was quantized: claims, each of which is checked.

They are read from the report in a program's provenance as any file is: what is not there, or no
number, is not claimed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spikec.compiler.program import Program

__all__ = ["Claims", "claims_of"]


@dataclass(frozen=True, kw_only=True)
class Claims:
    """``bits`` and ``steps`` of every edge; ``scales`` of populations, and which were fitted.

    ``responses`` are the errors that fits left on the first ``samples`` samples of their data.
    ``known`` is False for a program that claims nothing.
    """

    bits: Mapping[str, int]
    steps: Mapping[str, float]
    scales: Mapping[str, float]
    fitted: frozenset[str]
    responses: Mapping[str, float]
    samples: int
    known: bool


def claims_of(program: Program) -> Claims:
    """Return what ``program`` claims."""
    report = program.provenance.get("quantization")
    weights = _rows(report, "weights", "edge")
    populations = _rows(report, "populations", "population")
    return Claims(
        bits={name: int(bits) for name, row in weights.items() if (bits := _number(row, "bits"))},
        steps={
            name: step
            for name, row in weights.items()
            if (step := _number(row, "step")) is not None
        },
        scales={
            name: scale
            for name, row in populations.items()
            if (scale := _number(row, "scale")) is not None
        },
        fitted=frozenset(
            name for name, row in populations.items() if row.get("rounding") == "calibrated"
        ),
        responses={
            name: error
            for name, row in populations.items()
            if (error := _number(row, "response_error")) is not None
        },
        samples=int(_number(report, "calibration_samples") or 0)
        if isinstance(report, Mapping)
        else 0,
        known=bool(weights or populations),
    )


def _rows(report: object, part: str, key: str) -> dict[str, Mapping[str, Any]]:
    rows = report.get(part) if isinstance(report, Mapping) else None
    if not isinstance(rows, (list, tuple)):
        return {}
    return {str(row[key]): row for row in rows if isinstance(row, Mapping) and key in row}


def _number(row: Mapping[str, Any], key: str) -> float | None:
    value = row.get(key)
    return float(value) if isinstance(value, (int, float)) else None
