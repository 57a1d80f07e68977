r"""Levels fitted to data: what a fit promises, from the calibration data once more.

A fit starts from the nearest levels and never makes a row's loss larger. That loss is computed
here from its meaning: the errors of a row's weights, each times its importance, are sent through
the synapse and the membrane as weights are, and what the voltage does beyond what a bias undoes
is squared and averaged; the weights' own error is added. No matrix is made. A row whose loss is
above that of its nearest levels is not what the fit gave, nor is a bias that does not undo the
errors near the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, FloatArray, size
from spikec.compiler.batches import in_batches
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import DECAY_UNITY
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, LIF, Graph, SourceView
from spikec.compiler.operators import Conv2d, Weighted
from spikec.compiler.program import Neurons
from spikec.compiler.trace import Probe, Trace
from spikec.compiler.validation.findings import finding
from spikec.compiler.validation.weights import EdgeWeights

__all__ = ["Seen", "check_fit", "seen_in"]

#: The loss that a fit adds is this share of an edge's mean square trace, per weight.
_OWN = 1.0
#: How much less steps far from the threshold count, and how far importances go.
_FAR, _IMPORTANCE, _LEAST, _MOST = 0.1, 16, 0.25, 4.0
#: Bits of a trace's magnitude: importances round, and follow its last ones.
_TRACE_BITS = 11
#: Values of a batch, and products of one matrix: of longer data every k-th step is taken.
_BATCH, _MOST_WORK = 2_000_000, 4e10
#: Values of traces that are kept from one pass over the data to the next.
_MOST_KEPT = 1 << 24
#: A fit rounds errors and sums: a row may be so much above its nearest levels' loss, and
#: the share that a report states may be so far away, relatively and absolutely.
_ABOVE, _STATED, _STATED_LEAST = 1.05, 0.02, 1e-3
#: Bits of a fit's matrix, those that are left where sums of many products are exact, and bits of
#: an error below one level.
_MATRIX_BITS, _EXACT_BITS, _ERROR_BITS = 20, 27, 10


@dataclass(frozen=True, eq=False, kw_only=True)
class Seen:
    """What the canonical graph did on calibration data: ``sent[source][sample, step, *shape]``.

    ``near[name]`` says at which steps a spiking population was near its threshold.
    """

    sent: Mapping[str, Array]
    near: Mapping[str, Array]


def seen_in(canonical: Graph, data: Dataset, samples: int) -> Seen:
    """Run ``canonical`` on the first ``samples`` of ``data``."""
    some = {name: values[:samples] for name, values in data.inputs.items()}
    plain = canonical.rewritten(
        nodes={node.name: replace(node, view=SourceView()) for node in canonical.populations}
    )
    spiking = [node for node in plain.populations if isinstance(node, LIF)]
    probes: list[Probe] = [(node.name, "spikes") for node in spiking]
    probes += [(node.name, "voltage") for node in spiking]
    probes += [(node.name, "current") for node in spiking if _decides_before(node)]
    if not probes:
        return Seen(sent=_presented(plain, some), near={})
    trace = reference.run(plain, some, probes=probes)
    near = {}
    for node in spiking:
        voltage = _undecided(node, trace)
        near[node.name] = np.abs(voltage - node.vth) <= np.abs(node.vth)
    sent = {node.name: trace.spikes(node.name) for node in spiking}
    return Seen(sent={**_presented(plain, some), **sent}, near=near)


def _decides_before(node: LIF) -> bool:
    """Say whether a voltage is recorded after a reset that hides what the threshold saw."""
    early = node.reset_order == "at_spike" and node.reset != "none"
    once = node.max_spikes == 1 and not node.reset_twice
    plain = node.floor is None and not (node.initial_state[1] >= node.vth).any()
    return early and once and plain and not node.refractory


def _presented(graph: Graph, some: Mapping[str, Array]) -> dict[str, Array]:
    sent = {}
    for node in graph.inputs:
        values = np.asarray(some[node.name])
        if node.low is not None and node.high is not None:
            values = np.clip(values, node.low, node.high)
        late = np.zeros_like(values)
        late[:, node.shift :] = values[:, : max(0, values.shape[1] - node.shift)]
        sent[node.name] = late
    return sent


def _undecided(node: LIF, trace: Trace) -> Array:
    """Return voltages as the threshold sees them, before what a spike does at once."""
    voltage = trace[node.name, "voltage"]
    if node.max_spikes > 1 or node.reset_twice:
        repeated: Array = voltage + node.reset_amount * trace.spikes(node.name)
        return repeated
    if not _decides_before(node):
        return voltage
    before = np.empty_like(voltage)
    before[:, 0], before[:, 1:] = node.initial_state[1], voltage[:, :-1]
    before *= node.beta
    before += trace[node.name, "current"]
    before += node.bias
    return before


def check_fit(
    node: LIF | LI,
    neurons: Neurons,
    parts: Sequence[EdgeWeights],
    seen: Seen,
    stated: float | None,
) -> tuple[list[Diagnostic], FloatArray, FloatArray]:
    """Return findings, what a fit adds to biases, and how far that may be off, per neuron.

    ``stated`` is the error of the response that the report claims.
    """
    findings: list[Diagnostic] = []
    shift, room = np.zeros(node.shape), np.zeros(node.shape)
    lost = signal = unsure = 0.0
    for members in _together(parts):
        for group in range(_groups(members[0].operator)):
            block = _Block(node, neurons, members, group, seen)
            findings += block.findings()
            lost, signal = lost + float(block.loss.sum()), signal + float(block.signal.sum())
            unsure += float(block.unsure.sum())
            for into, values in ((shift, block.shift), (room, block.room)):
                rows = into.reshape(len(members[0].operator.weight), -1)
                rows[block.rows] += values[:, None]
    share = math.sqrt(max(lost, 0.0) / signal) if signal > 0 else math.sqrt(max(lost, 0.0))
    unit = signal if signal > 0 else 1.0
    inexact = 2 * _STATED * lost + unsure + _STATED_LEAST**2 * unit
    if stated is not None and not abs(lost - stated * stated * unit) <= inexact:
        findings.append(
            finding(
                "V024",
                f"population '{node.name}'",
                f"its report states a response error of {stated:.4g}, on the calibration data "
                f"its weights make one of {share:.4g}",
            )
        )
    return findings, shift, room


def _together(parts: Sequence[EdgeWeights]) -> list[list[EdgeWeights]]:
    """Group the edges whose rows are the same neurons: dense ones, and plain convolutions."""
    dense = [part for part in parts if not isinstance(part.operator, Conv2d)]
    plain = [part for part in parts if isinstance(part.operator, Conv2d) and part not in dense
             and _groups(part.operator) == 1]  # fmt: skip
    rest = [[part] for part in parts if isinstance(part.operator, Conv2d)
            and _groups(part.operator) > 1]  # fmt: skip
    return [members for members in (dense, plain, *rest) if members]


def _groups(operator: Weighted) -> int:
    return operator.groups if isinstance(operator, Conv2d) else 1


class _Block:
    """Some rows of the weights of edges side by side: their losses, and what biases undo."""

    def __init__(
        self,
        node: LIF | LI,
        neurons: Neurons,
        members: Sequence[EdgeWeights],
        group: int,
        seen: Seen,
    ) -> None:
        self.node, self.members, self.group, self.seen = node, members, group, seen
        self.alpha = float(np.median((DECAY_UNITY - 1 - neurons.du) / DECAY_UNITY))
        self.beta = float(np.median((DECAY_UNITY - neurons.dv) / DECAY_UNITY))
        operator = members[0].operator
        count = len(operator.weight) // _groups(operator)
        self.rows = slice(group * count, (group + 1) * count)
        widths = [size(part.operator.weight.shape[1:]) for part in members]
        ends = np.cumsum(widths)
        self.columns = [slice(int(e) - w, int(e)) for e, w in zip(ends, widths, strict=True)]
        self.count, self.width = count, int(ends[-1])
        wanted, found, near = (self._rows_of(which) for which in ("wanted", "found", "nearest"))
        self._plan()
        self._kept: dict[tuple[int, int], FloatArray] = {}
        self._largest = self._extremes()
        self._learn()
        self.shift = ((wanted - found) * self.undone).sum(axis=1)
        self.room = 0.05 * (np.abs(wanted - found) * np.abs(self.undone)).sum(axis=1)
        self.loss, self.nearest, self.signal = self._losses([wanted - found, wanted - near, wanted])
        self.unsure = self._unsure(wanted - found, self.loss)
        self.unsure += self._unsure(wanted - near, self.nearest)

    def _unsure(self, errors: FloatArray, loss: FloatArray) -> FloatArray:
        """Return how far the loss of each row may be off in a fit, which rounds.

        Of its matrix it keeps so many bits of the largest element, in squares of steps; of each
        weight's error some bits of a level, which add up as independent ones do.
        """
        steps = np.concatenate(
            [
                np.full(part.stop - part.start, member.levels.step)
                for part, member in zip(self.columns, self.members, strict=True)
            ]
        )
        own = self.diagonal * steps * steps
        bits = min(_MATRIX_BITS, _EXACT_BITS - math.ceil(math.log2(max(self.width, 2))))
        summed = (self.importance * np.abs(errors) / steps).sum(axis=1)
        noise = 4.0 ** (1 - _ERROR_BITS) * (self.importance**2 @ own)
        unsure: FloatArray = float(own.max()) * 2.0**-bits * summed * summed
        unsure += noise + 2 * np.sqrt(np.maximum(loss, 0.0) * noise)
        return unsure

    def _rows_of(self, which: Literal["wanted", "found", "nearest"]) -> FloatArray:
        """Return weights of all edges in source units, ``[row, column]``."""
        parts = []
        for part in self.members:
            values: FloatArray = getattr(part, which)
            rows = values.reshape(len(part.operator.weight), -1)[self.rows]
            parts.append(rows * part.levels.step)
        return np.concatenate(parts, axis=1)

    def _plan(self) -> None:
        """Set which steps are taken, how many places a row has, and the batches of samples."""
        sent = self.seen.sent[self.members[0].edge.source]
        samples, steps = sent.shape[:2]
        operator = self.members[0].operator
        self.places = size(operator.output_shape(sent.shape[2:])) // len(operator.weight)
        work = samples * (steps - self.node.start) * self.places * float(self.width) ** 2
        self.taken = slice(self.node.start, None, max(1, math.ceil(work / _MOST_WORK)))
        bias = self._filtered(np.ones((1, steps)), 0.0)
        self.bias = _rounded(bias, float(bias.max()))[0, self.taken]
        each = max(1, len(self.bias)) * self.places * max(self.width, self.count)
        self.parts = list(in_batches(samples, max(1, _BATCH // each)))

    def _batches(self) -> Iterator[tuple[FloatArray, FloatArray, FloatArray | None]]:
        """Yield traces ``[moment, column]``, the bias's ``[moment]``, and ``near[row, moment]``."""
        near = self.seen.near.get(self.node.name)
        for part in self.parts:
            traces = [self._traces(member, part, self.taken) for member in self.members]
            moments = np.repeat(np.tile(self.bias, part.stop - part.start), self.places)
            rows = None if near is None else self._near(near[part, self.taken], self.places)
            yield np.concatenate(traces, axis=1), moments, rows

    def _near(self, near: Array, places: int) -> FloatArray:
        neurons = size(near.shape[2:])
        rows = near.reshape(near.shape[0] * near.shape[1], neurons // places, places)[:, self.rows]
        moments = len(rows) * places
        turned: FloatArray = rows.transpose(1, 0, 2).reshape(self.count, moments).astype(np.float64)
        return turned

    def _traces(self, member: EdgeWeights, part: slice, taken: slice) -> FloatArray:
        key = id(member), part.start
        if key in self._kept:
            values = self._kept[key][:, taken]
        else:
            values = _rounded(self._arrived(member, part), self._largest[id(member)])[:, taken]
        operator = member.operator
        if not isinstance(operator, Conv2d):
            return values.reshape(values.shape[0] * values.shape[1], size(values.shape[2:]))
        return _windows(operator, values.reshape(-1, *values.shape[2:]), self.group)

    def _arrived(self, member: EdgeWeights, part: slice) -> FloatArray:
        """Return what each source of an edge does to a voltage, per unit of its weight."""
        sent = self.seen.sent[member.edge.source][part].astype(np.float64)
        delay = min(member.edge.delay, sent.shape[1])
        arriving = np.zeros_like(sent)
        arriving[:, delay:] = sent[:, : sent.shape[1] - delay]
        return self._filtered(arriving, self.alpha)

    def _extremes(self) -> dict[int, float]:
        """Return the largest magnitude of each edge's traces; traces that need little are kept."""
        found: dict[int, float] = {}
        sizes = [self.seen.sent[member.edge.source].size for member in self.members]
        for part in self.parts:
            for member in self.members:
                values = self._arrived(member, part)
                if sum(sizes) <= _MOST_KEPT:
                    self._kept[id(member), part.start] = values
                reach = float(np.abs(values).max())
                found[id(member)] = max(found.get(id(member), 0.0), reach)
        self._kept = {key: _rounded(item, found[key[0]]) for key, item in self._kept.items()}
        return found

    def _filtered(self, arriving: FloatArray, alpha: float) -> FloatArray:
        """Return the voltage over time that arrivals from the first step on lead to."""
        result = np.zeros_like(arriving)
        current = voltage = np.zeros_like(arriving[:, 0])
        for step in range(self.node.start, arriving.shape[1]):
            current = alpha * current + arriving[:, step]
            voltage = self.beta * voltage + current
            result[:, step] = voltage
        return result

    def _learn(self) -> None:
        """Set importances, what a bias undoes of each weight's error, and the edges' own loss."""
        square, linear, own, count = np.zeros(self.width), np.zeros(self.width), 0.0, 0
        near_square = np.zeros((self.count, self.width))
        near_linear, near_own = np.zeros_like(near_square), np.zeros(self.count)
        near_count = np.zeros(self.count)
        for traces, bias, near in self._batches():
            squared, product = traces * traces, traces * bias[:, None]
            square += squared.sum(axis=0)
            linear += product.sum(axis=0)
            own += float(bias @ bias)
            count += len(traces)
            if near is not None:
                near_square += near @ squared
                near_linear += near @ product
                near_own += near @ (bias * bias)
                near_count += near.sum(axis=1)
        least = np.finfo(np.float64).tiny
        self.moments = max(count, 1)
        self.own = max(own / self.moments, least)
        square, linear = square / self.moments, linear / self.moments

        def mixed(values: FloatArray, always: FloatArray) -> FloatArray:
            mean = values / np.maximum(near_count, 1)[:, None]
            there = near_count[:, None] > 0
            result: FloatArray = np.where(there, (mean + _FAR * always) / (1 + _FAR), always)
            return result

        power = mixed(near_square, square)
        power = np.where(square > 0, power / np.where(square > 0, square, 1.0), 1.0)
        mean = power.mean(axis=1, keepdims=True)
        relative = np.rint(np.sqrt(power / np.where(mean > 0, mean, 1.0)) * _IMPORTANCE)
        self.importance = np.clip(relative / _IMPORTANCE, _LEAST, _MOST)
        near_bias = mixed(near_own[:, None], np.full((1, 1), self.own))
        self.undone = mixed(near_linear, linear) / near_bias
        left = square - linear * linear / self.own
        self.added = np.zeros(self.width)
        for part in self.columns:
            self.added[part] = _OWN * float(left[part].mean())
        if not square.any():
            self.added[:] = 1.0
        self.added = np.maximum(self.added, self.added.max() * 2.0**-30)
        self.diagonal = np.maximum(left, 0.0) + self.added

    def _losses(self, errors: Sequence[FloatArray]) -> list[FloatArray]:
        """Return the loss of each row for several errors of its weights."""
        weighed = [(self.importance * error).T for error in errors]
        square = [np.zeros(self.count) for _ in errors]
        linear = [np.zeros(self.count) for _ in errors]
        for traces, bias, _ in self._batches():
            for index, columns in enumerate(weighed):
                voltage = traces @ columns
                square[index] += (voltage * voltage).sum(axis=0)
                linear[index] += bias @ voltage
        return [
            a / self.moments
            - (b / self.moments) ** 2 / self.own
            + (columns * columns * self.added[:, None]).sum(axis=0)
            for a, b, columns in zip(square, linear, weighed, strict=True)
        ]

    def findings(self) -> Iterator[Diagnostic]:
        """Yield the first row whose loss is above that of its nearest levels."""
        wrong = self.loss > self.nearest * _ABOVE + 1e-6 * self.signal + self.unsure
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            edges = ", ".join(part.edge.name for part in self.members)
            yield finding(
                "V023",
                f"edge '{edges}'",
                f"weight[{row + self.rows.start}]: the fit's loss on the calibration data is "
                f"{self.loss[row] / self.nearest[row] if self.nearest[row] else math.inf:.3g} "
                "times that of the nearest levels, which it starts from; "
                f"{int(wrong.sum())} of {len(wrong)} rows are wrong",
            )


def _rounded(values: FloatArray, largest: float) -> FloatArray:
    """Return traces as a fit rounds them, to so many bits of the largest."""
    if largest == 0:
        return values
    shift = _TRACE_BITS - math.frexp(largest)[1]
    rounded: FloatArray = np.ldexp(np.rint(np.ldexp(values, shift)), -shift)
    return rounded


def _windows(operator: Conv2d, pictures: FloatArray, group: int) -> FloatArray:
    """Return one row per picture and place: what a channel's kernel is multiplied with there."""
    channels = operator.weight.shape[1]
    mine = pictures[:, group * channels : (group + 1) * channels]
    top, left = operator.padding
    padded = np.pad(mine, [(0, 0), (0, 0), (top, top), (left, left)])
    _, rows, columns = operator.output_shape(pictures.shape[1:])
    taps = []
    for row, column in np.ndindex(*operator.weight.shape[2:]):
        first, second = row * operator.dilation[0], column * operator.dilation[1]
        taps.append(
            padded[
                :,
                :,
                first : first + (rows - 1) * operator.stride[0] + 1 : operator.stride[0],
                second : second + (columns - 1) * operator.stride[1] + 1 : operator.stride[1],
            ]
        )
    stacked = np.stack(taps, axis=-1)  # [picture, channel, row, column, tap]
    flat: FloatArray = stacked.transpose(0, 2, 3, 1, 4).reshape(
        len(pictures) * rows * columns, channels * len(taps)
    )
    return flat
