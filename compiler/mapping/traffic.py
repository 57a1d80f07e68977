"""Messages between cores, one entry for each pair that talks.

Large networks take tens of thousands of cores, and a table of all their pairs takes gigabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array

__all__ = ["Traffic"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Traffic:
    """Messages a step among ``number`` cores, each pair once, in rising order.

    ``amounts[k]`` go from ``senders[k]`` to ``receivers[k]``.
    """

    number: int
    senders: Array
    receivers: Array
    amounts: Array

    @classmethod
    def joined(cls, number: int, parts: Sequence[tuple[Array, Array, Array]]) -> Traffic:
        """Return what parts (senders, receivers, amounts) sum up to; pairs may repeat."""
        nothing = np.zeros(0, np.int64)
        keys = np.concatenate([nothing, *(a.astype(np.int64) * number + b for a, b, _ in parts)])
        pairs, place = np.unique(keys, return_inverse=True)
        amounts = np.concatenate([nothing, *(amounts for _, _, amounts in parts)])
        return cls(
            number=number,
            senders=pairs // number,
            receivers=pairs % number,
            amounts=np.bincount(place.reshape(-1), amounts, len(pairs)),
        )

    @property
    def total(self) -> float:
        """All messages, those that stay on their core included."""
        return float(self.amounts.sum())

    @property
    def crossing(self) -> float:
        """Messages that leave their core."""
        return float(self.amounts[self.senders != self.receivers].sum())

    def sent(self) -> Array:
        """Return what every core sends."""
        return np.bincount(self.senders, self.amounts, self.number)

    def received(self) -> Array:
        """Return what every core receives."""
        return np.bincount(self.receivers, self.amounts, self.number)

    def dense(self) -> Array:
        """Return the table of all pairs, ``[from, to]``, of few cores."""
        table = np.zeros((self.number, self.number))
        table[self.senders, self.receivers] = self.amounts
        return table
