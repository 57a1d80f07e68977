"""NIR nodes between populations as stages of our operators; shapes are our own, not the file's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikec.compiler.arrays import MAX_NEURONS, Array, Shape, frozen, size
from spikec.compiler.frontends.nir_file import NirNode, problem
from spikec.compiler.frontends.nir_neurons import fit_of, spread_over
from spikec.compiler.limits import MOST_PADDED
from spikec.compiler.operators import (
    Conv2d,
    Dense,
    Reshape,
    Scale,
    Stage,
    average_pool,
    sum_pool,
)

__all__ = ["Layer", "layer_of", "stored_shape", "taken_channels", "taken_shape"]

#: More axes no array has.
_MOST_AXES = 32


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """A linear node at work on values of ``source`` shape; ``bias`` broadcasts to ``shape``."""

    source: Shape
    shape: Shape
    stages: tuple[Stage, ...]
    bias: Array | None = None


def layer_of(node: NirNode, source: Shape, *, last_axes: bool) -> Layer:
    """Return what ``node`` does to values of shape ``source``.

    ``last_axes`` says that its framework broadcasts fewer axes as the last ones.
    """
    try:
        return _layer(node, source, last_axes=last_axes)
    except ValueError as error:
        raise problem(
            "F114",
            node.where,
            f"it does not take values of shape {source}: {error}",
            "check the nodes before it",
        ) from error


def stored_shape(node: NirNode) -> Shape | None:
    """Return the shape that an Input or Output node states, or None."""
    for name in ("shape", "input_type", "output_type"):
        value = node.fields.get(name)
        if isinstance(value, dict) and value:
            value = next(iter(value.values()))
        if value is None or isinstance(value, (dict, str)):
            continue
        extents = np.asarray(value).reshape(-1)
        if extents.size and extents.dtype.kind in "iuf" and _are_extents(extents):
            return tuple(int(extent) for extent in extents)
    return None


def _are_extents(values: Array) -> bool:
    numbers = values[: _MOST_AXES + 1].astype(np.float64)  # half precision ends at 65504
    return len(numbers) <= _MOST_AXES and bool(((numbers >= 1) & (numbers <= MAX_NEURONS)).all())


def taken_channels(node: NirNode) -> int:
    """Return how many channels a convolution takes."""
    weight = node.array("weight")
    try:
        groups = _integers(node, "groups", 1, 1)[0]
    except ValueError as error:
        raise problem("F112", node.where, str(error)) from error
    if weight.ndim < 3:
        raise problem("F112", node.where, f"its weight has shape {weight.shape}")
    return int(weight.shape[1]) * groups


def taken_shape(node: NirNode) -> Shape:
    """Return the shape that a convolution says it takes."""
    extents = node.array("input_shape").reshape(-1)
    if not _are_extents(extents):
        raise problem("F112", node.where, f"its input_shape is {extents[:8].tolist()}")
    return (taken_channels(node), *(int(extent) for extent in extents))


def _layer(node: NirNode, source: Shape, *, last_axes: bool) -> Layer:
    stages: tuple[Stage, ...]
    bias: Array | None = None
    if node.kind in ("Linear", "Affine"):
        stages, bias = _linear(node, source)
    elif node.kind == "Scale":
        stages = _scale(node, source, last_axes=last_axes)
    elif node.kind == "Conv2d":
        stages, bias = _conv2d(node, source), _channel_bias(node, 2)
    elif node.kind == "Conv1d":
        stages, bias = _conv1d(node, source), _channel_bias(node, 1)
    elif node.kind in ("SumPool2d", "AvgPool2d"):
        stages = _pool(node, source)
    elif node.kind == "Flatten":
        stages = (Reshape(shape=_flattened(node, source)),)
    else:
        stages = ()
    shape = source
    for stage in stages:
        shape = stage.output_shape(shape)
    return Layer(source=source, shape=shape, stages=stages, bias=bias)


def _floats(values: Array) -> Array:
    """Return weights as the float type they are stored in; integers become double."""
    if not np.isfinite(values.astype(np.float64)).all():
        raise ValueError("the weights hold infinity")
    return frozen(values if values.dtype.kind == "f" else values.astype(np.float64))


def _linear(node: NirNode, source: Shape) -> tuple[tuple[Stage, ...], Array | None]:
    weight = _floats(node.array("weight"))
    if weight.ndim != 2:
        raise ValueError(f"its weight has shape {weight.shape}, not (out, in)")
    if size(source) != weight.shape[1] and source[-1] == weight.shape[1]:
        raise ValueError(
            f"a linear layer over the last axis only ({weight.shape[1]} inputs of {size(source)})"
        )
    bias = None
    if node.kind == "Affine":
        bias = _floats(node.array("bias"))
        bias = np.broadcast_to(bias.reshape(-1), (weight.shape[0],))
    return (Dense(weight=weight),), bias


def _scale(node: NirNode, source: Shape, *, last_axes: bool) -> tuple[Stage, ...]:
    factor = _floats(node.array("scale"))
    if factor.size == 1:
        return (Scale(weight=frozen(factor.reshape(()))),)
    if fit_of(factor.shape, source) is None:
        raise ValueError(f"its scale has shape {factor.shape}")
    spread = spread_over(factor, source, last_axes=last_axes)
    if spread is None:
        raise ValueError(f"its scale of shape {factor.shape} fits the first axis and the last")
    return (Scale(weight=frozen(spread)),)


def _channel_bias(node: NirNode, axes: int) -> Array | None:
    if not node.has("bias"):
        return None
    bias = _floats(node.array("bias")).reshape(-1)
    channels = node.array("weight").shape[0]
    if bias.size not in (1, channels):
        raise ValueError(f"bias has {bias.size} values for {channels} channels")
    return frozen(bias.reshape(-1, *[1] * axes))


def _integers(node: NirNode, name: str, count: int, default: int | None) -> tuple[int, ...]:
    """Return ``count`` whole numbers; one stands for all."""
    if not node.has(name) and default is not None:
        return (default,) * count
    stored = node.array(name).reshape(-1)[: count + 1]
    values, shown = stored.astype(np.float64), stored.tolist()
    if values.size not in (1, count) or (np.rint(values) != values).any() or (values < 0).any():
        raise ValueError(f"{name} is {shown}, not {count} whole numbers of 0 or more")
    if (values > 1 << 20).any() or (name != "padding" and (values < 1).any()):
        raise ValueError(f"{name} is {shown}: out of range")
    whole = values.astype(np.int64)
    return tuple(int(value) for value in np.broadcast_to(whole, count))


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def _conv2d(node: NirNode, source: Shape) -> tuple[Stage, ...]:
    if len(source) == 2:
        source = (1, *source)  # a picture without channels
    weight = _floats(node.array("weight"))
    if weight.ndim != 4:
        raise ValueError(f"its weight has shape {weight.shape}, not (out, in, height, width)")
    stage = _convolution(
        node,
        weight,
        stride=_pair(_integers(node, "stride", 2, 1)),
        dilation=_pair(_integers(node, "dilation", 2, 1)),
        padding=_padding(node, 2),
    )
    return (Reshape(shape=source), stage)


def _conv1d(node: NirNode, source: Shape) -> tuple[Stage, ...]:
    if len(source) == 1:
        source = (1, *source)
    weight = _floats(node.array("weight"))
    if weight.ndim != 3 or len(source) != 2:
        raise ValueError(f"its weight has shape {weight.shape}, not (out, in, length)")
    padding = _padding(node, 1)
    stage = _convolution(
        node,
        weight[:, :, None, :],
        stride=(1, _integers(node, "stride", 1, 1)[0]),
        dilation=(1, _integers(node, "dilation", 1, 1)[0]),
        padding="same" if padding == "same" else (0, *padding),
    )
    high = (source[0], 1, source[1])
    channels, _, length = stage.output_shape(high)
    return (Reshape(shape=high), stage, Reshape(shape=(channels, length)))


def _padding(node: NirNode, count: int) -> Any:
    """Return whole numbers, or "same"."""
    value = node.fields.get("padding")
    if isinstance(value, str):
        if value not in ("same", "valid"):
            raise ValueError(f"padding is '{value}', not 'same', 'valid' or numbers")
        return "same" if value == "same" else (0,) * count
    return _integers(node, "padding", count, 0)


def _convolution(
    node: NirNode,
    weight: Array,
    *,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: Any,
) -> Conv2d:
    groups = _integers(node, "groups", 1, 1)[0]
    if padding != "same":
        return Conv2d(
            weight=weight, stride=stride, padding=padding, dilation=dilation, groups=groups
        )
    if stride != (1, 1):
        raise ValueError(f"padding 'same' with stride {stride} has no agreed meaning")
    for axis in (0, 1):
        weight, dilation = _odd(weight, dilation, axis)
    pads = [gap * (taps - 1) // 2 for gap, taps in zip(dilation, weight.shape[2:], strict=True)]
    return Conv2d(weight=weight, padding=(pads[0], pads[1]), dilation=dilation, groups=groups)


def _odd(weight: Array, dilation: tuple[int, int], axis: int) -> tuple[Array, tuple[int, int]]:
    """Return a kernel with a middle tap; 'same' puts the odd zero behind, as PyTorch does."""
    gap, taps = dilation[axis], weight.shape[2 + axis]
    if gap * (taps - 1) % 2 == 0:
        return weight, dilation
    extent = gap * (taps - 1) + 2  # one leading zero tap moves the kernel back by half a step
    if weight.size // taps * extent > MOST_PADDED:
        raise ValueError(f"dilation {gap} makes its kernel larger than any picture")
    spread = np.zeros((*weight.shape[: 2 + axis], extent, *weight.shape[3 + axis :]), weight.dtype)
    places = 1 + gap * np.arange(taps)
    if axis == 0:
        spread[:, :, places, :] = weight
        return frozen(spread), (1, dilation[1])
    spread[..., places] = weight
    return frozen(spread), (dilation[0], 1)


def _pool(node: NirNode, source: Shape) -> tuple[Stage, ...]:
    if len(source) != 3:
        raise ValueError("pooling takes (channels, height, width)")
    kernel = _pair(_integers(node, "kernel_size", 2, None))
    stride = kernel if not node.has("stride") else _pair(_integers(node, "stride", 2, None))
    padding = _pair(_integers(node, "padding", 2, 0))
    if source[0] * size(kernel) > max(MOST_PADDED, size(source)):
        raise ValueError(f"kernel {kernel} is larger than any picture")
    if node.kind == "SumPool2d":
        return (sum_pool(source[0], kernel, stride, padding),)
    return average_pool(source[0], kernel, stride, padding)


def _axis(node: NirNode, name: str) -> int:
    value = node.array(name).reshape(-1)[0]
    if not -_MOST_AXES <= value <= _MOST_AXES or np.rint(value) != value:
        raise ValueError(f"{name} is {value}")
    return int(value)


def _flattened(node: NirNode, source: Shape) -> Shape:
    """Return the shape after a Flatten; axes count without the batch."""
    first, last = 0, -1
    if node.has("start_dim"):
        first = _axis(node, "start_dim")
    if node.has("end_dim"):
        last = _axis(node, "end_dim")
    rank = len(source)
    first = first + rank if first < 0 else first
    last = last + rank if last < 0 else last
    if not 0 <= first <= last < rank:
        if rank == 1:
            return source
        raise ValueError(f"axes {first} to {last} of {rank}")
    return (*source[:first], size(source[first : last + 1]), *source[last + 1 :])
