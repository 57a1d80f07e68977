"""Runs on lava-nc: alignment, the traps of Lava, and nothing left behind."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.delayed_programs import apart

from spikec.backends.lava import run as run_module
from spikec.backends.lava.emit import emit
from spikec.backends.lava.placement import edge_placement, placement
from spikec.backends.lava.run import LavaBackend, aligned
from spikec.backends.simulator import golden
from spikec.compiler.errors import BackendError, GraphError
from spikec.compiler.ir import SourceView
from spikec.compiler.npz import npz_bytes
from spikec.compiler.operators import Dense, Sparse, Synapses
from spikec.compiler.program import Connection, Program

ALL = ("spikes", "voltage", "current")


def spikes(shape, seed=0, rate=0.4):
    return (np.random.default_rng(seed).random(shape) < rate).astype(np.uint8)


def assert_same(program, inputs, backend, probes=None):
    """Golden and Lava give the same trace."""
    if probes is None:
        probes = [(item.name, quantity) for item in program.populations for quantity in ALL]
    expected = golden.run(program, inputs, probes=probes)
    with backend.load(program) as executable:
        trace = executable.run(inputs, probes=probes)
    for probe in probes:
        np.testing.assert_array_equal(trace[probe], expected[probe], err_msg=str(probe))
        assert trace[probe].dtype == expected[probe].dtype
    assert trace.outputs == expected.outputs
    clipped = {name: count for name, count in expected.events.items() if "clipped" in name}
    assert trace.events == clipped
    return expected


def test_check_refuses_long_delays(build):
    findings = LavaBackend().check(build(delay=64))
    assert [item.code for item in findings] == ["B042"]
    assert LavaBackend().check(build(delay=63)) == []


def test_check_refuses_wide_messages(build):
    assert [item.code for item in LavaBackend().check(build(kind="graded", high=1 << 23))] == [
        "B043"
    ]


def test_check_refuses_sparse_synapses_of_a_large_matrix(build):
    program = build()
    many = 5000
    numbers = np.arange(many)
    synapses = Synapses(targets=numbers, pointers=np.arange(many + 1), outputs=many)
    sparse = replace(
        program.connections[0],
        operator=Sparse(weight=np.full(many, 2, np.int16), synapses=synapses),
    )
    cells = program.populations[0]
    large = replace(
        program,
        inputs=(replace(program.inputs[0], shape=(many,)),),
        populations=(
            replace(cells, shape=(many,), **{
                name: values.flat[0]
                for name in cells.PER_NEURON
                if (values := getattr(cells, name)) is not None
            }),
        ),
        connections=(sparse,),
    )  # fmt: skip
    (finding,) = LavaBackend().check(large)
    assert finding.code == "B046"
    assert "5,000 x 5,000" in finding.message


def test_load_raises_what_check_finds(build):
    with pytest.raises(BackendError, match="B042"):
        LavaBackend().load(build(delay=64))


@pytest.mark.parametrize(
    ("mantissa", "exponent", "message"), [(3, 0, "multiples of 2"), (4, -1, "weight_exp")]
)
def test_what_lava_reads_differently_is_no_program(build, mantissa, exponent, message):
    # Lava floors odd mixed mantissas and shifts sums right where the exponent is negative.
    good = build().connections[0]
    with pytest.raises(GraphError, match=message):
        replace(
            build(),
            connections=(
                replace(
                    good, operator=Dense(weight=np.full((3, 3), mantissa)), weight_exp=exponent
                ),
            ),
        )


@pytest.mark.parametrize("lag", [-3, -1, 0, 2])
def test_aligned(lag):
    raw = np.arange(2 * 7).reshape(2, 7, 1)
    result = aligned(raw, initial=np.array([-5]), lag=lag, steps=4)
    for step in range(4):
        expected = raw[:, step + lag] if step + lag >= 0 else [[-5], [-5]]
        np.testing.assert_array_equal(result[:, step], expected)


@pytest.mark.lava
@pytest.mark.parametrize("batch", [1, 2, None])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_batches_give_the_same(build, backend, batch, reset):
    progress = []
    program = build(reset=reset, readout=True, delay=2)
    inputs = {"x": spikes((5, 12, 3))}
    expected = golden.run(program, inputs)
    executable = replace(backend, batch=batch).load(program)
    trace = executable.run(inputs, progress=lambda done, total: progress.append((done, total)))
    assert expected.spikes("cells").any()
    for probe in expected.values:
        np.testing.assert_array_equal(trace[probe], expected[probe])
    assert progress[-1] == (5, 5)
    assert len(progress) == {1: 5, 2: 3, None: 1}[batch]


@pytest.mark.lava
def test_run_twice_gives_the_same_and_leaves_nothing(build, backend, folder, monkeypatch):
    before = shared_memory()
    executable = backend.load(build(readout=True))
    first = executable.run({"x": spikes((2, 9, 3))})
    second = executable.run({"x": spikes((2, 9, 3))})
    for probe in first.values:
        np.testing.assert_array_equal(first[probe], second[probe])
    assert list(folder.iterdir()) == []
    assert_no_more_shared_memory(before)
    assert processes_that_mention(str(folder)) == []


@pytest.mark.lava
@pytest.mark.parametrize("lags", [(-2, -1), (0, 0), (3, 1)])
def test_lags_are_undone(build, backend, lags):
    program = build(initial_voltage=[5, 6, 7], initial_current=9)
    view = SourceView(lag=lags[0], current_lag=lags[1])
    program = replace(program, populations=(replace(program.populations[0], view=view),))
    assert_same(program, {"x": spikes((2, 8, 3))}, backend)


@pytest.mark.lava
@pytest.mark.parametrize("batch", [1, 2])
def test_a_delay_for_each_synapse_is_one_process(build, backend, batch, tmp_path):
    program = build()
    (whole,) = program.connections
    delays = np.array([[1, 63, 2], [7, 1, 30]])[: whole.operator.weight.shape[0]]
    delays = np.resize(delays, whole.operator.weight.shape)
    program = replace(program, connections=tuple(apart(whole, delays)))
    assert_same(program, {"x": spikes((2, 70, 3))}, replace(backend, batch=batch))
    emit(program, tmp_path / "net")
    assert (tmp_path / "net" / "network.py").read_text().count("net.connect(") == 1
    places = edge_placement(program)
    assert {item.process for item in places} == {"DelayDense"}
    assert f"one process for {len(places)} of them" in places[0].reason


@pytest.mark.lava
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("delay", [1, 2, 63])
def test_delays(build, backend, batch, delay):
    expected = assert_same(
        build(delay=delay), {"x": spikes((2, 70, 3))}, replace(backend, batch=batch)
    )
    assert expected.spikes("cells").any()


@pytest.mark.lava
@pytest.mark.parametrize("batch", [1, 2])
def test_sign_modes_bits_and_empty_weights(build, backend, batch):
    def connection(number, weights, mode, bits):
        return Connection(
            name=f"c{number}", source="x", target="cells", operator=Dense(weight=np.array(weights)),
            weight_exp=number, num_weight_bits=bits, sign_mode=mode, delay=1 + number % 2,
        )  # fmt: skip

    base = build(vth=3000)
    program = replace(
        base,
        connections=(
            *base.connections,
            connection(0, np.zeros((3, 3), int), "excitatory", 8),
            connection(1, np.full((3, 3), 252), "excitatory", 6),
            connection(2, np.full((3, 3), -248), "inhibitory", 5),
            connection(3, [[-256, 128, 0]] * 3, "mixed", 2),
            connection(5, np.zeros((3, 3), int), "inhibitory", 1),
        ),
    )
    assert_same(program, {"x": spikes((3, 15, 3))}, replace(backend, batch=batch))


@pytest.mark.lava
@pytest.mark.parametrize("batch", [1, 2])
def test_one_neuron_and_graded_input(build, backend, batch):
    program = build(weights=[[6]], kind="graded", high=9, vth=40)
    values = np.random.default_rng(3).integers(-2, 14, (3, 10, 1))
    expected = assert_same(program, {"x": values}, replace(backend, batch=batch))
    assert expected.events["x/input clipped"] > 0


@pytest.mark.lava
def test_parts_that_are_not_connected_run_too(build, backend):
    one = build(vth=900)
    alone = replace(one.populations[0], name="alone", bias_mant=400, bias_exp=6)
    own = replace(alone, name="own", reset="subtract", reset_order="next_step")
    program = replace(one, populations=(one.populations[0], alone, own))
    expected = assert_same(program, {"x": spikes((2, 20, 3))}, backend)
    assert expected.spikes("alone").any()
    assert expected.spikes("own").any()


@pytest.mark.lava
def test_decays_are_lavas(build, backend):
    """u and v lose (1 + du)/4096 and dv/4096, rounded toward zero, in stock LIF too."""
    base = build(weights=[[200, -200]], weight_exp=7, vth=(1 << 17) - 1)
    corners = [(du, dv) for du in (0, 1, 2047, 4094, 4095) for dv in (0, 1, 2048, 4095)]
    populations = tuple(
        replace(base.populations[0], name=f"p{index}", du=du, dv=dv, bias_mant=-3)
        for index, (du, dv) in enumerate(corners)
    )
    wires = tuple(
        replace(base.connections[0], name=f"w{index}", target=item.name)
        for index, item in enumerate(populations)
    )
    program = replace(base, populations=populations, connections=wires, outputs=("p0",))
    inputs = {"x": np.zeros((2, 12, 2), np.uint8)}
    inputs["x"][0, 0, 0] = inputs["x"][1, 0, 1] = 1
    assert_same(program, inputs, backend)


@pytest.mark.lava
@pytest.mark.parametrize("reset", ["zero", "subtract"])
def test_wraps_and_saturates_as_golden_does(build, backend, reset):
    # 254 << 9 << 6 is just below 2**23: one spike stays inside, two wrap, in both directions.
    program = build(
        weights=[[254, 254, 4], [-254, -256, -4]], weight_exp=9, du=0, dv=0,
        vth=(1 << 17) - 1, reset=reset,
    )  # fmt: skip
    expected = assert_same(program, {"x": spikes((4, 30, 3))}, backend)
    assert expected.events["cells/current wrapped"] > 0
    assert expected.events["cells/voltage saturated"] > 0


@pytest.mark.lava
@pytest.mark.parametrize("total", [(1 << 23) - 64, 1 << 23, (1 << 23) + 64])
def test_the_last_values_before_a_wrap(build, backend, total):
    # Graded messages make the current land on the border exactly: 2**23 itself stays.
    program = build(
        weights=[[2], [-2]], weight_exp=0, kind="graded", high=1 << 17, du=4095, vth=(1 << 17) - 1
    )
    values = np.array([0, total // 128, 0, total // 128 - 1]).reshape(1, 4, 1)
    assert_same(program, {"x": values}, backend)


@pytest.mark.lava
@pytest.mark.parametrize(
    "changes",
    [
        {"start": 2, "delay": 2, "bias_mant": 300},
        {"start": 3, "delay": 3, "bias_mant": 4000, "bias_exp": 7},
        {"start": 3, "delay": 3, "bias_mant": 4000, "bias_exp": 7, "dv": 4095},
        {"start": 2, "delay": 1, "bias_mant": 50},
        {"start": 2, "delay": 2, "initial_voltage": 9000},
        {"reset_order": "next_step"},
        {"reset_order": "next_step", "start": 2, "delay": 2, "bias_mant": 300},
        {"reset_order": "next_step", "reset_drops_input": True},
        {"refractory": 2},
        {"reset": "value", "reset_value": -2000},
    ],
)
def test_starts_and_resets(build, backend, changes):
    expected = assert_same(build(**changes), {"x": spikes((2, 20, 3))}, backend)
    assert expected.spikes("cells").any()


@pytest.mark.lava
def test_a_long_path_for_temporary_files_is_no_trouble(build, backend, monkeypatch, tmp_path):
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert_same(build(), {"x": spikes((1, 6, 3))}, backend)


@pytest.mark.lava
def test_names_may_hold_anything(build, backend):
    name = 'a\'"""\n\\`|` ${title} file:x'
    assert_same(build(name=name, reset="none"), {"x": spikes((1, 6, 3))}, backend)


@pytest.mark.lava
def test_nothing_to_run(build, backend):
    executable = backend.load(build(readout=True))
    trace = executable.run({"x": np.zeros((0, 5, 3), np.uint8)})
    assert trace.spikes("cells").shape == (0, 5, 3)
    trace = executable.run({"x": np.zeros((2, 0, 3), np.uint8)})
    assert trace["out", "voltage"].shape == (2, 0, 1)


@pytest.fixture
def folder(monkeypatch):
    """A short temporary folder to look for leftovers in: sockets need short paths."""
    with tempfile.TemporaryDirectory() as path:
        monkeypatch.setattr(tempfile, "tempdir", path)
        yield Path(path)


def shared_memory():
    """What Python's shared memory leaves where Linux shows it."""
    return set(Path("/dev/shm").glob("psm_*"))  # noqa: S108


def assert_no_more_shared_memory(before):
    deadline = time.monotonic() + 10
    while shared_memory() - before and time.monotonic() < deadline:
        time.sleep(0.2)  # it may be another test's, about to go
    assert shared_memory() - before == set()


def spoil(monkeypatch, old, new):
    """Have the emitted model do ``new`` where it does ``old``."""

    def spoiled(program, directory, *, own=()):
        emit(program, directory, own=own)
        models = directory / "spikec_processes" / "models.py"
        text = models.read_text()
        assert old in text
        models.write_text(text.replace(old, new))

    monkeypatch.setattr(run_module, "emit", spoiled)


def processes_that_mention(text):
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command = (path / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


@pytest.mark.lava
def test_an_exception_in_a_process_is_one_clear_error(build, backend, monkeypatch, folder):
    # Lava alone would wait for the lost process for ever.
    spoil(
        monkeypatch, "arriving = self.a_in.recv()", "raise ValueError('spoiled'); arriving = self"
    )
    started = time.monotonic()
    with pytest.raises(BackendError, match="ValueError: spoiled") as caught:
        backend.load(build(reset="subtract")).run({"x": spikes((2, 9, 3))})
    assert time.monotonic() - started < 30
    assert [item.code for item in caught.value.diagnostics] == ["B045"]
    assert caught.value.diagnostics[0].hint
    assert list(folder.iterdir()) == []
    assert processes_that_mention(str(folder)) == []


@pytest.mark.lava
def test_an_exception_while_building_is_one_clear_error(build, backend, monkeypatch):
    spoil(monkeypatch, 'self.spiking = proc_params["spiking"]', 'self.spiking = proc_params["no"]')
    with pytest.raises(BackendError, match="KeyError"):
        backend.load(build(reset="subtract")).run({"x": spikes((2, 9, 3))})


@pytest.mark.lava
def test_the_time_limit_ends_every_process(build, backend, monkeypatch, folder):
    spoil(
        monkeypatch, "arriving = self.a_in.recv()", "__import__('time').sleep(60); arriving = self"
    )
    before = shared_memory()
    started = time.monotonic()
    with pytest.raises(BackendError, match="no result within 4 s"):
        replace(backend, timeout=4).load(build(reset="subtract")).run({"x": spikes((2, 9, 3))})
    assert time.monotonic() - started < 20
    assert list(folder.iterdir()) == []
    assert processes_that_mention(str(folder)) == []
    assert_no_more_shared_memory(before)


@pytest.mark.lava
def test_an_interrupt_ends_every_process(build, backend, monkeypatch, folder):

    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(backend, batch=1).load(build()).run({"x": spikes((3, 9, 3))}, progress=interrupt)
    assert list(folder.iterdir()) == []
    assert processes_that_mention(str(folder)) == []


def by_hand(python, directory, *arguments):
    return subprocess.run(
        [python, str(directory / "network.py"), *arguments],
        capture_output=True, text=True, timeout=120, check=False, cwd=directory.parent,
    )  # fmt: skip


@pytest.mark.lava
def test_the_emitted_network_runs_by_hand(build, lava_python, tmp_path):
    program: Program = build(readout=True)
    emit(program, tmp_path / "net")
    inputs = {"x": spikes((3, 8, 3))}
    (tmp_path / "data.npz").write_bytes(npz_bytes(inputs))
    arguments = ("--input", "data.npz", "--output", "trace.npz", "--probe", "cells:voltage")
    result = by_hand(lava_python, tmp_path / "net", *arguments)
    assert result.returncode == 0, result.stderr
    probes = [("cells", "spikes"), ("cells", "voltage"), ("out", "voltage")]
    expected = golden.run(program, inputs, probes=probes)
    with np.load(tmp_path / "trace.npz") as trace:
        assert sorted(trace.files) == ["cells/spikes", "cells/voltage", "out/voltage"]
        for name, quantity in probes:
            np.testing.assert_array_equal(trace[f"{name}/{quantity}"], expected[name, quantity])
    # Running leaves the directory ours: it can be written again.
    emit(program, tmp_path / "net")


@pytest.mark.lava
@pytest.mark.parametrize("bias", [0, -7])
def test_a_stock_readout_is_asked_after_every_step(build, lava_python, tmp_path, bias):
    """What hardware does: the readout is Lava's own LIF, and Var.get reads its voltage."""
    program: Program = build(readout=True)
    cells, out = program.populations
    out = replace(out, bias_mant=np.array([bias]), start=2)
    program = replace(program, populations=(cells, out))
    emit(program, tmp_path / "net")
    inputs = {"x": spikes((2, 8, 3))}
    (tmp_path / "data.npz").write_bytes(npz_bytes(inputs))
    arguments = ("--input", "data.npz", "--output", "trace.npz", "--stepwise", "--batch", "1")
    result = by_hand(lava_python, tmp_path / "net", *arguments)
    assert result.returncode == 0, result.stderr
    expected = golden.run(program, inputs)
    assert expected["out", "voltage"].any()
    with np.load(tmp_path / "trace.npz") as trace:
        assert sorted(trace.files) == ["cells/spikes", "out/voltage"]
        np.testing.assert_array_equal(trace["out/voltage"], expected["out", "voltage"])


@pytest.mark.lava
def test_a_readout_at_its_highest_is_exact_on_the_stock_process(build, backend):
    """A current of 90 * 64 each step, and dv chosen so that v settles close to the threshold."""
    program = build(
        weights=((0, 60, 30),), weight_exp=9, vth=None, reset="none", du=4095, dv=1,
        reset_order="at_spike", start=1,
    )  # fmt: skip
    (cell,) = program.populations
    dv = next(
        dv for dv in range(1, 4096)
        if placement(replace(program, populations=(replace(cell, dv=np.array(dv)),)))[0].stock
    )  # fmt: skip
    program = replace(program, populations=(replace(cell, dv=np.array(dv)),))
    expected = assert_same(program, {"x": np.ones((1, 60, 3), np.uint8)}, backend)
    assert expected["cells", "voltage"].max() > 8_000_000


@pytest.mark.lava
def test_bad_data_by_hand_is_one_line(build, lava_python, tmp_path):
    emit(build(), tmp_path / "net")
    (tmp_path / "data.npz").write_bytes(npz_bytes({"y": spikes((3, 8, 3))}))
    result = by_hand(lava_python, tmp_path / "net", "--input", "data.npz", "--output", "t.npz")
    assert result.returncode != 0
    assert result.stderr.strip() == "data.npz holds y and no array for input x"


@pytest.mark.lava
def test_hardware_is_refused_unless_all_is_stock(build, lava_python, tmp_path):
    emit(build(reset="subtract"), tmp_path / "net")
    (tmp_path / "data.npz").write_bytes(npz_bytes({"x": spikes((1, 8, 3))}))
    arguments = ("--input", "data.npz", "--output", "trace.npz", "--hardware")
    result = by_hand(lava_python, tmp_path / "net", *arguments)
    assert result.returncode != 0
    assert "not on hardware" in result.stderr
    assert "cells" in result.stderr
    assert not (tmp_path / "trace.npz").exists()


@pytest.mark.lava
def test_the_tag_is_always_given(build, lava_python, tmp_path):
    # Without a tag Lava silently picks floating-point models.
    emit(build(), tmp_path / "net")
    code = "import runtime, json; print(json.dumps(runtime.run_configuration(False).select_tag))"
    result = subprocess.run(
        [lava_python, "-c", code], capture_output=True, text=True, cwd=tmp_path / "net", check=True
    )
    assert json.loads(result.stdout) == "fixed_pt"
