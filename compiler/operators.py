"""Linear operators on edges: what a spike becomes at its target.

An operator is a pure function of an array ``[batch, *source shape]`` and gives
``[batch, *target shape]``. The same classes hold float weights in a Graph and
integer mantissas in a Program; they compute in the type of their input, so an
integer-valued float64 input gives an exact integer-valued result as long as
all sums stay below 2**53.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np

from spikec.compiler.arrays import Array, Shape, frozen, size

__all__ = ["Conv2d", "Dense", "Operator", "Weighted", "with_weight"]


@runtime_checkable
class Weighted(Protocol):
    """What every operator offers; :data:`Operator` lists the known ones."""

    @property
    def weight(self) -> Array:
        """The weights, read-only."""
        ...

    def output_shape(self, source: Shape) -> Shape:
        """Return the shape this operator gives for ``source``; ``ValueError`` if it cannot."""
        ...

    def apply(self, values: Array) -> Array:
        """Map ``[batch, *source]`` to ``[batch, *output_shape(source)]``."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense:
    """All to all: ``y = W x`` on the flattened source, ``weight[out, in]``."""

    weight: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight))

    def output_shape(self, source: Shape) -> Shape:
        """Return ``(out,)``; the source may have any shape with ``in`` elements."""
        if self.weight.ndim != 2:
            raise ValueError(f"dense weight must be [out, in], has shape {self.weight.shape}")
        if size(source) != self.weight.shape[1]:
            raise ValueError(
                f"weight {self.weight.shape} takes {self.weight.shape[1]} inputs, "
                f"the source has {size(source)}"
            )
        return (self.weight.shape[0],)

    def apply(self, values: Array) -> Array:
        """Map ``[batch, *source]`` to ``[batch, out]``."""
        weight = self.weight.astype(values.dtype, copy=False)
        result: Array = values.reshape(len(values), -1) @ weight.T
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv2d:
    """Cross-correlation as in PyTorch: ``weight[out, in / groups, height, width]``.

    The source has shape ``(channels, height, width)``; padding is with zeros.
    """

    weight: Array
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight))

    def output_shape(self, source: Shape) -> Shape:
        """Return ``(out, height, width)``."""
        if self.weight.ndim != 4 or len(source) != 3:
            raise ValueError(
                f"conv2d needs weight [out, in, h, w] and source (c, h, w), "
                f"has {self.weight.shape} and {source}"
            )
        out, per_group, *kernel = self.weight.shape
        if out % self.groups or source[0] != per_group * self.groups:
            raise ValueError(
                f"weight {self.weight.shape} with {self.groups} groups does not take "
                f"{source[0]} channels"
            )
        extents = [
            (length + 2 * pad - dil * (taps - 1) - 1) // step + 1
            for length, pad, dil, taps, step in zip(
                source[1:], self.padding, self.dilation, kernel, self.stride, strict=True
            )
        ]
        if min(extents) < 1:
            raise ValueError(f"kernel {tuple(kernel)} does not fit into {source[1:]}")
        return (out, *extents)

    def apply(self, values: Array) -> Array:
        """Map ``[batch, c, h, w]`` to ``[batch, out, h', w']``, one kernel tap at a time."""
        out, rows, columns = self.output_shape(values.shape[1:])
        weight = self.weight.astype(values.dtype, copy=False)
        pads = [(0, 0), (0, 0), *((pad, pad) for pad in self.padding)]
        padded = np.pad(values, pads).reshape(
            len(values), self.groups, -1, *(np.add(values.shape[2:], 2 * np.array(self.padding)))
        )
        grouped = weight.reshape(self.groups, out // self.groups, *weight.shape[1:])
        result = np.zeros(
            (len(values), self.groups, out // self.groups, rows * columns), values.dtype
        )
        for row, column in np.ndindex(*weight.shape[2:]):
            top, left = row * self.dilation[0], column * self.dilation[1]
            window = padded[
                ...,
                top : top + (rows - 1) * self.stride[0] + 1 : self.stride[0],
                left : left + (columns - 1) * self.stride[1] + 1 : self.stride[1],
            ]
            flat = window.reshape(*window.shape[:3], rows * columns)
            result += np.matmul(grouped[..., row, column], flat)
        return result.reshape(len(values), out, rows, columns)


Operator: TypeAlias = Dense | Conv2d


def with_weight(operator: Operator, weight: Array) -> Operator:
    """Return the same operator with other weights of the same shape."""
    return replace(operator, weight=weight)
