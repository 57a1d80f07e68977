"""From paths and options to graphs, programs and executables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from spikec.backends import BACKENDS, open_backend
from spikec.cli.origins import compiled_with, read_as_compiled
from spikec.cli.tables import say_aside
from spikec.compiler import frontends
from spikec.compiler.arrays import size
from spikec.compiler.axes import CompiledFor, Layouts
from spikec.compiler.backend import Backend
from spikec.compiler.errors import BackendError, Diagnostic, UsageError, raise_if_any
from spikec.compiler.files import sha256_of
from spikec.compiler.frontends import ReadOptions
from spikec.compiler.frontends.options import ASSUMED
from spikec.compiler.inputs import Dataset, Stream, read_dataset
from spikec.compiler.ir import LI, Graph, Input
from spikec.compiler.program import Program
from spikec.compiler.quantize import (
    Compilation,
    QuantizationReport,
    WeightBits,
    compile_graph,
    compile_mixed,
    parse_weight_bits,
)
from spikec.compiler.relu import ReluNetwork
from spikec.compiler.targets import SHIPPED, load_target
from spikec.compiler.validation import Extent, Validation

__all__ = [
    "CompileOptions",
    "LavaOptions",
    "Loaded",
    "backend_for",
    "backends_of",
    "calibration_of",
    "classes_of",
    "compiled_for",
    "data_for",
    "idle",
    "lava_options",
    "load",
    "network_of",
    "read_network",
    "refuse_given",
    "refuse_idle",
    "refuse_idle_validation",
    "refuse_steps_alone",
    "say_notes",
    "source_of",
    "steps_compiled_for",
]


#: What is taken where no option says otherwise.
_TARGET, _WEIGHT_BITS = "loihi2", 8


@dataclass(frozen=True, kw_only=True)
class CompileOptions:
    """How to read and compile a network file; a program file is taken as it is."""

    read: ReadOptions = field(default_factory=ReadOptions)
    target: str | None = None
    weight_bits: str | None = None
    calibrate: Path | None = None
    steps: int | None = None
    layouts: Layouts | None = None
    budget: str | None = None
    max_drop: str | None = None
    horizon: int | None = None
    headroom: float | None = None
    validate: Extent = "bounded"
    max_active: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that they name: they are read, and never written over."""
        named = [self.calibrate] if self.calibrate is not None else []
        if self.target is not None and self.target not in SHIPPED:
            named.append(Path(self.target))
        return tuple(named)


@dataclass(frozen=True, eq=False, kw_only=True)
class Loaded:
    """A network from a file: the float graph if there is one, and its program.

    ``validation`` is there if the program was compiled just now, ``calibration`` if its data are
    known.
    """

    graph: Graph | None
    program: Program
    report: QuantizationReport | None = None
    validation: Validation | None = None
    calibration: Dataset | None = None


def load(path: Path, options: CompileOptions) -> Loaded:
    """Read a program as it is, or read a network and compile it with ``options``."""
    network = read_network(path, options.read)
    if isinstance(network, Program):
        refuse_idle(options, f"{path} is compiled already")
        return Loaded(graph=None, program=network)
    calibration = calibration_of(network, options)
    compilation = _compiled(network, options, calibration)
    program = compilation.program
    if calibration is not None:
        steps = CompiledFor(calibration.num_steps, presented=options.steps is not None)
        program = compiled_for(program, steps)
    return Loaded(
        graph=network,
        program=compiled_with(program, options, calibration),
        report=compilation.report,
        validation=compilation.validation,
        calibration=calibration,
    )


def data_for(
    network: Graph | Program | ReluNetwork,
    path: Path,
    *,
    samples: int | None = None,
    steps: int | None = None,
    layouts: Layouts | None = None,
    known: CompiledFor | None = None,
    quiet: bool = False,
) -> Dataset:
    """Read data that fit the inputs of ``network``, with labels that its output can give.

    ``known`` are the steps of data that a network was fitted to which does not say so itself.
    Says what it takes for granted, unless ``quiet``: then the caller says it.
    """
    data = read_dataset(
        path,
        network.inputs,
        samples=samples,
        steps=steps,
        compiled_for=steps_compiled_for(network) or known,
        layouts=layouts,
        classes=classes_of(network),
    )
    if not quiet:
        say_notes(data)
    return data


def read_network(path: Path, options: ReadOptions) -> Graph | Program:
    """Read a network, and say what its profile implies that the file does not say."""
    network = frontends.load(path, options)
    if isinstance(network, Graph):
        implied = [item for item in network.choices if item.origin == ASSUMED]
        for item in implied:
            say_aside(f"not in {path.name}: {item.what}; taken as {item.value}")
        if implied:
            say_aside("--profile-defaults says that this is so")
    return network


def say_notes(data: Dataset | Stream) -> None:
    """Say what was taken for granted when ``data`` were read."""
    for note in data.notes:
        say_aside(note)


#: Where a program's provenance says which data it was fitted to.
_FITTED_TO = "data"


def compiled_for(program: Program, steps: CompiledFor) -> Program:
    """Return ``program`` with the steps of the data that it was fitted to."""
    return replace(program, provenance={**program.provenance, _FITTED_TO: asdict(steps)})


def steps_compiled_for(network: Graph | Program | ReluNetwork) -> CompiledFor | None:
    """Return the steps of the data that a program was fitted to, if it says so."""
    said = network.provenance.get(_FITTED_TO) if isinstance(network, Program) else None
    steps = said.get("steps") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(steps, int) or steps < 1:
        return None
    return CompiledFor(steps, presented=said.get("presented") is True)


def classes_of(network: Graph | Program | ReluNetwork) -> int:
    """Return how many neurons the output has that a class is read from."""
    name = network.outputs[0]
    if isinstance(network, Graph):
        node = network[name]
        return size(node.shape) if isinstance(node, Input) else node.num_neurons
    parts = network.layers if isinstance(network, ReluNetwork) else network.populations
    return next(size(item.shape) for item in parts if item.name == name)


def calibration_of(network: Graph, options: CompileOptions) -> Dataset | None:
    """Read the data of ``--calibrate`` for ``network``."""
    if options.calibrate is None:
        return None
    calibration = data_for(
        network, options.calibrate, steps=options.steps, layouts=options.layouts, quiet=True
    )
    _refuse_one_step(network, calibration)
    say_notes(calibration)
    for edge in network.edges:
        if edge.delay >= calibration.num_steps:
            say_aside(
                f"{options.calibrate}: {calibration.num_steps} steps show nothing of edge "
                f"'{edge.name}', whose delay is {edge.delay}; longer data would"
            )
    return calibration


def _compiled(network: Graph, options: CompileOptions, calibration: Dataset | None) -> Compilation:
    target = load_target(options.target or _TARGET)
    if options.budget is None and options.max_drop is None:
        return compile_graph(
            network,
            target,
            weight_bits=_weight_bits(options.weight_bits),
            calibration=calibration,
            horizon=options.horizon,
            headroom=options.headroom,
            extent=options.validate,
            max_active=_most_active(options.max_active),
        )
    if calibration is None:
        raise UsageError(
            Diagnostic(
                code="U083",
                where="options --budget and --max-drop",
                message="what bits cost is measured on data",
                hint="add --calibrate DATA.npz",
            )
        )
    if options.weight_bits is not None:
        raise UsageError(idle("--weight-bits", "--budget and --max-drop choose the bits"))
    return compile_mixed(
        network,
        target,
        calibration=calibration,
        budget=None if options.budget is None else parse_size(options.budget),
        max_drop=None if options.max_drop is None else parse_share(options.max_drop),
        horizon=options.horizon,
        headroom=options.headroom,
        extent=options.validate,
        max_active=_most_active(options.max_active),
    )


#: A K alone is read as 1000 by some and as 1024 by others, and Kb, on data sheets, is bits.
_UNITS = {
    "": 1, "B": 1, "bytes": 1,
    "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30,
}  # fmt: skip


def parse_size(text: str) -> int:
    """Return bytes: ``65536``, ``64KiB``, ``1.5MiB``, ``64kB``."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?) ?(\w*)", text.strip())
    if matched is None or matched[2] not in _UNITS:
        units = ", ".join(unit for unit in _UNITS if unit)
        hint = f"a number of bytes, or of one of {units}: 65536, 64KiB, 1.5MB"
        raise UsageError(_unreadable("--budget", text, hint))
    return int(float(matched[1]) * _UNITS[matched[2]])


#: Shares larger than this are said in percent.
_LARGEST_SHARE = 0.1


def parse_share(text: str) -> float:
    """Return a share: ``0.5%`` is 0.005; a plain number must be a share already."""
    matched = re.fullmatch(r"(\d+(?:\.\d+)?) ?(%|)", text.strip())
    # A half without % is more often half a point forgotten than half of everything meant.
    if matched is None or float(matched[1]) > (100 if matched[2] else _LARGEST_SHARE):
        raise UsageError(_unreadable("--max-drop", text, "say 0.5%, or 0.005"))
    return float(matched[1]) / (100 if matched[2] else 1)


def _most_active(text: str | None) -> int | Literal["data"] | None:
    """Return the number of inputs that ``--max-active`` names, or ``data``."""
    if text is None:
        return None
    if text.strip() == "data":
        return "data"
    if not re.fullmatch(r"[1-9][0-9]{0,9}", text.strip()):
        raise UsageError(_unreadable("--max-active", text, "say 40, or data"))
    return int(text)


def _unreadable(option: str, text: str, hint: str) -> Diagnostic:
    return Diagnostic(
        code="U084", where=f"option {option}", message=f"'{text}' says no such amount", hint=hint
    )


def _weight_bits(text: str | None) -> int | WeightBits:
    """Return a plain number as one: reports have always said it so."""
    bits = parse_weight_bits(str(_WEIGHT_BITS) if text is None else text)
    return bits if bits.named or bits.default is None else bits.default


def refuse_idle(options: CompileOptions, why: str) -> None:
    """Refuse options of compiling where nothing is compiled: they would do nothing."""
    given = {
        "--target": options.target,
        "--weight-bits": options.weight_bits,
        "--calibrate": options.calibrate,
        "--budget": options.budget,
        "--max-drop": options.max_drop,
        "--horizon": options.horizon,
        "--headroom": options.headroom,
        "--max-active": options.max_active,
    }
    refuse_given(given, why)


def refuse_idle_validation(graph: Graph | None, file: Path, options: CompileOptions) -> None:
    """Refuse ``--validate full`` where there is no float network to compare a program with."""
    if graph is None and options.validate == "full":
        raise UsageError(idle("--validate", f"the float network of {file} is not known"))


def refuse_given(options: Mapping[str, object], why: str) -> None:
    """Refuse those of ``options`` that have a value: they would do nothing."""
    findings = [idle(name, why) for name, value in options.items() if value is not None]
    raise_if_any(UsageError, findings)


def idle(option: str, why: str) -> Diagnostic:
    """Return what to say of an option that would do nothing."""
    return Diagnostic(
        code="U081",
        where=f"option {option}",
        message=f"it has no effect: {why}",
        hint="leave it out, or give it to the command that it matters for",
    )


def _refuse_one_step(graph: Graph, calibration: Dataset) -> None:
    """Refuse to take the range of a sum over all steps from a single one."""
    sums = [
        name
        for name in graph.outputs
        if isinstance(node := graph[name], LI) and (node.beta == 1).all()
    ]
    if calibration.num_steps == 1 and sums:
        raise UsageError(
            Diagnostic(
                code="U105",
                where="option --calibrate",
                message=f"one step does not show how far '{sums[0]}' goes, which sums up over all",
                hint="add --steps N, the number of steps of later runs",
            )
        )


def refuse_steps_alone(options: CompileOptions) -> None:
    """Refuse ``--steps`` and ``--layout`` where no data are read that they would be for."""
    if options.calibrate is not None:
        return
    why = {
        "--steps": (options.steps, "it says how long --calibrate's data are presented"),
        "--layout": (options.layouts, "it says the order of axes of --calibrate's data"),
    }
    findings = [
        replace(idle(name, reason), hint="leave it out, or calibrate with data")
        for name, (value, reason) in why.items()
        if value is not None
    ]
    raise_if_any(UsageError, findings)


def network_of(
    loaded: Loaded, file: Path, source: Path | None, options: ReadOptions
) -> Graph | None:
    """Return the float network of ``file``: itself, or the one that its program came from."""
    if loaded.graph is None:
        return source_of(loaded.program, file, source, options)
    if source is not None:
        raise UsageError(
            Diagnostic(
                code="U081",
                where="option --source",
                message=f"it has no effect: {file} is the network itself",
                hint="--source names the network that a compiled program came from",
            )
        )
    return loaded.graph


def source_of(
    program: Program, beside: Path, given: Path | None, options: ReadOptions
) -> Graph | None:
    """Return the float graph a program was compiled from, if it can be found.

    ``given`` must be that very file (its hash is recorded). Else a file of the
    recorded name beside the program, or in the current folder, is taken if its
    hash agrees. It is read with the options it was compiled with, and ``options``.
    """
    recorded = program.provenance.get("source")
    origin = recorded if isinstance(recorded, dict) else {}
    digest = str(origin.get("sha256", ""))
    name = Path(str(origin.get("path", ""))).name
    options = read_as_compiled(program, options)
    if given is not None:
        graph = frontends.load_graph(given, options)
        if graph.source.sha256 != digest:
            raise UsageError(
                Diagnostic(
                    code="U080",
                    where=str(given),
                    message="the program was not compiled from this file (its hash differs)",
                    hint=f"it was compiled from '{name}'; compile this file anew to verify it",
                )
            )
        return graph
    for folder in (beside.parent, Path()):
        candidate = folder / name
        if name and candidate.is_file() and sha256_of(candidate.read_bytes()) == digest:
            network = frontends.load(candidate, options)
            # A file of a chip's integers has no float network behind it.
            return network if isinstance(network, Graph) else None
    return None


@dataclass(frozen=True, kw_only=True)
class LavaOptions:
    """What is said of Lava's runs alone: its Python, seconds for one, and how many samples."""

    python: str | None = None
    time_limit: float = 600.0
    samples: int = 100


def lava_options(
    backends: Sequence[str],
    *,
    python: str | None,
    time_limit: float | None,
    samples: int | None = None,
) -> LavaOptions:
    """Return the options given for Lava, over the defaults; they need ``lava`` in ``backends``."""
    if "lava" not in backends:
        refuse_given(
            {"--lava-python": python, "--time-limit": time_limit, "--backend-samples": samples},
            "Lava is not among the backends",
        )
    defaults = LavaOptions()
    return LavaOptions(
        python=python,
        time_limit=defaults.time_limit if time_limit is None else time_limit,
        samples=defaults.samples if samples is None else samples,
    )


def backends_of(text: str) -> list[str]:
    """Return the names in a list with commas; ``none`` is a list of none."""
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    if names == ["none"]:
        return []
    unknown = [name for name in names if name not in BACKENDS]
    raise_if_any(
        UsageError,
        [
            Diagnostic(
                code="U070",
                where=f"option --backends '{text}'",
                message=f"there is no backend '{name}'" if name else "it has a name that is empty",
                hint=f"some of {','.join(BACKENDS)}; or none",
            )
            for name in unknown
        ],
    )
    return names


def backend_for(
    name: str, program: Program, *, lava: LavaOptions, engine: str | None = None
) -> Backend:
    """Return the backend ``name`` if it can run ``program``; raise all it cannot do."""
    options: dict[str, object] = {}
    if name == "lava":
        options = {"python": lava.python, "timeout": lava.time_limit}
    if engine is not None:
        if name != "simulator":
            raise UsageError(idle("--engine", f"{name} has none to choose"))
        options = {"engine": engine}
    backend = open_backend(name, **options)
    raise_if_any(BackendError, backend.check(program))
    return backend
