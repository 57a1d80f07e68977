"""Random sigma-delta networks, as programs: chains with loops, pictures and vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from spikec.compiler.arrays import Array, Shape, size
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.ir import SourceView
from spikec.compiler.operators import Conv2d, Dense, Weighted
from spikec.compiler.program import Connection, Program, ProgramInput
from spikec.compiler.sigma_delta import SigmaDelta

__all__ = ["random_encoders"]


def random_encoders(
    rng: np.random.Generator, *, driven: bool, wild: bool, samples: int, steps: int
) -> tuple[Program, dict[str, Array]]:
    """Return a network and integers for it.

    ``driven`` begins with a Delta, as netx's input layer does. ``wild`` values and exponents
    leave 24 bits, and 32 where Lava's sums are 32 bits wide.
    """
    shape: Shape = tuple(int(n) for n in (rng.integers(1, 4), *rng.integers(4, 7, 2)))
    if rng.random() < 0.3:
        shape = (int(rng.integers(2, 9)),)
    exponents = {
        "spike_exp": int(rng.integers(0, 13 if wild else 8)), "state_exp": int(rng.integers(0, 7)),
    }  # fmt: skip
    most = 1 << int(rng.integers(3, 15 if wild else 7))
    most = min(most, (1 << 31 - sum(exponents.values())) - 1)
    low = -most if driven or rng.random() < 0.9 else 0
    entry = ProgramInput(name="in", shape=shape, kind="graded", low=low, high=most)
    begin = int(driven)
    view = SourceView(lag=begin, current_lag=begin)
    populations: list[SigmaDelta] = []
    links: list[Connection] = []

    def add(
        name: str, shape: Shape, operators: list[tuple[str, Weighted, int]], **fields: Any
    ) -> None:
        fields |= {"start": begin, "view": view, "message_bits": int(rng.integers(8, 25))}
        populations.append(SigmaDelta(name=name, shape=shape, **fields))
        for source, operator, delay in operators:
            links.extend(connections(source=source, target=name, operator=operator, delay=delay))

    def threshold() -> int:
        return int(rng.choice([0, 1, rng.integers(0, max(2, most))]))

    source = "in"
    if driven:
        eye: Weighted = Dense(weight=np.eye(size(shape), dtype=np.int64))
        if len(shape) == 3:
            eye = Conv2d(weight=np.ones((shape[0], 1, 1, 1), np.int64), groups=shape[0])
        add("p0", shape, [("in", eye, 1)], encoding="delta", vth=threshold(), **exponents)
        source = "p0"
    for index in range(1, int(rng.integers(2, 5))):
        name = f"p{index}"
        operator, target = _operator(rng, shape, 120 if wild else 20)
        convolves = isinstance(operator, Conv2d)  # late, it is no Conv of Lava: seldom
        late = convolves and index == 2 and not wild
        arriving = [(source, operator, 1 if convolves and not late else _delay(rng))]
        if len(target) == 1 and rng.random() < 0.4:
            loop = rng.integers(-3, 4, (target[0], target[0]))
            arriving.append((name, Dense(weight=loop), _delay(rng)))
        bias = (
            rng.integers(-most, most + 1, target) if rng.random() < 0.7 else np.zeros(target, int)
        )
        add(
            name, target, arriving, encoding="sigma_delta", vth=threshold(), bias=bias,
            activation=str(rng.choice(["relu", "unit"])), **exponents,
        )  # fmt: skip
        source, shape = name, target
    if rng.random() < 0.7:
        weight = rng.integers(-9, 10, (3, size(shape)))
        add("out", (3,), [(source, Dense(weight=weight), 1)], encoding="sigma", vth=None)
    program = Program(
        target="loihi2", inputs=(entry,), populations=tuple(populations),
        connections=tuple(links), outputs=(populations[-1].name,),
    )  # fmt: skip
    values = rng.integers(low, most + 1, (samples, steps, *entry.shape))
    held = np.where(rng.random(values.shape) < 0.5, values, values[:, :1])
    return program, {"in": held}


def _delay(rng: np.random.Generator) -> int:
    return int(rng.integers(1, 4)) if rng.random() < 0.3 else 1


def _operator(rng: np.random.Generator, shape: Shape, most: int) -> tuple[Weighted, Shape]:
    if len(shape) == 3 and rng.random() < 0.7:
        groups = shape[0] if rng.random() < 0.3 else 1
        extents = np.minimum(rng.integers(1, 4, 2), shape[1:])
        kernel = (groups * int(rng.integers(1, 3)), shape[0] // groups, *extents)
        fits = 2 * kernel[3] - 1 <= shape[2]
        convolution = Conv2d(
            weight=rng.integers(-most, most + 1, kernel),
            stride=(int(rng.integers(1, 3)), int(rng.integers(1, 3))),
            padding=(int(rng.integers(0, 2)), int(rng.integers(0, 2))),
            dilation=(1, int(rng.integers(1, 3)) if fits and kernel[3] < 3 else 1),
            groups=groups,
        )
        return convolution, convolution.output_shape(shape)
    target = int(rng.integers(1, 8))
    return Dense(weight=rng.integers(-40, 41, (target, size(shape)))), (target,)
