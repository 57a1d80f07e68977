"""States that only remember a spike, and spikes used element by element.

Some networks carry the last spike as a state, to reset or to feed back with.
Where that spike can be read off the old membrane it is: ``S' = H(U' - vth)`` means
that S is ``H(U - vth)``. What remains of remembered or foreign spikes in an
equation, weighed element by element, is an input like any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from spikec.compiler.arrays import Array, size
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import ONE, Atom, Form, Gate, Image, Key, Signal, State
from spikec.compiler.frontends.onnx_forms import StepModel, copied_from
from spikec.compiler.frontends.onnx_neurons import membrane_scale, signed_scale
from spikec.compiler.frontends.onnx_step import Step, StepState
from spikec.compiler.frontends.onnx_tables import as_units, spikes_in
from spikec.compiler.operators import Chain

__all__ = ["settled"]


def settled(model: StepModel) -> StepModel:
    """Return ``model`` with remembered spikes read off membranes, the rest made inputs."""
    memories = {
        state.name: gate
        for state in model.states
        if (gate := _remembered_gate(state.after)) is not None
    }
    settling = _Settling(model.step, memories, model.states)
    own = {state.name: settling.own_gates(state) for state in model.states}
    states = tuple(
        state
        if copied_from(state) is not None
        else replace(state, after=settling.after(state, own[state.name]))
        for state in model.states
    )
    outputs = {
        name: _shown(form, model.states, states) or settling.form(form)
        for name, form in model.outputs.items()
    }
    return replace(model, states=states, outputs=outputs)


def _shown(
    form: Form, before: Sequence[StepState], settled_states: Sequence[StepState]
) -> Form | None:
    """Return what the state that an output shows becomes, settled; None if it shows none."""
    for state, known in zip(before, settled_states, strict=True):
        same = size(state.after.shape) == size(form.shape) and state.after.is_spike() is None
        if same and form.digest() == state.after.digest():
            return known.after.reshaped(form.shape)
    return None


def _remembered_gate(form: Form) -> Gate | None:
    """Return the gate g of a state that becomes g, or 1 - g."""
    return form.is_spike() or (_one(form) - form).is_spike()


def _one(form: Form) -> Form:
    return Form(form.shape, {(frozenset(), ONE): np.ones(1)})


def _same_gate(known: Form, form: Form) -> bool:
    if size(known.shape) != size(form.shape):
        return False
    scale = membrane_scale(known, form)
    return scale is not None and known.close_to(form.scaled(scale).reshaped(known.shape))


def _about(form: Form) -> frozenset[Gate]:
    """Return the gates in ``form`` that look at a state which ``form`` holds too."""
    states = {atom for atom in form.atoms if isinstance(atom, State)}
    return frozenset(gate for gate in form.gates if states & gate.form.atoms)


class _Settling:
    """Rewrites forms and the gates in them, each gate once."""

    def __init__(
        self, step: Step, memories: Mapping[str, Gate], states: tuple[StepState, ...]
    ) -> None:
        self._step = step
        self._memories = memories
        self._kept = {
            *memories,
            *(state.name for state in states if copied_from(state) is not None),
        }
        self._after = {state.name: state.after for state in states}
        self._gates: dict[Gate, Form] = {}
        self._old: dict[str, Form] = {}
        for name, gate in memories.items():
            for state in states:
                if state.name in memories:
                    continue
                scale = signed_scale(gate.form, state.after)
                if scale is not None:
                    last = self._read_off(gate, state, scale)
                    whole = self._after[name].is_spike() is not None
                    self._old[name] = last if whole else _one(last) - last
                    break

    def form(self, form: Form) -> Form:
        """Return ``form`` without remembered spikes that a membrane tells."""
        total = Form(form.shape)
        for (gates, atom), coefficient in form.terms.items():
            term = self._atom(atom, form).scaled(coefficient)
            for gate in gates:
                term = term.times(self.gate(gate).reshaped(form.shape))
            total = total + term
        return total

    def _atom(self, atom: Atom, form: Form) -> Form:
        """Return one atom settled: read off a membrane, or an input, or as it is."""
        if isinstance(atom, State) and atom.name in self._old:
            return self._old[atom.name].reshaped(form.shape)
        kept = isinstance(atom, State) and atom.name in self._kept
        if kept or isinstance(atom, Signal):
            assert isinstance(atom, (Signal, State))
            return affine.atom(self._sent(atom, form), form.shape)
        if isinstance(atom, Image) and isinstance(atom.source, Gate):
            return self._image(atom, atom.source).reshaped(form.shape)
        return affine.atom(atom, form.shape)

    def _image(self, image: Image, source: Gate) -> Form:
        """Return the image of the settled source; that of ``1 - g`` is the one's less g's."""
        shape = (1, *image.shape)
        kept = self._kept_state(source)
        if kept is not None:  # a remembered spike that no membrane tells
            return affine.atom(self._step.image(kept, image.sent, image.stages, image.shape), shape)
        settled_source = self.gate(source)
        same = settled_source.is_spike()
        opposite = (_one(settled_source) - settled_source).is_spike()
        gate = same or opposite or source
        found = affine.atom(self._step.image(gate, image.sent, image.stages, image.shape), shape)
        if same is not None or opposite is None:
            return found
        return affine.constant(Chain(stages=image.stages).apply(np.ones((1, *image.sent)))) - found

    def _kept_state(self, gate: Gate) -> State | None:
        """Return the state that holds a spike, if the gate is that spike and nothing tells it."""
        if len(gate.form.terms) != 1 or not self._step.spikes:
            return None
        ((gates, atom),) = gate.form.terms
        if gates or not isinstance(atom, State) or atom.name not in self._step.spikes:
            return None
        return None if atom.name in self._old else atom

    def after(self, state: StepState, own: frozenset[Gate]) -> Form:
        """Return what a state becomes, settled; a remembered spike stays a spike."""
        form = self.form(state.after)
        return form if state.name in self._memories else self.inputs(form, own)

    def gate(self, gate: Gate) -> Form:
        """Return the gate over settled forms."""
        if gate not in self._gates:
            inner = self.form(gate.form)
            if spikes_in(self._step, inner) is None:
                inner = self.inputs(inner, _about(inner))
            same = inner.digest() == gate.form.digest()
            self._gates[gate] = (
                affine.spike(gate, gate.form.shape) if same else self._over(gate, inner)
            )
        return self._gates[gate]

    def _over(self, gate: Gate, form: Form) -> Form:
        strict, origin = gate.strict, gate.origin
        if gate.most == 1:
            return self._step.threshold(form, strict=strict, origin=origin)
        count = self._step.gate(form, strict=strict, origin=origin, most=gate.most)
        return affine.spike(count, form.shape)

    def own_gates(self, state: StepState) -> frozenset[Gate]:
        """Return the gates that look at this state: what they do to it is its reset."""
        own = State(state.name)
        settled_form = self.form(state.after)
        return frozenset(
            gate
            for gate in settled_form.gates
            if own in gate.form.atoms
            or membrane_scale(gate.form, settled_form) is not None
            or membrane_scale(gate.form, settled_form.free()) is not None
        )

    def inputs(self, form: Form, own: frozenset[Gate]) -> Form:
        """Turn spikes of others, weighed one by one, into inputs."""
        terms: dict[Key, Array] = {}
        for (gates, atom), coefficient in form.terms.items():
            foreign = gates - own
            sent: Mapping[Key, Array] = {(gates, atom): coefficient}
            if atom is ONE and foreign:
                sent = self._foreign(foreign, gates & own, coefficient, form)
            for key, weight in sent.items():
                terms[key] = terms[key] + weight if key in terms else weight
        return Form(form.shape, terms)

    def _foreign(
        self, foreign: frozenset[Gate], own: frozenset[Gate], coefficient: Array, form: Form
    ) -> dict[Key, Array]:
        """Return what a product of others' spikes brings, as inputs."""
        product = Form(form.shape, {(foreign, ONE): np.ones(1)})
        brought: dict[Key, Array] = {}
        for (gates, atom), weight in as_units(
            self._step, product, "a product of spikes"
        ).terms.items():
            key: Key = (own | gates, atom)
            if atom is ONE and len(gates) == 1:
                key = (own, self._sent(next(iter(gates)), form))
            brought[key] = coefficient * weight
        return brought

    def _sent(self, source: Gate | Signal | State, form: Form) -> Image:
        shape = form.shape[1:] or (1,)
        if isinstance(source, Gate):
            source = self._kept_state(source) or source
        return self._step.image(source, shape, (), shape)

    def _read_off(self, gate: Gate, state: StepState, scale: Array) -> Form:
        """Return the gate one step earlier: the same threshold on the old membrane."""
        rises = bool((scale > 0).all())
        offset = gate.form.constant - scale * state.after.constant
        old = affine.atom(State(state.name), gate.form.shape).scaled(scale)
        old = old + Form(gate.form.shape, {(frozenset(), ONE): offset})
        rising = old if rises else -old
        strict = gate.strict if rises else not gate.strict
        for known in self._step.gates:
            # The same threshold, but for the rounding of its constant.
            if known.strict == strict and _same_gate(known.form, rising):
                found = affine.spike(known, gate.form.shape)
                return found if rises else _one(found) - found
        return self._step.threshold(old, strict=gate.strict, origin=gate.origin)
