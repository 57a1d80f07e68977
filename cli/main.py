"""The ``spikec`` command.

Heavy imports are inside the commands: ``spikec --help`` loads none of them.
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spikec.cli.reading import READ, reading
from spikec.cli.session import FAILED, Commands, guarded, print_json, progress_bar

if TYPE_CHECKING:  # heavy: imported by the commands that need it
    from spikec.cli.loading import CompileOptions
    from spikec.compiler.frontends import ReadOptions

__all__ = ["app", "main"]

app = typer.Typer(
    name="spikec",
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compile trained spiking networks to fixed-point neuromorphic hardware, "
    "run them bit for bit on a CPU, and verify what quantization did.",
    epilog="Exit codes: 0 fine, 1 a verification or check failed, 2 bad input or usage, 3 a fault "
    "of spikec's, 128 + N ended by signal N.",
)


class RunEngine(str, Enum):
    """How the simulator runs: both give the same integers."""

    fast = "fast"
    golden = "golden"


class RunBackend(str, Enum):
    """Where ``spikec run`` runs."""

    reference = "reference"
    simulator = "simulator"
    c = "c"
    lava = "lava"


class SoftResetName(str, Enum):
    """What runs a reset that takes something off, on Lava."""

    stock = "stock"
    own_model = "own-model"


class ExtentName(str, Enum):
    """On how much validation runs both graphs."""

    bounded = "bounded"
    full = "full"


class ReadoutName(str, Enum):
    """How a class is read from the output."""

    spike_count = "spike-count"
    max_voltage = "max-voltage"
    last_voltage = "last-voltage"
    mean_voltage = "mean-voltage"


class ConversionName(str, Enum):
    """How a network without spikes becomes one with spikes."""

    rate = "rate"


NetworkFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A network file, or a compiled program (.spk).")
]
DataFile = Annotated[
    Path,
    typer.Option("--data", metavar="D.npz", help="spikes [sample, step, features...], labels."),
]
TargetName = Annotated[
    str | None,
    typer.Option("--target", help="A name of 'spikec targets', or a .toml file. Default: loihi2."),
]
WeightBits = Annotated[
    str | None,
    typer.Option(
        "--weight-bits",
        metavar="BITS",
        help="Bits per weight: 8 (default), 'auto' for all that fit, or layer1=6,readout=8.",
    ),
]
Calibrate = Annotated[
    Path | None,
    typer.Option("--calibrate", metavar="D.npz", help="Data to fit weights to; shows ranges."),
]
ValidateOption = Annotated[
    ExtentName,
    typer.Option(
        "--validate", help="How many samples the passes are compared on: some, or all there are."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Readout = Annotated[
    ReadoutName | None,
    typer.Option(
        "--readout",
        help="Default: spike-count; for integrators max-voltage, last-voltage if they do not leak.",
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", min=1, help="Present data of one step (images) for this many."),
]
DataLayout = Annotated[
    str | None,
    typer.Option(
        "--layout",
        metavar="NTCHW",
        help="Axes of the data, a letter each, if not [sample, step, features...]: N sample, T "
        "step, C H W or F features; TNF is time first. Of several inputs: a=TNF,b=NTHWC.",
    ),
]
Samples = Annotated[
    int | None, typer.Option("--samples", min=1, help="Take only the first samples.")
]
LavaPython = Annotated[
    str | None,
    typer.Option("--lava-python", help="A Python 3.10 that has lava-nc, for the Lava backend."),
]
TimeLimit = Annotated[
    float | None,
    typer.Option("--time-limit", min=1.0, help="Seconds that one Lava run may take. Default: 600."),
]


def _options(
    read: ReadOptions,
    target: str | None = None,
    weight_bits: str | None = None,
    calibrate: Path | None = None,
    steps: int | None = None,
    *,
    layout: str | None = None,
) -> CompileOptions:
    from spikec.cli.loading import CompileOptions
    from spikec.compiler.axes import parse_layouts

    return CompileOptions(
        read=read,
        target=target,
        weight_bits=weight_bits,
        calibrate=calibrate,
        steps=steps,
        layouts=None if layout is None else parse_layouts(layout),
    )


@app.command()
@guarded
@reading
def inspect(
    file: NetworkFile,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="PICTURE.svg", help="Draw it into a file too.")
    ] = None,
    read: ReadOptions = READ,
    as_json: AsJson = False,
) -> None:
    """Show what a file holds: every population, edge and semantic choice."""
    from spikec.cli import inspection, tables
    from spikec.cli.loading import read_network
    from spikec.cli.outputs import check_output

    options = _options(read)
    check_output(svg, file, ending=".svg")
    network = read_network(file, options.read)
    if svg is not None:
        from spikec.cli.svg import write_svg

        write_svg(network, svg)
    if as_json:
        print_json(inspection.file_summary(network, file))
        return
    inspection.show(network, file)
    if svg is not None:
        tables.say(f"wrote {svg}")


@app.command(name="compile")
@guarded
@reading
def compile_command(
    file: NetworkFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="NET.spk")],
    target: TargetName = None,
    weight_bits: WeightBits = None,
    calibrate: Calibrate = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="64KiB", help="Choose bits that fit all weights into it."),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option("--max-drop", metavar="0.5%", help="Choose bits that cost no more."),
    ] = None,
    horizon: Annotated[
        int | None,
        typer.Option(
            "--horizon",
            min=1,
            metavar="STEPS",
            help="Steps of the longest run, for sums without leak. Default: --calibrate's.",
        ),
    ] = None,
    headroom: Annotated[
        float | None,
        typer.Option(
            "--headroom",
            metavar="FACTOR",
            help="Room beyond voltages of --calibrate. Default: 1.25; 1.5 without leak.",
        ),
    ] = None,
    max_active: Annotated[
        str | None,
        typer.Option(
            "--max-active",
            metavar="40",
            help="Inputs active in a step at most, or 'data': as in --calibrate. Leaves more bits.",
        ),
    ] = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    validate: ValidateOption = ExtentName.bounded,
    as_json: AsJson = False,
) -> None:
    """Turn a trained network into a fixed-point program, and say what that lost.

    Exits with 1, and writes nothing, if the program is not the network's.
    """
    from spikec.cli import inspection, loading, tables, verification
    from spikec.cli.outputs import check_output
    from spikec.compiler.program_file import write_program

    options = _options(read, target, weight_bits, calibrate, steps, layout=layout)
    options = replace(
        options, budget=budget, max_drop=max_drop, horizon=horizon, headroom=headroom,
        max_active=max_active, validate=validate.value,
    )  # fmt: skip
    loading.refuse_steps_alone(options)
    check_output(output, file, *options.files)
    loaded = loading.load(file, options)
    loading.refuse_idle_validation(loaded.graph, file, options)
    write_program(loaded.program, output)
    report = loaded.report
    if as_json:
        lost = None if report is None else report.as_dict()
        warnings = [] if report is None else list(report.warnings)
        found = None if loaded.validation is None else loaded.validation.as_dict()
        print_json(
            {
                "output": str(output),
                "report": lost,
                "warnings": warnings,
                "validation": found,
                "overrides": list(inspection.overrides(loaded.program)),
            }
        )
        return
    if report is not None:
        inspection.show_quantization(report)
    for line in inspection.overrides(loaded.program):
        tables.say(line)
    if loaded.validation is not None:
        for line in verification.validated(loaded.validation):
            tables.say(line)
    tables.say(f"wrote {output}")


@app.command()
@guarded
@reading
def run(
    file: NetworkFile,
    data: DataFile,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="TRACE.npz")] = None,
    backend: Annotated[RunBackend, typer.Option("--backend")] = RunBackend.simulator,
    engine: Annotated[
        RunEngine | None,
        typer.Option("--engine", help="Of the simulator: fast (default), or its definition."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how the simulator served each connection.")
    ] = False,
    probe: Annotated[
        list[str] | None,
        typer.Option("--probe", metavar="NAME:voltage", help="Record it too; may be repeated."),
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option(
            "--events",
            metavar="EVENTS.npz",
            help="Write spikes as events while they come, in bounded memory (simulator).",
        ),
    ] = None,
    readout: Readout = None,
    samples: Samples = None,
    target: TargetName = None,
    weight_bits: WeightBits = None,
    calibrate: Calibrate = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    lava_python: LavaPython = None,
    time_limit: TimeLimit = None,
    as_json: AsJson = False,
) -> None:
    """Run a network on data: in float (reference), in integers (simulator, c), or on Lava.

    A network file is compiled on the way for the integer backends; a program
    runs as it is.
    """
    from spikec.cli import loading, running
    from spikec.cli.outputs import check_output

    options = _options(read, target, weight_bits, calibrate, steps, layout=layout)
    lava = loading.lava_options([backend.value], python=lava_python, time_limit=time_limit)
    check_output(output, file, data, *options.files, ending=".npz")
    check_output(events, file, data, *options.files, ending=".npz")
    if events is not None:
        running.refuse_with_events(
            {"--output": output, "--probe": probe, "--explain": explain},
            backend=backend.value,
        )
        with progress_bar("running", quiet=as_json) as progress:
            streamed = running.run_events(
                file,
                data,
                events,
                engine=None if engine is None else engine.value,
                readout=None if readout is None else readout.value,
                samples=samples,
                options=options,
                progress=progress,
            )
        if as_json:
            print_json(streamed.summary(events))
        else:
            running.show(streamed, events)
        return
    if output is None:
        loading.refuse_given({"--probe": probe}, "what it records goes into -o TRACE.npz")
    with progress_bar("running", quiet=as_json) as progress:
        result = running.run(
            file,
            data,
            backend=backend.value,
            engine=None if engine is None else engine.value,
            probes=probe or [],
            readout=None if readout is None else readout.value,
            samples=samples,
            options=options,
            lava=lava,
            progress=progress,
            answers=as_json or output is not None,
        )
    if output is not None:
        result.save(output)
    if as_json:
        print_json(result.summary(output) | ({"ways": result.ways} if explain else {}))
        return
    if explain:
        running.show_ways(result)
    running.show(result, output)


@app.command()
@guarded
@reading
def verify(
    file: NetworkFile,
    data: DataFile,
    backends: Annotated[
        str,
        typer.Option(
            "--backends", help="Which must equal the integers: simulator,c,lava, or none."
        ),
    ] = "simulator",
    backend_samples: Annotated[
        int | None,
        typer.Option("--backend-samples", min=1, help="Samples that Lava runs. Default: 100."),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="FILE", help="The network a program came from."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="OUT.html", help="Write it all into one file: .html, .md or .json."
        ),
    ] = None,
    attribute: Annotated[
        bool,
        typer.Option(
            "--attribute", help="With what each choice costs in the report: takes longer."
        ),
    ] = False,
    report_samples: Annotated[
        str | None,
        typer.Option(
            "--report-samples",
            metavar="3,17",
            help="Samples that an HTML report draws, numbered from 0. Default: the most telling.",
        ),
    ] = None,
    max_drop: Annotated[
        str | None,
        typer.Option(
            "--max-drop",
            metavar="0.5%",
            help="Fail if integers lose more accuracy than that against the float network.",
        ),
    ] = None,
    require_float: Annotated[
        bool, typer.Option("--require-float", help="Fail if the float network is not found.")
    ] = False,
    readout: Readout = None,
    samples: Samples = None,
    target: TargetName = None,
    weight_bits: WeightBits = None,
    calibrate: Calibrate = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    lava_python: LavaPython = None,
    time_limit: TimeLimit = None,
    validate: ValidateOption = ExtentName.bounded,
    as_json: AsJson = False,
) -> None:
    """Climb the ladder: float, quantized float, integers, backends. Exits with 1 if it breaks."""
    from spikec.cli import loading, tables, verification
    from spikec.cli import report as reporting

    options = _options(read, target, weight_bits, calibrate, steps, layout=layout)
    options = replace(options, validate=validate.value)
    chosen = loading.backends_of(backends)
    lava = loading.lava_options(
        chosen, python=lava_python, time_limit=time_limit, samples=backend_samples
    )
    drawn = () if report_samples is None else reporting.samples_of(report_samples)
    gate = reporting.Gate(
        max_drop=None if max_drop is None else loading.parse_share(max_drop),
        require_float=require_float,
    )
    reporting.refuse(
        report,
        attribute=attribute,
        samples=report_samples,
        read=[file, data, source, *options.files],
    )
    with progress_bar("verifying", quiet=as_json) as progress:
        found = reporting.examine(
            file,
            data,
            backends=chosen,
            lava=lava,
            source=source,
            readout=None if readout is None else readout.value,
            samples=samples,
            options=options,
            with_evidence=reporting.has_drawings(report),
            with_attribution=attribute,
            drawn=drawn,
            progress=progress,
            gate=gate,
        )
    if report is not None:
        reporting.write(found, report)
    if as_json:
        print_json(found.as_dict())
    else:
        verification.show_verification(found.report)
        if report is not None:
            tables.say(f"wrote {report}")
    if not found.report.passed:
        raise typer.Exit(FAILED)


@app.command()
@guarded
@reading
def diff(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="A trace (.npz), a program, or a network.")
    ],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another of the same network.")],
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="D.npz", help="What programs and networks run on."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0.0, help="Differences up to it count as none.")
    ] = 0.0,
    samples: Samples = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    as_json: AsJson = False,
) -> None:
    """Compare two runs down to the first differing neuron and step. Exits with 1 if they differ."""
    from spikec.cli import comparison

    options = _options(read, None, None, None, steps, layout=layout)
    with progress_bar("comparing", quiet=as_json) as progress:
        report = comparison.diff(
            first,
            second,
            data=data,
            samples=samples,
            tolerance=tolerance,
            options=options,
            progress=progress,
        )
    print_json(report.as_dict()) if as_json else comparison.show(report)
    if not report.same:
        raise typer.Exit(FAILED)


@app.command()
@guarded
@reading
def attribute(
    file: NetworkFile,
    data: DataFile,
    source: Annotated[
        Path | None,
        typer.Option("--source", metavar="FILE", help="The network a program came from."),
    ] = None,
    readout: Readout = None,
    samples: Samples = None,
    target: TargetName = None,
    weight_bits: WeightBits = None,
    calibrate: Calibrate = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    as_json: AsJson = False,
) -> None:
    """Quantize one thing at a time, and all but one: what each choice costs, and what helps."""
    from spikec.cli import attribution

    options = _options(read, target, weight_bits, calibrate, steps, layout=layout)
    with progress_bar("running variants", quiet=as_json) as progress:
        report = attribution.attribute(
            file,
            data,
            source=source,
            readout=None if readout is None else readout.value,
            samples=samples,
            options=options,
            progress=progress,
        )
    print_json(report.as_dict()) if as_json else attribution.show(report)


@app.command()
@guarded
@reading
def sweep(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A network file.")],
    data: DataFile,
    bits: Annotated[
        str, typer.Option("--bits", help="Bits per weight to try, e.g. 8,4,2.")
    ] = "8,7,6,5,4,3,2,1",
    targets: Annotated[
        str, typer.Option("--targets", help="Targets to try: names or .toml files.")
    ] = "loihi2",
    policies: Annotated[
        str | None,
        typer.Option(
            "--policies",
            help="How weights are rounded: max-abs, least-squares; with --calibrate also fitted "
            "(the default then), and mixed bits in the same memory.",
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="KNEE.png", help="Draw the trade-off.")
    ] = None,
    readout: Readout = None,
    samples: Samples = None,
    calibrate: Calibrate = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    as_json: AsJson = False,
) -> None:
    """Compile and run with every number of bits, policy and target: what memory buys."""
    from spikec.cli import sweep as sweeping
    from spikec.cli import tables
    from spikec.cli.outputs import check_output

    options = _options(read, None, None, calibrate, steps, layout=layout)
    check_output(plot, file, data, *options.files, *map(Path, targets.split(",")), ending=".png")
    with progress_bar("sweeping", quiet=as_json) as progress:
        result = sweeping.sweep(
            file,
            data,
            bits=bits,
            targets=targets,
            policies=policies,
            plot=plot is not None,
            readout=None if readout is None else readout.value,
            samples=samples,
            options=options,
            progress=progress,
        )
    if plot is not None:
        sweeping.draw(result, plot)
    print_json(result.as_dict()) if as_json else sweeping.show(result)
    if plot is not None and not as_json:
        tables.say(f"wrote {plot}")


@app.command(name="map")
@guarded
@reading
def map_command(
    file: NetworkFile,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="MAPPED.spk", help="The program with its cores."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="D.npz", help="A run on it counts what cores do."),
    ] = None,
    chips: Annotated[int, typer.Option("--chips", min=1, max=4096, help="How many there are.")] = 1,
    sanafe: Annotated[
        str | None,
        typer.Option(
            "--sanafe", metavar="PYTHON", help="A Python that has SANA-FE: runs it on --data too."
        ),
    ] = None,
    samples: Samples = None,
    target: TargetName = None,
    weight_bits: WeightBits = None,
    calibrate: Calibrate = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    as_json: AsJson = False,
) -> None:
    """Place a program on the cores of a chip: what each holds, and what a run makes it do."""
    from spikec.cli import mapping, tables
    from spikec.cli.outputs import check_output
    from spikec.compiler.program_file import write_program

    options = _options(read, target, weight_bits, calibrate, steps, layout=layout)
    if sanafe is not None:
        mapping.refuse_sanafe_alone(data)
    check_output(output, file, data, *options.files)
    with progress_bar("running", quiet=as_json) as progress:
        report = mapping.map_file(
            file, data=data, samples=samples, chips=chips, options=options, progress=progress
        )
    if output is not None:
        write_program(report.mapped.program, output)
    beside = None
    if sanafe is not None:
        beside = mapping.beside_sanafe(
            report.mapped.program, data, samples=samples, options=options, python=sanafe
        )
    if as_json:
        extra = {} if beside is None else {"sanafe": beside}
        print_json({"output": None if output is None else str(output), **report.as_dict(), **extra})
        return
    mapping.show(report)
    if beside is not None:
        mapping.show_sanafe(beside)
    if output is not None:
        tables.say(f"wrote {output}")


@app.command()
@guarded
@reading
def check(
    file: NetworkFile,
    target: TargetName = None,
    weight_bits: WeightBits = None,
    calibrate: Calibrate = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    as_json: AsJson = False,
) -> None:
    """Say which parts are stock on the chip, and why others are not. Exits with 1 if any is not."""
    from spikec.cli import deployment, loading

    options = _options(read, target, weight_bits, calibrate, steps, layout=layout)
    loading.refuse_steps_alone(options)
    found = deployment.deployment(loading.load(file, options).program)
    print_json(found.as_dict()) if as_json else deployment.show(found)
    if not found.deployable:
        raise typer.Exit(FAILED)


@app.command()
@guarded
@reading
def emit(
    file: NetworkFile,
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")],
    backend: Annotated[
        str, typer.Option("--backend", help="What to emit for: lava, c (portable C99), sanafe.")
    ] = "lava",
    target: TargetName = None,
    weight_bits: WeightBits = None,
    calibrate: Calibrate = None,
    steps: Steps = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    soft_reset: Annotated[
        SoftResetName | None,
        typer.Option(
            "--soft-reset",
            help="For Lava: its stock processes where they are exact, or our model everywhere, "
            "which runs on CPUs only, faster, and records voltages.",
        ),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(
            "--prefix",
            metavar="NAME",
            help="For C: what all its names and its files begin with, so that several networks "
            "link into one program.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a self-contained program for a backend into a folder."""
    from spikec.cli import emission, loading, tables

    options = _options(read, target, weight_bits, calibrate, steps, layout=layout)
    loading.refuse_steps_alone(options)
    emitted = emission.emit(
        file,
        output,
        backend=backend,
        options=options,
        soft_reset=None if soft_reset is None else soft_reset.value,
        prefix=prefix,
    )
    if as_json:
        print_json({"output": str(output), **emitted.said})
    else:
        emission.show(emitted)
        tables.say(f"wrote {output}; {output}/README.md says how to run it")


@app.command()
@guarded
@reading
def convert(
    file: NetworkFile,
    output: Annotated[
        Path, typer.Argument(metavar="TO", help="Ending in .safetensors, .onnx or .nir.")
    ],
    conversion: Annotated[
        ConversionName | None, typer.Option("--convert", help="Turn a ReLU network into spikes.")
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="D.npz", help="Sets the thresholds of --convert."),
    ] = None,
    percentile: Annotated[
        float | None,
        typer.Option("--percentile", help="Of the activations, as threshold. Default: 99.9."),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", metavar="D.npz", help="Accuracy on these. Default: on --data."),
    ] = None,
    samples: Samples = None,
    layout: DataLayout = None,
    read: ReadOptions = READ,
    as_json: AsJson = False,
) -> None:
    """Write a network in another format, or turn a ReLU network into a spiking one."""
    from spikec.cli import conversion as rates
    from spikec.cli import running, tables

    options = _options(read, layout=layout)
    if conversion is None:
        rates.refuse_idle(
            data=data, percentile=percentile, test=test, samples=samples, layout=layout
        )
        notes = running.convert(file, output, options.read)
        if as_json:
            print_json({"output": str(output), "notes": list(notes)})
            return
        for note in notes:
            tables.say_aside(note)
        tables.say(f"wrote {output}")
        return
    with progress_bar("measuring", quiet=as_json) as progress:
        result = rates.convert(
            file,
            output,
            data=data,
            test=test,
            percentile=percentile,
            samples=samples,
            options=options,
            progress=progress,
        )
    print_json(result.as_dict()) if as_json else rates.show(result)


@app.command()
@guarded
def targets(as_json: AsJson = False) -> None:
    """List the chips that programs can be compiled for."""
    from dataclasses import asdict

    from spikec.cli import tables
    from spikec.compiler.targets import SHIPPED, load_target

    known = [load_target(name) for name in SHIPPED]
    if as_json:
        print_json({"targets": [asdict(item) for item in known]})
    else:
        tables.show_targets(known)


@app.command()
@guarded
def zoo(
    name: Annotated[str | None, typer.Argument(help="Copy this network and its data.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="DIR", help="Default: here.")
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, max=10_000, help="Of its data. Default: 1000."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the trained networks that come with spikec, or copy one to start from."""
    from spikec.cli import loading, running, tables

    if name is None:
        loading.refuse_given(
            {"--output": output, "--samples": samples}, "without a NAME nothing is copied"
        )
        known = running.zoo_entries()
        print_json({"networks": known}) if as_json else tables.show_zoo(known)
        return
    written = running.copy_from_zoo(name, output or Path(), samples or 1000)
    if as_json:
        print_json({"written": [str(path) for path in written]})
    else:
        tables.say("wrote " + " and ".join(str(path) for path in written))


@app.command()
@guarded
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR")] = Path("demo-output"),
    samples: Annotated[
        int, typer.Option("--samples", min=1, max=10_000, help="Test images to simulate.")
    ] = 10_000,
    lava_samples: Annotated[
        int, typer.Option("--lava-samples", min=1, help="Of those, how many Lava runs too.")
    ] = 100,
    lava_python: LavaPython = None,
    as_json: AsJson = False,
) -> None:
    """The whole job on a real network: compile, run, verify, a report and a picture."""
    from spikec.cli import demo as demonstration

    result = demonstration.run(
        output,
        samples=samples,
        lava_samples=lava_samples,
        lava_python=lava_python,
        quiet=as_json,
    )
    if as_json:
        print_json(result.as_dict())
    else:
        demonstration.show(result)
    if not result.report.passed:
        raise typer.Exit(FAILED)


@app.command(name="setup-lava")
@guarded
def setup_lava(
    directory: Annotated[
        Path | None, typer.Option("--directory", help="Where; by default the user's cache.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a Python 3.10 environment with lava-nc, for the Lava backend."""
    from spikec.backends.lava import environment
    from spikec.cli import tables

    python = environment.setup(directory)
    if as_json:
        print_json({"python": str(python)})
    else:
        tables.say(f"Lava is ready: {python}")


def main() -> None:
    """Run the command line."""
    from spikec.cli import start

    start.run(app)


if __name__ == "__main__":
    main()
