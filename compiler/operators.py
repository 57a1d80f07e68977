"""Linear operators on edges: what a spike becomes at its target.

An operator is a pure function of an array ``[batch, *source shape]`` and gives
``[batch, *target shape]``. :class:`Dense`, :class:`Sparse` and :class:`Conv2d` carry
weights: the same classes hold float weights in a Graph and integer mantissas in a Program.
A :class:`Chain` runs several in order, with the reshaping and scaling that
frameworks put between layers; a pass fuses it into one weighted operator.

Operators compute in the type of their input, so an integer-valued float64
input gives an exact integer-valued result as long as all sums stay below 2**53.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from spikec.compiler.arrays import MAX_NEURONS, Array, FloatArray, Shape, frozen, sealed, size
from spikec.compiler.limits import MOST_PADDED
from spikec.compiler.pages import let_go

__all__ = [
    "Chain",
    "Conv2d",
    "Dense",
    "Operator",
    "Permute",
    "Reshape",
    "Scale",
    "Sparse",
    "Stage",
    "Synapses",
    "Weighted",
    "average_pool",
    "cast",
    "row_sums",
    "sum_pool",
    "weights_of",
    "with_weight",
    "written_out",
]

#: Synapses or weights that are worked on at a time, so that a large operator needs little more
#: memory than itself.
_BLOCK = 1 << 20
#: A matrix that stands for a sparse operator may have at most this many entries.
_MOST_ENTRIES = 1 << 24


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
        result: Array = values.reshape(len(values), weight.shape[1]) @ weight.T
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Synapses:
    """Who reaches whom, source by source: what a spike needs, and what an engine reads.

    Source s reaches the ``targets`` (flat, int32) from ``pointers[s]`` to
    ``pointers[s + 1]`` (int64), of ``outputs`` in all. Within a source they rise, so
    that no pair is there twice. Raises ``ValueError`` for what breaks these rules;
    operators that differ in weights alone share one such table, checked once.
    """

    targets: Array
    pointers: Array
    outputs: int

    def __post_init__(self) -> None:
        for name, dtype in (("targets", np.int32), ("pointers", np.int64)):
            values = np.asarray(getattr(self, name))
            if values.ndim != 1 or values.dtype.kind not in "iu":
                raise ValueError(f"{name} are a row of integers, not {values.dtype}{values.shape}")
            if values.dtype != dtype and values.size and not _within(values, dtype):
                raise ValueError(f"{name} span {values.min()}..{values.max()}")
            object.__setattr__(self, name, frozen(values, dtype))
        if not 1 <= self.outputs <= MAX_NEURONS:
            raise ValueError(f"{self.outputs} outputs, not 1..{MAX_NEURONS}")
        self._check_pointers()
        for begin in range(0, len(self.targets), _BLOCK):
            self._check_targets(begin, min(len(self.targets), begin + _BLOCK))

    def _check_pointers(self) -> None:
        steps = np.diff(self.pointers)
        ends = self.pointers[:1].tolist() + self.pointers[-1:].tolist()
        if ends != [0, len(self.targets)] or not steps.size or (steps < 0).any():
            raise ValueError(
                f"pointers begin at 0, never fall and end at the {len(self.targets)} synapses, "
                f"one more than there are sources; these are {len(self.pointers)}, ends {ends}"
            )

    def _check_targets(self, begin: int, end: int) -> None:
        part = self.targets[begin : end + 1]
        if part.min() < 0 or part.max() >= self.outputs:
            raise ValueError(f"targets span {part.min()}..{part.max()}, not 0..{self.outputs - 1}")
        falls = np.flatnonzero(np.diff(part) <= 0) + begin + 1
        if len(falls):
            # A source may begin anywhere; only within one must targets rise.
            first = np.searchsorted(self.pointers, falls)
            wrong = falls[self.pointers[first] != falls]
            if len(wrong):
                source = int(np.searchsorted(self.pointers, wrong[0], side="right")) - 1
                raise ValueError(f"targets of source {source} do not rise: sort them, sum pairs")

    @property
    def inputs(self) -> int:
        """The number of sources."""
        return len(self.pointers) - 1

    def per_synapse(self, values: Array) -> Array:
        """Return for each synapse the value of its source."""
        return np.repeat(values, np.diff(self.pointers))


def _within(values: Array, dtype: npt.DTypeLike) -> bool:
    limits = np.iinfo(np.dtype(dtype))
    return bool(values.min() >= limits.min and values.max() <= limits.max)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sparse:
    """Single synapses: ``weight[k]`` is that of synapse k, flat source to flat target."""

    weight: Array
    synapses: Synapses

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight))

    def output_shape(self, source: Shape) -> Shape:
        """Return ``(outputs,)``; the source may have any shape with as many elements."""
        if self.weight.shape != self.synapses.targets.shape:
            raise ValueError(
                f"{len(self.synapses.targets)} synapses have weights {self.weight.shape}"
            )
        if size(source) != self.synapses.inputs:
            raise ValueError(
                f"the synapses come from {self.synapses.inputs} neurons, "
                f"the source has {size(source)}"
            )
        return (self.synapses.outputs,)

    def apply(self, values: Array) -> Array:
        """Map ``[batch, *source]`` to ``[batch, outputs]``; sums are taken in float64."""
        flat = values.reshape(len(values), self.synapses.inputs)
        result = np.zeros((len(values), self.synapses.outputs), values.dtype)
        for sent, received in zip(flat, result, strict=True):
            for part in self._delivered(sent):
                np.add(received, part, out=received, casting="unsafe")
        return result

    def _delivered(self, sent: Array) -> Iterator[Array]:
        """Yield what one sample's values bring, some synapses of what is not 0 at a time."""
        synapses = self.synapses
        active = np.flatnonzero(sent)
        begins = synapses.pointers[active]
        counts = synapses.pointers[active + 1] - begins
        # Cut where another block of synapses is full; one source has no more than outputs.
        full = np.cumsum(counts) // _BLOCK
        for part in np.split(np.arange(len(active)), np.flatnonzero(np.diff(full)) + 1):
            count = counts[part]
            first = np.cumsum(count) - count
            places = np.arange(count.sum()) + np.repeat(begins[part] - first, count)
            brought = self.weight[places].astype(np.float64) * np.repeat(sent[active[part]], count)
            yield np.bincount(synapses.targets[places], brought, synapses.outputs)


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
        if min(*self.stride, *self.dilation, self.groups) < 1 or min(self.padding) < 0:
            raise ValueError(
                f"stride {self.stride}, dilation {self.dilation} and groups {self.groups} are 1 "
                f"or more, padding {self.padding} 0 or more"
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
        padded = [length + 2 * pad for length, pad in zip(source[1:], self.padding, strict=True)]
        if source[0] * padded[0] * padded[1] > max(MOST_PADDED, 9 * size(source)):
            raise ValueError(f"padding {self.padding} makes {source} larger than any picture")
        return (out, *extents)

    def apply(self, values: Array) -> Array:
        """Map ``[batch, c, h, w]`` to ``[batch, out, h', w']``, one kernel tap at a time."""
        out, rows, columns = self.output_shape(values.shape[1:])
        weight = self.weight.astype(values.dtype, copy=False)
        pads = [(0, 0), (0, 0), *((pad, pad) for pad in self.padding)]
        padded = np.pad(values, pads).reshape(
            len(values), self.groups, values.shape[1] // self.groups,
            *np.add(values.shape[2:], 2 * np.array(self.padding)),
        )  # fmt: skip
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale:
    """Multiply by ``weight``, which broadcasts against the source: a number, or one per channel."""

    weight: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", frozen(self.weight))

    def output_shape(self, source: Shape) -> Shape:
        """Return the source's shape."""
        if np.broadcast_shapes(self.weight.shape, source) != source:
            raise ValueError(f"scale of shape {self.weight.shape} does not fit {source}")
        return source

    def apply(self, values: Array) -> Array:
        """Multiply element by element."""
        result: Array = values * self.weight.astype(values.dtype, copy=False)
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape:
    """Read the same elements, in row-major order, as another shape."""

    shape: Shape

    def output_shape(self, source: Shape) -> Shape:
        """Return :attr:`shape`; the number of elements must agree."""
        if size(source) != size(self.shape):
            raise ValueError(f"{source} cannot be reshaped to {self.shape}")
        return self.shape

    def apply(self, values: Array) -> Array:
        """Map ``[batch, *source]`` to ``[batch, *shape]``."""
        return values.reshape(len(values), *self.shape)


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute:
    """Reorder axes (without the batch): axis i of the result is axis ``axes[i]`` of the source."""

    axes: tuple[int, ...]

    def output_shape(self, source: Shape) -> Shape:
        """Return the reordered shape."""
        if sorted(self.axes) != list(range(len(source))):
            raise ValueError(f"axes {self.axes} do not permute {source}")
        return tuple(source[axis] for axis in self.axes)

    def apply(self, values: Array) -> Array:
        """Transpose, keeping the batch first."""
        turned: Array = values.transpose(0, *(axis + 1 for axis in self.axes))
        return turned


#: Operators with weights that a chip can hold.
Weighted: TypeAlias = Dense | Sparse | Conv2d
#: One step of a chain.
Stage: TypeAlias = Dense | Sparse | Conv2d | Scale | Reshape | Permute


@dataclass(frozen=True, eq=False, kw_only=True)
class Chain:
    """Several stages in order, as a framework's layers between two populations."""

    stages: tuple[Stage, ...]

    def output_shape(self, source: Shape) -> Shape:
        """Return what the last stage gives."""
        for stage in self.stages:
            source = stage.output_shape(source)
        return source

    def apply(self, values: Array) -> Array:
        """Run the stages one after the other."""
        for stage in self.stages:
            values = stage.apply(values)
        return values


Operator: TypeAlias = Dense | Sparse | Conv2d | Chain


def with_weight(operator: Weighted, weight: Array) -> Weighted:
    """Return the same operator with other weights of the same shape."""
    return replace(operator, weight=weight)


def weights_of(operator: Operator) -> tuple[Array, ...]:
    """Return all weights of an operator, in the order of its stages."""
    stages = operator.stages if isinstance(operator, Chain) else (operator,)
    return tuple(
        stage.weight for stage in stages if isinstance(stage, (Dense, Sparse, Conv2d, Scale))
    )


def cast(operator: Operator, dtype: npt.DTypeLike) -> Operator:
    """Return the operator with weights of type ``dtype``."""
    if isinstance(operator, Chain):
        return Chain(stages=tuple(_cast_stage(stage, dtype) for stage in operator.stages))
    return with_weight(operator, operator.weight.astype(dtype, copy=False))


def row_sums(operator: Weighted, part: Callable[[Array], Array] = np.abs) -> FloatArray:
    """Return the sum of ``part`` of all weights into each target (each channel, of a Conv2d).

    ``part`` works element by element. Little memory is taken beside the operator.
    """
    weight = operator.weight
    if not isinstance(operator, Sparse):
        rows = weight.reshape(len(weight), -1)
        block = max(1, _BLOCK // max(1, rows.shape[1]))
        sums = [np.zeros(0)]
        for begin in range(0, len(rows), block):
            taken = rows[begin : begin + block]
            sums.append(part(taken).sum(axis=1, dtype=np.float64))
            let_go(taken)
        return np.concatenate(sums)
    total = np.zeros(operator.synapses.outputs)
    block = max(_BLOCK, 8 * len(total))  # a block costs as much as its synapses and all targets
    for begin in range(0, len(weight), block):
        some = slice(begin, begin + block)
        total += np.bincount(operator.synapses.targets[some], part(weight[some]), len(total))
    return total


def written_out(operator: Sparse) -> Dense:
    """Return a sparse operator as a matrix; ``ValueError`` where that is a large one."""
    synapses = operator.synapses
    if synapses.inputs * synapses.outputs > _MOST_ENTRIES:
        raise ValueError(
            f"its {len(synapses.targets):,} synapses would be a matrix of "
            f"{synapses.outputs:,} x {synapses.inputs:,} weights, above {_MOST_ENTRIES:,}"
        )
    matrix = np.zeros((synapses.outputs, synapses.inputs), operator.weight.dtype)
    matrix[synapses.targets, synapses.per_synapse(np.arange(synapses.inputs))] = operator.weight
    return Dense(weight=sealed(matrix))


def sum_pool(
    channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Conv2d:
    """Return sum pooling: a convolution of ones, channel by channel.

    Raises ``ValueError`` for a kernel larger than any picture.
    """
    if channels * size(kernel) > MOST_PADDED:
        raise ValueError(f"kernel {kernel} for {channels} channels is larger than any picture")
    return Conv2d(
        weight=np.ones((channels, 1, *kernel), np.float32),
        stride=stride,
        padding=padding,
        groups=channels,
    )


def average_pool(
    channels: int, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[Conv2d, Scale]:
    """Return average pooling (zeros of the padding count): the sum, then one division."""
    share = frozen(np.array(1.0 / (kernel[0] * kernel[1])))
    return sum_pool(channels, kernel, stride, padding), Scale(weight=share)


def _cast_stage(stage: Stage, dtype: npt.DTypeLike) -> Stage:
    if isinstance(stage, (Reshape, Permute)):
        return stage
    return replace(stage, weight=stage.weight.astype(dtype, copy=False))
