"""Each population's scale: the one free number that decides how much of a chip is used.

A leaky layer is unchanged when weights, threshold and bias are multiplied by
one factor, so each population has one real-valued scale, free to choose. Its
fraction is chosen for the weights; its power of two is the largest for which
everything fits and the current provably cannot overflow.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from spikec.compiler.arrays import Array, IntArray, Shape, frozen
from spikec.compiler.errors import Diagnostic, QuantizationError, raise_if_any
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX, VTH_SHIFT
from spikec.compiler.ir import LI, LIF, Edge, Graph, Input
from spikec.compiler.operators import Chain, Sparse, Weighted, with_weight
from spikec.compiler.quantize.bits import WeightBits
from spikec.compiler.quantize.decay import Decays, beta_of, fitted_decays
from spikec.compiler.quantize.gain import compensated, with_gain
from spikec.compiler.quantize.horizon import Horizon
from spikec.compiler.quantize.observe import Observed
from spikec.compiler.quantize.overflow import Arrival, arrival_bound, current_bound
from spikec.compiler.quantize.response import responses
from spikec.compiler.quantize.rounding import fitted
from spikec.compiler.quantize.weights import Grid, choose_unit
from spikec.compiler.targets import Target

__all__ = ["Plan", "input_resolution", "plan_populations"]

#: The least and the most that an input (in source units) or a population sends in a step.
Bounds = Mapping[str, tuple[float, float]]

#: An analog input must get at least this many integer levels.
_LEAST_LEVELS = 8
#: Both bounds of an analog input may round away from 0 by half of one of those levels: the
#: proof leaves room for it.
#: A threshold mantissa must not round to 0.
_LEAST_VTH = 0.500001
#: Of so many units a threshold is a multiple to 1 in 10,000 anyway.
_MANY_UNITS = 5000
_NO_EXPONENT = 10_000
#: What is smaller limits no scale, and could not be divided by.
_VANISHING = 1e-200
#: Where a larger scale gains nothing else, thresholds keep so many units: those that round, and
#: one that the unit is made to fit.
_FINE_VTH, _FITTED_VTH = 512.0, 64.0
#: Levels that an analog input keeps when it makes room for a sum, and when nothing asks for it.
_ROOMY_LEVELS, _FINE_LEVELS = 64.0, 256.0
_ANALOG_SLACK = 1 / (1 + 1 / _LEAST_LEVELS)


@dataclass(frozen=True, eq=False, kw_only=True)
class Plan:
    """One population on its way to integers; ``exponent`` scales everything by a power of two.

    A weight level of edge e counts ``2**(powers[e] + exponent)`` units of ``a``,
    one of which is ``unit / 2**exponent`` source volts. ``seen_voltage`` is the
    largest magnitude of the float voltage on calibration data, 0 without data; ``horizon`` says
    how much further it may go.
    ``node`` is what is rounded to integers, ``origin`` the population of the graph: they
    differ by what makes up for rounding. Errors are those of the report.
    """

    node: LIF | LI
    origin: LIF | LI
    edges: tuple[Edge, ...]
    operators: tuple[Weighted, ...]
    sources: tuple[Shape, ...]
    grids: tuple[Grid, ...]
    unit: float
    powers: tuple[int, ...]
    decays: Decays
    levels: tuple[Array, ...]
    seen_voltage: float = 0.0
    horizon: Horizon = field(default_factory=Horizon)
    exponent: int = 0
    limited_by: str = ""
    rounding: Literal["nearest", "calibrated"] = "nearest"
    response_error: float | None = None
    nearest_response_error: float | None = None

    @property
    def du(self) -> IntArray:
        """The decay of the current."""
        return self.decays.du

    @property
    def dv(self) -> IntArray:
        """The decay of the voltage."""
        return self.decays.dv

    @property
    def scale(self) -> float:
        """Units of v per source volt."""
        return math.ldexp(64.0 / self.unit, self.exponent)

    @property
    def sums_up(self) -> bool:
        """Whether a voltage does not leak: it grows with the number of steps."""
        return bool((self.dv == 0).any())

    @property
    def drops_nothing(self) -> bool:
        """Whether no decay drops fractions: a larger scale then brings finer thresholds only."""
        exact = self.du == DECAY_UNITY - 1
        return bool(exact.all() and ((self.dv == 0) | (self.dv == DECAY_UNITY)).all())

    @property
    def wanted_voltage(self) -> float:
        """The voltage that must fit, by calibration data: what was seen, with room; in volts."""
        return self.seen_voltage * self.horizon.room(sums_up=self.sums_up)

    @property
    def threshold_error(self) -> float:
        """How much rounding changes a threshold, relative to it, at most; 0 without any."""
        if not isinstance(self.node, LIF) or not (self.node.vth > 0).any():
            return 0.0
        units = self.node.vth[self.node.vth > 0] * (self.scale / (1 << VTH_SHIFT))
        return float(np.abs(np.rint(units) / units - 1).max())

    def clips(self) -> bool:
        """Whether the voltages of the calibration data, with room, leave 24 bits."""
        return self.wanted_voltage * self.scale > STATE_MAX

    def conditions(self, source: str) -> dict[str, int]:
        """Return what the proof may know of ``source``, as :class:`Arrival` takes it."""
        known = {"most_active": self.horizon.active, "pause": self.horizon.pauses}
        if self.node.initial_current.any():
            del known["pause"]
        return {name: values[source] for name, values in known.items() if source in values}

    def voltage_bound(self, current: float) -> float:
        """The largest |v| of a readout whose current stays within ``current``, in units of v.

        Infinite without leak and horizon; 0 for a spiking population, which may saturate.
        """
        if isinstance(self.node, LIF):
            return 0.0
        driven = current + float(np.abs(self.node.bias).max()) * self.scale
        if not self.sums_up:
            return driven * DECAY_UNITY / float(self.dv.min())
        if self.horizon.steps is None:
            return math.inf
        return self.held + driven * self.horizon.steps

    @property
    def held(self) -> float:
        """The largest |v| that a population is set to, in units of v."""
        return max((reach for _, reach in _held(self.node, self.scale)), default=0.0)

    def steps_in_range(self, current: float) -> int | None:
        """How many steps no input can clip a sum whose current stays within ``current``.

        None where voltages leak, or nothing drives them.
        """
        driven = current + float(np.abs(self.node.bias).max()) * self.scale
        if not self.sums_up or driven == 0:
            return None
        return max(0, math.floor((STATE_MAX - self.held) / driven))

    def fixed_edges(self, analog: Collection[str]) -> Iterator[tuple[Edge, Grid, int]]:
        """Yield edges that carry weight and whose source counts in whole numbers."""
        for edge, grid, power in zip(self.edges, self.grids, self.powers, strict=True):
            if edge.source not in analog and grid.widest_step > 0:
                yield edge, grid, power

    def step(self, index: int) -> float:
        """The distance of neighbouring levels of an edge, in source units."""
        return math.ldexp(self.unit, self.powers[index])


def plan_populations(
    graph: Graph,
    target: Target,
    bits: WeightBits,
    bounds: Bounds,
    observed: Observed,
    horizon: Horizon,
) -> list[Plan]:
    """Choose every population's scale; raise once with all that do not fit.

    Where ``bits`` leaves them open, each population gets the most for which it
    fits, and the inputs keep enough levels. What data show (``observed``) then
    improves the levels, where that fits too.
    """
    analog = {item.name for item in graph.inputs if item.kind == "analog"}
    drafts = {
        node.name: _Draft(
            node=node,
            edges=graph.edges_into(node.name),
            sources=tuple(graph[edge.source].shape for edge in graph.edges_into(node.name)),
            seen_voltage=observed.voltages.get(node.name, 0.0),
            horizon=horizon,
            clip=bits.rounding != "max-abs",
        )
        for node in graph.populations
    }
    plans: dict[str, Plan] = {}
    findings: list[Diagnostic] = []
    for name, draft in drafts.items():
        most = bits.most(draft.edges, target)
        try:
            plans[name] = _most_bits(draft, most, bits, bounds, analog, target)
        except QuantizationError as error:
            findings.extend(error.diagnostics)
    raise_if_any(QuantizationError, findings)
    while coarse := _coarse(graph, list(plans.values()), bounds, target, bits):
        for name in coarse:
            draft = drafts[name]
            fewer = _fewer(draft, [grid.bits for grid in plans[name].grids], bits, target)
            assert fewer is not None, "these bits are open"
            plans[name] = _most_bits(draft, fewer, bits, bounds, analog, target)
    for name in plans if observed.sent and bits.rounding == "fitted" else ():
        for better in _calibrated(plans[name], observed):
            try:
                scaled = _scaled(better, bounds, analog, target)
            except QuantizationError:
                continue
            if _keeps_range(plans[name], scaled) and _keeps_inputs(graph, plans[name], scaled):
                plans[name] = scaled
                break
    return list(plans.values())


def _calibrated(plan: Plan, observed: Observed) -> Iterator[Plan]:
    """Yield the plan with levels and bias fitted to what the population receives.

    First at the best scale, then at the plan's own, which may fit where that does not.
    Nothing where single synapses arrive: each of their rows has a matrix of its own.
    """
    if any(isinstance(operator, Sparse) for operator in plan.operators):
        return
    blocks = responses(plan.node, plan.edges, plan.operators, plan.du, plan.dv, observed)
    for search in (True, False):
        fit = fitted(plan.grids, blocks, plan.unit, plan.powers, search=search)
        bias = plan.node.bias.astype(np.float64)
        for block, change in zip(blocks, fit.bias, strict=True):
            rows = bias.reshape(len(plan.grids[block.edges[0]].weight), -1)[block.rows]
            rows += change[:, None]
        yield replace(
            plan,
            node=replace(plan.node, bias=frozen(bias)),
            unit=fit.unit,
            powers=fit.powers,
            levels=fit.levels,
            rounding="calibrated",
            response_error=math.sqrt(fit.loss),
            nearest_response_error=math.sqrt(fit.nearest_loss),
        )


def _keeps_inputs(graph: Graph, before: Plan, after: Plan) -> bool:
    """Whether analog inputs keep their levels: finer weights must not coarsen them."""
    return all(
        new >= old
        for node in graph.inputs
        if node.kind == "analog"
        for (_, _, old), (_, _, new) in zip(
            _rooms(node, [before]), _rooms(node, [after]), strict=True
        )
    )


def _keeps_range(before: Plan, after: Plan) -> bool:
    """Whether sums still fit, and their thresholds round no more than weights do."""
    if not after.sums_up:
        return True
    rounds = after.threshold_error <= max(before.threshold_error, 0.5 / _FINE_VTH)
    return rounds and (before.clips() or not after.clips())


@dataclass(frozen=True, eq=False, kw_only=True)
class _Draft:
    """What is known of a population before its bits are."""

    node: LIF | LI
    edges: tuple[Edge, ...]
    sources: tuple[Shape, ...]
    seen_voltage: float
    horizon: Horizon
    clip: bool


def _most_bits(
    draft: _Draft,
    most: Sequence[int],
    bits: WeightBits,
    bounds: Bounds,
    analog: set[str],
    target: Target,
) -> Plan:
    """Return the plan with ``most`` bits, or with as many as fit where they are open."""
    tried: Sequence[int] | None = most
    while True:
        assert tried is not None
        try:
            return _scaled(_at(draft, tried, target), bounds, analog, target)
        except QuantizationError:
            tried = _fewer(draft, tried, bits, target)
            if tried is None:
                raise


def _fewer(
    draft: _Draft, tried: Sequence[int], bits: WeightBits, target: Target
) -> tuple[int, ...] | None:
    """Return one bit less for the open edges that have the most; None if there is none less."""
    opened = [bits.wanted(edge) is None for edge in draft.edges]
    top = max((count for count, free in zip(tried, opened, strict=True) if free), default=0)
    if top <= target.weight_bits.low:
        return None
    return tuple(count - (free and count == top) for count, free in zip(tried, opened, strict=True))


def _at(draft: _Draft, bits: Sequence[int], target: Target) -> Plan:
    """Return the plan at ``bits`` for each edge, not scaled yet."""
    decays = fitted_decays(draft.node.alpha, draft.node.beta, target.du, target.dv)
    common = float(decays.gain.flat[0]) if np.ptp(decays.gain) == 0 else None
    operators = tuple(_weighted(edge) for edge in draft.edges)
    if common is None:
        operators = tuple(with_gain(operator, decays.gain) for operator in operators)
    grids = tuple(
        Grid(weight=operator.weight, bits=count, gain=common or 1.0)
        for operator, count in zip(operators, bits, strict=True)
    )
    unit, powers = choose_unit(grids, clip=draft.clip)
    return Plan(
        node=compensated(draft.node, beta_of(decays.dv), decays.gain),
        origin=draft.node,
        edges=draft.edges,
        operators=operators,
        sources=draft.sources,
        grids=grids,
        unit=unit,
        powers=powers,
        levels=tuple(
            grid.all_levels(math.ldexp(unit, power))
            for grid, power in zip(grids, powers, strict=True)
        ),
        decays=decays,
        seen_voltage=draft.seen_voltage,
        horizon=draft.horizon,
    )


def _weighted(edge: Edge) -> Weighted:
    assert not isinstance(edge.operator, Chain), "the canonical passes fuse chains"
    return edge.operator


def _scaled(plan: Plan, bounds: Bounds, analog: set[str], target: Target) -> Plan:
    """Return the plan with the largest exponent that every limit allows and every wish asks for."""
    plan = _with_room(plan, analog, target)
    limited_by, exponent = min(_limits(plan, bounds, analog, target), key=lambda item: item[1])
    needed = _needed(plan, analog, exponent)
    if exponent < needed:
        raise QuantizationError(_does_not_fit(plan, limited_by, needed - exponent))
    if plan.sums_up:
        roomy = max(_needed_by_sum(plan, bounds, analog, _ROOMY_LEVELS).values(), default=exponent)
        needed = min(exponent, max(roomy, _least_for_threshold(plan)))
    for wish, wished in _wishes(plan, bounds, analog, target):
        if wished < exponent:
            met = wished >= needed
            out_of_reach = f"smallest weight step (the {wish} is out of reach)"
            exponent, limited_by = max(wished, needed), wish if met else out_of_reach
    if _fits_threshold(plan):
        plan = _exact_threshold(plan, exponent)
    return replace(plan, exponent=exponent, limited_by=limited_by)


def _needed(plan: Plan, analog: Collection[str], most: int) -> int:
    """Return the least exponent at which weights and thresholds are whole numbers of the chip.

    ``most`` where nothing else says so.
    """
    needed = max(
        (grid.least_shift - power for _, grid, power in plan.fixed_edges(analog)), default=most
    )
    return max(needed, _least_for_threshold(plan)) if most >= needed else needed


def _needed_by_sum(
    plan: Plan, bounds: Bounds, analog: Collection[str], levels: float
) -> dict[str, int]:
    """Return the least exponent for each edge of a sum: at it, analog inputs keep ``levels``."""
    least = {edge.name: grid.least_shift - power for edge, grid, power in plan.fixed_edges(analog)}
    for edge, grid, power in zip(plan.edges, plan.grids, plan.powers, strict=True):
        if edge.source in analog and grid.widest_step > 0:
            reach = max(map(abs, bounds[edge.source])) or 1.0
            least[edge.name] = grid.least_shift - power + math.ceil(math.log2(levels / reach))
    return least


def _with_room(plan: Plan, analog: Collection[str], target: Target) -> Plan:
    """Return the plan, with larger weight steps where those chosen leave a sum too little room.

    Without leak a voltage that was seen must fit, or it clips and stays wrong: that is worth
    levels that weights then do not use (not beside analog inputs, which have few levels
    themselves: what clips there is said). Edges of the least power take the next ones, and the
    unit grows by what is left.
    """
    least = {edge.name: grid.least_shift - power for edge, grid, power in plan.fixed_edges(analog)}
    by_spikes = bool(least) and not any(edge.source in analog for edge in plan.edges)
    free = plan.sums_up and plan.rounding == "nearest"
    if not free or not by_spikes or not plan.wanted_voltage:
        return plan
    exponent = max(least.values())
    at_zero = plan.wanted_voltage * 64.0 / plan.unit
    beyond = math.ldexp(at_zero, exponent) / target.state_max * (1 + 1e-9)
    if beyond <= 1:
        return plan
    octaves = math.floor(math.log2(beyond))
    raising = {name: max(0, own - exponent + octaves) for name, own in least.items()}
    unit = plan.unit * math.ldexp(beyond, -octaves)
    carry = int(unit >= 2)
    powers = (
        power + raising.get(edge.name, 0) + carry
        for edge, power in zip(plan.edges, plan.powers, strict=True)
    )
    raised = replace(plan, powers=tuple(powers))
    return _at_unit(raised, math.ldexp(unit, -carry))


def _fits_threshold(plan: Plan) -> bool:
    """Whether the unit of a sum may be chosen so that its threshold is a multiple of it."""
    node = plan.node
    free = plan.sums_up and plan.rounding == "nearest"
    return free and isinstance(node, LIF) and np.ptp(node.vth) == 0 and bool(node.vth.flat[0] > 0)


def _exact_threshold(plan: Plan, exponent: int) -> Plan:
    """Return the plan with a slightly larger unit, of which the threshold is a multiple.

    Small scales leave it few units: a rounded one would change every rate by as much.
    """
    assert isinstance(plan.node, LIF)
    vth = math.ldexp(float(plan.node.vth.flat[0]), exponent)
    units = math.floor(vth / plan.unit)
    return _at_unit(plan, vth / units) if 0 < units < _MANY_UNITS else plan


def _at_unit(plan: Plan, unit: float) -> Plan:
    """Return the plan with weights rounded to the nearest at ``unit`` and the plan's powers."""
    levels = tuple(
        grid.all_levels(math.ldexp(unit, power))
        for grid, power in zip(plan.grids, plan.powers, strict=True)
    )
    return replace(plan, unit=unit, levels=levels)


def _least_for_threshold(plan: Plan, units: float = _LEAST_VTH) -> int:
    """Return the least exponent at which every threshold has ``units``.

    Below the least of them it rounds to nothing: neurons would always fire.
    """
    if not isinstance(plan.node, LIF) or not (plan.node.vth > 0).any():
        return -_NO_EXPONENT
    smallest = float(plan.node.vth[plan.node.vth > 0].min()) / plan.unit
    return math.ceil(math.log2(units / smallest))


#: What data ask of a scale.
_SEEN = "voltage range of the calibration data"


def _wishes(
    plan: Plan, bounds: Bounds, analog: Collection[str], target: Target
) -> Iterable[tuple[str, int]]:
    """Name what the scale should allow if it can: voltages that do not saturate.

    Wishes, since a voltage beyond the range is clipped by definition, and counted. Sums that
    nothing is dropped from, or of which nothing is known, get the smallest scale: it saturates
    last.
    """
    reach = plan.voltage_bound(_current_bound(plan, bounds))
    seen = plan.wanted_voltage * 64.0 / plan.unit
    if 0 < reach < math.inf and not (plan.sums_up and seen):
        yield "overflow proof of the readout voltage", _largest(target.state_max, reach)
    if seen > 0:
        yield _SEEN, _largest(target.state_max, seen)
    if plan.sums_up and (plan.drops_nothing or not seen):
        yield "sum over all steps, which a larger scale clips earlier", _fine(plan, bounds, analog)


def _fine(plan: Plan, bounds: Bounds, analog: Collection[str]) -> int:
    """Return the exponent above which thresholds and analog inputs gain nothing that matters."""
    least = _needed_by_sum(plan, bounds, analog, _FINE_LEVELS).values()
    units = _FITTED_VTH if _fits_threshold(plan) else _FINE_VTH
    return max(*least, _least_for_threshold(plan, units), -_NO_EXPONENT)


def _largest(limit: float, at_zero: float) -> int:
    """Return the largest exponent e for which ``at_zero * 2**e`` stays within ``limit``."""
    if at_zero < _VANISHING:
        return _NO_EXPONENT
    return math.floor(math.log2(limit / at_zero))


def _limits(
    plan: Plan, bounds: Bounds, analog: set[str], target: Target
) -> Iterable[tuple[str, int]]:
    """Name every limit of the scale, and the largest exponent it allows."""
    node, scale = plan.node, 64.0 / plan.unit
    current = _current_bound(plan, bounds)
    is_analog = bool(analog & {edge.source for edge in plan.edges})
    room = target.state_max * (_ANALOG_SLACK if is_analog else 1.0)
    if current > 0:
        yield "overflow proof of the current", _largest(room, current)
    if isinstance(node, LIF) and node.vth.any():
        highest = float(node.vth.max()) * scale / (1 << VTH_SHIFT)
        yield "threshold", _largest(target.vth_max + 0.49, highest)
    for name, reach in _held(node, scale):
        if reach > 0:
            yield name, _largest(target.state_max, reach)
    for sign in (-1, 1):
        bias = float((sign * node.bias).max()) * scale
        if bias > 0:
            most = target.bias_mant_max(sign) << target.bias_exp.high
            yield "bias", _largest(float(most), bias)
    for _, grid, power in plan.fixed_edges(analog):
        yield "weight exponent", target.weight_exp.high + grid.top_shift - power
    yield "state width", target.state_bits


def _current_bound(plan: Plan, bounds: Bounds) -> float:
    """Return the largest current at exponent 0, in units of u."""
    initial = plan.node.initial_current * (64.0 / plan.unit)
    return current_bound(arrival_bound(_arrivals(plan, bounds), plan.du), plan.du, initial)


def _held(node: LIF | LI, scale: float) -> Iterable[tuple[str, float]]:
    """Return the largest voltages that a population is set to."""
    _, initial_voltage = node.initial_state
    yield "initial voltage", float(np.abs(initial_voltage).max()) * scale
    if isinstance(node, LIF):
        value = node.reset_amount if node.reset == "subtract" else node.reset_voltage
        yield "reset", float(np.abs(value).max()) * scale
    if node.floor is not None:
        yield "floor", float(np.abs(node.floor).max()) * scale


def _arrivals(plan: Plan, bounds: Bounds) -> Iterable[Arrival]:
    for index, edge in enumerate(plan.edges):
        grid = plan.grids[index]
        if grid.widest_step == 0:
            continue
        levels = with_weight(plan.operators[index], plan.levels[index])
        low, high = (math.ldexp(bound, plan.powers[index]) for bound in bounds[edge.source])
        yield Arrival(levels, plan.sources[index], low, high, **plan.conditions(edge.source))


def _finding(code: str, where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)


def _does_not_fit(plan: Plan, limited_by: str, deficit: int) -> Diagnostic:
    return _finding(
        "Q010",
        f"population '{plan.node.name}'",
        f"{_bits_text(plan)}-bit weights do not fit: the {limited_by} fails by a factor of "
        f"{1 << deficit if deficit < 64 else f'2**{deficit}'}",
        "use fewer or smaller inputs, or a shorter synaptic time constant",
    )


def _bits_text(plan: Plan) -> str:
    counts = sorted({grid.bits for grid in plan.grids})
    return "/".join(map(str, counts))


def input_resolution(
    graph: Graph,
    plans: Sequence[Plan],
    bounds: Bounds,
    target: Target,
) -> dict[str, int]:
    """Return the fractional bits of every analog input: as fine as all its edges allow."""
    frac_bits: dict[str, int] = {}
    findings = []
    for node in graph.inputs:
        if node.kind != "analog":
            continue
        reach, payload = _payload(node, bounds, target)
        room = [shift for _, _, shift in _rooms(node, plans)]
        frac_bits[node.name] = min([*room, payload])
        levels = math.ldexp(reach, frac_bits[node.name])
        if levels < _LEAST_LEVELS:
            findings.append(
                _finding(
                    "Q011",
                    f"input '{node.name}'",
                    f"its range leaves {levels:.2g} integer levels, fewer than {_LEAST_LEVELS}: "
                    "values and weights share 24 bits",
                    "present it as spikes, or narrow its range",
                )
            )
    raise_if_any(QuantizationError, findings)
    return frac_bits


def _rooms(node: Input, plans: Iterable[Plan]) -> Iterator[tuple[Plan, Edge, int]]:
    """Yield the edges of an analog input and the fractional bits that each leaves it."""
    for plan in plans:
        for edge, grid, power in zip(plan.edges, plan.grids, plan.powers, strict=True):
            if edge.source == node.name and grid.widest_step > 0:
                yield plan, edge, power + plan.exponent - grid.least_shift


def _payload(node: Input, bounds: Bounds, target: Target) -> tuple[float, int]:
    """Return the largest magnitude of an input, and the fractional bits a message has for it."""
    reach = max(abs(bound) for bound in bounds[node.name]) or 1.0
    return reach, math.floor(math.log2(((1 << (target.graded_bits - 1)) - 1) / reach))


def _coarse(
    graph: Graph, plans: Sequence[Plan], bounds: Bounds, target: Target, bits: WeightBits
) -> list[str]:
    """Return the populations whose open bits leave an analog input too few levels."""
    found: dict[str, None] = {}
    for node in graph.inputs:
        if node.kind != "analog":
            continue
        reach, _ = _payload(node, bounds, target)
        for plan, _, shift in _rooms(node, plans):
            opened = [
                grid.bits > target.weight_bits.low
                for other, grid in zip(plan.edges, plan.grids, strict=True)
                if bits.wanted(other) is None
            ]
            if math.ldexp(reach, shift) < _LEAST_LEVELS and any(opened):
                found[plan.node.name] = None
    return list(found)
