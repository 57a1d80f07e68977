"""Membranes that cannot fall below a floor, however the clamp is written.

``relu(u - m) + m``, ``max(u, m)``, ``clip(u, m)`` and ``where(u > m, u, m)`` are one
form: ``m`` and, where the gate of ``u - m`` is open, ``u - m``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from spikec.compiler.arrays import Array
from spikec.compiler.frontends.affine import ONE, Form, ratio

if TYPE_CHECKING:
    from spikec.compiler.frontends.onnx_forms import StepModel

__all__ = ["floored", "unfloored"]


def unfloored(model: StepModel) -> StepModel:
    """Return ``model`` with the floors of its states beside what they become."""
    states = []
    for state in model.states:
        found = floored(state.after)
        states.append(state if found is None else replace(state, after=found[0], floor=found[1]))
    return replace(model, states=tuple(states))


def floored(form: Form) -> tuple[Form, Array] | None:
    """Return x and m with ``form = max(x, m)`` and m constant, or None."""
    for gate in form.gates:
        if any(gate not in gates and (gates or atom is not ONE) for gates, atom in form.terms):
            continue
        raised = Form(form.shape)
        for (gates, atom), coefficient in form.terms.items():
            if gate in gates:
                raised = raised + Form(form.shape, {(gates - {gate}, atom): coefficient})
        scale = ratio(raised.without_constant(), gate.form.without_constant())
        if scale is None or not (scale > 0).all():
            continue
        if raised.close_to(gate.form.scaled(scale).reshaped(form.shape)):
            level = Form(form.shape, {(frozenset(), ONE): form.constant})
            return raised + level, form.constant
    return None
