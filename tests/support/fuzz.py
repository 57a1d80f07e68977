"""Damaged files, read: each is taken, or refused by one error that spikec raises on purpose."""

from __future__ import annotations

import resource
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from spikec.backends import open_backend
from spikec.backends.simulator import golden
from spikec.compiler import frontends, reference, targets
from spikec.compiler.errors import SpikecError
from spikec.compiler.event_file import EventWriter, read_events
from spikec.compiler.frontends import ReadOptions
from spikec.compiler.inputs import open_stream, read_dataset
from spikec.compiler.ir import Graph, Input
from spikec.compiler.npz import write_npz
from spikec.compiler.printer import to_text
from spikec.compiler.program import Program
from spikec.compiler.quantize import compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.trace import Trace
from spikec.compiler.trace_file import read_trace_and_units, write_trace
from spikec.compiler.verification.difference import Differences, Recorded
from support.fuzz_changes import CHANGES
from support.network_files import DATA, INPUTS, NETWORKS, network_file
from support.nir_networks import Net
from support.onnx_networks import random_network

__all__ = ["FORMATS", "SECONDS", "Outcome", "Outcomes", "attempts", "damaged", "files", "read"]

FORMATS = tuple(CHANGES)
#: A damaged file may take so long, and so much more memory than there was.
SECONDS, MEMORY_MB = 20, 1200
STEPS = 6
NIR = ReadOptions(
    dt=1e-3, discretization="exp", reset="zero", reset_order="at_spike", compare=">"
)  # fmt: skip


_PICTURE: dict[str, dict[str, Any]] = {
    "in": {"type": "Input", "shape": np.array([1, 4, 4])},
    "conv": {
        "type": "Conv2d", "weight": np.ones((2, 1, 3, 3)), "bias": np.zeros(2),
        "stride": np.array([1, 1]), "padding": np.array([1, 1]), "dilation": np.array([1, 1]),
        "groups": 1, "input_shape": np.array([4, 4]),
    },
    "pool": {"type": "SumPool2d", "kernel_size": np.array([2, 2]), "stride": np.array([2, 2]),
             "padding": np.array([0, 0])},
    "wait": {"type": "Delay", "delay": np.full((2, 2, 2), 2e-3)},
    "flat": {"type": "Flatten", "start_dim": 0, "end_dim": -1},
    "lif": {"type": "LIF", "tau": np.full(8, 0.01), "r": np.ones(8), "v_leak": np.zeros(8),
            "v_threshold": np.ones(8), "v_reset": np.zeros(8)},
    "out": {"type": "Output", "shape": np.array([8])},
}  # fmt: skip
_LOOP: dict[str, dict[str, Any]] = {
    "in": {"type": "Input", "shape": np.array([6])},
    "fc": {"type": "Affine", "weight": np.ones((3, 6)), "bias": np.zeros(3)},
    "lif": {
        "type": "CubaLIF", "tau_syn": np.full(3, 0.005), "tau_mem": np.full(3, 0.01),
        "r": np.ones(3), "v_leak": np.zeros(3), "v_threshold": np.ones(3),
        "v_reset": np.zeros(3), "w_in": np.ones(3),
    },
    "back": {"type": "Linear", "weight": np.eye(3)},
    "out": {"type": "Output", "shape": np.array([3])},
}  # fmt: skip
#: NIR as h5py alone writes it: pictures through a pool and delays, and a loop.
_FOREIGN = (
    Net(nodes=_PICTURE, edges=tuple(pairwise(_PICTURE))),
    Net(nodes=_LOOP, edges=(("in", "fc"), ("fc", "lif"), ("lif", "back"), ("back", "lif"),
                            ("lif", "out"))),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of one file: ``clean`` (an error of ours), ``taken``, or a finding."""

    kind: str
    what: str = ""


@dataclass
class Outcomes:
    """How often what happened, and the findings by the number of their file."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: dict[int, str] = field(default_factory=dict)


def files(kind: str, folder: Path) -> list[bytes]:
    """Return sound files of a format, to be damaged."""
    if kind in ("npz", "trace", "events"):
        return [_recorded(kind, folder / kind)]
    if kind == "toml":
        home = Path(targets.__file__).parent
        return [(home / f"{name}.toml").read_bytes() for name in targets.SHIPPED]
    prefix = {"st": "native"}.get(kind, kind)
    names = [name for name in NETWORKS if name.startswith(f"{prefix}: ")]
    found = [network_file(name, folder).read_bytes() for name in names]
    if kind == "nir":
        found += [net.save(folder / "foreign.nir").read_bytes() for net in _FOREIGN]
    if kind == "onnx":
        found += [random_network((1, seed)).model.SerializeToString() for seed in range(6)]
    return found


def _recorded(kind: str, path: Path) -> bytes:
    rng = np.random.default_rng(0)
    spikes = (rng.random((2, 9, 2, 3)) < 0.3).astype(np.uint8)
    trace = Trace(
        values={("h", "spikes"): spikes, ("o", "voltage"): rng.normal(size=(2, 9, 4))},
        outputs=("o",),
    )
    if kind == "npz":
        write_npz(path, {"spikes": spikes.reshape(2, 9, 6), "labels": np.array([1, 0])})
    elif kind == "trace":
        write_trace(path, trace, predictions=np.array([1, 0]))
    else:
        with EventWriter(path, {"h": ((2, 3), 1)}) as writer:
            writer.add(trace, sample=0, step=0)
            writer.finish(samples=2, steps=9, output=np.array(["o"]))
    return path.read_bytes()


def damaged(kind: str, sound: list[bytes], seed: int, number: int, folder: Path) -> bytes:
    """Return damaged file ``number`` of a format; the same numbers give the same bytes."""
    rng = np.random.default_rng([seed, FORMATS.index(kind), number])
    content = sound[int(rng.integers(len(sound)))]
    for _ in range(1 + int(rng.random() < 0.2)):
        change = CHANGES[kind][int(rng.integers(len(CHANGES[kind])))]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                content = change(content, rng, folder) or content
            except Exception:  # noqa: BLE001, S112 - what is broken once may not be broken again
                continue
    return content


def read(kind: str, path: Path) -> None:
    """Read a file as a command does, and use a little of what it holds."""
    _READERS[kind](path)


def _network(path: Path) -> None:
    found = frontends.load(path, NIR if path.suffix == ".nir" else ReadOptions())
    if isinstance(found, Program):
        _run_program(found)
        return
    to_text(found)
    if path.suffix == ".st":
        compile_graph(found, load_target("loihi2"))
        reference.run(found, _inputs(found))


def _inputs(network: Graph | Program) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {entry.name: (rng.random((1, STEPS, *entry.shape)) < 0.3).astype(np.uint8)
            for entry in network.inputs}  # fmt: skip


def _run_program(program: Program) -> None:
    inputs = _inputs(program)
    probes = [(item.name, "voltage") for item in program.populations]
    if program.inputs and program.num_neurons < 10_000:
        golden.run(program, inputs, probes=probes)  # type: ignore[arg-type]
    with open_backend("simulator", engine="fast").load(program) as engine:
        engine.run(inputs, probes=probes)  # type: ignore[arg-type]


def _data(path: Path) -> None:
    entry = Input(name="in", shape=(INPUTS,))
    read_dataset(path, [entry], classes=3)
    folder = path.parent / "unpacked"
    folder.mkdir(exist_ok=True)
    open_stream(path, [entry], folder).read(slice(0, 1), slice(0, 2))


def _trace(path: Path) -> None:
    trace, _ = read_trace_and_units(path)
    found = Differences()
    found.add(Recorded(name="a", trace=trace), Recorded(name="b", trace=trace))
    found.report()


def _events(path: Path) -> None:
    events = read_events(path)
    for name in events.shapes:
        events.indices(name)
        events.spikes(name, samples=slice(0, 1))


def _target(path: Path) -> None:
    target = load_target(str(path))
    compile_graph(_SMALL[0], target)


_SMALL: list[Graph] = []
_READERS: Mapping[str, Callable[[Path], None]] = {
    "spk": _network, "st": _network, "onnx": _network, "nir": _network, "net": _network,
    "npz": _data, "trace": _trace, "events": _events, "toml": _target,
}  # fmt: skip


class _TooLongError(BaseException):
    """No reader may take it for an error of its own."""


@contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << (20 if _MAC else 10))


_MAC = sys.platform == "darwin"


def outcome(kind: str, path: Path) -> Outcome:
    """Read a damaged file; say what came of it."""
    before = _peak_mb()
    try:
        with _limited(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("error")
            read(kind, path)
        found = Outcome("taken")
    except SpikecError as error:
        found = Outcome("clean", str(error))
    except _TooLongError:
        return Outcome("time", f"more than {SECONDS} s")
    except BaseException as error:  # noqa: BLE001 - that is what is looked for
        place, last = error.__traceback__, ""
        while place is not None:
            last = f"{Path(place.tb_frame.f_code.co_filename).name}:{place.tb_lineno}"
            place = place.tb_next
        return Outcome("error", f"{type(error).__name__} at {last}: {str(error)[:200]}")
    grown = _peak_mb() - before
    return Outcome("memory", f"{grown} MB") if grown > MEMORY_MB else found


def attempts(
    kind: str, numbers: range, seed: int, folder: Path, begun: Callable[[int], None] | None = None
) -> Outcomes:
    """Damage and read so many files of a format; ``begun`` hears the number of each first."""
    if not _SMALL:
        loaded = frontends.load(network_file("native: chain", folder))
        assert isinstance(loaded, Graph)
        _SMALL.append(loaded)
    sound, outcomes = files(kind, folder), Outcomes()
    (folder / DATA).unlink(missing_ok=True)
    path = folder / f"damaged.{kind}"
    for number in numbers:
        if begun is not None:
            begun(number)
        path.write_bytes(damaged(kind, sound, seed, number, folder))
        found = outcome(kind, path)
        outcomes.counts[found.kind] += 1
        if found.kind not in ("clean", "taken"):
            outcomes.findings[number] = found.what
    return outcomes
