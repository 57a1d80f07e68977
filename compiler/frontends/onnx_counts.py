"""Several spikes a step: what depends on one rounded value alone, written as a count.

Frameworks round a membrane, ``floor(u / theta)``, and then clamp, multiply with
comparisons, signs and zero tests, each in its own way and order. All that is a
piecewise linear function h of one whole number n, so it is read as one: h is
evaluated, and where ``h(n) = a + b * clip(n - m, 0, k)`` it is the count of the
thresholds that the membrane has passed. Comparisons are products of the same kind;
one that falls inside a step of n (``u > 0`` beside ``floor(u)``) must not matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import ONE, Form, Gate, Key, Whole, ratio

if TYPE_CHECKING:
    from spikec.compiler.frontends.onnx_step import Step

__all__ = ["compared", "counted", "has_counts", "rounded"]

_TOLERANCE = 2e-6
#: More comparisons than these inside one step of n are not looked into.
_MOST_DOUBTS = 6
#: Farther than any count: 2**16 is the largest limit that a framework has.
_FAR = 1 << 40


def has_counts(form: Form) -> bool:
    """Say whether ``form`` holds a rounded value or a count."""
    return affine.has_whole(form) or any(gate.most > 1 for gate in form.gates)


def rounded(step: Step, form: Form, *, up: bool) -> Form:
    """Return ``floor(form)``, or ``ceil(form)``: of a form that rises with its state."""
    if not form.terms:
        return form
    shared = frozenset.intersection(*(gates for gates, _ in form.terms))
    if any(gate.most > 1 for gate in shared):
        shared = frozenset()
    if shared:  # rounding leaves the zero of a closed gate as it is
        inner = rounded(step, _while_open(form, shared), up=up)
        return inner.times(Form(form.shape, {(shared, ONE): np.ones(1)}))
    if affine.falls(form):
        return -rounded(step, -form, up=not up)
    return affine.atom(step.whole(form, up=up), form.shape)


def counted(step: Step, form: Form, origin: str) -> Form:
    """Return ``form`` with what is a count of thresholds written as one."""
    if not has_counts(form) and not any(gate in step.levels for gate in form.gates):
        return form
    form = _opened(step, form)
    for base in _bases(step, form):
        part = {key: c for key, c in form.terms.items() if _in_family(key, base)}
        if len(part) == 1 and not any(isinstance(atom, Whole) for _, atom in part):
            continue
        found = _Function(base, part).count()
        if found is not None:
            least, each, gate = found
            rest = {key: c for key, c in form.terms.items() if key not in part}
            form = Form(form.shape, rest) + _spread(least, form)
            if gate is not None:
                first, most = gate
                spike = base.reaching(step, first, origin, most)
                form = form + affine.spike(spike, form.shape).scaled(each)
    return form


def compared(step: Step, form: Form, *, strict: bool, origin: str) -> Form | None:
    """Return ``H(form)`` where ``form`` is a function of one whole number; else None.

    Raises ``ValueError`` where that is no single threshold.
    """
    if not has_counts(form):
        return None
    form = _opened(step, form)
    for base in _bases(step, form):
        if all(key == (frozenset(), ONE) or _in_family(key, base) for key in form.terms):
            function = _Function(base, form.terms)
            first, rises = function.crossing(strict=strict)
            if first is None:
                return affine.constant(np.full(form.shape, float(rises)))
            gate = affine.spike(base.reaching(step, first, origin), form.shape)
            return gate if rises else affine.constant(np.ones(1)) - gate
    return None


def _spread(values: Array, form: Form) -> Form:
    return Form(form.shape, {(frozenset(), ONE): values} if values.any() else {})


def _while_open(form: Form, gates: frozenset[Gate]) -> Form:
    """Return ``form`` where ``gates`` are open."""
    total = Form(form.shape)
    for (others, atom), coefficient in form.terms.items():
        total = total + Form(form.shape, {(others - gates, atom): coefficient})
    return total


def _opened(step: Step, form: Form) -> Form:
    """Simplify what is rounded by the gates that multiply it: they are open, or it is 0."""
    total = Form(form.shape)
    for (gates, atom), coefficient in form.terms.items():
        term = Form(form.shape, {(gates, atom): coefficient})
        if isinstance(atom, Whole) and gates & atom.form.gates:
            plain = frozenset(gate for gate in gates if gate.most == 1)
            inner = _while_open(atom.form, plain).reshaped(form.shape)
            factor = Form(form.shape, {(gates, ONE): coefficient})
            term = rounded(step, inner, up=atom.up).times(factor)
        total = total + term
    return total


@dataclass(frozen=True, eq=False)
class _Base:
    """A membrane and how it is rounded: ``n = floor(form)``, or ``ceil(form)``."""

    form: Form
    up: bool

    def reaching(self, step: Step, first: int, origin: str, most: float = 1) -> Gate:
        """Return the gate of ``n >= first``, or the count of that and what follows."""
        level = affine.constant(np.full(self.form.shape, float(first - 1 if self.up else first)))
        gate = step.known_gate(self.form - level, strict=self.up, origin=origin, most=most)
        step.levels.setdefault(gate, (self.form, self.up))
        return gate


def _bases(step: Step, form: Form) -> Iterator[_Base]:
    for atom in form.atoms:
        if isinstance(atom, Whole):
            yield _Base(atom.form, atom.up)
    for gate in form.gates:
        if gate in step.levels:
            yield _Base(*step.levels[gate])
        elif gate.most > 1:
            yield _Base(gate.form, gate.strict)


@dataclass(frozen=True, eq=False)
class _Opening:
    """A comparison: 1 from ``first`` on, undecided one below if ``doubtful``; or its opposite."""

    first: int
    doubtful: bool
    inverted: bool


@dataclass(frozen=True)
class _Ramp:
    """``n + offset``, not below 0 and not above ``most`` where it is a count."""

    offset: int
    most: float | None

    def value(self, n: int) -> float:
        values = n + self.offset
        return values if self.most is None else min(max(values, 0), self.most)


_Factor = _Opening | _Ramp


def _in_family(key: Key, base: _Base) -> bool:
    """Say whether a term is a function of the base's whole number alone."""
    gates, atom = key
    factors = [_gate_factor(gate, base) for gate in gates]
    if isinstance(atom, Whole):
        factors.append(_whole_factor(atom, base))
    elif atom is not ONE or not gates:
        return False
    ramps = sum(isinstance(item, _Ramp) for item in factors)
    return None not in factors and ramps <= 1


def _relation(form: Form, base: Form) -> tuple[float, float] | None:
    """Return (c, d) with ``form = c * base + d``, the same for every element, or None."""
    scale = ratio(form.without_constant(), base.without_constant())
    if scale is None:
        return None
    offset = (form.constant - scale * base.constant) / scale
    same = np.allclose(offset, offset.flat[0], rtol=_TOLERANCE, atol=_TOLERANCE)
    one_sign = (scale > 0).all() or (scale < 0).all()
    equal = np.allclose(np.abs(scale), 1, rtol=_TOLERANCE)
    if not same or not one_sign:
        return None
    sign = float(np.sign(scale.flat[0]))
    return (sign if equal else 2 * sign), float(offset.flat[0])


def _snapped(value: float) -> int | None:
    near = round(value)
    return near if abs(value - near) <= _TOLERANCE * max(1, abs(near)) else None


def _whole_factor(atom: Whole, base: _Base) -> _Ramp | None:
    relation = _relation(atom.form, base.form)
    if relation is None or relation[0] != 1 or atom.up != base.up:
        return None
    offset = _snapped(relation[1])
    return None if offset is None else _Ramp(offset, None)


def _gate_factor(gate: Gate, base: _Base) -> _Factor | None:
    relation = _relation(gate.form, base.form)
    if relation is None:
        return None
    scale, offset = relation
    level = _snapped(-offset)
    if gate.most > 1:
        if scale != 1 or level is None or gate.strict != base.up:
            return None
        return _Ramp(-level + (0 if base.up else 1), gate.most)
    strict = gate.strict if scale > 0 else not gate.strict
    if level is not None:
        first = level + 1 if strict or base.up else level
        return _Opening(first, strict != base.up, scale < 0)
    cell = int(np.ceil(-offset) if base.up else np.floor(-offset))
    return _Opening(cell + 1, True, scale < 0)  # noqa: FBT003 - it is doubtful


class _Function:
    """A sum of terms as a function of one whole number, linear between its knots."""

    def __init__(self, base: _Base, terms: Mapping[Key, Array]) -> None:
        gates = {gate for gates, _ in terms for gate in gates}
        known = {gate: _gate_factor(gate, base) for gate in gates}
        self._terms: list[tuple[Array, list[_Factor]]] = []
        for (opened, atom), coefficient in terms.items():
            factors = [known[gate] for gate in opened]
            if isinstance(atom, Whole):
                factors.append(_whole_factor(atom, base))
            self._terms.append((coefficient, [item for item in factors if item is not None]))
        knots = {0}
        for factor in itertools.chain.from_iterable(factors for _, factors in self._terms):
            knots |= _knots(factor)
        near = {n + move for n in knots for move in (-2, -1, 0, 1, 2)}
        self._points = sorted(near)
        values = [self._value(n) for n in self._points]
        self._values = None if any(item is None for item in values) else np.array(values)

    def count(self) -> tuple[Array, Array, tuple[int, float] | None] | None:
        """Return a, b and (m + 1, k) with ``h(n) = a + b * clip(n - m, 0, k)``, or None."""
        if self._values is None:
            return None
        slopes = self._slopes(self._values)
        moving = [i for i, slope in enumerate(slopes) if slope.any()]
        if not moving:
            return self._values[0], np.zeros(1), None
        first, last = moving[0], moving[-1]
        even = all(np.allclose(slopes[i], slopes[first]) for i in range(first, last + 1))
        if first == 0 or not even:
            return None
        start = self._points[first]
        most = np.inf if last == len(slopes) - 1 else self._points[last + 1] - start
        return self._values[0], slopes[first], (start + 1, float(most))

    def crossing(self, *, strict: bool) -> tuple[int | None, bool]:
        """Return from which n on h is above 0 (or up to which), and whether it rises.

        None where it is so always (True) or never (False).
        """
        if self._values is None:
            raise ValueError("a rounded value is compared in a way that depends on its fraction")
        values = np.where(_negligible(self._values, self._values), 0.0, self._values)
        points, values = self._reaching_far(values)
        above = values > 0 if strict else values >= 0
        same = (above == above[:, :1]).all()
        changes = np.flatnonzero(above[1:, 0] != above[:-1, 0])
        if not same or len(changes) > 1:
            raise ValueError("a rounded value is compared with several thresholds")
        rises = bool(above[-1, 0])
        if not len(changes):
            return None, rises
        place = int(changes[0])
        low, high = points[place], points[place + 1]
        if high == low + 1:
            return high, rises
        slopes = (values[place + 1] - values[place]) / (high - low)
        zeros = low - values[place] / slopes
        whole = _snapped(float(zeros[0]))
        if not np.allclose(zeros, zeros[0], rtol=_TOLERANCE):
            raise ValueError("a rounded value is compared with several thresholds")
        if whole is None:
            return int(np.ceil(zeros[0])), rises
        return whole + (1 if strict == rises else 0), rises

    def _reaching_far(self, values: Array) -> tuple[list[int], Array]:
        """Add far points on both sides: the ends go on as straight lines."""
        slopes = self._slopes(values)
        points = [self._points[0] - _FAR, *self._points, self._points[-1] + _FAR]
        left, right = values[0] - slopes[0] * _FAR, values[-1] + slopes[-1] * _FAR
        return points, np.concatenate([left[None], values, right[None]])

    def _slopes(self, values: Array) -> list[Array]:
        changes = np.diff(values, axis=0)
        changes = np.where(_negligible(changes, values), 0.0, changes)
        steps = np.diff(np.array(self._points))
        return [change / step for change, step in zip(changes, steps, strict=True)]

    def _value(self, n: int) -> Array | None:
        """Return h(n); None if an undecided comparison matters."""
        every = itertools.chain.from_iterable(factors for _, factors in self._terms)
        openings = (item for item in every if isinstance(item, _Opening))
        doubts = {item for item in openings if item.doubtful and n == item.first - 1}
        if len(doubts) > _MOST_DOUBTS:
            return None
        results = []
        for open_ones in itertools.product((0.0, 1.0), repeat=len(doubts)):
            decided = dict(zip(doubts, open_ones, strict=True))
            results.append(self._total(n, decided))
        if any(not np.allclose(item, results[0]) for item in results):
            return None
        return results[0]

    def _total(self, n: int, decided: Mapping[_Opening, float]) -> Array:
        size = max((len(coefficient) for coefficient, _ in self._terms), default=1)
        total = np.zeros(size)
        for coefficient, factors in self._terms:
            product = 1.0
            for item in factors:
                product *= item.value(n) if isinstance(item, _Ramp) else _openness(item, n, decided)
            total = total + coefficient * product
        return total


def _negligible(values: Array, beside: Array) -> Array:
    small: Array = np.abs(values) <= 1e-9 * float(np.abs(beside).max())
    return small


def _openness(item: _Opening, n: int, decided: Mapping[_Opening, float]) -> float:
    value = decided.get(item, float(n >= item.first))
    return 1 - value if item.inverted else value


def _knots(factor: _Factor) -> set[int]:
    if isinstance(factor, _Opening):
        return {factor.first}
    if factor.most is None:
        return set()
    top = set() if np.isinf(factor.most) else {int(factor.most) - factor.offset}
    return {-factor.offset} | top
