"""Two traces side by side: counts that add up over batches of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, FloatArray
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.verification.report import PopulationDifference

__all__ = ["Tally", "first_difference", "tally_spikes", "tally_voltages"]


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Sums over samples for one population; the tallies of batches add up."""

    differing: int = 0
    spikes: int = 0
    other_spikes: int = 0
    square_error: float = 0.0
    square: float = 0.0
    identical_samples: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            differing=self.differing + other.differing,
            spikes=self.spikes + other.spikes,
            other_spikes=self.other_spikes + other.other_spikes,
            square_error=self.square_error + other.square_error,
            square=self.square + other.square,
            identical_samples=self.identical_samples + other.identical_samples,
        )

    def difference(self, probe: Probe) -> PopulationDifference:
        """Return the counts and ratios of this tally."""
        name, quantity = probe
        spiking = quantity == "spikes"
        base = max(self.spikes, 1)
        rmse = float(np.sqrt(self.square_error / self.square)) if self.square else 0.0
        return PopulationDifference(
            population=name,
            differing=self.differing,
            spikes=self.spikes,
            mismatch=self.differing / base if spiking else None,
            rate_change=(self.other_spikes - self.spikes) / base if spiking else None,
            voltage_rmse=None if spiking else rmse,
            identical_samples=self.identical_samples,
        )


def tally_spikes(lower: Array, upper: Array) -> Tally:
    """Compare spikes, ``[sample, step, *neurons]`` each; of messages those that are not 0 count."""
    different = lower != upper
    return Tally(
        differing=int(different.sum()),
        spikes=_number_of(lower),
        other_spikes=_number_of(upper),
        identical_samples=_without(different),
    )


def _number_of(spikes: Array) -> int:
    messages = spikes.dtype == np.int32
    return int(np.count_nonzero(spikes) if messages else spikes.sum(dtype=np.int64))


def tally_voltages(lower: Array, upper: Array) -> Tally:
    """Compare voltages of the same unit, ``[sample, step, *neurons]`` each."""
    different = lower != upper
    base: FloatArray = lower.astype(np.float64)
    error = upper - base
    return Tally(
        differing=int(different.sum()),
        square_error=float((error * error).sum()),
        square=float((base * base).sum()),
        identical_samples=_without(different),
    )


def first_difference(
    lower: Trace, upper: Trace, probes: Sequence[Probe]
) -> tuple[int, int, str, tuple[int, ...]] | None:
    """Return sample, step, population and neuron of the first difference, or None.

    The first sample that differs anywhere, its earliest step, and there the
    first population in the order of ``probes``.
    """
    found: list[tuple[int, int, int, tuple[int, ...]]] = []
    for place, probe in enumerate(probes):
        different = lower[probe] != upper[probe]
        samples = different.reshape(len(different), -1).any(axis=1)
        if samples.any():
            sample = int(samples.argmax())
            step, *neuron = (int(index) for index in np.argwhere(different[sample])[0])
            found.append((sample, step, place, tuple(neuron)))
    if not found:
        return None
    sample, step, place, neuron_index = min(found)
    return sample, step, probes[place][0], neuron_index


def _without(different: Array) -> int:
    """Return the number of samples without a difference."""
    return int((~different.reshape(len(different), -1).any(axis=1)).sum())
