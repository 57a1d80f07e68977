"""A report in words and tables, whatever it is then written as."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spikec.cli import attribution, inspection, mapping, verification
from spikec.cli.report.examination import Examination
from spikec.cli.tables import Table
from spikec.compiler.verification.parameters import Decays, Parameters, Weights
from spikec.compiler.verification.report import Comparison, VerificationReport
from spikec.compiler.verification.significance import AccuracyChange

__all__ = ["Section", "Tile", "sections", "summary", "tiles"]


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report: ``intro`` says how to read it, ``points`` what was found.

    ``figures`` name drawings, ``details`` are for those who ask.
    """

    anchor: str
    title: str
    intro: str = ""
    points: tuple[str, ...] = ()
    figures: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    details: tuple[Table, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One number that matters, and what it is beside."""

    label: str
    value: str
    note: str
    good: bool | None = None


def summary(found: Examination) -> str:
    """Return the one paragraph for those who read nothing else."""
    report = found.report
    bits = sorted({item.num_weight_bits for item in found.program.connections})
    width = f"{bits[0]}-bit" if len(bits) == 1 else f"{bits[0]}- to {bits[-1]}-bit"
    what = (
        f"{found.name}, compiled to integers for {found.program.target} with {width} weights, was "
        f"run on {_count(report.samples, 'sample')} of {_count(report.steps, 'time step')}."
    )
    parts = [
        what,
        *_validity(report),
        *_accuracy(report),
        *_activity(report),
        *_proof(report),
        *_equality(report),
        f"The weights take {_memory(found.parameters)}.",
    ]
    return " ".join(parts)


def _validity(report: VerificationReport) -> Iterator[str]:
    if report.validation is None:
        return
    if report.validation.passed:
        yield "Every number of the program is the float network's within its rounding."
    else:
        first = report.validation.findings[0]
        yield f"The program is not the float network's: {first.where}, {first.message}."


def tiles(found: Examination) -> tuple[Tile, ...]:
    """Return the numbers of the summary, one by one."""
    report = found.report
    lower, integers = report.rungs[0], report.rung("I")
    rows = []
    if integers.accuracy is not None:
        note = "" if lower.accuracy is None else f"{lower.name}: {_percent(lower.accuracy)}"
        rows.append(
            Tile(label="accuracy in integers", value=_percent(integers.accuracy), note=note)
        )
    rows.append(
        Tile(
            label=f"same answers as {lower.name}",
            value=_percent(integers.agreement),
            note=f"{report.samples} samples",
        )
    )
    worst = _worst(report)
    if worst is not None:
        rows.append(Tile(label="spikes changed by quantizing", value=_percent(worst[1]),
                         note=f"most, in {worst[0]}"))  # fmt: skip
    decisions = sum(item.decisions for item in report.certificates)
    if decisions:
        certified = sum(item.certified for item in report.certificates)
        rows.append(
            Tile(
                label="decisions proved equal",
                value=f"{100 * certified / decisions:.3f} %",
                note=f"{report.unexplained} unexplained",
                good=report.unexplained == 0,
            )
        )
    rows += [
        Tile(
            label=f"{item.upper} against the integers",
            value="equal" if item.passed else f"{item.differing} differ",
            note=f"{item.samples} samples, every value",
            good=item.passed,
        )
        for item in report.comparisons
        if item.must_agree
    ]
    rows.append(Tile(label="memory of weights", value=_memory(found.parameters),
                     note=f"{_count(found.program.num_neurons, 'neuron')}"))  # fmt: skip
    return tuple(rows)


def sections(found: Examination) -> tuple[Section, ...]:
    """Return all parts after the summary."""
    return (
        _ladder(found),
        _layers(found),
        *_samples(found),
        _parameters(found),
        _costs(found),
        _resources(found),
        *_cores(found),
        _provenance(found),
    )


def _ladder(found: Examination) -> Section:
    return Section(
        anchor="ladder",
        title="Ladder",
        intro="The same network, run in several ways on the same data. F to Q is what "
        "approximating the parameters changed, Q to I what rounding added: both are measured. "
        "A backend is promised to equal I in every recorded value.",
        points=verification.sentences(found.report),
        tables=(verification.ladder(found.report),),
    )


def _layers(found: Examination) -> Section:
    report = found.report
    figures = ("layers", "steps", "rates") if found.evidence is not None else ()
    tables = (
        verification.differences(report),
        verification.drifts(report),
        verification.certificates(report),
    )
    return Section(
        anchor="layers",
        title="Layers",
        intro="'End to end' has the errors inherited from the layers before; 'teacher-forced' is "
        "each layer's own error, fed with the float network's spikes. The certificate says "
        "which integer spikes are proved to be those of Q.",
        figures=figures,
        tables=tuple(item for item in tables if item.rows),
        details=tuple(item for item in (verification.margins(report),) if item.rows),
    )


def _samples(found: Examination) -> Iterator[Section]:
    evidence = found.evidence
    if evidence is not None and evidence.exhibits:
        yield Section(anchor="samples", title="Samples", figures=("samples",))


def _parameters(found: Examination) -> Section:
    held = found.parameters
    return Section(
        anchor="parameters",
        title="Weights and decays",
        intro="Weights are what a spike adds to the current, in the network's own units, before "
        "rounding with the gain that makes up for rounded decays; a decay is the share of a state "
        "that one step keeps.",
        figures=("weights", "decays") if found.evidence is not None else (),
        tables=(_weight_table(held.weights), _decay_table(held.decays)),
        details=tuple(_quantization(found.program.provenance.get("quantization"))),
    )


def _weight_table(weights: Sequence[Weights]) -> Table:
    rows = [
        (item.edge, f"{item.source} -> {item.target}", str(item.count),
         f"{item.bits} {item.sign_mode}", str(item.exponent), f"{item.step:.4g}",
         _percent(item.rms_error), _number(item.max_error),
         f"{'-' if item.zeros[0] is None else item.zeros[0]} -> {item.zeros[1]}")
        for item in weights
    ]  # fmt: skip
    return Table(
        title="weights",
        columns=("edge", "from, to", "weights", "stored bits", "exponent", "step", "rms error",
                 "largest error", "zeros"),
        rows=tuple(rows),
    )  # fmt: skip


def _decay_table(decays: Sequence[Decays]) -> Table:
    rows = [
        (item.population, item.kind, _span(item.before), _span(item.after))
        for item in decays
    ]  # fmt: skip
    return Table(
        title="decays: what a step keeps",
        columns=("population", "decay", "before", "after"),
        rows=tuple(rows),
    )


def _quantization(recorded: object) -> Iterator[Table]:
    """Yield the compile report that a program carries: whatever tables it holds."""
    if not isinstance(recorded, Mapping):
        return
    for name, entries in recorded.items():
        yield from _quantization(entries)
        listed = entries if isinstance(entries, (list, tuple)) else ()
        rows = [item for item in listed if isinstance(item, Mapping)]
        if rows:
            columns = tuple(dict.fromkeys(str(key) for item in rows for key in item))
            yield Table(
                title=f"compile report: {name}",
                columns=tuple(column.replace("_", " ") for column in columns),
                rows=tuple(tuple(_cell(item.get(key)) for key in columns) for item in rows),
            )


def _costs(found: Examination) -> Section:
    if found.attribution is None:
        return Section(
            anchor="attribution",
            title="Costs",
            intro="Not measured: 'spikec verify --report FILE --attribute' quantizes one thing at "
            "a time, which takes two runs for each.",
        )
    return Section(
        anchor="attribution",
        title="Costs",
        intro="The float network with one thing quantized ('alone'), and with everything but it "
        "('all but this'): what is high alone breaks much, what is low in the other would "
        "repair much if it were left in float.",
        points=found.attribution.suggestions,
        figures=("attribution",) if found.evidence is not None else (),
        tables=(attribution.costs(found.attribution),),
    )


def _resources(found: Examination) -> Section:
    held = found.parameters.resources
    rows = [
        (item.population, f"{item.neurons:,}", f"{item.synapses:,}", _bytes(item.weight_bytes),
         _bytes(item.state_bytes), str(item.longest_delay))
        for item in held
    ]  # fmt: skip
    total = (
        "all", f"{sum(item.neurons for item in held):,}",
        f"{sum(item.synapses for item in held):,}", _memory(found.parameters),
        _bytes(sum(item.state_bytes for item in held)),
        str(max((item.longest_delay for item in held), default=0)),
    )  # fmt: skip
    return Section(
        anchor="resources",
        title="Resources",
        intro="Weights as they are packed, kernels that are shared counted once; states of 24 "
        "bits. Synapses are the weights that are not 0, wherever they act.",
        tables=(
            Table(
                title="resources",
                columns=("population", "neurons", "synapses", "weights", "states",
                         "longest delay"),
                rows=(*rows, total),
            ),
        ),
    )  # fmt: skip


def _cores(found: Examination) -> Iterator[Section]:
    """Yield where neurons are, if ``spikec map`` has placed them."""
    core_map = found.program.core_map
    if core_map is None:
        return
    mapped = found.mapping
    if mapped is None:
        table = inspection.placement(found.program, core_map)
        unknown = (
            f"spikec has no file of the target '{core_map.target}' that fits this map: "
            "'spikec map --target FILE' says what the cores hold of their limits"
        )
        lines = [unknown]
    else:
        table = mapping.cores_table(mapped)
        lines = [line.strip() for line in mapping.sentences(mapped)]
    yield Section(
        anchor="cores",
        title="Cores",
        intro="Where the program's core map puts the neurons, and what each core holds and does in "
        "a mean step of this run. 'Fullest' is the limit that is nearest. Energy and time are "
        "modelled from published unit costs; nothing was run on hardware.",
        points=tuple(lines),
        tables=(table,),
    )


def _provenance(found: Examination) -> Section:
    network = found.graph or found.program
    plain = inspection.summary(network)
    nodes = [
        (str(node["name"]), str(node.get("kind", "population")),
         "x".join(map(str, node["shape"])),
         ", ".join(f"{key} {value}" for key, value in
                   (node.get("switches") or node.get("parameters") or {}).items()))
        for node in [*plain.get("nodes", []), *plain.get("populations", [])]
    ]  # fmt: skip
    tables = (
        Table(title="files and versions", columns=("what", "value"), rows=found.facts),
        Table(
            title="semantic choices and where each came from",
            columns=("choice", "value", "where from"),
            rows=tuple(inspection.choices(found.program)),
        ),
        Table(
            title="every population, as it was " + ("read" if found.graph else "compiled"),
            columns=("name", "kind", "shape", "meaning"),
            rows=tuple(nodes),
        ),
    )
    return Section(
        anchor="provenance",
        title="Provenance",
        intro="What the file left open is listed with who decided it; all else is as it says.",
        tables=tuple(item for item in tables if item.rows),
    )


def _accuracy(report: VerificationReport) -> Iterator[str]:
    lower, integers = report.rungs[0], report.rung("I")
    if lower.accuracy is None or integers.accuracy is None:
        yield (
            f"The data have no labels; {_percent(integers.agreement)} of the integers' answers "
            f"are those of {_rung(lower.name)}."
        )
        return
    yield (
        f"The integers are right on {_percent(integers.accuracy)} of them, {_rung(lower.name)} "
        f"on {_percent(lower.accuracy)}{_significance(report.changes)}"
    )


def _rung(name: str) -> str:
    return {"F": "the float network", "Q": "the quantized network in float"}.get(name, name)


def _significance(changes: Sequence[AccuracyChange]) -> str:
    change = next((item for item in changes if item.upper == "I"), None)
    if change is None:
        return "."
    if change.lost + change.gained == 0:
        return ": not one answer turned right or wrong."
    chance = "within chance" if change.low <= 0 <= change.high else "more than chance"
    return (
        f": {100 * change.change:+.2f} points, which is {chance} (95 % interval "
        f"{100 * change.low:+.2f} to {100 * change.high:+.2f})."
    )


def _worst(report: VerificationReport) -> tuple[str, float] | None:
    """Return the population whose spikes changed most from F to Q, and how much."""
    first = report.comparisons[0]
    rows = [(row.population, row.mismatch) for row in first.populations if row.mismatch is not None]
    if first.must_agree or not rows or report.rungs[0].name != "F":
        return None
    return max(rows, key=lambda row: row[1])


def _activity(report: VerificationReport) -> Iterator[str]:
    worst = _worst(report)
    if worst is not None:
        yield (
            f"Quantizing moved, added or removed {_percent(worst[1])} of the spikes of {worst[0]}"
            + (", the layer that it changed most." if len(report.certificates) > 2 else ".")
        )


def _proof(report: VerificationReport) -> Iterator[str]:
    decisions = sum(item.decisions for item in report.certificates)
    if not decisions:
        return
    certified = sum(item.certified for item in report.certificates)
    flips = sum(item.explained for item in report.certificates)
    yield (
        f"Of {decisions:,} decisions to spike or not, {100 * certified / decisions:.3f} % are "
        f"proved to be those of the quantized network, and rounding explains "
        f"{_count(flips, 'spike')} that did change"
        + (
            "."
            if not report.unexplained
            else f"; {report.unexplained} are beyond what it explains."
        )
    )


def _equality(report: VerificationReport) -> Iterator[str]:
    promised = [item for item in report.comparisons if item.must_agree]
    for item in promised:
        yield _kept(item)
    if not promised:
        yield "No backend was compared with the integers."


def _kept(item: Comparison) -> str:
    if item.passed:
        return (
            f"The backend {item.upper} gave the same integers in every recorded value "
            f"({_count(item.samples, 'sample')})."
        )
    return f"The backend {item.upper} differs from the integers in {item.differing} values."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _memory(held: Parameters) -> str:
    return _bytes(sum(item.weight_bytes for item in held.resources))


def _bytes(count: float) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def _span(values: tuple[float, float] | None) -> str:
    if values is None:
        return "-"
    low, high = values
    return f"{low:.6g}" if low == high else f"{low:.6g}..{high:.6g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        low, high = (value[0], value[-1]) if value else ("", "")
        return _cell(low) if low == high else f"{_cell(low)}..{_cell(high)}"
    return str(value)
