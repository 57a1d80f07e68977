"""What quantization did to each population's activity: F against Q, as numbers that add up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.ir import LIF, Graph, Population
from spikec.compiler.trace import Trace
from spikec.compiler.verification.forcing import obstacle, run_forced
from spikec.compiler.verification.rungs import Scale
from spikec.compiler.verification.trains import (
    coincidence_factor,
    coincidences,
    earth_movers,
    van_rossum,
    victor_purpura,
)

__all__ = ["TAU", "WINDOW", "Drift", "DriftMeter", "Fed"]

#: Time constant of van Rossum's distance, and the reciprocal of the cost of moving a spike.
TAU = 10.0
#: Spikes this many steps apart coincide.
WINDOW = 1
#: The first samples, and at most as many neurons, that the Victor-Purpura distance is taken of:
#: it costs more than a run.
_EDITED_SAMPLES, _EDITED_NEURONS = 16, 128

#: Whose spikes a population was fed with: its own network's, or those of the float reference.
Fed: TypeAlias = Literal["end to end", "teacher-forced"]


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One population on Q beside F; ``fed`` says whether errors from before it are included.

    ``mismatch`` counts differing steps relative to F's spikes. ``rate_error`` is the mean
    absolute change of a neuron's rate relative to the mean rate, ``rate_emd`` the earth mover's
    distance between the neurons' rates, in spikes a step. ``silent`` and ``other_silent``
    neurons never spike on F and Q, ``died`` ones only on Q. ``voltage_rmse`` is relative to the
    threshold's height above rest (for a readout: to the RMS of its voltage). ``van_rossum`` and
    ``victor_purpura`` are means per train of a sample, ``coincidence`` the mean factor of
    neurons that spike. None is what a readout, or silence, does not have.
    """

    population: str
    fed: Fed
    spikes: int
    other_spikes: int
    mismatch: float | None
    rate_error: float | None
    rate_emd: float | None
    silent: int
    other_silent: int
    died: int
    voltage_rmse: float
    van_rossum: float | None
    victor_purpura: float | None
    coincidence: float | None


@dataclass(eq=False, kw_only=True)
class _Sums:
    """What one population adds up; counts are per neuron."""

    neurons: int
    steps: int = 0
    trains: int = 0
    differing: int = 0
    lower: Array = field(init=False)
    upper: Array = field(init=False)
    lower_steps: Array = field(init=False)
    upper_steps: Array = field(init=False)
    coincident: Array = field(init=False)
    distance: float = 0.0
    edits: float = 0.0
    edited: int = 0
    square_error: float = 0.0
    square: float = 0.0

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "lower_steps", "upper_steps", "coincident"):
            setattr(self, name, np.zeros(self.neurons, np.int64))

    def add_spikes(self, lower: Array, upper: Array) -> None:
        """Add rasters ``[sample, step, *neurons]``."""
        lower, upper = (item.reshape(*item.shape[:2], -1) for item in (lower, upper))
        self.steps += lower.shape[0] * lower.shape[1]
        self.trains += lower.shape[0] * lower.shape[2]
        self.differing += int((lower != upper).sum())
        self.lower += lower.sum(axis=(0, 1), dtype=np.int64)
        self.upper += upper.sum(axis=(0, 1), dtype=np.int64)
        self.lower_steps += (lower > 0).sum(axis=(0, 1))
        self.upper_steps += (upper > 0).sum(axis=(0, 1))
        self.coincident += coincidences(lower, upper, WINDOW)
        self.distance += float(van_rossum(lower, upper, TAU).sum())
        self._add_edits(lower, upper)

    def _add_edits(self, lower: Array, upper: Array) -> None:
        stride = -(-self.neurons // _EDITED_NEURONS)
        left = max(0, _EDITED_SAMPLES - self.edited // -(-self.neurons // stride))
        ours, theirs = (
            item[:left, :, ::stride].transpose(0, 2, 1).reshape(-1, item.shape[1])
            for item in (lower, upper)
        )
        self.edits += float(victor_purpura(ours, theirs, 1 / TAU).sum())
        self.edited += len(ours)

    def add_voltages(self, lower: Array, upper: Array, height: Array | None) -> None:
        """Add voltages of one unit, relative to ``height`` where there is a threshold."""
        error = upper - lower
        if height is not None:
            error = error / height
            self.square += error.size
        else:
            self.square += float((lower * lower).sum(dtype=np.float64))
        self.square_error += float((error * error).sum())

    def drift(self, name: str, fed: Fed, *, spiking: bool) -> Drift:
        """Return the numbers of these sums."""
        spikes, others = int(self.lower.sum()), int(self.upper.sum())
        active = spiking and spikes > 0
        steps = max(self.steps, 1)
        change = np.abs(self.upper - self.lower)
        gamma = coincidence_factor(
            self.coincident, self.lower_steps, self.upper_steps, steps=steps, window=WINDOW
        )
        known = gamma[~np.isnan(gamma)]
        return Drift(
            population=name,
            fed=fed,
            spikes=spikes,
            other_spikes=others,
            mismatch=self.differing / spikes if active else None,
            rate_error=float(change.sum() / spikes) if active else None,
            rate_emd=earth_movers(self.lower / steps, self.upper / steps) if spiking else None,
            silent=int((self.lower == 0).sum()) if spiking else 0,
            other_silent=int((self.upper == 0).sum()) if spiking else 0,
            died=int(((self.upper == 0) & (self.lower > 0)).sum()) if spiking else 0,
            voltage_rmse=float(np.sqrt(self.square_error / self.square)) if self.square else 0.0,
            van_rossum=self.distance / self.trains if spiking else None,
            victor_purpura=self.edits / self.edited if spiking else None,
            coincidence=float(known.mean()) if known.size else None,
        )


class DriftMeter:
    """Adds up, batch by batch, how the populations of ``quantized`` differ from ``graph``'s.

    ``quantized`` is the dequantized program, and ``scales`` what its voltages are worth. A
    population whose recorded spikes do not say all that reaches it has no teacher-forced
    numbers.
    """

    def __init__(self, graph: Graph, quantized: Graph, scales: Mapping[str, Scale]) -> None:
        self._graph, self._quantized, self._scales = graph, quantized, scales
        self._names = [node.name for node in quantized.populations]
        late = {node.name for node in graph.populations if node.view.lag > node.start}
        self._forced = [
            name
            for name in self._names
            if obstacle(quantized, name) is None
            and not late & {edge.source for edge in quantized.edges_into(name)}
        ]
        keys: list[tuple[str, Fed]] = [(name, "end to end") for name in self._names]
        keys += [(name, "teacher-forced") for name in self._forced]
        self._sums = {key: _Sums(neurons=self._population(key[0]).num_neurons) for key in keys}

    def _population(self, name: str) -> Population:
        node = self._graph[name]
        assert isinstance(node, Population)
        return node

    def add(self, messages: Mapping[str, Array], lower: Trace, upper: Trace) -> None:
        """Add a batch with spikes and voltages of all populations, Q's in its own units.

        ``messages`` is the integer input of Q.
        """
        steps = lower.num_steps
        spikes = {name: lower.spikes(name) for name in self._names if self._spikes(name)}
        forced = run_forced(self._quantized, self._forced, {**messages, **spikes}, steps)
        for (name, fed), sums in self._sums.items():
            other = upper if fed == "end to end" else forced
            if self._spikes(name):
                sums.add_spikes(spikes[name], other.spikes(name))
            sums.add_voltages(
                lower[name, "voltage"],
                self._volts(name, other[name, "voltage"]),
                self._height(name),
            )

    def _spikes(self, name: str) -> bool:
        return isinstance(self._graph[name], LIF)

    def _volts(self, name: str, values: Array) -> Array:
        return self._scales[name].volts(values)

    def _height(self, name: str) -> Array | None:
        node = self._graph[name]
        if not isinstance(node, LIF):
            return None
        height = np.abs(node.vth - node.rest)
        # A neuron whose threshold is its rest has no height: the population's mean stands in.
        typical = float(height.mean()) or 1.0
        return np.where(height > 0, height, typical)

    def drifts(self) -> tuple[Drift, ...]:
        """Return what was found: end to end, then teacher-forced."""
        return tuple(
            sums.drift(name, fed, spiking=self._spikes(name))
            for (name, fed), sums in self._sums.items()
        )
