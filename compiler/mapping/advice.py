"""What to change in a network that does not fit: how far each kind of change must go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic
from spikec.compiler.mapping.use import LIMITED, CoreUse, Network
from spikec.compiler.targets import Target

__all__ = ["advice", "unmappable"]

_WORDS = {
    "neurons": "neurons",
    "accumulators": "delay slots (neurons times steps of delay)",
    "synapse_bits": "bits of synapses",
    "axons_in": "axons coming in",
    "axons_out": "axons going out",
    "profiles": "kinds of neurons (decays and switches)",
    "thresholds": "different thresholds",
    "formats": "formats of synapses (connections)",
}
#: Not every limit is published: whoever knows better can say so.
_OWN_LIMITS = "; if your chip allows more, say so in a target file of your own"


def unmappable(
    network: Network, pieces: Sequence[Array], used: Sequence[CoreUse]
) -> list[Diagnostic]:
    """Return a finding for each population with a neuron that no core can hold alone."""
    findings: dict[tuple[int, str], Diagnostic] = {}
    for piece, use in zip(pieces, used, strict=True):
        for limit in use.exceeded(network.limits):
            place, _ = next(network.parts(piece))
            findings.setdefault((place, limit), _too_large(network, place, use, limit))
    return list(findings.values())


def _too_large(network: Network, place: int, use: CoreUse, limit: str) -> Diagnostic:
    name = network.program.populations[place].name
    needed, allowed = getattr(use, limit), getattr(network.limits, limit)
    less = 100 * (1 - allowed / needed)
    into = ", ".join(f"'{item.connection.name}'" for item in network.into[place])
    remedy = {
        "synapse_bits": f"store {less:.0f} % less into each neuron: prune {into}, or take fewer "
        "bits per weight",
        "axons_in": f"let {less:.0f} % fewer sources reach a neuron: prune {into}",
        "axons_out": f"let each neuron reach {less:.0f} % fewer cores: fewer neurons or "
        "connections after it",
        "accumulators": f"shorten the delays of {into} to {allowed} steps or less",
        "formats": f"join connections of the same ends and delay among {into}",
    }.get(limit, "take a target with larger cores")
    return Diagnostic(
        code="M001",
        where=f"population '{name}'",
        message=f"one neuron alone takes {needed:,} {_WORDS[limit]}; a core has {allowed:,}",
        hint=remedy + _OWN_LIMITS,
    )


def advice(network: Network, used: Sequence[CoreUse], target: Target, chips: int) -> Diagnostic:
    """Return the finding for a network that needs more cores than there are, with remedies."""
    limits = network.limits
    have = chips * limits.count
    limiting = Counter(use.fullest(limits)[0] for use in used)
    limit = limiting.most_common(1)[0][0]
    mean = {name: sum(getattr(use, name) for use in used) / len(used) for name in LIMITED}
    share = have / len(used)
    remedies = [f"--chips {ceil(len(used) / limits.count)}"]
    if limit == "synapse_bits":
        remedies += _fewer_bits(network, share)
    if limit in ("synapse_bits", "axons_in", "axons_out"):
        remedies.append(
            f"prune about {100 * (1 - share):.0f} % of the synapses, whole sources first"
        )
    remedies.append(
        f"about {100 * (1 - share):.0f} % fewer neurons "
        f"({int(network.num_neurons * share):,} instead of {network.num_neurons:,})"
    )
    return Diagnostic(
        code="M002",
        where=f"target '{target.name}'",
        message=f"{len(used):,} cores are needed, {have:,} are there; most are full of "
        f"{_WORDS[limit]} (mean {mean[limit]:,.0f} of {getattr(limits, limit):,})",
        hint="one of these, the smallest change first: " + "; ".join(remedies),
    )


def _fewer_bits(network: Network, share: float) -> list[str]:
    """Return the most bits per weight at which synapses would fit, if any do."""
    now = max(item.weight_bits for item in network.wired)
    fitting = [
        width for width in network.limits.weight_widths if width < now and width <= now * share
    ]
    return [f"--weight-bits {max(fitting)} instead of {now}"] if fitting else []
