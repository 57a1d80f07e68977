"""What bits cost: accuracy and spikes of quantized networks, by three ways to round weights.

    python benchmarks/quantization.py     # ten minutes; --quick shows that it works

Each network is compiled at 8, 6, 4, 3 and 2 bits with a scale that clips no weight, with the
scale of the least square error of the weights (what ``spikec compile`` does without data), and
fitted to calibration data (``--calibrate``). The integers then run on samples that were not
calibrated with. Writes ``quantization.json`` and ``quantization.md``.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from spikec.backends import open_backend
from spikec.compiler import frontends, reference
from spikec.compiler.batches import batch_size, run_in_batches
from spikec.compiler.errors import QuantizationError
from spikec.compiler.frontends import ReadOptions
from spikec.compiler.inputs import Dataset
from spikec.compiler.ir import LI, LIF, Graph
from spikec.compiler.program import Program
from spikec.compiler.quantize import WeightBits, compile_graph
from spikec.compiler.targets import load_target
from spikec.compiler.trace import Trace, default_readout, read_out
from spikec.compiler.verification.significance import AccuracyChange, accuracy_change
from spikec.models import zoo
from spikec.models.encoding import rate_code

HERE = Path(__file__).parent
BITS = (8, 6, 4, 3, 2)
WAYS = {"max-abs": "max-abs", "least squares": "least-squares", "fitted": "fitted"}


@dataclass(frozen=True, eq=False, kw_only=True)
class Case:
    """A network and its data: the first ``calibration`` samples are for fitting only."""

    name: str
    format: str
    graph: Graph
    data: Dataset
    calibration: int


@dataclass(frozen=True, kw_only=True)
class Point:
    """One program: ``mismatch`` is differing spikes relative to the float network's."""

    bits: int
    way: str
    change: AccuracyChange | None = None
    mismatch: float | None = None
    seconds: float | None = None
    refused: str = ""


def shipped(samples: int) -> Iterator[Case]:
    """Yield the networks that come with spikec; MNIST's test images are all the data there is."""
    for entry in zoo.ZOO:
        yield Case(
            name=entry.name,
            format="native",
            graph=zoo.graph(entry.name),
            data=zoo.data(entry.name, samples=samples),
            calibration=min(512, samples // 4),
        )
    graph = frontends.load_graph(HERE / "networks" / "mnist-convolution.safetensors", ReadOptions())
    flat = zoo.data("mnist-feedforward", samples=samples)
    images = np.load(Path(zoo.__file__).parent / "mnist-test.npz")["images"][:samples]
    frames = rate_code(images, steps=12).reshape(len(images), 12, 1, 28, 28)
    yield Case(
        name="mnist-convolution",
        format="native",
        graph=graph,
        data=Dataset(inputs={"input": frames}, labels=flat.labels),
        calibration=min(512, samples // 4),
    )


def others(folder: Path) -> Iterator[Case]:
    """Yield networks of other tools on the 360 digits that were kept with them."""
    euler = {"dt": 1e-4, "discretization": "euler"}
    late = {**euler, "reset": "subtract", "reset_order": "next_step", "compare": ">"}
    hard = {**euler, "reset": "zero", "reset_order": "at_spike", "compare": ">="}
    for file, data, options in (
        ("snn_leaky.step.dyn.onnx", "snn_leaky", {}),
        ("hand_cuba_rec.step.dyn.onnx", "hand_cuba_rec", {}),
        ("norse_lif.step.dyn.onnx", "norse_lif", {}),
        ("sj_conv_if_hard.step.dyn.onnx", "sj_conv_if_hard", {}),
        ("snn_leaky.nir", "snn_leaky", late),
        ("sj_conv_if_hard.nir", "sj_conv_if_hard", hard),
    ):
        if not (folder / "onnx" / file).is_file():
            continue
        graph = frontends.load_graph(folder / "onnx" / file, ReadOptions(**options))
        arrays = np.load(folder / "onnx" / f"{data}.npz")
        (node,) = graph.inputs
        shown = arrays["spikes"].reshape(*arrays["spikes"].shape[:2], *node.shape)
        yield Case(
            name=file.split(".")[0],
            format="ONNX" if file.endswith(".onnx") else "NIR",
            graph=graph,
            data=Dataset(inputs={node.name: shown}, labels=arrays["labels"]),
            calibration=120,
        )


def measured(case: Case, numbers: Sequence[int] = BITS) -> dict[str, object]:
    """Return the float network's accuracy and a point for each way and number of bits."""
    fitting = case.data.samples(0, case.calibration)
    test = case.data.samples(case.calibration, case.data.num_samples)
    output = case.graph[case.graph.outputs[0]]
    silent = isinstance(output, LI)
    readout = default_readout(spikes=not silent, leaks=bool((output.beta < 1).any()))
    spiking = [node.name for node in case.graph.populations if isinstance(node, LIF)]
    probes = [(name, "spikes") for name in spiking]
    probes += [(output.name, "voltage")] if silent else []
    neurons = sum(node.num_neurons for node in case.graph.populations)
    wanted = run_in_batches(
        lambda part: reference.run(case.graph, part, probes=probes),
        test.inputs,
        size=batch_size(neurons, test.num_steps),
    )
    before = read_out(wanted, readout)
    points = []
    for bits in numbers:
        for way in WAYS:
            start = time.perf_counter()
            try:
                program = compiled(case.graph, bits, way, fitting)
            except QuantizationError as refusal:
                points.append(Point(bits=bits, way=way, refused=str(refusal.diagnostics[0])))
                continue
            seconds = time.perf_counter() - start
            with open_backend("simulator").load(program) as chip:
                trace = chip.run(test.inputs, probes=probes)
            after = read_out(trace, readout)
            points.append(
                Point(
                    bits=bits,
                    way=way,
                    change=changed(before == test.labels, after == test.labels),
                    mismatch=mismatch(wanted, trace, spiking),
                    seconds=round(seconds, 2),
                )
            )
        print(case.name, case.format, bits, "bits", flush=True)
    return {
        "name": case.name,
        "format": case.format,
        "calibration": fitting.num_samples,
        "samples": test.num_samples,
        "accuracy": float((before == test.labels).mean()),
        "points": [asdict(point) for point in points],
    }


def compiled(graph: Graph, bits: int, way: str, fitting: Dataset) -> Program:
    """Compile by one of the ways."""
    return compile_graph(
        graph,
        load_target("loihi2"),
        weight_bits=WeightBits(default=bits, rounding=WAYS[way]),
        calibration=fitting if way == "fitted" else None,
    ).program


def changed(was_right: np.ndarray, right: np.ndarray) -> AccuracyChange:
    """Return the paired change of accuracy."""
    return accuracy_change(
        "float",
        "integers",
        samples=len(right),
        lost=int((was_right & ~right).sum()),
        gained=int((right & ~was_right).sum()),
    )


def mismatch(wanted: Trace, found: Trace, spiking: list[str]) -> float:
    """Return the differing spikes of all populations relative to those of ``wanted``."""
    differing = sum(int((wanted.spikes(name) != found.spikes(name)).sum()) for name in spiking)
    return differing / max(1, sum(int(wanted.spikes(name).sum(dtype=np.int64)) for name in spiking))


def verdicts(network: dict) -> Iterator[str]:
    """Yield each goal that this network misses; an interval that holds the goal is no miss."""
    drops = {(p["bits"], p["way"]): p["change"] for p in network["points"] if p["change"]}
    for bits, most in ((8, 0.0), (4, 0.005), (3, 0.01)):
        change = drops.get((bits, "fitted"))
        if change and -change["change"] > most and (bits != 8 or change["high"] < 0):
            worse = change["lost"] - change["gained"]
            lost = f"{-100 * change['change']:.2f} points lost ({worse} samples)"
            yield f"missed at {bits} bits: {lost}, {100 * most:g} allowed"
    two, plain = drops.get((2, "fitted")), drops.get((2, "least squares"))
    if two and plain and -two["change"] > max(0.0, -plain["change"]) / 2:
        yield (
            f"missed at 2 bits: {-100 * two['change']:.2f} points lost, more than half of "
            f"{-100 * plain['change']:.2f}"
        )


def markdown(networks: list[dict]) -> str:
    """Return the tables."""
    lines = [
        "# Quantization: bits against accuracy and spikes",
        "",
        "Points of accuracy lost (95 % interval of the paired bootstrap), then spikes that differ,",
        "relative to the float network's. `max-abs` clips no weight, `least squares` is what",
        "`compile` does without data, `fitted` is `compile --calibrate`. Calibration samples are",
        "not among those tested. `benchmarks/quantization.py` measures this.",
        "",
        "Goals of `fitted`: at 8 bits no loss outside the interval, at 4 bits at most 0.5 points,",
        "at 3 bits 1, at 2 bits half of what least squares loses. What misses one is named.",
    ]
    for network in networks:
        lines += [
            "",
            f"## {network['name']} ({network['format']})",
            "",
            "Float accuracy {:.2f} % on {} samples; {} others for calibration.".format(
                100 * network["accuracy"], network["samples"], network["calibration"]
            ),
            "",
            "| bits | " + " | ".join(WAYS) + " |",
            "|" + "---|" * (1 + len(WAYS)),
        ]
        for bits in dict.fromkeys(point["bits"] for point in network["points"]):
            cells = [cell(p) for p in network["points"] if p["bits"] == bits]
            lines.append(f"| {bits} | " + " | ".join(cells) + " |")
        lines += ["", *(f"- {text}" for text in verdicts(network) or ())]
    lines += [
        "",
        "Networks of lava-dl (`.net`) hold integers already: they become programs as they are,",
        "without loss, and have no row here.",
        "",
    ]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def cell(point: dict) -> str:
    """Return loss, interval and mismatch of a point."""
    change = point["change"]
    if change is None:
        return point["refused"]
    lost, low, high = (round(-100 * change[name], 2) + 0.0 for name in ("change", "high", "low"))
    return f"{lost:.2f} ({low:.2f} to {high:.2f}); {100 * point['mismatch']:.1f} %"


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--samples", type=int, default=10_000, help="of MNIST's test images")
    parser.add_argument(
        "--quick", action="store_true", help="few samples of shipped networks at 2 bits"
    )
    parser.add_argument("--output", type=Path, default=HERE / "results")
    options = parser.parse_args()
    samples = 40 if options.quick else options.samples
    cases = [*shipped(samples), *(() if options.quick else others(options.data))]
    networks = [measured(case, BITS[-1:] if options.quick else BITS) for case in cases]
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "quantization.json").write_text(
        json.dumps({"networks": networks}, indent=1) + "\n", encoding="utf-8"
    )
    (options.output / "quantization.md").write_text(markdown(networks), encoding="utf-8")
    print(f"wrote {options.output / 'quantization.md'}")


if __name__ == "__main__":
    main()
