"""Sigma-delta populations in Lava: stock processes, laid out in time as netx lays them out.

Lava's processes start at the first step, all together, and its Delta takes values straight
from a source. A program whose populations all start one step later, because its input takes
a step to reach them, is therefore run one step ahead: Lava's step j is the program's step
``j + ahead``, and the identity that brings the input is no process at all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from spikec.compiler.bounds import reach
from spikec.compiler.convolutions import is_cut
from spikec.compiler.errors import Diagnostic
from spikec.compiler.operators import Conv2d, Dense
from spikec.compiler.program import Connection, Neurons, Program
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import SigmaDelta

__all__ = ["LARGEST_GROUPS", "ahead", "carried_by_conv", "encoder_refusals", "goes_straight"]

#: The largest number of 32 bits.
_MOST = (1 << 31) - 1
#: Lava keeps a convolution's groups and extents in eight bits.
LARGEST_GROUPS = 127


def ahead(program: Program) -> int:
    """Return by how many steps Lava runs ahead of ``program``: 1 if all starts with netx's Delta.

    Programs without sigma-delta neurons are never run ahead.
    """
    if not all(isinstance(item, SigmaDelta) and item.start == 1 for item in program.populations):
        return 0
    inputs = {item.name for item in program.inputs}
    entering = [item for item in program.connections if item.source in inputs]
    return int(all(_is_identity(item) and item.delay == 1 for item in entering))


def goes_straight(program: Program, connection: Connection) -> bool:
    """Say whether ``connection`` is no process: values enter a population as they are."""
    return bool(ahead(program)) and connection.source in {item.name for item in program.inputs}


def carried_by_conv(program: Program, connection: Connection) -> bool:
    """Say whether Lava's Conv carries ``connection``: it cuts sums to 24 bits, as they must be."""
    return is_cut(program, connection) and not goes_straight(program, connection)


def encoder_refusals(program: Program) -> Iterator[Diagnostic]:
    """Yield what Lava's sigma-delta processes cannot do."""
    early = ahead(program)
    for item in program.populations:
        if not isinstance(item, Neurons) and item.start != early:
            yield Diagnostic(
                code="B047",
                where=f"population '{item.name}'",
                message=f"it starts at step {item.start}; Lava's processes for it start with "
                "the first step, all together",
                hint="run it with --backend simulator",
            )
        if isinstance(item, Resonator):
            yield from _resonator_refusal(program, item)
    for connection in program.connections:
        if carried_by_conv(program, connection):
            yield from _conv_refusal(connection)


def _resonator_refusal(program: Program, item: Resonator) -> Iterator[Diagnostic]:
    """Lava's RF shifts what arrives in 32 bits, which wrap, before it saturates."""
    for imaginary in (False, True):
        arriving = [
            reach(program, one)
            for one in program.connections_into(item.name)
            if (one.name in item.imaginary) == imaginary
        ]
        most = int(np.max(np.sum(arriving, axis=0), initial=0)) << item.state_exp
        if most > _MOST:
            yield Diagnostic(
                code="B047",
                where=f"population '{item.name}'",
                message=f"its {'imaginary' if imaginary else 'real'} input can reach {most}: "
                "Lava's process for it wraps beyond 32 bits",
                hint="narrow the input (--input-bits), or run it with --backend simulator",
            )


def _conv_refusal(connection: Connection) -> Iterator[Diagnostic]:
    operator = connection.operator
    assert isinstance(operator, Conv2d)
    extents = (
        *operator.stride, *operator.padding, *operator.dilation, *operator.weight.shape[2:],
    )  # fmt: skip
    if max(extents) > LARGEST_GROUPS:
        yield Diagnostic(
            code="B047",
            where=f"connection '{connection.name}'",
            message=f"a stride, padding, dilation or kernel of {max(extents)}: Lava's Conv keeps "
            "them in eight bits",
            hint="run it with --backend simulator",
        )


def _is_identity(connection: Connection) -> bool:
    operator, weight = connection.operator, connection.operator.weight
    if connection.weight_exp:
        return False
    if isinstance(operator, Conv2d):
        plain = (operator.stride, operator.padding) == ((1, 1), (0, 0))
        each = weight.shape == (operator.groups, 1, 1, 1)
        return plain and each and bool((weight == 1).all())
    square = isinstance(operator, Dense) and weight.shape[0] == weight.shape[1]
    ones = square and bool((np.diagonal(weight) == 1).all())
    return ones and np.count_nonzero(weight) == len(weight)
