"""What is in a file, as plain values for JSON, and as a drawing and tables for people."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from spikec.cli import drawing
from spikec.cli.tables import Table, say, table
from spikec.cli.tables import show as show_table
from spikec.compiler.frontends.options import overrides_profile
from spikec.compiler.ir import Graph
from spikec.compiler.mapping.report import core_table
from spikec.compiler.printer import describe, operator_text, switches
from spikec.compiler.program import CoreMap, Populated, Program
from spikec.compiler.program_file import digest_of, recognises
from spikec.compiler.quantize import QuantizationReport
from spikec.compiler.quantize.report import WeightLoss, report_from
from spikec.compiler.resonator import Resonator
from spikec.compiler.sigma_delta import SigmaDelta

__all__ = [
    "NO_DIGEST",
    "choices",
    "file_summary",
    "overrides",
    "placement",
    "show",
    "show_quantization",
    "summary",
]

#: What to say of a program file of version 1.
NO_DIGEST = "none (a file of version 1: nothing covers its header)"


def summary(network: Graph | Program) -> dict[str, Any]:
    """Return all there is to say about a network as plain values."""
    return graph_summary(network) if isinstance(network, Graph) else program_summary(network)


def file_summary(network: Graph | Program, file: Path) -> dict[str, Any]:
    """Return :func:`summary`, for a program file with the digest of its content."""
    digest = {"digest": digest_of(file)} if recognises(file) else {}
    return summary(network) | digest


def show(network: Graph | Program, file: Path) -> None:
    """Print a network that ``file`` holds as a drawing and as tables."""
    if isinstance(network, Graph):
        show_graph(network)
        return
    show_program(network)
    if recognises(file):
        say(f"digest of the whole file: {digest_of(file) or NO_DIGEST}")


def graph_summary(graph: Graph) -> dict[str, Any]:
    """Return every node, edge and choice of a graph as plain values."""
    return {
        "kind": "graph",
        "source": asdict(graph.source),
        "dt": graph.dt,
        "outputs": list(graph.outputs),
        "nodes": [
            {
                "name": node.name,
                "kind": type(node).__name__.lower(),
                "shape": list(node.shape),
                "switches": dict(switches(node)),
            }
            for node in graph.nodes
        ],
        "edges": [
            {
                "name": edge.name,
                "source": edge.source,
                "target": edge.target,
                "operator": operator_text(edge.operator),
                "delay": edge.delay,
            }
            for edge in graph.edges
        ],
        "choices": [asdict(choice) for choice in graph.choices],
    }


def program_summary(program: Program) -> dict[str, Any]:
    """Return every population and connection of a program as plain values."""
    return {
        "kind": "program",
        "target": program.target,
        "dt": program.dt,
        "outputs": list(program.outputs),
        "inputs": [asdict(item) for item in program.inputs],
        "populations": [
            {"name": item.name, "shape": list(item.shape), "parameters": _parameters(item)}
            for item in program.populations
        ],
        "connections": [
            {
                "name": item.name,
                "source": item.source,
                "target": item.target,
                "weights": list(item.operator.weight.shape),
                "operator": operator_text(item.operator),
                "num_weight_bits": item.num_weight_bits,
                "weight_exp": item.weight_exp,
                "sign_mode": item.sign_mode,
                "delay": item.delay,
            }
            for item in program.connections
        ],
        "provenance": dict(program.provenance),
        "core_map": _core_map(program),
    }


def show_graph(graph: Graph) -> None:
    """Print a graph: what flows into what, and every switch."""
    step = "not given" if graph.dt is None else f"{graph.dt:g} s"
    say(f"network from {graph.source.path or 'Python'}: time step {step}, "
        f"output {', '.join(graph.outputs)}")  # fmt: skip
    drawing.draw(graph)
    rows = [
        [node.name, type(node).__name__, "x".join(map(str, node.shape)),
         ", ".join(f"{key} {value}" for key, value in switches(node))]
        for node in graph.nodes
    ]  # fmt: skip
    table("nodes", ["name", "kind", "shape", "switches"], rows)
    rows = [
        [edge.name, edge.source, edge.target, operator_text(edge.operator), str(edge.delay)]
        for edge in graph.edges
    ]  # fmt: skip
    table("edges", ["name", "from", "to", "operator", "delay"], rows)
    if graph.choices:
        rows = [[choice.what, choice.value, choice.origin] for choice in graph.choices]
        table("choices", ["what", "value", "where from"], rows)


def show_program(program: Program) -> None:
    """Print a program in the chip's terms."""
    say(f"program for {program.target}: {program.num_neurons} neurons, "
        f"output {', '.join(program.outputs)}")  # fmt: skip
    drawing.draw(program)
    rows = [
        [item.name, "x".join(map(str, item.shape)),
         ", ".join(f"{key} {value}" for key, value in _parameters(item).items())]
        for item in program.populations
    ]  # fmt: skip
    table("populations", ["name", "shape", "parameters"], rows)
    rows = [
        [item.name, item.source, item.target, operator_text(item.operator),
         f"{item.num_weight_bits} {item.sign_mode}", str(item.weight_exp), str(item.delay)]
        for item in program.connections
    ]  # fmt: skip
    table("connections", ["name", "from", "to", "weights", "bits", "exponent", "delay"], rows)
    if program.core_map is not None:
        show_table(placement(program, program.core_map))
    report = report_from(program.provenance.get("quantization"))
    if report is not None:
        show_quantization(report)


def placement(program: Program, core_map: CoreMap) -> Table:
    """Return which neurons are on which core."""
    rows = [
        (str(item["core"]), f"{item['chip']}/{item['column']},{item['row']}.{item['on_tile']}",
         ", ".join(f"{name} {count}" for name, count in item["populations"].items()))
        for item in core_table(program, core_map)
    ]  # fmt: skip
    return Table(
        title=f"cores of {core_map.target}",
        columns=("core", "chip/tile.core", "neurons"),
        rows=tuple(rows),
    )


def _core_map(program: Program) -> dict[str, Any] | None:
    core_map = program.core_map
    if core_map is None:
        return None
    return {
        "target": core_map.target,
        "chips": core_map.chips,
        "cores": core_table(program, core_map),
    }


def choices(program: Program) -> Iterator[tuple[str, str, str]]:
    """Yield what a program's file left open: the choice, its value, and where it is from."""
    recorded = program.provenance.get("choices")
    for item in recorded if isinstance(recorded, (list, tuple)) else ():
        if isinstance(item, (list, tuple)):
            what, value, origin = (str(part) for part in (*item, "", "", "")[:3])
            yield what, value, origin


def overrides(program: Program) -> tuple[str, ...]:
    """Return a line for each option that was taken over what a profile says."""
    return tuple(
        f"{what} is {value}: {origin}"
        for what, value, origin in choices(program)
        if overrides_profile(origin)
    )


def show_quantization(report: QuantizationReport) -> None:
    """Print what quantization lost."""
    rows = [
        [item.population, _span(item.du), _span(item.dv), _percent(item.tau_syn_error),
         _percent(item.tau_mem_error), _percent(item.kernel_error), _percent(item.vth_error),
         f"{item.proof_margin:.2f}", item.limited_by]
        for item in report.populations
    ]  # fmt: skip
    table(
        f"populations on {report.target}",
        ["name", "du", "dv", "tau_syn error", "tau_mem error", "kernel error", "vth error",
         "overflow margin", "scale limited by"],
        rows,
    )  # fmt: skip
    rows = [
        [item.edge, f"{item.bits} {item.sign_mode}{_kept_in(item)}", str(item.weight_exp),
         f"{item.step:.4g}", _percent(item.rms_error), f"{item.max_error:.3g}",
         f"{item.clipped} of {item.count}"]
        for item in report.weights
    ]  # fmt: skip
    table(
        "weights",
        ["edge", "bits", "exponent", "step", "rms error", "max error", "clipped"],
        rows,
    )
    for entry in report.inputs:
        say(f"input {entry.input}: integers {entry.low}..{entry.high}, one is "
            f"{entry.resolution:g} ({entry.bounds_from})")  # fmt: skip
    _show_horizon(report)
    _show_rounding(report)
    _show_tradeoff(report)
    _show_activity(report)


def _kept_in(item: WeightLoss) -> str:
    """Say what the program stores, where exponents are too few for what was asked for."""
    return f", stored in {item.stored_bits}" if item.stored_bits > max(item.bits, 2) else ""


def _show_horizon(report: QuantizationReport) -> None:
    """Say for how many steps there is room where voltages do not leak, and what may clip."""
    sums = [item for item in report.populations if item.steps_in_range is not None]
    if sums and report.horizon is not None:
        where = "--horizon" if report.horizon_from == "option" else report.horizon_from
        names = ", ".join(item.population for item in sums)
        say(f"room without leak ({names}): for {report.horizon} steps, by {where}")
    for name, count in report.max_active.items():
        say(f"the overflow proof counts on at most {count} active values of '{name}' in a step; "
            "runs count steps with more")  # fmt: skip
    for warning in report.warnings:
        say(f"warning: {warning}")


def _show_rounding(report: QuantizationReport) -> None:
    """Say how weights became levels, and what fitting them to data gained."""
    rounded = [
        [item.population, _percent(item.response_error), _percent(item.nearest_response_error)]
        for item in report.populations
        if item.rounding == "calibrated"
    ]
    if rounded:
        table(
            f"voltage errors, {report.calibration_samples} samples",
            ["population", "fitted", "rounded to the nearest"],
            rounded,
        )
    else:
        say("weights are rounded to the nearest; --calibrate DATA fits them to data")


def _show_tradeoff(report: QuantizationReport) -> None:
    """Print memory against loss, where bits were chosen by it."""
    if report.tradeoff is None:
        return
    rows = [
        ["->" if index == report.tradeoff.chosen else "",
         ", ".join(f"{name} {bits}" for name, bits in item.bits.items()), str(item.bytes),
         f"{item.loss:.3g}", _percent(item.drop)]
        for index, item in enumerate(report.tradeoff.points)
    ]  # fmt: skip
    table(
        f"memory of weights against loss (drop from {report.tradeoff.drop_from})",
        ["", "bits", "bytes", "loss", "drop"],
        rows,
    )


def _show_activity(report: QuantizationReport) -> None:
    """Print how firing changed, where data showed it."""
    rows = [
        [item.population, f"{item.rate:.4f}", f"{item.quantized_rate:.4f}", _percent(item.drift),
         f"{item.died} of {item.neurons}", str(item.woke), str(item.saturated)]
        for item in report.activity
    ]  # fmt: skip
    if rows:
        table(
            "firing on the calibration data",
            ["population", "rate", "quantized", "drift", "died", "woke", "saturated"],
            rows,
        )


def _parameters(neurons: Populated) -> dict[str, str]:
    """Return the integers of a population that differ from the usual ones."""
    if isinstance(neurons, SigmaDelta):
        return _encoder_parameters(neurons)
    if isinstance(neurons, Resonator):
        return _resonator_parameters(neurons)
    named = {"du": describe(neurons.du), "dv": describe(neurons.dv)}
    if neurons.vth is None:
        named["readout"] = "voltage"
    else:
        named |= {"vth": describe(neurons.vth), "reset": f"{neurons.reset}/{neurons.reset_order}"}
    if neurons.bias.any():
        named["bias"] = describe(neurons.bias)
    if neurons.floor is not None:
        named["floor"] = describe(neurons.floor)
    if neurons.max_spikes > 1:
        named["max_spikes"] = str(neurons.max_spikes)
    if neurons.reset_twice:
        named["reset_twice"] = "yes"
    for name, value in (("refractory", neurons.refractory), ("start", neurons.start),
                        ("lag", neurons.view.lag)):  # fmt: skip
        if value:
            named[name] = str(value)
    return named


def _encoder_parameters(item: SigmaDelta) -> dict[str, str]:
    named = {"neuron": item.states}
    if item.vth is None:
        named["readout"] = "voltage"
    else:
        named |= {"vth": str(item.vth), "message_bits": str(item.message_bits)}
    if item.encoding == "sigma_delta":
        named["activation"] = item.activation
    if item.bias.any():
        named["bias"] = describe(item.bias)
    if item.encoding != "sigma":
        named |= {"spike_exp": str(item.spike_exp), "state_exp": str(item.state_exp)}
    for name, value in (("start", item.start), ("lag", item.view.lag)):
        if value:
            named[name] = str(value)
    return named


def _resonator_parameters(item: Resonator) -> dict[str, str]:
    named = {
        "neuron": f"{item.states} ({item.resonance})", "sin_decay": str(item.sin_decay),
        "cos_decay": str(item.cos_decay), "vth": str(item.vth), "state_exp": str(item.state_exp),
        "imaginary": ", ".join(item.imaginary) or "nothing",
    }  # fmt: skip
    for name, value in (("start", item.start), ("lag", item.view.lag)):
        if value:
            named[name] = str(value)
    return named


def _span(values: tuple[int, int]) -> str:
    return str(values[0]) if values[0] == values[1] else f"{values[0]}..{values[1]}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.3g} %"
