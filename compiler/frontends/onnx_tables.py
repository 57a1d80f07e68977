"""Element-wise operators of spikes alone: their table of values, written as a sum.

A function of n values that are 0 or 1 is a sum of products of them: its values at the 2**n
corners tell the coefficients. So whatever an operator does to spikes is read without knowing
the operator: ``where(s > 0, ...)``, ``relu(sign(...))``, quantized spikes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import onnx

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import ONE, Atom, Form, Gate, Image, Key, Signal, ratio
from spikec.compiler.frontends.onnx_numbers import computed
from spikec.compiler.operators import Permute, Reshape

if TYPE_CHECKING:
    from spikec.compiler.frontends.onnx_step import Step

__all__ = ["TABULATED", "as_units", "decided", "spikes_in", "tabulated"]

#: Operators that treat every element alike and are looked up where they meet spikes alone.
TABULATED = frozenset(
    (
        "Abs", "Acos", "Asin", "Atan", "Ceil", "Celu", "Clip", "Cos", "Cosh", "DequantizeLinear",
        "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual",
        "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log",
        "Max", "Min", "Mish", "Mod", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu",
        "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan",
        "Tanh", "ThresholdedRelu",
    )
)  # fmt: skip
#: More spikes than these are not looked up: the table doubles with each.
_MOST_SPIKES = 6

#: What is 0 or 1: a spike of this step, or an input.
Spike: TypeAlias = Gate | Signal


def spikes_in(step: Step, form: Form) -> tuple[Spike, ...] | None:
    """Return what a form depends on where that is 0 or 1 in every part; else None."""
    found: dict[Spike, None] = {}
    for gates, atom in form.terms:
        if any(gate.most > 1 or gate in step.levels for gate in gates):
            return None
        found.update(dict.fromkeys(gate for gate in step.gates if gate in gates))
        if isinstance(atom, Signal) and step.is_binary(atom):
            found[atom] = None
        elif atom is not ONE:
            return None
    return tuple(found)


def tabulated(
    step: Step, node: onnx.NodeProto, operands: Sequence[Form | Array | None]
) -> Form | None:
    """Return what ``node`` makes of spikes, as a sum of their products.

    None where an operand holds anything else. Raises ``ValueError`` for what no table has:
    a result that is no number, or the product of two inputs.
    """
    if node.op_type not in TABULATED:
        return None

    def values(on: frozenset[Spike]) -> Array:
        given = [_at(item, on) if isinstance(item, Form) else item for item in operands]
        if node.op_type == "DequantizeLinear" and isinstance(operands[0], Form):
            given[0] = np.rint(_at(operands[0], on)).astype(np.int64)
        return computed(node, given, step.opset)[0]

    return _looked_up(step, [item for item in operands if isinstance(item, Form)], values)


def decided(step: Step, form: Form, *, strict: bool) -> Form | None:
    """Return ``H(form)`` of a form that holds spikes alone; None for any other."""

    def values(on: frozenset[Spike]) -> Array:
        value = _at(form, on)
        return (value > 0) if strict else (value >= 0)

    return _looked_up(step, [form], values)


def as_units(step: Step, form: Form, origin: str) -> Form:
    """Return a function of spikes with each product of them as a unit without memory.

    A function that one threshold on a sum of the spikes tells (and, or, ``x (1 - y)``)
    becomes one unit; in others, each product does. Other forms are returned as they are.
    """
    spikes = spikes_in(step, form)
    products = [key for key in form.terms if len(key[0]) + (key[1] is not ONE) > 1]
    if spikes is None or not products or len(spikes) > _MOST_SPIKES:
        return form
    values = {on: _at(form, on) for on in _corners(spikes)}
    unit = _separated(step, spikes, values, form.shape, origin)
    if unit is not None:
        return affine.spike(unit, form.shape)
    total = Form(form.shape)
    for key, coefficient in form.terms.items():
        term = Form(form.shape, {key: coefficient})
        if key in products:
            both: list[Spike] = [gate for gate in spikes if gate in key[0]]
            both += [key[1]] if isinstance(key[1], Signal) else []
            gate = _unit(step, dict.fromkeys(both, 1.0), len(both) - 0.5, form.shape, origin)
            term = affine.spike(gate, form.shape).scaled(coefficient)
        total = total + term
    return total


def not_negative(step: Step, form: Form) -> bool:
    """Say whether ``form`` adds up spikes with weights that are not below 0."""
    return bool(form.atoms or form.gates) and all(
        (coefficient >= 0).all() and _atom_not_negative(step, atom)
        for (_, atom), coefficient in form.terms.items()
    )


def _atom_not_negative(step: Step, atom: Atom) -> bool:
    if isinstance(atom, Signal):
        return step.is_binary(atom)
    if not isinstance(atom, Image):
        return atom is ONE
    source = atom.source
    sends = isinstance(source, Gate) or (isinstance(source, Signal) and step.is_binary(source))
    stages = (stage for stage in atom.stages if not isinstance(stage, (Permute, Reshape)))
    return sends and all((stage.weight >= 0).all() for stage in stages)


def opens_with(step: Step, gate: Gate, value: Form) -> bool:
    """Say whether ``gate`` opens just where ``value``, which is never negative, is above 0."""
    if gate.most > 1 or not not_negative(step, value) or value.constant.any():
        return False
    scale = ratio(gate.form, value) if size(gate.form.shape) == size(value.shape) else None
    return scale is not None and bool((scale > 0).all())


def _separated(
    step: Step,
    spikes: Sequence[Spike],
    values: Mapping[frozenset[Spike], Array],
    shape: Shape,
    origin: str,
) -> Gate | None:
    """Return the unit that sums spikes with weights 1 and -1 and tells 1 from 0, or None."""
    known = {on: float(value.flat[0]) for on, value in values.items()}
    if not all((value == known[on]).all() for on, value in values.items()):
        return None
    if not set(known.values()) <= {0.0, 1.0}:
        return None
    for signs in itertools.product((1.0, -1.0), repeat=len(spikes)):
        weights = dict(zip(spikes, signs, strict=True))
        sums = {on: sum(weights[item] for item in on) for on in known}
        low = max((sums[on] for on, value in known.items() if not value), default=None)
        high = min((sums[on] for on, value in known.items() if value), default=None)
        if low is not None and high is not None and low < high:
            return _unit(step, weights, (low + high) / 2, shape, origin)
    return None


def _unit(
    step: Step, weights: Mapping[Spike, float], threshold: float, shape: Shape, origin: str
) -> Gate:
    """Return the gate of a sum of spikes above ``threshold``."""
    natural = shape[1:] or (1,)
    total = affine.constant(np.full(shape, -threshold))
    for spike, weight in weights.items():
        image = step.image(spike, natural, (), natural)
        total = total + affine.atom(image, shape).scaled(np.array([weight]))
    return step.gate(total, strict=True, origin=origin)


def _corners(spikes: Sequence[Spike]) -> Iterator[frozenset[Spike]]:
    for count in range(len(spikes) + 1):
        yield from map(frozenset, itertools.combinations(spikes, count))


def _looked_up(
    step: Step, forms: Sequence[Form], values: Callable[[frozenset[Spike]], Array]
) -> Form | None:
    """Return the sum of products of spikes with the given values at their corners."""
    spikes: dict[Spike, None] = {}
    for form in forms:
        found = spikes_in(step, form)
        if found is None:
            return None
        spikes.update(dict.fromkeys(found))
    if not spikes or len(spikes) > _MOST_SPIKES:
        return None
    table = {on: np.asarray(values(on), np.float64) for on in _corners(tuple(spikes))}
    if not all(np.isfinite(value).all() for value in table.values()):
        raise ValueError("it makes of spikes what is no number")
    return _polynomial(table)


def _at(form: Form, on: frozenset[Spike]) -> Array:
    total = np.zeros(form.shape, np.float64)
    for (gates, atom), coefficient in form.terms.items():
        needed: set[Spike] = {*gates, *([atom] if isinstance(atom, Signal) else [])}
        if needed <= on:
            total = total + _spread(coefficient, form.shape)
    return total.astype(np.float32)


def _spread(coefficient: Array, shape: Shape) -> Array:
    return coefficient.reshape(shape if coefficient.size > 1 else ())


def _polynomial(values: Mapping[frozenset[Spike], Array]) -> Form:
    """Return the sum of products with these values: inclusion and exclusion."""
    shape = next(iter(values.values())).shape
    terms: dict[Key, Array] = {}
    for on in values:
        coefficient = np.zeros(shape)
        for part, value in values.items():
            if part <= on:
                coefficient = coefficient + (-1.0) ** len(on - part) * value
        if coefficient.any():
            terms[_key(on)] = _flat(coefficient)
    return Form(shape, terms).reduced()


def _key(on: frozenset[Spike]) -> Key:
    inputs: list[Atom] = [item for item in on if isinstance(item, Signal)]
    if len(inputs) > 1:
        raise ValueError("a product of two inputs")
    gates = frozenset(item for item in on if isinstance(item, Gate))
    return gates, inputs[0] if inputs else ONE


def _flat(values: Array) -> Array:
    flat = values.reshape(-1)
    return flat[:1] if (flat == flat[0]).all() else flat
