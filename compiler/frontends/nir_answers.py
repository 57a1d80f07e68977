"""What NIR leaves open, answered by options, a profile, or a note of our own in the file.

NIR gives differential equations and a threshold: no time step, no way of
discretising, no kind or time of reset, no comparison. What nobody answers is an
error that lists the options, with what the numbers point to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spikec.compiler.errors import Diagnostic, FrontendError, UsageError, raise_if_any
from spikec.compiler.frontends.nir_file import NirFile, NirNode, problem
from spikec.compiler.frontends.nir_profiles import PLAIN, PROFILES, Profile
from spikec.compiler.frontends.options import ReadOptions, no_effect
from spikec.compiler.ir import Choice

__all__ = ["Answers", "answers_for"]

_SPIKING = ("IF", "LIF", "CubaLIF")
_WITH_TAU = ("LI", "LIF", "CubaLI", "CubaLIF")


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
        open_questions = [name for name in open_questions if not _noted(file, own, name)]
    if open_questions:
        raise _unanswered(file, open_questions, base)
    values = {name: value for name, (value, _) in given.items()}
    _check(file, values)
    profile = base or PLAIN
    most, limits = _limit(file, profile, options)
    asked = {name: origin for name, (_, origin) in given.items() if name not in own}
    fields = {**vars(profile), **{k: v for k, v in values.items() if v is not None}}
    fields["max_spikes"] = most
    needed = _needed(file)
    choices = [
        Choice(what=name.replace("_", " "), value=str(value), origin=origin)
        for name, (value, origin) in given.items()
        if name in needed
    ]
    choices += limits
    if own:
        choices.append(
            Choice(
                what="resets and comparisons",
                value="noted for each population",
                origin="the file: spikec wrote it",
            )
        )
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


def _limit(file: NirFile, profile: Profile, options: ReadOptions) -> tuple[int, list[Choice]]:
    """Return how many spikes a step are the most: the user's answer, else the framework's."""
    options.check_max_spikes()
    wanted, usual = options.max_spikes, profile.max_spikes
    if not {node.kind for node in file.nodes.values()} & {*_SPIKING} or wanted == usual == 1:
        raise_if_any(
            UsageError, [] if wanted is None else [no_effect("max_spikes", str(file.path))]
        )
        return 1, []
    if wanted is not None:
        return wanted, [Choice(what="max spikes", value=str(wanted), origin="option --max-spikes")]
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
    kinds = (*_SPIKING, "Threshold") if question == "compare" else _SPIKING
    asked = [node.name for node in file.nodes.values() if node.kind in kinds]
    return all(question in notes.get(name, {}) for name in asked)


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


def _check(file: NirFile, values: Mapping[str, Any]) -> None:
    dt = values.get("dt")
    if dt is not None and not (np.isfinite(dt) and dt > 0):
        raise problem("F117", file.path, f"the time step is {dt}", "give --dt in seconds, above 0")


def _unanswered(file: NirFile, names: list[str], base: Profile | None) -> FrontendError:
    lines = [f"{_QUESTIONS[name][0]}: {_QUESTIONS[name][1]}" for name in names]
    hint = "or name the framework that wrote it: --profile " + "|".join(PROFILES)
    if base is not None:
        hint = f"profile '{base.name}' leaves it to you: the framework takes any"
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
            f"the numbers point to --dt {step:g}: every gain is 1 then, as most exporters write"
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
