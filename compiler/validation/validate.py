"""From the source graph to the program, in two steps: the passes, and the numbers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, FloatArray
from spikec.compiler.errors import Diagnostic
from spikec.compiler.fixedpoint import DECAY_UNITY
from spikec.compiler.inputs import Dataset, check_data
from spikec.compiler.ir import LI, LIF, Graph
from spikec.compiler.operators import Chain
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.program import Neurons, Program
from spikec.compiler.targets import SHIPPED, Target, load_target
from spikec.compiler.validation.claims import Claims, claims_of
from spikec.compiler.validation.findings import Validation
from spikec.compiler.validation.fit import check_fit, seen_in
from spikec.compiler.validation.kernels import Limits, kernel_gain
from spikec.compiler.validation.neurons import PER_NEURON, check_population
from spikec.compiler.validation.parts import check_connection, check_inputs, check_names
from spikec.compiler.validation.rewriting import check_rewriting
from spikec.compiler.validation.sameness import Outcome, bounded, compare_runs, seeded
from spikec.compiler.validation.weights import EdgeWeights, check_weights, levels_of

__all__ = ["Extent", "validate"]

#: How many samples both graphs run on: some, in a bounded time, or all there are.
Extent: TypeAlias = Literal["bounded", "full"]
#: A fit rounds the traces that it works with.
_TRACE_ROUNDING = 1.05


def validate(
    program: Program,
    source: Graph,
    canonical: Graph | None = None,
    *,
    data: Dataset | None = None,
    calibration: Dataset | None = None,
    target: Target | None = None,
    extent: Extent = "bounded",
) -> Validation:
    """Compare ``program`` with ``source`` by way of its ``canonical`` form, and return all found.

    Both graphs run on ``data`` (some samples, or all if ``extent`` is ``full``), on seeded
    inputs without. ``calibration`` is what the quantizer saw. ``target`` bounds what numbers are
    rounded to, by default the one of the program's name; if nobody knows that, the
    program's shortest delay is the least. Raises :class:`UsageError` for data that the inputs do
    not take.
    """
    if data is not None:
        data = check_data(data, source.inputs, where="data")
    if calibration is not None:
        calibration = check_data(calibration, source.inputs, where="calibration data")
    if target is None and program.target in SHIPPED:
        target = load_target(program.target)
    if canonical is None:
        canonical = canonicalise(source, _least_delay(program, target))
    claims = claims_of(program)
    findings = list(check_rewriting(source, canonical))
    outcome, samples, steps = Outcome(), 0, 0
    if not findings:
        inputs = _data_for(source, data, extent)
        samples, steps = next(iter(inputs.values())).shape[:2] if inputs else (0, 0)
        outcome = compare_runs(source, canonical, inputs) if inputs else outcome
        findings += outcome.findings
    findings += check_names(canonical, program)
    if not any(item.code == "V001" for item in findings):
        seen = {} if calibration is None else _ranges(calibration)
        findings += check_inputs(canonical, program, seen)
        findings += _check_numbers(canonical, program, claims, _limits(target), calibration)
    return Validation(
        parameters=_count(program),
        samples=samples,
        steps=steps,
        spikes=outcome.spikes,
        ties=outcome.ties,
        data="seeded inputs" if data is None else "given data",
        findings=tuple(findings),
        notes=tuple(_notes(claims, calibration)),
    )


def _least_delay(program: Program, target: Target | None) -> int:
    if target is not None:
        return target.delay.low
    return min((item.delay for item in program.connections), default=1)


def _notes(claims: Claims, calibration: Dataset | None) -> Iterator[str]:
    if not claims.known:
        yield (
            "the program does not say how it was quantized: its weights are held to be the "
            "nearest levels of the bits that it stores"
        )
    if claims.fitted and calibration is None:
        yield (
            f"weights into {', '.join(sorted(claims.fitted))} were fitted to calibration data, "
            "which are not here: without them levels are only held to their grid"
        )


def _data_for(source: Graph, data: Dataset | None, extent: Extent) -> Mapping[str, Array]:
    samples, steps = bounded(source)
    if data is None:
        return seeded(source, samples, steps)
    if extent == "full":
        return data.inputs
    return {name: values[:samples, :steps] for name, values in data.inputs.items()}


def _ranges(data: Dataset) -> dict[str, tuple[float, float]]:
    return {
        name: (float(values.min()), float(values.max())) for name, values in data.inputs.items()
    }


def _limits(target: Target | None) -> Limits:
    if target is None:
        return Limits()
    return Limits(
        du=(target.du.low, target.du.high),
        dv=(target.dv.low, target.dv.high),
        bias_mantissa=(target.bias_mant.low, target.bias_mant.high),
        bias_exponent=target.bias_exp.low,
    )


def _count(program: Program) -> int:
    weights = sum(item.operator.weight.size for item in program.connections)
    return weights + PER_NEURON * program.num_neurons


def _check_numbers(
    canonical: Graph,
    program: Program,
    claims: Claims,
    limits: Limits,
    calibration: Dataset | None,
) -> Iterator[Diagnostic]:
    """Yield what every population's and connection's numbers differ in."""
    seen = None
    if calibration is not None and claims.fitted and claims.samples:
        seen = seen_in(canonical, calibration, claims.samples)
    for node in canonical.populations:
        neurons = program.population(node.name)
        assert isinstance(neurons, Neurons)
        gain = kernel_gain(node, neurons, limits)
        parts: list[EdgeWeights] = []
        wrong = list(_check_edges(canonical, program, node, gain, claims, parts))
        yield from wrong
        shift, room = np.zeros(node.shape), np.zeros(node.shape)
        if node.name in claims.fitted and not wrong:
            if seen is None:
                room = _bias_room(node, neurons, parts, program)
            else:
                stated = claims.responses.get(node.name)
                found, shift, room = check_fit(node, neurons, parts, seen, stated)
                yield from found
        yield from check_population(node, neurons, gain, (shift, room), claims, limits)


def _check_edges(
    canonical: Graph,
    program: Program,
    node: LIF | LI,
    gain: FloatArray,
    claims: Claims,
    parts: list[EdgeWeights],
) -> Iterator[Diagnostic]:
    """Yield what connections into ``node`` differ in, and put what they hold into ``parts``."""
    fractions = {item.name: item.frac_bits for item in program.inputs}
    connections = {item.name: item for item in program.connections}
    neurons = program.neuron(node.name)
    for edge in canonical.edges_into(node.name):
        connection = connections[edge.name]
        wrong = list(check_connection(edge, connection))
        yield from wrong
        if wrong or isinstance(edge.operator, Chain):
            continue
        levels = levels_of(connection, neurons.lsb, fractions.get(edge.source, 0), claims)
        parts.append(
            EdgeWeights(edge=edge, operator=edge.operator, connection=connection, gain=gain,
                   levels=levels)
        )  # fmt: skip
        yield from check_weights(
            parts[-1],
            fitted=node.name in claims.fitted,
            claimed_step=claims.steps.get(edge.name),
        )


def _bias_room(
    node: LIF | LI, neurons: Neurons, parts: Sequence[EdgeWeights], program: Program
) -> FloatArray:
    """Return how far a fit can have moved biases, whatever its data were, in source units.

    It undoes errors of weights: what the largest message brings each step, for ever.
    """
    fractions = {item.name: item.frac_bits for item in program.inputs}
    room = np.zeros(node.shape)
    for part in parts:
        frac_bits = fractions.get(part.edge.source, 0)
        low, high = program.message_bounds[part.edge.source]
        sent = math.ldexp(max(abs(low), abs(high)) + 0.5, -frac_bits)
        room += sent * part.summed_errors(node.shape)
    kept = float((DECAY_UNITY - 1 - neurons.du).max()) / DECAY_UNITY
    most: FloatArray = room * _TRACE_ROUNDING / (1 - kept)
    return most
