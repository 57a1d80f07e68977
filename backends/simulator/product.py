"""Inputs that are mostly not zero: one exact matrix product instead of row after row.

Sums of integers below 2**24 are exact in float32, below 2**53 in float64, in
whatever order they are added; the bound is that of the input's declared range.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikec.backends.simulator import codes as k
from spikec.backends.simulator.layout import Columns, Layout
from spikec.compiler.arrays import Array, sealed
from spikec.compiler.bounds import MOST, reach
from spikec.compiler.operators import Dense, Sparse, Weighted, with_weight
from spikec.compiler.pages import let_go
from spikec.compiler.program import Connection

__all__ = ["Product", "products"]

#: Shares of what is not zero above which a product was measured to be faster: for integers,
#: for spikes, and for spikes whose weights a core's cache does not hold.
_DENSE_VALUES = 0.1
_DENSE_SPIKES = 0.85
_DENSE_SPIKES_LARGE = 0.3
_CACHE = 1 << 20
#: Values, and weights, that are multiplied at a time.
_VALUES = 1 << 22


@dataclass(frozen=True, eq=False, kw_only=True)
class Product:
    """A connection from an input whose sums are made ready, and the type they are exact in."""

    row: int
    connection: Connection
    source: Columns
    target: Columns
    dtype: type[np.floating]
    graded: bool

    def worth(self, density: float) -> bool:
        """Say whether the product is the faster way at this share of what is not zero."""
        if self.graded:
            return density > _DENSE_VALUES
        large = self.connection.operator.weight.size > _CACHE
        return density > (_DENSE_SPIKES_LARGE if large else _DENSE_SPIKES)

    def sums(self, values: Array, dtype: type[np.signedinteger]) -> Array:
        """Return what arrives for ``values``, ``[sample, row, neuron]``, in the order of places."""
        samples, rows, _ = values.shape
        flat = values.reshape(samples * rows, *self.source.shape)
        result = np.empty((samples * rows, self.target.count), dtype)
        size = max(1, _VALUES // max(self.source.count, self.target.count))
        for neurons, operator in self._parts():
            for begin in range(0, len(flat), size):
                part = operator.apply(flat[begin : begin + size].astype(self.dtype))
                result[begin : begin + size, neurons] = part.reshape(len(part), -1)
        if self.target.order is not None:  # not by index: that leaves gaps, for other loops to read
            result = result.take(self.target.order, axis=1)
        return result.reshape(samples, rows, -1)

    def _parts(self) -> Iterator[tuple[slice, Weighted]]:
        """Yield some neurons and what brings their input, so that few weights are there twice."""
        operator = self.connection.operator
        weight, scale = operator.weight, self.dtype(1 << self.connection.weight_exp)
        if not isinstance(operator, Dense):
            yield slice(None), with_weight(operator, weight.astype(self.dtype) * scale)
            return
        step = max(1, _VALUES // self.source.count)
        for begin in range(0, len(weight), step):
            some = weight[begin : begin + step]
            yield slice(begin, begin + step), Dense(weight=sealed(some.astype(self.dtype) * scale))
            let_go(some)


def products(layout: Layout) -> Iterator[Product]:
    """Yield every connection from an input that a product could serve exactly."""
    inputs = {item.name: item for item in layout.program.inputs}
    for row, connection in enumerate(layout.wires):
        if connection.source not in inputs or isinstance(connection.operator, Sparse):
            continue
        most = int(reach(layout.program, connection).max(initial=0))
        if most >= MOST:
            continue
        graded = int(layout.connections[row, k.C_VALUES]) == k.INTEGERS
        yield Product(
            row=row,
            connection=connection,
            source=(layout.integers if graded else layout.heard)[connection.source],
            target=layout.sent[connection.target],
            dtype=np.float32 if most < 1 << 24 else np.float64,
            graded=graded,
        )
