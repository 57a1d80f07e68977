"""Energy and time of a step, modelled from activity and published unit costs, as ranges.

Nothing here was measured. Energy is activity times cost, summed over cores; static power is left
out. Time follows the most loaded core (Intel's models of Loihi 2 do the same: arXiv 2511.21549,
2601.10035): at least the longest of what a core does, at most all of it one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.mapping.activity import Activity
from spikec.compiler.mapping.mapper import Mapped
from spikec.compiler.mapping.partition import pieces_of
from spikec.compiler.mapping.use import Network
from spikec.compiler.targets import Costs

__all__ = ["CoreActivity", "Estimate", "core_activity", "estimate"]


@dataclass(frozen=True, kw_only=True)
class CoreActivity:
    """What one core does in a mean step: synaptic operations, neurons updated, spikes, messages."""

    operations: float
    updates: int
    spikes: float
    messages_in: float
    messages_out: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Modelled, not measured: least and most energy (joules) and time (seconds) of a step.

    ``busiest`` is the core that bounds the time.
    """

    basis: str
    energy: tuple[float, float]
    time: tuple[float, float]
    busiest: int


def core_activity(network: Network, mapped: Mapped, activity: Activity) -> list[CoreActivity]:
    """Return what every core does in a mean step of the run."""
    core_of = np.concatenate([item.reshape(-1) for item in mapped.core_map.cores])
    spikes = np.concatenate(
        [
            np.zeros(item.num_neurons) if item.vth is None else activity.sent[item.name].reshape(-1)
            for item in network.program.populations
        ]
    )
    sent = network.rates(dict(activity.sent))
    came, went = mapped.between.received() + mapped.outside, mapped.between.sent()
    return [
        CoreActivity(
            operations=_operations(network, members, sent),
            updates=len(members),
            spikes=float(spikes[members].sum()),
            messages_in=float(came[core]),
            messages_out=float(went[core]),
        )
        for core, members in enumerate(pieces_of(core_of))
    ]


def estimate(mapped: Mapped, cores: list[CoreActivity]) -> Estimate | None:
    """Return the ranges for a mean step; None where the target's file has no ``[costs]``."""
    costs = mapped.target.costs
    if costs is None:
        return None
    least = [max(_times(core, costs, 0)) for core in cores]
    most = [sum(_times(core, costs, 1)) for core in cores]
    energy = [
        sum(_picojoules(core, costs, end) for core in cores) + mapped.hops * costs.hop_pj[end]
        for end in (0, 1)
    ]
    return Estimate(
        basis=costs.basis,
        energy=(energy[0] * 1e-12, energy[1] * 1e-12),
        time=(
            (max(least) + costs.barrier_ns[0]) * 1e-9,
            (max(most) + costs.barrier_ns[1]) * 1e-9,
        ),
        busiest=int(np.argmax(most)),
    )


def _operations(network: Network, members: Array, sent: list[Array]) -> float:
    """Return the synaptic operations of a core, those of weight 0 in a convolution included."""
    rates = dict(zip((id(item) for into in network.into for item in into), sent, strict=True))
    total = 0.0
    for place, targets in network.parts(members):
        for item in network.into[place]:
            total += float(item.wires.counts(targets) @ rates[id(item)])
    return total


def _times(core: CoreActivity, costs: Costs, end: int) -> tuple[float, ...]:
    return (
        core.operations * costs.synapse_ns[end],
        core.updates * costs.update_ns[end],
        core.spikes * costs.spike_ns[end],
        core.messages_in * costs.message_ns[end],
    )


def _picojoules(core: CoreActivity, costs: Costs, end: int) -> float:
    return (
        core.operations * costs.synapse_pj[end]
        + core.updates * costs.update_pj[end]
        + core.spikes * costs.spike_pj[end]
        + core.messages_out * costs.message_pj[end]
    )
