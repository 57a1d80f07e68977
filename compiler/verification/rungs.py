"""The rungs of the ladder: each a way to run the same network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from spikec.compiler import reference
from spikec.compiler.arrays import Array, frozen
from spikec.compiler.backend import Executable
from spikec.compiler.fixedpoint import VTH_SHIFT
from spikec.compiler.inputs import to_integers
from spikec.compiler.ir import LIF, Graph
from spikec.compiler.program import Neurons, Program
from spikec.compiler.quantize.dequantize import dequantize
from spikec.compiler.trace import Probe, Trace

__all__ = ["Scale", "Way", "build_ways", "float_scales", "has_encoders", "integer_scales"]

#: Runs inputs and records probes.
Run = Callable[[Mapping[str, Array], Sequence[Probe]], Trace]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale:
    """What a voltage of one population is worth: ``offset + unit * v`` source volts."""

    unit: float = 1.0
    offset: Array = field(default_factory=lambda: frozen(0.0))
    vth: Array | None = None

    def volts(self, values: Array) -> Array:
        """Return voltages in the source's units."""
        result: Array = self.offset + self.unit * values
        return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Way:
    """One rung: how to run it, and the rung below that it is compared with.

    ``must_agree`` marks a rung that differs from the one below only by a bug;
    ``most_samples`` bounds a slow one.
    """

    name: str
    meaning: str
    run: Run
    scales: Mapping[str, Scale]
    below: str | None
    must_agree: bool = False
    most_samples: int | None = None


def build_ways(
    program: Program,
    graph: Graph | None,
    golden: Executable,
    backends: Mapping[str, Executable],
    backend_samples: Mapping[str, int],
) -> list[Way]:
    """Return the rungs from the float reference up.

    Without ``graph`` they start at Q; with sigma-delta neurons, which have no float rung, at I.
    """
    scales = integer_scales(program)
    ways = [] if graph is None else [_float_way(graph)]
    if not has_encoders(program):
        ways.append(
            Way(
                name="Q",
                meaning="quantized parameters in float",
                run=_quantized_run(program),
                scales=scales,
                below=ways[-1].name if ways else None,
            )
        )
    ways.append(
        Way(
            name="I",
            meaning="integers: the chip model",
            run=_executable_run(golden),
            scales=scales,
            below=ways[-1].name if ways else None,
        )
    )
    ways += [
        Way(
            name=name,
            meaning=f"backend '{name}'",
            run=_executable_run(executable),
            scales=scales,
            below="I",
            must_agree=True,
            most_samples=backend_samples.get(name),
        )
        for name, executable in backends.items()
    ]
    return ways


def has_encoders(program: Program) -> bool:
    """Say whether ``program`` has sigma-delta or resonate-and-fire neurons."""
    return not all(isinstance(item, Neurons) for item in program.populations)


def _float_way(graph: Graph) -> Way:
    def run(inputs: Mapping[str, Array], probes: Sequence[Probe]) -> Trace:
        return reference.run(graph, inputs, probes=probes)

    return Way(name="F", meaning="float reference", run=run, scales=float_scales(graph), below=None)


def _quantized_run(program: Program) -> Run:
    quantized = dequantize(program)

    def run(inputs: Mapping[str, Array], probes: Sequence[Probe]) -> Trace:
        return reference.run(quantized, to_integers(program, inputs)[0], probes=probes)

    return run


def _executable_run(executable: Executable) -> Run:
    def run(inputs: Mapping[str, Array], probes: Sequence[Probe]) -> Trace:
        return executable.run(inputs, probes=probes)

    return run


def float_scales(graph: Graph) -> dict[str, Scale]:
    """Return the scales of a float run, whose voltages are the source's."""
    return {
        node.name: Scale(vth=node.vth + node.view.voltage_offset if isinstance(node, LIF) else None)
        for node in graph.populations
    }


def integer_scales(program: Program) -> dict[str, Scale]:
    """Return the scales of a program's integers; of other neurons no threshold is compared."""
    return {
        item.name: Scale(
            unit=item.lsb,
            offset=item.view.voltage_offset,
            vth=None
            if not isinstance(item, Neurons) or item.vth is None
            else item.vth.astype(np.float64) * (1 << VTH_SHIFT),
        )
        for item in program.populations
    }
