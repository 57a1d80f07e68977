"""One step of one neuron as C: the contract of :mod:`spikec.compiler.program`, line by line.

Portable and native code share it; they differ in where a parameter is found and in
how events are counted. Shifts are never of negative numbers: a decay works on
the magnitude, which is also what truncation toward zero means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from spikec.backends.c.plan import Cell
from spikec.compiler.arrays import Array
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX, VTH_SHIFT

__all__ = ["has_real_lines", "parameters", "real_lines", "update_lines"]


def parameters(cell: Cell) -> dict[str, Array]:
    """Return the integers of each neuron that its update uses, by name."""
    neurons = cell.neurons
    found = {
        "keep_u": DECAY_UNITY - 1 - neurons.du,
        "keep_v": DECAY_UNITY - neurons.dv,
        "bias": neurons.bias,
        "initial_u": neurons.initial_current,
        "initial_v": neurons.initial_voltage,
    }
    if neurons.floor is not None:
        found["floor"] = neurons.floor
    if neurons.vth is None:
        return found
    found["threshold"] = neurons.vth << VTH_SHIFT
    if neurons.reset == "subtract":
        found["amount"] = neurons.reset_amount
    if neurons.reset == "value":
        assert neurons.reset_value is not None
        found["reset"] = neurons.reset_value
    return found


def update_lines(
    cell: Cell, *, value: Callable[[str], str], count: Callable[[str, str], str]
) -> list[str]:
    """Return statements that take ``a``, ``u[i]``, ``v[i]``, ``last``, ``idle[i]`` one step on.

    ``a`` is the sum of what arrived, ``last`` whether the neuron spiked one step before. They
    leave the number of spikes in ``s``. ``value(name)`` is the C expression of a parameter;
    ``count(event, condition)`` a statement that counts one.
    """
    return [
        *_current(cell, value, count),
        *_voltage(cell, value, count),
        *_spikes(cell, value, count),
    ]


_Value = Callable[[str], str]
_Count = Callable[[str, str], str]


def _current(cell: Cell, value: _Value, count: _Count) -> Iterator[str]:
    bits = 64 if cell.wide else 32
    yield f"{cell.type} current = decay{bits}(u[i], {value('keep_u')}) + a * 64;"
    if cell.wraps:
        yield count("wrapped", f"current > {STATE_MAX} || current < -{STATE_MAX}")
        half = STATE_MAX + 1
        yield (
            f"current = current > {half} ? current - {2 * half} "
            f": current <= -{half} ? current + {2 * half} : current;"
        )
    yield "u[i] = current;"


def _voltage(cell: Cell, value: _Value, count: _Count) -> Iterator[str]:
    neurons = cell.neurons
    back = "0" if neurons.reset == "zero" else value("reset") if neurons.reset == "value" else ""
    next_step = neurons.vth is not None and neurons.reset_order == "next_step"
    before = f"(last ? {back} : v[i])" if next_step and back else "v[i]"
    terms = f"decay32({before}, {value('keep_v')}) + current"
    if neurons.bias.any():
        terms += f" + {value('bias')}"
    if next_step and neurons.reset == "subtract":
        terms += f" - (last ? {value('amount')} : 0)"
    yield f"{cell.type} drive = {terms};"
    if neurons.reset_drops_input:
        yield f"drive = last ? {back} : drive;"
    if cell.idles:
        yield "drive = idle[i] > 0 ? v[i] : drive;"
    yield count("saturated", f"drive > {STATE_MAX} || drive < -{STATE_MAX}")
    narrow = "(int32_t)" if cell.wide else ""
    yield f"int32_t voltage = {narrow}{_clipped('drive')};"


def _spikes(cell: Cell, value: _Value, count: _Count) -> Iterator[str]:
    neurons = cell.neurons
    if neurons.vth is not None:
        active = " && idle[i] == 0" if cell.idles else ""
        threshold, compared = value("threshold"), "voltage"
        if neurons.reset_twice:  # v[i] is still what the last step left
            compared = f"(v[i] > {threshold} ? voltage - {value('amount')} : voltage)"
        yield f"int32_t s = {compared} > {threshold}{active};"
        yield from _reset(cell, value, count)
    if neurons.floor is not None:
        floor = value("floor")
        yield f"voltage = voltage < {floor} ? {floor} : voltage;"
    yield "v[i] = voltage;"
    if cell.idles:
        yield f"idle[i] = s > 0 ? {neurons.refractory} : idle[i] > 0 ? idle[i] - 1 : 0;"


def _reset(cell: Cell, value: _Value, count: _Count) -> Iterator[str]:
    neurons = cell.neurons
    if neurons.max_spikes > 1:
        amount, most = value("amount"), neurons.max_spikes
        # Rounded up: the last subtraction ends at the threshold or below.
        yield f"s = s ? (voltage - {value('threshold')} + {amount} - 1) / {amount} : 0;"
        yield f"s = s > {most} ? {most} : s;"
    if neurons.reset_order != "at_spike" or neurons.reset == "none":
        return
    if neurons.reset == "subtract":
        lowered = (
            f"s * {value('amount')}" if neurons.max_spikes > 1 else f"(s ? {value('amount')} : 0)"
        )
        yield f"voltage = voltage - {lowered};"
        yield count("saturated", f"voltage > {STATE_MAX} || voltage < -{STATE_MAX}")
        yield f"voltage = {_clipped('voltage')};"
    else:
        yield f"voltage = s ? {'0' if neurons.reset == 'zero' else value('reset')} : voltage;"


def _clipped(name: str) -> str:
    return f"({name} > {STATE_MAX} ? {STATE_MAX} : {name} < -{STATE_MAX} ? -{STATE_MAX} : {name})"


def has_real_lines(cell: Cell) -> bool:
    """Say whether :func:`real_lines` can take a step: current and voltage are 24 bits, no more."""
    neurons = cell.neurons
    special = (
        cell.idles or neurons.max_spikes > 1 or neurons.floor is not None
        or neurons.reset_drops_input or neurons.reset_twice
    )  # fmt: skip
    return not (special or cell.wraps or cell.wide)


def real_lines(cell: Cell, *, value: Callable[[str], str]) -> Iterator[str]:
    """Yield :func:`update_lines` where ``u`` and ``v`` are float, rounded toward zero.

    Two states make less than 2**24, which a float holds exactly, as does a bias less a reset; their
    sum rounds beyond 2**24 only, where the voltage saturates anyway. ``kept`` is in ``reals.c``.
    """
    neurons = cell.neurons

    def real(name: str) -> str:
        part = " * 0x1p-12f" if name.startswith("keep_") else ""
        return f"((float)(int32_t){value(name)}{part})"

    back = {"zero": "0.0f", "value": real("reset") if neurons.reset == "value" else ""}
    next_step = neurons.vth is not None and neurons.reset_order == "next_step"
    yield f"const float current = kept(u[i], {real('keep_u')}) + (float)a * 64.0f;"
    yield "u[i] = current;"
    before = "v[i]"
    if next_step and neurons.reset in back:
        before = f"(last ? {back[neurons.reset]} : v[i])"
    added = real("bias") if neurons.bias.any() else ""
    if next_step and neurons.reset == "subtract":
        added = f"({added or '0.0f'} - (last ? {real('amount')} : 0.0f))"
    terms = f"kept({before}, {real('keep_v')}) + current"
    yield f"const float drive = {f'({terms}) + {added}' if added else terms};"
    yield from _clipped_real("voltage", "drive")
    if neurons.vth is not None:
        yield f"const int32_t s = voltage > {real('threshold')};"
        if not next_step and neurons.reset == "subtract":
            yield f"const float lowered = voltage - (s ? {real('amount')} : 0.0f);"
            yield from _clipped_real("left", "lowered")
            yield "voltage = left;"
        elif not next_step and neurons.reset in back:
            yield f"voltage = s ? {back[neurons.reset]} : voltage;"
    yield "v[i] = voltage;"


def _clipped_real(name: str, drive: str) -> Iterator[str]:
    most = f"{STATE_MAX}.0f"
    yield f"float {name} = {drive} > {most} ? {most} : {drive};"
    yield f"{name} = {name} < -{most} ? -{most} : {name};"
    yield f"saturated += {name} != {drive};"
