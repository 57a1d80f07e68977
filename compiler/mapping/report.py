"""All that is said of a mapping, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spikec.compiler.mapping.activity import Activity, Metrics, metrics_of
from spikec.compiler.mapping.estimate import CoreActivity, Estimate, core_activity, estimate
from spikec.compiler.mapping.mapper import Mapped, cores_of
from spikec.compiler.mapping.use import Network
from spikec.compiler.program import CoreMap, Program

__all__ = ["MappingReport", "core_table", "report_on"]


@dataclass(frozen=True, eq=False, kw_only=True)
class MappingReport:
    """A mapping with its metrics, and with activity and costs where a run was given."""

    mapped: Mapped
    metrics: Metrics
    activity: Activity | None
    cores: tuple[CoreActivity, ...] | None
    estimate: Estimate | None

    def as_dict(self) -> dict[str, Any]:
        """Return everything as values that JSON can hold."""
        mapped = self.mapped
        limits = cores_of(mapped.target)
        cores = core_table(mapped.program, mapped.core_map)
        for core, use in zip(cores, mapped.uses, strict=True):
            core["use"] = asdict(use)
            core["fullest"], core["share"] = use.fullest(limits)
        for core, active in zip(cores, self.cores or (), strict=False):
            core["activity"] = asdict(active)
        return {
            "target": mapped.target.name,
            "chips": mapped.chips,
            "limits": asdict(limits),
            "cores_used": len(cores),
            "cores_there": mapped.chips * limits.count,
            "least_cores": mapped.bound,
            "orders": [asdict(item) for item in mapped.tried],
            "messages": {
                "counted": "measured" if mapped.measured else "one a step from every neuron",
                "crossing": mapped.crossing,
                "hops": mapped.hops,
                "from_inputs": float(mapped.outside.sum()),
            },
            "cores": cores,
            "metrics": asdict(self.metrics),
            "run": None
            if self.activity is None
            else {"samples": self.activity.samples, "steps": self.activity.steps},
            "modelled_not_measured": None if self.estimate is None else asdict(self.estimate),
        }


def report_on(mapped: Mapped, activity: Activity | None) -> MappingReport:
    """Return the report of ``mapped``, with what ``activity`` makes of it."""
    network = Network(mapped.program, cores_of(mapped.target))
    cores = None if activity is None else tuple(core_activity(network, mapped, activity))
    return MappingReport(
        mapped=mapped,
        metrics=metrics_of(network, activity),
        activity=activity,
        cores=cores,
        estimate=None if cores is None else estimate(mapped, list(cores)),
    )


def core_table(program: Program, core_map: CoreMap) -> list[dict[str, Any]]:
    """Return for every core its place, and the neurons of each population on it."""
    columns, rows = core_map.tiles
    table: list[dict[str, Any]] = []
    for core, site in enumerate(core_map.sites.tolist()):
        tile, on_tile = divmod(site, core_map.cores_per_tile)
        chip, on_chip = divmod(tile, columns * rows)
        place = {"chip": chip, "column": on_chip % columns, "row": on_chip // columns}
        table.append({"core": core, **place, "on_tile": on_tile, "populations": {}})
    for neurons, cores in zip(program.populations, core_map.cores, strict=True):
        for core, count in enumerate(np.bincount(cores.reshape(-1))):
            if count:
                table[core]["populations"][neurons.name] = int(count)
    return table
