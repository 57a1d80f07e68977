"""Random networks on random cores: every limit is checked again by other code."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
from support.core_checks import checked, core_use, first_fit, layer_by_layer, presence
from support.delayed_programs import Drawn, delayed
from support.random_programs import random_program

from spikec.compiler.errors import MappingError
from spikec.compiler.mapping.mapper import map_program
from spikec.compiler.mapping.partition import labels
from spikec.compiler.mapping.use import Network
from spikec.compiler.program import Program
from spikec.compiler.targets import Convolution, Cores, load_target

LOIHI2 = load_target("loihi2")
KINDS: tuple[Convolution, ...] = ("kernel", "unrolled")


def random_cores(rng: np.random.Generator) -> Cores:
    """Draw cores that hold a few neurons each, now short of this, now of that."""
    return Cores(
        count=10_000,
        tiles=(100, 100),
        cores_per_tile=1,
        neurons=int(rng.integers(2, 13)),
        accumulators=int(rng.integers(8, 65)),
        synapse_bits=int(rng.choice([512, 1024, 2048, 8192])),
        word_bits=int(rng.choice([8, 32, 64])),
        pack_header_bits=10,
        pack_synapses=int(rng.choice([2, 4, 64])),
        weight_widths=(1, 2, 3, 4, 5, 6, 8),
        index_widths=(1, 2, 3, 6, 7),
        axons_in=int(rng.integers(8, 40)),
        axons_out=int(rng.integers(6, 40)),
        profiles=int(rng.integers(1, 8)),
        thresholds=int(rng.integers(1, 9)),
        formats=int(rng.integers(3, 9)),
        convolution=KINDS[rng.integers(2)],
    )


def drawn(seed: int) -> tuple[Program, Cores]:
    rng = np.random.default_rng(seed)
    return random_program(rng, max_neurons=8), random_cores(rng)


def drawn_delayed(seed: int) -> tuple[Program, Cores]:
    program, limits = drawn(seed)
    rng = np.random.default_rng([3, seed])
    kinds: tuple[Drawn, ...] = ("source", "target", "synapse", "several")
    return delayed(program, rng, kinds[seed % 4], 3), replace(limits, formats=limits.formats + 4)


def alone(program: Program, limits: Cores) -> bool:
    """Say whether each neuron on a core of its own breaks a limit somewhere."""
    begins = np.cumsum([0, *(item.num_neurons for item in program.populations)])
    cores = {
        item.name: np.arange(begin, begin + item.num_neurons)
        for item, begin in zip(program.populations, begins, strict=False)
    }
    shapes = {item.name: item.shape for item in (*program.inputs, *program.populations)}
    matrices = {item.name: presence(item, shapes[item.source]) for item in program.connections}
    return any(
        value > getattr(limits, name)
        for core in range(begins[-1])
        for name, value in core_use(program, limits, core, cores, matrices).items()
    )


@pytest.mark.once
@pytest.mark.parametrize("block", range(10))
def test_a_thousand_networks_keep_every_limit(block: int) -> None:
    refused = {}
    for seed in range(100 * block, 100 * block + 100):
        program, limits = drawn(seed)
        try:
            result = map_program(program, replace(LOIHI2, cores=limits))
        except MappingError as error:
            refused[seed] = {item.code for item in error.diagnostics}
            continue
        taken = checked(result.program, limits)
        assert taken == [{name: asdict(use)[name] for name in taken[0]} for use in result.uses]
        assert len(taken) >= result.bound
        assert result.program.connections is program.connections
    assert len(refused) < 40
    for seed, codes in refused.items():
        assert codes == {"M001"}
        assert alone(*drawn(seed)), seed


@pytest.mark.once
def test_networks_of_many_delays_keep_every_limit() -> None:
    joined, refused = 0, {}
    for seed in range(100):
        program, limits = drawn_delayed(seed)
        try:
            result = map_program(program, replace(LOIHI2, cores=limits))
        except MappingError as error:
            refused[seed] = {item.code for item in error.diagnostics}
            continue
        joined += len(program.connections) - len(Network(program, limits).wired)
        taken = checked(result.program, limits)
        assert taken == [{name: asdict(use)[name] for name in taken[0]} for use in result.uses]
    assert joined > 100
    for seed, codes in refused.items():
        assert codes == {"M001"}
        assert alone(*drawn_delayed(seed)), seed


@pytest.mark.once
def test_fewer_cores_and_messages_than_simple_mappings() -> None:
    totals = np.zeros((3, 2))
    for seed in range(150):
        program, limits = drawn(seed)
        try:
            result = map_program(program, replace(LOIHI2, cores=limits))
        except MappingError:
            continue
        network = Network(program, limits)
        totals[0] += [len(result.uses), result.crossing]
        for place, simple in enumerate((layer_by_layer, first_fit), start=1):
            pieces = simple(network)
            between, _ = network.messages(labels(network, pieces), len(pieces), network.rates(None))
            totals[place] += [len(pieces), between.crossing]
    ours, by_layer, fitted = totals
    assert ours[0] < 0.92 * by_layer[0]
    assert (ours <= fitted).all()


def test_the_checker_sees_a_broken_limit() -> None:
    program, limits = drawn(1)
    result = map_program(program, replace(LOIHI2, cores=limits))
    core_map = result.program.core_map
    assert core_map is not None
    assert core_map.num_cores > 1
    everyone = replace(
        core_map,
        cores=tuple(np.zeros_like(item) for item in core_map.cores),
        sites=core_map.sites[:1],
    )
    with pytest.raises(AssertionError):
        checked(replace(program, core_map=everyone), limits)
