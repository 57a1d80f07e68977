"""What a report is made of: a verification, and what is gathered beside it."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import cast

from spikec.cli import running
from spikec.cli.attribution import no_source
from spikec.cli.loading import CompileOptions, Loaded, load, network_of
from spikec.compiler.backend import Progress
from spikec.compiler.files import sha256_of_file
from spikec.compiler.inputs import Dataset, read_dataset
from spikec.compiler.ir import Graph
from spikec.compiler.passes.pipeline import canonicalise
from spikec.compiler.program import Program
from spikec.compiler.trace import Readout
from spikec.compiler.verification import VerificationReport
from spikec.compiler.verification.attribution import Attribution, attribute
from spikec.compiler.verification.evidence import Evidence, Survey, gather
from spikec.compiler.verification.ladder import readout_of, verify
from spikec.compiler.verification.parameters import Parameters, parameters
from spikec.compiler.verification.rungs import build_ways

__all__ = ["Examination", "examine", "look_into"]

#: Packages whose version can change a number.
_PACKAGES = ("spikec", "numpy", "numba", "onnx")


@dataclass(frozen=True, eq=False, kw_only=True)
class Examination:
    """Everything there is to say; ``facts`` are names and values of where it came from.

    ``evidence`` is for drawings; ``attribution`` is there if it was asked for.
    """

    name: str
    report: VerificationReport
    program: Program
    graph: Graph | None
    parameters: Parameters
    facts: tuple[tuple[str, str], ...]
    evidence: Evidence | None = None
    attribution: Attribution | None = None

    def as_dict(self) -> dict[str, object]:
        """Return what ``verify --json`` prints, and the attribution if there is one."""
        plain = self.report.as_dict()
        if self.attribution is not None:
            plain["attribution"] = self.attribution.as_dict()
        return plain


def examine(
    file: Path,
    data_file: Path,
    *,
    backends: list[str],
    backend_samples: int,
    source: Path | None,
    readout: str | None,
    samples: int | None,
    options: CompileOptions,
    lava_python: str | None,
    time_limit: float,
    with_evidence: bool,
    with_attribution: bool,
    progress: Progress | None,
) -> Examination:
    """Verify the network in ``file`` on the data in ``data_file``, and gather."""
    loaded = load(file, options)
    graph = network_of(loaded, file, source, options.read)
    if with_attribution and graph is None:
        raise no_source(file)
    data = read_dataset(data_file, loaded.program.inputs, samples=samples, steps=options.steps)
    return look_into(
        Loaded(graph=graph, program=loaded.program),
        data,
        name=file.name,
        files={"network": file, "data": data_file},
        backends=backends,
        backend_samples=backend_samples,
        readout=cast("Readout | None", readout),
        lava_python=lava_python,
        time_limit=time_limit,
        with_evidence=with_evidence,
        with_attribution=with_attribution,
        progress=progress,
    )


def look_into(
    loaded: Loaded,
    data: Dataset,
    *,
    name: str,
    files: dict[str, Path],
    backends: list[str],
    backend_samples: int,
    readout: Readout | None = None,
    lava_python: str | None = None,
    time_limit: float = 600.0,
    with_evidence: bool = True,
    with_attribution: bool = False,
    progress: Progress | None = None,
) -> Examination:
    """Climb the ladder with what is loaded, and gather; ``files`` are those to be hashed."""
    program, graph = loaded.program, loaded.graph
    chosen = readout or readout_of(program)
    survey = Survey(chosen)
    with running.machines(
        program, backends, lava_python=lava_python, time_limit=time_limit
    ) as (golden, opened):  # fmt: skip
        most = {"lava": backend_samples}
        report = verify(
            program,
            data,
            golden=golden,
            backends=opened,
            graph=graph,
            readout=chosen,
            backend_samples=most,
            watch=survey.add if with_evidence else None,
            progress=progress,
        )
        evidence = None
        if with_evidence:
            ways = build_ways(program, graph, golden, opened, most)
            evidence = gather(program, data, report, survey, ways)
    canonical = None if graph is None else canonicalise(graph)
    attribution = None
    if with_attribution and canonical is not None:
        attribution = attribute(canonical, program, data, readout=chosen, progress=progress)
    return Examination(
        name=name,
        report=report,
        program=program,
        graph=graph,
        parameters=parameters(program, canonical),
        facts=_facts(program, graph, files),
        evidence=evidence,
        attribution=attribution,
    )


def _facts(
    program: Program, graph: Graph | None, files: dict[str, Path]
) -> tuple[tuple[str, str], ...]:
    recorded = program.provenance.get("source")
    origin = recorded if isinstance(recorded, dict) else {}
    step = "not given" if program.dt is None else f"{program.dt:g} s"
    facts = [("target", program.target), ("time step", step)]
    for what, path in files.items():
        facts += [(f"{what} file", path.name), (f"{what} SHA-256", sha256_of_file(path))]
    for key in ("path", "format", "sha256"):
        if origin.get(key):
            facts.append((f"compiled from: {key}", str(origin[key])))
    facts.append(("float network", "found: F is its run" if graph else "not found: no rung F"))
    facts.append(("compiled by spikec", str(program.provenance.get("spikec", "unknown"))))
    facts += [(f"{name} that ran this", version(name)) for name in _PACKAGES]
    return (*facts, ("Python that ran this", platform.python_version()))
