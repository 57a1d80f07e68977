r"""Distances of spike trains, for all neurons and samples at once.

Trains are rasters ``[sample, step, neuron]``; times are steps. The normalisations are
those of the papers named: ours equal what other packages give up to a factor
that the docstrings state.
"""

from __future__ import annotations

import numpy as np

from spikec.compiler.arrays import Array, FloatArray

__all__ = ["coincidence_factor", "coincidences", "earth_movers", "van_rossum", "victor_purpura"]


def van_rossum(lower: Array, upper: Array, tau: float) -> FloatArray:
    r"""Return the distance of van Rossum (2001, Neural Computation 13:751), ``[sample, neuron]``.

    ``D^2 = 1/tau \int (f - g)^2 dt``, each spike being ``exp(-(t - t_i) / tau)`` from t_i on,
    to infinity: one spike more or less gives D^2 = 1/2. With ``k = exp(-1/tau)`` the integral of
    spikes at whole steps is ``(1 - k^2) / 2`` times the sum of squares of the filtered
    difference, exactly. Elephant's distance is larger by sqrt(2).
    """
    kept = float(np.exp(-1.0 / tau))
    difference = upper.astype(np.float64) - lower
    filtered = np.zeros_like(difference[:, 0])
    total = np.zeros_like(filtered)
    for step in range(difference.shape[1]):
        filtered = kept * filtered + difference[:, step]
        total += filtered * filtered
    tail = filtered * filtered * (kept * kept)  # what is left after the last step, to infinity
    squared: FloatArray = (total * (1 - kept * kept) + tail) / 2
    distance: FloatArray = np.sqrt(squared)
    return distance


def coincidences(lower: Array, upper: Array, window: int) -> Array:
    """Count per neuron the spikes of ``lower`` with one of ``upper`` within ``window`` steps."""
    near = upper > 0
    reach = near.copy()
    for shift in range(1, window + 1):
        reach[:, shift:] |= near[:, :-shift]
        reach[:, :-shift] |= near[:, shift:]
    counted: Array = ((lower > 0) & reach).sum(axis=(0, 1))
    return counted


def coincidence_factor(
    coincident: Array, lower: Array, upper: Array, *, steps: int, window: int
) -> FloatArray:
    r"""Return \Gamma per neuron: 1 for equal trains, 0 for what chance gives, NaN if undefined.

    Kistler, Gerstner and van Hemmen (1997, Neural Computation 9:1015):
    ``(N_coinc - <N_coinc>) / ((N_lower + N_upper) / 2) / norm``, where ``<N_coinc>`` is what a
    train of ``upper``'s rate without memory would give. Theirs is ``2 nu Delta N_lower`` and
    ``norm = 1 - 2 nu Delta``; in steps, a window of ``2 window + 1`` of them holds a spike with
    probability ``p = 1 - (1 - nu)^(2 window + 1)``, which is the same for low rates and stays
    below 1 for high ones. ``steps`` is how many each neuron ran, all samples together;
    ``lower`` and ``upper`` count its steps with spikes.
    """
    chance = 1.0 - (1.0 - upper / steps) ** (2 * window + 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        gamma: FloatArray = (coincident - chance * lower) / ((lower + upper) / 2) / (1.0 - chance)
    return np.where(np.isfinite(gamma), gamma, np.nan)


def earth_movers(lower: Array, upper: Array) -> float:
    """Return the earth mover's distance of two sets of as many values (here: firing rates).

    In one dimension it is the mean difference of the sorted values (Wasserstein 1).
    """
    return float(np.mean(np.abs(np.sort(upper, axis=None) - np.sort(lower, axis=None))))


def victor_purpura(lower: Array, upper: Array, cost: float) -> FloatArray:
    """Return the spike-time distance of Victor and Purpura (1996), one value per pair of trains.

    The trains are ``[pair, step]``. Adding or removing a spike costs 1, moving it ``cost`` per
    step: the edit distance of their lists of spike times (J. Neurophysiology 76:1310), for all
    pairs at once.
    """
    ours, theirs = _times(lower), _times(upper)
    pairs = np.arange(len(lower))
    counts, others = (lower > 0).sum(axis=1), (upper > 0).sum(axis=1)
    rows = np.broadcast_to(np.arange(theirs.shape[1] + 1.0), (len(lower), theirs.shape[1] + 1))
    result: FloatArray = rows[pairs, others].copy()
    for index in range(ours.shape[1]):
        moved = rows[:, :-1] + cost * np.abs(ours[:, index, None] - theirs)
        following = np.empty_like(rows)
        following[:, 0] = index + 1.0
        for other in range(theirs.shape[1]):
            either = np.minimum(rows[:, other + 1], following[:, other]) + 1.0
            following[:, other + 1] = np.minimum(either, moved[:, other])
        rows = following
        ended = counts == index + 1
        result[ended] = rows[pairs, others][ended]
    return result


def _times(raster: Array) -> FloatArray:
    """Return the steps of the spikes of each row, padded; the padding is never read out."""
    most = int((raster > 0).sum(axis=1).max(initial=0))
    order = np.argsort(~(raster > 0), axis=1, kind="stable")[:, :most]
    return order.astype(np.float64)
