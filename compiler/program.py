"""What a chip runs: integers only, in Lava's terms, every lag already arranged.

One step of a population (the contract, target ``loihi``)::

    a = sum over incoming connections of (weights << weight_exp) . arrived
    u = wrap24( rtz(u * (4096 - (du + 1)) / 4096) + (a << 6) )
    v = sat24 ( rtz(v * (4096 - dv) / 4096) + u + bias - amount * s_prev )       subtract, next_step
    s = v > (vth << 6)
    v = 0 where s                                                                zero, at_spike

``bias`` is ``bias_mant << bias_exp``, not aligned. ``reset_value`` is in units of
v: the amount of ``subtract`` (``vth << 6`` if None), the voltage of ``value``. The
voltage is clipped again after a subtraction at the spike. The other combinations
of reset and order are those of :mod:`spikec.compiler.ir` with rest 0, coupling
immediate and compare ``>``, and so are ``max_spikes``, ``floor`` and ``reset_twice``.
With several spikes a step, s is the number of times that the amount can be taken off
v while v is above threshold, ``max_spikes`` at most. Every connection takes at least one step.

Other populations have the equations of :mod:`spikec.compiler.sigma_delta` and
:mod:`spikec.compiler.resonator`.

A program holds no float that affects a run: ``lsb`` (what one unit of v is worth
in the source's voltage) and an input's ``frac_bits`` only say how to read data.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal, TypeAlias, get_args

import numpy as np

from spikec.compiler.arrays import (
    MAX_NEURONS,
    Array,
    Shape,
    frozen,
    integers,
    per_neuron,
    sealed,
    size,
)
from spikec.compiler.entrance import whole
from spikec.compiler.errors import Diagnostic, GraphError, raise_if_any
from spikec.compiler.fixedpoint import DECAY_UNITY, STATE_MAX, effective_bias, floor_shift
from spikec.compiler.ir import MOST_SPIKES, InputKind, Reset, ResetOrder, SourceView
from spikec.compiler.limits import MOST_STEPS
from spikec.compiler.names import fault
from spikec.compiler.operators import Weighted, with_weight
from spikec.compiler.pages import span
from spikec.compiler.resonator import Resonator, check_resonator
from spikec.compiler.sigma_delta import SigmaDelta, check_sigma_delta
from spikec.compiler.trace import Probe

__all__ = [
    "Connection",
    "CoreMap",
    "Neurons",
    "Populated",
    "Program",
    "ProgramInput",
    "SignMode",
    "refused_encoders",
    "sign_mode_of",
]

#: Messages are 32-bit integers everywhere.
_MESSAGE_MAX = (1 << 31) - 1
#: What all sources together may have to keep meanwhile, in values of one sample.
_MOST_KEPT = 1 << 31
#: Bits of a fraction: exponents of numbers of 64 bits.
_MOST_FRACTION = 1023

SignMode: TypeAlias = Literal["mixed", "excitatory", "inhibitory"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ProgramInput:
    """Where integers enter; an analog value x enters as ``rint(x * 2**frac_bits)``.

    Values beyond ``low`` and ``high`` (integers) are clipped and counted. Where ``max_active`` is
    given, the proof that no current overflows counts on at most so many values other than 0 in a
    step: steps with more are counted.
    """

    name: str
    shape: Shape
    kind: InputKind
    low: int
    high: int
    frac_bits: int = 0
    shift: int = 0
    max_active: int | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Neurons:
    """An integer population; array fields take a scalar or one value per neuron.

    ``vth`` None means a leaky integrator that never spikes. ``lsb`` is the source
    voltage of one unit of v (per neuron), for reading traces only.
    """

    name: str
    shape: Shape
    du: Array
    dv: Array
    vth: Array | None
    reset: Reset
    reset_order: ResetOrder
    bias_mant: Array = field(default_factory=lambda: frozen(0))
    bias_exp: Array = field(default_factory=lambda: frozen(0))
    reset_value: Array | None = None
    reset_drops_input: bool = False
    refractory: int = 0
    max_spikes: int = 1
    reset_twice: bool = False
    floor: Array | None = None
    initial_current: Array = field(default_factory=lambda: frozen(0))
    initial_voltage: Array = field(default_factory=lambda: frozen(0))
    start: int = 0
    lsb: float = 1.0
    view: SourceView = field(default_factory=SourceView)

    #: Fields that hold one integer per neuron.
    PER_NEURON: ClassVar[tuple[str, ...]] = (
        "du", "dv", "vth", "bias_mant", "bias_exp", "reset_value", "floor",
        "initial_current", "initial_voltage",
    )  # fmt: skip

    def __post_init__(self) -> None:
        findings = []
        for name in self.PER_NEURON:
            values = getattr(self, name)
            if values is None and name in ("vth", "reset_value", "floor"):
                continue
            try:
                object.__setattr__(self, name, per_neuron(integers(values), self.shape, np.int64))
            except (TypeError, ValueError) as error:
                findings.append(_finding("P001", f"population '{self.name}'", f"{name}: {error}"))
        raise_if_any(GraphError, findings)

    @property
    def num_neurons(self) -> int:
        """The number of neurons."""
        return size(self.shape)

    @property
    def bias(self) -> Array:
        """The bias as it is added to v."""
        return frozen(effective_bias(self.bias_mant, self.bias_exp))

    @property
    def reset_amount(self) -> Array:
        """What ``subtract`` takes off, in units of v: ``reset_value``, or ``vth << 6``."""
        assert self.vth is not None
        return self.reset_value if self.reset_value is not None else frozen(self.vth << 6)


#: What a program's populations can be.
Populated: TypeAlias = Neurons | SigmaDelta | Resonator


@dataclass(frozen=True, eq=False, kw_only=True)
class Connection:
    """Integer weights from a source to a population, ``delay`` steps long (1 or more).

    The operator holds mantissas as the chip stores them: even in -256..254 for
    ``mixed``, 0..255 for ``excitatory``, -255..0 for ``inhibitory``, multiples of
    the step that ``num_weight_bits`` leaves. A weight counts
    ``mantissa << weight_exp``.
    """

    name: str
    source: str
    target: str
    operator: Weighted
    weight_exp: int
    num_weight_bits: int
    sign_mode: SignMode
    delay: int

    def __post_init__(self) -> None:
        try:
            mantissas = _sixteen_bits(integers(self.operator.weight))
        except (TypeError, ValueError) as error:
            raise GraphError(
                _finding("P001", f"connection '{self.name}'", f"weights: {error}")
            ) from error
        if mantissas is not self.operator.weight:
            object.__setattr__(self, "operator", with_weight(self.operator, mantissas))

    @property
    def step(self) -> int:
        """The difference of neighbouring mantissas: low bits the chip does not store."""
        return 1 << (8 - self.num_weight_bits + (self.sign_mode == "mixed"))

    @property
    def effective(self) -> Weighted:
        """The operator with the weights as they count, int64."""
        weight = floor_shift(self.operator.weight.astype(np.int64), np.int64(self.weight_exp))
        return with_weight(self.operator, weight)


@dataclass(frozen=True, eq=False, kw_only=True)
class CoreMap:
    """On which core of a chip every neuron is; it changes nothing that a run computes.

    ``cores`` holds for each population, in the program's order, the core of every neuron (int32,
    in the population's shape), numbered from 0 without gaps. Core k is at ``sites[k]``: chip by
    chip, tile by tile along the rows of a mesh of ``tiles`` (columns, rows) a chip, and
    ``cores_per_tile`` in each.
    """

    target: str
    chips: int
    tiles: tuple[int, int]
    cores_per_tile: int
    cores: tuple[Array, ...]
    sites: Array

    def __post_init__(self) -> None:
        object.__setattr__(self, "cores", tuple(frozen(item, np.int32) for item in self.cores))
        object.__setattr__(self, "sites", frozen(self.sites, np.int32))

    @property
    def num_cores(self) -> int:
        """The number of cores in use."""
        return len(self.sites)

    @property
    def num_sites(self) -> int:
        """The number of cores that the mesh of all chips has."""
        return self.chips * self.tiles[0] * self.tiles[1] * self.cores_per_tile


@dataclass(frozen=True, eq=False, kw_only=True)
class Program:
    """A compiled network; building one checks every rule and raises ``GraphError``.

    ``provenance`` says what it was made from and how: plain values that JSON can hold.
    ``core_map`` says where its neurons are, once ``spikec map`` has placed them.
    """

    target: str
    inputs: tuple[ProgramInput, ...]
    populations: tuple[Populated, ...]
    connections: tuple[Connection, ...]
    outputs: tuple[str, ...]
    dt: float | None = None
    provenance: Mapping[str, object] = field(default_factory=dict)
    core_map: CoreMap | None = None

    def __post_init__(self) -> None:
        raise_if_any(GraphError, list(_check(self)))
        raise_if_any(GraphError, list(_check_kept(self)))

    def connections_into(self, name: str) -> tuple[Connection, ...]:
        """Return the connections that end at population ``name``."""
        return tuple(item for item in self.connections if item.target == name)

    def population(self, name: str) -> Populated:
        """Return the population called ``name``; ``KeyError`` if there is none."""
        return {item.name: item for item in self.populations}[name]

    def neuron(self, name: str) -> Neurons:
        """Return the population called ``name`` of a program of current-based neurons only."""
        return {item.name: item for item in self.neurons}[name]

    @property
    def neurons(self) -> tuple[Neurons, ...]:
        """The populations of a program of current-based neurons only.

        Raises :class:`GraphError` naming the first other one: what works on currents and
        spikes refuses sigma-delta neurons by asking for these.
        """
        raise_if_any(GraphError, list(refused_encoders(self, "what is asked for here")))
        return tuple(item for item in self.populations if isinstance(item, Neurons))

    @property
    def message_bounds(self) -> dict[str, tuple[int, int]]:
        """The least and the most that every input and population can send in a step."""
        bounds = {item.name: (item.low, item.high) for item in self.inputs}
        return bounds | {
            item.name: (0, item.max_spikes) if isinstance(item, Neurons) else item.message_bounds
            for item in self.populations
        }

    @property
    def default_probes(self) -> tuple[Probe, ...]:
        """What every run records: all spikes, and the voltage of readouts."""
        return tuple(
            (item.name, "voltage" if item.vth is None else "spikes") for item in self.populations
        )

    @property
    def num_neurons(self) -> int:
        """The number of neurons in all populations."""
        return sum(item.num_neurons for item in self.populations)

    @property
    def longest_wait(self) -> int:
        """For how many steps at most anything is kept until it arrives or is reported."""
        shifts = {item.name: item.shift for item in self.inputs}
        arrives = [item.delay + shifts.get(item.source, 0) for item in self.connections]
        views = [abs(lag) for item in self.populations
                 for lag in (item.view.lag, item.view.current_lag)]  # fmt: skip
        return max([0, *arrives, *views])


def refused_encoders(program: Program, what: str) -> Iterator[Diagnostic]:
    """Yield why ``what`` (a backend, an analysis) cannot take other than current-based neurons."""
    refused = [item for item in program.populations if not isinstance(item, Neurons)]
    if refused:
        first = refused[0]
        more = f" (and {len(refused) - 1} more of its kind)" if len(refused) > 1 else ""
        why = (
            "send changes as integers" if isinstance(first, SigmaDelta) else "turn a complex state"
        )
        yield _finding(
            "P040",
            f"population '{first.name}'",
            f"{first.states} neurons{more}: they {why}, and {what} knows current-based neurons "
            "and their spikes only",
            "--backend simulator and --backend lava compute them, bit for bit the same",
        )


def sign_mode_of(weights: Array) -> SignMode:
    """Return the sign mode that can hold ``weights``; zeros alone count as excitatory."""
    if (weights >= 0).all():
        return "excitatory"
    return "inhibitory" if (weights <= 0).all() else "mixed"


def _sixteen_bits(values: Array) -> Array:
    if values.dtype == np.int16:
        return values
    if values.size and (values.min() < -(1 << 15) or values.max() >= 1 << 15):
        raise ValueError(f"mantissas span {values.min()}..{values.max()}")
    return sealed(values.astype(np.int16))


def _finding(code: str, where: str, message: str, hint: str = "") -> Diagnostic:
    return Diagnostic(code=code, where=where, message=message, hint=hint)


def _check(program: Program) -> Iterator[Diagnostic]:
    raise_if_any(GraphError, [*_check_names(program), *_check_shapes(program)])
    shapes = {item.name: item.shape for item in (*program.inputs, *program.populations)}
    if len(shapes) < len(program.inputs) + len(program.populations):
        yield _finding("P010", "program", f"a name is used twice among {', '.join(shapes)}")
    counted = Counter(item.name for item in program.connections)
    for name in (name for name, count in counted.items() if count > 1):
        # A file keeps weights by these names.
        yield _finding("P010", f"connection '{name}'", "the name is used twice", "rename one")
    for item in program.populations:
        yield from _check_population(item, program)
    for connection in program.connections:
        yield from _check_ends(program, connection)
        yield from _check_connection(connection, shapes)
    for entry in program.inputs:
        yield from _check_input(entry)
    yield from _check_whole(program)


def _check_whole(program: Program) -> Iterator[Diagnostic]:
    """Yield what is wrong with outputs, the time step and the core map."""
    populations = {item.name for item in program.populations}
    if not program.outputs:
        yield _finding("P013", "program", "no output is named")
    for output in program.outputs:
        if output not in populations:
            yield _finding("P013", "program", f"output '{output}' is not a population")
    if program.core_map is not None:
        yield from _check_core_map(program.core_map, program.populations)
    if program.dt is not None and not (_finite(program.dt) and program.dt > 0):
        yield _finding(
            "P018", "program", f"time step dt is {program.dt}", "give seconds, above 0, or None"
        )


def _where(part: ProgramInput | Populated | Connection) -> str:
    kinds = {ProgramInput: "input", Connection: "connection"}
    return f"{kinds.get(type(part), 'population')} '{part.name}'"


def _check_shapes(program: Program) -> Iterator[Diagnostic]:
    for part in (*program.inputs, *program.populations):
        extents = part.shape if isinstance(part.shape, tuple) else ()
        if not extents or not all(whole(one) and one > 0 for one in extents):
            yield _finding("P017", _where(part), f"shape {part.shape} is empty, or of no integers")
        elif size(extents) > MAX_NEURONS:
            yield _finding("P017", _where(part), f"shape {extents} is larger than any network")


def _bounded(
    where: str, code: str, fields: Mapping[str, tuple[object, int, int]], hint: str = ""
) -> Iterator[Diagnostic]:
    for name, (value, low, high) in fields.items():
        if not whole(value) or not low <= value <= high:  # type: ignore[operator]
            yield _finding(code, where, f"{name} is {value!r}, not {low}..{high}", hint)


def _check_view(item: Populated) -> Iterator[Diagnostic]:
    view = item.view
    offset, scale = (np.asarray(values) for values in (view.voltage_offset, view.current_scale))
    if not (_finite(item.lsb) and item.lsb > 0):
        yield _finding("P018", _where(item), f"lsb is {item.lsb}, not a finite number above 0")
    for values in (offset, scale):
        if values.ndim and values.shape != item.shape:
            yield _finding("P018", _where(item), f"its view has shape {values.shape}")
    if not np.isfinite(offset).all() or not np.isfinite(scale).all():
        yield _finding("P018", _where(item), "its view holds NaN or infinity")
    elif not scale.all():
        yield _finding("P018", _where(item), "current_scale is 0: no current could be read")


def _finite(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)


def _check_kept(program: Program) -> Iterator[Diagnostic]:
    """Yield one finding if delays and lags keep more than memory could ever hold."""
    wait = program.longest_wait
    values = sum(size(item.shape) for item in (*program.inputs, *program.populations))
    if wait * values > _MOST_KEPT:
        yield _finding(
            "P021",
            "program",
            f"what {values} neurons and inputs send is kept for {wait} steps: more than "
            f"{_MOST_KEPT} values",
            "shorten the longest delay, shift or lag",
        )


def _check_names(program: Program) -> Iterator[Diagnostic]:
    parts = (
        ("input", program.inputs),
        ("population", program.populations),
        ("connection", program.connections),
    )
    for kind, items in parts:
        for item in items:
            why = fault(item.name) if isinstance(item.name, str) else "a name is text"
            if why is not None:
                yield _finding("P010", f"{kind} '{item.name}'", why, "rename it")


def _check_population(item: Populated, program: Program) -> Iterator[Diagnostic]:
    yield from _bounded(_where(item), "P011", {
        "start": (item.start, 0, MOST_STEPS),
        "view.lag": (item.view.lag, -MOST_STEPS, MOST_STEPS),
        "view.current_lag": (item.view.current_lag, -MOST_STEPS, MOST_STEPS),
    })  # fmt: skip
    yield from _check_view(item)
    if isinstance(item, SigmaDelta):
        yield from check_sigma_delta(item)
    elif isinstance(item, Resonator):
        yield from check_resonator(item)
        yield from _check_imaginary(item, program)
    else:
        yield from _check_neurons(item)


def _check_imaginary(item: Resonator, program: Program) -> Iterator[Diagnostic]:
    unknown = {*item.imaginary} - {one.name for one in program.connections_into(item.name)}
    if unknown:
        yield _finding(
            "P016",
            f"population '{item.name}'",
            f"imaginary names {', '.join(sorted(unknown))}, which do not end there",
        )


def _check_core_map(core_map: CoreMap, populations: tuple[Populated, ...]) -> Iterator[Diagnostic]:
    shapes = [item.shape for item in populations]
    if [item.shape for item in core_map.cores] != shapes:
        yield _finding("P030", "core map", f"its shapes are not those of the populations, {shapes}")
        return
    taken = np.unique(np.concatenate([item.reshape(-1) for item in core_map.cores]))
    if taken.tolist() != list(range(core_map.num_cores)):
        yield _finding("P030", "core map", "cores are not numbered from 0 without gaps")
    sites = np.unique(core_map.sites)
    positive = min(core_map.chips, *core_map.tiles, core_map.cores_per_tile) > 0
    inside = positive and len(sites) and sites[0] >= 0 and sites[-1] < core_map.num_sites
    if not inside or core_map.sites.shape != sites.shape:
        yield _finding("P030", "core map", f"sites are not distinct ones of {core_map.num_sites}")


def _check_ends(program: Program, connection: Connection) -> Iterator[Diagnostic]:
    where = f"connection '{connection.name}'"
    silent = {item.name for item in program.populations if item.vth is None}
    if connection.source in silent:
        yield _finding("P012", where, f"'{connection.source}' sends no spikes")
    if connection.target in {item.name for item in program.inputs}:
        yield _finding("P012", where, f"'{connection.target}' is an input")
    encoders = {item.name for item in program.populations if isinstance(item, SigmaDelta)}
    spiking = {item.name for item in program.populations} - encoders
    if connection.source in encoders and connection.target in spiking:
        yield _finding(
            "P012",
            where,
            f"'{connection.source}' sends changes, which '{connection.target}' would take for "
            "spikes",
            "only sigma-delta neurons add changes up",
        )


def _check_input(entry: ProgramInput) -> Iterator[Diagnostic]:
    where = _where(entry)
    if entry.kind not in get_args(InputKind):
        yield _finding("P014", where, f"kind '{entry.kind}' is unknown")
        return
    fraction = _MOST_FRACTION if entry.kind == "analog" else 0
    odd = list(_bounded(where, "P014", {
        "low": (entry.low, -_MESSAGE_MAX, _MESSAGE_MAX),
        "high": (entry.high, -_MESSAGE_MAX, _MESSAGE_MAX),
        "shift": (entry.shift, 0, MOST_STEPS),
        "frac_bits": (entry.frac_bits, -fraction, fraction),
        "max_active": (1 if entry.max_active is None else entry.max_active, 1, size(entry.shape)),
    }))  # fmt: skip
    if odd:
        yield from odd
    elif entry.low > entry.high:
        yield _finding("P014", where, f"bounds {entry.low}..{entry.high} are not ordered")
    elif entry.kind == "binary" and (entry.low, entry.high) != (0, 1):
        yield _finding(
            "P014",
            where,
            f"a binary input is bounded by 0 and 1, not {entry.low} and {entry.high}",
            "declare it graded",
        )


def _check_neurons(neurons: Neurons) -> Iterator[Diagnostic]:
    where = f"population '{neurons.name}'"
    # A subtracted amount may be one threshold step above the largest threshold.
    most_reset = STATE_MAX + (64 if neurons.reset == "subtract" else 0)
    ranges: tuple[tuple[str, Array | None, int, int], ...] = (
        ("du", neurons.du, 0, DECAY_UNITY - 1),
        ("dv", neurons.dv, 0, DECAY_UNITY),
        ("vth", neurons.vth, -(1 << 17), (1 << 17) - 1),
        ("bias_mant", neurons.bias_mant, -(1 << 12), (1 << 12) - 1),
        ("bias_exp", neurons.bias_exp, -8, 7),
        ("reset_value", neurons.reset_value, -most_reset, most_reset),
        ("floor", neurons.floor, -STATE_MAX, STATE_MAX),
        ("initial_current", neurons.initial_current, -STATE_MAX, STATE_MAX),
        ("initial_voltage", neurons.initial_voltage, -STATE_MAX, STATE_MAX),
    )
    for name, values, low, high in ranges:
        if values is not None and values.size and (values.min() < low or values.max() > high):
            yield _finding(
                "P011", where, f"{name} spans {values.min()}..{values.max()}, not {low}..{high}"
            )
    if neurons.floor is not None and (neurons.initial_voltage < neurons.floor).any():
        yield _finding("P011", where, "initial_voltage lies below floor")
    single = list(_bounded(where, "P011", {
        "refractory": (neurons.refractory, 0, MOST_STEPS),
        "max_spikes": (neurons.max_spikes, 1, MOST_SPIKES),
    }))  # fmt: skip
    yield from single or _check_reset(neurons, where)


def _check_reset(neurons: Neurons, where: str) -> Iterator[Diagnostic]:
    if neurons.reset not in get_args(Reset) or neurons.reset_order not in get_args(ResetOrder):
        yield _finding("P011", where, f"reset {neurons.reset} {neurons.reset_order} is unknown")
    if neurons.reset == "value" and neurons.reset_value is None:
        yield _finding("P011", where, "reset 'value' without reset_value")
    if neurons.reset in ("zero", "none") and neurons.reset_value is not None:
        yield _finding("P011", where, f"reset '{neurons.reset}' takes no reset_value")
    if neurons.reset_drops_input and (
        neurons.reset_order != "next_step" or neurons.reset not in ("zero", "value")
    ):
        yield _finding("P011", where, "reset_drops_input needs 'zero' or 'value' at 'next_step'")
    if neurons.vth is None and neurons.reset != "none":
        yield _finding("P011", where, "a leaky integrator has reset 'none'")
    if neurons.max_spikes > 1 and not _can_repeat(neurons):
        yield _finding(
            "P011", where, "max_spikes needs reset 'subtract' at_spike of an amount above 0"
        )
    if neurons.reset_twice and (not _can_repeat(neurons) or neurons.max_spikes > 1):
        yield _finding(
            "P011", where, "reset_twice needs reset 'subtract' at_spike and one spike a step"
        )
    if neurons.refractory and neurons.reset_order != "at_spike":
        yield _finding("P011", where, "refractory steps need reset_order 'at_spike'")


def _can_repeat(neurons: Neurons) -> bool:
    repeats = neurons.reset == "subtract" and neurons.reset_order == "at_spike"
    return repeats and neurons.vth is not None and bool((neurons.reset_amount > 0).all())


def _check_connection(connection: Connection, shapes: Mapping[str, Shape]) -> Iterator[Diagnostic]:
    where = f"connection '{connection.name}'"
    if connection.source not in shapes or connection.target not in shapes:
        yield _finding(
            "P020", where, f"'{connection.source}' or '{connection.target}' does not exist"
        )
        return
    yield from _bounded(
        where, "P021", {"delay": (connection.delay, 1, MOST_STEPS)}, "retime the graph first"
    )
    odd = list(_bounded(where, "P022", {
        "num_weight_bits": (connection.num_weight_bits, 1, 8),
        "weight_exp": (connection.weight_exp, 0, 15),
    }, "1..8 bits; exponents of 0 and more mean the same everywhere"))  # fmt: skip
    if odd:
        yield from odd
        return
    bounds = {"mixed": (-256, 254), "excitatory": (0, 255), "inhibitory": (-255, 0)}
    low, high = bounds.get(connection.sign_mode, (1, 0))
    least, most, bits = span(connection.operator.weight)
    if least < low or most > high:
        yield _finding("P023", where, f"{connection.sign_mode} mantissas leave {low}..{high}")
    elif bits % connection.step:
        yield _finding(
            "P023", where, f"mantissas are not multiples of {connection.step}",
            f"{connection.num_weight_bits} {connection.sign_mode} bits store no finer step",
        )  # fmt: skip
    try:
        shape = connection.operator.output_shape(shapes[connection.source])
    except ValueError as error:
        yield _finding("P024", where, str(error))
        return
    target = shapes[connection.target]
    if shape not in (target, (size(target),)):
        yield _finding("P024", where, f"gives {shape}, target has {target}")
