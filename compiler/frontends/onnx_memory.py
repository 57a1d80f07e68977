"""States that only remember a spike, and spikes used element by element.

Some networks carry the last spike as a state, to reset or to feed back with.
Where that spike can be read off the old membrane it is: ``S' = H(U' - vth)`` means
that S is ``H(U - vth)``. What remains of remembered or foreign spikes in an
equation, weighed element by element, is an input like any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from spikec.compiler.arrays import Array
from spikec.compiler.frontends import affine
from spikec.compiler.frontends.affine import ONE, Atom, Form, Gate, Image, Key, State
from spikec.compiler.frontends.onnx_forms import StepModel
from spikec.compiler.frontends.onnx_neurons import membrane_scale
from spikec.compiler.frontends.onnx_step import Step, StepState

__all__ = ["settled"]


def settled(model: StepModel) -> StepModel:
    """Return ``model`` with remembered spikes read off membranes, the rest made inputs."""
    memories = {
        state.name: gate for state in model.states if (gate := state.after.is_spike()) is not None
    }
    settling = _Settling(model.step, memories, model.states)
    own = {state.name: settling.own_gates(state) for state in model.states}
    states = tuple(
        replace(state, after=settling.inputs(settling.form(state.after), own[state.name]))
        if state.name not in memories
        else replace(state, after=settling.form(state.after))
        for state in model.states
    )
    outputs = {name: settling.form(form) for name, form in model.outputs.items()}
    return replace(model, states=states, outputs=outputs)


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
        self._gates: dict[Gate, Form] = {}
        self._old: dict[str, Form] = {}
        for name, gate in memories.items():
            for state in states:
                if state.name in memories:
                    continue
                scale = membrane_scale(gate.form, state.after)
                if scale is not None:
                    self._old[name] = self._read_off(gate, state, scale)
                    break

    def form(self, form: Form) -> Form:
        """Return ``form`` without remembered spikes that a membrane tells."""
        total = Form(form.shape)
        for (gates, atom), coefficient in form.terms.items():
            remembered = isinstance(atom, State) and atom.name in self._memories
            old = self._old.get(atom.name) if isinstance(atom, State) else None
            kept: Atom = ONE if old is not None else atom
            if remembered and old is None and not gates:
                kept = self._sent(atom, form)  # type: ignore[arg-type]  # it is a State
            if isinstance(atom, Image):
                kept = self._image(atom)
            term = Form(form.shape, {(frozenset(), kept): coefficient})
            if old is not None:
                term = term.times(old.reshaped(form.shape))
            for gate in gates:
                term = term.times(self.gate(gate).reshaped(form.shape))
            total = total + term
        return total

    def _image(self, image: Image) -> Image:
        """Return the image of the settled source."""
        if not isinstance(image.source, Gate):
            return image
        source = self.gate(image.source).is_spike()
        if source is None or source is image.source:
            return image
        return self._step.image(source, image.sent, image.stages, image.shape)

    def gate(self, gate: Gate) -> Form:
        """Return the gate over settled forms."""
        if gate not in self._gates:
            inner = self.form(gate.form)
            inner = self.inputs(inner, _about(inner))
            same = inner.digest() == gate.form.digest()
            self._gates[gate] = (
                affine.spike(gate, gate.form.shape)
                if same
                else self._step.threshold(inner, strict=gate.strict, origin=gate.origin)
            )
        return self._gates[gate]

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
            key: Key = (gates, atom)
            if atom is ONE and len(gates) == 1 and not gates & own:
                key = (frozenset(), self._sent(next(iter(gates)), form))
            terms[key] = terms[key] + coefficient if key in terms else coefficient
        return Form(form.shape, terms)

    def _sent(self, source: Gate | State, form: Form) -> Image:
        shape = form.shape[1:] or (1,)
        return self._step.image(source, shape, (), shape)

    def _read_off(self, gate: Gate, state: StepState, scale: Array) -> Form:
        membrane = affine.atom(State(state.name), gate.form.shape).scaled(scale)
        offset = gate.form.constant - scale * state.after.constant
        old = membrane + Form(gate.form.shape, {(frozenset(), ONE): offset})
        return self._step.threshold(old, strict=gate.strict, origin=gate.origin)
