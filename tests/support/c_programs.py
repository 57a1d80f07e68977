"""Run an emitted C package on a program's inputs, through its own ``main.c``."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spikec.backends.c.compiler import find
from spikec.backends.c.emit import emit
from spikec.compiler.arrays import Array
from spikec.compiler.inputs import to_integers
from spikec.compiler.program import Neurons, Program
from spikec.compiler.trace import QUANTITIES, Quantity

__all__ = ["STRICT", "build", "events_text", "run_package", "shifted"]

#: The promise: no warning under any of these.
STRICT = (
    "-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wsign-conversion", "-pedantic", "-Werror",
)  # fmt: skip

_EVENTS = {
    "wrapped": "current wrapped",
    "saturated": "voltage saturated",
    "clipped": "input clipped",
}


def build(program: Program, folder: Path, *flags: str, command: Sequence[str] = ()) -> Path:
    """Emit ``program`` to ``folder``, compile it without a warning, return the executable."""
    emit(program, folder)
    executable = folder.with_suffix(".run")
    result = subprocess.run(
        [*(command or find().command), *STRICT, "-O1", "-DSPK_COUNT_EVENTS", *flags,
         "network.c", "main.c", "-o", str(executable)],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return executable


def events_text(integers: Mapping[str, Array], extra: int) -> str:
    """Return all samples as the lines that ``main.c`` reads."""
    samples, steps = next(iter(integers.values())).shape[:2]
    lines: list[str] = []
    for sample in range(samples):
        lines += ["reset"] if sample else []
        for step in range(steps):
            for name, values in integers.items():
                flat = values[sample, step].reshape(-1)
                lines += [f"{name} {index} {flat[index]}" for index in np.flatnonzero(flat)]
            lines.append("step 1")
        lines += [f"step {extra}"] if extra else []
    return "\n".join(lines) + "\n"


def run_package(
    program: Program, inputs: Mapping[str, Array], folder: Path, *flags: str
) -> tuple[dict[tuple[str, Quantity], Array], dict[str, int]]:
    """Return every record, ``[sample, step, neuron]`` with lags undone, and the events."""
    executable = build(program, folder, *flags)
    integers, clipped = to_integers(program, inputs)
    samples, steps = next(iter(integers.values())).shape[:2]
    views = [item.view for item in program.populations]
    extra = max([0, *(max(view.lag, view.current_lag) for view in views)])
    names = json.loads((folder / "manifest.json").read_text())["names"]
    idents = {name: ident for ident, name in names.items()}
    text = events_text({idents[name]: values for name, values in integers.items()}, extra)
    result = subprocess.run(
        [executable, "--states"], input=text, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    raw = {
        (item.name, quantity): np.zeros((samples, steps + extra, item.num_neurons), np.int64)
        for item in program.populations
        for quantity in QUANTITIES
    }
    events = _read(result.stdout, raw, names)
    values = {
        (item.name, quantity): shifted(raw[item.name, quantity], item, quantity, steps)
        for item in program.populations
        for quantity in QUANTITIES
    }
    return values, {**clipped, **events}


def _read(
    text: str, raw: Mapping[tuple[str, Quantity], Array], names: Mapping[str, str]
) -> dict[str, int]:
    events: dict[str, int] = {}
    sample = 0
    for line in text.splitlines():
        words = line.split()
        if words[0] == "reset":
            sample += 1
        elif words[0] == "#":
            ident, _, what = words[1].rpartition("_")
            key = f"{names[ident]}/{_EVENTS[what]}"
            events[key] = events.get(key, 0) + int(words[2])
        else:
            step, name, neuron = int(words[0]), names[words[1]], int(words[2])
            if words[3] == "v":
                raw[name, "voltage"][sample, step, neuron] = int(words[4])
                raw[name, "current"][sample, step, neuron] = int(words[6])
            else:
                raw[name, "spikes"][sample, step, neuron] = int(words[3])
    return events


def shifted(raw: Array, neurons: Neurons, quantity: Quantity, steps: int) -> Array:
    """Undo a lag; steps before the first one show the initial state."""
    lag = neurons.view.current_lag if quantity == "current" else neurons.view.lag
    initial = {
        "spikes": np.zeros(neurons.num_neurons, np.int64),
        "voltage": neurons.initial_voltage.reshape(-1),
        "current": neurons.initial_current.reshape(-1),
    }[quantity]
    rows = [raw[:, n + lag] if n + lag >= 0 else raw[:, 0] * 0 + initial for n in range(steps)]
    return np.stack(rows, axis=1)
