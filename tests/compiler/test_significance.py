"""Paired statistics of two accuracies, against values worked out by hand."""

from __future__ import annotations

from itertools import product
from math import comb

import pytest

from spikec.compiler.verification.significance import accuracy_change, mcnemar


@pytest.mark.parametrize(
    ("lost", "gained", "p_value"),
    [(0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (1, 9, 22 / 1024), (9, 1, 22 / 1024),
     (0, 10, 2 / 1024), (3, 7, 352 / 1024)],
)  # fmt: skip
def test_mcnemar_is_the_two_sided_binomial_test(lost: int, gained: int, p_value: float) -> None:
    assert mcnemar(lost, gained) == p_value


def test_mcnemar_counts_all_outcomes_that_are_as_uneven() -> None:
    for lost, gained in product(range(7), range(7)):
        pairs = lost + gained
        as_uneven = sum(
            comb(pairs, k) for k in range(pairs + 1) if abs(pairs - 2 * k) >= abs(lost - gained)
        )
        assert mcnemar(lost, gained) == pytest.approx(as_uneven / 2**pairs)


def test_mcnemar_of_many_samples_does_not_overflow() -> None:
    assert mcnemar(2000, 2000) == 1.0
    assert 0 < mcnemar(1900, 2100) < 0.002
    assert mcnemar(0, 3000) == 0.0


def test_the_interval_is_that_of_the_normal_approximation_for_many_samples() -> None:
    change = accuracy_change("F", "Q", samples=10_000, lost=150, gained=100)
    assert change.change == pytest.approx(-0.005)
    spread = 1.96 * ((250 / 10_000 - 0.005**2) / 10_000) ** 0.5
    assert change.low == pytest.approx(-0.005 - spread, abs=2e-4)
    assert change.high == pytest.approx(-0.005 + spread, abs=2e-4)
    assert change == accuracy_change("F", "Q", samples=10_000, lost=150, gained=100)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    truth, samples, covered = -0.01, 1000, 0
    for lost, gained, _ in rng.multinomial(samples, [0.03, 0.02, 0.95], size=300):
        change = accuracy_change("F", "Q", samples=samples, lost=int(lost), gained=int(gained))
        covered += change.low <= truth <= change.high
    assert 0.90 <= covered / 300 <= 0.99
