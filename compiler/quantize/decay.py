"""Decays to 12 bits: the nearest factor the chip can keep of a state."""

from __future__ import annotations

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, IntArray
from spikec.compiler.fixedpoint import DECAY_UNITY
from spikec.compiler.targets import Range

__all__ = ["alpha_of", "beta_of", "du_of", "dv_of", "time_constant_error"]


def du_of(alpha: Array | None, limits: Range) -> IntArray:
    """Return ``round((1 - alpha) * 4096) - 1``; Lava adds the 1 back. None forgets at once."""
    if alpha is None:
        return np.array(limits.high, dtype=np.int64)
    exact = np.rint((1.0 - alpha) * DECAY_UNITY) - 1
    du: IntArray = np.clip(exact, limits.low, limits.high).astype(np.int64)
    return du


def dv_of(beta: Array, limits: Range) -> IntArray:
    """Return ``round((1 - beta) * 4096)``."""
    exact = np.rint((1.0 - beta) * DECAY_UNITY)
    dv: IntArray = np.clip(exact, limits.low, limits.high).astype(np.int64)
    return dv


def alpha_of(du: Array) -> FloatArray:
    """Return what the current keeps a step: ``(4095 - du) / 4096``."""
    kept: FloatArray = (DECAY_UNITY - 1 - du) / DECAY_UNITY
    return kept


def beta_of(dv: Array) -> FloatArray:
    """Return what the voltage keeps a step: ``(4096 - dv) / 4096``."""
    kept: FloatArray = (DECAY_UNITY - dv) / DECAY_UNITY
    return kept


def time_constant_error(wanted: Array | None, kept: Array) -> float | None:
    """Return the largest relative error of ``tau = -1 / ln(factor)``; None where there is no tau.

    A factor of 0 or 1 has no finite time constant: it counts only if the other
    one has (an error of 1).
    """
    if wanted is None:
        return None
    exact, rounded = (_rate(np.broadcast_to(x, wanted.shape)) for x in (wanted, kept))
    finite = (exact > 0) & np.isfinite(exact)
    if not finite.any():
        return None if np.array_equal(exact, rounded) else 1.0
    valid = finite & (rounded > 0) & np.isfinite(rounded)
    errors = np.where(valid, np.abs(exact / np.where(valid, rounded, 1.0) - 1.0), 1.0)
    return float(errors[finite].max())


def _rate(factor: Array) -> FloatArray:
    with np.errstate(divide="ignore"):
        rate: FloatArray = -np.log(factor)
    return rate
