"""What quantization lost, as data: every rounding and clipping has its number here."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

__all__ = [
    "ActivityChange",
    "BitsLoss",
    "InputLoss",
    "PopulationLoss",
    "QuantizationReport",
    "Tradeoff",
    "TradeoffPoint",
    "WeightLoss",
    "report_from",
]


@dataclass(frozen=True, kw_only=True)
class WeightLoss:
    """One edge: float weights against ``mantissa * 2**exp`` in source units.

    ``step`` is the float difference between neighbouring levels, ``rms_error``
    relative to the weights' own RMS, ``clipped`` the number of weights beyond
    the outermost level.
    """

    edge: str
    bits: int
    stored_bits: int
    sign_mode: str
    weight_exp: int
    step: float
    max_error: float
    rms_error: float
    clipped: int
    count: int


@dataclass(frozen=True, kw_only=True)
class PopulationLoss:
    """One population: decays, threshold, bias, and the overflow proof.

    ``tau_*_error`` is the largest relative error of a time constant (None
    without one), ``scale`` the integer units of v per source volt,
    ``proof_bound`` the largest current any accepted input can cause,
    ``proof_margin`` how many times that fits into 24 bits. ``limited_by`` names
    what kept the scale from being twice as large. ``kernel_error`` is the largest relative RMS
    error of what one spike does to a voltage over time, ``nearest_kernel_error`` that of the
    nearest decays; ``truncation`` the most that rounding toward zero can take off a voltage,
    relative to the threshold. ``rounding`` is how weights
    became levels: ``nearest``, or ``calibrated`` against data. ``response_error`` is the
    RMS error of the voltage (teacher-forced, without resets) that rounding weights
    causes on that data, relative to what weights do to it; ``nearest_response_error`` what the
    nearest levels would have caused. Of a population without leak, ``steps_in_range`` is the number
    of steps in which no input at all can clip a voltage, ``seen_margin`` how often the voltages of
    calibration data, with head-room and grown to the horizon, fit into 24 bits.
    """

    population: str
    du: tuple[int, int]
    dv: tuple[int, int]
    tau_syn_error: float | None
    tau_mem_error: float | None
    vth_error: float | None
    bias_error: float
    scale: float
    proof_bound: int
    proof_margin: float
    voltage_margin: float | None
    limited_by: str
    kernel_error: float | None
    nearest_kernel_error: float | None
    truncation: float | None
    rounding: str = "nearest"
    response_error: float | None = None
    nearest_response_error: float | None = None
    steps_in_range: int | None = None
    seen_margin: float | None = None


@dataclass(frozen=True, kw_only=True)
class InputLoss:
    """One analog input: its integer range and rounding, in source units."""

    input: str
    low: int
    high: int
    resolution: float
    bounds_from: str


@dataclass(frozen=True, kw_only=True)
class ActivityChange:
    """One spiking population on calibration data: spikes per neuron and step, before and after.

    ``drift`` is the mean change of a neuron's rate relative to the mean rate, ``died`` counts
    neurons that no longer fire, ``woke`` those that did not before, ``saturated`` those that
    now fire in nearly every step.
    """

    population: str
    rate: float
    quantized_rate: float
    drift: float
    died: int
    woke: int
    saturated: int
    neurons: int


@dataclass(frozen=True, kw_only=True)
class BitsLoss:
    """One population at one number of bits, the others at their most.

    ``loss`` is the mean square change of the output that this causes, relative to the output's
    variance, on calibration data.
    """

    population: str
    bits: int
    memory_bits: int
    loss: float


@dataclass(frozen=True, kw_only=True)
class TradeoffPoint:
    """One choice of bits: its memory, the sum of its losses, and the drop where it was measured."""

    bits: dict[str, int]
    bytes: int
    loss: float
    drop: float | None


@dataclass(frozen=True, kw_only=True)
class Tradeoff:
    """Memory against loss: the table, the choices that none beats, and the one taken.

    ``drop`` of a point is accuracy lost on the calibration data (``drop_from`` labels), or
    the share of classes that change.
    """

    budget: int | None
    max_drop: float | None
    chosen: int
    bytes_used: int
    drop_from: str
    table: tuple[BitsLoss, ...]
    points: tuple[TradeoffPoint, ...]


@dataclass(frozen=True, kw_only=True)
class QuantizationReport:
    """All of it, with the passes that rewrote the graph before.

    ``weight_bits`` is what was asked for (a number, or the option's text); what each
    edge got is in ``weights``. ``horizon`` is the number of steps of the longest run, as
    ``horizon_from`` says ('option' or 'calibration data'), ``headroom`` the factor by which sums
    over all steps may go beyond those of calibration data. Without leak, that is. The overflow
    proof counts on ``max_active[input]`` values other than 0 in a step, where it is given.
    """

    target: str
    weight_bits: int | str
    passes: tuple[str, ...]
    populations: tuple[PopulationLoss, ...]
    weights: tuple[WeightLoss, ...]
    inputs: tuple[InputLoss, ...] = ()
    calibration_samples: int = 0
    activity: tuple[ActivityChange, ...] = ()
    tradeoff: Tradeoff | None = None
    horizon: int | None = None
    horizon_from: str = ""
    headroom: float = 1.5
    max_active: dict[str, int] = field(default_factory=dict)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user must know of voltages that may clip: sums without a horizon, or beyond it."""
        found = (self._warning(item) for item in self.populations)
        return tuple(text for text in found if text)

    def _warning(self, item: PopulationLoss) -> str:
        if item.steps_in_range is None:
            return ""
        name = f"'{item.population}' does not leak: its voltages sum up over all steps"
        if self.horizon is None:
            return (
                f"{name}, and may clip after {item.steps_in_range} of them; nothing says how many "
                "there will be: add --calibrate DATA, or --horizon STEPS"
            )
        if item.steps_in_range >= self.horizon:
            return ""
        if item.seen_margin is None:
            return (
                f"{name}, and some input may clip them after {item.steps_in_range}, sooner than "
                f"the horizon of {self.horizon}: --calibrate DATA shows how far they really go; "
                "fewer --weight-bits leave more room"
            )
        if item.seen_margin < 1:
            return (
                f"{name}, and in {self.horizon} of them those of the calibration data, with a "
                f"head-room of {self.headroom:g}, go {1 / item.seen_margin:.3g} times beyond 24 "
                "bits: use fewer --weight-bits, or shorter runs"
            )
        return ""

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return asdict(self)


def report_from(values: object) -> QuantizationReport | None:
    """Return the report that :meth:`QuantizationReport.as_dict` wrote and JSON brought back.

    None for anything else: a program of another version, or one that was never quantized.
    """
    try:
        report: QuantizationReport = _made(QuantizationReport, values)
    except (TypeError, ValueError):
        return None
    return report


def _made(hint: Any, value: Any) -> Any:
    """Return ``value`` as ``hint`` says; ``ValueError`` or ``TypeError`` if it is none."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        for kind in arguments:
            if _resembles(kind, value):
                return _made(kind, value)
        raise ValueError(f"{value!r:.60} is no {hint}")
    if not _resembles(hint, value):
        raise ValueError(f"{value!r:.60} is no {hint}")
    if origin is tuple:
        kinds = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        return tuple(_made(kind, item) for kind, item in zip(kinds, value, strict=True))
    if origin is dict:
        return {_made(str, key): _made(arguments[1], item) for key, item in value.items()}
    if is_dataclass(hint):
        hints = get_type_hints(hint)
        known = {item.name for item in fields(hint)} & set(value)
        return hint(**{name: _made(hints[name], value[name]) for name in known})  # type: ignore[operator]
    return value


def _resembles(hint: Any, value: Any) -> bool:
    """Whether ``value`` is of the kind that ``hint`` names, as JSON has it."""
    kind = get_origin(hint) or hint
    if is_dataclass(kind):
        return isinstance(value, dict)
    if kind is tuple:
        return isinstance(value, (list, tuple))
    if kind in (int, float):
        allowed = int if kind is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool)
    return isinstance(value, NoneType if kind is None else kind)
