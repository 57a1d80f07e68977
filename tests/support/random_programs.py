"""Random programs that live: they spike, and some wrap or saturate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.ir import InputKind, Reset, ResetOrder, SourceView
from spikec.compiler.operators import Conv2d, Dense, Operator, Sparse, row_sums
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput, SignMode
from support.random_graphs import random_synapses

__all__ = ["ALL_RESETS", "merged", "merged_inputs", "random_inputs", "random_program"]

ALL_RESETS: tuple[tuple[Reset, ResetOrder], ...] = (
    ("subtract", "at_spike"),
    ("subtract", "next_step"),
    ("zero", "at_spike"),
    ("zero", "next_step"),
    ("value", "at_spike"),
    ("value", "next_step"),
    ("none", "at_spike"),
)
LAVA_RESETS: tuple[tuple[Reset, ResetOrder], ...] = (
    ("zero", "at_spike"),
    ("subtract", "next_step"),
    ("none", "at_spike"),
)

STATE_MAX = (1 << 23) - 1


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a random program may hold."""

    max_populations: int = 4
    max_neurons: int = 6
    max_delay: int = 5
    max_weight_exp: int = 7
    max_shift: int = 3
    max_lag: int = 3
    max_refractory: int = 3
    several: Sequence[int] = (1, 1, 1, 2, 3, 20)
    floor: bool = True
    kinds: Sequence[InputKind] = ("binary", "graded", "analog")
    resets: Sequence[tuple[Reset, ResetOrder]] = ALL_RESETS
    per_neuron: bool = True
    initial_state: bool = True
    start: bool = True
    conv: bool = True
    drops_input: bool = True
    reset_value: bool = True
    quiet_overflow: bool = False
    lava: bool = False

    def restricted(self) -> Limits:
        """Return these limits with what ``lava`` implies."""
        if not self.lava:
            return self
        return replace(
            self,
            kinds=tuple(kind for kind in self.kinds if kind != "analog"),
            resets=tuple(item for item in self.resets if item in LAVA_RESETS),
            max_refractory=0,
            initial_state=False,
            drops_input=False,
            reset_value=False,
            quiet_overflow=True,
        )


@dataclass
class Draft:
    """A population while its network is drawn."""

    name: str
    shape: Shape
    incoming: list[Connection] = field(default_factory=list)
    spiking: bool = True
    several: int = 1


def random_program(rng: np.random.Generator, **limits: object) -> Program:
    """Draw a program; keyword arguments are the fields of :class:`Limits`.

    ``lava`` keeps to what Lava's stock processes and one own neuron can express;
    ``quiet_overflow`` scales weights and decays until no current can leave 24 bits.
    """
    bounds = Limits(**limits).restricted()  # type: ignore[arg-type]
    inputs = [_random_input(rng, bounds, index) for index in range(rng.integers(1, 3))]
    drafts: list[Draft] = []
    for index in range(rng.integers(1, bounds.max_populations + 1)):
        drafts.append(_draft(rng, bounds, f"pop{index}", inputs, drafts))
    drafts[-1].spiking = bool(rng.random() < 0.6)
    for draft in drafts:
        may_repeat = draft.spiking and ("subtract", "at_spike") in bounds.resets
        draft.several = int(rng.choice(bounds.several)) if may_repeat else 1
    sources = [*inputs, *(draft for draft in drafts if draft.spiking)]
    for draft in drafts:  # branches, skips, self and mutual recurrence
        for source in sources:
            if rng.random() < 0.2:
                draft.incoming.append(_connection(rng, bounds, source, draft))
    reach = {item.name: max(abs(item.low), abs(item.high)) for item in inputs}
    reach |= {draft.name: draft.several for draft in drafts}
    populations = [_neurons(rng, bounds, draft, reach) for draft in drafts]
    if bounds.quiet_overflow:
        populations = [
            _quiet(item, draft, reach) for item, draft in zip(populations, drafts, strict=True)
        ]
    order = rng.permutation(len(drafts))
    return Program(
        target="loihi",
        inputs=tuple(inputs),
        populations=tuple(populations[index] for index in order),
        connections=tuple(item for draft in drafts for item in draft.incoming),
        outputs=(drafts[-1].name,),
    )


def random_inputs(
    program: Program, rng: np.random.Generator, samples: int, steps: int
) -> dict[str, Array]:
    """Draw data for ``program``; a few graded and analog values lie beyond their bounds."""
    data: dict[str, Array] = {}
    for item in program.inputs:
        shape = (samples, steps, *item.shape)
        if item.kind == "binary":
            data[item.name] = (rng.random(shape) < rng.uniform(0.1, 0.7)).astype(np.uint8)
            continue
        spread = (item.high - item.low) * rng.choice([0.0, 0.1])
        values = rng.uniform(item.low - spread, item.high + spread, shape)
        sparse = rng.random(shape) < rng.uniform(0.3, 1.0)
        if item.kind == "graded":
            data[item.name] = (np.rint(values) * sparse).astype(np.int64)
        else:  # halves, to meet the rounding of ties
            halves = np.rint(values * 2) / 2
            picked = np.where(rng.random(shape) < 0.5, halves, values) * sparse
            data[item.name] = np.ldexp(picked, -item.frac_bits)
    return data


def _random_input(rng: np.random.Generator, bounds: Limits, index: int) -> ProgramInput:
    kind = bounds.kinds[rng.integers(len(bounds.kinds))]
    low, high = 0, 1
    if kind != "binary":
        low, high = -int(rng.integers(0, 9)), int(rng.integers(1, 12))
    picture = bounds.conv and bounds.max_neurons >= 4 and rng.random() < 0.4
    shape: Shape = (int(rng.integers(1, bounds.max_neurons + 1)),)
    if picture:
        shape = (int(rng.integers(1, 3)), int(rng.integers(2, 5)), int(rng.integers(2, 5)))
    return ProgramInput(
        name=f"in{index}",
        shape=shape,
        kind=kind,
        low=low,
        high=high,
        frac_bits=int(rng.integers(0, 7)) if kind == "analog" else 0,
        shift=int(rng.integers(0, bounds.max_shift + 1)) if rng.random() < 0.5 else 0,
    )


def _draft(
    rng: np.random.Generator,
    bounds: Limits,
    name: str,
    inputs: Sequence[ProgramInput],
    drafts: Sequence[Draft],
) -> Draft:
    sources = [*inputs, *drafts]
    newest = drafts[-1] if drafts and rng.random() < 0.6 else None
    source = newest or sources[rng.integers(len(sources))]
    if bounds.conv and len(source.shape) == 3:
        operator = _random_conv(rng, source.shape, bounds.max_neurons)
        if operator is not None:
            draft = Draft(name, operator.output_shape(source.shape))
            draft.incoming.append(_connection(rng, bounds, source, draft, operator))
            return draft
    draft = Draft(name, (int(rng.integers(1, bounds.max_neurons + 1)),))
    draft.incoming.append(_connection(rng, bounds, source, draft))
    return draft


def _random_conv(rng: np.random.Generator, source: Shape, max_neurons: int) -> Conv2d | None:
    """Draw a convolution with few outputs; its weights are placeholders."""
    for _ in range(20):
        groups = int(rng.choice([1, source[0]]))
        kernel = rng.integers(1, 4, 2)
        operator = Conv2d(
            weight=np.zeros((groups * rng.integers(1, 3), source[0] // groups, *kernel), np.int16),
            stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            padding=(int(rng.integers(0, 2)), int(rng.integers(0, 2))),
            dilation=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            groups=groups,
        )
        try:
            if size(operator.output_shape(source)) <= 2 * max_neurons:
                return operator
        except ValueError:
            continue
    return None


def _connection(
    rng: np.random.Generator,
    bounds: Limits,
    source: ProgramInput | Draft,
    target: Draft,
    operator: Operator | None = None,
) -> Connection:
    shape = (size(target.shape), size(source.shape))
    bits = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, 8, 8]))
    modes: tuple[SignMode, ...] = ("mixed", "mixed", "mixed", "excitatory", "inhibitory")
    mode = modes[rng.integers(len(modes))]
    step = 1 << (8 - bits + (mode == "mixed"))
    low, high = {"mixed": (-256, 254), "excitatory": (0, 255), "inhibitory": (-255, 0)}[mode]
    if operator is None and rng.random() < 0.2:
        operator = Sparse(weight=np.zeros(0), synapses=random_synapses(rng, *shape))
        shape = operator.synapses.targets.shape
    elif operator is not None:
        shape = operator.weight.shape
    weights = rng.integers(-(-low // step), high // step + 1, shape) * step
    weights = np.where(rng.random(shape) < 0.8, weights, 0)
    built = Dense(weight=weights) if operator is None else replace(operator, weight=weights)
    return Connection(
        name=f"{source.name}-{target.name}-{len(target.incoming)}",
        source=source.name,
        target=target.name,
        operator=built,
        weight_exp=int(rng.integers(0, bounds.max_weight_exp + 1)) if rng.random() < 0.5 else 0,
        num_weight_bits=bits,
        sign_mode=mode,
        delay=int(rng.integers(1, bounds.max_delay + 1)) if rng.random() < 0.6 else 1,
    )


def _peak(draft: Draft, reach: Mapping[str, int]) -> Array:
    """Return the largest magnitude of accumulated input a step, per neuron."""
    total = np.zeros(size(draft.shape), np.int64)
    for item in draft.incoming:
        rows = row_sums(item.effective).astype(np.int64) * reach[item.source]
        total += np.repeat(rows, len(total) // len(rows))
    return total


def _neurons(
    rng: np.random.Generator, bounds: Limits, draft: Draft, reach: Mapping[str, int]
) -> Neurons:
    def each(draw: Array) -> Array:
        uniform = not bounds.per_neuron or rng.random() < 0.5
        return np.full(draft.shape, draw.flat[0]) if uniform else draw

    shape, full = draft.shape, 4096
    peak = int(_peak(draft, reach).mean()) + 1
    du = each(rng.choice([0, 409, 1024, 2048, 4095, int(rng.integers(full))], shape))
    dv = each(rng.choice([0, 128, 410, 1024, 4096, int(rng.integers(full))], shape))
    scale = float(np.exp(rng.uniform(np.log(0.005), np.log(0.6))))
    vth = each(rng.uniform(0.5, 1.5, shape) * peak * scale)
    vth = np.clip(vth, 1, (1 << 17) - 1).astype(np.int64)
    reset, order = bounds.resets[rng.integers(len(bounds.resets))]
    if draft.several > 1:
        reset, order = "subtract", "at_spike"
    amount = None
    if reset == "value" or (reset == "subtract" and bounds.reset_value and rng.random() < 0.3):
        sign = 1 if reset == "subtract" else rng.choice([-1, 1])
        amount = sign * (rng.uniform(0.2, 1.2, shape) * (vth << 6)).astype(np.int64)
        amount = np.clip(amount, -STATE_MAX, STATE_MAX)
    initial = bounds.initial_state and rng.random() < 0.4
    current, voltage = (
        np.clip((rng.uniform(-1, 1, shape) * peak * 64).astype(np.int64), -STATE_MAX, STATE_MAX)
        for _ in range(2)
    )
    exponent = each(rng.integers(-4 if not bounds.lava else 0, 8, shape))
    strength = np.minimum(4095, (peak * 64 * scale / 2.0**exponent / 4).astype(np.int64))
    mantissa = each((rng.uniform(-1, 1.5, shape) * strength).astype(np.int64))
    lag = int(rng.integers(-1, bounds.max_lag + 1))
    floor = None
    if bounds.floor and rng.random() < 0.3:
        floor = each(-(rng.uniform(0, 1, shape) * peak * 16).astype(np.int64))
        floor = np.maximum(floor, -STATE_MAX)
        voltage = np.maximum(voltage, floor)
    return Neurons(
        name=draft.name,
        shape=shape,
        du=du,
        dv=dv,
        vth=vth if draft.spiking else None,
        reset=reset if draft.spiking else "none",
        reset_order=order,
        bias_mant=np.clip(mantissa, -4096, 4095) if rng.random() < 0.6 else 0,
        bias_exp=exponent,
        reset_value=amount if draft.spiking else None,
        reset_drops_input=bool(
            bounds.drops_input
            and draft.spiking
            and order == "next_step"
            and reset in ("zero", "value")
            and rng.random() < 0.5
        ),
        refractory=int(rng.integers(bounds.max_refractory + 1)) if order == "at_spike" else 0,
        max_spikes=draft.several,
        reset_twice=bool(
            draft.spiking
            and (reset, order) == ("subtract", "at_spike")
            and draft.several == 1
            and rng.random() < 0.4
        ),
        floor=floor,
        initial_current=current if initial else 0,
        initial_voltage=voltage if initial else 0,
        start=int(rng.integers(0, 4)) if bounds.start and rng.random() < 0.4 else 0,
        view=SourceView(lag=lag, current_lag=lag + int(rng.integers(0, 2))),
    )


def _quiet(neurons: Neurons, draft: Draft, reach: Mapping[str, int]) -> Neurons:
    """Lower exponents, then shorten the memory, until the worst current stays in 24 bits."""

    def worst(du: Array) -> float:
        stays = (4095 - du.reshape(-1)) / 4096
        start = np.abs(neurons.initial_current).reshape(-1)
        return float((start + 64.0 * _peak(draft, reach) / (1 - stays)).max())

    while worst(neurons.du) > STATE_MAX and any(item.weight_exp for item in draft.incoming):
        draft.incoming[:] = [
            replace(item, weight_exp=max(0, item.weight_exp - 1)) for item in draft.incoming
        ]
    if worst(neurons.du) <= STATE_MAX:
        return neurons
    neurons = replace(
        neurons, du=np.maximum(neurons.du, 1024), initial_current=neurons.initial_current // 4
    )
    while worst(neurons.du) > STATE_MAX:
        draft.incoming.pop()
    return neurons


def merged(programs: Sequence[Program]) -> Program:
    """Put programs beside each other, with their number before every name."""

    def name(number: int, text: str) -> str:
        return f"{number}.{text}"

    numbered = list(enumerate(programs))
    return Program(
        target="loihi",
        inputs=tuple(
            replace(item, name=name(n, item.name)) for n, one in numbered for item in one.inputs
        ),
        populations=tuple(
            replace(item, name=name(n, item.name))
            for n, one in numbered
            for item in one.populations
        ),
        connections=tuple(
            replace(
                item,
                name=name(n, item.name),
                source=name(n, item.source),
                target=name(n, item.target),
            )
            for n, one in numbered
            for item in one.connections
        ),
        outputs=tuple(name(n, text) for n, one in numbered for text in one.outputs),
    )


def merged_inputs(inputs: Sequence[Mapping[str, Array]]) -> dict[str, Array]:
    """Return the inputs of programs that :func:`merged` put beside each other."""
    return {
        f"{number}.{name}": values
        for number, one in enumerate(inputs)
        for name, values in one.items()
    }
