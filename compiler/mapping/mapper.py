"""From a program to cores: the best of several orders, placed on the mesh."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.entrance import as_array
from spikec.compiler.errors import Diagnostic, MappingError, UsageError, raise_if_any
from spikec.compiler.mapping.advice import advice, unmappable
from spikec.compiler.mapping.orders import orders
from spikec.compiler.mapping.partition import cut, labels, pieces_of, uses
from spikec.compiler.mapping.sites import apart, placed
from spikec.compiler.mapping.traffic import Traffic
from spikec.compiler.mapping.use import CoreUse, Network
from spikec.compiler.program import CoreMap, Program, refused_encoders
from spikec.compiler.targets import Cores, Target

__all__ = ["Mapped", "Tried", "core_map_of", "cores_of", "least_cores", "map_program", "recorded"]


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What one order gave: its cores, and the messages a step that cross between them."""

    order: str
    cores: int
    messages: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Mapped:
    """A program with its core map, and what that map costs.

    ``between`` holds messages a step from core to core, ``outside`` those that
    inputs send to every core: one for each source neuron where no ``rates`` were given.
    ``bound`` is a number of cores that no mapping can be below.
    """

    program: Program
    target: Target
    chips: int
    uses: tuple[CoreUse, ...]
    between: Traffic
    outside: Array
    bound: int
    tried: tuple[Tried, ...]
    measured: bool

    @property
    def core_map(self) -> CoreMap:
        """Where every neuron is."""
        assert self.program.core_map is not None
        return self.program.core_map

    @property
    def crossing(self) -> float:
        """Messages a step that leave their core."""
        return self.between.crossing

    @property
    def hops(self) -> float:
        """Tiles a step that all messages pass."""
        sites, pairs = self.core_map.sites, self.between
        far = apart(sites[pairs.senders], sites[pairs.receivers], cores_of(self.target))
        return float(pairs.amounts @ far)


def cores_of(target: Target) -> Cores:
    """Return the target's ``[cores]``; ``UsageError`` where its file does not say."""
    if target.cores is None:
        raise UsageError(
            Diagnostic(
                code="U130",
                where=f"target '{target.name}'",
                message="it says nothing about cores: its file has no section [cores]",
                hint="map to loihi2 or loihi1, or copy [cores] from one of their files into yours",
            )
        )
    return target.cores


def _too_wide(program: Program, limits: Cores) -> Iterator[Diagnostic]:
    for item in program.connections:
        if item.num_weight_bits > max(limits.weight_widths):
            yield Diagnostic(
                code="M003",
                where=f"connection '{item.name}'",
                message=f"its weights are stored in {item.num_weight_bits} bits; a core stores "
                f"{max(limits.weight_widths)} at most",
                hint="compile with fewer bits; 'inspect' shows the bits stored",
            )


def _checked_rates(program: Program, rates: Mapping[str, Array]) -> dict[str, Array]:
    """Return messages a step of every source; raise :class:`UsageError` for what is none."""
    sources = {item.source for item in program.connections}
    shapes = {item.name: item.shape for item in (*program.inputs, *program.populations)}
    given = rates if isinstance(rates, Mapping) else {}
    found, findings = {}, []
    for name in sorted(sources | {*map(str, given)}):
        values, problem = as_array(given.get(name, ()))
        if name not in shapes or (name in sources and name not in given):
            problem = "is no source" if name in given else "is missing", f"sources: {sources}"
        elif name in given and problem is None and values.shape != shapes[name]:
            problem = f"has shape {list(values.shape)}, not {list(shapes[name])}", "one per neuron"
        elif problem is None and not (np.isfinite(values) & (values >= 0)).all():
            problem = "holds what is no number of 0 and more", "messages a step, as measured"
        if problem is not None:
            findings.append(
                Diagnostic(code="U131", where=f"rates, '{name}'", message=problem[0],
                           hint=problem[1])
            )  # fmt: skip
        found[name] = values
    raise_if_any(UsageError, findings)
    return found


def map_program(
    program: Program,
    target: Target,
    *,
    chips: int = 1,
    rates: Mapping[str, Array] | None = None,
) -> Mapped:
    """Place ``program`` on the cores of ``target``: fewest cores, then fewest messages between.

    ``rates`` are messages a step of every population and input, in its shape, as measured;
    without them every neuron counts as one. Weights and all else of the program stay.
    Raises :class:`MappingError` where a neuron fits no core, or there are too few cores,
    with the smallest change that would help.
    """
    raise_if_any(MappingError, list(refused_encoders(program, "mapping to cores")))
    limits = cores_of(target)
    raise_if_any(MappingError, list(_too_wide(program, limits)))
    network = Network(program, limits)
    rates = None if rates is None else _checked_rates(program, rates)
    # What one core can never hold shows in one neuron as well, and long before all are cut.
    middle = [np.array([number]) for number in _middle(network)]
    nothing_sent = np.zeros(network.num_neurons, np.int64)
    alone = [network.use(neuron, nothing_sent) for neuron in middle]
    raise_if_any(MappingError, unmappable(network, middle, alone))
    bound = least_cores(network)
    best: tuple[tuple[int, float], list[Array]] | None = None
    tried = []
    sent = network.rates(None if rates is None else dict(rates))
    for name, order in orders(network, bound):
        pieces = cut(network, order, bound)
        crossing = network.crossing(labels(network, pieces), len(pieces), sent)
        tried.append(Tried(order=name, cores=len(pieces), messages=crossing))
        if best is None or (len(pieces), crossing) < best[0]:
            best = (len(pieces), crossing), pieces
    assert best is not None
    pieces = best[1]
    used = uses(network, pieces)
    broken = unmappable(network, pieces, used)
    if broken:
        raise MappingError(*broken)
    if len(pieces) > chips * limits.count:
        raise MappingError(advice(network, used, target, chips))
    core_of = labels(network, pieces)
    between, outside = network.messages(core_of, len(pieces), sent)
    core_map = core_map_of(network, core_of, placed(between, limits, chips), target, chips)
    return Mapped(
        program=replace(program, core_map=core_map),
        target=target,
        chips=chips,
        uses=tuple(used),
        between=between,
        outside=outside,
        bound=bound,
        tried=tuple(tried),
        measured=rates is not None,
    )


def _middle(network: Network) -> Iterator[int]:
    """Yield a neuron of every population, away from the borders of a picture."""
    for begin, item in zip(network.offsets.tolist(), network.program.populations, strict=False):
        yield begin + int(np.ravel_multi_index([n // 2 for n in item.shape], item.shape))


def recorded(
    program: Program, target: Target, *, rates: Mapping[str, Array] | None = None
) -> Mapped:
    """Return what the core map that ``program`` carries takes on ``target``."""
    core_map = program.core_map
    assert core_map is not None
    network = Network(program, cores_of(target))
    rates = None if rates is None else _checked_rates(program, rates)
    core_of = np.concatenate([item.reshape(-1) for item in core_map.cores])
    sent = network.rates(None if rates is None else dict(rates))
    between, outside = network.messages(core_of, core_map.num_cores, sent)
    return Mapped(
        program=program,
        target=target,
        chips=core_map.chips,
        uses=tuple(uses(network, pieces_of(core_of))),
        between=between,
        outside=outside,
        bound=least_cores(network),
        tried=(),
        measured=rates is not None,
    )


def core_map_of(
    network: Network, core_of: Array, sites: Array, target: Target, chips: int
) -> CoreMap:
    """Return the core of every neuron (``core_of``, through all populations) as a record."""
    limits = network.limits
    parts = np.split(core_of, network.offsets[1:-1])
    return CoreMap(
        target=target.name,
        chips=chips,
        tiles=(limits.tiles[0], limits.tiles[1]),
        cores_per_tile=limits.cores_per_tile,
        cores=tuple(
            part.reshape(item.shape)
            for part, item in zip(parts, network.program.populations, strict=True)
        ),
        sites=sites,
    )


def least_cores(network: Network) -> int:
    """Return how many cores neurons and weights alone need, however they are put together."""
    limits = network.limits
    bits = 0
    for place, into in enumerate(network.into):
        everyone = np.arange(network.program.populations[place].num_neurons)
        for item in into:
            if not hasattr(item.wires, "channels") or limits.convolution == "unrolled":
                bits += int(item.wires.counts(everyone).sum()) * item.weight_bits
    return max(1, -(-network.num_neurons // limits.neurons), -(-bits // limits.synapse_bits))
