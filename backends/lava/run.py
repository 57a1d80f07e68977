"""Run a program on lava-nc in a child process, and read the trace as every backend gives it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from spikec.backends.child import ChildFailedError, run_child
from spikec.backends.lava.emit import emit
from spikec.backends.lava.encoders import (
    LARGEST_GROUPS,
    ahead,
    carried_by_conv,
    encoder_refusals,
    goes_straight,
)
from spikec.backends.lava.environment import LavaPython, child_environment, require
from spikec.backends.lava.placement import edge_refusal
from spikec.compiler.arrays import Array, Shape
from spikec.compiler.backend import Progress
from spikec.compiler.bounds import refused_sums
from spikec.compiler.errors import BackendError, Diagnostic, raise_if_any
from spikec.compiler.inputs import to_integers
from spikec.compiler.npz import npz_bytes, read_npz
from spikec.compiler.operators import Conv2d
from spikec.compiler.program import Connection, Neurons, Populated, Program, ProgramInput
from spikec.compiler.sigma_delta import SigmaDelta
from spikec.compiler.temporary import temporary_folder
from spikec.compiler.trace import Probe, Quantity, Trace, check_probes

__all__ = ["LavaBackend", "LavaExecutable", "aligned"]

#: Graded spikes have 24 bits, with sign.
MAX_MESSAGE = (1 << 23) - 1
#: Non-zero weights that may lie side by side in one run: more is slower and takes more memory.
MAX_WEIGHTS = 1_500_000

_DTYPES: dict[Quantity, type[np.generic]] = {
    "spikes": np.uint8,
    "voltage": np.int64,
    "current": np.int64,
}


@dataclass(frozen=True, kw_only=True)
class LavaBackend:
    """Runs programs on lava-nc 0.10.0, bit for bit what the simulator's ``golden`` gives.

    ``python`` names an interpreter that has Lava (see
    :mod:`spikec.backends.lava.environment`), ``timeout`` is the seconds that one
    batch may take, ``batch`` the samples that run side by side: by default as
    many as stay small in memory; 1 uses the processes of the chip. Graded processes
    keep no currents, and voltages of readouts only: our model stands in where others are probed.
    """

    python: str | None = None
    timeout: float = 600
    batch: int | None = None

    name = "lava"

    def check(self, program: Program) -> Sequence[Diagnostic]:
        """Return what Lava cannot do with ``program``; it can run every neuron model."""
        shapes = {item.name: item.shape for item in program.inputs}
        shapes |= {item.name: item.shape for item in program.populations}
        findings = [
            *(edge_refusal(item) for item in program.connections),
            *encoder_refusals(program),
            *refused_sums(program),
            *(_check_message(item) for item in program.inputs),
            *(_check_shape(name, shape) for name, shape in shapes.items()),
        ]
        return [finding for finding in findings if finding is not None]

    def load(self, program: Program) -> LavaExecutable:
        """Return ``program`` ready to run.

        Raises :class:`BackendError` with what :meth:`check` finds, or when there
        is no Python with Lava.
        """
        raise_if_any(BackendError, self.check(program))
        return LavaExecutable(
            program=program,
            python=require(self.python),
            timeout=self.timeout,
            batch=min(self.batch or default_batch(program), _most_side_by_side(program)),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class LavaExecutable:
    """A program with the interpreter that runs it; each run is a fresh child process."""

    program: Program
    python: LavaPython
    timeout: float
    batch: int

    def run(
        self,
        inputs: Mapping[str, Array],
        *,
        probes: Sequence[Probe] = (),
        progress: Progress | None = None,
    ) -> Trace:
        """Run ``inputs``, ``[sample, step, *shape]`` per input name, each sample from its start.

        Records all spikes, the voltage of readouts, and ``probes``. ``events``
        counts clipped inputs; Lava does not tell when a current wraps or a voltage
        saturates. Raises :class:`BackendError` with the child's own words when
        it fails or takes too long.
        """
        check_probes(probes, [item.name for item in self.program.populations])
        integers, events = to_integers(self.program, inputs)
        wanted = list(dict.fromkeys([*self.program.default_probes, *probes]))
        samples, steps = next(iter(integers.values())).shape[:2]
        early = ahead(self.program)
        views = {
            probe: _lag(self.program.population(probe[0]), probe[1]) - early for probe in wanted
        }
        raw_steps = steps + max([0, *views.values()])
        if samples == 0 or raw_steps == 0:
            raw = _Raw({}, samples=samples, steps=raw_steps)
        else:
            raw = _Raw(
                self._run_child(integers, wanted, raw_steps, progress),
                samples=samples,
                steps=raw_steps,
            )
        values = {
            probe: aligned(
                raw.get(self.program.population(probe[0]), probe[1]),
                initial=_initial(self.program.population(probe[0]), probe[1]),
                lag=lag,
                steps=steps,
            )
            for probe, lag in views.items()
        }
        return Trace(values=values, outputs=self.program.outputs, events=events)

    def _run_child(
        self,
        integers: Mapping[str, Array],
        probes: Sequence[Probe],
        steps: int,
        progress: Progress | None,
    ) -> dict[str, Array]:
        """Return ``name/quantity`` -> raw ``[sample, step, *shape]`` from one child."""
        with temporary_folder(_short_folder()) as home:
            own = [name for name, quantity in probes if self._lacks(name, quantity)]
            emit(self.program, home / "network", own=own)
            (home / "input.npz").write_bytes(npz_bytes(integers))
            command = [
                str(self.python.path), str(home / "network" / "network.py"),
                "--input", str(home / "input.npz"), "--output", str(home / "trace.npz"),
                "--steps", str(steps), "--batch", str(self.batch),
            ]  # fmt: skip
            for name, quantity in probes:
                if quantity != "spikes":
                    command.append(f"--probe={name}:{quantity}")
            # Recordings and sockets go to our folder too, so that they vanish with it.
            variables = {**child_environment(self.python.path), "TMPDIR": str(home)}
            try:
                run_child(
                    command,
                    variables=variables,
                    directory=home,
                    errors=home / "stderr.txt",
                    timeout=self.timeout,
                    heard=lambda line: _heard(line, progress),
                )
            except (ChildFailedError, OSError) as error:
                raise self._failed(error) from error
            return read_npz(home / "trace.npz")

    def _lacks(self, name: str, quantity: Quantity) -> bool:
        """Say whether graded processes could not tell ``quantity``."""
        readout = self.program.population(name).vth is None
        return quantity == "current" or (quantity == "voltage" and not readout)

    def _failed(self, error: Exception) -> BackendError:
        return BackendError(
            Diagnostic(
                code="B045",
                where=f"lava ({self.python.path})",
                message=str(error),
                hint="a run that is slow but right needs a longer timeout or a smaller batch; "
                "to try by hand, emit the network and run its network.py",
            )
        )

    def __enter__(self) -> LavaExecutable:  # noqa: PYI034 - typing.Self needs 3.11
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held between runs."""


class _Raw:
    """What the child recorded; a quantity that it did not record is all zeros."""

    def __init__(self, values: Mapping[str, Array], *, samples: int, steps: int) -> None:
        self._values = values
        self._shape = (samples, steps)

    def get(self, neurons: Populated, quantity: Quantity) -> Array:
        """Return ``[sample, step, *neurons]`` in the trace's type."""
        recorded = self._values.get(f"{neurons.name}/{quantity}")
        dtype = _DTYPES[quantity]
        if isinstance(neurons, SigmaDelta) and quantity == "spikes":
            dtype = np.int32
        if recorded is None:
            return np.zeros((*self._shape, *neurons.shape), dtype)
        return recorded.astype(dtype)


def aligned(raw: Array, *, initial: Array, lag: int, steps: int) -> Array:
    """Undo a lag: index n of the result is ``raw``'s step ``n + lag``.

    ``raw`` is ``[sample, step, *neurons]`` with at least ``steps + lag`` steps; the
    steps before its first one are ``initial``, one value per neuron.
    """
    missing = min(max(0, -lag), steps)
    before = np.broadcast_to(initial, (len(raw), missing, *raw.shape[2:])).astype(raw.dtype)
    first = max(0, lag)
    return np.concatenate([before, raw[:, first : first + steps - missing]], axis=1)


def default_batch(program: Program) -> int:
    """Return how many samples may lie side by side."""
    weights = sum(_num_weights(item, program) for item in program.connections)
    return max(1, MAX_WEIGHTS // max(1, weights))


def _most_side_by_side(program: Program) -> int:
    """Return how many samples Lava's Conv can take side by side: each is a group of its own."""
    groups = [
        item.operator.groups
        for item in program.connections
        if isinstance(item.operator, Conv2d) and carried_by_conv(program, item)
    ]
    counted = [item if item <= LARGEST_GROUPS else 1 for item in groups]
    return LARGEST_GROUPS // max(counted) if counted else MAX_WEIGHTS


def _num_weights(connection: Connection, program: Program) -> int:
    """Return about how many non-zero entries the connection's matrix has."""
    nonzero = int(np.count_nonzero(connection.operator.weight))
    if carried_by_conv(program, connection) or goes_straight(program, connection):
        return nonzero
    if isinstance(connection.operator, Conv2d):
        nonzero *= program.population(connection.target).num_neurons
        nonzero //= max(1, connection.operator.weight.shape[0])
    return nonzero


def _check_message(item: ProgramInput) -> Diagnostic | None:
    if max(-item.low, item.high) <= MAX_MESSAGE:
        return None
    return Diagnostic(
        code="B043",
        where=f"input '{item.name}'",
        message=f"values from {item.low} to {item.high} do not fit a 24-bit message",
        hint="compile with fewer fractional bits for this input",
    )


def _check_shape(name: str, shape: Shape) -> Diagnostic | None:
    if 0 not in shape:
        return None
    return Diagnostic(
        code="B044",
        where=f"'{name}'",
        message=f"shape {shape} is empty",
        hint="remove it: Lava cannot build a process without neurons",
    )


def _short_folder() -> Path:
    """Return where the temporary folder goes: paths of sockets end after 100 letters."""
    usual, short = tempfile.gettempdir(), "/tmp"  # noqa: S108 - mkdtemp makes a safe folder there
    return Path(short if len(usual) > 38 and os.access(short, os.W_OK) else usual)


def _lag(neurons: Populated, quantity: Quantity) -> int:
    return neurons.view.current_lag if quantity == "current" else neurons.view.lag


def _initial(neurons: Populated, quantity: Quantity) -> Array:
    """Return the state at step -1."""
    if not isinstance(neurons, Neurons) or quantity == "spikes":
        return np.zeros(neurons.shape, np.uint8)
    return neurons.initial_voltage if quantity == "voltage" else neurons.initial_current


def _heard(line: str, progress: Progress | None) -> None:
    """Pass on what the network prints after each batch: ``samples 32/100``."""
    word, _, counts = line.partition(" ")
    done, _, total = counts.partition("/")
    if progress is not None and word == "samples" and done.isdigit() and total.isdigit():
        progress(int(done), int(total))
