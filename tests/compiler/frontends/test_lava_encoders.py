"""Sigma-delta layers of ``.net`` files: their numbers, time, and what the file leaves open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikec.backends import open_backend
from spikec.backends.simulator import golden
from spikec.backends.simulator.engine import SimulatorExecutable
from spikec.compiler.errors import BackendError, GraphError, SpikecError, UsageError
from spikec.compiler.frontends import ReadOptions, lava_net
from spikec.compiler.program import Program
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.sigma_delta import SigmaDelta

h5py = pytest.importorskip("h5py")

Fields = dict[str, Any]
Build = Callable[..., Program]


def sdnn(vth: int = 0, **more: object) -> Fields:
    fields = {"type": b"SDNN", "activation": b"relu", "vThMant": vth}
    return {f"neuron/{name}": value for name, value in {**fields, **more}.items()}


def dense(weight: object, **fields: object) -> Fields:
    shape = [len(np.asarray(weight))]
    return {"type": b"dense", "shape": shape, "weight": weight, **fields}


INPUT = {"type": b"input", "shape": [2], **sdnn()}


@pytest.fixture
def net(tmp_path: Path) -> Build:
    def build(*layers: Fields, **options: Any) -> Program:
        path = tmp_path / "some.net"
        with h5py.File(path, "w") as file:
            for index, fields in enumerate(layers):
                for name, value in fields.items():
                    file[f"layer/{index}/{name}"] = value
        return lava_net.read(path, ReadOptions(**options))

    return build


def run(program: Program, *steps: list[int]) -> dict[str, list[list[int]]]:
    """Return messages, and the sums of readouts."""
    trace = golden.run(program, {"input": np.array([steps])})
    return {name: values[0].tolist() for (name, _), values in trace.values.items()}


def test_changes_go_through_the_layers_one_step_each(net: Build) -> None:
    """By hand: x << 6 enters, weights count, the ReLU's changes leave, shifted down by 6."""
    program = net(
        INPUT,
        dense([[2, -4]], **sdnn(vth=3), bias=[1]),
        dense([[-3]], **sdnn(sigma_output=True)),
    )
    found = run(program, [5, 0], [5, 1], [5, 1], [5, 1])
    assert found["layer0"] == [[320, 0], [0, 64], [0, 0], [0, 0]]
    # sigma 0, 640, 384, 384; with the bias of 4096 each: in units of 2**12 above 3 only.
    # 4096 alone is below the threshold and waits in the residue; 4096 + 640 does too.
    assert found["layer1"] == [[0], [0], [0], [0]]
    program = net(INPUT, dense([[64, 0]], **sdnn(vth=3), bias=[1]), dense([[-3]], **sdnn()))
    found = run(program, [5, 0], [5, 0], [2, 0], [2, 0])
    # x = 4096, then 4096 + 64 * 320: the change goes out whole; then 64 * -192 less.
    assert found["layer1"] == [[0], [4096 + 64 * 320 >> 6], [0], [-192]]
    assert found["layer2"] == [[0], [0], [0], [0]]  # the ReLU of -3 * ...


def test_a_bias_counts_from_the_first_step_in_all_layers(net: Build) -> None:
    program = net(INPUT, dense([[2, 2]], **sdnn(), bias=[3]), dense([[2]], **sdnn(), bias=[5]))
    found = run(program, [0, 0], [0, 0])
    assert found["layer1"] == [[3 << 6], [0]]
    assert found["layer2"][0] == [5 << 6]
    assert [item.start for item in program.populations] == [1, 1, 1]


def test_integers_may_enter_without_neurons(net: Build) -> None:
    layers = (dense([[2, -4]], **sdnn()), dense([[2]], **sdnn(sigma_output=1)))
    program = net(*layers, input_bits=9)
    (entry,) = program.inputs
    assert (entry.kind, entry.low, entry.high) == ("graded", -256, 255)
    found = run(program, [64, 0], [0, -64], [0, 0])
    assert found["layer0"] == [[0], [2], [4]]
    assert found["layer1"] == [[0], [0], [4]]
    binary = net({"type": b"input", "shape": [2]}, *layers, input_bits=0)
    assert binary.inputs[0].kind == "binary"


@pytest.mark.parametrize("spike_exp", [None, 0, 3, 9])
def test_spike_exp_scales_messages_and_states(net: Build, spike_exp: int | None) -> None:
    program = net(INPUT, dense([[2, 2]], **sdnn(sigma_output=True)), spike_exp=spike_exp)
    bits = 6 if spike_exp is None else spike_exp
    found = run(program, [7, -2], [7, -2])
    assert found["layer0"][0] == [7 << bits, -2 << bits]
    assert found["layer1"][1] == [10 << bits]
    assert program.population("layer1").lsb == 2.0 ** -(12 + bits)
    choices = program.provenance["choices"]
    assert isinstance(choices, list)
    assert ["spike_exp", str(bits)] in [entry[:2] for entry in choices]


def test_activations_as_the_profile_reads_them(net: Build) -> None:
    layers = (INPUT, dense([[-2, 0]], **sdnn(activation=b"identity")))
    assert run(net(*layers, profile="netx"), [1, 0], [1, 0])["layer1"] == [[0], [0]]
    assert run(net(*layers, profile="slayer"), [1, 0], [1, 0])["layer1"] == [[0], [-2]]


def test_delays_hold_messages_back(net: Build) -> None:
    layer = dense([[64, 0], [64, 0]], **sdnn(), delay=[0, 2])
    found = run(net(INPUT, layer), [1, 0], [1, 0], [1, 0], [1, 0])
    assert found["layer1"] == [[0, 0], [64, 0], [0, 0], [0, 64]]


def test_loops_take_one_step(net: Build) -> None:
    layer = dense([[64, 0]], **sdnn(), weight_rec=[[-64]]) | {"type": b"dense_rec"}
    found = run(net(INPUT, layer), [8, 0], [8, 0], [8, 0], [8, 0], [8, 0])
    assert found["layer1"] == [[0], [512], [-512], [512], [-512]]


def test_messages_beyond_their_bits_are_counted(net: Build) -> None:
    program = net(INPUT, dense([[2, 2]], **sdnn(messageBits=8)))
    trace = golden.run(program, {"input": np.array([[[600, 600]]] * 1).repeat(3, axis=1)})
    assert trace.events == {"layer0/message left 16 bits": 2, "layer1/message left 8 bits": 1}
    strict = open_backend("simulator", strict=True, engine="golden").load(program)
    assert not strict.run({"input": np.zeros((1, 2, 2), int)}).events
    large = net(INPUT, dense([[200, 200]], **sdnn()))
    with pytest.raises(BackendError, match="left 24 bits"):
        open_backend("simulator", strict=True).load(large).run({"input": np.full((1, 3, 2), 2047)})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"spike_exp": 25}, "no exponent of a message"),
        ({"spike_exp": -1}, "no exponent of a message"),
        ({"input_bits": 8}, "no effect"),
    ],
)
def test_options_that_cannot_be(net: Build, options: dict[str, int], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        net(INPUT, dense([[2, 2]], **sdnn()), **options)


def test_options_of_sigma_delta_networks_answer_nothing_elsewhere(net: Build) -> None:
    neuron = {"type": b"CUBA", "iDecay": 4096, "vDecay": 300, "vThMant": 9}
    layer = dense([[2, 2]], **{f"neuron/{name}": value for name, value in neuron.items()})
    with pytest.raises(UsageError, match="spike-exp"):
        net(layer, spike_exp=6)
    assert net(layer, input_bits=4).inputs[0].low == -8
    with pytest.raises(UsageError, match="no width of a message"):
        net(layer, input_bits=25)


def test_programs_are_saved_whole(net: Build, tmp_path: Path) -> None:
    program = net(INPUT, dense([[2, -4]] * 3, **sdnn(), bias=[1, -2, 3]), spike_exp=5)
    write_program(program, tmp_path / "a.spk")
    again = read_program(tmp_path / "a.spk")
    write_program(again, tmp_path / "b.spk")
    assert (tmp_path / "a.spk").read_bytes() == (tmp_path / "b.spk").read_bytes()
    layer = again.population("layer1")
    assert isinstance(layer, SigmaDelta)
    assert (layer.encoding, layer.spike_exp, layer.bias.tolist()) == ("sigma_delta", 5, [1, -2, 3])


def test_the_simulator_takes_golden_unless_fast_is_asked_for(net: Build) -> None:
    program = net(INPUT, dense([[2, 2]], **sdnn()))
    executable = open_backend("simulator").load(program)
    assert isinstance(executable, SimulatorExecutable)
    assert executable.engine == "golden"
    values = np.arange(24).reshape(2, 6, 2)
    expected = golden.run(program, {"input": values})
    np.testing.assert_array_equal(
        executable.run({"input": values}).spikes("layer1"), expected.spikes("layer1")
    )
    (refused,) = open_backend("simulator", engine="fast").check(program)
    assert "layer0" in refused.where
    assert "golden" in (refused.hint or "")


def test_what_knows_spikes_only_refuses(net: Build) -> None:
    program = net(INPUT, dense([[2, 2]], **sdnn()))
    (refused,) = open_backend("c").check(program)
    assert "population 'layer0'" in refused.where
    assert "(and 1 more of its kind)" in refused.message
    assert not open_backend("simulator").check(program)
    with pytest.raises(SpikecError, match="P040"):
        open_backend("c").load(program)
    with pytest.raises(GraphError, match="P040"):
        _ = program.neurons


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"vth": None}, "'sigma' has none"),
        ({"vth": 1 << 20, "spike_exp": 12}, "what 32 bits hold"),
        ({"spike_exp": 31}, "not 0..30 together"),
        ({"message_bits": 0}, "not 1..32"),
        ({"encoding": "delta", "bias": np.array(3)}, "neither a bias nor"),
        ({"encoding": "other"}, "unknown"),
        ({"bias": np.array(0.5)}, "integers are needed"),
    ],
)
def test_rules_of_a_population(net: Build, fields: dict[str, Any], text: str) -> None:
    good = {"name": "n", "shape": (2,), "encoding": "sigma_delta", "vth": 3}
    program = net(INPUT, dense([[2, 2]], **sdnn()))
    with pytest.raises(GraphError, match=text):
        Program(
            target="loihi2", inputs=program.inputs, populations=(SigmaDelta(**{**good, **fields}),),
            connections=(), outputs=("n",),
        )  # fmt: skip
