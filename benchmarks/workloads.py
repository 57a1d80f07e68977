"""The networks and spikes that every tool gets, kept as ``.npz`` that needs no spikec to read.

Weights are even int8, small enough that no current wraps; thresholds are tuned so that
every hidden layer fires at the wanted rate. The same seed gives the same files.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from spikec.backends import open_backend
from spikec.compiler.operators import Conv2d, Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.trace import Trace

Array = npt.NDArray[np.generic]

DU, DV, STEPS = 409, 205, 100
#: Changes when the files would: older ones in the cache are not used.
VERSION = 1
#: Samples that a tuned threshold is judged on, and how often its range is halved.
_TUNED_ON, _HALVINGS = 4, 14
#: ... or one sample where a layer has this many neurons.
_MANY = 4096


@dataclass(frozen=True, eq=False, kw_only=True)
class Layer:
    """A population and its weights: [out, in], or [out, in, y, x] with ``stride``."""

    shape: tuple[int, ...]
    weight: Array
    vth: int = 0
    stride: int = 0
    recurrent: Array | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Workload:
    """A chain of layers, and spikes ``[sample, step, *input_shape]``."""

    name: str
    title: str
    input_shape: tuple[int, ...]
    layers: tuple[Layer, ...]
    spikes: Array

    def save(self, path: Path) -> None:
        """Write arrays and, as JSON, what they are; whole or not at all."""
        arrays = {"spikes": self.spikes}
        described = []
        for index, layer in enumerate(self.layers):
            arrays[f"w{index}"] = layer.weight
            if layer.recurrent is not None:
                arrays[f"r{index}"] = layer.recurrent
            described.append(
                {"shape": layer.shape, "vth": layer.vth, "stride": layer.stride,
                 "recurrent": layer.recurrent is not None}
            )  # fmt: skip
        text = {"name": self.name, "title": self.title, "input_shape": self.input_shape,
                "du": DU, "dv": DV, "layers": described}  # fmt: skip
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, network=np.array(json.dumps(text)), **arrays)
        temporary.replace(path)

    @staticmethod
    def load(path: Path) -> Workload:
        """Read what :meth:`save` wrote."""
        with np.load(path) as held:
            text = json.loads(str(held["network"]))
            layers = tuple(
                Layer(
                    shape=tuple(item["shape"]),
                    weight=held[f"w{index}"],
                    vth=item["vth"],
                    stride=item["stride"],
                    recurrent=held[f"r{index}"] if item["recurrent"] else None,
                )
                for index, item in enumerate(text["layers"])
            )
            return Workload(
                name=text["name"],
                title=text["title"],
                input_shape=tuple(text["input_shape"]),
                layers=layers,
                spikes=held["spikes"],
            )

    def program(self) -> Program:
        """Return the network as spikec runs it: one step per connection, reset to 0 at a spike."""
        names = ["input", *(f"layer{index}" for index in range(len(self.layers)))]
        connections = []
        for source, name, layer in zip(names, names[1:], self.layers, strict=False):
            connections.append(_connection(source, name, layer.weight, layer.stride))
            if layer.recurrent is not None:
                connections.append(_connection(name, name, layer.recurrent, 0))
        return Program(
            target="loihi2",
            inputs=(
                ProgramInput(name="input", shape=self.input_shape, kind="binary", low=0, high=1),
            ),
            populations=tuple(
                Neurons(
                    name=name,
                    shape=layer.shape,
                    du=np.array(DU),
                    dv=np.array(DV),
                    vth=np.array(layer.vth),
                    reset="zero",
                    reset_order="at_spike",
                )
                for name, layer in zip(names[1:], self.layers, strict=True)
            ),
            connections=tuple(connections),
            outputs=(names[-1],),
        )


def _connection(source: str, target: str, weight: Array, stride: int) -> Connection:
    operator = Conv2d(weight=weight, stride=(stride, stride)) if stride else Dense(weight=weight)
    return Connection(
        name=f"{source}-{target}",
        source=source,
        target=target,
        operator=operator,
        weight_exp=0,
        num_weight_bits=8,
        sign_mode="mixed",
        delay=1,
    )


def _even(rng: np.random.Generator, shape: tuple[int, ...], spread: float, mean: float) -> Array:
    weights = 2 * np.rint(rng.normal(mean / 2, spread / 2, shape))
    return np.clip(weights, -128, 126).astype(np.int16)


def _spikes(
    rng: np.random.Generator, samples: int, shape: tuple[int, ...], rate: float, steps: int
) -> Array:
    size = (samples, steps, *shape)
    return (rng.random(size, np.float32) < rate).astype(np.uint8)


def dense(
    name: str, title: str, widths: tuple[int, ...], *, rate: float, hidden: float, samples: int,
    spread: float = 16, steps: int = STEPS, recurrent: bool = False, seed: int = 1,
) -> Workload:  # fmt: skip
    """Return a chain of dense layers, the first of them ``recurrent`` if wanted."""
    rng = np.random.default_rng(seed)
    layers = [
        Layer(
            shape=(count,),
            weight=_even(rng, (count, source), spread, spread / 16),
            recurrent=_even(rng, (count, count), spread / 4, 0)
            if recurrent and index == 0
            else None,
        )
        for index, (source, count) in enumerate(pairwise(widths))
    ]
    spikes = _spikes(rng, samples, (widths[0],), rate, steps)
    whole = Workload(
        name=name, title=title, input_shape=(widths[0],), layers=tuple(layers), spikes=spikes
    )
    return tuned(whole, hidden)


def convolutional(*, samples: int, steps: int = STEPS, seed: int = 3) -> Workload:
    """Return W3."""
    rng = np.random.default_rng(seed)
    layers = (
        Layer(shape=(12, 15, 15), weight=_even(rng, (12, 2, 5, 5), 24, 2), stride=2),
        Layer(shape=(64, 6, 6), weight=_even(rng, (64, 12, 5, 5), 24, 1), stride=2),
        Layer(shape=(10,), weight=_even(rng, (10, 64 * 36), 16, 1)),
    )
    spikes = _spikes(rng, samples, (2, 34, 34), 0.02, steps)
    title = "conv 2x34x34, 12c5/2, 64c5/2, 10"
    whole = Workload(name="W3", title=title, input_shape=(2, 34, 34), layers=layers, spikes=spikes)
    return tuned(whole, 0.05)


def tuned(workload: Workload, rate: float) -> Workload:
    """Return ``workload`` with thresholds at which each layer fires at ``rate``, one by one."""
    layers = list(workload.layers)
    many = max(int(np.prod(layer.shape)) for layer in layers) >= _MANY
    short = workload.spikes[: 1 if many else _TUNED_ON]
    for index, layer in enumerate(layers):
        low, high = 0, (1 << 17) - 1
        for _ in range(_HALVINGS):
            middle = (low + high) // 2
            layers[index] = replace(layer, vth=middle)
            part = replace(workload, layers=tuple(layers[: index + 1]), spikes=short)
            trace = simulated(part)
            found = trace[f"layer{index}", "spikes"].mean()
            low, high = (middle, high) if found > rate else (low, middle)
        layers[index] = replace(layer, vth=high)
    return replace(workload, layers=tuple(layers))


def simulated(workload: Workload, samples: int | None = None) -> Trace:
    """Return the trace of the first ``samples``."""
    with open_backend("simulator").load(workload.program()) as chip:
        return chip.run({"input": workload.spikes[:samples]})


def _wide(percent: int) -> Callable[[], Workload]:
    rate = percent / 100
    return lambda: dense(
        f"W4-{percent}", f"dense 4096-4096-4096, {percent} %", (4096, 4096, 4096),
        rate=rate, hidden=rate, samples=64 if percent < 20 else 16, spread=8, seed=4,
    )  # fmt: skip


#: The workloads by name, each made when it is first asked for.
MAKERS: dict[str, Callable[[], Workload]] = {
    "W1": lambda: dense(
        "W1", "dense 700-256-256-20", (700, 256, 256, 20), rate=0.03, hidden=0.05, samples=256
    ),
    "W2": lambda: dense(
        "W2",
        "recurrent 700-256(rec)-20",
        (700, 256, 20),
        rate=0.03,
        hidden=0.05,
        samples=256,
        recurrent=True,
        seed=2,
    ),
    "W3": lambda: convolutional(samples=256),
    **{f"W4-{percent}": _wide(percent) for percent in (1, 5, 20)},
}


def square(width: int, percent: int, *, steps: int = STEPS, samples: int = 16) -> Workload:
    """Return one square layer, for curves."""
    return dense(
        f"N{width}-{percent}-T{steps}", f"dense {width}-{width}", (width, width),
        rate=percent / 100, hidden=percent / 100, samples=samples, spread=8, steps=steps, seed=5,
    )  # fmt: skip


def long(steps: int) -> Workload:
    """Return W1 with another number of steps."""
    return dense(
        f"W1-T{steps}", f"W1, {steps} steps", (700, 256, 256, 20), rate=0.03, hidden=0.05,
        samples=16, steps=steps,
    )  # fmt: skip


def kept(cache: Path, name: str, make: Callable[[], Workload]) -> Path:
    """Return the file of a workload, made if it is not in ``cache`` yet."""
    folder = cache / f"workloads-{VERSION}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.npz"
    if not path.is_file():
        make().save(path)
    return path


def operations(workload: Workload, trace: Trace) -> dict[str, float]:
    """Return per sample: synaptic operations, multiply-adds of dense tools, updates, spikes.

    A synaptic operation is one weight that a spike reaches; edges of pictures count as
    they are. ``together`` is how many rows of the weights bytes can sum.
    """
    samples, steps = workload.spikes.shape[:2]
    sources: list[tuple[Array, Layer, Array, int]] = []
    before = workload.spikes
    for index, layer in enumerate(workload.layers):
        spikes = trace[f"layer{index}", "spikes"]
        sources.append((before, layer, layer.weight, layer.stride))
        if layer.recurrent is not None:
            sources.append((spikes, layer, layer.recurrent, 0))
        before = spikes
    reached = 0.0
    dense_cost, extracted, events = 0, 0, 0
    for spikes, layer, weight, stride in sources:
        count = spikes[: len(trace["layer0", "spikes"])]
        samples = len(count)
        events += int(count.sum())
        extracted += int(np.prod(count.shape[2:]))
        if stride:
            fan = _fan_out(weight, stride, count.shape[2:], layer.shape)
            reached += float((count.sum(axis=(0, 1)) * fan).sum())
            dense_cost += int(np.prod(weight.shape)) * int(np.prod(layer.shape[1:]))
        else:
            reached += float(count.sum()) * len(weight)
            dense_cost += weight.size
    neurons = sum(int(np.prod(layer.shape)) for layer in workload.layers)
    return {
        "sop": reached / samples,
        "mac": float(dense_cost * steps),
        "updates": float(neurons * steps),
        "scanned": float(extracted * steps),
        "events": events / samples,
        "together": float(min(_together(weight) for _, _, weight, _ in sources)),
    }


def _together(weight: Array) -> int:
    """Return of how many rows of even weights bytes hold the sum."""
    return 127 // max(1, int(np.abs(weight).max()) // 2)


def _fan_out(
    weight: Array, stride: int, source: tuple[int, ...], target: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Return how many synapses each source neuron has."""
    out, _, rows, columns = weight.shape
    taps = np.zeros(source[1:], np.int64)
    for y in range(rows):
        for x in range(columns):
            taps[y : y + target[1] * stride : stride, x : x + target[2] * stride : stride] += 1
    return np.broadcast_to(taps * out, source)
