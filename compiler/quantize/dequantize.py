"""A program as a float graph in its own units: rung Q, the quantized parameters without rounding.

Voltages and currents are in units of v (one is ``lsb`` source volts), so weights,
thresholds and biases are whole numbers and float64 holds them exactly. What
separates Q from the integers is only the truncation of decays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, frozen
from spikec.compiler.fixedpoint import ACTIVATION_SHIFT, VTH_SHIFT
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input, SourceView
from spikec.compiler.operators import with_weight
from spikec.compiler.program import Connection, Neurons, Program
from spikec.compiler.quantize.decay import alpha_of, beta_of

__all__ = ["dequantize"]


def dequantize(program: Program) -> Graph:
    """Return ``program`` as a graph to be run on the integers that enter the chip."""
    inputs = [
        Input(
            name=item.name,
            shape=item.shape,
            kind="binary" if item.kind == "binary" else "graded",
            low=item.low,
            high=item.high,
            shift=item.shift,
        )
        for item in program.inputs
    ]
    return Graph(
        nodes=[*inputs, *(_population(item) for item in program.neurons)],
        edges=[_edge(item) for item in program.connections],
        outputs=program.outputs,
        dt=program.dt,
    )


def _population(neurons: Neurons) -> LIF | LI:
    view = SourceView(lag=neurons.view.lag, current_lag=neurons.view.current_lag)
    linear: dict[str, Any] = {
        "name": neurons.name,
        "shape": neurons.shape,
        "alpha": frozen(alpha_of(neurons.du)),
        "beta": frozen(beta_of(neurons.dv)),
        "bias": _float(neurons.bias),
        "floor": None if neurons.floor is None else _float(neurons.floor),
        "initial_current": _float(neurons.initial_current),
        "initial_voltage": _float(neurons.initial_voltage),
    }
    if neurons.vth is None:
        return LI(coupling="immediate", start=neurons.start, view=view, **linear)
    value = neurons.reset_amount if neurons.reset == "subtract" else neurons.reset_value
    return LIF(
        coupling="immediate",
        start=neurons.start,
        view=view,
        vth=_float(neurons.vth << VTH_SHIFT),
        reset=neurons.reset,
        reset_order=neurons.reset_order,
        compare=">",
        reset_value=None if value is None or neurons.reset in ("zero", "none") else _float(value),
        reset_drops_input=neurons.reset_drops_input,
        refractory=neurons.refractory,
        max_spikes=neurons.max_spikes,
        reset_twice=neurons.reset_twice,
        **linear,
    )


def _edge(connection: Connection) -> Edge:
    effective = connection.effective
    weight = frozen(np.ldexp(effective.weight.astype(np.float64), ACTIVATION_SHIFT))
    return Edge(
        name=connection.name,
        source=connection.source,
        target=connection.target,
        operator=with_weight(effective, weight),
        delay=connection.delay,
    )


def _float(values: Array) -> Array:
    return frozen(values.astype(np.float64))
