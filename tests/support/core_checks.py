"""The rules of a core told once more, neuron by neuron, and the simple mappings to compare with.

Nothing of ``compiler.mapping`` is used for the rules: synapses are written out as matrices, lists
are packed one by one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from spikec.compiler.arrays import Array, size
from spikec.compiler.mapping.partition import _cut, _halved
from spikec.compiler.mapping.use import Network
from spikec.compiler.operators import Conv2d, Dense, Sparse
from spikec.compiler.program import Connection, Neurons, Program
from spikec.compiler.targets import Cores

__all__ = ["checked", "first_fit", "layer_by_layer", "presence"]


def presence(connection: Connection, source: tuple[int, ...]) -> Array:
    """Return which synapses there are, bool ``[target, source]``."""
    operator = connection.operator
    if isinstance(operator, Dense):
        return operator.weight != 0
    if isinstance(operator, Sparse):
        there = np.zeros((operator.synapses.outputs, operator.synapses.inputs), bool)
        for s in range(operator.synapses.inputs):
            for k in range(operator.synapses.pointers[s], operator.synapses.pointers[s + 1]):
                there[operator.synapses.targets[k], s] = operator.weight[k] != 0
        return there
    ones = Conv2d(
        weight=np.ones(operator.weight.shape),
        stride=operator.stride, padding=operator.padding,
        dilation=operator.dilation, groups=operator.groups,
    )  # fmt: skip
    units = np.eye(size(source)).reshape(-1, *source)
    return ones.apply(units).reshape(size(source), -1).T > 0


def lists_of(program: Program) -> list[list[Connection]]:
    """Return the connections that share lists: of one format, no two with a synapse in common."""

    def alike(a: Connection, b: Connection) -> bool:
        names = ("source", "target", "weight_exp", "num_weight_bits", "sign_mode")
        one, other = a.operator, b.operator
        if type(one) is not type(other) or one.weight.shape != other.weight.shape:
            return False
        if isinstance(one, Sparse) and one.synapses is not other.synapses:  # type: ignore[union-attr]
            return False
        forms = ("stride", "padding", "dilation", "groups") if isinstance(one, Conv2d) else ()
        return all(getattr(a, n) == getattr(b, n) for n in names) and all(
            getattr(one, n) == getattr(other, n) for n in forms
        )

    found: list[list[Connection]] = []
    for item in program.connections:
        for group in found:
            if alike(item, group[0]) and not any(
                np.logical_and(item.operator.weight, one.operator.weight).any() for one in group
            ):
                group.append(item)
                break
        else:
            found.append([item])
    return found


def latest(group: list[Connection]) -> int:
    there = [item for item in group if np.count_nonzero(item.operator.weight)]
    return max(item.delay for item in there or group[:1])


def stored(bits: int, widths: tuple[int, ...]) -> int:
    return next((width for width in sorted(widths) if width >= bits), bits)


def list_bits(synapses: int, bits: int, limits: Cores) -> int:
    total = 0
    while synapses > 0:
        pack = min(synapses, limits.pack_synapses)
        words = -(-(pack * bits + limits.pack_header_bits) // limits.word_bits)
        total += words * limits.word_bits
        synapses -= pack
    return total


def kinds(neurons: Neurons) -> list[tuple[object, ...]]:
    shared = (neurons.refractory, neurons.reset, neurons.reset_order, neurons.max_spikes,
              neurons.start, neurons.reset_drops_input, neurons.reset_twice,
              neurons.vth is None)  # fmt: skip
    decays = zip(neurons.du.reshape(-1).tolist(), neurons.dv.reshape(-1).tolist(), strict=True)
    return [(*shared, *pair) for pair in decays]


def checked(program: Program, limits: Cores) -> list[dict[str, int]]:
    """Return what every core of a mapped program takes, and assert that it is allowed."""
    core_map = program.core_map
    assert core_map is not None
    cores = {
        item.name: where.reshape(-1)
        for item, where in zip(program.populations, core_map.cores, strict=True)
    }
    shapes = {item.name: item.shape for item in (*program.inputs, *program.populations)}
    matrices = {item.name: presence(item, shapes[item.source]) for item in program.connections}
    assert len(set(core_map.sites.tolist())) == core_map.num_cores
    usable = [site % (core_map.num_sites // core_map.chips) for site in core_map.sites.tolist()]
    assert max(usable) < limits.count or limits.count < core_map.num_cores
    taken = [core_use(program, limits, core, cores, matrices) for core in range(core_map.num_cores)]
    for use in taken:
        for name, value in use.items():
            assert value <= getattr(limits, name), (name, value)
    assert sum(use["neurons"] for use in taken) == program.num_neurons
    return taken


def core_use(
    program: Program,
    limits: Cores,
    core: int,
    cores: Mapping[str, Array],
    matrices: Mapping[str, Array],
) -> dict[str, int]:
    here = {name: np.flatnonzero(where == core).tolist() for name, where in cores.items()}
    neurons = sum(map(len, here.values()))
    index_bits = stored(max(1, (neurons - 1).bit_length()), limits.index_widths)
    use = dict.fromkeys(
        ("synapse_bits", "axons_in", "axons_out", "formats"), 0
    )  # fmt: skip
    slots = 1
    for group in lists_of(program):
        item = group[0]
        matrix = np.any([matrices[one.name] for one in group], axis=0)
        targets = here[item.target]
        if targets:
            bits, axons = held(group, matrix, targets, limits, index_bits)
            use["synapse_bits"] += bits
            use["axons_in"] += axons
            use["formats"] += axons > 0
            while slots < latest(group):
                slots *= 2
        for neuron in here.get(item.source, []):
            reached = {int(cores[item.target][t]) for t in np.flatnonzero(matrix[:, neuron])}
            use["axons_out"] += len(reached)
    profiles, thresholds = set(), set()
    for item in program.populations:
        all_kinds = kinds(item)
        for neuron in here[item.name]:
            profiles.add(all_kinds[neuron])
            thresholds.add(None if item.vth is None else int(item.vth.reshape(-1)[neuron]))
    return {
        "neurons": neurons,
        "accumulators": neurons * slots,
        **use,
        "profiles": len(profiles),
        "thresholds": len(thresholds),
    }


def held(
    group: list[Connection], matrix: Array, targets: list[int], limits: Cores, index_bits: int
) -> tuple[int, int]:
    item, delay_bits = group[0], 0
    while (1 << delay_bits) < latest(group):
        delay_bits += 1
    bits = stored(item.num_weight_bits, limits.weight_widths) + delay_bits
    counts = [int(matrix[targets, source].sum()) for source in range(matrix.shape[1])]
    if isinstance(item.operator, Conv2d) and limits.convolution == "kernel":
        return held_kernel(item.operator, matrix, targets, counts, bits, limits)
    sources = [count for count in counts if count]
    runs = sum(list_bits(len(targets), bits, limits) for _ in sources)
    listed = sum(list_bits(count, bits + index_bits, limits) for count in sources)
    return min(runs, listed), len(sources)


def held_kernel(
    operator: Conv2d,
    matrix: Array,
    targets: list[int],
    counts: list[int],
    bits: int,
    limits: Cores,
) -> tuple[int, int]:
    out, per_group, rows, columns = operator.weight.shape
    positions = matrix.shape[0] // out
    total = 0
    for group in range(operator.groups):
        channels = {t // positions for t in targets}
        mine = [c for c in channels if c // (out // operator.groups) == group]
        total += per_group * rows * columns * list_bits(len(mine), bits, limits)
    places = matrix.shape[1] // (per_group * operator.groups)
    axons = {
        (source // places // per_group, source % places)
        for source, count in enumerate(counts)
        if count
    }
    return total, len(axons)


def layer_by_layer(network: Network) -> list[Array]:
    """Give every population cores of its own."""
    none = np.zeros(network.num_neurons, np.int64)
    pieces = []
    for begin, end in zip(network.offsets, network.offsets[1:], strict=False):
        pieces += _cut(network, np.arange(begin, end), none)
    return _halved(network, pieces)


def first_fit(network: Network) -> list[Array]:
    """Put every neuron on the first core with room for it."""
    none = np.zeros(network.num_neurons, np.int64)
    pieces: list[list[int]] = []
    for neuron in range(network.num_neurons):
        for piece in pieces:
            tried = np.array([*piece, neuron])
            if not network.use(tried, none).exceeded(network.limits):
                piece.append(neuron)
                break
        else:
            pieces.append([neuron])
    return _halved(network, [np.array(piece) for piece in pieces])
