"""What quantization lost, as data: every rounding and clipping has its number here."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = [
    "ActivityChange",
    "BitsLoss",
    "InputLoss",
    "PopulationLoss",
    "QuantizationReport",
    "Tradeoff",
    "TradeoffPoint",
    "WeightLoss",
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
    nearest levels would have caused.
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
    edge got is in ``weights``.
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

    def as_dict(self) -> dict[str, object]:
        """Return plain values that JSON can hold."""
        return asdict(self)
