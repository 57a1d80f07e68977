"""Refractory periods that a state counts down, as Norse's ``LIFRefracCell`` does.

A state r becomes k where its population spikes, one less where it is above 0, and stays 0
otherwise. While it is above 0, voltages are held and no spike is sent. Such a counter is
taken out of the step: the population gets ``refractory`` k.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import ONE, Form, Gate, Image, State
from spikec.compiler.frontends.onnx_forms import StepModel
from spikec.compiler.frontends.onnx_step import NotAStepError, Step, StepState
from spikec.compiler.frontends.onnx_tables import decided

__all__ = ["without_counters"]

#: No refractory period is longer: every value of a counter is looked at.
_LONGEST = 1 << 10


@dataclass(frozen=True, eq=False, kw_only=True)
class _Counter:
    """A state that counts down: from ``steps``, set by ``spike``; ``masks`` are open meanwhile."""

    state: str
    steps: int
    spike: Gate
    masks: frozenset[Gate]


def without_counters(model: StepModel) -> StepModel:
    """Return ``model`` without states that count a refractory period, with ``refractory`` set.

    Raises :class:`NotAStepError` where something else than spikes and voltages depends on
    a counter.
    """
    for state in model.states:
        counter = _counter(state, model)
        if counter is not None:
            return without_counters(_taken_out(counter, model))
    return model


def _counter(state: StepState, model: StepModel) -> _Counter | None:
    own = State(state.name)
    spikes = set(_foreign(state.after, own))
    if len(spikes) != 1 or np.any(state.initial) or own not in _atoms(state.after):
        return None
    if any(atom not in (ONE, own) for _, atom in state.after.terms):
        return None
    (spike,) = spikes
    first = _at(state.after, own, 0, spike=True)
    if first.size == 0 or (first != first.flat[0]).any():
        return None
    steps = float(first.flat[0])
    if not 1 <= steps <= _LONGEST or steps != round(steps):
        return None
    for count in range(int(steps) + 1):
        for spiked in (False, True):
            expected = steps if count == 0 and spiked else max(count - 1, 0)
            if not (_at(state.after, own, count, spike=spiked) == expected).all():
                return None
    others = [item.after for item in model.states if item is not state]
    gates = _gates([*model.outputs.values(), *others])
    masks = frozenset(gate for gate in gates if gate.form.atoms == {own})
    for gate in masks:
        opened = [_opens(gate, own, count, spike=False).all() for count in range(int(steps) + 1)]
        if opened != [False, *[True] * int(steps)]:
            return None
    return _Counter(state=state.name, steps=int(steps), spike=spike, masks=masks)


def _gates(forms: list[Form]) -> Iterator[Gate]:
    """Yield all gates in ``forms``, those inside other gates too."""
    seen: set[Gate] = set()
    while forms:
        form = forms.pop()
        sources = {image.source for image in form.images if isinstance(image.source, Gate)}
        for gate in (form.gates | sources) - seen:
            seen.add(gate)
            forms.append(gate.form)
            yield gate


def _atoms(form: Form) -> frozenset[affine.Atom]:
    found = form.atoms
    for gate in form.gates:
        found |= _atoms(gate.form)
    return found


def _foreign(form: Form, own: State) -> Iterator[Gate]:
    """Yield the gates that look at anything else than ``own``."""
    for gate in form.gates:
        if any(atom != own for atom in gate.form.atoms):
            yield gate
        else:
            yield from _foreign(gate.form, own)


def _at(form: Form, own: State, count: float, *, spike: bool) -> Array:
    """Return what a form is where the counter stands at ``count``."""
    total = np.zeros(1)
    for (gates, atom), coefficient in form.terms.items():
        factor = coefficient * (count if atom == own else 1.0)
        for gate in gates:
            factor = factor * _opens(gate, own, count, spike=spike)
        total = total + factor
    return total


def _opens(gate: Gate, own: State, count: float, *, spike: bool) -> Array:
    if any(atom != own for atom in gate.form.atoms):
        return np.array([float(spike)])
    value = _at(gate.form, own, count, spike=spike)
    return (value > 0 if gate.strict else value >= 0).astype(np.float64)


def _taken_out(counter: _Counter, model: StepModel) -> StepModel:
    idle = [state for state in model.states if state.after.gates & counter.masks]
    for state in idle:
        if state.name != counter.state:
            _check_held(state, counter)
    for name, form in model.outputs.items():
        if not _silent(form, counter.masks):
            raise _refused(f"output '{name}'", counter.state)
    closing = _Closing(model.step, counter.masks)
    states = tuple(
        replace(state, after=closing.form(state.after))
        for state in model.states
        if state.name != counter.state
    )
    outputs = {name: closing.form(form) for name, form in model.outputs.items()}
    (spike,) = closing.gate(counter.spike).gates
    known = {**model.refractory, spike: counter.steps}
    return replace(model, states=states, outputs=outputs, refractory=known)


def _check_held(state: StepState, counter: _Counter) -> None:
    """Refuse a state that is neither held nor a spike held back while the counter runs."""
    opened = Form(state.after.shape)
    for (gates, atom), coefficient in state.after.terms.items():
        term = Form(state.after.shape, {(gates - counter.masks, atom): coefficient})
        opened = opened + term
    held = affine.atom(State(state.name), state.after.shape)
    if not opened.close_to(held) and not _silent(state.after, counter.masks):
        raise _refused(f"state '{state.name}'", counter.state)


def _silent(form: Form, masks: frozenset[Gate]) -> bool:
    """Say whether a form is 0 where the masks are open, or does not depend on them."""
    if not form.gates & masks:
        return True
    opened = Form(form.shape)
    for (gates, atom), coefficient in form.terms.items():
        opened = opened + Form(form.shape, {(gates - masks, atom): coefficient})
    return not opened.terms


def _refused(where: str, counter: str) -> NotAStepError:
    return NotAStepError(
        where,
        f"it depends on '{counter}', which counts the steps since a spike, and is not held",
        "while a population is refractory its voltage stays and it sends no spike",
    )


class _Closing:
    """Rewrites forms and the gates in them as they are where the masks are closed."""

    def __init__(self, step: Step, masks: frozenset[Gate]) -> None:
        self._step = step
        self._masks = masks
        self._gates: dict[Gate, Form] = {}

    def form(self, form: Form) -> Form:
        total = Form(form.shape)
        for (gates, atom), coefficient in form.terms.items():
            if gates & self._masks:
                continue
            term = self._atom(atom, form).scaled(coefficient)
            for gate in gates:
                term = term.times(self.gate(gate).reshaped(form.shape))
            total = total + term
        return total

    def gate(self, gate: Gate) -> Form:
        if gate not in self._gates:
            inner = self.form(gate.form)
            same = inner.digest() == gate.form.digest()
            known = affine.spike(gate, gate.form.shape)
            self._gates[gate] = known if same else self._over(gate, inner)
        return self._gates[gate]

    def _over(self, gate: Gate, form: Form) -> Form:
        spikes = _spikes(form)
        found = None if spikes is None else decided(self._step, spikes, strict=gate.strict)
        if found is not None:
            return found
        return self._step.threshold(form, strict=gate.strict, origin=gate.origin)

    def _atom(self, atom: affine.Atom, form: Form) -> Form:
        if not isinstance(atom, Image) or not isinstance(atom.source, Gate):
            return affine.atom(atom, form.shape)
        if atom.source in self._masks:
            return Form(form.shape)
        source = self.gate(atom.source).is_spike() or atom.source
        image = self._step.image(source, atom.sent, atom.stages, atom.shape)
        return affine.atom(image, form.shape)


def _spikes(form: Form) -> Form | None:
    """Return a sum of spikes sent one by one as a form of these spikes; None for others."""
    terms: dict[affine.Key, Array] = {}
    for (gates, atom), coefficient in form.terms.items():
        if not isinstance(atom, Image):
            terms[gates, atom] = coefficient
        elif isinstance(atom.source, Gate) and not atom.stages and not gates:
            terms[frozenset([atom.source]), ONE] = coefficient
        else:
            return None
    return Form(form.shape, terms)
