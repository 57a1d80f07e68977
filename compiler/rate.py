r"""Rate conversion: a trained ReLU network as a network of integrate-and-fire neurons.

A ReLU layer becomes a population that integrates without leak (``beta`` 1), fires
where ``u > theta``, takes ``theta`` off (what is above the threshold is kept) and
starts from ``theta / 2``. With a constant current z it has fired after T steps

    N = ceil(T z / theta - 1/2), at least 0 and at most T, so |N theta / T - z| <= theta / (2 T)

for z in [0, theta]: the rate is a clipped ReLU, rounded to the nearest count. A spike
is worth ``theta`` and the edge that carries it says so, so that weights, currents,
voltages and the readout stay in the units of the trained network.

In deeper layers currents come as spikes. If what has arrived by step t is never more
than B away from t z, then ``N theta`` is never more than ``3 B + theta / 2`` away from
``t min(max(z, 0), theta)``: the error falls as 1/T in every layer. (It fires at most
``theta / 2 + max_s Z_s`` often. It lags by at most ``theta + 2 B`` since it last was
below its threshold, as it takes off ``theta`` at every step since.)

The thresholds are a percentile of the activations on calibration data (Rueckauer et
al., 2017, doi 10.3389/fnins.2017.00682): the largest activation of all would make most
rates small and slow. What lies above saturates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, frozen, size
from spikec.compiler.backend import Progress
from spikec.compiler.batches import batch_size, in_batches
from spikec.compiler.entrance import refuse_few
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.inputs import Dataset, check_data
from spikec.compiler.ir import LI, LIF, Choice, Edge, Graph
from spikec.compiler.operators import Chain, Operator, Scale
from spikec.compiler.relu import Layer, ReluNetwork
from spikec.compiler.trace import Probe

__all__ = [
    "DEFAULT_PERCENTILE",
    "STEPS",
    "Converted",
    "RateReport",
    "StepsRow",
    "convert",
    "measure",
]

DEFAULT_PERCENTILE = 99.9
#: The numbers of steps that a report compares.
STEPS = (8, 16, 32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What conversion chose for one population.

    ``threshold`` and ``largest``, the largest activation seen, are in the units of the
    ReLU network; ``rate`` is the mean activation in thresholds, spikes a step at most.
    """

    population: str
    neurons: int
    threshold: float
    largest: float
    rate: float


@dataclass(frozen=True, kw_only=True)
class StepsRow:
    """How the spiking network does after ``steps`` steps.

    ``accuracy`` is None without labels; ``agreement`` is the share of samples in the
    class that the ReLU network gives; ``spikes`` are those of all neurons, per sample.
    """

    steps: int
    accuracy: float | None
    agreement: float
    spikes: float


@dataclass(frozen=True, kw_only=True)
class RateReport:
    """A conversion judged on data: the ReLU network's own accuracy, and a row per time."""

    samples: int
    accuracy: float | None
    rows: tuple[StepsRow, ...]

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return asdict(self)


def convert(
    network: ReluNetwork, calibration: Dataset, *, percentile: float = DEFAULT_PERCENTILE
) -> tuple[Graph, tuple[Converted, ...]]:
    """Return ``network`` as integrate-and-fire neurons, and what was chosen for each layer.

    ``calibration`` holds one step: what the ReLU network is given. ``percentile`` is that
    of the activations above 0, in (0, 100]. Raises :class:`UsageError` for data of more
    steps, and for a layer that no sample activates.
    """
    if not 0 < percentile <= 100:
        raise UsageError(
            _finding(
                "U101",
                "option --percentile",
                f"{percentile:g} is no percentile",
                "above 0 and at most 100; 99.9 is usual",
            )
        )
    seen = _activations(network, _stills(network, calibration), percentile)
    raise_if_any(UsageError, [_silent(name) for name, item in seen.items() if not item.positive])
    thresholds = {name: item.value() for name, item in seen.items()}
    populations = [_population(layer, thresholds.get(layer.name)) for layer in network.layers]
    graph = Graph(
        nodes=[*network.inputs, *populations],
        edges=[edge for layer in network.layers for edge in _edges(layer, thresholds)],
        outputs=network.outputs,
        source=network.source,
        choices=(*network.choices, *_choices(percentile, calibration.num_samples)),
    )
    return graph, tuple(
        Converted(
            population=name,
            neurons=item.neurons,
            threshold=thresholds[name],
            largest=item.largest,
            rate=item.total / item.count / thresholds[name],
        )
        for name, item in seen.items()
    )


def measure(
    network: ReluNetwork,
    graph: Graph,
    data: Dataset,
    *,
    steps: Sequence[int] = STEPS,
    progress: Progress | None = None,
) -> RateReport:
    """Run the converted ``graph`` on ``data`` and compare it with ``network`` after ``steps``.

    The first output is read: the largest voltage, which is the sum so far, or the most
    spikes. One run of the most steps tells them all.
    """
    for count in steps:
        refuse_few(count, "steps to measure")
    outputs = size(graph[graph.outputs[0]].shape)
    stills, longest = _stills(network, data, outputs), max(steps)
    together = batch_size(network.num_neurons, longest)
    wanted: list[Array] = []
    found: list[Array] = []
    spikes = np.zeros(len(steps))
    for part in in_batches(data.num_samples, together):
        some = {name: values[part] for name, values in stills.items()}
        wanted.append(_class_of(network.run(some)[network.outputs[0]]))
        lasting = {
            name: np.broadcast_to(values[:, None], (len(values), longest, *values.shape[1:]))
            for name, values in some.items()
        }
        trace = reference.run(graph, lasting)
        found.append(_classes(graph, trace.values, steps))
        spikes += _spike_counts(trace.values, steps)
        if progress is not None:
            progress(part.stop, data.num_samples)
    expected, classes = np.concatenate(wanted), np.concatenate(found, axis=1)
    rows = tuple(
        StepsRow(
            steps=count,
            accuracy=_share(classes[index], data.labels),
            agreement=float((classes[index] == expected).mean()),
            spikes=float(spikes[index] / data.num_samples),
        )
        for index, count in enumerate(steps)
    )
    return RateReport(samples=data.num_samples, accuracy=_share(expected, data.labels), rows=rows)


# --- activations ---------------------------------------------------------------------


class _Seen:
    """The activations of one layer over all data, of which only the largest are kept."""

    def __init__(self, neurons: int, samples: int, percentile: float) -> None:
        self.neurons, self.count = neurons, neurons * samples
        self._above = (100.0 - percentile) / 100.0
        #: Enough of the largest to interpolate the percentile, however many are positive.
        self._kept = math.ceil(self._above * self.count) + 2
        self._top = np.zeros(0)
        self.positive = 0
        self.total = 0.0

    def add(self, values: Array) -> None:
        """Take more activations into account."""
        positive = values[values > 0]
        self.positive += positive.size
        self.total += float(positive.sum())
        top = np.concatenate([self._top, positive])
        if top.size > self._kept:
            top = np.partition(top, top.size - self._kept)[-self._kept :]
        self._top = top

    @property
    def largest(self) -> float:
        """The largest activation."""
        return float(self._top.max())

    def value(self) -> float:
        """Return the percentile of the activations above 0, interpolated linearly."""
        place = self._above * (self.positive - 1)
        falling = np.sort(self._top)[::-1]
        return float(np.interp(place, np.arange(falling.size), falling))


def _activations(
    network: ReluNetwork, stills: Mapping[str, Array], percentile: float
) -> dict[str, _Seen]:
    samples = len(next(iter(stills.values())))
    layers = [layer for layer in network.layers if layer.rectified]
    seen = {layer.name: _Seen(math.prod(layer.shape), samples, percentile) for layer in layers}
    for part in in_batches(samples, batch_size(network.num_neurons, 1)):
        values = network.run({name: given[part] for name, given in stills.items()})
        for name, item in seen.items():
            item.add(values[name])
    return seen


def _stills(network: ReluNetwork, data: Dataset, classes: int | None = None) -> dict[str, Array]:
    """Return what the ReLU network is given: data of one step without the step."""
    data = check_data(data, network.inputs, where="data", classes=classes)
    if data.num_steps != 1:
        raise UsageError(
            _finding(
                "U102",
                "data",
                f"they have {data.num_steps} steps: a ReLU network is given a sample at once",
                "save one step per sample, [sample, 1, features...]",
            )
        )
    return {name: values[:, 0] for name, values in data.inputs.items()}


def _silent(name: str) -> Diagnostic:
    return _finding(
        "U103",
        f"layer '{name}'",
        "no sample activates any of its neurons: its threshold is unknown",
        "give more data, or data like those the network was trained on",
    )


# --- the spiking network -------------------------------------------------------------


def _population(layer: Layer, threshold: float | None) -> LIF | LI:
    """Return a layer's neurons; without ``threshold`` a readout that sums up its currents."""
    if threshold is None:
        return LI(
            name=layer.name,
            shape=layer.shape,
            alpha=None,
            beta=frozen(1.0),
            coupling="immediate",
            bias=layer.bias,
        )
    return LIF(
        name=layer.name,
        shape=layer.shape,
        alpha=None,
        beta=frozen(1.0),
        coupling="immediate",
        bias=layer.bias,
        initial_voltage=frozen(threshold / 2),
        vth=frozen(threshold),
        reset="subtract",
        reset_order="at_spike",
        compare=">",  # the chip's own: ">=" would have to be rounded
    )


def _edges(layer: Layer, thresholds: Mapping[str, float]) -> list[Edge]:
    titles = [f"{branch.source}->{layer.name}" for branch in layer.branches]
    return [
        Edge(
            name=title if titles.count(title) == 1 else f"{title} {number}",
            source=branch.source,
            target=layer.name,
            operator=_worth(branch.operator, thresholds.get(branch.source)),
        )
        for number, (title, branch) in enumerate(zip(titles, layer.branches, strict=True), start=1)
    ]


def _worth(operator: Operator, threshold: float | None) -> Operator:
    """Return the operator for a source whose spike is worth ``threshold``."""
    if threshold is None:
        return operator
    stages = operator.stages if isinstance(operator, Chain) else (operator,)
    return Chain(stages=(Scale(weight=frozen(threshold)), *stages))


def _choices(percentile: float, samples: int) -> tuple[Choice, ...]:
    origin = "rate conversion"
    return (
        Choice(what="conversion", value="ReLU to spike rates", origin="option --convert"),
        Choice(
            what="thresholds",
            value=f"percentile {percentile:g} of the activations above 0",
            origin=f"{samples} samples of calibration data",
        ),
        Choice(what="a spike is worth", value="the threshold of its population", origin=origin),
        Choice(what="input", value="the same analog current at every step", origin=origin),
        Choice(what="initial voltage", value="half the threshold", origin=origin),
        Choice(what="readout", value="the sum of its currents over all steps", origin=origin),
    )


# --- classes -------------------------------------------------------------------------


def _class_of(scores: Array) -> Array:
    classes: Array = np.argmax(scores.reshape(len(scores), -1), axis=1)
    return classes


def _classes(graph: Graph, values: Mapping[Probe, Array], steps: Sequence[int]) -> Array:
    """Return the class of every sample after each number of steps."""
    output = graph.outputs[0]
    if isinstance(graph[output], LI):
        return np.stack([_class_of(values[output, "voltage"][:, count - 1]) for count in steps])
    fired = values[output, "spikes"]
    return np.stack([_class_of(fired[:, :count].sum(axis=1, dtype=np.int64)) for count in steps])


def _spike_counts(values: Mapping[Probe, Array], steps: Sequence[int]) -> Array:
    fired = [item for (_, quantity), item in values.items() if quantity == "spikes"]
    return np.array(
        [sum(int(item[:, :count].sum(dtype=np.int64)) for item in fired) for count in steps], float
    )


def _share(classes: Array, labels: Array | None) -> float | None:
    return None if labels is None else float((classes == labels).mean())


def _finding(code: str, where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)
