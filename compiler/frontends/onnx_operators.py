"""What each ONNX operator does to affine forms.

Element-wise operators are algebra on terms, layers become images, operators
that only move axes of length one change a shape. What is in no table here is
refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx

from spikec.compiler.arrays import Shape, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import Form
from spikec.compiler.frontends.onnx_layers import LAYERS
from spikec.compiler.frontends.onnx_step import (
    RECTIFIED,
    Carried,
    Counter,
    EmptySequence,
    Final,
    NotAStepError,
    Step,
    Timed,
    Value,
    attributes,
)
from spikec.compiler.operators import Permute

__all__ = ["apply", "as_form"]

_MULTI_SPIKE = (
    "neurons that send several spikes a step (multi-spike, as sinabs and rockpool may) are not "
    "supported yet: train with single spikes"
)
_HINTS = {
    "MaxPool": "train with average pooling: the maximum of spikes is not a sum of spikes",
    "Floor": _MULTI_SPIKE,
    "Abs": _MULTI_SPIKE,
    "ReduceSum": _MULTI_SPIKE,
    "Relu": "a ReLU network becomes a spiking one with 'spikec convert FILE OUT --convert rate'",
    "Clip": "a clamp on a membrane (a floor) is not supported: train without it",
    "Sigmoid": "gates with real values have no spiking form",
    "Softmax": "read the output spikes or voltages before it",
}


def apply(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value]:
    """Return the outputs of ``node`` for symbolic ``arguments``."""
    special = _SPECIAL.get(node.op_type)
    if special is not None:
        found = special(step, node, arguments, where)
        if found is not None:
            return found
    steps = [item.steps for item in arguments if isinstance(item, Timed)]
    forms = [_operand(item, where) for item in arguments]
    handler = _ELEMENTWISE.get(node.op_type) or LAYERS.get(node.op_type)
    if handler is None:
        handler = _SHAPES.get(node.op_type)
        if handler is not None and steps:
            forms = [forms[0], *(_without_time(item, steps[0]) for item in forms[1:])]
    if handler is None:
        hint = _HINTS.get(node.op_type, "write the neuron with sums, products with constants and "
                          "comparisons, as docs/onnx.md lists them")  # fmt: skip
        raise NotAStepError(where, "the operator has no affine form", hint)
    result = handler(step, forms, attributes(node), where)
    if not steps:
        return result if isinstance(result, list) else [result]
    return [Timed(result, steps[0])]


def as_form(value: Value, where: str) -> Form:
    """Return a value as a form: a constant, or a carried value as the state it is."""
    operand = _operand(value, where)
    return affine.constant(operand) if isinstance(operand, np.ndarray) else operand


def _operand(value: Value, where: str) -> Any:
    if isinstance(value, Timed):
        return value.form
    if isinstance(value, Carried):
        if value.initial is None:
            raise NotAStepError(where, f"'{value.name}' is carried without an initial value")
        return affine.atom(affine.State(value.name), value.initial.shape)
    if isinstance(value, (Counter, Final, EmptySequence)):
        raise NotAStepError(where, "it uses a step number, a final state or an empty sequence")
    return value


def _without_time(value: Any, steps: int) -> Any:
    """Return a target shape for one step: the time axis becomes 1."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "i" and value.ndim == 1:
        if len(value) and value[0] == steps:
            return np.concatenate([[1], value[1:]])
        if len(value) and value[0] == -1:
            return np.concatenate([[1], value[1:]])
    return value


def _form(value: Any) -> Form:
    return affine.constant(value) if isinstance(value, np.ndarray) else value


_WHOLE = "send whole populations, and split them into several where parts differ"
#: ONNX's numbers for the integer types.
_WHOLE_NUMBERS = (2, 3, 4, 5, 6, 7, 12, 13)


# --- element by element ------------------------------------------------------


def _add(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    total = _form(forms[0])
    for item in forms[1:]:
        total = total + _form(item)
    return total


def _subtract(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    return _form(forms[0]) - _form(forms[1])


def _multiply(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    return _form(forms[0]).times(_form(forms[1]))


def _divide(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    if not isinstance(forms[1], np.ndarray):
        raise NotAStepError(where, "it divides by a value that changes")
    return _form(forms[0]).times(affine.constant(1.0 / forms[1].astype(np.float64)))


def _negate(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    return -_form(forms[0])


def _same(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    return _form(forms[0])


def _cast(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    if given.get("to") in _WHOLE_NUMBERS and form.atoms:
        raise NotAStepError(
            where,
            "it rounds a state to whole numbers",
            "export the float network, spikec does the rounding; neurons that send several spikes "
            "a step (multi-spike) are not supported",
        )
    return form


def _dropout(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    if len(forms) > 2 and forms[2] is not None and bool(np.asarray(forms[2]).any()):
        raise NotAStepError(where, "it drops values at random", "export in evaluation mode")
    return _form(forms[0])


def _not(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    return affine.constant(np.ones(1)) - _form(forms[0])


def _and(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    return _form(forms[0]).times(_form(forms[1]))


def _or(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    left, right = _form(forms[0]), _form(forms[1])
    return left + right - left.times(right)


def _where(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    chosen, yes, no = (_form(item) for item in forms)
    return no + chosen.times(yes - no)


def _equal(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    left, right = forms if not isinstance(forms[0], np.ndarray) else reversed(forms)
    left = _form(left)
    if not isinstance(right, np.ndarray) or left.atoms or not np.isin(right, (0, 1)).all():
        raise NotAStepError(where, "only spikes can be compared for equality, with 0 or 1")
    sign = affine.constant(2.0 * right - 1.0)
    return left.times(sign) + affine.constant(1.0 - right)


def _compare(*, swap: bool, strict: bool) -> Callable[..., Form]:
    def handler(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
        left, right = (_form(item) for item in forms)
        difference = right - left if swap else left - right
        return step.threshold(difference, strict=strict, origin=where)

    return handler


def _relu(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    gate = step.gate(form, strict=True, origin=where + RECTIFIED)
    return form.times(affine.spike(gate, form.shape))


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "Add": _add,
    "Sum": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Neg": _negate,
    "Identity": _same,
    "Cast": _cast,
    "CastLike": _same,
    "Dropout": _dropout,
    "Not": _not,
    "And": _and,
    "Or": _or,
    "Where": _where,
    "Equal": _equal,
    "Relu": _relu,
    "Greater": _compare(swap=False, strict=True),
    "Less": _compare(swap=True, strict=True),
    "GreaterOrEqual": _compare(swap=False, strict=False),
    "LessOrEqual": _compare(swap=True, strict=False),
}


# --- shapes ------------------------------------------------------------------


def _reshape(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, wanted = _form(forms[0]), [int(n) for n in np.asarray(forms[1]).reshape(-1)]
    if not given.get("allowzero", 0):
        wanted = [form.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    if -1 in wanted:
        known = size(tuple(n for n in wanted if n != -1))
        wanted[wanted.index(-1)] = size(form.shape) // max(known, 1)
    return form.reshaped(tuple(wanted))


def _flatten(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, axis = _form(forms[0]), int(given.get("axis", 1))
    return form.reshaped((size(form.shape[:axis]), size(form.shape[axis:])))


def _axes(forms: Sequence[Any], given: Mapping[str, Any]) -> list[int] | None:
    """Axes as an input (opset 13 and later) or as an attribute."""
    if len(forms) > 1 and forms[1] is not None:
        return [int(axis) for axis in np.asarray(forms[1]).reshape(-1)]
    return [int(axis) for axis in given["axes"]] if "axes" in given else None


def _squeeze(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, axes = _form(forms[0]), _axes(forms, given)
    if axes is None:
        return form.reshaped(tuple(n for n in form.shape if n != 1))
    dropped = {axis % len(form.shape) for axis in axes}
    return form.reshaped(tuple(n for i, n in enumerate(form.shape) if i not in dropped))


def _unsqueeze(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, axes = _form(forms[0]), _axes(forms, given) or []
    rank = len(form.shape) + len(axes)
    places = {axis % rank for axis in axes}
    kept = iter(form.shape)
    return form.reshaped(tuple(1 if i in places else next(kept) for i in range(rank)))


def _transpose(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    order = [int(i) for i in given.get("perm", reversed(range(len(form.shape))))]
    shape = tuple(form.shape[i] for i in order)
    long = [i for i in order if form.shape[i] > 1]
    if long == sorted(long):
        return form.reshaped(shape)
    if form.shape[0] != 1 or order[0] != 0:
        raise NotAStepError(where, f"it moves the batch of {form.shape}")
    return step.linear(form, [Permute(axes=tuple(i - 1 for i in order[1:]))], where)


def _expand(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    wanted = tuple(int(n) for n in np.asarray(forms[1]).reshape(-1))
    return form.expanded(np.broadcast_shapes(form.shape, wanted))


def _slice(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    if len(forms) > 2:
        starts, ends = forms[1], forms[2]
        axes = forms[3] if len(forms) > 3 and forms[3] is not None else np.arange(len(starts))
    else:
        starts, ends = np.asarray(given["starts"]), np.asarray(given["ends"])
        axes = np.asarray(given.get("axes", range(len(starts))))
    for start, end, axis in zip(starts, ends, axes, strict=True):
        length = form.shape[int(axis)]
        if len(range(length)[int(start) : int(end)]) != length:
            raise NotAStepError(where, "it takes a part of a population", _WHOLE)
    return form


def _split(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    parts = forms[1] if len(forms) > 1 and forms[1] is not None else given.get("split", [0])
    if len(parts) != 1:
        raise NotAStepError(where, "it takes parts of a population", _WHOLE)
    return form


def _gather(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form, axis = _form(forms[0]), int(given.get("axis", 0)) % len(_form(forms[0]).shape)
    index = np.asarray(forms[1])
    if form.shape[axis] != 1 or index.size != 1:
        raise NotAStepError(where, "it takes a part of a population", _WHOLE)
    return form.reshaped((*form.shape[:axis], *index.shape, *form.shape[axis + 1 :]))


def _concat(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    if len(forms) != 1:
        raise NotAStepError(where, "it joins populations side by side", _WHOLE)
    return _form(forms[0])


_SHAPES: dict[str, Callable[..., Any]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Concat": _concat,
}


# --- values that are not forms -------------------------------------------------


def _shape_of(value: Value) -> Shape | None:
    if isinstance(value, Timed):
        return (value.steps, *value.form.shape[1:])
    if isinstance(value, Carried):
        return None if value.initial is None else value.initial.shape
    return value.shape if isinstance(value, (Form, np.ndarray)) else None


def _shape(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    if isinstance(arguments[0], Counter):
        return [np.array([1], dtype=np.int64)]
    shape = _shape_of(arguments[0])
    if shape is None:
        raise NotAStepError(where, "the shape of this value is not known")
    given = attributes(node)
    return [np.array(shape[given.get("start", 0) : given.get("end")], dtype=np.int64)]


def _index(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    """``Gather`` at the loop's step: that step's value."""
    if not isinstance(arguments[1], Counter):
        return None
    if int(attributes(node).get("axis", 0)) != 0:
        raise NotAStepError(where, "time is not the first axis")
    source = arguments[0]
    if isinstance(source, Timed):
        return [source.form.reshaped(source.form.shape[1:])]
    if isinstance(source, Carried) and source.initial is not None:
        return [source.initial[0]]  # a buffer: only its shape is of interest
    raise NotAStepError(where, "it is indexed by the step but has no time axis")


def _scatter(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    """``ScatterND`` into a buffer at the loop's step: the buffer's value at each step."""
    buffer, index, update = arguments
    if not isinstance(buffer, Carried) or not isinstance(index, Counter):
        raise NotAStepError(where, "it scatters into something else than a buffer over time")
    assert buffer.initial is not None
    form = as_form(update, where).reshaped((1, *buffer.initial.shape[1:]))
    return [Timed(form, buffer.initial.shape[0])]


def _insert(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    form = as_form(arguments[1], where)
    return [Timed(form.reshaped((1, *form.shape)), 0)]


def _empty(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    return [EmptySequence()]


def _join_sequence(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    given, value = attributes(node), arguments[0]
    if not isinstance(value, Timed) or given.get("axis") != 0:
        raise NotAStepError(where, "it joins something else than the steps of a loop")
    if given.get("new_axis", 0):
        return [value]
    # Without a new axis, the steps are joined along their batch of one.
    return [Timed(value.form.reshaped(value.form.shape[1:]), value.steps)]


def _counter(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    """The step number stays itself when it is only reshaped or cast."""
    return [arguments[0]] if isinstance(arguments[0], Counter) else None


def _final(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    if isinstance(arguments[0], (Final, EmptySequence)):
        return [arguments[0]]
    return _counter(step, node, arguments, where)


_SPECIAL: dict[str, Callable[..., Sequence[Value] | None]] = {
    "Shape": _shape,
    "Gather": _index,
    "ScatterND": _scatter,
    "SequenceInsert": _insert,
    "SequenceEmpty": _empty,
    "ConcatFromSequence": _join_sequence,
    "Unsqueeze": _counter,
    "Reshape": _counter,
    "Cast": _counter,
    "Squeeze": _counter,
    "Identity": _final,
}
