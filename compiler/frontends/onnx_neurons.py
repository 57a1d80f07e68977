"""From the affine forms of a step to populations with named switches.

A spike is a gate ``H(c (M - vth) > 0)``. Where M stands decides the timing, with
U the state before the step and U' after it:

=======================  ==============================================================
M is U                   the spike of the last step's voltage (the seed model): the
                         source reports it one step late; a reset comes at the next step
M is U'                  the voltage after the step, which a reset by the old voltage's
                         spike has already entered (snnTorch): reset at the next step
M is U' without gates    the voltage before the reset: reset at the spike
the same less amount*r   what snnTorch compares with ``reset_delay=False``, where r is the
                         gate of U: also at the spike, ``reset_twice``
=======================  ==============================================================

What is left of U' beside the leak, the drive and the constant is the reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, Shape, frozen, size
from spikec.compiler.frontends.affine import ONE, Form, Gate, Image, Key, State, has_whole, ratio
from spikec.compiler.frontends.onnx_floors import floored
from spikec.compiler.frontends.onnx_step import RECTIFIED, NotAStepError, StepState
from spikec.compiler.ir import Coupling, Reset, ResetOrder

__all__ = [
    "EACH",
    "Neuron",
    "Timing",
    "find_neuron",
    "find_readout",
    "membrane_scale",
    "old_versions",
    "signed_scale",
]

Timing: TypeAlias = Literal["old", "new", "before_reset"]
_TOLERANCE = 2e-6


@dataclass(frozen=True, eq=False, kw_only=True)
class Neuron:
    """A population as its equations say; arrays are flat, one value or one per neuron.

    ``inputs`` weighs every image that drives it, in units of its current;
    ``constant_current`` is added to the current each step. ``gate`` is None for a
    readout.
    """

    shape: Shape
    voltage: StepState | None
    current: StepState | None
    gate: Gate | None
    timing: Timing
    alpha: Array | None
    beta: Array
    gain: Array
    bias: Array
    coupling: Coupling
    inputs: tuple[tuple[Image, Array], ...]
    constant_current: Array
    vth: Array
    reset: Reset
    reset_order: ResetOrder
    reset_value: Array | None
    reset_drops_input: bool
    floor: Array | None = None
    reset_twice: bool = False

    @property
    def max_spikes(self) -> float:
        """How many spikes the file lets it send in a step; infinite where it has no limit."""
        return 1 if self.gate is None else self.gate.most


@dataclass(frozen=True, eq=False, kw_only=True)
class _Drive:
    """The gate-free part of U', taken apart."""

    beta: Array
    bias: Array
    current: StepState | None
    alpha: Array | None
    gain: Array
    coupling: Coupling
    inputs: tuple[tuple[Image, Array], ...]
    constant_current: Array


EACH = (
    "each of several spikes takes the same amount off, that by which their thresholds differ, and "
    "there are none below the first: s = floor(u / theta) where u >= theta, u - s * theta"
)
_CLAMP = (
    "what a membrane becomes may be held above a constant, last in the step: max(u, floor); "
    "other clamps are not supported"
)


def find_neuron(gate: Gate, states: Sequence[StepState]) -> Neuron:
    """Return the population whose spike ``gate`` is.

    Raises :class:`NotAStepError` saying what about its equations has no
    counterpart among the switches.
    """
    where = gate.origin or "a threshold"
    for state in states:
        timing, scale = _timing(gate.form, state)
        if timing is not None:
            return _neuron(gate, state, timing, scale, states, where)
        if _resets_twice(gate, state):
            timing, scale = _timing(gate.form.free(), state)
            assert timing is not None
            neuron = _neuron(gate, state, timing, scale, states, where)
            return replace(neuron, reset_twice=True)
    if not any(isinstance(atom, State) for atom in gate.form.atoms) and not gate.form.gates:
        return _stateless(gate, where)
    _refuse_clamp(gate, states, where)
    raise NotAStepError(
        where,
        "the threshold is on no state before, after, or before the reset of a step",
        "a neuron compares one membrane state, plus or minus a constant, with its threshold",
    )


def _refuse_clamp(gate: Gate, states: Sequence[StepState], where: str) -> None:
    rounded = next((state for state in states if has_whole(state.after)), None)
    if rounded is not None or has_whole(gate.form):
        name = "a membrane" if rounded is None else f"state '{rounded.name}'"
        raise NotAStepError(where, f"{name} is rounded to whole numbers that count no spikes", EACH)
    involved = {*gate.form.gates, *(item for state in states for item in state.after.gates)}
    if any(item.origin.endswith(RECTIFIED) for item in involved):
        raise NotAStepError(where, "a membrane is clamped on its way", _CLAMP)


def old_versions(gates: Sequence[Gate], states: Sequence[StepState]) -> dict[Gate, Gate]:
    """Return, for gates that only repeat a spike of the last step, the gate of that spike."""
    versions: dict[Gate, Gate] = {}
    for state in states:
        timed = {gate: _timing(gate.form, state) for gate in gates}
        for gate, (timing, scale) in timed.items():
            if timing != "new":
                continue
            vth = state.after.constant - gate.form.constant / scale
            for other, (older, factor) in timed.items():
                same = (other.strict, other.most) == (gate.strict, gate.most) and older == "old"
                if same and _agree(-other.form.constant / factor, vth):
                    versions[other] = gate
    return versions


def find_readout(
    form: Form, states: Sequence[StepState], floor: Array | None = None
) -> Neuron | None:
    """Return the leaky integrator whose voltage ``form``, held above ``floor``, is, or None."""
    shown, floor = floored(form) or (form, floor)
    for state in states:
        fits = size(form.shape) == size(state.after.shape) and not state.after.gates
        if not fits or not state.after.close_to(shown.reshaped(state.after.shape)):
            continue
        if state.floor is not None and (floor is None or not _agree(state.floor, floor)):
            continue
        drive = _drive(state, state.after, states, f"state '{state.name}'")
        return _assembled(state, None, "before_reset", drive, frozen(np.zeros(1)), _NO_RESET)
    return None


_Reset: TypeAlias = tuple[Reset, ResetOrder, "Array | None", bool]
_NO_RESET: _Reset = ("none", "at_spike", None, False)


def _timing(form: Form, state: StepState) -> tuple[Timing | None, Array]:
    """Say which membrane a gate's form looks at, and the factor it has there."""
    own = State(state.name)
    compared = form.without_constant()
    candidates: tuple[tuple[Timing, Form], ...] = (
        ("old", Form(state.after.shape, {(frozenset(), own): np.ones(1)})),
        ("new", state.after.without_constant()),
        ("before_reset", state.after.free().without_constant()),
    )
    for timing, membrane in candidates:
        scale = ratio(compared, membrane)
        if scale is not None and (scale > 0).all():
            if timing == "new" and not state.after.gates:
                return "before_reset", scale
            return timing, scale
    return None, np.ones(1)


def _resets_twice(gate: Gate, state: StepState) -> bool:
    """Say whether a voltage left above threshold counts against the next spike.

    With ``r = H(U > vth)``: ``s = H(M - amount * r > vth)``, ``U' = M - amount * s``, and the
    same vth and amount in both.
    """
    if len(gate.form.gates) != 1 or state.after.gates != {gate} or gate.most > 1:
        return False
    (left,) = gate.form.gates
    timing, scale = _timing(gate.form.free(), state)
    own = Form(state.after.shape, {(frozenset(), State(state.name)): np.ones(1)})
    share = membrane_scale(left.form, own)
    if timing != "before_reset" or share is None or (left.strict, left.most) != (gate.strict, 1):
        return False
    counted, taken = gate.form.gated(left), state.after.gated(gate)
    return (
        not counted.atoms
        and not taken.atoms
        and _agree(counted.constant / scale, taken.constant)
        and _agree(-left.form.constant / share, state.after.constant - gate.form.constant / scale)
    )


def membrane_scale(form: Form, membrane: Form) -> Array | None:
    """Return c > 0 with ``form = c * membrane`` but for constants, or None."""
    scale = signed_scale(form, membrane)
    return scale if scale is not None and (scale > 0).all() else None


def signed_scale(form: Form, membrane: Form) -> Array | None:
    """Return c of one sign with ``form = c * membrane`` but for constants, or None."""
    scale = ratio(form.without_constant(), membrane.without_constant())
    one_sign = scale is not None and ((scale > 0).all() or (scale < 0).all())
    return scale if one_sign else None


def _neuron(
    gate: Gate,
    state: StepState,
    timing: Timing,
    scale: Array,
    states: Sequence[StepState],
    where: str,
) -> Neuron:
    offset = -gate.form.constant / scale
    if timing != "old":
        offset = offset + state.after.constant
    resetting = gate if timing == "before_reset" else _old_gate(gate, state, offset)
    foreign = state.after.gates - ({resetting} if resetting else set())
    if gate.most > 1 and (foreign or resetting is not gate):
        raise NotAStepError(
            where,
            f"several spikes a step, but they reset state '{state.name}' otherwise than one by one",
            EACH,
        )
    if foreign:
        found = next(iter(foreign))
        clamp = found.origin.endswith(RECTIFIED)
        raise NotAStepError(
            where,
            f"state '{state.name}' also depends on {found.origin or 'another threshold'}",
            _CLAMP if clamp else "several thresholds of one membrane are not supported",
        )
    if state.floor is not None and timing != "before_reset" and (state.floor > offset).any():
        raise NotAStepError(where, f"the floor of '{state.name}' is above its threshold", _CLAMP)
    if resetting is not None:
        state = _untangled(state, resetting, states)
    drive = _drive(state, state.after.free(), states, where)
    order: ResetOrder = "at_spike" if timing == "before_reset" else "next_step"
    reset = _NO_RESET
    if resetting is not None:
        reset = _reset(state, resetting, state.after.gated(resetting), drive, order, where)
    if gate.most > 1:
        offset = _one_by_one(reset, 1 / scale, offset, where)
    return _assembled(state, gate, timing, drive, frozen(offset), reset)


def _one_by_one(reset: _Reset, apart: Array, vth: Array, where: str) -> Array:
    """Return the threshold of a count; refuse one that is no subtraction repeated.

    The amount is a constant of the file, the threshold comes of a division by it: where
    they are equal but for that rounding, they are equal.
    """
    kind, _, amount, _ = reset
    if kind != "subtract" or amount is None or not _agree(amount, apart):
        raise NotAStepError(
            where,
            f"several spikes a step, {float(apart.flat[0]):g} apart in the membrane, but a reset "
            + ("by another amount" if kind == "subtract" else f"of kind '{kind}'"),
            EACH,
        )
    exact: Array = np.where(np.isclose(vth, amount, rtol=_TOLERANCE, atol=0), amount, vth)
    return exact


def _untangled(state: StepState, resetting: Gate, states: Sequence[StepState]) -> StepState:
    """Tell feedback of single neurons from their reset, which add up in the membrane.

    A spike that feeds its own neuron's current reaches the membrane with the
    current, in the same step as the reset: what the current says is feedback.
    """
    others = {atom.name for atom in state.after.free().atoms if isinstance(atom, State)}
    after = state.after
    for current in states:
        if current.name == state.name or current.name not in others:
            continue
        share = after.coefficient(State(current.name))
        alpha = current.after.coefficient(State(current.name))
        if (alpha == 0).any():
            continue
        for image in current.after.atoms:
            fed_back = isinstance(image, Image) and image.source is resetting and not image.stages
            if not fed_back or image in after.free().atoms or not _has_input(after, current):
                continue
            weight = share / alpha * current.after.coefficient(image)
            after = after + Form(after.shape, {(frozenset(), image): weight})
            after = after - Form(after.shape, {(frozenset([resetting]), ONE): weight})
    return replace(state, after=after)


def _has_input(after: Form, current: StepState) -> bool:
    """Say whether a membrane sees its current after the step: with that step's input."""
    return any(isinstance(atom, Image) and atom in after.free().atoms
               for atom in current.after.atoms)  # fmt: skip


def _old_gate(gate: Gate, state: StepState, vth: Array) -> Gate | None:
    """Return the gate of the old voltage that U' is reset by: it must be the same threshold."""
    own = State(state.name)
    for candidate in state.after.gates:
        membrane = Form(state.after.shape, {(frozenset(), own): np.ones(1)})
        scale = ratio(candidate.form.without_constant(), membrane)
        if scale is None or not (scale > 0).all() or candidate.strict != gate.strict:
            continue
        if np.allclose(-candidate.form.constant / scale, vth, rtol=_TOLERANCE, atol=1e-12):
            return candidate
    return None


def _drive(state: StepState, free: Form, states: Sequence[StepState], where: str) -> _Drive:
    """Take apart ``beta U + (current or input) + bias``."""
    own = State(state.name)
    others = [atom for atom in free.atoms if isinstance(atom, State) and atom != own]
    images = list(free.images)
    if len(others) > 1:
        names = ", ".join(sorted(f"'{atom.name}'" for atom in others))
        raise NotAStepError(
            where,
            f"the membrane is driven by several states: {names}",
            "a membrane has one current; neurons with two (snnTorch's Alpha) are not supported",
        )
    if has_whole(free):
        raise _rounded(state, where)
    beta, bias = free.coefficient(own), free.constant
    if not others:
        inputs = tuple((image, free.coefficient(image)) for image in images)
        return _Drive(
            beta=beta,
            bias=bias,
            current=None,
            alpha=None,
            gain=np.ones(1),
            coupling="immediate",
            inputs=inputs,
            constant_current=np.zeros(1),
        )
    (other,) = others
    current = next((item for item in states if item.name == other.name), None)
    if current is None:
        raise NotAStepError(where, f"'{other.name}' is no state of this step")
    return _coupled(current, free, beta, bias, where)


def _rounded(state: StepState, where: str) -> NotAStepError:
    why = f"state '{state.name}' is rounded to whole numbers that count no spikes"
    return NotAStepError(where, why, EACH)


def _coupled(current: StepState, free: Form, beta: Array, bias: Array, where: str) -> _Drive:
    """How a current enters the membrane: as it was (delayed), or as it becomes (immediate)."""
    own = State(current.name)
    after = current.after
    strangers = [atom for atom in after.atoms if isinstance(atom, State) and atom != own]
    if has_whole(after):
        raise _rounded(current, where)
    if current.floor is not None:
        raise NotAStepError(where, f"the synaptic state '{current.name}' is clamped", _CLAMP)
    if after.gates or strangers:
        raise NotAStepError(
            where,
            f"the synaptic state '{current.name}' is changed by spikes of its own or other states",
            "a current decays and collects input, nothing else",
        )
    alpha, share = after.coefficient(own), free.coefficient(own)
    images = list(after.images)
    inputs = tuple((image, after.coefficient(image)) for image in images)
    entering = Form(
        free.shape, {key: c for key, c in free.terms.items() if isinstance(key[1], Image)}
    )
    if not entering.terms:
        return _Drive(
            beta=beta,
            bias=bias,
            current=current,
            alpha=alpha,
            gain=share,
            coupling="delayed",
            inputs=inputs,
            constant_current=after.constant,
        )
    gain = _gain(share, alpha, free, inputs)
    expected: dict[Key, Array] = {(frozenset(), image): gain * weight for image, weight in inputs}
    whole = entering.close_to(Form(free.shape, expected), _TOLERANCE)
    if not whole or not _agree(share, gain * alpha):
        raise NotAStepError(
            where,
            f"input reaches the membrane and the current '{current.name}' in different parts",
            "the membrane must see the current before or after its own step",
        )
    return _Drive(
        beta=beta,
        bias=bias - gain * after.constant,
        current=current,
        alpha=alpha,
        gain=gain,
        coupling="immediate",
        inputs=inputs,
        constant_current=after.constant,
    )


def _gain(share: Array, alpha: Array, free: Form, inputs: Sequence[tuple[Image, Array]]) -> Array:
    """What the membrane takes of the current; where that forgets at once, of its input."""
    known = np.where(alpha != 0, share / np.where(alpha != 0, alpha, 1.0), 0.0)
    unknown = alpha == 0
    for image, weight in inputs:
        ratio = free.coefficient(image) / np.where(weight != 0, weight, 1.0)
        known = np.where(unknown & (weight != 0), ratio, known)
        unknown = unknown & (weight == 0)
    gain: Array = np.where(unknown, 1.0, known)
    return gain


def _agree(left: Array, right: Array) -> bool:
    return bool(np.allclose(left, right, rtol=_TOLERANCE, atol=1e-12))


def _while_spiking(form: Form, gate: Gate) -> Form:
    """Return ``form`` where ``gate`` is open: its own spikes, fed back one by one, are 1."""
    total = Form(form.shape)
    for (gates, atom), coefficient in form.terms.items():
        own = isinstance(atom, Image) and atom.source is gate and not atom.stages
        total = total + Form(form.shape, {(gates, ONE if own else atom): coefficient})
    return total


def _reset(
    state: StepState, gate: Gate, change: Form, drive: _Drive, order: ResetOrder, where: str
) -> _Reset:
    """Read the reset off what a spike changes in U'."""
    if not change.atoms:
        return "subtract", order, frozen(-change.constant), False
    free = _while_spiking(state.after.free(), gate)
    # Everything is replaced: U' = value where it spiked.
    value = _replaced(change, free)
    if value is not None:
        kind: Reset = "zero" if not value.any() else "value"
        kept = None if kind == "zero" else frozen(value)
        return kind, order, kept, order == "next_step"
    # Only the old voltage is replaced, before it decays: U' = beta * value + drive.
    own = State(state.name)
    leak = Form(free.shape, {(frozenset(), own): drive.beta})
    value = _replaced(change, leak)
    if value is not None and order == "next_step":
        with np.errstate(divide="ignore", invalid="ignore"):
            voltage = np.where(value == 0, 0.0, value / drive.beta)
        kind = "zero" if not voltage.any() else "value"
        return kind, order, None if kind == "zero" else frozen(voltage), False
    raise NotAStepError(
        where,
        f"the reset of '{state.name}' is neither a subtraction nor a replacement",
        "a spike subtracts a constant, or sets the membrane to one",
    )


def _replaced(change: Form, whole: Form) -> Array | None:
    """Return v if ``change`` is ``v - whole``, else None."""
    rest = change + whole
    largest = max((float(np.abs(c).max()) for c in whole.terms.values()), default=0.0)
    for (_, atom), coefficient in rest.terms.items():
        if atom is not ONE and float(np.abs(coefficient).max()) > _TOLERANCE * largest:
            return None
    value = rest.constant
    return np.where(np.abs(value) <= _TOLERANCE * largest, 0.0, value)


def _stateless(gate: Gate, where: str) -> Neuron:
    """A threshold on its input alone: a neuron that forgets everything."""
    images = list(gate.form.images)
    if len(images) < len(gate.form.atoms):
        raise NotAStepError(where, "an input is compared with a threshold directly")
    drive = _Drive(
        beta=np.zeros(1),
        bias=np.zeros(1),
        current=None,
        alpha=None,
        gain=np.ones(1),
        coupling="immediate",
        inputs=tuple((image, gate.form.coefficient(image)) for image in images),
        constant_current=np.zeros(1),
    )
    return _assembled(None, gate, "before_reset", drive, frozen(-gate.form.constant), _NO_RESET)


def _assembled(
    state: StepState | None,
    gate: Gate | None,
    timing: Timing,
    drive: _Drive,
    vth: Array,
    reset: _Reset,
) -> Neuron:
    kind, order, value, drops = reset
    floor = None if state is None else state.floor
    if state is not None and floor is not None and (state.initial.reshape(-1) < floor).any():
        raise NotAStepError(f"state '{state.name}'", "it starts below its floor", _CLAMP)
    form = state.after if state is not None else gate.form if gate is not None else None
    assert form is not None
    return Neuron(
        shape=form.shape[1:] or (1,),
        voltage=state,
        current=drive.current,
        gate=gate,
        timing=timing,
        alpha=drive.alpha,
        beta=drive.beta,
        gain=drive.gain,
        bias=drive.bias,
        coupling=drive.coupling,
        inputs=drive.inputs,
        constant_current=drive.constant_current,
        vth=vth,
        reset=kind,
        reset_order=order,
        reset_value=value,
        reset_drops_input=drops,
        floor=floor,
    )
