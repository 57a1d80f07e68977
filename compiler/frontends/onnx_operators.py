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

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import Form, State, Whole
from spikec.compiler.frontends.onnx_counts import counted, has_counts, rounded
from spikec.compiler.frontends.onnx_layers import LAYERS
from spikec.compiler.frontends.onnx_step import (
    RECTIFIED,
    Carried,
    Counter,
    EmptySequence,
    Final,
    Noise,
    NotAStepError,
    Step,
    Timed,
    Value,
    attributes,
    folded,
)
from spikec.compiler.operators import Permute

__all__ = ["NEVER_CONSTANT", "apply", "as_form"]

_RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli",
           "Multinomial")  # fmt: skip
#: Operators whose result is no constant even if they are given nothing that changes.
NEVER_CONSTANT = ("SequenceEmpty", *_RANDOM)

_HINTS = {
    "MaxPool": "train with average pooling: the maximum of spikes is not a sum of spikes",
    "Round": "a count of spikes is floor(u / theta), as sinabs and rockpool have it",
    "Relu": "a ReLU network becomes a spiking one with 'spikec convert FILE OUT --convert rate'",
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
    if isinstance(result, Form):
        result = counted(step, result, where)
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
    if isinstance(value, Noise):
        raise NotAStepError(where, "it uses random numbers", "export without noise (noise_std=0)")
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
#: ONNX's numbers for the integer types, for those that no voltage overflows, for truth.
_WHOLE_NUMBERS, _LONG, _BOOLEAN = (2, 3, 4, 5, 6, 7, 12, 13), (6, 7), 9


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
    form, kind = _form(forms[0]), given.get("to")
    if kind == _BOOLEAN and has_counts(form):
        return _one(form) - _zeros_of(step, form, where)
    if kind not in _WHOLE_NUMBERS or not form.atoms or _is_whole(form):
        return form
    if kind not in _LONG:
        raise NotAStepError(
            where,
            "it rounds a state to a short whole number",
            "export the float network: spikec does the rounding",
        )
    size_of_it = _absolute(step, [form], {}, where)
    return _floor(step, [size_of_it], {}, where).times(_sign(step, [form], {}, where))


def _is_whole(form: Form) -> bool:
    """Say whether a form holds nothing but whole numbers."""
    known = all(isinstance(atom, Whole) for atom in form.atoms)
    return known and all((c == np.round(c)).all() for c in form.terms.values())


def _one(form: Form) -> Form:
    return affine.constant(np.ones(form.shape))


def _zeros_of(step: Step, form: Form, where: str) -> Form:
    """Return 1 where a count is 0."""
    reached = step.threshold(form, strict=False, origin=where)
    return reached - step.threshold(form, strict=True, origin=where)


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
    if isinstance(right, np.ndarray) and has_counts(left):
        return _zeros_of(step, left - _form(right), where)
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
    if has_counts(form) and not any(isinstance(atom, State) for atom in form.atoms):
        return form.times(step.threshold(form, strict=True, origin=where))
    gate = step.gate(form, strict=True, origin=where + RECTIFIED)
    return form.times(affine.spike(gate, form.shape))


def _larger(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    """``max(x, c) = relu(x - c) + c``."""
    form, level = _with_constant(forms, where)
    raised = form - level
    return _relu(step, [raised], given, where) + level.expanded(raised.shape)


def _smaller(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    """``min(x, c) = x - relu(x - c)``."""
    form, level = _with_constant(forms, where)
    return form - _relu(step, [form - level], given, where)


def _with_constant(forms: Sequence[Any], where: str) -> tuple[Form, Form]:
    changing = [item for item in forms if isinstance(item, Form)]
    if len(forms) != 2 or len(changing) != 1:
        raise NotAStepError(where, "it compares values that change", "clamp with a constant")
    (level,) = (item for item in forms if not isinstance(item, Form))
    return changing[0], affine.constant(level)


def _clip(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    """Clamp from below, then from above; the limits are attributes before opset 11."""
    limits = [*forms[1:], None, None]
    low, high = (np.asarray(given[name]) if name in given else limits[place]
                 for place, name in enumerate(("min", "max")))  # fmt: skip
    form = forms[0]
    if low is not None and np.asarray(low).max() > _LOWEST:
        form = counted(step, _larger(step, [form, low], {}, where), where)
    if high is not None and np.asarray(high).min() < -_LOWEST:
        form = _smaller(step, [form, high], {}, where)
    return _form(form)


def _absolute(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    above = step.threshold(form, strict=True, origin=where)
    return form.times(above).scaled(np.array([2.0])) - form


def _sign(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    above = step.threshold(form, strict=True, origin=where)
    return above + step.threshold(form, strict=False, origin=where) - _one(form)


def _floor(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    return form if _is_whole(form) else rounded(step, form, up=False)


def _ceil(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    return form if _is_whole(form) else rounded(step, form, up=True)


#: What exporters write for a limit that is none.
_LOWEST = -3e38

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
    "Max": _larger,
    "Min": _smaller,
    "Clip": _clip,
    "Abs": _absolute,
    "Sign": _sign,
    "Floor": _floor,
    "Ceil": _ceil,
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


def _reduce_sum(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    """A sum over axes of length one is that one value."""
    form, axes = _form(forms[0]), _axes(forms, given)
    if axes is None and given.get("noop_with_empty_axes", 0):
        return form
    places = {axis % len(form.shape) for axis in (range(len(form.shape)) if axes is None else axes)}
    if any(form.shape[axis] != 1 for axis in places):
        raise NotAStepError(where, "it sums over neurons", "write the sum as a dense layer of ones")
    kept = [1 if axis in places else n for axis, n in enumerate(form.shape)]
    left = [n for axis, n in enumerate(form.shape) if axis not in places]
    return form.reshaped(tuple(kept if given.get("keepdims", 1) else left))


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
    "ReduceSum": _reduce_sum,
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
    if isinstance(buffer, np.ndarray) and isinstance(index, np.ndarray):
        return [_written_over(step, node, buffer, index, as_form(update, where), where)]
    if not isinstance(buffer, Carried) or not isinstance(index, Counter):
        raise NotAStepError(where, "it scatters into something else than a buffer over time")
    assert buffer.initial is not None
    form = as_form(update, where).reshaped((1, *buffer.initial.shape[1:]))
    return [Timed(form, buffer.initial.shape[0])]


def _scatter_elements(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    buffer, index, update = arguments
    if not isinstance(buffer, np.ndarray) or not isinstance(index, np.ndarray):
        raise NotAStepError(where, "it scatters to places that change")
    return [_written_over(step, node, buffer, index, as_form(update, where), where)]


def _written_over(
    step: Step, node: onnx.NodeProto, buffer: Array, index: Array, update: Form, where: str
) -> Form:
    """A buffer that is written over from end to end is what is written."""
    places = np.arange(size(update.shape)).reshape(update.shape)
    kept = np.full(buffer.shape, -1)
    (result,) = folded(node, [kept, index, places], step.opset, where)
    if not np.array_equal(np.asarray(result).ravel(), places.ravel()):
        raise NotAStepError(where, "it writes into a part of a population", _WHOLE)
    return update.reshaped(buffer.shape)


def _noise(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    shape = attributes(node).get("shape")
    like = _shape_of(arguments[0]) if arguments else None
    if shape is None and like is None:
        raise NotAStepError(where, "the shape of its random numbers is not known")
    return [Noise(tuple(shape) if shape is not None else tuple(like or ()))]


def _silenced(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    """Noise times zero is zero."""
    noise = [item for item in arguments if isinstance(item, Noise)]
    others = [item for item in arguments if isinstance(item, np.ndarray)]
    if len(noise) != 1 or len(others) != 1 or others[0].any():
        return None
    return [np.zeros(np.broadcast_shapes(noise[0].shape, others[0].shape), others[0].dtype)]


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
    "ScatterElements": _scatter_elements,
    "Mul": _silenced,
    **dict.fromkeys(_RANDOM, _noise),
}
