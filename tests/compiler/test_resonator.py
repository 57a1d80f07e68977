"""Resonators in programs: the rules they obey, and that files keep them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikec.backends import open_backend
from spikec.backends.simulator import golden
from spikec.compiler.errors import BackendError, GraphError
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.operators import Dense
from spikec.compiler.program import Program, ProgramInput
from spikec.compiler.program_file import read_program, write_program
from spikec.compiler.resonator import Resonator


def program(**fields: Any) -> Program:
    links = [
        replace(one, name=part)
        for part, weight in (("real", [[30, -40], [4, 6]]), ("imag", [[-70, 80], [8, 80]]))
        for one in connections(
            source="in", target="n", operator=Dense(weight=np.array(weight)), delay=1
        )
    ]
    good = {"resonance": "phase", "sin_decay": 2103, "cos_decay": 3273, "vth": 320}
    neurons = Resonator(name="n", shape=(2,), **{**good, "imaginary": ("imag",), **fields})
    return Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=(2,), kind="binary", low=0, high=1),),
        populations=(neurons,),
        connections=tuple(links),
        outputs=("n",),
    )


def test_one_neuron_by_hand() -> None:
    """A quarter turn a step, without decay: (30, -70) << 6 turns to (70, 30) << 6 and spikes."""
    found = golden.run(
        program(sin_decay=4096, cos_decay=0),
        {"in": np.array([[[1, 0], [0, 0], [0, 0], [0, 0]]])},
        probes=[("n", "voltage"), ("n", "current"), ("n", "spikes")],
    )
    turning = [[0, 0], [30, -70], [70, 30], [-30, 70]]
    states = np.stack([found["n", "voltage"][0, :, 0], found["n", "current"][0, :, 0]], axis=1)
    np.testing.assert_array_equal(states, np.array(turning) << 6)
    np.testing.assert_array_equal(found.spikes("n")[0, :, 0], [0, 0, 1, 0])


def test_a_neuron_of_izhikevich_resets() -> None:
    found = golden.run(
        program(sin_decay=0, cos_decay=4096, resonance="izhikevich", vth=70 << 6),
        {"in": np.array([[[0, 1], [0, 0]]])},
        probes=[("n", "voltage"), ("n", "current")],
    )
    np.testing.assert_array_equal(found["n", "voltage"][0, 1], [0, 0])
    np.testing.assert_array_equal(found["n", "current"][0, 1], [(70 << 6) - 1] * 2)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"vth": 0}, "vth is 0"),
        ({"sin_decay": 4097}, "leaves"),
        ({"resonance": "other"}, "unknown"),
        ({"state_exp": 16}, "not 0..15"),
        ({"imaginary": ("imag", "none")}, "imaginary names none"),
    ],
)
def test_rules(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(GraphError, match=text):
        program(**fields)


def test_connections_have_names_of_their_own() -> None:
    good = program()
    twice = [replace(item, name="one") for item in good.connections]
    with pytest.raises(GraphError, match="P010 at connection 'one'"):
        replace(good, connections=tuple(twice))


def test_files_keep_them(tmp_path: Path) -> None:
    write_program(program(state_exp=5), tmp_path / "a.spk")
    again = read_program(tmp_path / "a.spk")
    (item,) = again.populations
    assert isinstance(item, Resonator)
    assert (item.imaginary, item.state_exp, item.resonance) == (("imag",), 5, "phase")
    write_program(again, tmp_path / "b.spk")
    assert (tmp_path / "a.spk").read_bytes() == (tmp_path / "b.spk").read_bytes()


def test_lava_refuses_those_that_start_late() -> None:
    (refused,) = open_backend("lava").check(program(start=2))
    assert (refused.code, refused.where) == ("B047", "population 'n'")
    assert not open_backend("lava").check(program())
    with pytest.raises(BackendError, match="starts at step 2"):
        open_backend("lava").load(program(start=2))
