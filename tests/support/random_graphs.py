"""Random float networks with every switch of the neuron model.

All parameters are small multiples of powers of two: in a run of a dozen steps
every value fits a double exactly, so that two computations of it must be equal.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input, InputKind, SourceView
from spikec.compiler.operators import (
    Chain,
    Conv2d,
    Dense,
    Operator,
    Permute,
    Reshape,
    Scale,
    Sparse,
    Stage,
    Synapses,
    sum_pool,
)

__all__ = ["random_chain", "random_graph", "random_graph_inputs", "random_synapses"]

PICTURE: Shape = (2, 2, 3)


def random_graph(
    rng: np.random.Generator, *, dyadic: bool = True, canonicalisable: bool = False
) -> Graph:
    """Draw a graph; ``dyadic`` parameters make runs of up to twelve steps exact.

    ``canonicalisable`` leaves out what no canonical form exists for: cycles with
    less than one step an edge, a gain that varies within a channel, and a
    ``start`` that cuts off input.
    """
    inputs = [_input(rng, index) for index in range(rng.integers(1, 4))]
    shapes: dict[str, Shape] = {item.name: item.shape for item in inputs}
    count = int(rng.integers(1, 5))
    names = [f"pop{index}" for index in range(count)]
    for name in names:
        shapes[name] = PICTURE if rng.random() < 0.4 else (int(rng.integers(1, 4)),)
    readout = names[-1] if rng.random() < 0.4 else ""
    edges: list[Edge] = []
    for index, name in enumerate(names):
        before = [*(item.name for item in inputs), *names[:index]]
        sources = [source for source in before if rng.random() < 0.4]
        if rng.random() < 0.9:  # else a population may be driven by its bias alone
            sources.append(before[-1] if rng.random() < 0.6 else before[rng.integers(len(before))])
        behind = [source for source in names[index:] if rng.random() < 0.25]
        for source in [*sources, *behind]:
            if source == readout:
                continue
            least = 0
            if source in behind:
                least = count if canonicalisable else 1
            edges.append(
                Edge(
                    name=f"e{len(edges)}",
                    source=source,
                    target=name,
                    operator=_operator(rng, shapes[source], shapes[name], dyadic=dyadic),
                    delay=least + int(rng.choice([0, 0, 0, 1, 3])),
                )
            )
    by_channel = {
        edge.target for edge in edges if isinstance(edge.operator, Conv2d) and canonicalisable
    }
    nodes = [
        _population(
            rng,
            name,
            shapes[name],
            spiking=name != readout,
            dyadic=dyadic,
            by_channel=name in by_channel,
            may_wait=not canonicalisable,
        )
        for name in names
    ]
    everything = [*inputs, *nodes]
    order = rng.permutation(len(everything))
    return Graph(
        nodes=[everything[index] for index in order],
        edges=[edges[index] for index in rng.permutation(len(edges))],
        outputs=(names[-1],),
    )


def random_graph_inputs(
    graph: Graph, rng: np.random.Generator, samples: int, steps: int
) -> dict[str, Array]:
    """Draw exact data for ``graph``: bits, small integers, or multiples of 1/4."""
    data: dict[str, Array] = {}
    for item in graph.inputs:
        shape = (samples, steps, *item.shape)
        if item.kind == "binary":
            data[item.name] = (rng.random(shape) < rng.uniform(0.2, 0.8)).astype(np.uint8)
        else:
            unit = 1.0 if item.kind == "graded" else 0.25
            data[item.name] = unit * rng.integers(-2, 5, shape)
    return data


def _input(rng: np.random.Generator, index: int) -> Input:
    kinds: tuple[InputKind, ...] = ("binary", "graded", "analog")
    kind = kinds[rng.integers(3)]
    low, high = (0, 1) if kind == "binary" else (-2, 4)
    shape: Shape = PICTURE if rng.random() < 0.4 else (int(rng.integers(1, 4)),)
    return Input(
        name=f"in{index}",
        shape=shape,
        kind=kind,
        low=low,
        high=high,
        shift=int(rng.choice([0, 0, 1])),
    )


def _values(
    rng: np.random.Generator, shape: Shape, choices: Sequence[float], *, dyadic: bool
) -> Array:
    """Draw from ``choices``, or, if not dyadic, from between them."""
    drawn = rng.choice(choices, shape)
    if not dyadic:
        drawn = np.clip(drawn + rng.uniform(-0.1, 0.1, shape), min(choices), max(choices))
    return np.full(shape, drawn.flat[0]) if rng.random() < 0.4 else drawn


WEIGHTS = (-1, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 1.5)


def _operator(rng: np.random.Generator, source: Shape, target: Shape, *, dyadic: bool) -> Operator:
    if rng.random() < 0.25:
        return random_chain(rng, source, target)
    if source == target == PICTURE and rng.random() < 0.7:
        groups = int(rng.choice([1, 2]))
        weight = _values(rng, (2, 2 // groups, 3, 3), WEIGHTS, dyadic=dyadic)
        return Conv2d(weight=weight, padding=(1, 1), groups=groups)
    if rng.random() < 0.3:
        return _sparse(rng, size(target), size(source), dyadic=dyadic)
    return Dense(weight=_values(rng, (size(target), size(source)), WEIGHTS, dyadic=dyadic))


def random_synapses(rng: np.random.Generator, outputs: int, inputs: int) -> Synapses:
    """Draw who reaches whom; some sources reach nobody, and a table may be empty."""
    there = rng.random((inputs, outputs)) < rng.choice([0.4, 0.9, 1.0])
    return Synapses(
        targets=np.nonzero(there)[1],
        pointers=np.concatenate([[0], np.cumsum(there.sum(axis=1))]),
        outputs=outputs,
    )


def _sparse(rng: np.random.Generator, outputs: int, inputs: int, *, dyadic: bool) -> Sparse:
    synapses = random_synapses(rng, outputs, inputs)
    weight = (
        _values(rng, synapses.targets.shape, WEIGHTS, dyadic=dyadic)
        if len(synapses.targets)
        else np.zeros(0)
    )
    return Sparse(weight=weight, synapses=synapses)


def random_chain(rng: np.random.Generator, source: Shape, target: Shape) -> Chain:
    """Draw a chain of up to five stages from ``source`` to ``target`` or its flat form."""
    stages: list[Stage] = []
    shape = source
    for _ in range(rng.integers(0, 4)):
        options = _stages(rng, shape)
        stage = options[rng.integers(len(options))]
        stages.append(stage)
        shape = stage.output_shape(shape)
    if shape != target and size(shape) == size(target) and rng.random() < 0.5:
        stages.append(Reshape(shape=target))
    elif shape not in (target, (size(target),)):
        matrix = _values(rng, (size(target), size(shape)), WEIGHTS, dyadic=True)
        stages.append(Dense(weight=matrix))
    if rng.random() < 0.3:
        stages.append(Scale(weight=rng.choice([0.5, 2.0], ())))
    return Chain(stages=tuple(stages))


def _stages(rng: np.random.Generator, shape: Shape) -> list[Stage]:
    """Return one of each kind of stage that takes ``shape``."""
    options: list[Stage] = [
        Scale(weight=rng.choice([0.5, 2.0], rng.choice([0, 1]) * shape)),
        Reshape(shape=(size(shape),)),
        Permute(axes=tuple(rng.permutation(len(shape)).tolist())),
        Dense(weight=rng.choice([-0.5, 0, 0.5, 1], (int(rng.integers(2, 5)), size(shape)))),
        _sparse(rng, int(rng.integers(2, 5)), size(shape), dyadic=True),
    ]
    if len(shape) != 3:
        return options
    channels, height, width = shape
    options.append(Scale(weight=rng.choice([0.5, 2.0], (channels, 1, 1))))
    groups = int(rng.choice([1, channels]))
    options.append(
        Conv2d(
            weight=rng.choice([-0.5, 0, 0.5, 1], (channels, channels // groups, 2, 3)),
            padding=(1, int(rng.integers(1, 3))),
            stride=(1, int(rng.integers(1, 3))),
            groups=groups,
        )
    )
    for rows, columns in ((2, 1), (2, 2), (1, 3)):
        if height >= rows and width >= columns:
            padding = (int(rng.integers(2)), 0) if rows > 1 else (0, 0)
            options.append(sum_pool(channels, (rows, columns), (rows, columns), padding))
    return options


def _population(
    rng: np.random.Generator,
    name: str,
    shape: Shape,
    *,
    spiking: bool,
    dyadic: bool,
    by_channel: bool,
    may_wait: bool,
) -> LIF | LI:
    def values(*choices: float) -> Array:
        return _values(rng, shape, choices, dyadic=dyadic)

    delayed = rng.random() < 0.5
    alpha = values(0, 0.25, 0.5, 0.75) if rng.random() < 0.7 else None
    # i[-1] = alpha * c: with delayed coupling only such a current has an immediate form.
    current = values(-1, 0.5, 1) if rng.random() < 0.4 else np.zeros(shape)
    if delayed:
        current = current * (0 if alpha is None or (alpha == 0).any() else alpha)
    rest = values(-1, -0.5, 0.5, 2) if rng.random() < 0.5 else np.zeros(shape)
    vth = rest + values(0.5, 1, 1.5)
    gain = values(0.5, 1, 2, -1) if rng.random() < 0.5 else np.ones(shape)
    if by_channel:
        gain = np.broadcast_to(gain[:, :1, :1], shape)
    floor = rest + values(-1, -0.5, 0) if rng.random() < 0.25 else None
    offset = values(-1, 0, 2) if rng.random() < 0.2 else np.zeros(shape)
    scale = _values(rng, shape, [0.5, 1, 2], dyadic=True) if rng.random() < 0.2 else np.ones(shape)
    lag = int(rng.choice([0, 0, -1]))
    start = None
    if rng.random() < 0.5:
        start = np.maximum(rest + values(-0.5, 0, 0.25, 0.5), rest - 2 if floor is None else floor)
    base = {
        "name": name,
        "shape": shape,
        "alpha": alpha,
        "beta": values(0, 0.25, 0.5, 0.75, 1),
        "coupling": "delayed" if delayed else "immediate",
        "gain": gain,
        "bias": values(-0.25, 0, 0.25, 0.5) if rng.random() < 0.6 else 0.0,
        "rest": rest,
        "initial_current": current,
        "floor": floor,
        "initial_voltage": start,
        "start": int(rng.choice([0, 0, 1, 2])) if may_wait else 0,
        "view": SourceView(
            lag=lag,
            current_lag=lag + int(rng.choice([0, 0, 1])),
            voltage_offset=offset,
            current_scale=scale,
        ),
    }
    if not spiking:
        return LI(**base)  # type: ignore[arg-type]
    reset = rng.choice(["subtract", "zero", "value", "none"])
    order = rng.choice(["at_spike", "next_step"])
    value = None
    if reset == "value":
        value = rest + values(-1, -0.5, 0.25)
    elif reset == "subtract" and rng.random() < 0.4:
        value = values(0.25, 0.5, 1.25)
    may_repeat = reset == "subtract" and order == "at_spike"
    compare = ">" if rng.random() < 0.5 else ">="
    if order == "next_step" and base["initial_voltage"] is not None:
        # A start that spikes is refused: it would be a spike of step -1.
        highest = vth - (0.0 if compare == ">" else 1 / 8)
        base["initial_voltage"] = np.minimum(base["initial_voltage"], highest)
    return LIF(
        **base,  # type: ignore[arg-type]
        vth=vth,
        reset=str(reset),  # type: ignore[arg-type]
        reset_order=str(order),  # type: ignore[arg-type]
        compare=compare,  # type: ignore[arg-type]
        reset_value=value,
        reset_drops_input=bool(
            order == "next_step" and reset in ("zero", "value") and rng.random() < 0.5
        ),
        refractory=int(rng.choice([0, 0, 1, 2])) if order == "at_spike" else 0,
        max_spikes=(several := int(rng.choice([1, 1, 2, 3, 255])) if may_repeat else 1),
        reset_twice=may_repeat and several == 1 and bool(rng.random() < 0.5),
    )
