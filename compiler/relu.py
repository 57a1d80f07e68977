"""Trained ReLU networks: no time, no state, one real number per neuron.

What a frontend reads a ReLU network as, and what :mod:`spikec.compiler.rate`
converts. A layer is ``a = min(max(sum of branches + bias, 0), ceiling)``, or the
bare sum where the network reads it out; batch normalisation is part of the
branches and the bias already.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.ir import Choice, Input, Source
from spikec.compiler.operators import Operator

__all__ = ["Branch", "Layer", "ReluNetwork"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Branch:
    """What one source, an input or a layer, adds to a layer."""

    source: str
    operator: Operator


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """One layer of ``shape`` neurons; ``rectified`` is False for a readout.

    ``bias`` has the layer's shape. ``ceiling`` is what ReLU6 and its like clip at.
    """

    name: str
    shape: Shape
    branches: tuple[Branch, ...]
    bias: Array
    rectified: bool = True
    ceiling: float | None = None

    def activation(self, values: Mapping[str, Array]) -> Array:
        """Return this layer's values, ``[sample, *shape]``, given those of its sources."""
        total = np.array(self.bias[None])
        for branch in self.branches:
            total = total + branch.operator.apply(values[branch.source]).reshape(-1, *self.shape)
        return np.clip(total, 0.0, self.ceiling) if self.rectified else total


@dataclass(frozen=True, eq=False, kw_only=True)
class ReluNetwork:
    """Layers in the order they are computed in; ``outputs`` names those that are the result."""

    inputs: tuple[Input, ...]
    layers: tuple[Layer, ...]
    outputs: tuple[str, ...]
    source: Source
    choices: tuple[Choice, ...] = ()

    @property
    def num_neurons(self) -> int:
        """The number of neurons in all layers."""
        return sum(size(layer.shape) for layer in self.layers)

    def run(
        self, inputs: Mapping[str, Array], *, ceilings: Mapping[str, float] | None = None
    ) -> dict[str, Array]:
        """Return the values of all inputs and layers, ``[sample, *shape]``, in float64.

        ``ceilings`` clips rectified layers, by name, as neurons do that fire at most
        once a step.
        """
        values = {name: np.asarray(given, np.float64) for name, given in inputs.items()}
        for layer in self.layers:
            found = layer.activation(values)
            limit = (ceilings or {}).get(layer.name)
            values[layer.name] = found if limit is None else np.minimum(found, limit)
        return values
