"""Runs SANA-FE in a Python that has it, as a program of its own, and reads what it wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spikec.backends.child import ChildFailedError, run_child
from spikec.backends.sanafe.emit import emit
from spikec.compiler.arrays import Array
from spikec.compiler.errors import BackendError, Diagnostic
from spikec.compiler.inputs import to_integers
from spikec.compiler.program import Program
from spikec.compiler.temporary import temporary_folder

__all__ = ["Simulated", "simulate"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Simulated:
    """What SANA-FE gave: means of a step in joules and seconds, and spikes in trace order.

    ``differences`` says why spikes may differ from the program's.
    """

    energy: float
    time: float
    parts: Mapping[str, float]
    spikes: Mapping[str, Array]
    differences: tuple[str, ...]


def simulate(
    program: Program, inputs: Mapping[str, Array], *, python: str, timeout: float
) -> Simulated:
    """Run the mapped ``program`` on ``inputs``, ``[sample, step, *shape]`` per input name.

    Raises :class:`BackendError` for what SANA-FE cannot express, and where it fails.
    """
    integers, _ = to_integers(program, inputs)
    late = max([0, *(item.view.lag for item in program.populations)])
    with temporary_folder(Path(tempfile.gettempdir())) as folder:
        said = emit(program, folder / "network")
        np.savez(folder / "data.npz", **_shifted(program, integers))  # type: ignore[arg-type]
        command = [python, str(folder / "network" / "simulate.py"), "--extra-steps", str(late + 1),
                   "--input", str(folder / "data.npz"),
                   "--output", str(folder / "result.npz")]  # fmt: skip
        try:
            run_child(command, errors=folder / "stderr.txt", timeout=timeout)
        except (ChildFailedError, OSError) as error:
            raise _failed(python, str(error).splitlines()[-1]) from error
        with np.load(folder / "result.npz") as result:
            values = {key: result[key] for key in result.files}
    steps = next(iter(integers.values())).shape[1]
    simulated = steps + late + 1
    spikes = {}
    for item in program.populations:
        if item.vth is not None:
            ours = np.pad(values[f"{item.name}/spikes"], ((0, 0), (1, 0), (0, 0)))
            first = 1 + item.view.lag
            spikes[item.name] = ours[:, first : first + steps].reshape(-1, steps, *item.shape)
    parts = {
        key.removeprefix("energy/"): float(value.mean()) / simulated
        for key, value in values.items()
        if key.startswith("energy/")
    }
    return Simulated(
        energy=parts.pop("total"),
        time=float(values["time"].mean()) / simulated,
        parts=parts,
        spikes=spikes,
        differences=said,
    )


def _shifted(program: Program, integers: Mapping[str, Array]) -> dict[str, Array]:
    """Delay the inputs that enter later."""
    most = max(item.shift for item in program.inputs)
    shifted = {}
    for item in program.inputs:
        steps = ((0, 0), (item.shift, most - item.shift), *((0, 0) for _ in item.shape))
        shifted[item.name] = np.pad(integers[item.name], steps)
    return shifted


def _failed(python: str, message: str) -> BackendError:
    return BackendError(
        Diagnostic(
            code="B071",
            where=f"SANA-FE under {python}",
            message=message,
            hint="name a Python that has 'sanafe' and 'numpy' installed",
        )
    )
