"""From a canonical graph to a program: every float becomes the target's integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, frozen
from spikec.compiler.errors import (
    Diagnostic,
    QuantizationError,
    VerificationError,
    raise_if_any,
)
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX, VTH_SHIFT
from spikec.compiler.inputs import Dataset, check_data
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input
from spikec.compiler.operators import weights_of, with_weight
from spikec.compiler.passes.pipeline import canonical_passes, run_passes
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput
from spikec.compiler.quantize.activity import activity_changes
from spikec.compiler.quantize.bits import WeightBits
from spikec.compiler.quantize.decay import alpha_of, beta_of, time_constant_error
from spikec.compiler.quantize.horizon import (
    Horizon,
    activity_bounds,
    horizon_of,
    pauses_of,
    refuse_idle_horizon,
)
from spikec.compiler.quantize.observe import Observed, observe
from spikec.compiler.quantize.overflow import Arrival, arrival_bound, current_bound
from spikec.compiler.quantize.plan import Bounds, Plan, input_resolution, plan_populations
from spikec.compiler.quantize.report import (
    InputLoss,
    PopulationLoss,
    QuantizationReport,
    WeightLoss,
)
from spikec.compiler.targets import Target
from spikec.compiler.targets.limits import broken_limits
from spikec.compiler.validation import Extent, Validation, validate
from spikec.compiler.version import VERSION

__all__ = ["Compilation", "compile_graph", "translate", "validated", "with_report"]

#: Weights (and one over them) beyond this are no numbers of a network.
_LARGEST = 1e30


@dataclass(frozen=True, eq=False, kw_only=True)
class Compilation:
    """What compiling gives: the program, what it lost, and the canonical graph between.

    ``validation`` says what the program was compared in with its source; None if it was not.
    """

    program: Program
    report: QuantizationReport
    canonical: Graph
    validation: Validation | None = None


def compile_graph(
    graph: Graph,
    target: Target,
    *,
    weight_bits: int | WeightBits = 8,
    calibration: Dataset | None = None,
    horizon: int | None = None,
    headroom: float | None = None,
    extent: Extent = "bounded",
    max_active: int | Literal["data"] | None = None,
) -> Compilation:
    """Compile ``graph`` to integers for ``target`` with weights of ``weight_bits`` bits (1..8).

    Bits may differ between populations and edges, or be as many as fit: :class:`WeightBits`.
    ``calibration`` supplies the range of analog inputs that declare none, and
    keeps the scale small enough for the voltages seen on its first samples (deep below
    a threshold they may saturate), with a factor of ``headroom`` beyond (1.25, or 1.5 without
    leak). Without leak they grow for as long as a run lasts: ``horizon`` is the number of steps
    of the longest one, that of the calibration data if it is not given. ``max_active`` lets the
    overflow proof count on at most so many values other than 0 of each input in a step (``"data"``:
    as many as calibration data have): the program keeps it, and runs count steps with more. Raises
    :class:`QuantizationError` naming each population that does not fit, by how
    much, and what would make it fit; :class:`UsageError` for data that the inputs do not take.

    The program is compared with ``graph`` by a checker that shares nothing with the quantizer
    (:mod:`spikec.compiler.validation`), on some samples or all (``extent``). Raises
    :class:`VerificationError` naming tensor and index if it is not that network.
    """
    compilation = translate(
        graph,
        target,
        weight_bits=weight_bits,
        calibration=calibration,
        horizon=horizon,
        headroom=headroom,
        max_active=max_active,
    )
    return validated(compilation, graph, target, calibration=calibration, extent=extent)


def validated(
    compilation: Compilation,
    graph: Graph,
    target: Target,
    *,
    calibration: Dataset | None = None,
    extent: Extent = "bounded",
) -> Compilation:
    """Return ``compilation`` with its validation against ``graph``, which must find nothing.

    Raises :class:`VerificationError` with all that it found.
    """
    found = validate(
        compilation.program,
        graph,
        compilation.canonical,
        data=calibration,
        calibration=calibration,
        target=target,
        extent=extent,
    )
    raise_if_any(VerificationError, found.findings)
    return replace(compilation, validation=found)


def translate(
    graph: Graph,
    target: Target,
    *,
    weight_bits: int | WeightBits = 8,
    calibration: Dataset | None = None,
    horizon: int | None = None,
    headroom: float | None = None,
    max_active: int | Literal["data"] | None = None,
) -> Compilation:
    """Return what :func:`compile_graph` does, which nobody has validated."""
    if calibration is not None:
        calibration = check_data(calibration, graph.inputs, where="calibration data")
    bits = weight_bits if isinstance(weight_bits, WeightBits) else WeightBits(default=weight_bits)
    bits.check(graph, target)
    canonical, changed = run_passes(graph, canonical_passes(target.delay.low))
    bounds, origins = _input_bounds(canonical, calibration)
    raise_if_any(QuantizationError, list(_unsupported(canonical, target)))
    observed = observe(canonical, calibration)
    known = horizon_of(
        observed,
        horizon,
        headroom,
        active=activity_bounds(canonical, max_active, calibration),
        pauses=pauses_of(canonical),
    )
    sendable = {**bounds, **_spike_bounds(canonical)}
    plans, frac_bits = _planned(canonical, target, bits, sendable, observed, known)
    refuse_idle_horizon(known, sums_up=any(plan.sums_up for plan in plans))
    inputs = _program_inputs(canonical, bounds, frac_bits, known)
    sent = {item.name: (item.low, item.high) for item in inputs.values()} | _spike_bounds(canonical)
    parts = [_lower(plan, inputs, sent, target) for plan in plans]
    report = QuantizationReport(
        target=target.name,
        weight_bits=weight_bits if isinstance(weight_bits, int) else str(bits),
        passes=changed,
        populations=tuple(part.loss for part in parts),
        weights=tuple(loss for part in parts for loss in part.weights),
        inputs=tuple(
            InputLoss(
                input=item.name,
                low=item.low,
                high=item.high,
                resolution=math.ldexp(1.0, -item.frac_bits),
                bounds_from=origins[item.name],
            )
            for item in inputs.values()
            if item.kind == "analog"
        ),
        calibration_samples=observed.samples,
        horizon=known.steps,
        horizon_from=known.origin,
        headroom=known.headroom[1],
        max_active=dict(known.active),
    )
    program = Program(
        target=target.name,
        inputs=tuple(inputs.values()),
        populations=tuple(part.neurons for part in parts),
        connections=tuple(item for part in parts for item in part.connections),
        outputs=canonical.outputs,
        dt=canonical.dt,
        provenance={
            "spikec": VERSION,
            "source": {
                "path": graph.source.path,
                "format": graph.source.format,
                "sha256": graph.source.sha256,
            },
            "choices": [[item.what, item.value, item.origin] for item in graph.choices],
            "quantization": report.as_dict(),
        },
    )
    raise_if_any(QuantizationError, list(broken_limits(program, target)))
    if calibration is not None:
        report = replace(report, activity=activity_changes(program, calibration.inputs, observed))
        program = with_report(program, report)
    return Compilation(program=program, report=report, canonical=canonical)


def with_report(program: Program, report: QuantizationReport) -> Program:
    """Return the program with ``report`` as its provenance."""
    provenance = {**program.provenance, "quantization": report.as_dict()}
    return replace(program, provenance=provenance)


def _planned(
    graph: Graph,
    target: Target,
    bits: WeightBits,
    bounds: Bounds,
    observed: Observed,
    horizon: Horizon,
) -> tuple[list[Plan], dict[str, int]]:
    """Plan all populations and inputs; a refusal names the bits that would fit, tried."""
    try:
        return _plan_once(graph, target, bits, bounds, observed, horizon)
    except QuantizationError as refusal:
        seen = Observed(voltages=observed.voltages)

        def fits(tried: Graph, wanted: WeightBits) -> bool:
            try:
                sent = {**bounds, **_spike_bounds(tried)}
                _plan_once(tried, target, wanted, sent, seen, horizon)
            except QuantizationError:
                return False
            return True

        hints = [*_hint_of_bits(graph, bits, target, fits), *_hint_of_spikes(graph, bits, fits)]
        if not hints:
            hints = list(_hint_of_both(graph, bits, target, fits))
        if not hints:
            raise
        found = (replace(item, hint="; or ".join(hints)) for item in refusal.diagnostics)
        raise QuantizationError(*found) from refusal


_Fits: TypeAlias = Callable[[Graph, WeightBits], bool]


def _hint_of_bits(graph: Graph, bits: WeightBits, target: Target, fits: _Fits) -> Iterator[str]:
    """Yield the weight bits that fit, if any do."""
    for fewer in _alternatives(bits, target):
        if fits(graph, fewer):
            more = ", and 'auto' keeps more where they fit" if fewer.default is not None else ""
            yield f"--weight-bits {fewer} fits{more}"
            return


def _hint_of_spikes(graph: Graph, bits: WeightBits, fits: _Fits) -> Iterator[str]:
    """Yield the limit of spikes a step that fits, where neurons may send several."""
    most = max((node.max_spikes for node in graph.populations if isinstance(node, LIF)), default=1)
    for exponent in reversed(range((most - 1).bit_length())):
        if fits(_limited(graph, 1 << exponent), bits):
            proof = f"the proof counts up to {most} spikes a step"
            yield f"--max-spikes {1 << exponent} fits: {proof}"
            return


def _hint_of_both(graph: Graph, bits: WeightBits, target: Target, fits: _Fits) -> Iterator[str]:
    """Yield the most weight bits that fit with a limit of spikes, and that limit."""
    for fewer in _alternatives(bits, target):
        if fits(_limited(graph, 1), fewer):
            for hint in _hint_of_spikes(graph, fewer, fits):
                yield f"--weight-bits {fewer} with {hint}"
            return


def _limited(graph: Graph, most: int) -> Graph:
    """Return ``graph`` with neurons that send at most ``most`` spikes a step."""
    several = [item for item in graph.populations if isinstance(item, LIF) and item.max_spikes > 1]
    return graph.rewritten(
        nodes={item.name: replace(item, max_spikes=min(most, item.max_spikes)) for item in several}
    )


def _alternatives(bits: WeightBits, target: Target) -> Iterator[WeightBits]:
    """Yield what to try after a refusal: fewer bits everywhere, or as many as fit."""
    if bits.named:
        yield WeightBits(default=None, rounding=bits.rounding)
    elif bits.default is not None:
        for fewer in range(bits.default - 1, target.weight_bits.low - 1, -1):
            yield WeightBits(default=fewer, rounding=bits.rounding)


def _plan_once(
    graph: Graph,
    target: Target,
    bits: WeightBits,
    bounds: Bounds,
    observed: Observed,
    horizon: Horizon,
) -> tuple[list[Plan], dict[str, int]]:
    plans = plan_populations(graph, target, bits, bounds, observed, horizon)
    return plans, input_resolution(graph, plans, bounds, target)


def _finding(code: str, where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)


def _input_bounds(
    graph: Graph, calibration: Dataset | None
) -> tuple[dict[str, tuple[float, float]], dict[str, str]]:
    """Return the range of every input, and where it came from."""
    bounds: dict[str, tuple[float, float]] = {}
    origins: dict[str, str] = {}
    findings = []
    for node in graph.inputs:
        if node.low is not None and node.high is not None:
            bounds[node.name], origins[node.name] = (node.low, node.high), "declared"
        elif calibration is not None:
            values = calibration.inputs[node.name]
            bounds[node.name] = (float(values.min()), float(values.max()))
            origins[node.name] = "calibration data"
        else:
            findings.append(
                _finding(
                    "Q002",
                    f"input '{node.name}'",
                    "the range of this analog input is unknown",
                    "compile with --calibrate DATA.npz, or declare low and high",
                )
            )
    for name, span in bounds.items():
        findings += _beyond(f"input '{name}'", "its largest value", np.array(span))
    raise_if_any(QuantizationError, findings)
    return bounds, origins


def _spike_bounds(graph: Graph) -> dict[str, tuple[int, int]]:
    return {node.name: (0, node.max_spikes) for node in graph.populations if isinstance(node, LIF)}


def _carried(node: Input, target: Target) -> bool:
    most = (1 << (target.graded_bits - 1)) - 1
    return max(abs(node.low or 0), abs(node.high or 0)) <= most


def _unsupported(graph: Graph, target: Target) -> Iterator[Diagnostic]:
    for node in graph.inputs:
        yield from _unsupported_input(node, target)
    for edge in graph.edges:
        yield from _unsupported_edge(edge, target)
    for population in graph.populations:
        yield from _unsupported_values(population)
        if isinstance(population, LIF):
            yield from _unsupported_neuron(population, target)


def _unsupported_neuron(node: LIF, target: Target) -> Iterator[Diagnostic]:
    where = f"population '{node.name}'"
    if (node.vth < 0).any():
        yield _finding(
            "Q005",
            where,
            f"threshold {node.vth.min():g} lies below rest: the target's is unsigned",
            "shift the resting voltage",
        )
    if node.max_spikes > 1 and target.graded_bits == 0:
        yield _finding(
            "Q003",
            where,
            f"target '{target.name}' has no graded spikes for {node.max_spikes} spikes a step",
            "train with single spikes, limit them (--max-spikes 1), or choose another target",
        )


def _unsupported_input(node: Input, target: Target) -> Iterator[Diagnostic]:
    if node.kind == "graded" and target.graded_bits and not _carried(node, target):
        yield _finding(
            "Q007",
            f"input '{node.name}'",
            f"values {node.low:g}..{node.high:g} do not fit messages of {target.graded_bits} bits",
            "scale them down, or choose another target",
        )
    if node.kind != "binary" and target.graded_bits == 0:
        yield _finding(
            "Q003",
            f"input '{node.name}'",
            f"target '{target.name}' has no graded spikes for {node.kind} input",
            "encode it as binary spikes, or choose another target",
        )


def _unsupported_edge(edge: Edge, target: Target) -> Iterator[Diagnostic]:
    if edge.delay > target.delay.high:
        yield _finding(
            "Q004",
            f"edge '{edge.name}'",
            f"delay {edge.delay} is beyond the target's {target.delay.high}",
            "split the delay over a relay population",
        )
    for weight in weights_of(edge.operator):
        yield from _beyond(f"edge '{edge.name}'", "its largest weight", weight)


def _unsupported_values(node: LIF | LI) -> Iterator[Diagnostic]:
    where = f"population '{node.name}'"
    for name in node.PER_NEURON:
        values = getattr(node, name)
        if values is not None and (np.abs(values) > 1).any():  # what is small rounds to nothing
            yield from _beyond(where, f"the largest {name}", values)
    if isinstance(node, LIF) and (node.vth > 0).any():
        yield from _beyond(where, "the smallest vth", node.vth[node.vth > 0].min())


def _beyond(where: str, what: str, values: Array) -> Iterator[Diagnostic]:
    """Yield that the largest magnitude is none that a scale could bring to integers."""
    largest = max(float(values.max(initial=0)), -float(values.min(initial=0)))
    if largest and not 1 / _LARGEST <= largest <= _LARGEST:
        yield _finding(
            "Q006",
            where,
            f"{what} is {largest:g}, which no float32 network holds",
            "express voltages and weights in another unit",
        )


def _program_inputs(
    graph: Graph, bounds: Bounds, frac_bits: Mapping[str, int], known: Horizon
) -> dict[str, ProgramInput]:
    return {node.name: _program_input(node, bounds, frac_bits, known) for node in graph.inputs}


def _program_input(
    node: Input, bounds: Bounds, frac_bits: Mapping[str, int], known: Horizon
) -> ProgramInput:
    shift = frac_bits.get(node.name, 0)
    low, high = (round(math.ldexp(bound, shift)) for bound in bounds[node.name])
    return ProgramInput(
        name=node.name,
        shape=node.shape,
        kind=node.kind,
        low=low,
        high=high,
        frac_bits=shift,
        shift=node.shift,
        max_active=known.active.get(node.name),
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class _Lowered:
    neurons: Neurons
    connections: tuple[Connection, ...]
    loss: PopulationLoss
    weights: tuple[WeightLoss, ...]


def _lower(
    plan: Plan,
    inputs: Mapping[str, ProgramInput],
    sent: Mapping[str, tuple[int, int]],
    target: Target,
) -> _Lowered:
    """Round one population and its edges, and prove the result once more in integers."""
    neurons = _neurons(plan, target)
    connections, losses = [], []
    for index in range(len(plan.edges)):
        connection = _connection(plan, index, inputs)
        connections.append(connection)
        losses.append(_weight_loss(plan, index, connection))
    bound = _proved_bound(plan, neurons, connections, sent)
    return _Lowered(
        neurons=neurons,
        connections=tuple(connections),
        loss=_population_loss(plan, neurons, bound),
        weights=tuple(losses),
    )


def _neurons(plan: Plan, target: Target) -> Neurons:
    node, scale = plan.node, plan.scale
    initial_current, initial_voltage = node.initial_state
    spiking = _spiking_fields(node, scale) if isinstance(node, LIF) else _silent_fields()
    mantissa, exponent = _bias(node.bias * scale, _least_exponent(plan, target), target)
    start = _rounded(initial_voltage * scale)
    floor = None if node.floor is None else _rounded(node.floor * scale)
    if isinstance(node, LIF) and node.reset_order == "next_step":
        # Rounding must not lift the start over the threshold: that would be a spike.
        start = frozen(np.minimum(start, spiking["vth"] << VTH_SHIFT))
    return Neurons(
        name=node.name,
        shape=node.shape,
        du=frozen(plan.du),
        dv=frozen(plan.dv),
        bias_mant=mantissa,
        bias_exp=exponent,
        floor=floor,
        initial_current=_rounded(initial_current * scale),
        initial_voltage=start,
        start=node.start,
        lsb=1.0 / scale,
        view=node.view,
        **spiking,
    )


def _silent_fields() -> dict[str, Any]:
    return {"vth": None, "reset": "none", "reset_order": "at_spike"}


def _spiking_fields(node: LIF, scale: float) -> dict[str, Any]:
    threshold = _rounded(node.vth * scale / (1 << VTH_SHIFT))
    lost = (threshold <= 0) & (node.vth > 0)
    if lost.any() or (node.compare == ">=" and (threshold <= 0).any()):
        raise QuantizationError(
            _finding(
                "Q008",
                f"population '{node.name}'",
                f"threshold {node.vth.min():g} vanishes at the scale its inputs allow: "
                "the neurons would always fire",
                "use fewer or smaller inputs, or larger thresholds",
            )
        )
    value: Array | None = None
    if node.reset == "subtract":
        # What is taken off is the threshold itself, whatever the comparison.
        exact = node.reset_value is not None
        value = _rounded(node.reset_amount * scale) if exact else frozen(threshold << VTH_SHIFT)
    elif node.reset == "value":
        value = _rounded(node.reset_voltage * scale)
    # v >= t is v > t - 1 on the grid of thresholds.
    vth = threshold if node.compare == ">" else frozen(threshold - 1)
    return {
        "vth": vth,
        "reset": node.reset,
        "reset_order": node.reset_order,
        "reset_value": value,
        "reset_drops_input": node.reset_drops_input,
        "refractory": node.refractory,
        "max_spikes": node.max_spikes,
        "reset_twice": node.reset_twice,
    }


def _rounded(values: Array) -> Array:
    return frozen(np.rint(values).astype(np.int64))


def _least_exponent(plan: Plan, target: Target) -> int:
    """Return the smallest exponent of a bias: 3 for integrators without leak, readouts or not.

    Chips with graded spikes can put them together from processes that send voltages of 24 bits,
    if all that is added to them is a multiple of 8. That costs a bias at most a sixteenth of
    what a weight of 1 adds; where the threshold has few such steps, it is left alone.
    """
    node = plan.node
    if target.graded_bits < 24 or (plan.du < DECAY_UNITY - 1).any() or plan.dv.any():
        return 0
    if not isinstance(node, LIF):
        return 3
    steps = float(node.vth.min()) * plan.scale / (1 << VTH_SHIFT)
    return 3 if node.reset == "subtract" and steps >= 128 else 0


def _bias(values: Array, least: int, target: Target) -> tuple[Array, Array]:
    """Return mantissas and the smallest exponents that hold them, ``least`` or more, per neuron."""
    most = np.where(values < 0, target.bias_mant_max(-1), target.bias_mant_max(1))
    needed = np.ceil(np.log2(np.maximum(np.abs(values), 1.0) / most))
    exponent = np.maximum(needed, max(least, target.bias_exp.low)).astype(np.int64)
    return frozen(np.rint(np.ldexp(values, -exponent)).astype(np.int64)), frozen(exponent)


def _connection(plan: Plan, index: int, inputs: Mapping[str, ProgramInput]) -> Connection:
    edge, grid = plan.edges[index], plan.grids[index]
    source = inputs.get(edge.source)
    shift = plan.powers[index] + plan.exponent - (source.frac_bits if source else 0)
    if grid.widest_step == 0:
        shift = grid.top_shift
    mantissas, exponent, stored = grid.mantissas(plan.levels[index], shift)
    return Connection(
        name=edge.name,
        source=edge.source,
        target=edge.target,
        operator=with_weight(plan.operators[index], mantissas),
        weight_exp=exponent,
        num_weight_bits=stored,
        sign_mode=grid.sign_mode,
        delay=edge.delay,
    )


def _weight_loss(plan: Plan, index: int, connection: Connection) -> WeightLoss:
    grid, step = plan.grids[index], plan.step(index)
    largest, relative = grid.errors(step, plan.levels[index])
    return WeightLoss(
        edge=connection.name,
        bits=grid.bits,
        stored_bits=connection.num_weight_bits,
        sign_mode=grid.sign_mode,
        weight_exp=connection.weight_exp,
        step=step,
        max_error=largest,
        rms_error=relative,
        clipped=grid.clipped(step) if grid.widest_step > 0 else 0,
        count=int(grid.weight.size),
    )


def _proved_bound(
    plan: Plan,
    neurons: Neurons,
    connections: Sequence[Connection],
    sent: Mapping[str, tuple[int, int]],
) -> int:
    """Prove the final integers: return the largest |u| that any accepted input can cause."""
    arrivals = []
    for connection, shape in zip(connections, plan.sources, strict=True):
        low, high = (bound << connection.weight_exp for bound in sent[connection.source])
        known = plan.conditions(connection.source)
        arrivals.append(Arrival(connection.operator, shape, low, high, **known))
    arriving = arrival_bound(arrivals, neurons.du)
    bound = math.ceil(current_bound(arriving, neurons.du, neurons.initial_current))
    if bound > STATE_MAX:  # no assertion: python -O must not leave it out
        raise QuantizationError(
            _finding(
                "Q090",
                f"population '{neurons.name}'",
                f"its final integers can reach a current of {bound}, beyond {STATE_MAX}: the plan "
                "promised what rounding broke",
                "a fault of the compiler: please report it; fewer --weight-bits may avoid it",
            )
        )
    return bound


def _voltage_margin(plan: Plan, current: int) -> float | None:
    if isinstance(plan.node, LIF):
        return None
    reach = plan.voltage_bound(current)
    return STATE_MAX / reach if reach else float(STATE_MAX)


def _truncation(neurons: Neurons) -> float | None:
    """Return the most that truncation toward zero takes off a voltage, relative to its threshold.

    Each step takes less than 1 off u and off v: a geometric sum over what either keeps.
    """
    if neurons.vth is None or (neurons.dv == 0).any() or (neurons.vth <= 0).any():
        return None
    current = np.where(neurons.du == DECAY_UNITY - 1, 0.0, DECAY_UNITY / (neurons.du + 1.0))
    voltage = (1.0 + current) * DECAY_UNITY / neurons.dv
    return float((voltage / (neurons.vth << VTH_SHIFT)).max())


def _population_loss(plan: Plan, neurons: Neurons, bound: int) -> PopulationLoss:
    node, scale = plan.node, plan.scale
    vth_error = None
    if isinstance(node, LIF) and neurons.vth is not None:
        threshold = neurons.vth + (node.compare == ">=")
        kept = threshold * float(1 << VTH_SHIFT) / scale
        scales = np.maximum(np.abs(node.vth), np.finfo(np.float64).tiny)
        vth_error = float((np.abs(kept - node.vth) / scales).max())
    return PopulationLoss(
        population=node.name,
        du=(int(neurons.du.min()), int(neurons.du.max())),
        dv=(int(neurons.dv.min()), int(neurons.dv.max())),
        tau_syn_error=time_constant_error(plan.origin.alpha, alpha_of(plan.du)),
        tau_mem_error=time_constant_error(plan.origin.beta, beta_of(plan.dv)),
        vth_error=vth_error,
        bias_error=float(np.abs(neurons.bias / scale - node.bias).max()),
        scale=scale,
        proof_bound=bound,
        voltage_margin=_voltage_margin(plan, bound),
        proof_margin=STATE_MAX / bound if bound else float(STATE_MAX),
        limited_by=plan.limited_by,
        kernel_error=plan.decays.error,
        nearest_kernel_error=plan.decays.nearest_error,
        truncation=_truncation(neurons),
        rounding=plan.rounding,
        response_error=plan.response_error,
        nearest_response_error=plan.nearest_response_error,
        steps_in_range=plan.steps_in_range(bound),
        seen_margin=_seen_margin(plan),
    )


def _seen_margin(plan: Plan) -> float | None:
    """Return how often what must fit by the calibration data goes into 24 bits; None of no sum."""
    if not plan.sums_up or plan.wanted_voltage == 0:
        return None
    return STATE_MAX / (plan.wanted_voltage * plan.scale)
