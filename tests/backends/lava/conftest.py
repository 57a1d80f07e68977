"""Small programs and the interpreter that has Lava."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spikec.backends.lava.environment import search
from spikec.backends.lava.run import LavaBackend
from spikec.compiler.operators import Dense
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput


@pytest.fixture(scope="session")
def lava_python() -> Path:
    """Fail, never skip: what is not run is not known."""
    result = search()
    if result.found is None:
        pytest.fail(
            "no Python with Lava; run 'spikec setup-lava'. Tried: " + "; ".join(result.tried)
        )
    return result.found.path


@pytest.fixture
def backend(lava_python: Path) -> LavaBackend:
    return LavaBackend(python=str(lava_python), timeout=120)


@pytest.fixture(scope="session")
def build() -> Callable[..., Program]:
    return program


def program(
    *,
    weights: object = ((60, 80, -40), (-20, 100, 30), (90, 90, 90)),
    delay: int = 1,
    weight_exp: int = 3,
    name: str = "cells",
    kind: str = "binary",
    high: int = 1,
    readout: bool = False,
    **changes: object,
) -> Program:
    """One population behind one input; by default hard-reset neurons that stock LIF can run."""
    matrix = np.array(weights)
    neurons: dict[str, object] = {
        "du": 400,
        "dv": 100,
        "vth": 500,
        "reset": "zero",
        "reset_order": "at_spike",
    }
    populations = [Neurons(name=name, shape=(len(matrix),), **(neurons | changes))]  # type: ignore[arg-type]
    connections = [
        Connection(
            name="w",
            source="x",
            target=name,
            operator=Dense(weight=matrix // 2 * 2),
            weight_exp=weight_exp,
            num_weight_bits=8,
            sign_mode="mixed",
            delay=delay,
        )
    ]
    if readout:
        populations.append(
            Neurons(
                name="out",
                shape=(1,),
                du=4095,
                dv=30,
                vth=None,
                reset="none",
                reset_order="at_spike",
                start=1,
            )
        )
        connections.append(
            Connection(
                name="v",
                source=name,
                target="out",
                operator=Dense(weight=np.full((1, len(matrix)), 17)),
                weight_exp=0,
                num_weight_bits=8,
                sign_mode="excitatory",
                delay=2,
            )
        )
    return Program(
        target="loihi",
        inputs=(
            ProgramInput(name="x", shape=(matrix.shape[1],), kind=kind, low=0, high=high),  # type: ignore[arg-type]
        ),
        populations=tuple(populations),
        connections=tuple(connections),
        outputs=(populations[-1].name,),
    )
