"""Axonal delays of ``.net`` files: connections split by the delay of the neuron they reach.

SLAYER holds a neuron's spikes back; netx holds its input back. Without a bias the spikes
are the same, because nothing but input drives a neuron that starts at rest.
"""

from __future__ import annotations

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.frontends.lava_neurons import Settled
from spikec.compiler.frontends.lava_schema import LayerRecord, fail
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.operators import Weighted, with_weight
from spikec.compiler.program import Connection, Neurons, Populated
from spikec.compiler.resonator import Resonator

__all__ = ["delayed"]

#: DelayDense waits for at most this many steps, and SLAYER clips to it.
_MOST_DELAY = 62
#: A layer's weights, once for each distinct delay, may be this many.
_MOST_WEIGHTS = 1 << 28


def delayed(
    settled: Settled, record: LayerRecord, source: str, operator: Weighted, population: Populated
) -> list[Connection]:
    """Return the connections into ``population``, one set for each delay in the file."""
    delays = _delays(settled, record, operator, population)
    values = np.unique(delays)
    if len(values) * operator.weight.size > _MOST_WEIGHTS:
        fail(
            "F074",
            f"{record.where}/delay",
            f"{len(values)} distinct delays of {operator.weight.size} weights take more than "
            f"{_MOST_WEIGHTS} in all",
            "train with a smaller max_delay",
        )
    result = []
    for value in values:
        part = with_weight(operator, np.where(delays == value, operator.weight, 0))
        result += connections(
            source=source,
            target=population.name,
            operator=part,
            delay=1 + int(value),
            label=f"delay{value}" if delays.any() else "",
        )
    return result


def _delays(
    settled: Settled, record: LayerRecord, operator: Weighted, population: Populated
) -> Array:
    """Return the delays, in a shape that broadcasts against the weights."""
    shape, delay = operator.weight.shape, record.delay
    if delay is None or not delay.any():
        return np.zeros((1,) * len(shape), np.int64)
    where = f"{record.where}/delay"
    if delay.min() < 0 or delay.max() > _MOST_DELAY:
        fail(
            "F072",
            where,
            f"delays span {delay.min()}..{delay.max()}, not 0..{_MOST_DELAY}",
            "train with max_delay=62; netx would clip them without asking",
        )
    starts = isinstance(population, Neurons) and population.initial_voltage.any()
    biased = not isinstance(population, Resonator) and population.bias.any()
    if biased or starts:
        _check_bias(settled, where)
    channels = population.shape[0]
    if delay.size in (1, channels):
        rows = np.repeat(delay.reshape(-1), shape[0] // delay.size)
        return rows.reshape(-1, *[1] * (len(shape) - 1))
    if record.kind != "dense" or delay.size != shape[1]:
        fail("F073", where, f"{delay.size} delays for {channels} channels or neurons")
    settled.note(f"layer{record.index} delay", "one per input", "netx, by their number")
    return delay.reshape(1, -1)


def _check_bias(settled: Settled, where: str) -> None:
    chosen = settled.profile(
        "delay",
        where,
        "the layer has a bias too: netx delays the input but not the bias, SLAYER delays the "
        "spikes that both cause",
        "read it as Lava does with profile='netx', or train without bias or delay",
    )
    if chosen != "netx":
        fail(
            "F074",
            where,
            "delays on spikes that a bias causes need one more population, which is not built yet",
            "read it with profile='netx'",
        )
