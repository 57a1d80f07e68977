"""NIR neurons as populations: differential equations and a time step become decays and gains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np

from spikec.compiler.arrays import Array, FloatArray, Shape, frozen, size
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends.nir_answers import Answers
from spikec.compiler.frontends.nir_file import NirNode, problem
from spikec.compiler.frontends.nir_profiles import Gain
from spikec.compiler.ir import LI, LIF, SourceView

__all__ = ["Neuron", "fit_of", "neuron_shape", "population", "spread_over"]

_MOST_LAG = 1000
#: Steps of dt/tau: beyond it exp(-dt/tau) keeps less than 1e-13, so units were mistaken.
_MOST_SHARE = 30.0
#: The same for decays that snnTorch clips to 0: training leaves them just below it.
_MOST_CLIPPED = 2.0
#: Factor by which a gain that is 1 at the profile's time step may change with another: files whose
#: gains are 1 are of frameworks that have none, and then weights mean something else.
_MOST_GAIN_CHANGE = 2.0
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

    What arrives decides; parameters of one value, of fewer axes, one per channel, or in one row
    are spread to fit.
    """
    stored = {name: np.shape(node.fields[name]) for name in _PARAMETERS if node.has(name)}
    widest = max(stored.values(), key=size, default=())
    for name, shape in stored.items():
        if fit_of(shape, incoming or widest) is None:
            raise problem(
                "F114",
                node.where,
                f"parameter '{name}' of shape {shape} does not fit values of shape "
                f"{incoming or widest}" + (" that arrive" if incoming else " of the others"),
                "check the nodes before it" if incoming else "export the network anew",
            )
    if incoming is None:
        return (widest or (1,)), ""
    if widest == incoming:
        return incoming, ""
    if size(widest) == 1:
        return incoming, "" if incoming == (1,) else f"one value stands for all of {incoming}"
    if fit_of(widest, incoming) == "channels":
        return incoming, f"one value per channel, spread over {incoming}"
    return incoming, f"parameters of shape {widest} are read as {incoming}"


Fit: TypeAlias = Literal["all", "one", "axes", "channels", "row"]


def fit_of(found: Shape, needed: Shape) -> Fit | None:
    """Return how values of shape ``found`` fill ``needed``: None if they do not.

    "axes": as NumPy broadcasts; "channels": one value for each of the first axis; "row": all
    values in C order.
    """
    if found == needed:
        return "all"
    if size(found) == 1:
        return "one"
    trailing = _without_batch(found, needed)
    if len(trailing) <= len(needed) and all(
        extent in (1, whole) for extent, whole in zip(trailing[::-1], needed[::-1], strict=False)
    ):
        return "axes"
    if found == needed[:1]:
        return "channels"
    bare, wanted = (tuple(extent for extent in item if extent != 1) for item in (found, needed))
    rows = size(found) == size(needed) and 1 in (len(bare), len(wanted))
    return "row" if rows or bare == wanted else None


def _without_batch(found: Shape, needed: Shape) -> Shape:
    """Return a shape without the ones in front that ``needed`` has no axes for."""
    extra = max(len(found) - len(needed), 0)
    return found[extra:] if set(found[:extra]) <= {1} else found


def spread_over(values: FloatArray, shape: Shape, *, last_axes: bool) -> FloatArray | None:
    """Return ``values`` as one for each of ``shape``; they fit, as :func:`fit_of` says.

    None where a row may be one value per channel, or along the last axis (equally long), and
    no framework (``last_axes``) says which.
    """
    fit = fit_of(values.shape, shape)
    assert fit is not None
    if fit == "one":
        return np.full(shape, values.reshape(()))
    if fit == "row":
        return values.reshape(shape)
    by_channel = values.reshape(-1, *[1] * (len(shape) - 1))
    if fit == "channels":
        return np.broadcast_to(by_channel, shape)
    spread = np.broadcast_to(values.reshape(_without_batch(values.shape, shape)), shape)
    either = values.shape == shape[:1] and fit == "axes" and not last_axes
    return None if either and (spread != by_channel).any() else spread


def population(neuron: Neuron, answers: Answers) -> LIF | LI:
    """Return the population that ``neuron`` is under ``answers``."""
    return _Builder(neuron, answers).build()


def _degenerate(decay: FloatArray) -> Array:
    """Say which decays keep nothing, or all."""
    return (decay <= 0) | (decay >= 1)


class _Builder:
    def __init__(self, neuron: Neuron, answers: Answers) -> None:
        self.neuron, self.node, self.shape = neuron, neuron.node, neuron.shape
        self.answers, self.profile = answers, answers.profile
        self.clipped = False

    def build(self) -> LIF | LI:
        node = self.node
        alpha, current_gain = self._synapse()
        beta, voltage_gain = self._membrane()
        rest = self.values("v_leak", 0.0)
        gain = self._snapped(voltage_gain * current_gain)
        self._check_override(alpha, beta, gain)
        self._check_units(gain)
        own_bias = 0.0 if self.neuron.bias is None else gain * self.neuron.bias
        if self.profile.current_rests_at_leak and alpha is not None and not self.node.filtered:
            own_bias = own_bias + voltage_gain * rest
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
        profile = self.profile
        start = profile.if_starts_at if self.node.kind == "IF" else profile.starts_at
        if start == "v_leak":
            return rest
        if start == "v_reset":
            return self._reset_target()
        return np.zeros(self.shape)

    def _reset_target(self) -> FloatArray:
        """Return v_reset: what an option says, else the file's where the framework reads it."""
        said = self.answers.of_node(self.node.name, "v_reset")
        if said is not None:
            return np.full(self.shape, float(said))
        if not self.profile.reads_v_reset:
            return np.zeros(self.shape)
        return self.values("v_reset", 0.0)

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
        spread = spread_over(values, self.shape, last_axes=self.profile.last_axes)
        if spread is None:
            raise problem(
                "F114",
                self.node.where,
                f"parameter '{name}' of shape {values.shape} may be one value per channel of "
                f"{self.shape}, or one along its last axis",
                "name the framework that wrote it (--profile), or export one value per neuron",
            )
        return spread

    def _synapse(self) -> tuple[FloatArray | None, FloatArray]:
        """Return the current's decay and how much an input adds to it."""
        ones = np.ones(self.shape)
        if self.node.dynamics not in ("CubaLI", "CubaLIF"):
            return None, ones
        decay, share = self._decay("tau_syn")
        w_in = self.values("w_in", 1.0)
        profile = self.profile
        rule = profile.voltage_gain if self.node.filtered else profile.current_gain
        gain = self._gain(rule, w_in, decay, share, "tau_syn")
        return decay, gain

    def _membrane(self) -> tuple[FloatArray, FloatArray]:
        """Return the voltage's decay and how strongly a current moves it."""
        kind = self.node.dynamics
        if kind == "Threshold":
            return np.zeros(self.shape), np.ones(self.shape)
        r = self.values("r")
        if kind in self.profile.ignores_r:
            r = np.ones(self.shape)
        if kind == "IF" and self.profile.if_gain == "one":
            return np.ones(self.shape), np.ones(self.shape)
        if kind in ("I", "IF"):
            assert self.answers.dt is not None
            return np.ones(self.shape), self._snapped(r * self.answers.dt)
        name = "tau" if kind in ("LI", "LIF") else "tau_mem"
        decay, share = self._decay(name)
        return decay, self._gain(self._voltage_rule(), r, decay, share, name)

    def _voltage_rule(self) -> Gain:
        """Return how a current moves this voltage: what an option says, else the framework."""
        normed = self.answers.of_node(self.node.name, "norm_input")
        if normed is not None and self.node.kind in ("LI", "LIF"):
            return "ode" if normed == "true" else "one"
        own = self.profile.readout_gain if self.node.kind == "LI" else None
        return own or self.profile.voltage_gain

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
        if self.profile.tau_times_dt:
            share = share * dt
        most = _MOST_SHARE if self.profile.discretization == "exp" else _MOST_CLIPPED
        sensible = bool((share <= most).all())
        if self.profile.discretization == "exp" and sensible:
            return np.exp(-share), share
        decay = 1 - share
        if self.profile.clips_decay and sensible:
            self.clipped = self.clipped or bool((decay < 0).any())
            return np.clip(decay, 0, 1), share
        if not sensible or (decay < 0).any():
            raise problem(
                "F117",
                self.node.where,
                f"{name} is {float(tau.min()):g} s, less than one step of {dt:g} s: "
                + (
                    f"Euler's decay 1 - dt/{name} would be negative"
                    if self.profile.discretization == "euler"
                    else "nothing would be left of it"
                ),
                self._own_step()
                or "check --dt, and --profile: frameworks write time constants in units of their "
                "own",
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

    def _check_units(self, gain: FloatArray) -> None:
        """Refuse numbers that this framework cannot have written with this time step."""
        if self.profile.writes_r_one and self.node.has("r") and (self.values("r") != 1).any():
            raise problem(
                "F117",
                self.node.where,
                f"r is {float(self.values('r').flat[0]):g}: files that '{self.profile.name}' "
                "exported have 1",
                f"name the framework that wrote it; --profile {self.profile.name}-import reads "
                "files of others",
            )
        if not self.profile.writes_gain_one or (gain == 1).all() or not self.node.has("r"):
            return
        plain = self.node.kind == "LIF" and bool((self.values("r") == 1).all())
        if not self.clipped and (self.profile.clips_decay or plain):
            return
        raise problem(
            "F117",
            self.node.where,
            f"with steps of {self.answers.dt:g} s an input counts {float(gain.flat[0]):g} times; "
            f"in files of '{self.profile.name}' it counts once",
            "check --dt (leave it out for the framework's own), and --profile",
        )

    def _own_step(self) -> str:
        """Return what to say where an option is over the time step of the file or its profile."""
        own = self.answers.own_dt
        if own is None or own == self.answers.dt:
            return ""
        return f"leave --dt out, or give --dt {own:g}: {self.answers.own_dt_from}"

    def _check_override(self, alpha: FloatArray | None, beta: FloatArray, gain: FloatArray) -> None:
        """Refuse a time step beside the file's own that leaves no decay, or gains of no sense."""
        own = self.answers.own_dt
        if own is None or own == self.answers.dt or self.node.kind == "Threshold":
            return
        there = _Builder(self.neuron, replace(self.answers, dt=own))
        try:
            own_alpha, current = there._synapse()
            own_beta, voltage = there._membrane()
        except FrontendError:  # the other time step is what does not fit
            return
        own_gain = there._snapped(voltage * current)
        lost = [
            name
            for name, now, before in (("alpha", alpha, own_alpha), ("beta", beta, own_beta))
            if now is not None and before is not None
            and ((_degenerate(now) & ~_degenerate(before)).any())
        ]  # fmt: skip
        far = (np.abs(gain) > _MOST_GAIN_CHANGE) | (np.abs(gain) * _MOST_GAIN_CHANGE < 1)
        # A gain of 1 where the own step keeps nothing is that of tau = dt, by chance.
        meant = (np.abs(own_gain - 1) < 1e-5) & (own_beta > 1e-5)
        if not lost and not (far & meant).any():
            return
        found = [
            *(f"{name} is {float(values.flat[0]):g}" for name, values in
              (("alpha", alpha), ("beta", beta)) if name in lost and values is not None),
            f"an input counts {float(gain.flat[0]):g} times",
        ]  # fmt: skip
        raise problem(
            "F117",
            self.node.where,
            f"with --dt {self.answers.dt:g} {' and '.join(found)}, which at the file's own "
            f"time step is not so",
            self._own_step(),
        )

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
        vth, target = self.values("v_threshold"), self._reset_target()
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
