"""What a run did: messages of every source, and NeuroBench's metrics by their definitions.

The metrics are those of Yik et al. 2025 (NeuroBench, Nature Communications 16) as its release 2.3
computes them, reimplemented for integer programs:

- footprint: the bytes of parameters and buffers. Here 1 for a weight (Sparse: and 4 for its
  target), 1 for each delay where they differ (by source, target or synapse), 2 for each decay,
  4 for threshold and bias, 4 each for current and voltage.
- connection sparsity: the share of weights that are 0. A sparse connection counts as the matrix
  it stands for, a convolution by its kernel.
- activation sparsity: the share of values of spiking populations that are 0, over all
  neurons, steps and samples.
- synaptic operations, per sample: ``dense`` if everything were active; effective are those of
  weights and values that are not 0: accumulates where a source sends only spikes of
  1, multiply-accumulates where it sends other values.
- membrane updates, per sample: the voltages that a step changes; the first counts all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.mapping.use import Network
from spikec.compiler.mapping.wires import ConvWires, Wires
from spikec.compiler.operators import Sparse
from spikec.compiler.program import Program
from spikec.compiler.storage import Storage
from spikec.compiler.trace import Trace

__all__ = ["Activity", "ActivityTally", "Metrics", "metrics_of", "synapses_of"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Activity:
    """The means of a run: ``sent`` are messages a step of every input and population.

    They have its shape. ``updates`` are voltages that a step changed, per sample.
    """

    samples: int
    steps: int
    sent: Mapping[str, Array]
    updates: float


@dataclass
class ActivityTally:
    """Sums up a run batch by batch."""

    program: Program
    samples: int = 0
    steps: int = 0
    updates: int = 0
    sent: dict[str, Array] = field(default_factory=dict)

    def add(self, inputs: Mapping[str, Array], trace: Trace) -> None:
        """Add a batch: its integer inputs, and its trace with the voltages of all populations."""
        for name, values in inputs.items():
            self._count(name, values)
        count, self.steps = next(iter(inputs.values())).shape[:2]
        self.samples += count
        for neurons in self.program.populations:
            voltage = trace[neurons.name, "voltage"]
            self.updates += int(np.count_nonzero(np.diff(voltage, axis=1)))
            self.updates += voltage[:, :1].size
            if neurons.vth is not None:
                self._count(neurons.name, trace.spikes(neurons.name))

    def _count(self, name: str, values: Array) -> None:
        self.sent[name] = self.sent.get(name, 0) + np.count_nonzero(values, axis=(0, 1))

    def activity(self) -> Activity:
        """Return the means."""
        moments = max(1, self.samples * self.steps)
        return Activity(
            samples=self.samples,
            steps=self.steps,
            sent={name: count / moments for name, count in self.sent.items()},
            updates=self.updates / max(1, self.samples),
        )


@dataclass(frozen=True, kw_only=True)
class Metrics:
    """NeuroBench's metrics; those of a run are None without one."""

    footprint_bytes: int
    connection_sparsity: float
    activation_sparsity: float | None = None
    effective_acs: float | None = None
    effective_macs: float | None = None
    dense: float | None = None
    membrane_updates: float | None = None


def metrics_of(network: Network, activity: Activity | None = None) -> Metrics:
    """Return the metrics of a program, and of a run of it."""
    program = network.program
    weights = [_weights(item.stored) for item in network.wired]
    places = sum(possible for possible, _, _ in weights)
    sparsity = 1 - sum(present for _, present, _ in weights) / max(1, places)
    footprint = sum(held for _, _, held in weights) + 20 * program.num_neurons
    if activity is None:
        return Metrics(footprint_bytes=footprint, connection_sparsity=round(sparsity, 4))
    steps = activity.steps
    acs = macs = dense = 0.0
    binary = {item.name for item in program.inputs if item.kind == "binary"}
    binary |= {item.name for item in program.neurons if item.max_spikes == 1}
    for item in network.wired:
        effective, full = synapses_of(item.wires)
        sent = activity.sent[item.stored.source].reshape(-1)
        done = float(sent @ effective) * steps
        acs, macs = (acs + done, macs) if item.stored.source in binary else (acs, macs + done)
        dense += float(full.sum()) * steps
    spiking = [item for item in program.populations if item.vth is not None]
    active = sum(float(activity.sent[item.name].sum()) for item in spiking)
    return Metrics(
        footprint_bytes=footprint,
        connection_sparsity=round(sparsity, 4),
        activation_sparsity=1 - active / max(1, sum(item.num_neurons for item in spiking)),
        effective_acs=acs,
        effective_macs=macs,
        dense=dense,
        membrane_updates=activity.updates,
    )


def synapses_of(wires: Wires) -> tuple[Array, Array]:
    """Return for each source how many synapses have a weight that is not 0, and have any place."""
    if not isinstance(wires, ConvWires):
        return wires.counts(np.arange(wires.targets)), np.full(wires.sources, wires.targets)
    operator, (_, height, width) = wires.operator, wires.source
    out, per_group, *kernel = operator.weight.shape
    by_group = operator.weight.reshape(operator.groups, -1, per_group, *kernel)
    present = np.count_nonzero(by_group, axis=1).reshape(-1, *kernel)
    effective = np.zeros((present.shape[0], height, width), np.int64)
    full = np.zeros((height, width), np.int64)
    for row, column in np.ndindex(*kernel):
        reached = wires.tap(row, column)
        effective += present[:, row, column, None, None] * reached
        full += out // operator.groups * reached
    return effective.reshape(-1), np.broadcast_to(full, wires.source).reshape(-1)


def _weights(stored: Storage) -> tuple[int, int, int]:
    """Return the places that weights could have, the weights that are not 0, and their bytes."""
    operator = stored.operator
    delays = 0 if stored.which is None else stored.which.size
    present = int(np.count_nonzero(operator.weight))
    if isinstance(operator, Sparse):
        places = operator.synapses.inputs * operator.synapses.outputs
        return places, present, 5 * operator.weight.size + delays
    return operator.weight.size, present, operator.weight.size + delays
