"""ONNX operators on plain numbers: what onnx's own evaluator gives, and what it lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from spikec.compiler.arrays import Array
from spikec.compiler.frontends.onnx_sound import check_growth

__all__ = ["OPERATORS", "computed"]


def computed(node: onnx.NodeProto, given: Sequence[Array | None], opset: int) -> list[Array]:
    """Return what ``node`` gives for numbers, an output that has no name as nothing.

    Raises ``ValueError`` where it cannot be computed.
    """
    check_growth(node, given)
    own = _OWN.get(node.op_type)
    try:
        if own is not None:
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            return [own(given, attributes)]
        found = iter(_evaluated(node, given, opset))
    except Exception as error:  # the evaluator raises what its operators raise
        raise ValueError(str(error)) from error
    return [np.asarray(next(found)) if name else np.zeros(0) for name in node.output]


def _evaluated(node: onnx.NodeProto, given: Sequence[Array | None], opset: int) -> list[Any]:
    # One value may be given twice: each place gets a name of its own.
    names = [f"in{place}" if item is not None else "" for place, item in enumerate(given)]
    plain = onnx.NodeProto()
    plain.CopyFrom(node)
    del plain.input[:]
    plain.input.extend(names)
    entries = [onnx.helper.make_tensor_value_info(name, 0, None) for name in names if name]
    outputs = [onnx.helper.make_tensor_value_info(name, 0, None) for name in node.output if name]
    model = onnx.helper.make_model(
        onnx.helper.make_graph([plain], "one operator", entries, outputs),
        opset_imports=[onnx.helper.make_opsetid("", opset)],
    )
    feeds = {name: item for name, item in zip(names, given, strict=True) if name}
    return list(ReferenceEvaluator(model).run(None, feeds))


# onnx's evaluator has these from opset 19 on only. Formulas: onnx, Operators.md.


def _column(values: Array, like: Array, axis: int) -> Array:
    """Return one value, or one for each place of ``axis``, in a shape that broadcasts."""
    if values.size == 1:
        return values.reshape(())
    if values.ndim == 1 and like.ndim:
        shape = [1] * like.ndim
        shape[axis] = len(values)
        return values.reshape(shape)
    raise ValueError(f"a scale of shape {values.shape} is given in blocks")


def _quantized(given: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    """``saturate(round(x / scale) + zero)``, half to even."""
    values, scale, zero = (*given, None)[:3]
    assert values is not None
    assert scale is not None
    axis = int(attributes.get("axis", 1))
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    if kind.kind not in "iu":
        raise ValueError(f"numbers of type {kind} are not supported")
    limits = np.iinfo(kind)
    whole = np.rint(values / _column(scale, values, axis))
    shifted = whole + (0 if zero is None else _column(zero, values, axis).astype(np.float64))
    return np.clip(shifted, limits.min, limits.max).astype(kind)


def _dequantized(given: Sequence[Array | None], attributes: Mapping[str, Any]) -> Array:
    """``(x - zero) * scale``."""
    values, scale, zero = (*given, None)[:3]
    assert values is not None
    assert scale is not None
    axis = int(attributes.get("axis", 1))
    centred = values.astype(np.int64)
    if zero is not None:
        centred = centred - _column(zero, values, axis).astype(np.int64)
    result: Array = centred.astype(scale.dtype) * _column(scale, values, axis)
    return result


_OWN: Mapping[str, Callable[[Sequence[Array | None], Mapping[str, Any]], Array]] = {
    "QuantizeLinear": _quantized,
    "DequantizeLinear": _dequantized,
}


# --- the same for whole models ---------------------------------------------------


class BatchNormalization(OpRun):
    """The inference form: before opset 14 onnx's own evaluator takes the batch's statistics."""

    op_domain = ""

    def _run(
        self, x: Array, scale: Array, bias: Array, mean: Array, var: Array, **given: Any
    ) -> tuple[Array]:
        column = (-1, *(1,) * (x.ndim - 2))
        scale, bias, mean, var = (item.reshape(column) for item in (scale, bias, mean, var))
        return (scale * (x - mean) / np.sqrt(var + np.float32(given["epsilon"])) + bias,)


class QuantizeLinear(OpRun):
    """As above, at every opset."""

    op_domain = ""

    def _run(self, *given: Array | None, **attributes: Any) -> tuple[Array]:
        return (_quantized(given, attributes),)


class DequantizeLinear(OpRun):
    """As above, at every opset."""

    op_domain = ""

    def _run(self, *given: Array | None, **attributes: Any) -> tuple[Array]:
        return (_dequantized(given, attributes),)


#: What onnx's evaluator is given to run a whole model.
OPERATORS: tuple[type[OpRun], ...] = (BatchNormalization, QuantizeLinear, DequantizeLinear)
