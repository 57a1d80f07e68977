"""Linear operators of ONNX that have no stage of their own: read by what they do to numbers.

An operator that only moves values (``Slice``, ``Concat``, ``Pad``, ``Tile``, nearest ``Resize``)
is run once on the numbers of its source's places: what comes out says where each value came
from. One that adds values up (``Einsum``, ``ConvTranspose``, ``ReduceSum``) is run on unit
vectors, which gives its matrix. Either becomes one :class:`~spikec.compiler.operators.Sparse`
or :class:`~spikec.compiler.operators.Dense` stage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import ONE, Form
from spikec.compiler.frontends.onnx_numbers import computed
from spikec.compiler.operators import Conv2d, Dense, Sparse, Stage, Synapses

if TYPE_CHECKING:
    from spikec.compiler.frontends.onnx_step import Step

__all__ = ["Operands", "expanded", "is_constant", "joined", "moved", "summed"]

#: What goes into an operator, in its order: forms, constants, or None where it is left out.
Operands = Sequence["Form | Array | None"]

#: A matrix that is found by probing has at most this many entries, and needs as many products.
_MOST_ENTRIES = 1 << 25
#: Unit vectors that go through an operator at a time, where its first axis is the batch.
_TOGETHER = 64
#: A matrix with fewer entries than this share of all is kept synapse by synapse.
_SPARSE = 0.25


def is_constant(form: Form) -> bool:
    """Say whether ``form`` holds no gate and no atom but one."""
    return all(atom is ONE and not gates for gates, atom in form.terms)


def expanded(step: Step, form: Form, shape: Shape, where: str) -> Form:
    """Broadcast ``form`` to ``shape``; spikes that are repeated are sent to several places."""
    if size(shape) == size(form.shape) or is_constant(form):
        return form.expanded(shape)
    places = np.broadcast_to(_places(form.shape), shape)
    return _selected(step, form, places, where)


def moved(step: Step, node: onnx.NodeProto, operands: Operands, where: str) -> list[Form]:
    """Return the outputs of an operator that moves values and adds none up.

    ``operands`` holds one form. Raises ``ValueError`` where what comes out is no value of the
    source, or zero.
    """
    (form,) = (item for item in operands if isinstance(item, Form))
    places = _places(form.shape).astype(np.float64)
    found = computed(node, _with(places, operands), step.opset)
    return [_selected(step, form, _whole(item), where) for item in found]


def joined(step: Step, forms: Sequence[Form], axis: int, where: str) -> Form:
    """Return ``forms`` side by side along ``axis``, each sent to its own places."""
    lengths = [form.shape[axis] for form in forms]
    shape = list(forms[0].shape)
    shape[axis] = sum(lengths)
    total = Form(tuple(shape))
    begin = 0
    for form, length in zip(forms, lengths, strict=True):
        places = np.zeros(shape, np.int64)
        part = tuple(
            slice(begin, begin + length) if i == axis % len(shape) else slice(None)
            for i in range(len(shape))
        )
        places[part] = _places(form.shape)
        total = total + _selected(step, form, places, where)
        begin += length
    return total


def summed(step: Step, node: onnx.NodeProto, operands: Operands, where: str) -> Form:
    """Return the output of an operator that is linear in its one form, but for a constant."""
    (form,) = (item for item in operands if isinstance(item, Form))

    def run(values: Array) -> Array:
        return np.asarray(computed(node, _with(values, operands), step.opset)[0], np.float64)

    kind = _kind_of(operands)
    rest = run(np.zeros(form.shape, kind))
    matrix = _matrix(run, form.shape, rest, kind)
    if _keeps_all(matrix):
        return form.reshaped(rest.shape) + affine.constant(rest)
    flat = form.reshaped((1, size(form.shape)))
    image = step.linear(flat, [matrix], where).reshaped(rest.shape)
    return image + affine.constant(rest)


def _with(values: Array, operands: Operands) -> list[Array | None]:
    """Return the operands with ``values`` in the place of the form."""
    return [values if isinstance(item, Form) else item for item in operands]


def _places(shape: Shape) -> Array:
    """Return the number of every place, from 1 on; 0 is a place outside."""
    return np.arange(1, size(shape) + 1).reshape(shape)


def _whole(values: Array) -> Array:
    whole: Array = np.rint(np.asarray(values, np.float64)).astype(np.int64)
    if not np.array_equal(whole, values):
        raise ValueError("it mixes values, and is no sum of them with constant weights")
    return whole


def _kind_of(operands: Operands) -> type:
    """Return the type that an operator computes in: that of its constants."""
    double = any(isinstance(item, np.ndarray) and item.dtype == np.float64 for item in operands)
    return np.float64 if double else np.float32


def _selected(step: Step, form: Form, places: Array, where: str) -> Form:
    """Return the values of ``form`` at ``places`` (from 1 on; 0 where there is nothing)."""
    shape, inputs = places.shape, size(form.shape)
    flat = places.reshape(-1)
    if np.array_equal(flat, np.arange(1, inputs + 1)):
        return form.reshaped(shape)
    if not flat.size:
        raise ValueError("nothing is left of it")
    source = form if is_constant(form) else form.reshaped((1, inputs))
    channels = _channels(form.shape, places)
    if channels is not None and not is_constant(form):
        image = step.linear(form, [Conv2d(weight=channels)], where)
        return image.reshaped(shape)
    if is_constant(form):
        values = np.broadcast_to(source.constant, (inputs,))
        padded = np.concatenate([np.zeros(1), values])
        return affine.constant(padded[flat].reshape(shape))
    return step.linear(source, [_selection(flat, inputs)], where).reshaped(shape)


def _channels(source: Shape, places: Array) -> Array | None:
    """Return the 1x1 kernel of a choice of whole channels of a picture, or None."""
    if len(source) != 4 or source[0] != 1 or places.ndim != 4 or places.shape[0] != 1:
        return None
    if places.shape[2:] != source[2:]:
        return None
    each = size(source[2:])
    first = places.reshape(places.shape[1], each)[:, :1]
    within = np.where(first > 0, first + np.arange(each), 0)
    if (
        not np.array_equal(within, places.reshape(within.shape))
        or ((first - 1) % each)[first > 0].any()
    ):
        return None
    kernel = np.zeros((places.shape[1], source[1], 1, 1), np.float32)
    chosen = np.flatnonzero(first[:, 0])
    kernel[chosen, (first[chosen, 0] - 1) // each] = 1
    return kernel


def _selection(places: Array, inputs: int) -> Sparse:
    targets = np.flatnonzero(places)
    return _sparse(places[targets] - 1, targets, np.ones(len(targets), np.float32),
                   inputs, len(places))  # fmt: skip


def _sparse(sources: Array, targets: Array, weight: Array, inputs: int, outputs: int) -> Sparse:
    order = np.lexsort((targets, sources))
    pointers = np.searchsorted(sources[order], np.arange(inputs + 1))
    synapses = Synapses(targets=targets[order], pointers=pointers, outputs=outputs)
    return Sparse(weight=weight[order], synapses=synapses)


def _matrix(run: Callable[[Array], Array], shape: Shape, rest: Array, kind: type) -> Stage:
    """Return the matrix of a linear operator, by what it makes of unit vectors."""
    inputs, outputs = size(shape), size(rest.shape)
    if inputs * outputs > _MOST_ENTRIES:
        raise ValueError(f"its matrix would have {outputs:,} x {inputs:,} weights")
    together = _together(run, shape, rest, kind)
    columns: Array = np.empty((inputs, outputs), kind)
    for begin in range(0, inputs, together):
        units = _units(range(begin, min(inputs, begin + together)), shape, kind)
        columns[begin : begin + together] = run(units).reshape(-1, outputs) - rest.reshape(-1)
    if np.count_nonzero(columns) > _SPARSE * columns.size:
        return Dense(weight=np.ascontiguousarray(columns.T))
    sources, targets = np.nonzero(columns)
    return _sparse(sources, targets, columns[sources, targets], inputs, outputs)


def _keeps_all(stage: Stage) -> bool:
    """Say whether a matrix is that of the identity."""
    if isinstance(stage, Dense):
        return stage.weight.shape == (1, 1) and bool((stage.weight == 1).all())
    if not isinstance(stage, Sparse) or not (stage.weight == 1).all():
        return False
    synapses, every = stage.synapses, np.arange(stage.synapses.outputs)
    return np.array_equal(synapses.targets, every) and np.array_equal(
        synapses.per_synapse(np.arange(synapses.inputs)), every
    )


def _units(places: range, shape: Shape, kind: type) -> Array:
    """Return unit vectors, one after the other along the batch."""
    units: Array = np.zeros((len(places), size(shape)), kind)
    units[np.arange(len(places)), places] = 1
    return units.reshape(shape if len(places) == 1 else (len(places), *shape[1:]))


def _together(run: Callable[[Array], Array], shape: Shape, rest: Array, kind: type) -> int:
    """Return how many unit vectors may go through an operator at a time: 1 if it has no batch."""
    inputs = size(shape)
    if shape[:1] != (1,) or rest.shape[:1] != (1,) or inputs < 2:
        return 1
    single = [run(_units(range(place, place + 1), shape, kind)) for place in (0, 1)]
    try:
        both = run(_units(range(2), shape, kind))
    except ValueError:
        return 1
    same = both.shape == (2, *rest.shape[1:]) and np.array_equal(both, np.concatenate(single))
    return min(_TOGETHER, inputs) if same else 1
