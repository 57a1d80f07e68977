"""Rate conversion: spike counts against activations, thresholds, a trained network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.relu_networks import mlp_model, saved, trained

from spikec.backends import open_backend
from spikec.backends.lava.environment import search
from spikec.backends.lava.placement import placement
from spikec.backends.lava.run import LavaBackend
from spikec.backends.simulator import golden
from spikec.compiler import rate, reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import UsageError
from spikec.compiler.frontends.onnx_relu import read_relu
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, LIF, Graph, Input, Source
from spikec.compiler.npz import read_npz
from spikec.compiler.operators import Dense
from spikec.compiler.quantize import compile_graph
from spikec.compiler.relu import Branch, Layer, ReluNetwork
from spikec.compiler.targets import load_target
from spikec.compiler.trace import read_out
from spikec.models import zoo

ZOO = Path(zoo.__file__).parent


def random_network(rng: np.random.Generator, depth: int, *, skips: bool = False) -> ReluNetwork:
    """Return ``depth`` ReLU layers and a readout, dense, skips over one layer included."""
    names = ["x", *(f"layer{number}" for number in range(1, depth + 1)), "readout"]
    widths = [int(width) for width in rng.integers(2, 7, len(names))]
    layers = []
    for place in range(1, len(names)):
        sources = [place - 1, place - 2] if skips and place > 1 else [place - 1]
        branches = tuple(
            Branch(
                source=names[source],
                operator=Dense(
                    weight=rng.normal(0.1, widths[source] ** -0.5, (widths[place], widths[source]))
                ),
            )
            for source in sources
        )
        layers.append(
            Layer(
                name=names[place],
                shape=(widths[place],),
                branches=branches,
                bias=rng.normal(0.1, 0.2, widths[place]),
                rectified=place < len(names) - 1,
            )
        )
    entry = Input(name="x", shape=(widths[0],), kind="analog", low=None, high=None)
    return ReluNetwork(inputs=(entry,), layers=tuple(layers), outputs=("readout",), source=Source())


def some_data(network: ReluNetwork, rng: np.random.Generator, samples: int = 20) -> Dataset:
    shape = network.inputs[0].shape
    return Dataset(inputs={"x": rng.uniform(-0.5, 1.5, (samples, 1, *shape))})


def converted(
    network: ReluNetwork, data: Dataset, percentile: float = 100.0
) -> tuple[Graph, dict[str, float]]:
    graph, populations = rate.convert(network, data, percentile=percentile)
    return graph, {item.population: item.threshold for item in populations}


def shown(data: Dataset, steps: int) -> dict[str, Array]:
    return {name: np.repeat(values, steps, axis=1) for name, values in data.inputs.items()}


networks = st.builds(
    lambda seed, depth, skips: (np.random.default_rng(seed), depth, skips),
    st.integers(0, 10_000), st.integers(1, 3), st.booleans(),
)  # fmt: skip


def prepared(drawn: tuple[np.random.Generator, int, bool]) -> tuple[ReluNetwork, Dataset]:
    rng, depth, skips = drawn
    while True:  # a layer that nothing activates has no threshold
        network = random_network(rng, depth, skips=skips)
        data = some_data(network, rng)
        values = network.run({"x": data.inputs["x"][:, 0]})
        if all((values[layer.name] > 0).any() for layer in network.layers if layer.rectified):
            return network, data


@settings(max_examples=60, deadline=None)
@given(networks, st.integers(1, 80), st.sampled_from([60.0, 99.0, 100.0]))
def test_counts_in_the_first_layer_round_the_activation_to_the_nearest(
    drawn: tuple[np.random.Generator, int, bool], steps: int, percentile: float
) -> None:
    network, data = prepared(drawn)
    graph, thresholds = converted(network, data, percentile)
    trace = reference.run(graph, shown(data, steps))
    theta = thresholds["layer1"]
    drive = network.layers[0].activation({"x": data.inputs["x"][:, 0]})
    found = trace["layer1", "spikes"].sum(axis=1) * theta / steps
    within = drive <= theta
    error = np.abs(found - drive)
    assert error[within].max(initial=0) <= theta / (2 * steps) * (1 + 1e-9)
    assert (found[~within] >= theta * (1 - 1 / steps)).all()


@settings(max_examples=60, deadline=None)
@given(networks, st.sampled_from([60.0, 99.0, 100.0]))
def test_counts_in_every_layer_at_every_step_stay_within_the_proved_bound(
    drawn: tuple[np.random.Generator, int, bool], percentile: float
) -> None:
    network, data = prepared(drawn)
    graph, thresholds = converted(network, data, percentile)
    steps = 100
    trace = reference.run(graph, shown(data, steps))
    values = network.run({"x": data.inputs["x"][:, 0]}, ceilings=thresholds)
    bounds = {"x": np.zeros(network.inputs[0].shape)}
    time = np.arange(1, steps + 1)[None, :, None]
    for layer in network.layers:
        arriving = carried(layer, bounds)
        if layer.rectified:
            theta = thresholds[layer.name]
            bounds[layer.name] = 3 * arriving + theta / 2
            found = np.cumsum(trace[layer.name, "spikes"], axis=1, dtype=np.int64) * theta
        else:
            bounds[layer.name] = arriving
            found = trace[layer.name, "voltage"]
        error = np.abs(found - time * values[layer.name][:, None])
        assert (error <= bounds[layer.name] * (1 + 1e-9) + 1e-9 * steps).all(), layer.name


def carried(layer: Layer, bounds: Mapping[str, Array]) -> Array:
    total = np.zeros(layer.shape)
    for branch in layer.branches:
        assert isinstance(branch.operator, Dense)
        total = total + np.abs(branch.operator.weight) @ bounds[branch.source]
    return total


@settings(max_examples=40, deadline=None)
@given(networks, st.integers(1, 40))
def test_no_current_is_lost(drawn: tuple[np.random.Generator, int, bool], steps: int) -> None:
    """What arrived is what was sent on, what is left in the voltage, and the start."""
    network, data = prepared(drawn)
    graph, thresholds = converted(network, data, 99.0)
    probes = [(node.name, "voltage") for node in graph.populations]
    trace = reference.run(graph, shown(data, steps), probes=[*probes, *graph.default_probes])
    sent = {"x": data.inputs["x"][:, 0] * steps}
    for layer in network.layers:
        arrived = layer.bias * steps + sum(
            branch.operator.apply(sent[branch.source]) for branch in layer.branches
        )
        left = trace[layer.name, "voltage"][:, -1]
        if layer.rectified:
            theta = thresholds[layer.name]
            sent[layer.name] = trace[layer.name, "spikes"].sum(axis=1) * theta
            np.testing.assert_allclose(theta / 2 + arrived - sent[layer.name], left, atol=1e-9)
        else:
            np.testing.assert_allclose(arrived, left, atol=1e-9)


def test_the_graph_says_every_switch() -> None:
    network, data = prepared((np.random.default_rng(1), 2, True))
    graph, thresholds = converted(network, data)
    hidden, readout = graph["layer2"], graph["readout"]
    assert isinstance(hidden, LIF)
    assert isinstance(readout, LI)
    theta = thresholds["layer2"]
    assert hidden.alpha is None
    assert (hidden.beta == 1).all()
    assert (hidden.vth == theta).all()
    assert (hidden.reset_amount == theta).all()
    assert (hidden.initial_state[1] == theta / 2).all()
    assert (hidden.reset, hidden.reset_order, hidden.compare) == ("subtract", "at_spike", ">")
    assert (readout.beta == 1).all()
    assert graph.inputs[0].kind == "analog"
    assert {choice.what for choice in graph.choices} >= {"conversion", "thresholds", "input"}


@pytest.mark.parametrize("percentile", [0.5, 50.0, 99.9, 100.0])
@pytest.mark.parametrize("most", [1, 7, 10_000])
def test_thresholds_are_the_percentile_of_positive_activations(
    percentile: float, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NumPy's own percentile says it, whatever the batches."""
    monkeypatch.setattr(rate, "batch_size", lambda neurons, steps: most)
    network, data = prepared((np.random.default_rng(2), 2, False))
    _, thresholds = converted(network, data, percentile)
    values = network.run({"x": data.inputs["x"][:, 0]})
    for name, found in thresholds.items():
        positive = values[name][values[name] > 0]
        assert found == pytest.approx(np.percentile(positive, percentile), rel=1e-12)


def test_a_ceiling_is_never_above_the_threshold() -> None:
    network, data = prepared((np.random.default_rng(3), 1, False))
    (hidden, readout) = network.layers
    network = replace(network, layers=(replace(hidden, ceiling=0.25), readout))
    _, thresholds = converted(network, data)
    assert thresholds["layer1"] == 0.25


def test_a_layer_that_nothing_activates_has_no_threshold() -> None:
    network, data = prepared((np.random.default_rng(4), 2, False))
    dead = replace(network.layers[1], bias=np.full(network.layers[1].shape, -1000.0))
    network = replace(network, layers=(network.layers[0], dead, network.layers[2]))
    with pytest.raises(UsageError, match="layer 'layer2': no sample activates"):
        rate.convert(network, data)


@pytest.mark.parametrize("percentile", [0.0, -1.0, 100.1, float("nan")])
def test_a_percentile_is_above_0_and_at_most_100(percentile: float) -> None:
    network, data = prepared((np.random.default_rng(5), 1, False))
    with pytest.raises(UsageError, match="no percentile"):
        rate.convert(network, data, percentile=percentile)


def test_calibration_data_have_one_step() -> None:
    network, data = prepared((np.random.default_rng(6), 1, False))
    with pytest.raises(UsageError, match="they have 3 steps"):
        rate.convert(network, Dataset(inputs=shown(data, 3)))


def test_a_report_tells_what_runs_of_each_length_tell() -> None:
    network, data = prepared((np.random.default_rng(7), 2, True))
    values = network.run({"x": data.inputs["x"][:, 0]})["readout"]
    labels = np.roll(values.argmax(axis=1), 1)
    data = Dataset(inputs=data.inputs, labels=labels)
    graph, _ = converted(network, data)
    report = rate.measure(network, graph, data, steps=(3, 11))
    assert report.accuracy == (values.argmax(axis=1) == labels).mean()
    for row, steps in zip(report.rows, (3, 11), strict=True):
        trace = reference.run(graph, shown(data, steps))
        classes = read_out(trace, "last-voltage")
        assert row.steps == steps
        assert row.accuracy == (classes == labels).mean()
        assert row.agreement == (classes == values.argmax(axis=1)).mean()
        fired = sum(trace[name, "spikes"].sum() for name in ("layer1", "layer2"))
        assert row.spikes == fired / data.num_samples


# --- a trained network -----------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> tuple[ReluNetwork, Dataset, Dataset]:
    """A 784-64-32-10 network, the data that calibrate it, and unseen images."""
    arrays = read_npz(ZOO / "mnist-test.npz")
    images = arrays["images"].reshape(-1, 784).astype(np.float32) / 255
    labels = arrays["labels"].astype(np.int64)
    weights, biases = trained(images[:6000], labels[:6000], (784, 64, 32, 10), epochs=5)
    network = read_relu(saved(mlp_model(weights, biases), tmp_path_factory.mktemp("mnist")))
    parts = (slice(0, 500), slice(6000, 7000))
    calibration, test = (
        Dataset(inputs={"x": images[part, None]}, labels=labels[part]) for part in parts
    )
    return network, calibration, test


def test_a_trained_network_keeps_its_accuracy(
    mnist: tuple[ReluNetwork, Dataset, Dataset],
) -> None:
    network, calibration, test = mnist
    graph, _ = rate.convert(network, calibration)
    report = rate.measure(network, graph, test, steps=(8, 64))
    assert report.accuracy is not None
    assert report.accuracy > 0.9  # it learnt something
    short, long = report.rows
    assert long.accuracy is not None
    assert abs(long.accuracy - report.accuracy) <= 0.01
    assert long.agreement >= 0.99
    assert long.agreement >= short.agreement


def test_its_integers_keep_it_too(mnist: tuple[ReluNetwork, Dataset, Dataset]) -> None:
    network, calibration, test = mnist
    graph, _ = rate.convert(network, calibration)
    seen = Dataset(inputs=shown(calibration.samples(0, 100), 64))
    program = compile_graph(graph, load_target("loihi2"), weight_bits=6, calibration=seen).program
    some = test.samples(0, 300)
    with open_backend("simulator").load(program) as chip:
        trace = chip.run(shown(some, 64))
    classes = read_out(trace, "last-voltage")
    expected = network.run({"x": some.inputs["x"][:, 0]})["readout"].argmax(axis=1)
    assert (classes == expected).mean() >= 0.98


@pytest.mark.lava
def test_it_runs_on_stock_processes_of_lava_bit_for_bit(
    mnist: tuple[ReluNetwork, Dataset, Dataset],
) -> None:
    """Neither soft resets nor the readout need our model, though voltages saturate."""
    network, calibration, test = mnist
    graph, _ = rate.convert(network, calibration)
    seen = Dataset(inputs=shown(calibration.samples(0, 100), 64))
    program = compile_graph(graph, load_target("loihi2"), weight_bits=6, calibration=seen).program
    places = placement(program)
    assert {place.process for place in places} == {"GradedReluVec"}
    assert all(place.stock for place in places)
    some = shown(test.samples(0, 8), 64)
    expected = golden.run(program, some)
    assert expected.events["layer1/voltage saturated"] > 100
    result = search()
    assert result.found is not None, f"no Python with Lava; tried: {'; '.join(result.tried)}"
    trace = LavaBackend(python=str(result.found.path)).load(program).run(some)
    for probe in program.default_probes:
        np.testing.assert_array_equal(trace[probe], expected[probe], err_msg=str(probe))
