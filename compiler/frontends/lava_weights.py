"""Integer weights as legal mantissas: any integers, exactly, in as few connections as it takes.

Lava computes with a ``.net`` file's weights exactly as they are: its Dense shifts
them up and the sum down again, and keeps odd mixed weights whole by asking for nine
bits; its Conv takes any integers. A program's mantissas are what a chip stores, so
weights that no single grid holds become parallel connections that add up to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.names import joined
from spikec.compiler.operators import Weighted, with_weight
from spikec.compiler.program import Connection, SignMode

__all__ = ["LARGEST_WEIGHT", "connections"]

_MIXED_LOW, _MIXED_HIGH, _ONE_SIGNED = -256, 254, 255
#: Beyond this, sums in a simulation could stop being exact.
LARGEST_WEIGHT = (1 << 16) - 1


@dataclass(frozen=True, eq=False)
class _Part:
    labels: tuple[str, ...]
    mantissa: Array
    exponent: int
    sign_mode: SignMode


def connections(*, source: str, target: str, operator: Weighted, delay: int) -> list[Connection]:
    """Return the connections whose sum is ``operator``, an operator with integer weights."""
    return [
        Connection(
            name=joined(f"{source}-{target}", *part.labels),
            source=source,
            target=target,
            operator=with_weight(operator, part.mantissa),
            weight_exp=part.exponent,
            num_weight_bits=8,
            sign_mode=part.sign_mode,
            delay=delay,
        )
        for part in _parts(operator.weight)
    ]


def _parts(weight: Array) -> list[_Part]:
    if not weight.size or (weight >= 0).all():
        return list(_one_signed(weight, (), "excitatory"))
    if (weight <= 0).all():
        return list(_one_signed(weight, (), "inhibitory"))
    exponent = _shift(weight, _MIXED_LOW, _MIXED_HIGH, step=2)
    if exponent is not None:
        return [_Part((), weight >> exponent, exponent, "mixed")]
    return [
        *_one_signed(np.maximum(weight, 0), ("positive",), "excitatory"),
        *_one_signed(np.minimum(weight, 0), ("negative",), "inhibitory"),
    ]


def _one_signed(weight: Array, labels: tuple[str, ...], mode: SignMode) -> Iterator[_Part]:
    sign = -1 if mode == "inhibitory" else 1
    magnitude = weight * sign
    exponent = _shift(magnitude, 0, _ONE_SIGNED, step=1)
    if exponent is not None:
        yield _Part(labels, sign * (magnitude >> exponent), exponent, mode)
        return
    assert magnitude.max() <= LARGEST_WEIGHT
    yield _Part((*labels, "low"), sign * (magnitude & 255), 0, mode)
    yield _Part((*labels, "high"), sign * (magnitude >> 8), 8, mode)


def _shift(weight: Array, low: int, high: int, *, step: int) -> int | None:
    """Return the smallest exponent that leaves mantissas of ``step`` within the bounds."""
    for exponent in range(9):
        lost = (weight & ((1 << exponent) - 1)).any() or ((weight >> exponent) % step).any()
        if lost:
            return None
        if int((weight >> exponent).min()) >= low and int((weight >> exponent).max()) <= high:
            return exponent
    return None
