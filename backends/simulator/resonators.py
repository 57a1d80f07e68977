"""Resonate-and-fire populations step by step: the equations of :mod:`spikec.compiler.resonator`.

Part of the golden engine. What arrives is one complex number per neuron, exact up to 2**53.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikec.backends.simulator.encoders import Count
from spikec.compiler.arrays import Array
from spikec.compiler.fixedpoint import DECAY_BITS, saturate24, shift_toward_zero
from spikec.compiler.resonator import Resonator
from spikec.compiler.timeline import State

__all__ = ["advance", "initial"]


def initial(item: Resonator, samples: int) -> State:
    """Return the state at rest."""
    zeros = np.zeros((samples, *item.shape), np.int64)
    return State(current=zeros, voltage=zeros, spikes=zeros.astype(np.uint8), idle=zeros)


def advance(item: Resonator, state: State, arrivals: Sequence[Array], count: Count) -> State:
    """Return the state one step later."""
    arrived = sum(arrivals, start=np.zeros(state.voltage.shape, np.complex128))
    real = _turned(state.voltage, item.cos_decay) - _turned(state.current, item.sin_decay)
    imaginary = _turned(state.voltage, item.sin_decay) + _turned(state.current, item.cos_decay)
    real = _kept(item, real + (arrived.real.astype(np.int64) << item.state_exp), count)
    imaginary = _kept(item, imaginary + (arrived.imag.astype(np.int64) << item.state_exp), count)
    if item.resonance == "phase":
        spikes = (real >= item.vth) & (imaginary >= 0) & (state.current < 0)
    else:
        spikes = imaginary >= item.vth
        real = np.where(spikes, 0, real)
        imaginary = np.where(spikes, item.vth - 1, imaginary)
    return State(current=imaginary, voltage=real, spikes=spikes.astype(np.uint8), idle=state.idle)


def _turned(values: Array, factor: int) -> Array:
    return shift_toward_zero(values * factor, DECAY_BITS)


def _kept(item: Resonator, values: Array, count: Count) -> Array:
    kept = saturate24(values)
    count(f"{item.name}/state saturated", int((kept != values).sum()))
    return kept
