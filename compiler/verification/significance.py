"""Is a change of accuracy more than chance? Both runs saw the same samples: paired statistics."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["AccuracyChange", "accuracy_change", "mcnemar"]

#: Redraws of the bootstrap, and the seed that makes its interval the same every time.
_REDRAWS = 10_000
_SEED = 0
_LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class AccuracyChange:
    """Accuracy on rung ``upper`` minus that on ``lower``, both on the same samples.

    ``lost`` samples were right on ``lower`` only, ``gained`` ones on ``upper`` only.
    ``low`` to ``high`` is the 95 % interval of a paired bootstrap, ``p_value`` the exact
    two-sided McNemar test: how likely so uneven a split is if neither is better.
    """

    lower: str
    upper: str
    samples: int
    lost: int
    gained: int
    change: float
    low: float
    high: float
    p_value: float


def accuracy_change(
    lower: str, upper: str, *, samples: int, lost: int, gained: int
) -> AccuracyChange:
    """Return the change with its test and interval from the counts of discordant samples."""
    low, high = _bootstrap(samples, lost, gained)
    return AccuracyChange(
        lower=lower,
        upper=upper,
        samples=samples,
        lost=lost,
        gained=gained,
        change=(gained - lost) / samples,
        low=low,
        high=high,
        p_value=mcnemar(lost, gained),
    )


def mcnemar(lost: int, gained: int) -> float:
    """Return the exact two-sided p-value for ``lost`` against ``gained`` discordant pairs.

    McNemar (1947), with the binomial distribution of p = 1/2 instead of its approximation.
    """
    pairs, least = lost + gained, min(lost, gained)
    term = tail = 1
    for k in range(least):
        term = term * (pairs - k) // (k + 1)
        tail += term
    return min(1.0, 2 * tail / (1 << pairs))


def _bootstrap(samples: int, lost: int, gained: int) -> tuple[float, float]:
    """Return the percentile interval of the mean difference (Efron, 1979).

    Per sample the difference is -1, 0 or 1: redrawing samples redraws three counts.
    """
    shares = np.array([lost, gained, samples - lost - gained]) / samples
    drawn = np.random.default_rng(_SEED).multinomial(samples, shares, size=_REDRAWS)
    changes = (drawn[:, 1] - drawn[:, 0]) / samples
    low, high = np.quantile(changes, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)
