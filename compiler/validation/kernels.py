r"""What decays do to a synapse's effect, from the recursion that neurons run.

A spike leads to the current ``i[n] = a i[n-1]`` from 1, and to the voltage ``v[n] = b v[n-1] +
i[n]``. With a second neuron of decays (c, d), sums over all n of products of their states obey::

    sum i i' = 1 / (1 - a c)
    sum i v' = sum i i' / (1 - a d)          sum v i' = sum i i' / (1 - b c)
    sum v v' = (sum i i' + b c sum v i' + a d sum i v') / (1 - b d)

since v is what i adds to b times itself one step before. All terms are positive: little is lost
to rounding. The quantizer has a closed form of its own; nothing is shared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np

from spikec.compiler.arrays import Array, FloatArray
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import DECAY_UNITY
from spikec.compiler.ir import Population
from spikec.compiler.program import Neurons
from spikec.compiler.validation.findings import outside

__all__ = ["Limits", "bias_factor", "check_decays", "kernel_gain"]

#: The least and the largest that a decay may be.
Span = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a target holds, as far as numbers are rounded to it; all of it if nobody says."""

    du: Span = (0, DECAY_UNITY - 1)
    dv: Span = (0, DECAY_UNITY)
    bias_mantissa: Span = (-1, 1)
    bias_exponent: int = 0


#: No pair of decays within so many units of the nearest may keep a kernel better.
_NEIGHBOURS = range(-2, 3)
#: Square errors closer than this are equal: what float arithmetic leaves of 1 - x with x near 1.
_NOISE, _RELATIVE = 1e-11, 1e-6
#: Neurons that are looked at together.
_BLOCK = 4096
#: A factor this close to the middle of two decays may go to either.
_MIDDLE = 0.5 + 1e-9


def overlap(a: Array, b: Array, c: Array, d: Array) -> FloatArray:
    """Return the sum over time of the products of two kernels."""
    currents = 1 / (1 - a * c)
    first, second = currents / (1 - a * d), currents / (1 - b * c)
    voltages: FloatArray = (currents + b * c * second + a * d * first) / (1 - b * d)
    return voltages


def mismatch(a: Array, b: Array, c: Array, d: Array) -> tuple[FloatArray, FloatArray]:
    """Return the relative square error of kernel (c, d) at its best gain, and that gain."""
    whole, cross, own = overlap(a, b, a, b), overlap(a, b, c, d), overlap(c, d, c, d)
    error: FloatArray = np.maximum(1 - cross * (cross / whole) / own, 0.0)
    return error, cross / own


class _Factors:
    """What a population keeps a step, in the network and in the program.

    Arrays have the population's shape, or one element where all neurons are alike.
    """

    def __init__(self, node: Population, neurons: Neurons, limits: Limits) -> None:
        alpha = np.zeros(node.shape) if node.alpha is None else node.alpha
        parts = (alpha, node.beta, neurons.du, neurons.dv)
        if all((item == item.flat[0]).all() for item in parts):
            one = (1,) * len(node.shape)
            parts = tuple(item.reshape(-1)[:1].reshape(one) for item in parts)  # type: ignore[assignment]
        self.alpha, self.beta, self.du, self.dv = parts
        self.limits = (limits.du, limits.dv)
        self.filtered = node.alpha is not None
        exact_du = (1 - self.alpha) * DECAY_UNITY - 1
        exact_dv = (1 - self.beta) * DECAY_UNITY
        self.exact = tuple(
            np.clip(exact, *span)
            for exact, span in zip((exact_du, exact_dv), self.limits, strict=True)
        )
        # What never forgets has no finite kernel, nor what a chip cannot make forget.
        self.finite = (self.beta < 1) & (np.rint(self.exact[1]) > 0)

    def kernel(
        self, du: Array, dv: Array, part: slice | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Return the mismatch of decays and their gain; meaningless where nothing is finite.

        They are those of all neurons, or ``[..., neuron]`` of a flat ``part`` of them.
        """
        parts = (self.alpha, self.beta, self.finite)
        alpha, beta, finite = parts if part is None else (x.reshape(-1)[part] for x in parts)
        a, b = (np.where(finite, item, 0.0) for item in (alpha, beta))
        return mismatch(a, b, _kept(du + 1), _kept(np.maximum(dv, 1)))


def _kept(taken: Array) -> FloatArray:
    kept: FloatArray = (DECAY_UNITY - taken) / DECAY_UNITY
    return kept


def check_decays(node: Population, neurons: Neurons, limits: Limits) -> Iterator[Diagnostic]:
    """Yield decays that are not the nearest ones, and that another pair near those beats.

    Where a kernel is finite, no pair within two units of the nearest may have a smaller least
    square error at its best gain. Elsewhere, decays are the nearest.
    """
    where = f"population '{node.name}'"
    known = _Factors(node, neurons, limits)
    worse = _beaten(known)
    far = [
        np.abs(found - exact) > _MIDDLE
        for found, exact in zip((known.du, known.dv), known.exact, strict=True)
    ]
    # Where both are the nearest and another pair is better, the search was not done.
    unsought = known.finite & worse & ~far[0] & ~far[1]
    wrong_du = np.where(known.finite & known.filtered, far[0] & worse, far[0])
    wrong_dv = np.where(known.finite, far[1] & worse, far[1]) | unsought
    for field, found, exact, wrong in (
        ("du", neurons.du, known.exact[0], wrong_du),
        ("dv", neurons.dv, known.exact[1], wrong_dv),
    ):
        whole = np.broadcast_to(wrong, node.shape)
        yield from outside("V010", where, field, whole, found, exact)


def _beaten(known: _Factors) -> Array:
    """Return for which neurons some pair of decays near the nearest has a smaller error."""
    (least_du, most_du), (least_dv, most_dv) = known.limits
    own, _ = known.kernel(known.du, known.dv)
    beaten = np.empty(own.shape, bool)
    more_du = _NEIGHBOURS if known.filtered else (0,)
    pairs = np.array(list(product(more_du, _NEIGHBOURS)), np.int64).T[:, :, None]
    for begin in range(0, own.size, _BLOCK):
        part = slice(begin, begin + _BLOCK)
        nearest = [np.rint(item.reshape(-1)[part]).astype(np.int64) for item in known.exact]
        du = np.clip(nearest[0] + pairs[0], least_du, most_du)
        dv = np.clip(nearest[1] + pairs[1], max(least_dv, 1), most_dv)
        others, _ = known.kernel(du, dv, part)
        least = others.min(axis=0)
        beaten.reshape(-1)[part] = least * (1 + _RELATIVE) + _NOISE < own.reshape(-1)[part]
    return beaten


def kernel_gain(node: Population, neurons: Neurons, limits: Limits) -> FloatArray:
    """Return what weights are multiplied by, per neuron, to keep the kernel: 1 without one."""
    known = _Factors(node, neurons, limits)
    _, gain = known.kernel(known.du, known.dv)
    same = (_kept(known.du + 1) == known.alpha) & (_kept(known.dv) == known.beta)
    kept: FloatArray = np.broadcast_to(np.where(known.finite & ~same, gain, 1.0), node.shape)
    return kept


def bias_factor(node: Population, neurons: Neurons) -> FloatArray:
    """Return what a bias is multiplied by to lead to the same voltage with the program's leak."""
    leaks = (node.beta < 1) & (neurons.dv > 0)
    lost = np.where(leaks, 1 - node.beta, 1.0)
    factor: FloatArray = np.where(leaks, neurons.dv / DECAY_UNITY / lost, 1.0)
    return factor
