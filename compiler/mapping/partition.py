"""Which neurons share a core: the longest pieces of an order that keep every limit.

Cutting knows how many axons go out of each neuron only once all cores are known: it starts with
none, counts, and cuts again with what it counted, so that the counts only grow; cores that
still break a limit are halved. Then cores that fit together are joined, and the emptiest are
handed out to the others where those have room, piece by piece.
"""

from __future__ import annotations

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.mapping.use import CoreUse, Network

__all__ = ["cut", "labels", "pieces_of", "uses"]

#: Times that an order is cut anew with the axons counted before.
_ROUNDS = 4
#: Pairs of cores that are tried for joining.
_MOST_PAIRS = 1000
#: What handing out may take, in neurons of cores that are looked at.
_MOST_LOOKED_AT = 300_000


def cut(network: Network, order: Array, least: int = 1) -> list[Array]:
    """Return the neurons of every core, cut from ``order``; every core keeps the limits.

    There are ``least`` cores at best: at so many, none is looked for to save.
    A single neuron that no core could hold stands alone, over the limit.
    """
    fan_out = np.zeros(network.num_neurons, np.int64)
    pieces: list[Array] = []
    for _ in range(_ROUNDS):
        pieces = _cut(network, order, fan_out)
        counted = network.fan_out(labels(network, pieces), len(pieces))
        if (counted <= fan_out).all():
            break
        fan_out = np.maximum(fan_out, counted)
    return _handed_out(network, _joined(network, _halved(network, pieces)), least)


def labels(network: Network, pieces: list[Array]) -> Array:
    """Return the core of every neuron, int32."""
    core_of = np.zeros(network.num_neurons, np.int32)
    for core, piece in enumerate(pieces):
        core_of[piece] = core
    return core_of


def pieces_of(core_of: Array) -> list[Array]:
    """Return the neurons of every core, the reverse of :func:`labels`."""
    order = np.argsort(core_of, kind="stable")
    return np.split(order, np.cumsum(np.bincount(core_of))[:-1])


def uses(network: Network, pieces: list[Array]) -> list[CoreUse]:
    """Return what every core takes."""
    fan_out = network.fan_out(labels(network, pieces), len(pieces))
    return network.uses(pieces, fan_out)


def _cut(network: Network, order: Array, fan_out: Array) -> list[Array]:
    pieces, begin, guess = [], 0, 16
    while begin < len(order):
        rest = order[begin:]
        guess = _longest(network, rest, fan_out, guess)
        pieces.append(rest[:guess])
        begin += guess
    return pieces


def _longest(network: Network, rest: Array, fan_out: Array, guess: int) -> int:
    """Return how many of ``rest`` fit on a core, 1 at least: what a core takes only grows."""
    most = min(len(rest), network.limits.neurons)

    def fits(number: int) -> bool:
        return network.fits(rest[:number], fan_out)

    fitting, failing = 1, most + 1
    step = max(1, guess // 16)
    probe = min(guess, most)
    while fitting < probe < failing:  # gallop away from the length of the core before
        if fits(probe):
            fitting, probe = probe, min(probe + step, most)
        else:
            failing, probe = probe, probe - step
        step *= 2
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        if fits(middle):
            fitting = middle
        else:
            failing = middle
    return fitting


def _halved(network: Network, pieces: list[Array]) -> list[Array]:
    """Halve the cores that break a limit until none does, or single neurons do."""
    while True:
        used = uses(network, pieces)
        broken = [
            bool(use.exceeded(network.limits)) and len(piece) > 1
            for use, piece in zip(used, pieces, strict=True)
        ]
        if not any(broken):
            return pieces
        pieces = [
            half
            for piece, is_broken in zip(pieces, broken, strict=True)
            for half in (np.array_split(piece, 2) if is_broken else [piece])
        ]


def _joined(network: Network, pieces: list[Array]) -> list[Array]:
    """Join cores that fit on one together, the emptiest first.

    Axons of the sources only get fewer by it, so that no other core is broken.
    """
    limits = network.limits
    fan_out = network.fan_out(labels(network, pieces), len(pieces))
    used = network.uses(pieces, fan_out)
    emptiest_first = np.argsort([use.fullest(limits)[1] for use in used], kind="stable")
    # What simply adds up; cores that are broken or gone have no room at all.
    taken = np.array([(use.neurons, use.axons_out) for use in used])
    taken[[bool(use.exceeded(limits)) for use in used]] = limits.neurons + 1
    room = np.array([limits.neurons, limits.axons_out])
    kept = dict(enumerate(pieces))
    tries = _MOST_PAIRS
    for small in emptiest_first.tolist():
        may = (taken + taken[small] <= room).all(axis=1)
        may[small] = False
        for large in emptiest_first[::-1][may[emptiest_first[::-1]]].tolist():
            if tries == 0:
                return list(kept.values())
            tries -= 1
            union = np.concatenate([kept[large], kept[small]])
            use = network.use(union, fan_out)
            if not use.exceeded(limits):
                kept[large] = union
                taken[large], taken[small] = (use.neurons, use.axons_out), limits.neurons + 1
                del kept[small]
                break
    return list(kept.values())


def _handed_out(network: Network, pieces: list[Array], least: int) -> list[Array]:
    """Empty cores, the emptiest first, as long as others can take their neurons."""
    budget = _MOST_LOOKED_AT
    while len(pieces) > least and budget > 0:
        fan_out = network.fan_out(labels(network, pieces), len(pieces))
        shares = [use.fullest(network.limits)[1] for use in network.uses(pieces, fan_out)]
        emptiest = sorted(range(len(pieces)), key=lambda core: shares[core])
        if shares[emptiest[0]] > 1:
            return pieces
        for core in emptiest:
            budget -= network.num_neurons
            without = _without(network, pieces, core, fan_out)
            if without is not None:
                pieces = without
                break
            if budget <= 0:
                return pieces
        else:
            return pieces
    return pieces


def _without(
    network: Network, pieces: list[Array], core: int, fan_out: Array
) -> list[Array] | None:
    """Return the pieces with the neurons of ``core`` on others; None if they do not all fit."""
    rest = pieces[core]
    others = [piece for place, piece in enumerate(pieces) if place != core]
    if sum(network.limits.neurons - len(piece) for piece in others) < len(rest):
        return None
    for place in range(len(others) - 1, -1, -1):
        number = _fitting(network, others[place], rest, fan_out)
        if number:
            others[place] = np.concatenate([others[place], rest[:number]])
            rest = rest[number:]
        if not len(rest):
            # What feeds several pieces now sends more: count anew.
            broken = any(use.exceeded(network.limits) for use in uses(network, others))
            return None if broken else others
    return None


def _fitting(network: Network, piece: Array, more: Array, fan_out: Array) -> int:
    """Return how many of ``more`` can join ``piece``."""

    def fits(number: int) -> bool:
        return network.fits(np.concatenate([piece, more[:number]]), fan_out)

    failing = min(len(more), network.limits.neurons - len(piece)) + 1
    if failing <= 1 or not fits(1):
        return 0
    if fits(failing - 1):
        return failing - 1
    fitting = 1
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if fits(middle) else (fitting, middle)
    return fitting
