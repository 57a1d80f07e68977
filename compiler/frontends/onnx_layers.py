"""ONNX layers as stages of a chain: dense, convolution, pooling, normalisation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from spikec.compiler.arrays import Array, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import Form
from spikec.compiler.frontends.onnx_tables import spikes_in
from spikec.compiler.limits import MOST_PADDED
from spikec.compiler.operators import Conv2d, Dense, Scale, Sparse, Synapses, sum_pool

if TYPE_CHECKING:
    from spikec.compiler.frontends.onnx_step import Step

__all__ = ["LAYERS"]

#: A layer at many places has at most this many synapses.
_MOST_SYNAPSES = 1 << 26


def _refused(where: str, why: str, hint: str = "") -> Exception:
    from spikec.compiler.frontends.onnx_step import NotAStepError

    return NotAStepError(where, why, hint)


def _matmul(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    left, right = forms
    if isinstance(right, np.ndarray) and right.ndim == 2 and isinstance(left, Form):
        return _dense(step, left, right.T, where)
    raise _refused(where, "it multiplies two values that change, or a stack of matrices")


def _gemm(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, weight = forms[0], forms[1]
    if given.get("transA", 0) or not isinstance(form, Form) or not isinstance(weight, np.ndarray):
        raise _refused(where, "only values times constant weights have a linear form")
    matrix = weight if given.get("transB", 0) else weight.T
    result = _dense(step, form, _times(matrix, given.get("alpha", 1.0)), where)
    if len(forms) > 2 and forms[2] is not None:
        if not isinstance(forms[2], np.ndarray):
            added: Form = forms[2].scaled(np.array([given.get("beta", 1.0)]))
            return result + added
        result = result + affine.constant(_times(forms[2], given.get("beta", 1.0)))
    return result


def _times(weight: Array, factor: float) -> Array:
    return weight if factor == 1.0 else weight * np.asarray(factor, weight.dtype)


def _dense(step: Step, form: Form, weight: Array, where: str) -> Form:
    if size(form.shape[:-1]) != 1 and weight.any():
        return _at_each_place(step, form, weight, where)
    if not weight.any():  # rockpool writes recurrence also where there is none
        return affine.constant(np.zeros((*form.shape[:-1], weight.shape[0])))
    flat = form.reshaped((1, form.shape[-1]))
    result = step.linear(flat, [Dense(weight=weight)], where)
    return result.reshaped((*form.shape[:-1], weight.shape[0]))


def _at_each_place(step: Step, form: Form, weight: Array, where: str) -> Form:
    """One matrix on the last axis of several places: synapses of each place to itself."""
    outputs, inputs = weight.shape
    if form.shape[-1] != inputs:
        raise ValueError(f"weight {weight.shape} takes {inputs} inputs, the last axis has "
                         f"{form.shape[-1]}")  # fmt: skip
    places = size(form.shape[:-1])
    if places * weight.size > _MOST_SYNAPSES:
        raise ValueError(f"{places} places of {outputs} x {inputs} weights")
    # Source by source: every input of a place reaches all outputs of that place.
    targets = np.arange(places * outputs).reshape(places, 1, outputs)
    synapses = Synapses(
        targets=np.broadcast_to(targets, (places, inputs, outputs)).reshape(-1),
        pointers=np.arange(places * inputs + 1) * outputs,
        outputs=places * outputs,
    )
    each = Sparse(weight=np.tile(weight.T.reshape(-1), places), synapses=synapses)
    flat = form.reshaped((1, places * inputs))
    return step.linear(flat, [each], where).reshaped((*form.shape[:-1], outputs))


def _max_pool(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    """The largest of spikes: whether there is any, a threshold on their sum."""
    form = forms[0]
    held = spikes_in(step, form)
    scale = next(iter(form.terms.values()), np.zeros(1))
    if (
        held is None
        or len(form.terms) != 1
        or form.constant.any()
        or (scale != scale.flat[0]).any()
    ):
        raise _refused(
            where,
            "it takes the largest of values that are no spikes",
            "pool spikes, or train with average pooling",
        )
    if scale.flat[0] < 0:
        raise _refused(where, "it takes the largest of values below 0")
    windows = _average_pool(step, [form], {**given, "count_include_pad": 1}, where)
    spike = step.threshold(windows, strict=True, origin=where)
    return spike.scaled(scale[:1])


def _conv(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, weight = forms[0], forms[1]
    if not isinstance(form, Form) or not isinstance(weight, np.ndarray):
        raise _refused(where, "only values times constant kernels have a linear form")
    if weight.ndim not in (3, 4):
        raise _refused(where, f"a convolution over {weight.ndim - 2} dimensions")
    dilation = _pair(given.get("dilations"), weight.ndim)
    kernel = weight if weight.ndim == 4 else weight[:, :, None, :]
    stride = _pair(given.get("strides"), weight.ndim)
    source = _two_dimensional(form)
    pads = _pads(given, source.shape[2:], kernel.shape[2:], stride, dilation, where)
    for axis in (0, 1):
        kernel = _evened(kernel, axis, pads[axis], dilation[axis], where)
    stage = Conv2d(
        weight=kernel,
        stride=stride,
        padding=(max(pads[0]), max(pads[1])),
        dilation=dilation,
        groups=int(given.get("group", 1)),
    )
    result = step.linear(source, [stage], where)
    if len(forms) > 2 and forms[2] is not None:
        result = result + affine.constant(np.asarray(forms[2]).reshape(-1, 1, 1))
    return _as_before(result, form)


def _average_pool(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = forms[0]
    source = _two_dimensional(form)
    rank = len(form.shape)
    kernel = _pair(given["kernel_shape"], rank)
    stride = _pair(given.get("strides"), rank)
    if given.get("ceil_mode", 0) and any(
        (n - k) % s for n, k, s in zip(source.shape[2:], kernel, stride, strict=True)
    ):
        raise _refused(where, "ceil_mode with windows beyond the border")
    pads = _pads(given, source.shape[2:], kernel, stride, (1, 1), where)
    if any(before != after for before, after in pads):
        raise _refused(where, "pooling with uneven padding")
    padding = (pads[0][0], pads[1][0])
    pool = sum_pool(source.shape[1], kernel, stride, padding)
    share: Array = np.array(1.0 / (kernel[0] * kernel[1]))
    if any(padding) and not given.get("count_include_pad", 0):
        counted = pool.apply(np.ones(source.shape))
        share = 1.0 / counted[0]
    return _as_before(step.linear(source, [pool, Scale(weight=share)], where), form)


def _global_average_pool(
    step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str
) -> Form:
    form = forms[0]
    return _average_pool(step, forms, {"kernel_shape": form.shape[2:]}, where)


def _mean(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    """The mean over all places of every channel: global average pooling by another name."""
    form = forms[0]
    axes = given.get("axes") if len(forms) < 2 or forms[1] is None else forms[1]
    places = list(range(2, len(form.shape)))
    wanted = sorted(int(axis) % len(form.shape) for axis in ([] if axes is None else axes))
    if not places or wanted != places:
        raise _refused(where, f"a mean over axes {wanted} of {form.shape}, not over all places")
    pooled = _global_average_pool(step, forms, given, where)
    return pooled if given.get("keepdims", 1) else pooled.reshaped(form.shape[:2])


def _batch_norm(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, gamma, beta, mean, variance = forms[:5]
    if given.get("training_mode", 0) or not all(isinstance(x, np.ndarray) for x in forms[1:5]):
        raise _refused(where, "its statistics change: export the network in evaluation mode")
    factor = gamma / np.sqrt(variance.astype(np.float64) + given.get("epsilon", 1e-5))
    column = (-1, *(1,) * (len(form.shape) - 2))
    scaled = form.times(affine.constant(factor.reshape(column)))
    shifted: Form = scaled + affine.constant((beta - mean * factor).reshape(column))
    return shifted


def _two_dimensional(form: Form) -> Form:
    """Return ``(1, channels, height, width)``; one dimension becomes a row."""
    if len(form.shape) == 3:
        return form.reshaped((*form.shape[:2], 1, form.shape[2]))
    return form


def _as_before(result: Form, form: Form) -> Form:
    if len(form.shape) == 3:
        return result.reshaped((*result.shape[:2], result.shape[3]))
    return result


def _pair(values: Sequence[int] | None, rank: int) -> tuple[int, int]:
    """Return one number per dimension of two; a one-dimensional layer is a row."""
    if values is None:
        return (1, 1)
    numbers = [int(n) for n in values]
    return (1, numbers[0]) if rank == 3 else (numbers[0], numbers[1])


def _pads(
    given: Mapping[str, Any],
    source: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    where: str,
) -> list[tuple[int, int]]:
    """Return (before, after) for both dimensions."""
    mode = given.get("auto_pad", b"NOTSET").decode()
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = []
        for n, k, s, d in zip(source, kernel, stride, dilation, strict=True):
            total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
            less, more = total // 2, total - total // 2
            pads.append((less, more) if mode == "SAME_UPPER" else (more, less))
        return pads
    if mode not in ("NOTSET", "VALID", ""):
        raise _refused(where, f"padding '{mode}' is unknown")
    numbers = [int(n) for n in given.get("pads", [])] if mode != "VALID" else []
    if not numbers:
        return [(0, 0), (0, 0)]
    if len(numbers) == 2:
        return [(0, 0), (numbers[0], numbers[1])]
    return [(numbers[0], numbers[2]), (numbers[1], numbers[3])]


def _evened(kernel: Array, axis: int, pads: tuple[int, int], dilation: int, where: str) -> Array:
    """Return a kernel for even padding: zero taps stand for the padding that is not there."""
    before, after = pads
    if before == after:
        return kernel
    if abs(before - after) % dilation:
        raise _refused(where, "uneven padding that is no multiple of the dilation")
    taps = abs(before - after) // dilation
    if kernel.size // max(1, kernel.shape[2 + axis]) * taps > MOST_PADDED:
        raise _refused(where, f"padding {pads} is larger than any picture")
    widths = [(0, 0)] * 4
    widths[2 + axis] = (taps, 0) if before < after else (0, taps)
    return np.pad(kernel, widths)


LAYERS: dict[str, Callable[..., Form]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _conv,
    "AveragePool": _average_pool,
    "MaxPool": _max_pool,
    "GlobalAveragePool": _global_average_pool,
    "BatchNormalization": _batch_norm,
    "ReduceMean": _mean,
}
