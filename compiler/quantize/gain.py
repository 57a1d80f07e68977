"""What a gain of the synaptic kernel changes: weights, currents, and biases beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, frozen, sealed
from spikec.compiler.ir import LI, LIF
from spikec.compiler.operators import Sparse, Weighted, with_weight

__all__ = ["bias_factor", "compensated", "with_gain"]


def with_gain(operator: Weighted, gain: FloatArray) -> Weighted:
    """Return the operator with rows multiplied by their neurons' gain, a channel's by its mean.

    ``gain`` holds one value for all target neurons, or one each.
    """
    weight = operator.weight.astype(np.float64)
    if gain.size == 1:
        return with_weight(operator, sealed(weight * float(gain.flat[0])))
    if isinstance(operator, Sparse):
        return with_weight(operator, sealed(gain.reshape(-1)[operator.synapses.targets] * weight))
    rows = gain.reshape(len(weight), -1).mean(axis=1)
    rows = rows.reshape(-1, *(1,) * (weight.ndim - 1))
    return with_weight(operator, sealed(weight * rows))


def bias_factor(beta: Array, new_beta: Array) -> FloatArray:
    """Return what a bias is multiplied by to lead to the same voltage with another decay."""
    leaks = (beta < 1) & (new_beta < 1)
    factor: FloatArray = np.where(leaks, (1 - new_beta) / np.where(leaks, 1 - beta, 1.0), 1.0)
    return factor


def compensated(node: LIF | LI, new_beta: Array, gain: FloatArray) -> LIF | LI:
    """Return the population as other decays want it; it keeps its own.

    Currents are larger by the gain; a bias keeps the voltage that it leads to.
    """
    if (gain == 1).all() and (new_beta == node.beta).all():
        return node
    return replace(
        node,
        bias=frozen(node.bias * bias_factor(node.beta, new_beta)),
        initial_current=frozen(node.initial_current * gain),
        view=replace(node.view, current_scale=frozen(node.view.current_scale * gain)),
    )
