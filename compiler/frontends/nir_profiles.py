"""What NIR leaves open, answered by options or by naming the framework that wrote a file.

NIR gives differential equations and a threshold: no time step, no way of
discretising, no kind or time of reset, no comparison. :data:`PROFILES` says
what each framework does, with its quirks and where they were found.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from spikec.compiler.errors import Diagnostic, FrontendError
from spikec.compiler.frontends.nir_file import NirFile, NirNode, problem
from spikec.compiler.frontends.options import Discretization, ReadOptions
from spikec.compiler.ir import Choice, Compare, Reset, ResetOrder

__all__ = ["PROFILES", "Answers", "Gain", "Profile", "answers_for"]

#: How strongly a current moves the voltage, and an input the current, in one step.
#: "ode": r dt/tau by Euler, r (1 - decay) by exp. "euler": r dt/tau with either decay.
#: "one": the framework has no such factor. "decay": the factor is the decay itself.
Gain: TypeAlias = Literal["ode", "euler", "one", "decay"]

_SPIKING = ("IF", "LIF", "CubaLIF")
_WITH_TAU = ("LI", "LIF", "CubaLI", "CubaLIF")


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One framework's answers, and what else must be known to run its files as it does."""

    name: str
    discretization: Discretization
    reset: Reset
    reset_order: ResetOrder
    compare: Compare
    dt: float | None = None
    voltage_gain: Gain = "ode"
    current_gain: Gain = "ode"
    #: Time constants may have been multiplied by dt: undone where dt / tau exceeds 1.
    tau_times_dt: bool = False
    #: A decay above 1 or below 0 is clipped, as the framework does when it runs.
    clips_decay: bool = False
    #: A gain within 1e-5 of 1 is 1: the framework has none, the file's rounding gave it one.
    snaps_gain: bool = False
    #: A reset to zero also discards that step's input, in neurons with a synapse or recurrence.
    synaptic_zero_drops_input: bool = False
    starts_at_leak: bool = False
    #: Steps that an edge from an input, and from a population, takes beyond the file's delays.
    input_delay: int = 0
    population_delay: int = 0
    lag: int = 0
    refuses: Mapping[str, str] = field(default_factory=dict)
    quirks: tuple[str, ...] = ()
    source: str = ""


_MULTI_SPIKE = (
    "several spikes of one neuron in one step (its default) are one spike here: "
    "exact while no voltage reaches twice the threshold"
)

#: Every profile; docs/nir.md shows this table.
PROFILES: Mapping[str, Profile] = {
    item.name: item
    for item in (
        Profile(
            name="snntorch",
            dt=1e-4,
            discretization="euler",
            reset="subtract",
            reset_order="next_step",
            compare=">",
            clips_decay=True,
            snaps_gain=True,
            synaptic_zero_drops_input=True,
            quirks=(
                "dt is always 1e-4, whatever the data",
                ("v_reset is always written as 0, whatever the reset: a network with "
                "reset_mechanism='zero' needs --reset zero, 'none' needs --reset none"),
                ("alpha and beta are clamped to [0, 1] when it runs, not when it exports: "
                "negative time constants mean a decay of 1"),
                "r = tau/dt and w_in = tau_syn/dt are written for gains of 1",
            ),
            source="snnTorch 1.0.0: export_nir.py, _neurons/neurons.py",
        ),
        Profile(
            name="snntorch-import",
            dt=1e-4,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            clips_decay=True,
            snaps_gain=True,
            refuses={
                "subtract": "with reset_delay=False and subtraction snnTorch first subtracts the "
                "threshold when the last voltage is still above it, and spikes only if the rest "
                "reaches it again; spikec's neuron has no such double reset"
            },
            quirks=("import_from_nir always takes reset_mechanism='zero', reset_delay=False",),
            source="snnTorch 1.0.0: import_nir.py",
        ),
        Profile(
            name="norse",
            dt=1e-3,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            current_gain="one",
            tau_times_dt=True,
            starts_at_leak=True,
            quirks=(
                ("tau is written as dt/tau_inv, so dt times too small: multiplied back where "
                "dt/tau exceeds 1"),
                ("a spike adds its whole weight to the current; w_in = 1 loses that gain of "
                "tau_syn/dt"),
            ),
            source="Norse 1.1.0: utils/export_nir.py, functional/lif.py",
        ),
        Profile(
            name="norse-import",
            dt=1e-3,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            starts_at_leak=True,
            quirks=("the time step is an argument of from_nir; the NIR paper used 1e-4",),
            source="Norse 1.1.0: utils/import_nir.py",
        ),
        Profile(
            name="sinabs",
            dt=1.0,
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            quirks=(
                "time constants are in steps, so dt is 1",
                ("r = 1 is right for norm_input=True only; norm_input=False needs --profile "
                "sinabs-import"),
                "tau_syn is not exported: the current's filter is lost",
                _MULTI_SPIKE,
                "a floor of the voltage (min_v_mem) is not exported",
            ),
            source="sinabs 3.1.3: nir.py, layers/",
        ),
        Profile(
            name="sinabs-import",
            dt=1.0,
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            voltage_gain="one",
            quirks=(
                "from_nir sets norm_input=False: the gain is 1 whatever r",
                _MULTI_SPIKE,
                "IF voltages are floored at -threshold, which spikec's neuron is not",
            ),
            source="sinabs 3.1.3: nir.py",
        ),
        Profile(
            name="rockpool",
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            voltage_gain="one",
            current_gain="decay",
            quirks=(
                "r = tau exp(-dt/tau)/dt is written for a gain of 1",
                "the current decays after the input is added: its input gain is exp(-dt/tau_syn)",
                "the bias of its neurons is not exported",
                _MULTI_SPIKE,
            ),
            source="rockpool 3.1.0: nn/modules/torch/nir.py, lif_torch.py",
        ),
        Profile(
            name="rockpool-import",
            discretization="exp",
            reset="subtract",
            reset_order="at_spike",
            compare=">=",
            voltage_gain="euler",
            current_gain="euler",
            quirks=("as in the NIR paper's script: weights times dt/tau", _MULTI_SPIKE),
            source="NIR paper, lif_rockpool.csv",
        ),
        Profile(
            name="spikingjelly",
            dt=1e-4,
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">=",
            snaps_gain=True,
            quirks=("soft reset (v_reset=None) is not exportable there",),
            source="SpikingJelly 2.0.0: nir_exchange/to_nir.py, neuron/",
        ),
        Profile(
            name="spyx",
            discretization="euler",
            reset="subtract",
            reset_order="at_spike",
            compare=">",
            snaps_gain=True,
            population_delay=1,
            lag=-1,
            quirks=("spikes are taken from the voltage before the step: one step late per layer",),
            source="NIR paper, Braille runs",
        ),
        Profile(
            name="lava-dl",
            discretization="euler",
            reset="zero",
            reset_order="at_spike",
            compare=">",
            input_delay=1,
            population_delay=1,
            quirks=("every synapse takes one step",),
            source="NIR paper, lif_lava_cpu_float.csv",
        ),
    )
}


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All open questions of one file, answered; ``profile`` holds the rest."""

    dt: float | None
    profile: Profile
    choices: tuple[Choice, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, str] = field(default_factory=dict)

    def of_node(self, name: str, what: str) -> Any:
        """Return an answer for one node: a file that spikec wrote has its own for each."""
        if what not in self.asked:
            own = self.metadata.get("nodes", {}).get(name, {}).get(what)
            if own is not None:
                return own
        return getattr(self.profile, what)


_QUESTIONS = {
    "dt": ("--dt SECONDS", "the time step"),
    "discretization": ("--discretization euler|exp", "how time constants become decays"),
    "reset": ("--reset zero|subtract|none", "what a spike does (zero: to the file's v_reset)"),
    "reset_order": ("--reset-order at_spike|next_step", "when it does so"),
    "compare": ("--compare '>'|'>='", "whether reaching the threshold is enough"),
}
_ORIGINS = {name: f"option {text.split()[0]}" for name, (text, _) in _QUESTIONS.items()}
_PLAIN = Profile(name="", discretization="euler", reset="zero", reset_order="at_spike", compare=">")


def answers_for(file: NirFile, options: ReadOptions) -> Answers:
    """Return every answer with its origin; raise for those that nobody gave."""
    base, own = _profile(file, options), _own_metadata(file)
    given: dict[str, tuple[Any, str]] = {}
    for name in _QUESTIONS:
        option = getattr(options, name)
        if option is not None:
            given[name] = (option, _ORIGINS[name])
        elif base is not None and getattr(base, name) is not None:
            given[name] = (getattr(base, name), f"profile '{base.name}'")
        elif name in own:
            given[name] = (own[name], "the file: spikec wrote it")
    open_questions = [name for name in _needed(file) if name not in given]
    if own:
        open_questions = [name for name in open_questions if name in ("dt", "discretization")]
    if open_questions:
        raise _unanswered(file, open_questions)
    values = {name: value for name, (value, _) in given.items()}
    _check(file, base, values)
    profile = base or _PLAIN
    asked = {name: origin for name, (_, origin) in given.items() if name not in own}
    fields = {**vars(profile), **{k: v for k, v in values.items() if v is not None}}
    needed = _needed(file)
    choices = [
        Choice(what=name.replace("_", " "), value=str(value), origin=origin)
        for name, (value, origin) in given.items()
        if name in needed
    ]
    if base is not None:
        choices += [
            Choice(what=f"profile {base.name}", value=quirk, origin=base.source)
            for quirk in base.quirks
        ]
    return Answers(
        dt=values.get("dt"),
        profile=Profile(**fields),
        choices=tuple(choices),
        metadata=own,
        asked=asked,
    )


def _profile(file: NirFile, options: ReadOptions) -> Profile | None:
    if options.profile is None:
        return None
    if options.profile not in PROFILES:
        raise problem(
            "F116",
            file.path,
            f"there is no profile '{options.profile}'",
            f"profiles: {', '.join(PROFILES)}",
        )
    return PROFILES[options.profile]


def _own_metadata(file: NirFile) -> dict[str, Any]:
    """Return what :mod:`spikec.compiler.frontends.nir_write` noted, if the file has it."""
    text = file.metadata.get("spikec")
    if not isinstance(text, str):
        return {}
    try:
        table = json.loads(text)
    except (ValueError, RecursionError):
        table = None
    sound = isinstance(table, dict) and all(
        isinstance(table.get(name, {}), dict)
        and all(isinstance(entry, dict) for entry in table.get(name, {}).values())
        for name in ("nodes", "inputs")
    )
    if not sound or not isinstance(table, dict) or not isinstance(table.get("dt"), float):
        raise problem("F110", file.path, "its 'spikec' metadata are damaged", "export it anew")
    return table


def _needed(file: NirFile) -> list[str]:
    kinds = {node.kind for node in file.nodes.values()}
    needed = []
    if kinds & {"I", "IF", "Delay", *_WITH_TAU}:
        needed.append("dt")
    if kinds & {*_WITH_TAU}:
        needed.append("discretization")
    if kinds & {*_SPIKING}:
        needed += ["reset", "reset_order", "compare"]
    elif "Threshold" in kinds:
        needed.append("compare")
    return needed


def _check(file: NirFile, base: Profile | None, values: Mapping[str, Any]) -> None:
    dt = values.get("dt")
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise problem("F117", file.path, f"the time step is {dt}", "give --dt in seconds, above 0")
    reset = values.get("reset")
    if base is not None and reset in base.refuses:
        raise problem(
            "F123",
            f"{file.path}: profile '{base.name}'",
            base.refuses[str(reset)],
            "--reset subtract --reset-order at_spike without a profile is equal as long as no "
            "voltage stays above the threshold after a spike",
        )


def _unanswered(file: NirFile, names: list[str]) -> FrontendError:
    lines = [f"{_QUESTIONS[name][0]}: {_QUESTIONS[name][1]}" for name in names]
    hint = "or name the framework that wrote it: --profile " + "|".join(PROFILES)
    clues = _clues(file)
    return FrontendError(
        Diagnostic(
            code="F115",
            where=file.path,
            message="NIR does not say, and nobody else did:\n    " + "\n    ".join(lines),
            hint="\n        ".join([hint, *clues]),
        )
    )


def _clues(file: NirFile) -> list[str]:
    """Return what the numbers point to; a suggestion, never an answer."""
    steps = {step for node in file.nodes.values() for step in _implied_steps(node)}
    clues = []
    if len(steps) == 1 and min(steps) > 0:
        step = steps.pop()
        clues.append(
            f"r = tau/dt throughout if --dt {step:g}: this is what exporters usually write"
        )
    if any(_is_scaled_by_dt(node) for node in file.nodes.values()):
        clues.append("the time constants are microseconds with r = 1: --profile norse writes this")
    return clues


def _implied_steps(node: NirNode) -> set[float]:
    try:
        if node.kind in ("I", "IF"):
            steps = 1 / node.array("r").astype(np.float64)
        elif node.kind in _WITH_TAU:
            tau = node.array("tau" if node.has("tau") else "tau_mem").astype(np.float64)
            r = node.array("r").astype(np.float64)
            if (r == 1).all():
                return {-1.0}
            steps = tau / r
        else:
            return set()
    except (FrontendError, ValueError):
        return {-1.0, -2.0}
    return {float(f"{step:.4g}") for step in np.unique(steps)[:5]}


def _is_scaled_by_dt(node: NirNode) -> bool:
    if node.kind not in _WITH_TAU or not node.has("tau" if node.has("tau") else "tau_mem"):
        return False
    tau = np.asarray(node.fields["tau" if node.has("tau") else "tau_mem"])
    r = np.asarray(node.fields.get("r", 0))
    return bool(tau.dtype.kind == "f" and (tau < 1e-4).all() and (r == 1).all())
