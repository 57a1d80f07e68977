"""``spikec map``: a program onto the cores of a chip, and what that takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikec.backends import open_backend
from spikec.cli import tables
from spikec.cli.loading import (
    CompileOptions,
    data_for,
    idle,
    load,
    read_network,
    refuse_steps_alone,
)
from spikec.cli.tables import say
from spikec.compiler.backend import Progress
from spikec.compiler.batches import batch_size, in_batches
from spikec.compiler.errors import UsageError, raise_if_any
from spikec.compiler.inputs import to_integers
from spikec.compiler.mapping.activity import Activity, ActivityTally
from spikec.compiler.mapping.mapper import cores_of, map_program
from spikec.compiler.mapping.orders import has_metis
from spikec.compiler.mapping.report import MappingReport, report_on
from spikec.compiler.operators import Sparse
from spikec.compiler.program import Program
from spikec.compiler.targets import Target, load_target
from spikec.compiler.targets.limits import broken_limits

__all__ = [
    "beside_sanafe",
    "cores_table",
    "map_file",
    "refuse_sanafe_alone",
    "sentences",
    "show",
    "show_sanafe",
]

#: Samples that SANA-FE runs, and the seconds it may take.
_SANAFE_SAMPLES, _SANAFE_SECONDS = 5, 600.0
#: Rows of a table of cores that people get to see; ``--json`` has all.
_MOST_ROWS = 40


def map_file(
    file: Path,
    *,
    data: Path | None,
    samples: int | None,
    chips: int,
    options: CompileOptions,
    progress: Progress | None,
) -> MappingReport:
    """Map the program in ``file``, compiled on the way if need be, with the activity of a run."""
    if data is None:
        if samples is not None:
            raise UsageError(idle("--samples", "there is no --data to run on"))
        refuse_steps_alone(options)
    program, target = _program_and_target(file, options)
    cores_of(target)
    activity = None if data is None else _run(program, data, samples, options, progress)
    rates = None if activity is None else activity.sent
    return report_on(map_program(program, target, chips=chips, rates=rates), activity)


def _program_and_target(file: Path, options: CompileOptions) -> tuple[Program, Target]:
    network = read_network(file, options.read)
    if isinstance(network, Program):  # --target says where to, not what to compile for
        compiled = load(file, replace(options, target=None)).program
        target = load_target(options.target or compiled.target)
        if options.target is not None:
            raise_if_any(UsageError, list(broken_limits(compiled, target)))
        return compiled, target
    return load(file, options).program, load_target(options.target or "loihi2")


def _run(
    program: Program,
    data: Path,
    samples: int | None,
    options: CompileOptions,
    progress: Progress | None,
) -> Activity:
    dataset = data_for(program, data, samples=samples, steps=options.steps, layouts=options.layouts)
    tally = ActivityTally(program)
    probes = tuple((item.name, "voltage") for item in program.populations)
    size = batch_size(2 * program.num_neurons, dataset.num_steps)
    with open_backend("simulator").load(program) as chip:
        for part in in_batches(dataset.num_samples, size):
            inputs = {name: values[part] for name, values in dataset.inputs.items()}
            trace = chip.run(inputs, probes=probes)  # type: ignore[arg-type]
            tally.add(to_integers(program, inputs)[0], trace)
            if progress is not None:
                progress(part.stop, dataset.num_samples)
    return tally.activity()


def refuse_sanafe_alone(data: Path | None) -> None:
    """Refuse ``--sanafe`` where there is nothing to run."""
    if data is None:
        raise UsageError(idle("--sanafe", "there is no --data to run on"))


def beside_sanafe(
    program: Program,
    data: Path | None,
    *,
    samples: int | None,
    options: CompileOptions,
    python: str,
) -> dict[str, Any]:
    """Run the mapped program on SANA-FE too; return its means of a step, and differing spikes."""
    from spikec.backends.sanafe.run import simulate

    assert data is not None
    dataset = data_for(
        program, data, samples=samples, steps=options.steps, layouts=options.layouts, quiet=True
    )
    inputs = dataset.samples(0, _SANAFE_SAMPLES).inputs
    theirs = simulate(program, inputs, python=python, timeout=_SANAFE_SECONDS)
    with open_backend("simulator").load(program) as chip:
        ours = chip.run(inputs)
    return {
        "samples": len(next(iter(inputs.values()))),
        "energy": theirs.energy,
        "energy_of": dict(theirs.parts),
        "time": theirs.time,
        "spikes": {
            name: {
                "ours": int(ours.spikes(name).sum(dtype=np.int64)),
                "theirs": int(values.sum(dtype=np.int64)),
                "differing": int(np.count_nonzero(values != ours.spikes(name))),
            }
            for name, values in theirs.spikes.items()
        },
        "differences": list(theirs.differences),
    }


def show_sanafe(beside: Mapping[str, Any]) -> None:
    """Print what SANA-FE says of the same mapping."""
    say(f"SANA-FE on Loihi 1, {beside['samples']} samples: {1e9 * beside['energy']:,.3g} nJ and "
        f"{1e6 * beside['time']:,.3g} us a step")  # fmt: skip
    for name, spikes in beside["spikes"].items():
        say(f"  {name}: {spikes['theirs']:,} spikes, ours {spikes['ours']:,}, "
            f"{spikes['differing']:,} differ")  # fmt: skip
    if any(spikes["differing"] for spikes in beside["spikes"].values()):
        for item in beside["differences"]:
            say(f"  for {item}")


def show(report: MappingReport) -> None:
    """Print the mapping: cores, what they hold, what they do, and what that costs."""
    first, messages, *others = sentences(report)
    say(first)
    cores = cores_table(report)
    tables.show(replace(cores, rows=cores.rows[:_MOST_ROWS]))
    if len(cores.rows) > _MOST_ROWS:
        say(f"and {len(cores.rows) - _MOST_ROWS:,} more; --json lists all")
    say(messages)
    for item in report.mapped.tried:
        say(f"  order {item.order}: {item.cores:,} cores, {item.messages:,.1f} messages between")
    sparse = any(isinstance(item.operator, Sparse) for item in report.mapped.program.connections)
    if sparse and len(report.mapped.uses) > 1 and not has_metis():
        say("  with pymetis installed ('spikec[map]') METIS would try the sparse synapses too")
    for line in others:
        say(line)


def cores_table(report: MappingReport) -> tables.Table:
    """Return a row for each core: where it is, what it holds, what it does."""
    cores = report.as_dict()["cores"]
    doing = ("operations a step",) if report.cores is not None else ()
    return tables.Table(
        title="cores",
        columns=("core", "chip/tile.core", "neurons", "synapse bits", "axons in", "axons out",
                 "fullest", *doing),
        rows=tuple(_core_row(core) for core in cores),
    )  # fmt: skip


def _core_row(core: Mapping[str, Any]) -> tuple[str, ...]:
    use, active = core["use"], core.get("activity")
    return (
        f"{core['core']}",
        f"{core['chip']}/{core['column']},{core['row']}.{core['on_tile']}",
        ", ".join(f"{name} {count}" for name, count in core["populations"].items()),
        f"{use['synapse_bits']:,}",
        f"{use['axons_in']:,}",
        f"{use['axons_out']:,}",
        f"{100 * core['share']:.0f} % {core['fullest']}",
        *(() if active is None else (f"{active['operations']:,.1f}",)),
    )


def sentences(report: MappingReport) -> tuple[str, ...]:
    """Return what the table does not hold: cores in use, messages, metrics, modelled costs."""
    values = report.as_dict()
    used, there, least = (values[name] for name in ("cores_used", "cores_there", "least_cores"))
    messages = values["messages"]
    named = {
        name: round(value, 4) for name, value in values["metrics"].items() if value is not None
    }
    cores = (
        f"{values['target']}: {used:,} of {there:,} cores in use, of {values['chips']} chip(s); "
        f"no mapping takes fewer than {least:,}"
    )
    sent = (
        f"messages a step ({messages['counted']}): {messages['crossing']:,.1f} between cores, over "
        f"{messages['hops']:,.1f} hops; {messages['from_inputs']:,.1f} from inputs"
    )
    return (
        cores,
        sent,
        "NeuroBench: " + ", ".join(f"{name} {value:,}" for name, value in named.items()),
        *_modelled(report),
    )


def _modelled(report: MappingReport) -> Iterator[str]:
    modelled = report.estimate
    if modelled is None:
        if report.activity is not None:
            yield f"no energy or time: the file of '{report.mapped.target.name}' has no [costs]"
        return
    low, high = (1e9 * value for value in modelled.energy)
    first, last = (1e6 * value for value in modelled.time)
    yield (
        f"modelled, not measured, a step: {low:,.3g} to {high:,.3g} nJ without static power, "
        f"{first:,.3g} to {last:,.3g} us; core {modelled.busiest} is the busiest"
    )
    yield f"  unit costs: {modelled.basis}"
