"""What calibration data show: what every source sends, and how far voltages go.

The float network runs on some samples. Its spikes then drive each population on
their own (teacher forcing), so that a layer is judged by its own rounding alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, frozen, held_back
from spikec.compiler.batches import batch_size
from spikec.compiler.inputs import Dataset, check_data
from spikec.compiler.ir import LI, LIF, Graph, Input, SourceView
from spikec.compiler.trace import Probe, Trace

__all__ = ["CALIBRATION_SAMPLES", "Observed", "observe", "repeating"]

#: The first samples of calibration data are simulated, no more than these.
CALIBRATION_SAMPLES = 512
#: Of so many at least is seen how far voltages without leak go, where memory holds fewer.
_SUMMED_SAMPLES = 128


#: Leaky neurons held so many thresholds below it may saturate: they are silent for long anyway,
#: and a larger scale keeps more spikes equal.
DEEP = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class Observed:
    """``sent[source][sample, step, *shape]`` at the source's own steps; nothing without data.

    ``voltages`` is how far every population's voltage goes either way, of a spiking one that
    leaks at most :data:`DEEP` thresholds down; ``near[name]`` says
    where a spiking population's was closer to the threshold than that is to rest, with the
    shape of its spikes.
    """

    sent: Mapping[str, Array] = field(default_factory=dict)
    voltages: Mapping[str, float] = field(default_factory=dict)
    near: Mapping[str, Array] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """The number of samples that were run, 0 without data."""
        return len(next(iter(self.sent.values()))) if self.sent else 0

    @property
    def steps(self) -> int:
        """The number of steps of each sample, 0 without data."""
        return int(next(iter(self.sent.values())).shape[1]) if self.sent else 0


def observe(graph: Graph, calibration: Dataset | None) -> Observed:
    """Run the canonical ``graph`` on the first samples of ``calibration``, if there is any.

    Raises :class:`UsageError` for data that the graph's inputs do not take.
    """
    if calibration is None:
        return Observed()
    neurons = sum(node.num_neurons for node in graph.populations)
    most = min(CALIBRATION_SAMPLES, batch_size(neurons, calibration.num_steps))
    some = check_data(calibration.samples(0, most), graph.inputs, where="calibration data")
    late = graph.rewritten(nodes={node.name: _reset_late(node) for node in graph.populations})
    probes: list[Probe] = [(node.name, "voltage") for node in graph.populations]
    spiking = [node for node in graph.populations if isinstance(node, LIF)]
    probes += [(node.name, "spikes") for node in spiking]
    trace = reference.run(late, some.inputs, probes=probes)
    seen = _before_resets(late, trace)
    reached = {node.name: _reach(node, seen[node.name]) for node in graph.populations}
    for further in _further(graph, calibration, most):
        values = _before_resets(late, reference.run(late, further.inputs, probes=probes))
        for node in graph.populations:
            if (node.beta == 1).any():
                reached[node.name] = max(reached[node.name], _reach(node, values[node.name]))
    sent = {node.name: _presented(node, some.inputs[node.name]) for node in graph.inputs}
    return Observed(
        sent=sent | {node.name: trace.spikes(node.name) for node in spiking},
        voltages=reached,
        near={
            node.name: np.abs(seen[node.name] - node.vth) <= np.abs(node.vth) for node in spiking
        },
    )


def _before_resets(late: Graph, trace: Trace) -> dict[str, Array]:
    """Return the voltage of every population before its reset, as ``late`` shows it."""
    seen = {node.name: trace[node.name, "voltage"] for node in late.populations}
    for node in repeating(late):
        seen[node.name] = seen[node.name] + node.reset_amount * trace.spikes(node.name)
    return seen


def _further(graph: Graph, calibration: Dataset, begin: int) -> Iterator[Dataset]:
    """Yield samples beyond those that weights are fitted to, where some voltages do not leak.

    How far a sum goes differs from sample to sample, and what clips stays wrong.
    """
    if not any((node.beta == 1).any() for node in graph.populations):
        return
    stop = min(_SUMMED_SAMPLES, calibration.num_samples)
    for at in range(begin, stop, begin):
        yield calibration.samples(at, min(at + begin, stop))


def _reach(node: LIF | LI, values: Array) -> float:
    """Return the magnitude of voltages that should not saturate."""
    largest = float(np.abs(values).max())
    if isinstance(node, LI) or (node.beta == 1).any():
        return largest
    return max(float(values.max()), min(largest, DEEP * float(np.abs(node.vth).max())))


def repeating(graph: Graph) -> list[LIF]:
    """Return the populations whose reset has no form one step later."""
    return [
        node
        for node in graph.populations
        if isinstance(node, LIF) and (node.max_spikes > 1 or node.reset_twice)
    ]


def _presented(node: Input, values: Array) -> Array:
    """Return what an input sends: late by its shift, within the bounds it declares."""
    if node.low is not None and node.high is not None:
        values = np.clip(values, node.low, node.high)
    return held_back(values, node.shift)


def _reset_late(node: LIF | LI) -> LIF | LI:
    """Return a population with the same spikes whose voltage is seen before its reset.

    A reset at the spike is the same reset of what is left of it one step later.
    Lags are taken off: every value is recorded at the step at which it was computed.
    """
    node = replace(node, view=SourceView())
    early = isinstance(node, LIF) and node.reset_order == "at_spike" and node.reset != "none"
    if not isinstance(node, LIF) or not early or node.refractory:
        return node
    if node.floor is not None or (node.initial_state[1] >= node.vth).any():
        # A floor lifts what a reset leaves, and a start above the threshold is no spike: a later
        # reset would do otherwise.
        return node
    if node.max_spikes > 1 or node.reset_twice:
        return node
    if node.reset != "subtract":
        return replace(node, reset_order="next_step")
    amount = frozen(node.beta * node.reset_amount)
    return replace(node, reset_order="next_step", reset_value=amount)
