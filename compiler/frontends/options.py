"""What a file may leave open: the options that a user supplies instead of a guess."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypeAlias

from spikec.compiler.by_name import ByName, parse_by_name
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.ir import MOST_SPIKES, Compare

__all__ = [
    "ASSUMED", "BY_POPULATION", "Discretization", "ReadOptions", "no_effect", "option_name",
    "origin_of", "overrides_profile",
]  # fmt: skip

#: Where a choice is from that a profile implies for what its framework's export drops.
ASSUMED = "not in the file: the profile's default"

#: What stands in the origin of an option's choice between the option and the profile.
_OVER = ", over profile "

Discretization: TypeAlias = Literal["euler", "exp"]


def _one_of(*words: str) -> Callable[[str], str]:
    def value_of(text: str) -> str:
        if text not in words:
            raise ValueError(text)
        return text

    return value_of


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


#: Options whose text is a value for all populations, or one by name: how a value is read, what
#: it is, and an example.
BY_POPULATION: Mapping[str, tuple[Callable[[str], Any], str, str]] = {
    "reset": (
        _one_of("subtract", "zero", "none"),
        "subtract, zero or none",
        "layer2=none,subtract",
    ),
    "reset_order": (_one_of("at_spike", "next_step"), "at_spike or next_step", "layer2=at_spike"),
    "compare": (_one_of(">", ">="), "> or >=", "layer2=>=,>"),
    "v_reset": (_finite, "a voltage", "layer1=-0.4,0"),
    "spike_factor": (_finite, "a factor", "layer1=0.5,1"),
    "norm_input": (_one_of("true", "false"), "true or false", "layer1=false,true"),
}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """Answers to what a format does not say; None where the user gave none.

    ``dt`` is in seconds. ``profile`` names the producing framework and answers
    several questions at once; the others override it one by one. ``max_spikes`` limits
    how many spikes a neuron sends in a step, where the source sends several. ``spike_exp`` and
    ``input_bits`` are netx's arguments ``spike_exp`` and ``input_message_bits``.

    ``reset`` (subtract, zero, none), ``reset_order`` (at_spike, next_step), ``compare`` (>, >=),
    ``v_reset`` (a voltage), ``spike_factor`` (what a spike is worth) and ``norm_input`` (true,
    false: whether inputs count 1 - decay, as sinabs has it) are texts: a value for all
    populations, values by name, or both: ``layer2=none,subtract``. ``profile_defaults`` says that
    what the framework's export drops has the framework's default there.

    ``inputs`` is such a text too, by the names of the inputs: ``x=analog:-1..1,graded:0..15``.
    ``round_delays`` takes the nearest whole step for delays between steps, as learned ones are.
    """

    dt: float | None = None
    reset: str | None = None
    reset_order: str | None = None
    compare: str | None = None
    discretization: Discretization | None = None
    profile: str | None = None
    profile_defaults: Literal[True] | None = None
    v_reset: str | None = None
    spike_factor: str | None = None
    norm_input: str | None = None
    inputs: str | None = None
    round_delays: Literal[True] | None = None
    max_spikes: int | None = None
    spike_exp: int | None = None
    input_bits: int | None = None

    def refuse_all_but(self, allowed: Collection[str], where: str) -> None:
        """Raise :class:`UsageError` for every answer to a question the file leaves no room for."""
        given = [item.name for item in fields(self) if getattr(self, item.name) is not None]
        raise_if_any(UsageError, [no_effect(name, where) for name in given if name not in allowed])
        if self.dt is not None and not (math.isfinite(self.dt) and self.dt > 0):
            raise UsageError(
                Diagnostic(
                    code="U083",
                    where="option --dt",
                    message=f"{self.dt} is no time step",
                    hint="give seconds, above 0",
                )
            )
        self.check_max_spikes()

    def by_population(self, name: str) -> ByName[Any]:
        """Return what ``name``, one of :data:`BY_POPULATION`, says of each population.

        Raises :class:`UsageError` for a text that says nothing.
        """
        text = getattr(self, name)
        if text is None:
            return ByName()
        value_of, kind, example = BY_POPULATION[name]
        return parse_by_name(
            text,
            value_of,
            option=option_name(name),
            kind=kind,
            hint=f"one value for all populations, or by name: {example}",
            code="U084",
        )

    def compare_for_all(self) -> Compare | None:
        """Return how all populations compare; raise :class:`UsageError` for one by name."""
        said = self.by_population("compare")
        if said.named:
            raise UsageError(
                Diagnostic(
                    code="U084",
                    where="option --compare",
                    message="this format has one comparison for all populations",
                    hint="give '>' or '>='",
                )
            )
        result: Compare | None = said.default
        return result

    def check_max_spikes(self) -> None:
        """Raise :class:`UsageError` for a limit that no neuron can have."""
        if self.max_spikes is not None and not 1 <= self.max_spikes <= MOST_SPIKES:
            raise UsageError(
                Diagnostic(
                    code="U083",
                    where="option --max-spikes",
                    message=f"{self.max_spikes} spikes a step cannot be held",
                    hint=f"give 1 to {MOST_SPIKES}",
                )
            )


def no_effect(name: str, where: str) -> Diagnostic:
    """Return what to say about an option that answers no question."""
    return Diagnostic(
        code="U082",
        where=f"option {option_name(name)}",
        message=f"it has no effect: {where} says so itself",
        hint="leave the option out",
    )


def option_name(name: str) -> str:
    """Return how the command line calls a field of :class:`ReadOptions`."""
    return "--input" if name == "inputs" else f"--{name.replace('_', '-')}"


def origin_of(name: str, value: object, *, profile: str | None, usual: object) -> str:
    """Return where an option's answer is from, and what the profile it overrides says instead.

    ``usual`` is the profile's own answer, None where it has none.
    """
    said = f"option {option_name(name)}"
    if profile is None or usual in (None, value):
        return said
    return f"{said}{_OVER}'{profile}': {usual}"


def overrides_profile(origin: str) -> bool:
    """Say whether a choice with this ``origin`` overrides a profile."""
    return origin.startswith("option --") and _OVER in origin
