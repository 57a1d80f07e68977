"""One time step of an ONNX graph, read as affine forms.

The graph is run once on symbols instead of numbers. A loop over time (``Scan``,
``Loop`` with sequences, scatters or scan outputs) is run once for all its steps:
a value with a time axis is :class:`Timed`, its form being that of any one step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import numpy_helper

from spikec.compiler.arrays import MAX_NEURONS, Array, Shape, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import ONE, Form, Gate, Image, Opaque, Signal, State, Whole
from spikec.compiler.frontends.onnx_counts import compared
from spikec.compiler.frontends.onnx_floors import floored
from spikec.compiler.frontends.onnx_numbers import computed
from spikec.compiler.frontends.onnx_tables import as_units, decided
from spikec.compiler.operators import Permute, Reshape, Scale, Stage

__all__ = [
    "RECTIFIED",
    "Carried",
    "Final",
    "Noise",
    "NotAStepError",
    "Step",
    "StepState",
    "Timed",
    "Value",
    "folded",
]


#: How the origin of a gate ends that is no threshold but half of a ``Relu``.
RECTIFIED = " (rectified)"

_FAMILY = "a step adds states, inputs and spikes with constant weights; spikes alone may multiply"


class NotAStepError(Exception):
    """A node has no affine form: which node, why, and what to do."""

    def __init__(self, node: str, why: str, hint: str = "") -> None:
        super().__init__(f"{node}: {why}")
        self.node, self.why, self.hint = node, why, hint


@dataclass(frozen=True, eq=False)
class Timed:
    """A value with a leading time axis; ``form`` is one step of it, with a 1 in that place."""

    form: Form
    steps: int


@dataclass(frozen=True, eq=False)
class Carried:
    """A loop-carried value that the body has not used yet: a state, or a buffer to fill."""

    name: str
    initial: Array | None


@dataclass(frozen=True, eq=False)
class Counter:
    """The loop's iteration number, or an index made of it."""


@dataclass(frozen=True, eq=False)
class Noise:
    """Random numbers: nothing, once they are multiplied by zero."""

    shape: Shape


@dataclass(frozen=True, eq=False)
class Final:
    """A state after the last step."""

    name: str


@dataclass(frozen=True, eq=False)
class EmptySequence:
    """A sequence that a loop fills."""


Value: TypeAlias = (
    "Array | Form | Timed | Carried | Counter | Noise | Final | EmptySequence"
    " | Sequence[Any] | None"
)


@dataclass(frozen=True, eq=False, kw_only=True)
class StepState:
    """A carried value: what it starts from, its form after the step, and its floor."""

    name: str
    initial: Array
    after: Form
    floor: Array | None = None


class Step:
    """Runs a graph on symbols; collects gates, images and the states of its loops.

    States in ``spikes`` (None: all) are 0 or 1 and are read as gates; inputs in ``graded``
    may be more.
    """

    def __init__(
        self,
        opset: int = 20,
        *,
        spikes: AbstractSet[str] | None = frozenset(),
        graded: AbstractSet[str] = frozenset(),
    ) -> None:
        self.opset = opset
        self.spikes = spikes
        self.graded = graded
        self.states: dict[str, StepState] = {}
        #: Gates that are thresholds of a rounded form: that form, and whether it is rounded up.
        self.levels: dict[Gate, tuple[Form, bool]] = {}
        self._gates: dict[tuple[str, bool, float], Gate] = {}
        self._wholes: list[Whole] = []
        self._opaques: list[Opaque] = []
        self._images: dict[tuple[object, ...], Image] = {}

    def run(self, graph: onnx.GraphProto, environment: Mapping[str, Value]) -> dict[str, Value]:
        """Return every value of ``graph``, given those of its inputs and of outer scopes."""
        values: dict[str, Value] = dict(environment)
        values[""] = None
        for tensor in graph.initializer:
            values[tensor.name] = numpy_helper.to_array(tensor)
        for node in graph.node:
            results = self._node(node, values)
            values.update(zip(node.output, results, strict=False))
        return values

    def gate(self, form: Form, *, strict: bool, origin: str = "", most: float = 1) -> Gate:
        """Return the gate ``H(form)``, or a count; equal forms give the same gate."""
        # A positive factor does not move a gate: the largest coefficient becomes 1.
        largest = max((float(np.abs(c).max()) for c in form.terms.values()), default=0.0)
        scaled = form if most > 1 or not largest else form.scaled(np.array([1.0 / largest]))
        key = (scaled.digest() if largest else "", strict, most)
        if key not in self._gates:
            self._gates[key] = Gate(form, strict, origin, most)
        return self._gates[key]

    def known_gate(self, form: Form, *, strict: bool, origin: str, most: float = 1) -> Gate:
        """Return a gate as :meth:`gate` does, or one that is equal but for rounding."""
        for gate in self._gates.values():
            if (gate.strict, gate.most) != (strict, most):
                continue
            scale = affine.ratio(gate.form.without_constant(), form.without_constant())
            if scale is None or not (scale > 0).all() or (most > 1 and not np.allclose(scale, 1)):
                continue
            if gate.form.close_to(form.scaled(scale)):
                return gate
        return self.gate(form, strict=strict, origin=origin, most=most)

    def whole(self, form: Form, *, up: bool) -> Whole:
        """Return ``form`` rounded, as an atom; close forms give the same atom."""
        for known in self._wholes:
            same = known.up == up and size(known.form.shape) == size(form.shape)
            if same and known.form.close_to(form):
                return known
        self._wholes.append(Whole(form, up))
        return self._wholes[-1]

    def state(self, name: str, shape: Shape) -> Form:
        """Return a carried value as it is before the step: a gate where it is a spike."""
        form = affine.atom(State(name), shape)
        if self.spikes is not None and name not in self.spikes:
            return form
        return affine.spike(self.gate(form, strict=True), shape)

    def is_binary(self, signal: Signal) -> bool:
        """Say whether an input is 0 or 1."""
        return signal.name not in self.graded

    def opaque(self, opaque: Opaque, shape: Shape) -> Form:
        """Return what an operator without a form gives; of equal operands it is one atom."""
        for known in self._opaques:
            if known.operator == opaque.operator and _all_close(known.operands, opaque.operands):
                return affine.atom(known, shape)
        self._opaques.append(opaque)
        return affine.atom(opaque, shape)

    def threshold(self, form: Form, *, strict: bool, origin: str = "") -> Form:
        """Return ``H(form)`` as a form, written so that the gate opens as its state rises.

        ``H(-f > 0)`` is ``1 - H(f >= 0)``: however a comparison is spelled, one gate stands for it.
        ``ValueError`` where a rounded value is compared in no way that a count could tell.
        """
        count = compared(self, form, strict=strict, origin=origin)
        if count is not None:
            return count
        known = decided(self, form, strict=strict)
        if known is not None:
            return known
        held = floored(form)
        if held is not None and (held[1] < 0).all():  # a floor below the threshold opens nothing
            form = held[0]
        if affine.falls(form):
            opposite = self.known_gate(-form, strict=not strict, origin=origin)
            return affine.constant(np.ones(1)) - affine.spike(opposite, form.shape)
        return affine.spike(self.known_gate(form, strict=strict, origin=origin), form.shape)

    def image(
        self, source: Signal | State | Gate, sent: Shape, stages: Sequence[Stage], shape: Shape
    ) -> Image:
        """Return the image of ``source`` under ``stages``; equal ones are one object."""
        key: tuple[object, ...] = (source, sent, *(stage_digest(stage) for stage in stages))
        if key not in self._images:
            self._images[key] = Image(source, sent, tuple(stages), shape)
        return self._images[key]

    @property
    def gates(self) -> tuple[Gate, ...]:
        """All gates, in the order the graph computes them."""
        return tuple(self._gates.values())

    def linear(self, form: Form, stage: Sequence[Stage], node: str) -> Form:
        """Return the image of every term of ``form`` (batch of one) under ``stage``."""
        form = as_units(self, form, node)
        source_shape = form.shape[1:]
        shape = source_shape
        for item in stage:
            shape = item.output_shape(shape)
        if size(shape) > MAX_NEURONS:
            raise NotAStepError(node, f"it gives {size(shape):,} values")
        total = Form((1, *shape))
        for (gates, atom), coefficient in form.terms.items():
            if atom is ONE and not gates:
                values = np.broadcast_to(coefficient, (size(source_shape),))
                result: Array = values.reshape(1, *source_shape)
                for item in stage:
                    result = item.apply(result)
                total = total + affine.constant(result)
                continue
            source, sent, before, natural = _sent(gates, atom, source_shape, node)
            stages = list(before)
            if not (coefficient == 1).all():
                natural, stages = _weighted(stages, natural, coefficient, source_shape)
            if natural != source_shape:
                stages.append(Reshape(shape=source_shape))
            image = self.image(source, sent, [*stages, *stage], shape)
            total = total + affine.atom(image, (1, *shape))
        return total

    def _node(self, node: onnx.NodeProto, values: Mapping[str, Value]) -> Sequence[Value]:
        from spikec.compiler.frontends import onnx_loops, onnx_operators

        where = f"node '{node.name or ','.join(node.output)}' ({node.op_type})"
        missing = [name for name in node.input if name not in values]
        if missing:
            raise NotAStepError(where, f"its input '{missing[0]}' is defined nowhere")
        arguments = [values[name] for name in node.input]
        if node.op_type in onnx_loops.LOOPS:
            return onnx_loops.LOOPS[node.op_type](self, node, arguments, values, where)
        if node.op_type == "If":
            return self._branch(node, arguments, values, where)
        constant = all(_is_constant(item) for item in arguments)
        if constant and node.op_type not in onnx_operators.NEVER_CONSTANT:
            return folded(node, arguments, self.opset, where)
        try:
            return onnx_operators.apply(self, node, arguments, where)
        except ValueError as error:
            raise NotAStepError(where, str(error), _FAMILY) from error

    def _branch(
        self,
        node: onnx.NodeProto,
        arguments: Sequence[Value],
        values: Mapping[str, Value],
        where: str,
    ) -> Sequence[Value]:
        condition = arguments[0]
        if not isinstance(condition, np.ndarray):
            raise NotAStepError(where, "it branches on data")
        name = "then_branch" if bool(condition) else "else_branch"
        body = attributes(node)[name]
        inner = self.run(body, values)
        return [inner[output.name] for output in body.output]


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return the attributes of a node as Python values."""
    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def stage_digest(stage: Stage) -> object:
    """Return a key under which equal stages are equal."""
    if isinstance(stage, (Reshape, Permute)):
        return stage
    plain = {name: value for name, value in vars(stage).items() if name != "weight"}
    weight = stage.weight
    return (type(stage), tuple(plain.items()), weight.shape, affine.digest(weight))


def _is_constant(value: Value) -> bool:
    return value is None or isinstance(value, np.ndarray)


def folded(
    node: onnx.NodeProto, arguments: Sequence[Value], opset: int, where: str
) -> Sequence[Array]:
    """Return what a node gives whose inputs are all constants."""
    if node.op_type == "Constant":
        return [_constant_of(node, where)]
    numbers = [item if isinstance(item, np.ndarray) else None for item in arguments]
    try:
        return computed(node, numbers, opset)
    except ValueError as error:
        raise NotAStepError(where, f"its constant inputs cannot be computed: {error}") from error


def _all_close(left: Sequence[Form], right: Sequence[Form]) -> bool:
    return len(left) == len(right) and all(
        size(one.shape) == size(other.shape) and one.close_to(other)
        for one, other in zip(left, right, strict=True)
    )


def _constant_of(node: onnx.NodeProto, where: str) -> Array:
    for name, value in attributes(node).items():
        if name == "value":
            return numpy_helper.to_array(value)
        if name in ("value_float", "value_floats"):
            return np.asarray(value, dtype=np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, dtype=np.int64)
    raise NotAStepError(where, "a constant of this kind is not a number")


def _sent(
    gates: frozenset[Gate], atom: object, shape: Shape, node: str
) -> tuple[Signal | State | Gate, Shape, tuple[Stage, ...], Shape]:
    """Return what a term sends: source, its shape when sent, stages passed, shape after them."""
    if atom is ONE and len(gates) == 1:
        return next(iter(gates)), shape, (), shape
    if not gates and isinstance(atom, Image):
        return atom.source, atom.sent, atom.stages, atom.shape
    if not gates and isinstance(atom, (Signal, State)):
        return atom, shape, (), shape
    if isinstance(atom, Opaque):
        raise NotAStepError(atom.where, atom.why, atom.hint)
    raise NotAStepError(
        node,
        "it is sent a product of a spike and another value (a graded spike)",
        "send the spikes themselves: 0 or 1, or how many in a step (floor(u / theta), as sinabs "
        "and rockpool count them)",
    )


def _weighted(
    stages: Sequence[Stage], natural: Shape, coefficient: Array, shape: Shape
) -> tuple[Shape, list[Stage]]:
    """Add a factor per element; one factor for all keeps the source's own shape."""
    if (coefficient == coefficient.reshape(-1)[0]).all():
        return natural, [*stages, Scale(weight=np.array(coefficient.reshape(-1)[0]))]
    before = [] if natural == shape else [Reshape(shape=shape)]
    return shape, [*stages, *before, Scale(weight=coefficient.reshape(shape))]


Handler: TypeAlias = Callable[..., Sequence[Value]]
