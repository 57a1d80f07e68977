"""Axonal delays of ``.net`` files: connections split by the delay of the neuron they reach.

SLAYER holds a neuron's spikes back; netx holds its input back. Without a bias the spikes
are the same, because nothing but input drives a neuron that starts at rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.frontends.lava_neurons import Settled
from spikec.compiler.frontends.lava_schema import LayerRecord, fail
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.names import joined
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
    whole = connections(source=source, target=population.name, operator=operator, delay=1)
    if not delays.any():
        return whole
    return [part for value in values for part in _held_back(whole, delays == value, int(value))]


def _held_back(whole: Sequence[Connection], those: Array, delay: int) -> list[Connection]:
    """Return the parts of connections whose weights are held back by ``delay`` steps.

    All delays share the format of the whole, so that they can be kept as one.
    """
    kept = [np.where(those, item.operator.weight, 0) for item in whole]
    there = [number for number, weight in enumerate(kept) if weight.any()] or [0]
    ends = f"{whole[0].source}-{whole[0].target}"
    return [
        replace(
            whole[number],
            name=joined(ends, f"delay{delay}", whole[number].name.removeprefix(ends).lstrip(".")),
            operator=with_weight(whole[number].operator, kept[number]),
            delay=1 + delay,
        )
        for number in there
    ]


def _delays(
    settled: Settled, record: LayerRecord, operator: Weighted, population: Populated
) -> Array:
    """Return the delays, in a shape that broadcasts against the weights."""
    shape, delay = operator.weight.shape, record.delay
    if delay is None or not delay.any():
        return np.zeros((1,) * len(shape), np.int64)
    where = f"{record.where}/delay"
    if delay.min() < 0:
        fail("F072", where, f"delays span {delay.min()}..{delay.max()}; none is below 0")
    if delay.max() > _MOST_DELAY:
        delay = _long(settled, delay, where)
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


def _long(settled: Settled, delay: Array, where: str) -> Array:
    """Return delays beyond what Lava's DelayDense waits, as the profile has them."""
    chosen = settled.profile(
        "delay",
        where,
        f"delays reach {int(delay.max())}: netx clips them to {_MOST_DELAY}, SLAYER keeps them",
        "choose profile='netx', or profile='slayer' (which Lava cannot run)",
    )
    return np.minimum(delay, _MOST_DELAY) if chosen == "netx" else delay


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
