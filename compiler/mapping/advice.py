"""What to change in a network that does not fit: how far each kind of change must go."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.errors import Diagnostic
from spikec.compiler.mapping.orders import flat
from spikec.compiler.mapping.partition import cut
from spikec.compiler.mapping.use import CoreUse, Network
from spikec.compiler.operators import with_weight
from spikec.compiler.program import Program
from spikec.compiler.storage import storages
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
#: Remedies are tried for networks with at most so many pairs of neurons.
_MOST_TRIED = 1 << 24
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
    into = ", ".join(f"'{item.stored.name}'" for item in network.into[place])
    remedy = {
        "synapse_bits": f"store {less:.0f} % less into each neuron: prune {into}, or take fewer "
        "bits per weight",
        "axons_in": f"let {less:.0f} % fewer sources reach a neuron: prune {into}",
        "axons_out": f"let each neuron reach {less:.0f} % fewer cores: fewer neurons or "
        "connections after it",
        "accumulators": f"shorten the delays of {into} to {allowed} steps or less",
        "formats": f"join connections of the same ends among {into}",
    }.get(limit, "take a target with larger cores")
    return Diagnostic(
        code="M001",
        where=f"population '{name}'",
        message=f"one neuron alone takes {needed:,} {_WORDS[limit]}; a core has {allowed:,}",
        hint=remedy + _OWN_LIMITS,
    )


def advice(network: Network, used: Sequence[CoreUse], target: Target, chips: int) -> Diagnostic:
    """Return the finding for a network that needs more cores than there are, with remedies.

    Fewer bits and pruning are tried: their figures are those with which it did fit.
    """
    limits = network.limits
    have = chips * limits.count
    limit = Counter(use.fullest(limits)[0] for use in used).most_common(1)[0][0]
    mean = sum(getattr(use, limit) for use in used) / len(used)
    share = have / len(used)
    remedies = [*_fewer_bits(network, have), *_pruned(network, have)]
    remedies.append(
        f"about {100 * (1 - share):.0f} % fewer neurons "
        f"({int(network.num_neurons * share):,} instead of {network.num_neurons:,}, by proportion)"
    )
    remedies.append(f"--chips {ceil(len(used) / limits.count)}")
    return Diagnostic(
        code="M002",
        where=f"target '{target.name}'",
        message=f"{len(used):,} cores are needed, {have:,} are there; most are full of "
        f"{_WORDS[limit]} (mean {mean:,.0f} of {getattr(limits, limit):,})",
        hint="one of: " + "; ".join(remedies),
    )


def _needs(network: Network) -> int:
    return len(cut(network, flat(network)))


def _fewer_bits(network: Network, have: int) -> Iterator[str]:
    """Yield the most bits per weight at which it fits, if there are any."""
    if sum(item.wires.sources * item.wires.targets for item in network.wired) > _MOST_TRIED:
        return
    now = max(item.weight_bits for item in network.wired)
    for width in sorted(network.limits.weight_widths, reverse=True):
        if width < now and _needs(Network(network.program, network.limits, width)) <= have:
            yield (
                f"weights stored in {width} bits instead of {now} (compile with fewer; 'inspect' "
                "shows the bits stored)"
            )
            return


def _pruned(network: Network, have: int) -> Iterator[str]:
    """Yield the least share of synapses without which it fits, in sixteenths."""
    if sum(item.wires.sources * item.wires.targets for item in network.wired) > _MOST_TRIED:
        return
    failing, fitting = 0, 16
    while fitting - failing > 1:
        middle = (failing + fitting) // 2
        program = _without_smallest(network.program, middle / 16)
        if _needs(Network(program, network.limits)) <= have:
            fitting = middle
        else:
            failing = middle
    if fitting < 16:
        yield f"prune the {100 * fitting / 16:.0f} % of the weights that are smallest"


def _without_smallest(program: Program, share: float) -> Program:
    kept = {}
    for stored in storages(program):
        weight = stored.operator.weight
        order = np.argsort(np.abs(weight), axis=None, kind="stable")
        stays = np.ones(weight.size, bool)
        stays[order[: int(share * weight.size)]] = False
        for item in stored.connections:
            part = np.where(stays.reshape(weight.shape), item.operator.weight, 0)
            kept[item.name] = replace(item, operator=with_weight(item.operator, part))
    connections = tuple(kept[item.name] for item in program.connections)
    return replace(program, connections=connections, core_map=None)
