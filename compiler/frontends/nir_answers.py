"""What NIR leaves open, answered by options, a profile, or a note of our own in the file.

NIR gives differential equations and a threshold: no time step, no way of
discretising, no kind or time of reset, no comparison. What nobody answers is an
error that lists the options, with what the numbers point to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from spikec.compiler.by_name import ByName
from spikec.compiler.errors import Diagnostic, FrontendError, UsageError, raise_if_any
from spikec.compiler.frontends.nir_file import SPIKING, NirFile, NirNode, problem
from spikec.compiler.frontends.nir_profiles import PLAIN, PROFILES, Loss, Profile
from spikec.compiler.frontends.options import (
    ASSUMED,
    BY_POPULATION,
    ReadOptions,
    no_effect,
    option_name,
    origin_of,
)
from spikec.compiler.ir import Choice

__all__ = ["Answers", "answers_for"]

_WITH_TAU = ("LI", "LIF", "CubaLI", "CubaLIF")
#: Nodes that sinabs may or may not normalise the inputs of.
_NORMED = ("LI", "LIF")


@dataclass(frozen=True, kw_only=True)
class Answers:
    """All open questions of one file, answered; ``profile`` holds the rest."""

    dt: float | None
    profile: Profile
    choices: tuple[Choice, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: What options say of each population, by question.
    said: Mapping[str, ByName[Any]] = field(default_factory=dict)
    #: Questions that a profile answers, whatever the file's own notes say.
    settled: frozenset[str] = frozenset()
    round_delays: bool = False
    #: The time step that the file or its profile has without an option, and which of them says so.
    own_dt: float | None = None
    own_dt_from: str = ""

    def of_node(self, name: str, what: str) -> Any:
        """Return an answer for one node: a file that spikec wrote has its own for each."""
        said = self.said[what].of(name) if what in self.said else None
        if said is not None:
            return said
        own = self.metadata.get("nodes", {}).get(name, {}).get(what)
        if own is not None and what not in self.settled:
            return own
        return getattr(self.profile, what, None)


_QUESTIONS = {
    "dt": ("--dt SECONDS", "the time step"),
    "discretization": ("--discretization euler|exp", "how time constants become decays"),
    "reset": ("--reset zero|subtract|none", "what a spike does (zero: to the file's v_reset)"),
    "reset_order": ("--reset-order at_spike|next_step", "when it does so"),
    "compare": ("--compare '>'|'>='", "whether reaching the threshold is enough"),
}


def answers_for(file: NirFile, options: ReadOptions) -> Answers:
    """Return every answer with its origin; raise for those that nobody gave.

    Raises :class:`UsageError` for an option that answers no question of this file.
    """
    base, own = _profile(file, options), _own_metadata(file)
    said = _said(file, options)
    needed = _needed(file)
    _refuse_unlike(file, base)
    unanswered = [
        name for name in needed
        if not (_given(options, said, name) or getattr(base, name, None) is not None
                or (own and (name in own or _noted(file, own, name)))
                or _named_everywhere(file, said, name))
    ]  # fmt: skip
    lost = [loss for loss in base.lost if _matters(file, loss, said)] if base is not None else []
    open_losses = [loss for loss in lost if not _supplied(loss, options, said)]
    asked = [loss for loss in open_losses if loss.asked and options.profile_defaults is None]
    if unanswered or asked:
        raise _unanswered(file, unanswered, base, asked)
    if "norm_input" in said and not any(loss.option == "norm_input" for loss in lost):
        raise UsageError(no_effect("norm_input", str(file.path)))
    _refuse_idle(file, options, needed, said, open_losses)
    most, limits = _limit(file, base or PLAIN, options)
    fields = {**vars(base or PLAIN), "max_spikes": most}
    for name in _QUESTIONS:
        value, _ = _answer(options, said, base, own, name)
        fields[name] = fields[name] if value is None else value
    _check_dt(file, fields["dt"])
    own_dt, own_dt_from = _answer(replace(options, dt=None), said, base, own, "dt")
    return Answers(
        dt=fields["dt"],
        own_dt=own_dt,
        own_dt_from=own_dt_from,
        profile=Profile(**fields),
        choices=(
            *_choices(options, said, base, own, needed),
            *limits,
            *_quirks(base, own, open_losses, confirmed=options.profile_defaults is not None),
        ),
        metadata=own,
        said=said,
        round_delays=options.round_delays is not None,
        settled=frozenset(name for name in _QUESTIONS if getattr(base, name, None) is not None),
    )


def _refuse_unlike(file: NirFile, base: Profile | None) -> None:
    """Refuse nodes that the framework reads as something else than the file says."""
    for node in file.nodes.values():
        why = None if base is None else base.unlike.get(node.kind)
        if why is not None:
            raise problem(
                "F128", f"{file.path}, node '{node.name}'", why,
                "leave --profile out and say --dt, --reset, ... for what the file says",
            )  # fmt: skip


def _said(file: NirFile, options: ReadOptions) -> dict[str, ByName[Any]]:
    """Return what options say by population; raise for populations that do not exist."""
    said = {name: options.by_population(name) for name in BY_POPULATION}
    spiking = [node.name for node in file.nodes.values() if node.kind in (*SPIKING, "Threshold")]
    leaking = [node.name for node in file.nodes.values() if node.kind in _NORMED]
    findings = [
        Diagnostic(
            code="U085",
            where=f"option {option_name(option)}",
            message=f"there is no population '{name}' with {what}",
            hint=f"there are {', '.join(known) or 'none'}",
        )
        for option, values in said.items()
        for what, known in [("a leak", leaking) if option == "norm_input" else ("spikes", spiking)]
        for name in values.named
        if name not in known
    ]
    raise_if_any(UsageError, findings)
    return {name: values for name, values in said.items() if values.values}


def _given(options: ReadOptions, said: Mapping[str, ByName[Any]], name: str) -> bool:
    """Say whether an option answers a question for every population."""
    if name in BY_POPULATION:
        return name in said and said[name].default is not None
    return getattr(options, name) is not None


def _named_everywhere(file: NirFile, said: Mapping[str, ByName[Any]], name: str) -> bool:
    """Say whether an option names every population that a question is asked of."""
    return name in said and all(node.name in said[name].named for node in _asked(file, name))


def _answer(
    options: ReadOptions,
    said: Mapping[str, ByName[Any]],
    base: Profile | None,
    own: Mapping[str, Any],
    name: str,
) -> tuple[Any, str]:
    """Return the answer for populations that no option names, and where it is from."""
    if _given(options, said, name):
        value = said[name].default if name in said else getattr(options, name)
        return value, _origin(base, name, value)
    if base is not None and getattr(base, name) is not None:
        return getattr(base, name), f"profile '{base.name}'"
    return own.get(name), "the file: spikec wrote it"


def _origin(base: Profile | None, name: str, value: object) -> str:
    """Return where an option's answer is from, and what it overrides."""
    profile = None if base is None else base.name
    return origin_of(name, value, profile=profile, usual=getattr(base, name, None))


def _choices(
    options: ReadOptions,
    said: Mapping[str, ByName[Any]],
    base: Profile | None,
    own: Mapping[str, Any],
    needed: Sequence[str],
) -> Iterator[Choice]:
    for name in needed:
        value, origin = _answer(options, said, base, own, name)
        if value is not None:
            yield Choice(what=name.replace("_", " "), value=str(value), origin=origin)
    for name, values in said.items():
        for population, value in values.named.items():
            yield Choice(
                what=f"{name.replace('_', ' ')} of '{population}'",
                value=str(value),
                origin=_origin(base, name, value),
            )
        if name not in _QUESTIONS and values.default is not None:
            yield Choice(
                what=name.replace("_", " "),
                value=str(values.default),
                origin=_origin(base, name, values.default),
            )


def _quirks(
    base: Profile | None, own: Mapping[str, Any], losses: Sequence[Loss], *, confirmed: bool
) -> Iterator[Choice]:
    if own:
        yield Choice(
            what="resets and comparisons",
            value="noted for each population",
            origin="the file: spikec wrote it",
        )
    if base is None:
        return
    for loss in losses:
        yield Choice(
            what=loss.switch,
            value=f"{loss.default}, the default of '{base.name}'"
            + (f"; else {loss.say}" if loss.say and not confirmed else ""),
            origin="not in the file: option --profile-defaults" if confirmed else ASSUMED,
        )
    for quirk in base.quirks:
        yield Choice(what=f"profile {base.name}", value=quirk, origin=base.source)


def _matters(file: NirFile, loss: Loss, said: Mapping[str, ByName[Any]]) -> bool:
    """Say whether the file has nodes that lost the switch.

    A v_reset of 0 counts as lost: where a framework gives none, nir itself writes zeros.
    """
    nodes = [node for node in file.nodes.values() if node.kind in loss.kinds]
    if loss.option != "v_reset":
        return bool(nodes)
    resets = said.get("reset", ByName())
    return any(
        resets.of(node.name) not in ("subtract", "none")
        and not (node.has("v_reset") and node.array("v_reset").any())
        for node in nodes
    )


def _supplied(loss: Loss, options: ReadOptions, said: Mapping[str, ByName[Any]]) -> bool:
    """Say whether the user gave what was lost: values by name leave the rest its default."""
    if loss.option in BY_POPULATION:
        return loss.option in said
    return bool(loss.option) and getattr(options, loss.option) is not None


def _refuse_idle(
    file: NirFile,
    options: ReadOptions,
    needed: Sequence[str],
    said: Mapping[str, ByName[Any]],
    open_losses: Sequence[Loss],
) -> None:
    """Refuse options that answer no question of this file.

    How time constants become decays may be said of any file: it is one of the file's units, as
    the time step is.
    """
    thresholds = any(node.kind == "Threshold" for node in file.nodes.values())
    idle = [name for name in ("spike_exp", "input_bits") if getattr(options, name) is not None]
    idle += [
        name for name in ("reset", "reset_order", "compare")
        if getattr(options, name) is not None and name not in needed
        and not (thresholds and (name == "reset_order" or set(said[name].values) == {"none"}))
    ]  # fmt: skip
    spiking = bool({node.kind for node in file.nodes.values()} & {*SPIKING})
    idle += [] if spiking or "v_reset" not in said else ["v_reset"]
    idle += [] if spiking or thresholds or "spike_factor" not in said else ["spike_factor"]
    if options.profile_defaults is not None and not open_losses:
        idle.append("profile_defaults")
    raise_if_any(UsageError, [no_effect(name, str(file.path)) for name in idle])


def _limit(file: NirFile, profile: Profile, options: ReadOptions) -> tuple[int, list[Choice]]:
    """Return how many spikes a step are the most: the user's answer, else the framework's."""
    options.check_max_spikes()
    wanted, usual = options.max_spikes, profile.max_spikes
    if not {node.kind for node in file.nodes.values()} & {*SPIKING} or wanted == usual == 1:
        raise_if_any(
            UsageError, [] if wanted is None else [no_effect("max_spikes", str(file.path))]
        )
        return 1, []
    if wanted is not None:
        origin = origin_of(
            "max_spikes", wanted, usual=usual, profile=None if profile is PLAIN else profile.name
        )
        return wanted, [Choice(what="max spikes", value=str(wanted), origin=origin)]
    if usual == 1:
        return 1, []
    origin = f"profile '{profile.name}': no lower limit by default; --max-spikes gives one"
    return usual, [Choice(what="max spikes", value=str(usual), origin=origin)]


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
    known = isinstance(table, dict) and table.get("discretization") in ("euler", "exp")
    if not (sound and known) or not isinstance(table, dict) or type(table.get("dt")) is not float:
        raise problem("F110", file.path, "its 'spikec' metadata are damaged", "export it anew")
    return table


def _noted(file: NirFile, own: Mapping[str, Any], question: str) -> bool:
    """Say whether our notes answer a question for every node it is asked of."""
    if question in ("dt", "discretization"):
        return False
    notes = own.get("nodes", {})
    return all(question in notes.get(node.name, {}) for node in _asked(file, question))


def _asked(file: NirFile, question: str) -> list[NirNode]:
    """Return the nodes that a question about spikes is asked of."""
    kinds = (*SPIKING, "Threshold") if question == "compare" else SPIKING
    return [node for node in file.nodes.values() if node.kind in kinds]


def _needed(file: NirFile) -> list[str]:
    kinds = {node.dynamics for node in file.nodes.values()}
    needed = []
    if kinds & {"I", "IF", "Delay", *_WITH_TAU}:
        needed.append("dt")
    if kinds & {*_WITH_TAU}:
        needed.append("discretization")
    if kinds & {*SPIKING}:
        needed += ["reset", "reset_order"]
    return [*needed, "compare"] if _asked(file, "compare") else needed


def _check_dt(file: NirFile, dt: float | None) -> None:
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise problem("F117", file.path, f"the time step is {dt}", "give --dt in seconds, above 0")


def _unanswered(
    file: NirFile, names: Sequence[str], base: Profile | None, losses: Sequence[Loss]
) -> FrontendError:
    lines = [f"{_QUESTIONS[name][0]}: {_QUESTIONS[name][1]}" for name in names]
    message = "NIR does not say, and nobody else did:\n    " + "\n    ".join(lines)
    hints = ["or name the framework that wrote it: --profile " + "|".join(PROFILES)]
    if base is not None and names:
        hints = [f"profile '{base.name}' leaves it to you: the framework takes any"]
    if base is not None and losses:
        dropped = [
            f"{loss.switch} ({loss.default} by default)" + (f": {loss.say}" if loss.say else "")
            for loss in losses
        ]
        told = "not in the file, for the framework's export drops it:\n    " + "\n    ".join(
            dropped
        )
        message = f"{message}\n  and {told}" if names else told
        hints = [
            *(hints if names else []),
            "--profile-defaults: all that no option says is as the framework has it by default",
        ]
    return FrontendError(
        Diagnostic(
            code="F115",
            where=file.path,
            message=message,
            hint="\n        ".join([*hints, *(_clues(file) if names else [])]),
        )
    )


def _clues(file: NirFile) -> list[str]:
    """Return what the numbers point to; a suggestion, never an answer."""
    steps = {step for node in file.nodes.values() for step in _implied_steps(node)}
    clues = []
    if len(steps) == 1 and min(steps) > 0:
        step = steps.pop()
        clues.append(
            f"every gain is 1 with steps of {step:g} s: snnTorch and SpikingJelly write such "
            "files, others need not"
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
