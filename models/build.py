"""Describe a network in a few lines: from arrays, or from time constants.

>>> import numpy as np
>>> from spikec.models import dense, network, seed_lif, spikes
>>> graph = network(
...     dt=1e-3,
...     nodes=[
...         spikes("pixels", 4),
...         seed_lif("hidden", 3, tau_syn=5e-3, tau_mem=10e-3, dt=1e-3),
...     ],
...     edges=[dense("pixels", "hidden", np.full((3, 4), 0.5))],
...     outputs=["hidden"],
... )
>>> [node.name for node in graph.populations]
['hidden']
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from spikec.compiler.arrays import Array, Shape, frozen
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.ir import (
    LI,
    LIF,
    Choice,
    Edge,
    Graph,
    Input,
    Node,
    SourceView,
)
from spikec.compiler.operators import Conv2d, Dense, Sparse, Synapses

__all__ = [
    "analog",
    "conv2d",
    "decay_factor",
    "dense",
    "graded",
    "network",
    "seed_lif",
    "seed_network",
    "seed_readout",
    "sparse",
    "spikes",
]

#: The delay of an edge that was given none, until :func:`network` resolves it: no user's number.
_UNSET = -(1 << 62)


def decay_factor(tau: npt.ArrayLike, *, dt: float) -> Array:
    """Return ``exp(-dt / tau)``: what a state keeps over one step; tau and dt in seconds.

    A tau of 0 forgets at once (factor 0); an infinite tau keeps everything.
    """
    values = _numbers(tau, "decay_factor, tau", np.float64)
    if not dt > 0 or not math.isfinite(dt) or not (values >= 0).all():
        raise UsageError(
            Diagnostic(
                code="U050",
                where="decay_factor",
                message=f"tau {tau!r} with dt {dt!r}",
                hint="give tau of 0 or more and dt above 0, both in seconds",
            )
        )
    with np.errstate(divide="ignore"):
        return frozen(np.exp(-dt / values))


def spikes(name: str, shape: int | Shape) -> Input:
    """Return an input of binary spikes."""
    return Input(name=name, shape=_shape(shape), kind="binary", low=0, high=1)


def graded(name: str, shape: int | Shape, *, low: int, high: int) -> Input:
    """Return an input of integers from ``low`` to ``high``, such as 8-bit pixels."""
    return Input(name=name, shape=_shape(shape), kind="graded", low=low, high=high)


def analog(
    name: str, shape: int | Shape, *, low: float | None = None, high: float | None = None
) -> Input:
    """Return an input of real-valued currents; without bounds, calibration data supply them."""
    return Input(name=name, shape=_shape(shape), kind="analog", low=low, high=high)


def seed_lif(name: str, shape: int | Shape, **parameters: Any) -> LIF:
    """Return a population of the seed model (Neftci, Mostafa and Zenke 2019).

    ``I[n+1] = alpha I[n] + W S_in[n] + V S[n]``, ``U[n+1] = U_rest + beta (U[n] -
    U_rest) + R I[n] - (vth - U_rest) S[n]``, ``S[n] = U[n] > vth``. Give ``alpha`` and
    ``beta``, or ``tau_syn``, ``tau_mem`` and ``dt`` in seconds; ``vth`` (1), ``rest``
    (0), ``gain`` (R, 1) and ``bias`` (0) take a number or one value per neuron.
    """
    vth = parameters.pop("vth", 1.0)
    return LIF(
        **_seed_fields(name, shape, parameters),
        vth=_numbers(vth, f"population '{name}', vth", np.float64),
        reset="subtract",
        reset_order="next_step",
        compare=">",
    )


def seed_readout(name: str, shape: int | Shape, **parameters: Any) -> LI:
    """Return the seed model's readout: the same equations without threshold and spike."""
    return LI(**_seed_fields(name, shape, parameters))


def dense(
    source: str, target: str, weight: npt.ArrayLike, *, delay: int | None = None, name: str = ""
) -> Edge:
    """Return all-to-all weights ``[out, in]``.

    Without a delay, :func:`network` gives the seed model's: 0 from an input, 1
    from a population.
    """
    return Edge(
        name=name or f"{source}->{target}",
        source=source,
        target=target,
        operator=Dense(weight=_numbers(weight, f"dense {source} -> {target}")),
        delay=_UNSET if delay is None else delay,
    )


def sparse(
    source: str,
    target: str,
    weight: npt.ArrayLike,
    *,
    sources: npt.ArrayLike,
    targets: npt.ArrayLike,
    shape: tuple[int, int],
    delay: int | None = None,
    name: str = "",
) -> Edge:
    """Return single synapses: ``weight[k]`` from neuron ``sources[k]`` to ``targets[k]``.

    Neurons are numbered in row-major order; ``shape`` is (neurons of the target, of the
    source), that of the matrix. Synapses may come in any order; the weights of a pair
    that is there several times add up. Raises :class:`UsageError` for what fits no matrix.
    """
    outputs, inputs = shape
    weights, heard, reached = (
        _numbers(item, f"sparse {source} -> {target}") for item in (weight, sources, targets)
    )
    integers = heard.dtype.kind in "iu" and reached.dtype.kind in "iu"
    one_each = weights.ndim == 1 and weights.shape == heard.shape == reached.shape
    inside = one_each and integers and _within(heard, inputs) and _within(reached, outputs)
    if not inside or min(shape) < 1:
        raise UsageError(
            Diagnostic(
                code="U053",
                where=f"sparse {source} -> {target}",
                message=f"weights {weights.shape}, sources {heard.dtype}{heard.shape} and targets "
                f"{reached.dtype}{reached.shape} make no matrix of shape {shape}",
                hint="give one weight, source and target a synapse, counted from 0",
            )
        )
    place, which = np.unique(heard.astype(np.int64) * outputs + reached, return_inverse=True)
    synapses = Synapses(
        targets=place % outputs,
        pointers=np.searchsorted(place, np.arange(inputs + 1) * outputs),
        outputs=outputs,
    )
    summed = np.bincount(which.reshape(-1), weights, len(place)).astype(weights.dtype)
    return Edge(
        name=name or f"{source}->{target}",
        source=source,
        target=target,
        operator=Sparse(weight=frozen(summed), synapses=synapses),
        delay=_UNSET if delay is None else delay,
    )


def _within(numbers: Array, count: int) -> bool:
    return not numbers.size or bool(numbers.min() >= 0 and numbers.max() < count)


def conv2d(
    source: str,
    target: str,
    weight: npt.ArrayLike,
    *,
    stride: int | tuple[int, int] = 1,
    padding: int | tuple[int, int] = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    delay: int | None = None,
    name: str = "",
) -> Edge:
    """Return a convolution as PyTorch defines it, ``weight[out, in / groups, h, w]``."""
    return Edge(
        name=name or f"{source}->{target}",
        source=source,
        target=target,
        operator=Conv2d(
            weight=_numbers(weight, f"conv2d {source} -> {target}"),
            stride=_pair(stride),
            padding=_pair(padding),
            dilation=_pair(dilation),
            groups=groups,
        ),
        delay=_UNSET if delay is None else delay,
    )


def network(
    *,
    nodes: Sequence[Node],
    edges: Sequence[Edge],
    outputs: Sequence[str],
    dt: float | None = None,
) -> Graph:
    """Return a checked graph. ``dt`` is the time step in seconds, for reports.

    An edge without a delay gets 0 from an input and 1 from a population: the
    timing of the seed model, ``S_in[n]`` and ``S[n]`` both reaching ``I[n+1]``. The
    graph records that choice.
    """
    inputs = {node.name for node in nodes if isinstance(node, Input)}
    unset = [edge for edge in edges if edge.delay == _UNSET]
    timed = [
        edge if edge.delay != _UNSET else replace(edge, delay=0 if edge.source in inputs else 1)
        for edge in edges
    ]
    choices = [
        Choice(what="delay of edges without one", value="0 from inputs, 1 from populations",
               origin="the seed model")
    ] if unset else []  # fmt: skip
    return Graph(nodes=nodes, edges=timed, outputs=outputs, dt=dt, choices=choices)


def seed_network(
    *,
    feedforward: Sequence[npt.ArrayLike],
    recurrent: Sequence[npt.ArrayLike | None] = (),
    alpha: float | Sequence[npt.ArrayLike],
    beta: float | Sequence[npt.ArrayLike],
    vth: float = 1.0,
    readout: bool = False,
    dt: float | None = None,
) -> Graph:
    """Return a chain of seed-model layers from plain arrays.

    ``feedforward[l]`` is W of layer l, ``[out, in]``; ``recurrent[l]`` its V or
    None. Layers are named ``layer1``, ``layer2``, ...; the last is a leaky
    integrator with ``readout``. ``alpha`` and ``beta`` are numbers, or one value
    (or array) per layer.
    """
    weights = [_numbers(weight, "seed_network, feedforward") for weight in feedforward]
    loops = [*recurrent, *[None] * (len(weights) - len(recurrent))]
    alphas, betas = (
        [value] * len(weights) if isinstance(value, (int, float)) else list(value)
        for value in (alpha, beta)
    )
    counts = {"recurrent": len(loops), "alpha": len(alphas), "beta": len(betas)}
    wrong = [f"{name} has {count}" for name, count in counts.items() if count != len(weights)]
    if not weights or any(weight.ndim != 2 for weight in weights) or wrong:
        raise UsageError(
            Diagnostic(
                code="U052",
                where="seed_network",
                message=f"{len(weights)} layers; {', '.join(wrong) or 'weights are no matrices'}",
                hint="give one matrix [out, in] per layer, and one number or one value per layer "
                "for alpha and beta",
            )
        )
    names = ["input", *(f"layer{index + 1}" for index in range(len(weights)))]
    nodes: list[Node] = [spikes("input", weights[0].shape[1])]
    edges: list[Edge] = []
    for index, weight in enumerate(weights):
        name, last = names[index + 1], index == len(weights) - 1
        if readout and last:
            nodes.append(seed_readout(name, len(weight), alpha=alphas[index], beta=betas[index]))
        else:
            nodes.append(
                seed_lif(name, len(weight), alpha=alphas[index], beta=betas[index], vth=vth)
            )
        edges.append(dense(names[index], name, weight, name=f"W{index + 1}"))
        loop = loops[index]
        if loop is not None:
            edges.append(dense(name, name, loop, name=f"V{index + 1}"))
    return network(nodes=nodes, edges=edges, outputs=[names[-1]], dt=dt)


def _seed_fields(name: str, shape: int | Shape, parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the linear fields of a seed-model population, decays resolved."""
    given = set(parameters)
    allowed = {"alpha", "beta", "tau_syn", "tau_mem", "dt", "rest", "gain", "bias",
               "initial_current", "initial_voltage"}  # fmt: skip
    by_factor, by_time = {"alpha", "beta"} <= given, {"tau_syn", "tau_mem", "dt"} <= given
    mixed = given & {"alpha", "beta"} and given & {"tau_syn", "tau_mem", "dt"}
    if given - allowed or mixed or not (by_factor or by_time):
        raise UsageError(
            Diagnostic(
                code="U051",
                where=f"population '{name}'",
                message=f"parameters {', '.join(sorted(given)) or 'missing'} do not define it",
                hint="give alpha and beta, or tau_syn, tau_mem and dt (seconds); optional: vth, "
                "rest, gain, bias, initial_current, initial_voltage",
            )
        )
    if by_time:
        dt = parameters.pop("dt")
        parameters["alpha"] = decay_factor(parameters.pop("tau_syn"), dt=dt)
        parameters["beta"] = decay_factor(parameters.pop("tau_mem"), dt=dt)
    arrays = {
        key: None if value is None else _numbers(value, f"population '{name}', {key}", np.float64)
        for key, value in parameters.items()
    }
    view = SourceView(lag=-1, current_lag=-1)
    return {"name": name, "shape": _shape(shape), "coupling": "delayed", "view": view, **arrays}


def _numbers(values: npt.ArrayLike, where: str, dtype: npt.DTypeLike | None = None) -> Array:
    """Return an array that nobody can write to; :class:`UsageError` for what is none."""
    try:
        return frozen(values, dtype)
    except ValueError as error:
        raise UsageError(
            Diagnostic(
                code="U054",
                where=where,
                message=str(error),
                hint="give numbers, as many in each row and none masked",
            )
        ) from error


def _shape(shape: int | Shape) -> Shape:
    return (shape,) if isinstance(shape, int) else tuple(shape)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
