"""Sigma-delta populations step by step: the equations of :mod:`spikec.compiler.sigma_delta`.

Part of the golden engine. Sums are taken in 64 bits, so that what leaves 24 bits is
counted, and kept in 32, which wrap as Lava's do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.fixedpoint import STATE_MAX
from spikec.compiler.sigma_delta import SigmaDelta
from spikec.compiler.timeline import State
from spikec.compiler.trace import Quantity

__all__ = ["Coded", "Count", "advance", "initial", "narrowed"]

#: Adds to the number of times that something went out of range.
Count = Callable[[str, int], None]

_SPAN = 1 << 24


@dataclass(frozen=True, eq=False, kw_only=True)
class Coded(State):
    """The state of sigma-delta neurons: sigma is ``current``, x is ``voltage``."""

    residue: Array

    def get(self, quantity: Quantity) -> Array:
        """Return one recorded quantity; states have the type that those of other neurons have."""
        values = super().get(quantity)
        return values if quantity == "spikes" else values.astype(np.int64)


def initial(item: SigmaDelta, samples: int) -> Coded:
    """Return the state at rest: all zeros."""
    zeros = np.zeros((samples, *item.shape), np.int32)
    return Coded(current=zeros, voltage=zeros, spikes=zeros, idle=zeros, residue=zeros)


def advance(item: SigmaDelta, state: Coded, arrivals: Sequence[Array], count: Count) -> Coded:
    """Return the state one step later."""
    arrived = sum(arrivals, start=np.zeros(state.current.shape, np.int64))
    if item.encoding == "delta":
        x = sigma = _kept(item, arrived << item.scale, count)
    else:
        x = sigma = _kept(item, state.current + arrived, count)
    if item.encoding == "sigma_delta":
        x = _kept(item, sigma + (item.bias << item.scale), count)
    if item.activation == "relu":
        x = np.maximum(x, 0)
    if item.vth is None:
        return Coded(
            current=sigma, voltage=x, spikes=state.spikes, idle=state.idle, residue=state.residue
        )
    change = _kept(item, x.astype(np.int64) - state.voltage + state.residue, count)
    sent = np.where(np.abs(change) >= item.vth << item.scale, change, 0)
    message = sent >> item.state_exp
    most = 1 << (item.message_bits - 1)
    count(
        f"{item.name}/message left {item.message_bits} bits",
        int(((message < -most) | (message >= most)).sum()),
    )
    return Coded(
        current=sigma, voltage=x, spikes=message, idle=state.idle, residue=change - sent
    )  # fmt: skip


def narrowed(values: Array) -> Array:
    """Return what a convolution hands over: 24 bits, in two's complement."""
    cut: Array = (values + (_SPAN >> 1)) % _SPAN - (_SPAN >> 1)
    return cut


def _kept(item: SigmaDelta, values: Array, count: Count) -> Array:
    """Return ``values`` in 32 bits; those that a chip's 24 bits would not hold are counted."""
    count(f"{item.name}/state left 24 bits", int((np.abs(values) > STATE_MAX).sum()))
    kept: Array = values.astype(np.int32)
    return kept
