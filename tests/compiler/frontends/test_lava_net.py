"""lava-dl's ``.net`` files: each kind of layer against its own integers, and every error's text."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.lava_files import Fields, cuba, layer, sdnn, write

from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array, size
from spikec.compiler.errors import FrontendError, UsageError
from spikec.compiler.frontends import ReadOptions, lava_net
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.operators import Dense
from spikec.compiler.program import Program
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.resonator import Resonator
from spikec.compiler.storage import storages

h5py = pytest.importorskip("h5py")

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture
def net(tmp_path: Path) -> Callable[..., Program]:
    def build(*layers: Fields, **options: Any) -> Program:
        path = write(tmp_path / "some.net", *layers)
        assert lava_net.recognises(path)
        return lava_net.read(path, ReadOptions(**options))

    return build


def toward_zero(value: int, factor: int) -> int:
    return (abs(value) * factor >> 12) * (1 if value >= 0 else -1)


def expected(
    inputs: Array, du: int, dv: int, vth: int, bias: Array, delay: Array | None = None
) -> Array:
    """One LIF layer in Python integers: ``inputs[step, neuron]`` are sums of weights."""
    steps, count = inputs.shape
    spikes = np.zeros((steps, count), int)
    for neuron in range(count):
        u = v = 0
        wait = 1 + (0 if delay is None else int(delay[neuron]))
        for step in range(1, steps):
            arrived = int(inputs[step - wait, neuron]) if step >= wait else 0
            u = toward_zero(u, 4096 - (du + 1)) + (arrived << 6)
            v = toward_zero(v, 4096 - dv) + u + (int(bias[neuron]) << 6)
            if v > vth << 6:
                spikes[step, neuron], v = 1, 0
    return spikes


def spikes_in(*shape: int, steps: int = 60, rate: float = 0.3) -> Array:
    return (np.random.default_rng(7).random((steps, *shape)) < rate).astype(np.uint8)


def run(program: Program, spikes: Array, **options: Any) -> Array:
    trace = golden.run(program, {"input": spikes[None]}, **options)
    return trace.spikes(program.outputs[0])[0]


def no_bias(count: int) -> Array:
    return np.zeros(count, int)


@pytest.mark.parametrize("low_high", [(-8, 8), (0, 256), (-255, 1), (-256, 255), (0, 1)])
def test_dense(net: Callable[..., Program], low_high: tuple[int, int]) -> None:
    weight = np.random.default_rng(1).integers(*low_high, (5, 12))
    bias = np.array([3, -2, 0, 7, 1])
    program = net(
        layer("input", shape=[12]),
        layer("dense", shape=[5], weight=weight.astype("f4"), bias=bias, **cuba()),
    )
    spikes = spikes_in(12)
    wanted = expected(spikes.astype(int) @ weight.T, 1023, 300, 9, bias)
    np.testing.assert_array_equal(run(program, spikes), wanted)
    assert program.target == "loihi2"


def test_dense_without_an_input_layer_and_with_old_shapes(net: Callable[..., Program]) -> None:
    weight = np.random.default_rng(1).integers(-9, 9, (4, 6))
    fields = cuba(scaleRho=0.5, tauRho=0.1, wgtExp=0, theta=640)
    program = net(layer("dense", shape=[4, 1, 1], weight=weight[:, :, None, None], **fields))
    spikes = spikes_in(6)
    wanted = expected(spikes.astype(int) @ weight.T, 1023, 300, 9, no_bias(4))
    np.testing.assert_array_equal(run(program, spikes), wanted)


@pytest.mark.parametrize("delay", [[0, 3, 1, 62, 3], [4]])
def test_axonal_delays(net: Callable[..., Program], delay: list[int]) -> None:
    weight = np.random.default_rng(1).integers(-9, 9, (5, 6))
    fields = {"weight": weight, "delay": np.array(delay, "f4")}
    program = net(layer("input", shape=[6]), layer("dense", shape=[5], **fields, **cuba()))
    spikes = spikes_in(6, steps=130)
    waits = np.broadcast_to(delay, 5)
    wanted = expected(spikes.astype(int) @ weight.T, 1023, 300, 9, no_bias(5), waits)
    np.testing.assert_array_equal(run(program, spikes), wanted)
    assert wanted.sum() > 20


@pytest.mark.parametrize("most", [9, 127, 200, 400])  # one format, odd ones of two signs, two parts
def test_a_layer_of_many_delays_is_stored_once(net: Callable[..., Program], most: int) -> None:
    rng = np.random.default_rng(most)
    weight, delay = rng.integers(-most, most + 1, (40, 30)), rng.permutation(np.arange(40) % 30)
    how = {"profile": "slayer"} if most == 400 else {}  # netx would clip
    weight[:, 0] = most  # what a delay has alone may well fit a narrower format
    built = net(layer("dense", shape=[40], weight=weight, delay=delay, **cuba()), **how)
    apart = storages(net(layer("dense", shape=[40], weight=weight, **cuba()), **how))
    stores = storages(built)
    assert len(stores) == len(apart) < len(built.connections)
    for stored, whole in zip(stores, apart, strict=True):
        np.testing.assert_array_equal(stored.operator.weight, whole.operator.weight)
        assert stored.delayed == "target"
        there = stored.operator.weight != 0
        late = np.broadcast_to(delay[:, None] + 1, (40, 30))
        np.testing.assert_array_equal(stored.delay_of[there], late[there])
    spikes = spikes_in(30, steps=80)
    wanted = expected(spikes.astype(int) @ weight.T, 1023, 300, 9, no_bias(40), delay)
    np.testing.assert_array_equal(run(built, spikes), wanted)


def test_every_neuron_may_have_its_own_decays_and_threshold(net: Callable[..., Program]) -> None:
    """SLAYER's shared_param=False; checked neuron by neuron in Python integers."""
    rng = np.random.default_rng(5)
    weight = rng.integers(-30, 60, (6, 12)) * 2
    du, dv, vth = (rng.integers(*span, 6) for span in ((500, 4096), (100, 2000), (20, 90)))
    program = net(
        layer("input", shape=[12]),
        layer("dense", shape=[6], weight=weight,
              **cuba(i_decay=du + 1, v_decay=dv, vth=vth)),
    )  # fmt: skip
    spikes = spikes_in(12)
    found = run(program, spikes)
    assert found.any()
    for neuron in range(6):
        arrived = (spikes.astype(int) @ weight.T)[:, neuron : neuron + 1]
        right = expected(arrived, int(du[neuron]), int(dv[neuron]), int(vth[neuron]), no_bias(1))
        np.testing.assert_array_equal(found[:, neuron : neuron + 1], right)


def test_channels_may_have_their_own_decays(net: Callable[..., Program]) -> None:
    shape = {"shape": [2, 3, 3], "weight": np.ones((2, 1, 1, 1)) * 40, "stride": 1}
    program = net(
        layer("input", shape=[1, 3, 3]), layer("conv", **shape, **cuba(v_decay=[100, 4096])),
    )  # fmt: skip
    found = program.neurons[0].dv
    assert found.shape == (2, 3, 3)
    assert (found[0] == 100).all()
    assert (found[1] == 4096).all()


def test_the_old_slayers_recurrent_layer(net: Callable[..., Program]) -> None:
    rng = np.random.default_rng(2)
    weight, loop = rng.integers(-20, 40, (4, 5)) * 2, rng.integers(-20, 10, (4, 4)) * 2
    new = net(
        layer("input", shape=[5]),
        layer("dense_rec", shape=[4], weight=weight, weight_rec=loop, **cuba()),
    )
    old = net(
        layer("input", shape=[5]),
        layer("recurrent", shape=[4, 1, 1], weight=weight, recWeight=loop,
              **{**cuba(), "neuron/type": b"LOIHI"}),
    )  # fmt: skip
    spikes = spikes_in(5)
    assert run(new, spikes).any()
    np.testing.assert_array_equal(run(old, spikes).reshape(60, 4), run(new, spikes))


@pytest.mark.parametrize(("profile", "waits"), [("netx", 62), ("slayer", 70)])
def test_long_delays_are_as_the_profile_has_them(
    net: Callable[..., Program], profile: str, waits: int
) -> None:
    program = net(
        layer("input", shape=[2]),
        layer("dense", shape=[1], weight=[[3, 4]], delay=[70], **cuba()),
        profile=profile,
    )
    (edge,) = program.connections
    assert edge.delay == 1 + waits


def test_delays_per_input(net: Callable[..., Program]) -> None:
    weight, delay = np.random.default_rng(1).integers(-9, 9, (5, 3)), np.array([2, 0, 5])
    program = net(layer("dense", shape=[5], weight=weight, delay=delay, **cuba()))
    spikes = spikes_in(3)
    late = np.zeros_like(spikes)
    for channel, wait in enumerate(delay):
        late[wait:, channel] = spikes[: len(spikes) - wait, channel]
    wanted = expected(late.astype(int) @ weight.T, 1023, 300, 9, no_bias(5))
    np.testing.assert_array_equal(run(program, spikes), wanted)


def correlated(spikes: Array, weight: Array, stride: int, pad: int, dil: int, groups: int) -> Array:
    """SLAYER's convolution (torch's), written out."""
    padded = np.pad(spikes.astype(int), ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    out, per_group, high, wide = weight.shape
    rows = (padded.shape[2] - dil * (high - 1) - 1) // stride + 1
    columns = (padded.shape[3] - dil * (wide - 1) - 1) // stride + 1
    result = np.zeros((len(spikes), out, rows, columns), int)
    for o, c, y, x in np.ndindex(out, per_group, high, wide):
        channel = o // (out // groups) * per_group + c
        for row, column in np.ndindex(rows, columns):
            taken = padded[:, channel, row * stride + y * dil, column * stride + x * dil]
            result[:, o, row, column] += weight[o, c, y, x] * taken
    return result


@pytest.mark.parametrize(
    ("stride", "pad", "dil", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (1, 2, 2, 1)]
)
def test_conv(net: Callable[..., Program], stride: int, pad: int, dil: int, groups: int) -> None:
    weight = np.random.default_rng(1).integers(-9, 9, (4, 4 // groups, 3, 2))
    bias = np.array([1, 0, -1, 2])
    spikes = spikes_in(4, 7, 6)
    sums = correlated(spikes, weight, stride, pad, dil, groups)
    fields = {"stride": [stride, stride], "padding": pad, "dilation": dil, "groups": groups}
    program = net(
        layer("input", shape=[4, 7, 6]),
        layer(
            "conv", shape=sums.shape[1:], weight=weight[..., None], bias=bias, **fields, **cuba()
        ),
    )
    per_neuron = np.broadcast_to(bias[:, None, None], sums.shape[1:]).ravel()
    wanted = expected(sums.reshape(len(sums), -1), 1023, 300, 9, per_neuron)
    np.testing.assert_array_equal(run(program, spikes).reshape(len(sums), -1), wanted)


def test_conv_with_a_delay_per_channel(net: Callable[..., Program]) -> None:
    weight, delay = np.random.default_rng(1).integers(-9, 9, (3, 2, 2, 2)), np.array([0, 4, 1])
    spikes = spikes_in(2, 4, 4)
    sums = correlated(spikes, weight, 1, 0, 1, 1)
    program = net(
        layer("input", shape=[2, 4, 4]),
        layer("conv", shape=[3, 3, 3], weight=weight, delay=delay, **cuba()),
    )
    waits = np.broadcast_to(delay[:, None, None], (3, 3, 3)).ravel()
    wanted = expected(sums.reshape(60, -1), 1023, 300, 9, no_bias(27), waits)
    np.testing.assert_array_equal(run(program, spikes).reshape(60, -1), wanted)


@pytest.mark.parametrize(("extent", "kernel"), [(6, 2), (5, 2), (6, 3)])
@pytest.mark.parametrize("delay", [[0, 0], [3, 1]])
def test_pool(net: Callable[..., Program], extent: int, kernel: int, delay: list[int]) -> None:
    spikes = spikes_in(2, extent, extent)
    grown = np.pad(spikes, ((0, 0), (0, 0), (0, extent % kernel), (0, extent % kernel)))
    length = grown.shape[2] // kernel
    sums = 5 * grown.reshape(60, 2, length, kernel, length, kernel).astype(int).sum(axis=(3, 5))
    fields = {"weight": np.full((1, 1, kernel, kernel), 5.0), "stride": [kernel, kernel]}
    program = net(
        layer("input", shape=[2, extent, extent]),
        layer("pool", shape=sums.shape[1:], delay=delay, **fields, **cuba()),
    )
    waits = np.repeat(delay, length * length)
    wanted = expected(sums.reshape(60, -1), 1023, 300, 9, no_bias(len(waits)), waits)
    np.testing.assert_array_equal(run(program, spikes).reshape(60, -1), wanted)


def test_unpool(net: Callable[..., Program]) -> None:
    spikes = spikes_in(2, 3, 3)
    sums = 12 * spikes.astype(int).repeat(2, axis=2).repeat(2, axis=3)
    program = net(
        layer("input", shape=[2, 3, 3]),
        layer("unpool", shape=[2, 6, 6], weight=np.full((1, 1, 2, 2), 12.0), stride=2, **cuba()),
    )
    wanted = expected(sums.reshape(60, -1), 1023, 300, 9, no_bias(72))
    np.testing.assert_array_equal(run(program, spikes).reshape(60, -1), wanted)


@pytest.mark.parametrize(
    ("stride", "pad", "dil", "groups"), [(1, 0, 1, 1), (2, 1, 1, 2), (3, 0, 2, 1)]
)
def test_transposed_conv(
    net: Callable[..., Program], stride: int, pad: int, dil: int, groups: int
) -> None:
    weight = np.random.default_rng(1).integers(-9, 9, (4, 2, 3, 3))
    spikes = spikes_in(4, 3, 3)
    whole = (3 - 1) * stride + dil * 2 + 1
    sums = np.zeros((60, 2 * groups, whole, whole), int)
    for channel, o, y, x, row, column in np.ndindex(4, 2, 3, 3, 3, 3):
        out = channel // (4 // groups) * 2 + o
        reached = sums[:, out, row * stride + y * dil, column * stride + x * dil]
        reached += weight[channel, o, y, x] * spikes[:, channel, row, column].astype(int)
    sums = sums[:, :, pad : whole - pad, pad : whole - pad]
    fields = {"stride": stride, "padding": pad, "dilation": dil, "groups": groups}
    program = net(
        layer("input", shape=[4, 3, 3]),
        layer("convT", shape=sums.shape[1:], weight=weight, **fields, **cuba()),
    )
    wanted = expected(sums.reshape(60, -1), 1023, 300, 9, no_bias(size(sums.shape[1:])))
    np.testing.assert_array_equal(run(program, spikes).reshape(60, -1), wanted)


def test_flatten_is_channel_first(net: Callable[..., Program]) -> None:
    weight = np.random.default_rng(1).integers(-9, 9, (5, 24))
    program = net(
        layer("input", shape=[2, 3, 4]),
        layer("flatten", shape=[24, 1, 1]),
        layer("dense", shape=[5], weight=weight, **cuba()),
    )
    spikes = spikes_in(2, 3, 4)
    wanted = expected(spikes.reshape(60, -1).astype(int) @ weight.T, 1023, 300, 9, no_bias(5))
    np.testing.assert_array_equal(run(program, spikes), wanted)


def test_recurrent(net: Callable[..., Program]) -> None:
    rng = np.random.default_rng(1)
    weight, loop = rng.integers(-9, 12, (5, 6)), rng.integers(-9, 9, (5, 5))
    program = net(
        layer("input", shape=[6]),
        layer("dense_rec", shape=[5], weight=weight, weight_rec=loop, **cuba()),
    )
    spikes = spikes_in(6)
    u, v, before = [0] * 5, [0] * 5, np.zeros(5, int)
    wanted = np.zeros((60, 5), int)
    for step in range(1, 60):
        arrived = weight @ spikes[step - 1].astype(int) + loop @ before
        for neuron in range(5):
            u[neuron] = toward_zero(u[neuron], 3072) + (int(arrived[neuron]) << 6)
            v[neuron] = toward_zero(v[neuron], 3796) + u[neuron]
            if v[neuron] > 9 << 6:
                wanted[step, neuron], v[neuron] = 1, 0
        before = wanted[step]
    np.testing.assert_array_equal(run(program, spikes), wanted)


def test_a_driven_input_and_staggered_biases(net: Callable[..., Program]) -> None:
    """Layer 1 does not integrate its bias before layer 0's first step has reached it."""
    bias = np.array([4, 1, 0])
    program = net(
        layer("input", shape=[3], weight=[36.0], bias=[34.0], **cuba(4096, 300, 25)),
        layer("dense", shape=[3], weight=np.eye(3) * 6, bias=bias, **cuba()),
    )
    values = np.array([20, 61, -5])
    inputs = np.broadcast_to(values, (1, 40, 3))
    trace = golden.run(program, {"input": inputs})
    first = expected(np.broadcast_to(values, (41, 3)), 4095, 300, 25, no_bias(3))
    np.testing.assert_array_equal(trace.spikes("layer0")[0], first[1:])
    second = expected(first[1:] * 6, 1023, 300, 9, bias)
    np.testing.assert_array_equal(trace.spikes("layer1")[0], second)
    assert ["input", "integers 36 * x + 34, one a step", "layer/0/weight and bias"] in (
        program.provenance["choices"]
    )


def test_a_layer_without_a_neuron_integrates(net: Callable[..., Program]) -> None:
    weight, bias = np.array([[3, -7, 40]]), np.array([-11])
    program = net(layer("input", shape=[3]), layer("dense", shape=[1], weight=weight, bias=bias))
    spikes = spikes_in(3)
    voltage = golden.run(program, {"input": spikes[None]})["layer1", "voltage"][0, :, 0]
    sums = np.cumsum(spikes.astype(int) @ weight[0])
    np.testing.assert_array_equal(voltage[1:], (sums[:-1] - 11) << 6)


def test_a_threshold_out_of_reach_is_a_readout(net: Callable[..., Program]) -> None:
    fields = cuba(vth=(1 << 18) - 1)
    program = net(layer("input", shape=[2]), layer("dense", shape=[1], weight=[[3, 4]], **fields))
    assert program.population("layer1").vth is None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"profile_defaults": True}, "U082"),
        ({"v_reset": "0"}, "U082"),
        ({"spike_factor": "1"}, "U082"),
        ({"compare": "layer1=>"}, "U084"),
        ({"compare": "<"}, "U084"),
    ],
)
def test_options_of_other_formats_are_refused(
    net: Callable[..., Program], options: dict[str, Any], code: str
) -> None:
    layers = (layer("input", shape=[2]), layer("dense", shape=[1], weight=[[3, 4]], **cuba()))
    with pytest.raises(UsageError, match=code):
        net(*layers, **options)


def test_at_least_is_exact_where_voltages_stay_on_the_grid(net: Callable[..., Program]) -> None:
    layers = (
        layer("input", shape=[1]),
        layer("dense", shape=[1], weight=[[5]], **cuba(4096, 0, 10)),
    )
    spikes = np.ones((9, 1), np.uint8)
    assert run(net(*layers), spikes).ravel().tolist() == [0, 0, 0, 1, 0, 0, 1, 0, 0]
    assert run(net(*layers, compare=">="), spikes).ravel().tolist() == [0, 0, 1, 0, 1, 0, 1, 0, 1]


def test_profiles(net: Callable[..., Program]) -> None:
    def read(fields: Fields, profile: str, **more: object) -> Program:
        given = {"weight": [[300.0, -300.0]], **more}
        return net(
            layer("input", shape=[2]), layer("dense", shape=[1], **given, **fields), profile=profile
        )

    def weights(program: Program) -> list[int]:
        return (
            np.asarray(sum(item.effective.weight for item in program.connections)).ravel().tolist()
        )

    assert weights(read(cuba(), "netx")) == [254, -256]
    assert weights(read(cuba(), "slayer")) == [300, -300]
    assert weights(read(cuba(wgtExp=2), "slayer", weight=[[3, -4]])) == [12, -16]
    assert weights(read(cuba(wgtExp=2), "netx", weight=[[3, -4]])) == [3, -4]
    assert weights(read(cuba(weight_exp=2.0), "netx", weight=[[3, -4]])) == [3, -4]
    assert read(cuba(refDelay=3), "slayer").population("layer1").refractory == 2
    assert read(cuba(refDelay=3), "netx").population("layer1").refractory == 0
    delayed = read(cuba(), "netx", bias=[3], delay=[4])
    assert [item.delay for item in delayed.connections] == [5]
    assert any("delay at layer/1/delay" in item for item in delayed.provenance["choices"])  # type: ignore[attr-defined]


def test_weights_of_one_sign_are_never_clipped(net: Callable[..., Program]) -> None:
    program = net(
        layer("input", shape=[2]), layer("dense", shape=[1], weight=[[1000, 3]], **cuba())
    )
    total = sum(item.effective.weight for item in program.connections)
    np.testing.assert_array_equal(total, [[1000, 3]])


def test_large_biases_move_into_the_exponent(net: Callable[..., Program]) -> None:
    fields = {"weight": np.ones((2, 2)), "bias": [8000, -5002]}
    program = net(layer("input", shape=[2]), layer("dense", shape=[2], **fields, **cuba()))
    assert program.population("layer1").bias.tolist() == [8000 << 6, -5002 << 6]


@pytest.mark.parametrize(
    "values",
    [[0, 0], [255, 3], [-255, -1], [-256, 254], [-3, 2], [510, -510], [1021, -7], [65535, -65535]],
)
def test_any_weights_are_the_sum_of_legal_mantissas(values: list[int]) -> None:
    weight = np.array([values])
    parts = connections(source="a", target="b", operator=Dense(weight=weight), delay=1)
    total = sum(part.effective.weight for part in parts)
    np.testing.assert_array_equal(total, weight)
    for part in parts:
        assert not (part.operator.weight % part.step).any()
    assert len({part.name for part in parts}) == len(parts)


def test_a_program_is_saved_and_read_back(net: Callable[..., Program], tmp_path: Path) -> None:
    fields = {"weight": np.array([[3, -4]]), "delay": [2]}
    program = net(layer("input", shape=[2]), layer("dense", shape=[1], **fields, **cuba()))
    write_program(program, tmp_path / "saved.spk")
    again = read_program(tmp_path / "saved.spk")
    assert again.provenance == program.provenance
    np.testing.assert_array_equal(run(again, spikes_in(2)), run(program, spikes_in(2)))


def test_files_with_the_names_of_before_are_read(
    net: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts of a connection were ``a-b/delay2``, which no graph could be made of."""
    complex_weights = {"weight/real": [[3, -401]], "weight/imag": [[3, 4]]}
    rf = {"type": b"RF_PHASE", "vThMant": 5, "sinDecay": 2103, "cosDecay": 3273}
    program = net(
        layer("input", shape=[2]),
        layer("dense", shape=[1], **complex_weights, **{f"neuron/{k}": v for k, v in rf.items()}),
        profile="slayer",
    )
    names = [item.name for item in program.connections]
    assert names == ["input-layer1.positive.real", "input-layer1.negative.low.real",
                     "input-layer1.negative.high.real", "input-layer1.imag"]  # fmt: skip
    (neurons,) = program.populations
    assert isinstance(neurons, Resonator)
    with monkeypatch.context() as patch:
        patch.setattr("spikec.compiler.program.fault", lambda _: None)
        old = replace(
            program,
            connections=tuple(
                replace(item, name=item.name.replace(".", "/")) for item in program.connections
            ),
            populations=(replace(neurons, imaginary=("input-layer1/imag",)),),
        )
        write_program(old, tmp_path / "old.spk")
    again = read_program(tmp_path / "old.spk")
    assert [item.name for item in again.connections] == names
    np.testing.assert_array_equal(run(again, spikes_in(2)), run(program, spikes_in(2)))


def test_other_files_are_not_recognised(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("layer")
    with h5py.File(tmp_path / "nir", "w") as file:
        file.create_group("node")
        file["version"] = "1.0"
    assert not lava_net.recognises(tmp_path / "text")
    assert not lava_net.recognises(tmp_path / "nir")


IN2, IN3 = layer("input", shape=[2]), layer("input", shape=[2, 4, 4])
COMPLEX = {"weight/real": [[1, 2]], "weight/imag": [[3, 4]]}
RESONATOR = {"neuron/type": b"RF_PHASE", "neuron/vThMant": 3, "neuron/sinDecay": 2000,
             "neuron/cosDecay": 3000}  # fmt: skip
SDNN_IN = layer("input", shape=[2], **sdnn())


def dense(**more: object) -> Fields:
    return layer("dense", shape=[1], **{"weight": [[3, -4]], **cuba(), **more})


def conv(**more: object) -> Fields:
    return layer("conv", **{**cuba(), **more})


POOL = {"weight": np.full((1, 1, 2, 2), 3), "stride": 2, **cuba()}
ERRORS: dict[str, tuple[list[Fields], Fields]] = {
    "adaptive_neuron": ([IN2, dense(**cuba(type=b"ALIF"))], {}),
    "at_least_with_decay": ([IN2, dense()], {"compare": ">="}),
    "average_groups": ([IN2, layer("dense", shape=[5], weight=np.ones((5, 2)), **cuba()),
                        layer("average", shape=[2])], {}),
    "bias_and_delay": ([IN2, dense(bias=[1], delay=[2])], {}),
    "bias_and_delay_slayer": ([IN2, dense(bias=[1], delay=[2])], {"profile": "slayer"}),
    "bias_count": ([IN2, dense(bias=[1, 2, 3])], {}),
    "bias_range": ([IN2, dense(bias=[5001])], {}),
    "complex_weight": ([IN2, layer("dense", shape=[1], **COMPLEX, **cuba())], {}),
    "concat": ([IN2, layer("concat")], {}),
    "conv_shape": ([IN3, conv(shape=[1, 3, 4], weight=np.ones((1, 2, 2, 2)))], {}),
    "current_never_decays": ([IN2, dense(**cuba(i_decay=0))], {}),
    "delay_range": ([IN2, dense(delay=[70])], {}),
    "dense_shape": ([IN2, dense(weight=[[1, 2, 3]])], {}),
    "driven_input": ([layer("input", shape=[2], **cuba()), dense()], {}),
    "float_weights": ([IN2, dense(weight=[[0.3, 2.0]])], {}),
    "graded": ([IN2, dense(**cuba(gradedSpike=True))], {}),
    "missing_decay": ([IN2, layer("dense", shape=[1], weight=[[3, 4]],
                       **{"neuron/type": b"CUBA", "neuron/vThMant": 3})], {}),
    "no_flatten": ([IN3, layer("dense", shape=[1], weight=np.ones((1, 32)), **cuba())], {}),
    "no_input_shape": ([conv(shape=[1, 3, 3], weight=np.ones((1, 1, 2, 2)))], {}),
    "not_numbered": ([], {}),
    "pool_overlap": ([IN3, layer("pool", shape=[2, 3, 3], **{**POOL, "stride": 1})], {}),
    "pool_rows": ([layer("input", shape=[1, 7, 6]),
                   layer("pool", shape=[1, 2, 2], **{**POOL, "weight": np.ones((1, 1, 3, 3)),
                                                     "stride": 3})], {}),
    "readout_then_layer": ([IN2, layer("dense", shape=[1], weight=[[3, -4]]),
                            dense(weight=[[1]])], {}),
    "recurrent_delay": ([IN2, layer("dense_rec", shape=[1], weight=[[3, 4]], weight_rec=[[1]],
                         delay=[2], **cuba())], {}),
    "refractory": ([IN2, dense(**cuba(refDelay=4))], {}),
    "resonator_bias": ([IN2, layer("dense", shape=[1], **COMPLEX, bias=[1], **RESONATOR)], {}),
    "resonator_bias_slayer": ([IN2, layer("dense", shape=[1], **COMPLEX, bias=[1], **RESONATOR)],
                              {"profile": "slayer"}),
    "resonator_conv": ([IN3, conv(shape=[1, 3, 3], weight=np.ones((1, 2, 2, 2)), **RESONATOR)],
                       {}),
    "resonator_graded": ([IN2, layer("dense", shape=[1], **COMPLEX, **RESONATOR,
                                     **{"neuron/gradedSpike": True})], {}),
    "resonator_half_complex": ([IN2, layer("dense", shape=[1], **{"weight/real": [[1, 2]]},
                                           **RESONATOR)], {}),
    "resonator_input": ([layer("input", shape=[2], **RESONATOR)], {}),
    "resonator_real_weight": ([IN2, layer("dense", shape=[1], weight=[[1, 2]], **RESONATOR)], {}),
    "resonator_threshold": ([IN2, layer("dense", shape=[1], **COMPLEX,
                                        **{**RESONATOR, "neuron/vThMant": 0})], {}),
    "adaptive_resonator": ([IN2, layer("dense", shape=[1], **COMPLEX,
                                       **{**RESONATOR, "neuron/type": b"ADRF_PHASE"})], {}),
    "sigma_delta_activation": ([SDNN_IN, dense(**sdnn(activation=b"tanh"))], {}),
    "sigma_delta_average": ([SDNN_IN, dense(**sdnn()), layer("average", shape=[1])], {}),
    "sigma_delta_delay_and_bias": ([SDNN_IN, dense(**sdnn(), delay=[3], bias=[2])], {}),
    "sigma_delta_input": ([IN2, dense(**sdnn())], {}),
    "sigma_delta_message_bits": ([SDNN_IN, dense(**sdnn(messageBits=0))], {}),
    "sigma_delta_mixed": ([SDNN_IN, dense(**cuba())], {}),
    "sigma_delta_slayer_activation": ([SDNN_IN, dense(**sdnn(activation=b"tanh"))],
                                      {"profile": "slayer"}),
    "sigma_delta_threshold": ([SDNN_IN, dense(**sdnn(vth=1 << 20))], {}),
    "sigma_output_bias": ([SDNN_IN, dense(**sdnn(sigma_output=True), bias=[1])], {}),
    "sigma_output_false": ([SDNN_IN, dense(**sdnn(sigma_output=False))], {}),
    "sigma_output_then_layer": ([SDNN_IN, dense(**sdnn(sigma_output=True)),
                                 dense(weight=[[2]], **sdnn())], {}),
    "several_at_once": ([IN2, dense(weight=[[b"x"]]), dense(bias=[0.5]), layer("nonsense")], {}),
    "threshold_range": ([IN2, dense(**cuba(vth=-3))], {}),
    "unknown_layer": ([IN2, layer("attention")], {}),
    "unknown_profile": ([IN2, dense()], {"profile": "norse"}),
    "too_many_neurons": ([layer("input", shape=[1 << 20, 4, 4]), dense()], {}),
    "weight_exp": ([IN2, dense(**cuba(weight_exp=2))], {}),
    "weight_exponent": ([IN2, dense(**cuba(wgtExp=2))], {}),
    "weight_range": ([IN2, dense(weight=[[300, -1]])], {}),
    "weight_size": ([IN2, dense(weight=[[1 << 20, -1]])], {}),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_error_texts(name: str, tmp_path: Path) -> None:
    """``SPIKEC_UPDATE_GOLDEN=1`` writes the texts anew."""
    layers, options = ERRORS[name]
    path = write(tmp_path / "some.net", *layers)
    with pytest.raises(FrontendError) as caught:
        lava_net.read(path, ReadOptions(**options))
    text = str(caught.value).replace(str(path), "some.net") + "\n"
    stored = GOLDEN / f"lava_{name}.txt"
    if os.environ.get("SPIKEC_UPDATE_GOLDEN"):
        stored.write_text(text)
    assert text == stored.read_text()
    assert "hint:" in text


LARGE: dict[str, tuple[list[Fields], str]] = {
    "driven neurons": (
        [layer("input", shape=[1, 3000, 3000], **cuba(i_decay=4096))], "9000000 neurons",
    ),
    "layers that are each small enough": (
        [layer("input", shape=[1, 2000, 2000], **cuba(i_decay=4096)),
         layer("pool", shape=[1, 2000, 2000], weight=np.ones((1, 1, 1, 1)), **cuba())],
        "layer/1/shape: with its 4000000 neurons",
    ),
    "a matrix for a transposed convolution": (
        [layer("input", shape=[1, 70, 70]),
         layer("convT", shape=[1, 72, 72], weight=np.ones((1, 1, 3, 3)), **cuba())],
        "becomes a matrix",
    ),
    "half precision beyond its numbers": (
        [layer("input", shape=[2]),
         layer("dense", shape=[1], weight=np.full((1, 2), np.inf, np.float16), **cuba())],
        "2 of 2 values are not integers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LARGE)
def test_a_small_file_is_refused_before_it_takes_memory(name: str, tmp_path: Path) -> None:
    layers, message = LARGE[name]
    path = write(tmp_path / "large.net", *layers)
    tracemalloc.start()
    try:
        with pytest.raises(FrontendError) as caught:
            lava_net.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert message in str(caught.value)
    assert peak < 64 << 20


def test_what_is_unpacked_is_in_proportion_to_the_file(tmp_path: Path) -> None:
    """A byte of the file becomes a number of eight."""
    path = tmp_path / "packed.net"
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "layer/0/weight", (6000, 6000), "i1", chunks=(600, 600), compression="gzip"
        )
    with pytest.raises(FrontendError, match=r"F062 .*unpacks to more than"):
        lava_net.read(path)
