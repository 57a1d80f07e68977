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
from spikec.compiler.frontends.affine import Form, Opaque, State, Whole
from spikec.compiler.frontends.onnx_counts import counted, has_counts, rounded
from spikec.compiler.frontends.onnx_layers import LAYERS
from spikec.compiler.frontends.onnx_linear import expanded, is_constant, joined, moved, summed
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
from spikec.compiler.frontends.onnx_tables import not_negative, opens_with, tabulated
from spikec.compiler.operators import Permute

__all__ = ["LINEAR", "NEVER_CONSTANT", "apply", "as_form"]

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
    forms = [_operand(step, item, where) for item in arguments]
    if steps and node.op_type in _SHAPES:
        forms = [forms[0], *(_without_time(item, steps[0]) for item in forms[1:])]
    table = tabulated(step, node, forms)
    result = _result(step, node, forms, where) if table is None else table
    results = result if isinstance(result, list) else [counted(step, result, where)]
    return [Timed(item, steps[0]) for item in results] if steps else results


def _result(
    step: Step, node: onnx.NodeProto, forms: Sequence[Any], where: str
) -> Form | list[Form]:
    """Return what one operator makes of forms: one form, or one for each output."""
    kind, given = node.op_type, attributes(node)
    handler = _ELEMENTWISE.get(kind)
    if _is_opaque(kind, forms):
        return _opaque(step, node, forms, where)
    if handler is not None:
        element_wise: Form = handler(step, _spread(step, forms, where), given, where)
        return element_wise
    if kind in _JOINS:
        return joined(step, [_form(item) for item in forms], int(given["axis"]), where)
    handler = LAYERS.get(kind) or _SHAPES.get(kind)
    changing = [place for place, item in enumerate(forms) if isinstance(item, Form)]
    if handler is not None and set(changing) <= _CHANGING.get(kind, {0}):
        try:
            return handler(step, forms, given, where)
        except NotAStepError:
            if len(changing) != 1 or kind not in (*_MOVES, *_SUMS):
                raise
    if len(changing) == 1 and _moves(kind, forms, given):
        outputs = moved(step, node, forms, where)
        return outputs if len(outputs) > 1 else outputs[0]
    if len(changing) == 1 and _sums(step, kind, forms, given):
        return summed(step, node, forms, where)
    if kind in _WHOLE_TENSORS:
        why = f"its inputs {', '.join(node.input[place] for place in changing)} change"
        raise NotAStepError(
            where, f"{why}: it is no sum with constant weights", _HINTS.get(kind, "")
        )
    return _opaque(step, node, forms, where)


def _is_opaque(kind: str, forms: Sequence[Any]) -> bool:
    """Say whether a product or a quotient has no form, but may be part of what vanishes."""
    if kind == "Div":
        return isinstance(forms[1], Form) and bool(forms[1].atoms or forms[1].gates)
    held = [isinstance(item, Form) and any(isinstance(a, Opaque) for a in item.atoms)
            for item in forms]  # fmt: skip
    return kind == "Mul" and any(held) and all(isinstance(item, Form) for item in forms)


def _spread(step: Step, forms: Sequence[Any], where: str) -> list[Any]:
    """Return operands of one shape where a spike is repeated, else as they are."""
    shapes = [item.shape for item in forms if item is not None]
    if len({size(shape) for shape in shapes}) < 2:
        return list(forms)
    shape = np.broadcast_shapes(*shapes)
    return [
        expanded(step, item, shape, where)
        if isinstance(item, Form) and not is_constant(item) and size(item.shape) < size(shape)
        else item
        for item in forms
    ]


def _moves(kind: str, forms: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Say whether an operator only moves the values of its one form, or puts zeros beside them."""
    if kind in ("Resize", "Upsample"):
        return bool(given.get("mode", b"nearest") == b"nearest")
    if kind == "Pad" and given.get("mode", b"constant") == b"constant":
        value = forms[2] if len(forms) > 2 and forms[2] is not None else given.get("value", 0.0)
        return not np.any(value)
    return kind in _MOVES and isinstance(forms[0], Form)


def _sums(step: Step, kind: str, forms: Sequence[Any], given: Mapping[str, Any]) -> bool:
    """Say whether an operator is linear in its one form, but for a constant."""
    if kind == "LpPool":
        (form,) = (item for item in forms if isinstance(item, Form))
        return int(given.get("p", 2)) == 1 and not_negative(step, form)
    return kind in _SUMS


def _opaque(step: Step, node: onnx.NodeProto, forms: Sequence[Any], where: str) -> Form:
    """Return what no rule reads as an atom of its own: it may vanish (a surrogate does)."""
    hint = _HINTS.get(
        node.op_type,
        "write the neuron with sums, products with constants and comparisons, as docs/onnx.md "
        "lists them",
    )
    operands = tuple(_form(item) for item in forms if item is not None)
    shape = np.broadcast_shapes(*(item.shape for item in operands))
    plain = tuple(sorted((a.name, a.SerializeToString()) for a in node.attribute))
    why = (
        "it divides by a value that changes"
        if node.op_type == "Div"
        else "the operator has no affine form"
    )
    return step.opaque(Opaque(operands, (node.op_type, plain), where, why, hint), shape)


def as_form(step: Step, value: Value, where: str) -> Form:
    """Return a value as a form: a constant, or a carried value as the state it is."""
    operand = _operand(step, value, where)
    return affine.constant(operand) if isinstance(operand, np.ndarray) else operand


def _operand(step: Step, value: Value, where: str) -> Any:
    if isinstance(value, Timed):
        return value.form
    if isinstance(value, Carried):
        if value.initial is None:
            raise NotAStepError(where, f"'{value.name}' is carried without an initial value")
        return step.state(value.name, value.initial.shape)
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


#: Operators that join values side by side.
_JOINS = ("Concat",)
#: Operators that only move values.
_MOVES = (
    "DepthToSpace", "Expand", "Gather", "GatherElements", "GatherND", "Pad", "Resize",
    "ReverseSequence", "Slice", "SpaceToDepth", "Split", "Tile", "Transpose", "Trilu", "Upsample",
)  # fmt: skip
#: Operators that are linear in one value where the others are constant.
_SUMS = (
    "AveragePool", "Conv", "ConvTranspose", "CumSum", "Einsum", "Gemm", "GlobalAveragePool",
    "LpPool", "MatMul", "Pad", "ReduceMean", "ReduceSum", "Resize", "Upsample",
)  # fmt: skip
#: Operators that send what they are given: layers, whatever they are called.
LINEAR = frozenset((*LAYERS, *_JOINS, *_MOVES, *_SUMS))
#: Operators whose result is not one value for each of theirs.
_WHOLE_TENSORS = (
    *_JOINS, *_MOVES, *_SUMS, "ArgMax", "ArgMin", "BatchNormalization", "Compress", "Flatten",
    "GRU", "GlobalMaxPool", "InstanceNormalization", "LSTM", "LayerNormalization", "LogSoftmax",
    "LpNormalization", "LRN", "MaxPool", "MeanVarianceNormalization", "NonZero", "RNN",
    "ReduceL1", "ReduceL2", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceSumSquare", "Reshape",
    "ScatterElements", "ScatterND", "Softmax", "Squeeze", "TopK", "Unsqueeze",
)  # fmt: skip
#: Which inputs may change, where these are not the first alone.
_CHANGING: Mapping[str, set[int]] = {"Gemm": {0, 2}, "MatMul": {0, 1}}

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
    left, right = _form(forms[0]), _form(forms[1])
    for gated, value in ((left, right), (right, left)):
        gate = gated.is_spike()
        if gate is not None and opens_with(step, gate, value):
            return value
    return left.times(right)


def _power(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    if isinstance(forms[1], np.ndarray) and (forms[1] == 1).all():
        return _form(forms[0])
    raise NotAStepError(where, "it raises a value that changes to a power other than 1")


def _exclusive(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    left, right = _form(forms[0]), _form(forms[1])
    return left + right - left.times(right).scaled(np.array([2.0]))


def _divide(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
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
    """Reached, but not exceeded."""
    return _zeros_of(step, _form(forms[0]) - _form(forms[1]), where)


def _compare(*, swap: bool, strict: bool) -> Callable[..., Form]:
    def handler(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
        left, right = (_form(item) for item in forms)
        difference = right - left if swap else left - right
        return step.threshold(difference, strict=strict, origin=where)

    return handler


def _relu(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    if not_negative(step, form):
        return form
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
    if not_negative(step, form):
        return form
    above = step.threshold(form, strict=True, origin=where)
    return form.times(above).scaled(np.array([2.0])) - form


def _sign(step: Step, forms: Sequence[Any], given: Mapping[str, Any], where: str) -> Form:
    form = _form(forms[0])
    above = step.threshold(form, strict=True, origin=where)
    if not_negative(step, form):
        return above
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
    "Xor": _exclusive,
    "Pow": _power,
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


_SHAPES: dict[str, Callable[..., Any]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "Expand": _expand,
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
        return [_written_over(step, node, buffer, index, as_form(step, update, where), where)]
    if not isinstance(buffer, Carried) or not isinstance(index, Counter):
        raise NotAStepError(where, "it scatters into something else than a buffer over time")
    assert buffer.initial is not None
    form = as_form(step, update, where).reshaped((1, *buffer.initial.shape[1:]))
    return [Timed(form, buffer.initial.shape[0])]


def _scatter_elements(
    step: Step, node: onnx.NodeProto, arguments: Sequence[Value], where: str
) -> Sequence[Value] | None:
    buffer, index, update = arguments
    if not isinstance(buffer, np.ndarray) or not isinstance(index, np.ndarray):
        raise NotAStepError(where, "it scatters to places that change")
    return [_written_over(step, node, buffer, index, as_form(step, update, where), where)]


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
    form = as_form(step, arguments[1], where)
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
