"""Every public callable that takes an array is in the table of wrong arrays, or says why not.

What stands here is read from annotations: a new function that takes an array fails until it
is covered by ``tests/compiler/test_entrance.py``, or listed with the reason why it need not be.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.skipif(
    not (ROOT / "compiler").is_dir(), reason="the source tree is not beside the tests"
)

#: Types that are arrays, or hold what a caller gives as arrays.
_ARRAYS = re.compile(
    r"\b(Array|IntArray|FloatArray|ArrayLike|NDArray|ndarray|Dataset|Stream|Trace|Observed)\b"
)
_FOLDERS = ("compiler", "backends", "models", "cli")


def taking_arrays() -> Iterator[str]:
    """Yield ``module:name`` of everything in an ``__all__`` that takes an array."""
    for path in sorted(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.py")):
        if "templates" in path.parts:  # they run on Lava's side, without spikec
            continue
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        yield from (f"{module}:{name}" for name in _public(tree))


def _public(tree: ast.Module) -> Iterator[str]:
    names: list[str] = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in names and _takes(node):
            yield node.name
        if isinstance(node, ast.ClassDef) and node.name in names:
            yield from _of_class(node)


def _of_class(node: ast.ClassDef) -> Iterator[str]:
    fields = (item.annotation for item in node.body if isinstance(item, ast.AnnAssign))
    if any(_ARRAYS.search(ast.unparse(item)) for item in fields):
        yield node.name
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and _takes(item):
            if not item.name.startswith("_"):
                yield f"{node.name}.{item.name}"
            elif item.name in ("__init__", "__call__"):
                yield node.name


def _takes(node: ast.FunctionDef) -> bool:
    arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return any(
        item.annotation is not None and _ARRAYS.search(ast.unparse(item.annotation))
        for item in arguments
    )


#: What ``tests/compiler/test_entrance.py`` gives wrong arrays, the readouts and builders too.
COVERED = {
    "backends.c.run": {"CExecutable.run"},
    "backends.lava.run": {"LavaExecutable.run"},
    "backends.sanafe.run": {"simulate"},
    "backends.simulator.engine": {
        "Steps.run", "SimulatorExecutable.run", "SimulatorExecutable.stream",
    },
    "backends.simulator.fast": {"run", "Session.run"},
    "backends.simulator.golden": {"run", "Chunks.run"},
    "compiler.backend": {"Executable.run"},
    "compiler.entrance": {"taken", "checked"},
    "compiler.inputs": {"Dataset", "Stream", "check_inputs", "check_data", "to_integers"},
    "compiler.ir": {"Population", "LIF"},
    "compiler.mapping.mapper": {"map_program", "recorded"},
    "compiler.program": {"Neurons"},
    "compiler.quantize.budget": {"compile_mixed", "loss_table"},
    "compiler.quantize.lower": {"compile_graph", "translate"},
    "compiler.quantize.observe": {"observe"},
    "compiler.rate": {"convert", "measure"},
    "compiler.reference": {"run"},
    "compiler.timeline": {"Timeline", "Timeline.run", "run_whole"},
    "compiler.trace": {"read_out", "Tally.add"},
    "compiler.validation.validate": {"validate"},
    "compiler.verification.attribution": {"attribute"},
    "compiler.verification.ladder": {"verify"},
    "models.build": {"decay_factor", "dense", "sparse", "conv2d", "seed_network"},
}  # fmt: skip

#: Single callables that need not be, by reason.
SPARED: dict[str, dict[str, set[str]]] = {
    "values that runs and analyses give, and nobody else": {
        "backends.sanafe.run": {"Simulated"},
        "cli.running": {"EventResult", "RunResult"},
        "compiler.event_file": {"Events"},
        "compiler.mapping.mapper": {"Mapped"},
        "compiler.trace": {"Trace"},
        "compiler.trace_file": {"Unit"},
        "compiler.verification.difference": {"Recorded"},
        "compiler.verification.evidence": {"Panel", "Rates", "Evidence"},
        "compiler.verification.parameters": {"Histogram"},
        "compiler.verification.rungs": {"Scale"},
        "compiler.quantize.observe": {"Observed"},
    },
    "behind the gate: given what a run has taken, or a trace": {
        "backends.c.run": {"CExecutable"},
        "backends.lava.run": {"aligned"},
        "backends.simulator.fast": {"Session.advance"},
        "backends.simulator.golden": {"advance"},
        "cli.loading": {"Loaded", "say_notes"},
        "cli.origins": {"compiled_with"},
        "cli.picture": {"draw"},
        "cli.report.examination": {"look_into"},
        "compiler.batches": {"run_in_batches"},
        "compiler.entrance": {"worthless", "uneven"},
        "compiler.event_file": {"EventWriter.add"},
        "compiler.mapping.mapper": {"core_map_of"},
        "compiler.quantize.activity": {"activity_changes"},
        "compiler.quantize.lower": {"validated"},
        "compiler.reference": {
            "in_source_units", "Equations.advance", "Equations.integrate", "Equations.decide",
            "Equations.settle",
        },
        "compiler.relu": {"Layer", "Layer.activation", "ReluNetwork.run"},
        "compiler.timeline": {"State", "Link"},
        "compiler.trace": {"Trace.joined"},
        "compiler.trace_file": {"write_trace"},
        "compiler.validation.findings": {"differing", "outside"},
        "compiler.validation.fit": {"Seen", "seen_in"},
        "compiler.validation.neurons": {"check_population"},
        "compiler.validation.sameness": {"compare_runs"},
        "compiler.validation.weights": {"EdgeWeights"},
        "compiler.verification.certificate": {"certify"},
        "compiler.verification.drift": {"DriftMeter.add"},
        "compiler.verification.evidence": {"Survey.add", "gather"},
        "compiler.verification.forcing": {"Arrivals", "run_forced"},
        "compiler.verification.metrics": {"tally_spikes", "tally_voltages", "first_difference"},
        "compiler.verification.rungs": {"Scale.volts"},
        "compiler.verification.trains": {
            "van_rossum", "coincidences", "coincidence_factor", "earth_movers", "victor_purpura",
        },
    },
    "parameters that a graph or a program checks when it is built": {
        "compiler.ir": {"SourceView"},
        "compiler.program": {"CoreMap", "sign_mode_of"},
    },
    "images, before they are data": {
        "models.encoding": {"rate_code", "scan_code"},
        "models.torch_step": {"StepNetwork.played"},
        "models.zoo": {"ZooEntry"},
    },
}  # fmt: skip

#: Modules (a dot at the end: all inside) of which no callable needs to be, by reason.
SPARED_MODULES = {
    "tables of engines, made of programs": (
        "backends.c.layout", "backends.c.native", "backends.c.native_cell", "backends.lava.graded",
        "backends.simulator.encoders", "backends.simulator.layout", "backends.simulator.product",
        "backends.simulator.resonators", "compiler.storage",
    ),
    "arrays of files: readers check them, and refuse the file": (
        "compiler.axes", "compiler.container", "compiler.frontends.", "compiler.npz",
    ),
    "arithmetic on checked parameters": (
        "compiler.arrays", "compiler.bounds", "compiler.fixedpoint", "compiler.operators",
        "compiler.pages", "compiler.printer", "compiler.sigma_delta", "compiler.quantize.decay",
        "compiler.quantize.gain", "compiler.quantize.horizon", "compiler.quantize.overflow",
        "compiler.quantize.plan", "compiler.quantize.response", "compiler.quantize.rounding",
        "compiler.quantize.weights",
    ),
    "which neuron is where: numbers that mapping made itself": (
        "compiler.mapping.activity", "compiler.mapping.advice", "compiler.mapping.partition",
        "compiler.mapping.sites", "compiler.mapping.traffic", "compiler.mapping.use",
        "compiler.mapping.wires",
    ),
}  # fmt: skip


def _whole_module(module: str) -> bool:
    listed = {name for names in SPARED_MODULES.values() for name in names}
    return any(module == name or (name[-1] == "." and module.startswith(name)) for name in listed)


def _listed() -> set[str]:
    tables = (COVERED, *SPARED.values())
    return {f"{module}:{name}" for table in tables for module, names in table.items()
            for name in names}  # fmt: skip


def test_everything_that_takes_arrays_is_covered_or_says_why_not() -> None:
    found = {name for name in taking_arrays() if not _whole_module(name.partition(":")[0])}
    assert sorted(found - _listed()) == [], "cover it in tests/compiler/test_entrance.py"
    assert sorted(_listed() - found) == [], "these are gone: take them off the lists"


def test_modules_that_are_spared_exist() -> None:
    modules = {name.partition(":")[0] for name in taking_arrays()}
    for name in (name for names in SPARED_MODULES.values() for name in names):
        assert any(module == name or module.startswith(name) for module in modules), name


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("__all__ = ['f']\ndef f(a: Mapping[str, Array]) -> None: ...", ["f"]),
        ("__all__ = ['f']\ndef f(*, a: int, b: Dataset | None = None) -> None: ...", ["f"]),
        ("__all__ = ['A']\nclass A:\n  def run(self, a: Array) -> None: ...", ["A.run"]),
        ("__all__ = ['A']\nclass A:\n  values: tuple[Array, ...]", ["A"]),
        ("__all__ = ['f']\ndef f(a: int) -> Array: ...\ndef g(a: Array) -> None: ...", []),
    ],
)
def test_the_walk_sees(code: str, found: list[str]) -> None:
    assert list(_public(ast.parse(code))) == found
