"""What a report is made of: a verification, and what is gathered beside it."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import cast

from spikec.cli import running
from spikec.cli.attribution import no_source
from spikec.cli.inspection import NO_DIGEST, overrides
from spikec.cli.loading import (
    CompileOptions,
    LavaOptions,
    Loaded,
    data_for,
    load,
    network_of,
    refuse_idle_validation,
)
from spikec.cli.origins import calibration_beside
from spikec.compiler.backend import Progress
from spikec.compiler.errors import Diagnostic, UsageError, raise_if_any
from spikec.compiler.files import sha256_of_file
from spikec.compiler.frontends import lava_net
from spikec.compiler.inputs import Dataset, to_integers
from spikec.compiler.ir import Graph
from spikec.compiler.mapping.activity import Activity, ActivityTally
from spikec.compiler.mapping.mapper import cores_of, recorded
from spikec.compiler.mapping.report import MappingReport, report_on
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.program import Program, refused_encoders
from spikec.compiler.program_file import digest_of, recognises
from spikec.compiler.targets import SHIPPED, load_target
from spikec.compiler.trace import Readout, Trace
from spikec.compiler.validation import Extent
from spikec.compiler.verification import VerificationReport
from spikec.compiler.verification.attribution import Attribution, attribute
from spikec.compiler.verification.evidence import Evidence, Survey, gather
from spikec.compiler.verification.ladder import readout_of, verify
from spikec.compiler.verification.parameters import Parameters, parameters
from spikec.compiler.verification.report import Gate
from spikec.compiler.verification.rungs import build_ways

__all__ = ["Examination", "examine", "look_into"]

#: Packages whose version can change a number.
_PACKAGES = ("spikec", "numpy", "numba", "onnx")


@dataclass(frozen=True, eq=False, kw_only=True)
class Examination:
    """Everything there is to say; ``files`` are those it came from, by what they are.

    ``evidence`` is for drawings; ``attribution`` is there if it was asked for, ``activity`` if
    the program has a core map. What takes time
    and not every form needs is found out when it is asked for.
    """

    name: str
    report: VerificationReport
    program: Program
    graph: Graph | None
    files: Mapping[str, Path]
    evidence: Evidence | None = None
    attribution: Attribution | None = None
    activity: Activity | None = None

    @cached_property
    def mapping(self) -> MappingReport | None:
        """What the program's core map takes; None without one, or if its chip is not known."""
        core_map = self.program.core_map
        if core_map is None or core_map.target not in SHIPPED:
            return None
        target = load_target(core_map.target)
        cores = cores_of(target)
        if (cores.tiles, cores.cores_per_tile) != (core_map.tiles, core_map.cores_per_tile):
            return None
        rates = None if self.activity is None else self.activity.sent
        return report_on(recorded(self.program, target, rates=rates), self.activity)

    @cached_property
    def parameters(self) -> Parameters:
        """Weights and decays, beside the float ones where those are known."""
        refuse_encoders(self.program)
        canonical = None if self.graph is None else canonicalise(self.graph)
        return parameters(self.program, canonical)

    @cached_property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """Names and values of where it came from."""
        return tuple(_facts(self.program, self.graph, self.files))

    def as_dict(self) -> dict[str, object]:
        """Return what ``verify --json`` prints: the report, and what else there is."""
        plain = self.report.as_dict()
        if self.attribution is not None:
            plain["attribution"] = self.attribution.as_dict()
        if self.mapping is not None:
            plain["mapping"] = self.mapping.as_dict()
        return plain


def examine(
    file: Path,
    data_file: Path,
    *,
    backends: list[str],
    lava: LavaOptions,
    source: Path | None,
    readout: str | None,
    samples: int | None,
    options: CompileOptions,
    with_evidence: bool,
    with_attribution: bool,
    drawn: Sequence[int],
    progress: Progress | None,
    gate: Gate | None = None,
) -> Examination:
    """Verify the network in ``file`` on the data in ``data_file``, and gather.

    ``drawn`` are the samples to keep evidence of, the most telling ones where it is empty.
    ``gate`` says what must hold.
    """
    gate = gate or Gate()
    loaded = load(file, options)
    graph = network_of(loaded, file, source, options.read)
    if with_attribution and graph is None:
        raise no_source(file)
    refuse_idle_validation(graph, file, options)
    data = data_for(
        loaded.program, data_file, samples=samples, steps=options.steps,
        layouts=options.layouts, quiet=True,
    )  # fmt: skip
    _refuse_absent(drawn, data, data_file)
    if gate.max_drop is not None:
        _refuse_gate(file, data_file, graph, data)
    found = look_into(
        Loaded(graph=graph, program=loaded.program, calibration=_calibration(loaded, graph, file)),
        data,
        name=file.name,
        files={"network": file, "data": data_file},
        backends=backends,
        lava=lava,
        readout=cast("Readout | None", readout),
        with_evidence=with_evidence,
        with_attribution=with_attribution,
        drawn=drawn,
        extent=options.validate,
        progress=progress,
    )
    notes = (
        *data.notes,
        *overrides(loaded.program),
        *_without_digest(file),
        *_without_floats(loaded.program, graph),
        *found.report.notes,
    )
    return replace(found, report=replace(found.report, notes=notes, gate=gate))


def _refuse_gate(file: Path, data_file: Path, graph: Graph | None, data: Dataset) -> None:
    """Refuse to compare accuracies where one of them is not known."""
    missing = []
    if graph is None:
        missing.append((str(file), "its float network is not beside it", "add --source FILE"))
    if data.labels is None:
        missing.append((str(data_file), "it holds no 'labels'", "save labels, one a sample"))
    raise_if_any(
        UsageError,
        [
            Diagnostic(
                code="U123",
                where=where,
                message=f"{what}, and --max-drop compares the accuracies of both networks",
                hint=f"{hint}, or leave --max-drop out",
            )
            for where, what, hint in missing
        ],
    )


def _without_digest(file: Path) -> Iterator[str]:
    if recognises(file) and digest_of(file) is None:
        yield f"digest of {file.name}: {NO_DIGEST}"


def _calibration(loaded: Loaded, graph: Graph | None, file: Path) -> Dataset | None:
    """Return the data that the quantizer saw, if they are known."""
    if loaded.calibration is not None or graph is None:
        return loaded.calibration
    return calibration_beside(loaded.program, graph, file)


def _without_floats(program: Program, graph: Graph | None) -> Iterator[str]:
    """Say why there is no float network, where there is none."""
    if graph is not None:
        return
    origin = program.provenance.get("source")
    name = str(origin.get("path", "")) if isinstance(origin, dict) else ""
    integers = isinstance(origin, dict) and origin.get("format") == lava_net.FORMAT
    if integers or not name:
        yield "no rung F: no float network stands behind these integers"
        return
    yield (
        f"no rung F: '{Path(name).name}', which the program was compiled from, is neither beside "
        "it nor in this folder, or has changed; --source FILE names it"
    )


def _refuse_absent(drawn: Sequence[int], data: Dataset, path: Path) -> None:
    absent = [sample for sample in drawn if sample >= data.num_samples]
    if absent:
        raise UsageError(
            Diagnostic(
                code="U122",
                where="option --report-samples",
                message=f"sample {absent[0]} is not among the {data.num_samples} of {path}",
                hint=f"they are numbered from 0 to {data.num_samples - 1}",
            )
        )


def look_into(
    loaded: Loaded,
    data: Dataset,
    *,
    name: str,
    files: Mapping[str, Path],
    backends: list[str],
    lava: LavaOptions,
    readout: Readout | None = None,
    with_evidence: bool = True,
    with_attribution: bool = False,
    drawn: Sequence[int] = (),
    extent: Extent = "bounded",
    progress: Progress | None = None,
) -> Examination:
    """Climb the ladder with what is loaded, and gather; see :class:`Examination`."""
    program, graph = loaded.program, loaded.graph
    if with_evidence:
        refuse_encoders(program)
    chosen = readout or readout_of(program)
    survey = Survey(chosen)
    tally = None if program.core_map is None else ActivityTally(program)

    def watch(batch: Dataset, traces: Mapping[str, Trace]) -> None:
        if with_evidence:
            survey.add(batch, traces)
        if tally is not None:
            tally.add(to_integers(program, batch.inputs)[0], traces["I"])

    with running.machines(program, backends, lava=lava) as (golden, opened):
        most = {"lava": lava.samples}
        report = verify(
            program,
            data,
            golden=golden,
            backends=opened,
            graph=graph,
            readout=chosen,
            backend_samples=most,
            calibration=loaded.calibration,
            extent=extent,
            watch=watch,
            progress=progress,
        )
        evidence = None
        if with_evidence:
            ways = build_ways(program, graph, golden, opened, most)
            evidence = gather(program, data, report, survey, ways, asked=drawn)
    attribution = None
    if with_attribution and graph is not None:
        attribution = attribute(
            canonicalise(graph), program, data, readout=chosen, progress=progress
        )  # fmt: skip
    return Examination(
        name=name,
        report=report,
        program=program,
        graph=graph,
        files=files,
        evidence=evidence,
        attribution=attribution,
        activity=None if tally is None else tally.activity(),
    )


def refuse_encoders(program: Program) -> None:
    """Refuse tables and drawings of currents and decays where there are none."""
    hint = "write a .json report, or leave --report out: the ladder is printed"
    found = refused_encoders(program, "a report with tables or drawings")
    raise_if_any(UsageError, [replace(item, hint=hint) for item in found])


def _facts(
    program: Program, graph: Graph | None, files: Mapping[str, Path]
) -> Iterator[tuple[str, str]]:
    recorded = program.provenance.get("source")
    origin = recorded if isinstance(recorded, Mapping) else {}
    yield "target", program.target
    yield "time step", "not given" if program.dt is None else f"{program.dt:g} s"
    for what, path in files.items():
        yield f"{what} file", path.name
        yield f"{what} SHA-256", sha256_of_file(path)
    for key in ("path", "format", "sha256"):
        if origin.get(key):
            yield f"compiled from: {key}", str(origin[key])
    yield "float network", "found: F is its run" if graph else "not found: no rung F"
    yield from _compiled_with(program.provenance)
    yield "compiled by spikec", str(program.provenance.get("spikec", "unknown"))
    for name in _PACKAGES:
        yield f"{name} that ran this", version(name)
    yield "Python that ran this", platform.python_version()


def _compiled_with(provenance: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield what is known of the calibration data and the command."""
    said = provenance.get("calibration")
    if isinstance(said, Mapping):
        yield "calibrated on: path", str(said.get("path"))
        yield "calibrated on: sha256", str(said.get("sha256"))
        samples = said.get("samples")
        if isinstance(samples, (list, tuple)) and len(samples) == 2:
            yield "calibrated on: samples", f"from {samples[0]}, {samples[1]} in all"
    command = provenance.get("command")
    if isinstance(command, (list, tuple)) and command:
        yield "command", "spikec " + shlex.join(map(str, command))
