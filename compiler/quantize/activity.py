"""Whether a population still fires as it did: rates, dead and saturated neurons, on data.

Equal accuracy can hide that a layer went silent. The quantized network (its parameters, in
float) runs on the calibration samples beside the float one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.inputs import to_integers
from spikec.compiler.ir import LIF, SourceView
from spikec.compiler.program import Program
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.quantize.observe import Observed
from spikec.compiler.quantize.report import ActivityChange

__all__ = ["activity_changes"]

#: Samples that are run: rates need fewer than weights do.
_SAMPLES = 128
#: A neuron that fires in at least this share of its steps is saturated.
_SATURATED = 0.95


def activity_changes(
    program: Program, inputs: Mapping[str, Array], observed: Observed
) -> tuple[ActivityChange, ...]:
    """Compare the spikes of ``program`` on ``inputs`` with those ``observed`` on the same data."""
    graph = dequantize(program)
    spiking = [node for node in graph.populations if isinstance(node, LIF)]
    if not observed.sent or not spiking:
        return ()
    plain = graph.rewritten(
        nodes={node.name: replace(node, view=SourceView()) for node in graph.populations}
    )
    count = min(observed.samples, _SAMPLES)
    some = {name: values[:count] for name, values in inputs.items()}
    trace = reference.run(
        plain, to_integers(program, some)[0], probes=[(node.name, "spikes") for node in spiking]
    )
    return tuple(
        _change(node.name, observed.sent[node.name][:count], trace.spikes(node.name))
        for node in spiking
    )


def _change(name: str, before: Array, after: Array) -> ActivityChange:
    old, new = _rates(before), _rates(after)
    firing = float(old.mean())
    return ActivityChange(
        population=name,
        rate=firing,
        quantized_rate=float(new.mean()),
        drift=float(np.abs(new - old).mean()) / firing if firing else float(np.abs(new).mean()),
        died=int(((old > 0) & (new == 0)).sum()),
        woke=int(((old == 0) & (new > 0)).sum()),
        saturated=int(((old < _SATURATED) & (new >= _SATURATED)).sum()),
        neurons=int(old.size),
    )


def _rates(spikes: Array) -> Array:
    """Return the share of steps in which each neuron fires."""
    fired: Array = (spikes > 0).reshape(spikes.shape[0] * spikes.shape[1], -1).mean(axis=0)
    return fired
