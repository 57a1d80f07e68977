"""Orders of neurons, of which consecutive ones go to the same core.

Cutting an order into cores keeps every choice simple: what is near in the order shares a core.
``flat`` is the program's own. ``tiles`` takes convolutional populations position by position
along a Z-shaped curve, all channels together, so that a core gets a patch of the picture.
``metis`` lets METIS cut the graph of sparse synapses, where ``pymetis`` is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import numpy as np

from spikec.compiler.arrays import Array
from spikec.compiler.mapping.use import Network
from spikec.compiler.mapping.wires import SparseWires

__all__ = ["flat", "has_metis", "metis", "orders", "tiles"]

#: Of more synapses, METIS gets so many, drawn evenly: what belongs together still shows.
_MOST_EDGES = 2_000_000


def orders(network: Network, pieces: int) -> Iterator[tuple[str, Array]]:
    """Yield the name of every order worth trying, and the neurons in it.

    ``pieces`` is about how many cores there will be.
    """
    yield "flat", flat(network)
    if any(len(item.shape) == 3 and item.shape[0] > 1 for item in network.program.populations):
        yield "tiles", tiles(network)
    if pieces > 1 and has_metis() and any(True for _ in _sparse(network)):
        yield "metis", metis(network, pieces)


def has_metis() -> bool:
    """Say whether ``pymetis`` is installed."""
    return find_spec("pymetis") is not None


def flat(network: Network) -> Array:
    """Return the neurons population by population, sources before what they feed."""
    return np.concatenate([_numbers(network, place) for place in _ranked(network)])


def tiles(network: Network) -> Array:
    """Return them so too, but positions of a picture near each other, with all their channels."""
    parts = []
    for place in _ranked(network):
        numbers, shape = _numbers(network, place), network.program.populations[place].shape
        if len(shape) == 3:
            _, rows, columns = shape
            curve = _interleaved(np.repeat(np.arange(rows), columns)) * 2
            curve += _interleaved(np.tile(np.arange(columns), rows))
            by_position = numbers.reshape(shape[0], -1).T
            numbers = by_position[np.argsort(curve, kind="stable")].reshape(-1)
        parts.append(numbers)
    return np.concatenate(parts)


def metis(network: Network, pieces: int) -> Array:
    """Return the neurons part by part of those into which METIS cuts the sparse synapses.

    Its parts need not fit cores: they say what belongs together.
    """
    import pymetis

    ends = list(_sparse(network))
    one = np.concatenate([sources for sources, _ in ends])
    other = np.concatenate([targets for _, targets in ends])
    if len(one) > _MOST_EDGES:
        some = np.random.default_rng(0).integers(0, len(one), _MOST_EDGES)
        one, other = one[some], other[some]
    elsewhere = one != other
    both = np.concatenate([one[elsewhere], other[elsewhere]])
    neighbours = np.concatenate([other[elsewhere], one[elsewhere]])
    begins = np.concatenate([[0], np.cumsum(np.bincount(both, minlength=network.num_neurons))])
    neighbours = neighbours[np.argsort(both, kind="stable")]
    graph = pymetis.CSRAdjacency(begins.astype(np.int32), neighbours.astype(np.int32))
    _, parts = pymetis.part_graph(pieces, adjacency=graph, options=pymetis.Options(seed=0))
    return np.argsort(np.asarray(parts), kind="stable")


def _sparse(network: Network) -> Iterator[tuple[Array, Array]]:
    """Yield both ends, int32, of all single synapses between neurons, connection by connection."""
    for place, into in enumerate(network.into):
        for item in into:
            if item.source_offset is not None and isinstance(item.wires, SparseWires):
                everyone = np.arange(network.program.populations[place].num_neurons)
                sources, counts = item.wires.incoming(everyone)
                targets = np.repeat(everyone, counts) + network.offsets[place]
                yield sources + np.int32(item.source_offset), targets.astype(np.int32)


def _numbers(network: Network, place: int) -> Array:
    return np.arange(network.offsets[place], network.offsets[place + 1])


def _ranked(network: Network) -> list[int]:
    """Return the populations' places, what lies nearer to the inputs first; cycles together."""
    import networkx as nx

    program = network.program
    places = {item.name: place for place, item in enumerate(program.populations)}
    graph: nx.DiGraph[int] = nx.DiGraph()
    graph.add_nodes_from(places.values())
    graph.add_edges_from(
        (places[item.source], places[item.target])
        for item in program.connections
        if item.source in places
    )
    cycles = nx.condensation(graph)
    return [
        place
        for cycle in nx.lexicographical_topological_sort(
            cycles, lambda cycle: int(min(cycles.nodes[cycle]["members"]))
        )
        for place in sorted(cycles.nodes[cycle]["members"])
    ]


def _interleaved(values: Array) -> Array:
    """Spread the low 16 bits of ``values`` over the even bits (Morton's order)."""
    spread = np.zeros_like(values)
    for bit in range(16):
        spread |= ((values >> bit) & 1) << (2 * bit)
    return spread
