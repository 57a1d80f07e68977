"""Mapping: limits as data, refusals with numbers, the record in a program, metrics and costs."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.core_checks import presence
from support.random_programs import random_inputs, random_program

from spikec.backends import open_backend
from spikec.compiler import targets
from spikec.compiler.arrays import Array
from spikec.compiler.container import read_header
from spikec.compiler.errors import FrontendError, GraphError, MappingError, UsageError
from spikec.compiler.inputs import to_integers
from spikec.compiler.mapping.activity import Activity, ActivityTally, Metrics, metrics_of
from spikec.compiler.mapping.estimate import CoreActivity, core_activity, estimate
from spikec.compiler.mapping.mapper import Mapped, map_program
from spikec.compiler.mapping.orders import flat, tiles
from spikec.compiler.mapping.partition import cut
from spikec.compiler.mapping.report import report_on
from spikec.compiler.mapping.sites import hops, placed
from spikec.compiler.mapping.traffic import Traffic
from spikec.compiler.mapping.use import Network, packed_bits
from spikec.compiler.operators import Conv2d, Dense, Sparse, Synapses
from spikec.compiler.program import Connection, CoreMap, Neurons, Program, ProgramInput
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.targets import SHIPPED, Cores, Target, load_target

LOIHI2 = load_target("loihi2")
assert LOIHI2.cores is not None
CORES = LOIHI2.cores
SHIPPED_FILES = Path(targets.__file__).parent


def target(**changes: Any) -> Target:
    return replace(LOIHI2, cores=replace(CORES, **changes))


def neurons(name: str, *shape: int, **fields: Any) -> Neurons:
    return Neurons(
        **{"name": name, "shape": shape, "du": 9, "dv": 7, "vth": 50, "reset": "zero",
           "reset_order": "at_spike", **fields}
    )  # fmt: skip


def edge(source: str, target: str, operator: Any, **fields: Any) -> Connection:
    return Connection(
        **{"name": f"{source}-{target}", "source": source, "target": target, "operator": operator,
           "weight_exp": 0, "num_weight_bits": 8, "sign_mode": "mixed", "delay": 1, **fields}
    )  # fmt: skip


def dense(source: str, target: str, rows: int, columns: int, **fields: Any) -> Connection:
    weight = np.random.default_rng(0).integers(1, 120, (rows, columns)) * 2
    return edge(source, target, Dense(weight=weight), **fields)


def program(*parts: Neurons | Connection, inputs: tuple[int, ...] = (4,), **fields: Any) -> Program:
    entry = ProgramInput(name="in", shape=inputs, kind="binary", low=0, high=1)
    populations = tuple(item for item in parts if isinstance(item, Neurons))
    return Program(
        **{"target": "loihi2", "inputs": (entry,), "populations": populations,
           "connections": tuple(item for item in parts if isinstance(item, Connection)),
           "outputs": (populations[-1].name,), **fields}
    )  # fmt: skip


def two_layers(**fields: Any) -> Program:
    return program(
        neurons("a", 30), neurons("b", 20), dense("in", "a", 30, 4), dense("a", "b", 20, 30),
        **fields,
    )  # fmt: skip


# Targets


def test_shipped_targets_say_what_they_hold() -> None:
    assert [load_target(name).cores is not None for name in SHIPPED] == [True, True, False]
    loihi = load_target("loihi1").cores
    assert loihi is not None
    # The figures of nengo-loihi's block.py and of Davies et al. 2018.
    assert (loihi.neurons, loihi.axons_in, loihi.axons_out) == (1024, 4096, 4096)
    assert (loihi.synapse_bits, loihi.count) == (128 * 1024 * 8, 128)


@pytest.mark.parametrize("name", ["loihi1", "loihi2"])
def test_every_limit_names_its_source_in_the_file(name: str) -> None:
    text = (SHIPPED_FILES / f"{name}.toml").read_text(encoding="utf-8")
    for section in ("[cores]", "[costs]"):
        for line in text.split(f"\n{section}\n")[1].split("\n\n")[0].splitlines():
            if not line.startswith(("basis", "#")):
                assert "# " in line, line


def test_a_users_file_without_cores_is_read_and_map_says_what_is_missing(tmp_path: Path) -> None:
    text = (SHIPPED_FILES / "loihi2.toml").read_text(encoding="utf-8")
    own = tmp_path / "own.toml"
    own.write_text(text.split("# A core's limits")[0], encoding="utf-8")
    with pytest.raises(UsageError, match=r"U130.*\[cores\]"):
        map_program(two_layers(), load_target(str(own)))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("neurons = 8192", "neurons = 0"),
        ("neurons = 8192", "neurons = 8.5"),
        ('convolution = "kernel"', 'convolution = "free"'),
        ("axons_in = 4096", "axons = 4096"),
        ("hop_pj = [3.0, 4.2]", "hop_pj = [4.2, 3.0]"),
        ("hop_pj = [3.0, 4.2]", "hop_pj = [3.0]"),
        ("hop_pj = [3.0, 4.2]", "hop_pj = [inf, inf]"),
        ("tiles = [8, 4]", "tiles = [8]"),
        ("tiles = [8, 4]", "tiles = 8"),
        ("tiles = [8, 4]", "tiles = [100000, 100000]"),
        ("neurons = 8192", "neurons = []"),
        ("neurons = 8192", "neurons = 99999999999999999999"),
        ("neurons = 8192", "neurons = 8192\nneuron = 9"),
        ("barrier_ns = [113.0, 1800.0]", "barrier_ns = [113.0, 1800.0]\n[more]"),
        ("bits = 24", "bits = 0"),
        ("bits = 24", "bits = 1000"),
        ("vth_bits = 17", "vth_bits = -1"),
        ("bias_mant = [-4096, 4095]", "bias_mant = [5, 1]"),
        ("graded_bits = 24", "graded_bits = -1"),
        ("per_neuron = true", "per_neuron = 3"),
        ("du = [0, 4095]", "du = [0]"),
    ],
)
def test_wrong_figures_are_refused(tmp_path: Path, old: str, new: str) -> None:
    text = (SHIPPED_FILES / "loihi2.toml").read_text(encoding="utf-8")
    assert old in text
    own = tmp_path / "own.toml"
    own.write_text(text.replace(old, new), encoding="utf-8")
    field = new.splitlines()[-1].split(" ")[0]
    with pytest.raises(UsageError, match=rf"U021 at .*(.|\n)*({field}|more|axons_in)"):
        load_target(str(own))


# What a core takes


@pytest.mark.parametrize(
    ("counts", "bits", "expected"),
    [
        # A list of n synapses: 10 bits of header and n times the bits, in words of 64.
        ([1], 8, 64),
        ([6], 9, 64),
        ([7], 9, 128),
        ([64], 8, 576),
        ([65], 8, 576 + 64),
        ([0, 3, 200], 14, 64 + 3 * 960 + 128),
    ],
)
def test_lists_of_synapses_are_packed_into_words(
    counts: list[int], bits: int, expected: int
) -> None:
    assert packed_bits(np.array(counts), bits, CORES) == expected


def test_delays_take_bits_and_slots() -> None:
    near = Network(program(neurons("a", 8), dense("in", "a", 8, 4)), CORES)
    far = Network(program(neurons("a", 8), dense("in", "a", 8, 4, delay=6)), CORES)
    none = np.zeros(8, np.int64)
    everyone = np.arange(8)
    assert near.use(everyone, none).accumulators == 8
    assert far.use(everyone, none).accumulators == 64
    assert near.use(everyone, none).synapse_bits == 4 * 128  # 8 x 8 + 10 bits
    assert far.use(everyone, none).synapse_bits == 4 * 128  # 8 x 11 + 10 bits
    assert far.wired[0].delay_bits == 3


def test_a_convolution_is_stored_once_a_core() -> None:
    kernel = Conv2d(weight=np.full((6, 3, 3, 3), 2), padding=(1, 1))
    built = program(neurons("c", 6, 10, 10), edge("in", "c", kernel), inputs=(3, 10, 10))
    once = Network(built, CORES).use(np.arange(600), np.zeros(600, np.int64))
    assert once.synapse_bits == 27 * 64  # 27 taps, six channels: 6 x 8 + 10 bits
    assert once.axons_in == 100  # positions: the channel travels with the spike
    unrolled = Network(built, replace(CORES, convolution="unrolled"))
    many = unrolled.use(np.arange(600), np.zeros(600, np.int64))
    assert many.axons_in == 300
    assert many.synapse_bits > 27 * 64 * 100


# Refusals


def test_a_neuron_that_no_core_holds_is_refused_with_the_numbers() -> None:
    with pytest.raises(MappingError) as caught:
        map_program(two_layers(), target(axons_in=16))
    (finding,) = caught.value.diagnostics
    assert (finding.code, finding.where) == ("M001", "population 'b'")
    assert "30 axons coming in; a core has 16" in finding.message
    assert "47 % fewer sources" in finding.hint


def test_too_few_cores_are_refused_with_remedies_that_do_help() -> None:
    limits = target(synapse_bits=2048, count=4)
    with pytest.raises(MappingError) as caught:
        map_program(two_layers(), limits)
    (finding,) = caught.value.diagnostics
    assert finding.code == "M002"
    assert "4 are there; most are full of bits of synapses" in finding.message
    assert "weights stored in" in finding.hint
    assert "prune the" in finding.hint
    chips = int(finding.hint.split("--chips ")[1].split(";")[0])
    assert map_program(two_layers(), limits, chips=chips).core_map.num_cores > 4
    assert chips == 2
    bits = int(finding.hint.split("weights stored in ")[1].split(" ")[0])
    smaller = Network(two_layers(), limits.cores, bits)  # type: ignore[arg-type]
    assert len(cut(smaller, flat(smaller))) <= 4


# The record


def test_a_mapping_changes_where_neurons_are_and_nothing_else(tmp_path: Path) -> None:
    plain = two_layers()
    mapped = map_program(plain, target(neurons=7)).program
    assert mapped.core_map is not None
    assert mapped.core_map.num_cores == 8
    assert all(
        one is other for one, other in zip(mapped.connections, plain.connections, strict=True)
    )
    data = {"in": (np.random.default_rng(1).random((3, 20, 4)) < 0.5).astype(np.uint8)}
    with (
        open_backend("simulator", engine="golden").load(plain) as one,
        open_backend("simulator", engine="golden").load(mapped) as other,
    ):
        first, second = one.run(data), other.run(data)
    assert first.spikes("b").any()
    for name in ("a", "b"):
        np.testing.assert_array_equal(first.spikes(name), second.spikes(name))
    write_program(mapped, tmp_path / "m.spk")
    again = read_program(tmp_path / "m.spk")
    assert again.core_map is not None
    for one_part, other_part in zip(again.core_map.cores, mapped.core_map.cores, strict=True):
        np.testing.assert_array_equal(one_part, other_part)
    np.testing.assert_array_equal(again.core_map.sites, mapped.core_map.sites)
    assert again.core_map.tiles == mapped.core_map.tiles


def test_files_of_programs_without_a_mapping_are_what_they_were(tmp_path: Path) -> None:
    write_program(two_layers(), tmp_path / "p.spk")
    header = read_header(tmp_path / "p.spk")
    assert header is not None
    assert "core_map" not in header["body"]
    assert read_program(tmp_path / "p.spk").core_map is None


def core_map(**fields: Any) -> CoreMap:
    return CoreMap(
        **{"target": "loihi2", "chips": 1, "tiles": (2, 2), "cores_per_tile": 1,
           "cores": (np.zeros(30), np.repeat([0, 1], 10)), "sites": np.array([3, 1]), **fields}
    )  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"cores": (np.zeros(30),)},
        {"cores": (np.zeros(30), np.zeros(21))},
        {"cores": (np.zeros(30), np.repeat([0, 2], 10))},
        {"cores": (np.zeros(30), np.repeat([0, -1], 10))},
        {"sites": np.array([3, 3])},
        {"sites": np.array([3, 4])},
        {"sites": np.array([-1, 1])},
        {"sites": np.zeros((2, 1))},
        {"chips": 0},
        {"tiles": (-2, -2)},
    ],
)
def test_core_maps_that_make_no_sense_are_refused(fields: dict[str, Any]) -> None:
    assert replace(two_layers(), core_map=core_map()).core_map is not None
    with pytest.raises(GraphError, match="P030"):
        replace(two_layers(), core_map=core_map(**fields))


def test_a_damaged_core_map_is_refused(tmp_path: Path) -> None:
    mapped = replace(two_layers(), core_map=core_map())
    write_program(mapped, tmp_path / "m.spk")
    raw = (tmp_path / "m.spk").read_bytes()
    assert b'\\"chips\\":1' in raw
    (tmp_path / "m.spk").write_bytes(raw.replace(b'\\"chips\\":1', b'\\"chipz\\":1'))
    with pytest.raises(FrontendError, match="F020"):
        read_program(tmp_path / "m.spk")


# Orders and places


def shuffled(parts: int = 8, each: int = 40, seed: int = 0) -> Program:
    """Groups of neurons that reach each other, in a random order."""
    rng = np.random.default_rng(seed)
    number = parts * each
    place = rng.permutation(number)
    sources = np.repeat(np.arange(number), 10)
    targets = sources // each * each + rng.integers(0, each, len(sources))
    pairs = np.unique(place[sources].astype(np.int64) * number + place[targets])
    pointers = np.concatenate([[0], np.cumsum(np.bincount(pairs // number, minlength=number))])
    synapses = Synapses(targets=pairs % number, pointers=pointers, outputs=number)
    sparse = Sparse(weight=np.full(len(pairs), 4), synapses=synapses)
    return program(neurons("n", number), dense("in", "n", number, 4), edge("n", "n", sparse))


def test_metis_finds_what_belongs_together() -> None:
    pytest.importorskip("pymetis")
    mapped = map_program(shuffled(), target(neurons=60, axons_in=100, axons_out=100))
    tried = {item.order: item for item in mapped.tried}
    assert tried["metis"].cores < tried["flat"].cores / 2
    assert mapped.core_map.num_cores == tried["metis"].cores


def test_tiles_keep_positions_and_their_channels_together() -> None:
    built = program(neurons("c", 2, 4, 4), dense("in", "c", 32, 4))
    order = tiles(Network(built, CORES))
    assert sorted(order.tolist()) == list(range(32))
    first = order[:8]  # the upper left four positions, both channels each
    assert sorted(first.tolist()) == [0, 1, 4, 5, 16, 17, 20, 21]


def test_cores_that_talk_are_neighbours() -> None:
    number = 24
    between = np.zeros((number, number))
    order = np.random.default_rng(0).permutation(number)
    between[order[:-1], order[1:]] = 1.0  # a chain, shuffled
    limits = replace(CORES, cores_per_tile=1)
    chain = Traffic(
        number=number, senders=order[:-1], receivers=order[1:], amounts=np.ones(number - 1)
    )
    np.testing.assert_array_equal(chain.dense(), between)
    sites = placed(chain, limits, 1)
    assert len(set(sites.tolist())) == number
    start = placed(Traffic.joined(number, []), limits, 1)
    found = (between * hops(sites, sites, limits)).sum()
    assert found < 0.7 * (between * hops(start, start, limits)).sum()


# Activity


def ran(built: Program, seed: int) -> tuple[dict[str, Array], Activity, Any]:
    rng = np.random.default_rng(seed)
    data = random_inputs(built, rng, 3, 12)
    probes = tuple((item.name, "voltage") for item in built.populations)
    with open_backend("simulator", engine="golden").load(built) as chip:
        trace = chip.run(data, probes=probes)  # type: ignore[arg-type]
    integers, _ = to_integers(built, data)
    tally = ActivityTally(built)
    for part in (slice(0, 1), slice(1, 3)):
        values = {probe: recorded[part] for probe, recorded in trace.values.items()}
        tally.add(
            {name: given[part] for name, given in integers.items()}, replace(trace, values=values)
        )
    return integers, tally.activity(), trace


@pytest.mark.parametrize("seed", range(12))
def test_metrics_are_those_of_neurobench(seed: int) -> None:
    built = random_program(np.random.default_rng(seed))
    integers, activity, trace = ran(built, seed)
    metrics = metrics_of(Network(built, CORES), activity)
    shapes = {item.name: item.shape for item in (*built.inputs, *built.populations)}
    sent = dict(integers) | {
        item.name: trace.spikes(item.name) for item in built.populations if item.vth is not None
    }
    weights = zeros = 0
    effective = {True: 0, False: 0}
    dense_operations = 0
    one = {item.name for item in built.inputs if item.kind == "binary"}
    one |= {item.name for item in built.populations if item.max_spikes == 1}
    for item in built.connections:
        matrix = nonzero(item, shapes[item.source])
        full = presence(filled(item), shapes[item.source])
        counted = full if isinstance(item.operator, Sparse) else item.operator.weight != 0
        given = matrix if isinstance(item.operator, Sparse) else counted
        weights, zeros = weights + given.size, zeros + given.size - np.count_nonzero(given)
        values = sent[item.source].reshape(3 * 12, -1) != 0
        effective[item.source in one] += int((values @ matrix.T.astype(int)).sum())
        places = full.size if isinstance(item.operator, Sparse) else full.sum()
        dense_operations += int(places) * 36
    assert metrics.connection_sparsity == pytest.approx(zeros / weights, abs=1e-4)
    assert metrics.effective_acs == pytest.approx(effective[True] / 3)
    assert metrics.effective_macs == pytest.approx(effective[False] / 3)
    assert metrics.dense == pytest.approx(dense_operations / 3)
    spikes = [trace.spikes(item.name) for item in built.populations if item.vth is not None]
    zero = sum(np.count_nonzero(item == 0) for item in spikes)
    if spikes:
        assert metrics.activation_sparsity == pytest.approx(zero / sum(x.size for x in spikes))
    changed = 0
    for item in built.populations:
        voltage = trace[item.name, "voltage"]
        changed += voltage[:, 0].size + np.count_nonzero(voltage[:, 1:] != voltage[:, :-1])
    assert metrics.membrane_updates == pytest.approx(changed / 3)


def nonzero(item: Connection, source: tuple[int, ...]) -> Array:
    """Return which synapses have a weight that is not 0, bool ``[target, source]``."""
    if not isinstance(item.operator, Conv2d):
        return presence(item, source)
    units = np.eye(int(np.prod(source))).reshape(-1, *source)
    apart = replace(item.operator, weight=np.abs(item.operator.weight).astype(np.float64))
    return apart.apply(units).reshape(len(units), -1).T != 0


def filled(item: Connection) -> Connection:
    weight = np.full(item.operator.weight.shape, 2 if item.sign_mode != "inhibitory" else -2)
    return replace(item, operator=replace(item.operator, weight=weight << 7 >> 1 << 1),
                   num_weight_bits=1, sign_mode="mixed")  # fmt: skip


def test_without_a_run_there_are_the_static_metrics() -> None:
    metrics = metrics_of(Network(two_layers(), CORES))
    assert metrics == Metrics(footprint_bytes=4 * 30 + 600 + 20 * 50, connection_sparsity=0.0)


def mapped_run() -> tuple[Mapped, Activity, list[CoreActivity]]:
    built = two_layers()
    sent = {"in": np.full(4, 0.5), "a": np.full(30, 0.1), "b": np.zeros(20)}
    activity = Activity(samples=1, steps=10, sent=sent, updates=0.0)
    mapped = map_program(built, target(neurons=30), rates=sent)
    return mapped, activity, core_activity(Network(built, mapped.target.cores), mapped, activity)  # type: ignore[arg-type]


def test_the_activity_of_a_core_is_that_of_its_neurons() -> None:
    mapped, _, cores = mapped_run()
    assert mapped.core_map.num_cores == 2
    by_size = sorted(cores, key=lambda core: -core.updates)
    assert by_size[0] == CoreActivity(
        operations=pytest.approx(60.0), updates=30, spikes=pytest.approx(3.0),
        messages_in=pytest.approx(2.0), messages_out=pytest.approx(3.0),
    )  # fmt: skip
    assert by_size[1].operations == pytest.approx(60.0)
    assert by_size[1].messages_in == pytest.approx(3.0)


def test_energy_and_time_are_ranges_of_activity_times_cost() -> None:
    mapped, activity, cores = mapped_run()
    modelled = estimate(mapped, cores)
    costs = mapped.target.costs
    assert modelled is not None
    assert costs is not None
    low = 120 * costs.synapse_pj[0] + 50 * costs.update_pj[0] + 3 * costs.message_pj[0]
    assert modelled.energy[0] == pytest.approx((low + mapped.hops * costs.hop_pj[0]) * 1e-12)
    assert modelled.energy[0] < modelled.energy[1]
    most = (60 * costs.synapse_ns[1] + 30 * costs.update_ns[1] + 3 * costs.spike_ns[1]
            + 2 * costs.message_ns[1] + costs.barrier_ns[1])  # fmt: skip
    assert modelled.time[1] == pytest.approx(most * 1e-9)
    assert modelled.time[0] == pytest.approx(
        (60 * costs.synapse_ns[0] + costs.barrier_ns[0]) * 1e-9
    )
    free = replace(mapped, target=replace(mapped.target, costs=None))
    assert estimate(free, cores) is None
    report = report_on(free, activity).as_dict()
    assert report["modelled_not_measured"] is None
    assert report["cores"][0]["activity"] == asdict(cores[0])


def test_limits_are_exceeded_by_name() -> None:
    network = Network(two_layers(), CORES)
    use = network.use(np.arange(50), np.zeros(50, np.int64))
    tight: Cores = replace(CORES, neurons=49, axons_in=33)
    assert use.exceeded(tight) == ("neurons", "axons_in")
    assert use.fullest(tight) == ("axons_in", 34 / 33)


def test_weights_wider_than_any_a_core_stores_are_refused() -> None:
    with pytest.raises(MappingError, match="M003") as caught:
        map_program(two_layers(), target(weight_widths=(1, 2)))
    assert "2 at most" in caught.value.diagnostics[0].message
