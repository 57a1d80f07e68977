"""What can arrive at a neuron, and how far its state can go, for every input there is.

What no engine could compute is refused here, for all of them. They choose their integer types
by it: :mod:`spikec.backends.simulator.layout` and :mod:`spikec.backends.c.plan`.
:mod:`spikec.backends.lava.placement` proves by it that a stock process does the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikec.compiler.arrays import Array, IntArray
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT, DECAY_UNITY, STATE_MAX
from spikec.compiler.operators import row_sums
from spikec.compiler.program import Connection, Neurons, Populated, Program
from spikec.compiler.sigma_delta import SigmaDelta

__all__ = [
    "MOST",
    "arriving",
    "current_bound",
    "highest_current",
    "reach",
    "refused_sums",
    "upward",
]

#: Bounds end here: no engine takes sums beyond, and 64 bits hold what is computed with them.
MOST = 1 << 44
#: Currents stay below this: times a 13-bit factor they fit 64 bits.
_WIDE = MOST << ACTIVATION_SHIFT
#: What arrives at other neurons stays below this once it is shifted up.
_SHIFTED = 1 << 62


def refused_sums(program: Program) -> Iterator[Diagnostic]:
    """Yield the populations whose sums can pass what 64 bits decay exactly.

    The rule of every engine: what one refuses the others refuse, and what they take they
    compute as exact integers do.
    """
    for item in program.populations:
        bound, wide = _largest_sum(program, item)
        if wide:
            yield Diagnostic(
                code="B050",
                where=f"population '{item.name}'",
                message=f"its input can sum up to {bound} or more, which 64 bits cannot compute "
                "with exactly",
                hint="narrow the bounds of the graded inputs, or lower weight exponents",
            )


def _largest_sum(program: Program, item: Populated) -> tuple[int, bool]:
    """Return how far a population's sums go, and whether that is too far."""
    arrives = arriving(program, item)
    if isinstance(item, Neurons):
        bound = current_bound(item, arrives)
        return bound, bound >= _WIDE
    most = int(arrives.max(initial=0))
    if isinstance(item, SigmaDelta) and item.encoding != "delta":
        return most, False  # sums of 32 bits wrap as Lava's do; the engine counts them
    shift = item.scale if isinstance(item, SigmaDelta) else item.state_exp
    return most << shift, most >= MOST or most << shift >= _SHIFTED


def reach(program: Program, connection: Connection) -> IntArray:
    """Return the largest magnitude that ``connection`` can bring in a step, up to :data:`MOST`.

    One number per target neuron, or per channel of a convolution.
    """
    low, high = program.message_bounds[connection.source]
    most = float(max(abs(low), abs(high)) << connection.weight_exp)
    # Sums in float64 are exact below 2**53, far beyond where they are cut.
    sums: IntArray = np.minimum(row_sums(connection.operator) * most, MOST).astype(np.int64)
    return sums


def arriving(program: Program, neurons: Populated) -> IntArray:
    """Return the largest sum of what arrives in a step, per neuron, up to :data:`MOST`."""
    total = np.zeros(neurons.num_neurons, np.int64)
    for connection in program.connections_into(neurons.name):
        rows = reach(program, connection)
        total += np.repeat(rows, neurons.num_neurons // max(1, len(rows)))
        np.minimum(total, MOST, out=total)
    return total


def current_bound(neurons: Neurons, arrives: IntArray) -> int:
    """Return what the sum of decayed current and input can reach, ``arrives`` per neuron.

    Without wrapping a current obeys ``|u| <= |u| * keep / 4096 + arriving``, which ends at
    ``arriving * 4096 / (4096 - keep)``. Wrapping takes 2**24 off once, so that a current
    may stay outside when more than that arrives in each step.
    """
    most = arrives << ACTIVATION_SHIFT
    gone = neurons.du.reshape(-1) + 1
    initial = np.abs(neurons.initial_current).max(initial=0)
    settled = np.maximum(initial, -(-most * DECAY_UNITY // gone))
    outside = np.maximum(STATE_MAX + 1, -(-(most - (1 << 24)) * DECAY_UNITY // gone))
    return int(np.where(settled > STATE_MAX, outside + most, settled).max(initial=0))


def upward(program: Program, neurons: Neurons) -> IntArray:
    """Return the largest sum, with its sign, that can arrive in a step; 0 or more, per neuron."""
    total = np.zeros(neurons.num_neurons, np.int64)
    for connection in program.connections_into(neurons.name):
        low, high = program.message_bounds[connection.source]
        # Nothing may arrive too: at first, or beside the edge of an image.
        least, most = (float(end << connection.weight_exp) for end in (min(low, 0), max(high, 0)))

        def up(weight: Array, least: float = least, most: float = most) -> Array:
            larger: Array = np.maximum(weight * least, weight * most)
            return larger

        rows = np.minimum(row_sums(connection.operator, up), MOST).astype(np.int64)
        total += np.repeat(rows, neurons.num_neurons // max(1, len(rows)))
        np.minimum(total, MOST, out=total)
    return total


def highest_current(program: Program, neurons: Neurons) -> IntArray:
    """Return what no current can pass, 0 or more, per neuron.

    Where currents may wrap that is 2**23, the largest that wrapping leaves.
    """
    if current_bound(neurons, arriving(program, neurons)) > STATE_MAX:
        return np.full(neurons.num_neurons, STATE_MAX + 1, np.int64)
    most = upward(program, neurons) << ACTIVATION_SHIFT
    settled = -(-most * DECAY_UNITY // (neurons.du.reshape(-1) + 1))
    highest: IntArray = np.maximum(neurons.initial_current.reshape(-1), settled)
    return highest
