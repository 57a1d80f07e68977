"""NIR neurons as populations: differential equations and a time step become decays and gains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, Shape, frozen, size
from spikec.compiler.frontends.nir_answers import Answers
from spikec.compiler.frontends.nir_file import NirNode, problem
from spikec.compiler.frontends.nir_profiles import Gain
from spikec.compiler.ir import LI, LIF, SourceView

__all__ = ["Neuron", "neuron_shape", "population"]

_MOST_LAG = 1000
_PARAMETERS = ("tau", "tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "v_reset", "threshold",
               "w_in")  # fmt: skip


@dataclass(frozen=True, eq=False, kw_only=True)
class Neuron:
    """A neuron node with its shape, what feeds it beside edges, and whether it feeds itself."""

    node: NirNode
    shape: Shape
    bias: Array | None = None
    recurrent: bool = False


def neuron_shape(node: NirNode, incoming: Shape | None) -> tuple[Shape, str]:
    """Return a neuron's shape and, where the file's was not it, what was repaired.

    What arrives decides; parameters of one value, one per channel, or of another
    shape with as many values are spread to fit.
    """
    stored = [np.asarray(node.fields[name]) for name in _PARAMETERS if node.has(name)]
    widest = max((values.shape for values in stored), key=size, default=())
    if incoming is None:
        return (widest or (1,)), ""
    if widest == incoming:
        return incoming, ""
    if size(widest) == 1:
        return incoming, "" if incoming == (1,) else f"one value stands for all of {incoming}"
    if size(widest) == size(incoming):
        return incoming, f"parameters of shape {widest} are read as {incoming}"
    if len(widest) == 1 and len(incoming) > 1 and widest[0] == incoming[0]:
        return incoming, f"one value per channel, spread over {incoming}"
    raise problem(
        "F114",
        node.where,
        f"parameters of shape {widest} do not fit values of shape {incoming} that arrive",
        "check the nodes before it",
    )


def population(neuron: Neuron, answers: Answers) -> LIF | LI:
    """Return the population that ``neuron`` is under ``answers``."""
    return _Builder(neuron, answers).build()


class _Builder:
    def __init__(self, neuron: Neuron, answers: Answers) -> None:
        self.neuron, self.node, self.shape = neuron, neuron.node, neuron.shape
        self.answers, self.profile = answers, answers.profile

    def build(self) -> LIF | LI:
        node = self.node
        alpha, current_gain = self._synapse()
        beta, voltage_gain = self._membrane()
        rest = self.values("v_leak", 0.0)
        gain = self._snapped(voltage_gain * current_gain)
        own_bias = 0.0 if self.neuron.bias is None else gain * self.neuron.bias
        base = {
            "name": node.name,
            "shape": self.shape,
            "alpha": alpha,
            "beta": beta,
            "coupling": "immediate",
            "gain": gain,
            "bias": np.broadcast_to(own_bias, self.shape),
            "rest": rest,
            "floor": self._floor(),
            "initial_voltage": self._start(rest),
            "view": SourceView(
                lag=self._lag("lag"),
                current_lag=self._lag("current_lag"),
                voltage_offset=self._offset(),
                current_scale=frozen(1 / self._nonzero(current_gain)),
            ),
        }
        if node.kind in ("I", "LI", "CubaLI"):
            return LI(**base)  # type: ignore[arg-type]
        return LIF(**base, **self._spiking(rest, alpha))  # type: ignore[arg-type]

    def _start(self, rest: FloatArray) -> FloatArray:
        if self.profile.starts_at == "v_leak":
            return rest
        if self.profile.starts_at == "v_reset":
            return self.values("v_reset", 0.0)
        return np.zeros(self.shape)

    def _floor(self) -> FloatArray | None:
        floored = self.profile.floors_if and self.node.kind == "IF"
        return -self.values("v_threshold") if floored else None

    def _lag(self, name: str) -> int:
        noted = self.answers.metadata.get("nodes", {}).get(self.node.name, {})
        lag = noted.get(name, self.profile.lag)
        if not isinstance(lag, int) or abs(lag) > _MOST_LAG:
            raise problem("F110", self.node.where, f"its {name} is {lag!r}", "export it anew")
        return lag

    def _offset(self) -> Array:
        """Return what a file that spikec wrote took off all voltages."""
        noted = self.answers.metadata.get("nodes", {}).get(self.node.name, {})
        offset = noted.get("voltage_offset")
        try:
            return frozen(
                0.0 if offset is None else np.array(offset, np.float64).reshape(self.shape)
            )
        except (TypeError, ValueError) as error:
            raise problem(
                "F110", self.node.where, "its voltage_offset is damaged", "export it anew"
            ) from error

    def values(self, name: str, default: float | None = None) -> FloatArray:
        """Return a parameter as one double per neuron."""
        if default is not None and not self.node.has(name):
            return np.full(self.shape, default)
        values = self.node.array(name).astype(np.float64)
        if values.size == 1:
            return np.full(self.shape, values.reshape(()))
        if values.size == size(self.shape):
            return values.reshape(self.shape)
        if values.shape == self.shape[:1]:
            spread = values.reshape(-1, *[1] * (len(self.shape) - 1))
            return np.broadcast_to(spread, self.shape)
        raise problem(
            "F114",
            self.node.where,
            f"parameter '{name}' has shape {values.shape}, not {self.shape}",
        )

    def _synapse(self) -> tuple[FloatArray | None, FloatArray]:
        """Return the current's decay and how much an input adds to it."""
        ones = np.ones(self.shape)
        if self.node.kind not in ("CubaLI", "CubaLIF"):
            return None, ones
        decay, share = self._decay("tau_syn")
        w_in = self.values("w_in", 1.0)
        gain = self._gain(self.profile.current_gain, w_in, decay, share, "tau_syn")
        return decay, gain

    def _membrane(self) -> tuple[FloatArray, FloatArray]:
        """Return the voltage's decay and how strongly a current moves it."""
        if self.node.kind == "Threshold":
            return np.zeros(self.shape), np.ones(self.shape)
        r = self.values("r")
        if self.node.kind in ("I", "IF"):
            assert self.answers.dt is not None
            return np.ones(self.shape), self._snapped(r * self.answers.dt)
        name = "tau" if self.node.kind in ("LI", "LIF") else "tau_mem"
        decay, share = self._decay(name)
        return decay, self._gain(self.profile.voltage_gain, r, decay, share, name)

    def _decay(self, name: str) -> tuple[FloatArray, FloatArray]:
        """Return the decay and dt/tau."""
        tau, dt = self.values(name), self.answers.dt
        assert dt is not None
        if (tau == 0).any() or (not self.profile.clips_decay and (tau < 0).any()):
            raise problem(
                "F112",
                self.node.where,
                f"{name} is {float(tau.min()):g}: not a time",
                "snnTorch writes negative ones for decays above 1, which it clamps: "
                "--profile snntorch does too",
            )
        share = dt / tau
        if self.profile.tau_times_dt and (share > 1).all():
            share = share * dt
        if self.profile.discretization == "exp":
            return np.exp(-share), share
        decay = 1 - share
        if self.profile.clips_decay:
            return np.clip(decay, 0, 1), share
        if (decay < 0).any():
            raise problem(
                "F117",
                self.node.where,
                f"{name} is {float(tau.min()):g} s, less than one step of {dt:g} s: Euler's decay "
                f"1 - dt/{name} would be negative",
                f"give --dt of {float(tau.min()):g} or less, or --discretization exp",
            )
        return decay, share

    def _gain(
        self, rule: Gain, factor: FloatArray, decay: FloatArray, share: FloatArray, name: str
    ) -> FloatArray:
        if rule == "one":
            return np.ones(self.shape)
        if rule == "decay":
            return decay
        if rule == "ode" and self.profile.discretization == "exp":
            return factor * -np.expm1(-share)
        with np.errstate(invalid="ignore"):
            gain = factor * share
        if np.isnan(gain).any():  # an infinite tau with its infinite r
            gain = np.where(np.isinf(self.values(name)) & self.profile.snaps_gain, 1.0, gain)
        if not np.isfinite(gain).all():
            raise problem("F112", self.node.where, "its gain is not finite", "check r and w_in")
        return self._snapped(gain)

    def _snapped(self, gain: FloatArray) -> FloatArray:
        if not self.profile.snaps_gain:
            return gain
        return np.where(np.abs(gain - 1) < 1e-5, 1.0, gain)

    def _nonzero(self, gain: FloatArray) -> FloatArray:
        if (gain == 0).any():
            raise problem(
                "F112", self.node.where, "its inputs have gain 0 and no effect", "check r and w_in"
            )
        return gain

    def _spiking(self, rest: FloatArray, alpha: FloatArray | None) -> dict[str, object]:
        name = self.node.name
        compare = self.answers.of_node(name, "compare")
        if self.node.kind == "Threshold":
            threshold = self.values("threshold")
            return {"vth": threshold, "reset": "none", "reset_order": "at_spike",
                    "compare": compare}  # fmt: skip
        vth, target = self.values("v_threshold"), self.values("v_reset", 0.0)
        reset = self.answers.of_node(name, "reset")
        order = self.answers.of_node(name, "reset_order")
        value: FloatArray | None = None
        if reset in ("zero", "value"):
            same = bool((target == rest).all())
            reset, value = ("zero", None) if same else ("value", target)
        elif reset == "subtract" and (vth - target != vth - rest).any():
            value = vth - target
        if self.profile.max_spikes > 1 and (reset, order) != ("subtract", "at_spike"):
            raise problem(
                "F123",
                self.node.where,
                f"several spikes a step, and reset '{reset}' {order}: they are taken off one by "
                "one, at the spike",
                "--reset subtract --reset-order at_spike, or --max-spikes 1",
            )
        drops = bool(self.answers.metadata.get("nodes", {}).get(name, {}).get("drops_input", False))
        if self.profile.synaptic_zero_drops_input and reset in ("zero", "value"):
            drops = order == "next_step" and (alpha is not None or self.neuron.recurrent)
        twice = self.profile.resets_twice and (reset, order) == ("subtract", "at_spike")
        return {"vth": vth, "reset": reset, "reset_order": order, "compare": compare,
                "reset_twice": twice, "reset_value": value, "reset_drops_input": drops,
                "max_spikes": self.profile.max_spikes}  # fmt: skip
