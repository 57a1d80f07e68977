"""The algebra of one time step: affine forms with threshold gates.

Every value of a spiking network's step is a sum of terms
``coefficient * gates * atom``, where a gate is ``H(form > 0)`` or ``H(form >= 0)``,
0 or 1, and an atom is a state, an input, the image of a spike under a linear
operator, or the constant one. Frameworks write the same neuron in many ways;
in this form they are equal, since sums are collected, ``g * g = g``, and equal
gates are one gate. A gate may also count: how often a neuron spikes in a step
(:mod:`~spikec.compiler.frontends.onnx_counts`); until then a rounded form is an atom.

Forms are kept flat, element by element, so reshaping costs nothing.
Coefficients are float64 arrays of one element (the same for all) or one per
element.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.operators import Stage

__all__ = [
    "ONE",
    "Atom",
    "Form",
    "Gate",
    "Image",
    "Key",
    "Opaque",
    "Signal",
    "State",
    "Whole",
    "atom",
    "constant",
    "digest",
    "falls",
    "has_whole",
    "ratio",
    "spike",
]


#: Elements to which constants may be repeated.
_MOST_REPEATED = 1 << 23


@dataclass(frozen=True)
class One:
    """The constant one."""


@dataclass(frozen=True)
class State:
    """A carried value, as it is before the step."""

    name: str


@dataclass(frozen=True)
class Signal:
    """What an input presents at this step."""

    name: str


@dataclass(frozen=True, eq=False)
class Image:
    """A linear operator applied to something that is sent: an input, a spike, a spike state.

    Images are made once each (see :class:`~spikec.compiler.frontends.onnx_step.Step`),
    so identity is equality. ``sent`` is the shape the source had at the first stage.
    """

    source: Signal | State | Gate
    sent: Shape
    stages: tuple[Stage, ...]
    shape: Shape


@dataclass(frozen=True, eq=False)
class Whole:
    """``floor(form)``, or ``ceil(form)`` where ``up``; made once each, so identity is equality."""

    form: Form
    up: bool


@dataclass(frozen=True, eq=False)
class Opaque:
    """What an operator without an affine form gives; made once each, so identity is equality.

    It may vanish, as the surrogate of a straight-through gradient does in
    ``spike - surrogate + surrogate``. Where it is left, ``where`` and ``why`` say what it was.
    """

    operands: tuple[Form, ...]
    operator: object
    where: str
    why: str
    hint: str


ONE = One()
Atom: TypeAlias = One | State | Signal | Image | Whole | Opaque


@dataclass(frozen=True, eq=False)
class Gate:
    """``H(form > 0)``, or ``>=`` unless strict; made once each, so identity is equality.

    With ``most`` above 1 it is a count: of the whole numbers from 0 up that ``form``
    exceeds (or reaches, unless strict), ``most`` of them at most.
    """

    form: Form
    strict: bool
    origin: str = ""
    most: float = 1


#: Gates that multiply an atom, and the atom.
Key: TypeAlias = tuple[frozenset[Gate], Atom]
_FREE: frozenset[Gate] = frozenset()


@dataclass(frozen=True, eq=False)
class Form:
    """A sum of terms, read as an array of ``shape`` (batch included)."""

    shape: Shape
    terms: Mapping[Key, Array] = field(default_factory=dict)

    def __add__(self, other: Form) -> Form:
        shape = _common_shape(self, other)
        terms = dict(self.expanded(shape).terms)
        for key, coefficient in other.expanded(shape).terms.items():
            terms[key] = terms[key] + coefficient if key in terms else coefficient
        return Form(shape, _nonzero(terms))

    def __neg__(self) -> Form:
        return self.scaled(np.array([-1.0]))

    def __sub__(self, other: Form) -> Form:
        return self + (-other)

    def scaled(self, factor: Array) -> Form:
        """Multiply by a flat factor of one or of all elements."""
        terms = {key: coefficient * factor for key, coefficient in self.terms.items()}
        return Form(self.shape, _nonzero(terms))

    def times(self, other: Form) -> Form:
        """Multiply two forms; ``ValueError`` where two atoms, or two counts, would meet."""
        shape = _common_shape(self, other)
        terms: dict[Key, Array] = {}
        for (gates, atom), coefficient in self.expanded(shape).terms.items():
            for (others, second), factor in other.expanded(shape).terms.items():
                if atom is not ONE and second is not ONE:
                    raise ValueError(f"a product of {_name(atom)} and {_name(second)}")
                if any(gate.most > 1 for gate in gates & others):
                    raise ValueError("a product of spike counts")
                product_atom = second if atom is ONE else atom
                both = gates | others
                if not isinstance(product_atom, Whole):
                    both = _implied_away(both)  # of counts, each comparison is looked at
                key = (both, product_atom)
                product = coefficient * factor
                terms[key] = terms[key] + product if key in terms else product
        return Form(shape, _nonzero(terms))

    def reduced(self) -> Form:
        """Leave out gates that another gate of the same term implies."""
        terms: dict[Key, Array] = {}
        for (gates, atom), coefficient in self.terms.items():
            key = (_implied_away(gates), atom)
            terms[key] = terms[key] + coefficient if key in terms else coefficient
        return Form(self.shape, _nonzero(terms))

    def reshaped(self, shape: Shape) -> Form:
        """Read the same elements as another shape."""
        if size(shape) != size(self.shape):
            raise ValueError(f"{self.shape} cannot be read as {shape}")
        return Form(shape, self.terms)

    def expanded(self, shape: Shape) -> Form:
        """Broadcast to ``shape``; only constants can be repeated."""
        if size(shape) == size(self.shape):
            return Form(shape, self.terms)
        if any(atom is not ONE or gates for gates, atom in self.terms):
            raise ValueError(f"a value of shape {self.shape} repeated to {shape}")
        if size(shape) > _MOST_REPEATED + size(self.shape):
            raise ValueError(f"constants of shape {self.shape} repeated to {shape}")
        terms = {
            key: np.broadcast_to(_full(coefficient, self.shape), shape).reshape(-1)
            for key, coefficient in self.terms.items()
        }
        return Form(shape, terms)

    @property
    def constant(self) -> Array:
        """The coefficient of one, without gates."""
        return self.terms.get((_FREE, ONE), np.zeros(1))

    def coefficient(self, atom: Atom) -> Array:
        """The coefficient of ``atom``, without gates."""
        return self.terms.get((_FREE, atom), np.zeros(1))

    @property
    def gates(self) -> frozenset[Gate]:
        """All gates in any term."""
        return frozenset(gate for gates, _ in self.terms for gate in gates)

    @property
    def atoms(self) -> frozenset[Atom]:
        """All atoms but one."""
        return frozenset(atom for _, atom in self.terms if atom is not ONE)

    @property
    def images(self) -> tuple[Image, ...]:
        """The images among the atoms, in the order they were added up."""
        found = dict.fromkeys(atom for _, atom in self.terms if isinstance(atom, Image))
        return tuple(found)

    def free(self) -> Form:
        """The terms without gates."""
        return Form(self.shape, {key: c for key, c in self.terms.items() if not key[0]})

    def gated(self, gate: Gate) -> Form:
        """What ``gate`` alone multiplies; ``ValueError`` for terms with other gates."""
        terms: dict[Key, Array] = {}
        for (gates, atom), coefficient in self.terms.items():
            if gates and gates != {gate}:
                raise ValueError("terms with several gates")
            if gates:
                terms[_FREE, atom] = coefficient
        return Form(self.shape, terms)

    def without_constant(self) -> Form:
        """All terms but the plain constant."""
        terms = {key: c for key, c in self.terms.items() if key != (_FREE, ONE)}
        return Form(self.shape, terms)

    def is_spike(self) -> Gate | None:
        """The gate (or count) that this form is, if it is one and nothing else."""
        if len(self.terms) != 1:
            return None
        ((gates, atom), coefficient) = next(iter(self.terms.items()))
        if atom is ONE and len(gates) == 1 and (coefficient == 1).all():
            return next(iter(gates))
        return None

    def close_to(self, other: Form, tolerance: float = 1e-6) -> bool:
        """Say whether two forms have the same terms, up to the rounding of constants."""
        difference = self - other.reshaped(self.shape)
        scale = max((float(np.abs(c).max()) for c in self.terms.values()), default=0.0)
        return all(
            float(np.abs(c).max()) <= tolerance * max(scale, 1e-30)
            for c in difference.terms.values()
        )

    def digest(self) -> str:
        """A key under which equal forms are found again (shape aside)."""
        parts = sorted(
            (sorted(str(id(gate)) for gate in gates), _key(atom), digest(coefficient))
            for (gates, atom), coefficient in self.terms.items()
        )
        return repr(parts)


def constant(values: Array) -> Form:
    """Return an array as a form without atoms."""
    array = np.asarray(values, dtype=np.float64)
    flat = array.reshape(-1)
    if flat.size and (flat == flat[0]).all():
        flat = flat[:1]
    return Form(array.shape, _nonzero({(_FREE, ONE): flat}))


def atom(which: Atom, shape: Shape) -> Form:
    """Return one atom as a form."""
    return Form(shape, {(_FREE, which): np.ones(1)})


def spike(gate: Gate, shape: Shape) -> Form:
    """Return one gate as a form."""
    return Form(shape, {(frozenset([gate]), ONE): np.ones(1)})


def has_whole(form: Form) -> bool:
    """Say whether ``form`` holds a rounded value."""
    return any(isinstance(atom, Whole) for atom in form.atoms)


def falls(form: Form) -> bool:
    """Say whether a form falls with what weighs most in it: a state, if it holds any."""
    states = [c for (gates, atom), c in form.terms.items() if isinstance(atom, State) and not gates]
    others = [c for (_, atom), c in form.terms.items() if atom is not ONE]
    looked_at = max(states or others, key=lambda c: float(np.abs(c).mean()), default=np.ones(1))
    return bool((looked_at < 0).all())


def ratio(form: Form, membrane: Form, tolerance: float = 2e-6) -> Array | None:
    """Return c with ``form = c * membrane``, or None; the membrane must hold something."""
    if not membrane.terms or set(form.terms) != set(membrane.terms):
        return None
    if size(form.shape) != size(membrane.shape):
        return None
    # The term that no neuron lacks tells the factor.
    key = max(membrane.terms, key=lambda item: float(np.abs(membrane.terms[item]).min()))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = form.terms[key] / membrane.terms[key]
    if not np.isfinite(scale).all():
        return None
    same = membrane.scaled(scale).reshaped(form.shape)
    return scale if form.close_to(same, tolerance) else None


def _implied_away(gates: frozenset[Gate]) -> frozenset[Gate]:
    """Leave out ``H(f >= 0)`` beside ``H(f > 0)``: their product is the latter."""
    if len(gates) < 2:
        return gates
    strict = [gate for gate in gates if gate.strict and gate.most == 1]
    return frozenset(
        gate for gate in gates
        if gate.strict or gate.most > 1 or not any(_same_level(gate, other) for other in strict)
    )  # fmt: skip


def _same_level(gate: Gate, other: Gate) -> bool:
    """Say whether two gates have the same threshold on the same value."""
    scale = ratio(gate.form.without_constant(), other.form.without_constant())
    return (
        scale is not None
        and bool((scale > 0).all())
        and gate.form.close_to(other.form.scaled(scale).reshaped(gate.form.shape))
    )


def _nonzero(terms: dict[Key, Array]) -> dict[Key, Array]:
    return {key: c for key, c in terms.items() if c.any()}


def _common_shape(left: Form, right: Form) -> Shape:
    """The broadcast shape; shapes that only differ in axes of length 1 keep the left one."""
    if size(left.shape) == size(right.shape) and left.shape != right.shape:
        compact = [tuple(n for n in form.shape if n > 1) for form in (left, right)]
        if compact[0] == compact[1]:
            return left.shape if len(left.shape) >= len(right.shape) else right.shape
    return np.broadcast_shapes(left.shape, right.shape)


def _full(coefficient: Array, shape: Shape) -> Array:
    return np.broadcast_to(coefficient, (size(shape),)).reshape(shape)


def _name(which: Atom) -> str:
    if isinstance(which, (State, Signal)):
        return f"'{which.name}'"
    if isinstance(which, Whole):
        return "a rounded value"
    if isinstance(which, Opaque):
        return f"what {which.where} gives"
    return "an input current" if isinstance(which, Image) else "a constant"


def _key(which: Atom) -> str:
    return str(id(which)) if isinstance(which, (Image, Whole, Opaque)) else repr(which)


def digest(values: Array) -> str:
    """Return a key under which equal values of one type are equal; they are not copied."""
    return hashlib.sha1(np.ascontiguousarray(values).data, usedforsecurity=False).hexdigest()
