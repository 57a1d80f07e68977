"""SANA-FE: what is written, what is refused, and the same spikes where it computes the same.

``SPIKEC_SANAFE_PYTHON`` names a Python that has it; without one, nothing is run.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_programs import random_inputs, random_program

from spikec.backends import open_backend
from spikec.backends.sanafe.emit import check, differences, emit
from spikec.backends.sanafe.run import simulate
from spikec.compiler.errors import BackendError, MappingError
from spikec.compiler.mapping.mapper import map_program
from spikec.compiler.operators import Conv2d, Sparse
from spikec.compiler.program import Program
from spikec.compiler.targets import load_target

LOIHI1 = load_target("loihi1")
assert LOIHI1.cores is not None
#: Loihi with small cores, so that small networks take several.
SMALL = replace(LOIHI1, cores=replace(LOIHI1.cores, neurons=4))
PYTHON = os.environ.get("SPIKEC_SANAFE_PYTHON", "")


def drawn(seed: int, **limits: Any) -> Program:
    """Draw a program that SANA-FE's neurons can be, mapped."""
    rng = np.random.default_rng(seed)
    program = random_program(
        rng, kinds=("binary",), several=(1,), floor=False, max_refractory=0, max_delay=1,
        initial_state=False, start=False, drops_input=False, reset_value=False,
        **{"resets": (("zero", "at_spike"), ("value", "at_spike")), "max_neurons": 8, **limits},
    )  # fmt: skip
    plain = tuple(replace(item, du=4095, reset_twice=False) for item in program.populations)
    return map_program(replace(program, populations=plain), SMALL).program


def programs(count: int) -> list[tuple[int, Program]]:
    found: list[tuple[int, Program]] = []
    seed = 0
    while len(found) < count:
        with suppress(MappingError):  # some fit no core
            found.append((seed, drawn(seed)))
        seed += 1
    return found


def test_the_folder_holds_the_network_on_its_cores(tmp_path: Path) -> None:
    for seed, program in programs(20):
        assert not check(program)
        assert emit(program, tmp_path / str(seed)) == ()
        network = json.loads((tmp_path / str(seed) / "network.json").read_text(encoding="utf-8"))
        core_map = program.core_map
        assert core_map is not None
        with np.load(tmp_path / str(seed) / "parameters.npz") as arrays:
            for index, (item, cores) in enumerate(
                zip(program.populations, core_map.cores, strict=True)
            ):
                np.testing.assert_array_equal(
                    arrays[f"p{index}/core"], core_map.sites[cores.reshape(-1)]
                )
                leaks = (4096 - item.dv.reshape(-1)) / 4096
                np.testing.assert_array_equal(arrays[f"p{index}/leak_decay"], leaks)
            for index, connection in enumerate(program.connections):
                shapes = {item.name: item.shape for item in program.inputs}
                shapes |= {item.name: item.shape for item in program.populations}
                sent = np.random.default_rng(0).random((1, *shapes[connection.source]))
                matrix = np.zeros((np.prod(shapes[connection.target], dtype=int), sent.size))
                source, target = arrays[f"c{index}/source"], arrays[f"c{index}/target"]
                matrix[target, source] = arrays[f"c{index}/weight"]
                weight = connection.effective.weight.astype(np.float64)
                operator = replace(connection.effective, weight=weight)
                np.testing.assert_allclose(
                    matrix @ sent.reshape(-1), operator.apply(sent).reshape(-1)
                )
        used = set(core_map.sites.tolist())
        assert used.isdisjoint(network["input_cores"])
        assert len(used) + len(network["input_cores"]) == 128
    kinds = {type(item.operator) for _, program in programs(20) for item in program.connections}
    assert kinds >= {Conv2d, Sparse}


@pytest.mark.skipif(
    not Path(PYTHON).is_file(), reason="SPIKEC_SANAFE_PYTHON names no Python with SANA-FE"
)
def test_its_spikes_are_ours_where_it_computes_the_same() -> None:
    spikes = 0
    for seed, program in programs(5):
        data = random_inputs(program, np.random.default_rng(seed), 1, 40)
        theirs = simulate(program, data, python=PYTHON, timeout=60)
        assert theirs.differences == ()
        assert theirs.energy > 0
        assert theirs.time > 0
        with open_backend("simulator", engine="golden").load(program) as chip:
            ours = chip.run(data)
        for name, values in theirs.spikes.items():
            np.testing.assert_array_equal(values, ours.spikes(name), err_msg=f"{seed} {name}")
            spikes += int(values.sum())
    assert spikes > 20


def graded() -> Program:
    program = drawn(0)
    first, *rest = program.inputs
    return replace(program, inputs=(replace(first, kind="graded", high=9), *rest))


def some(**fields: Any) -> Program:
    program = drawn(0)
    first, *rest = program.populations
    return replace(program, populations=(replace(first, **fields), *rest))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (lambda: replace(drawn(0), core_map=None), "no mapping to cores"),
        (lambda: map_program(drawn(0), SMALL, chips=2).program, "not for one chip"),
        (lambda: some(refractory=2), "2 refractory steps"),
        (lambda: some(start=3), "waits until step 3"),
        (lambda: some(initial_current=7), "starts from another state"),
        (graded, "not binary"),
    ],
)
def test_what_it_cannot_express_is_refused(program: Any, message: str, tmp_path: Path) -> None:
    built = program()
    with pytest.raises(BackendError, match=f"B070.*{message}"):
        emit(built, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_delays_are_refused() -> None:
    program = drawn(0)
    later = tuple(replace(item, delay=2) for item in program.connections)
    codes = [item.code for item in check(replace(program, connections=later))]
    assert codes == ["B070"] * len(later)


def test_what_differs_is_said() -> None:
    assert differences(drawn(0)) == ()
    (said,) = differences(some(du=100))
    assert "not cut to whole units" in said
    soft = some(reset="subtract", reset_order="next_step", reset_value=None)
    assert any("taken off at the spike" in item for item in differences(soft))


def test_a_python_without_it_is_named() -> None:
    program = drawn(0)
    data = random_inputs(program, np.random.default_rng(0), 1, 3)
    with pytest.raises(BackendError, match=r"B071.*nowhere"):
        simulate(program, data, python="/nowhere/python", timeout=10)
