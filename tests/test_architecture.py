"""How the source is laid out: imports point one way, and nothing in it executes data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = ("compiler", "backends", "models", "cli")

pytestmark = pytest.mark.skipif(
    not (ROOT / "compiler").is_dir(), reason="the source tree is not beside the tests"
)

#: What the modules under a folder (or one module) may import of spikec.
MAY_IMPORT = {
    "compiler": ("compiler",),
    "backends": ("backends", "compiler"),
    "models": ("models", "compiler"),
    "cli": ("cli", "models", "backends", "compiler"),
    "examples": ("models", "backends", "compiler"),
    "benchmarks": ("models", "backends", "compiler"),
}
#: What modules (or all those of a folder) inside the compiler may not import.
ABOVE_IR = (
    "compiler.program", "compiler.quantize", "compiler.verification", "compiler.targets",
    "compiler.mapping", "compiler.fixedpoint",
)  # fmt: skip
MAY_NOT_IMPORT = {
    "compiler.errors": ("compiler",),
    "compiler.ir": ("compiler.reference", "compiler.passes", "compiler.frontends", *ABOVE_IR),
    "compiler.check": ("compiler.reference", "compiler.passes", "compiler.frontends", *ABOVE_IR),
    "compiler.printer": ("compiler.reference", "compiler.passes", "compiler.frontends", *ABOVE_IR),
    "compiler.reference": ("compiler.passes", "compiler.frontends", *ABOVE_IR),
    "compiler.passes": ("compiler.reference", "compiler.frontends", *ABOVE_IR),
    "compiler.frontends": ("compiler.passes", "compiler.quantize", "compiler.verification"),
    "compiler.program": ("compiler.quantize", "compiler.verification", "compiler.passes"),
    "compiler.quantize": ("compiler.verification", "compiler.frontends", "compiler.backend"),
    "compiler.verification": ("compiler.frontends", "compiler.passes"),
    # A checker of its own: what the quantizer does wrong must be seen by what it does not share.
    "compiler.validation": (
        "compiler.quantize",
        "compiler.verification",
        "compiler.frontends",
        "compiler.mapping",
        "compiler.backend",
    ),
}


def source_files(*folders: str) -> Iterator[Path]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "templates" not in path.parts:  # they run on Lava's side, without spikec
                yield path


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield what a file imports of spikec, as ``compiler.ir``, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [item.name for item in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{item.name}" for item in node.names]
        for name in names:
            if name.startswith("spikec."):
                yield name.removeprefix("spikec."), node.lineno


def within(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(f"{parent}.") for parent in parents)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_folders_import_in_one_direction(folder: str) -> None:
    wrong = [f"{path.relative_to(ROOT)}:{line} imports {name}"
             for path in source_files(folder) for name, line in imports(path)
             if not within(name, MAY_IMPORT[folder])]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize("module", MAY_NOT_IMPORT)
def test_modules_of_the_compiler_import_what_is_below_them(module: str) -> None:
    paths = [path for path in source_files("compiler") if within(module_of(path), (module,))]
    assert paths
    wrong = [f"{path.relative_to(ROOT)}:{line} imports {name}"
             for path in paths for name, line in imports(path)
             if within(name, MAY_NOT_IMPORT[module]) and not within(name, (module,))]  # fmt: skip
    assert not wrong


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "cPickle", "dill", "marshal", "shelve"}


def complaints(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield f"{node.lineno}: relative import"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            module = getattr(node, "module", None) or ""
            names = {module.split(".")[0], *(item.name.split(".")[0] for item in node.names)}
            if names & FORBIDDEN_MODULES:
                yield f"{node.lineno}: imports {names & FORBIDDEN_MODULES}"
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
                yield f"{node.lineno}: calls {node.func.id}"
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("system", "popen"):
                yield f"{node.lineno}: calls {node.func.attr}"
            for keyword in node.keywords:
                value = keyword.value.value if isinstance(keyword.value, ast.Constant) else None
                if keyword.arg in ("shell", "allow_pickle") and value is not False:
                    yield f"{node.lineno}: {keyword.arg} is not False"


def test_nothing_in_the_product_executes_data() -> None:
    wrong = [f"{path.relative_to(ROOT)}:{item}" for path in source_files(*PRODUCT)
             for item in complaints(ast.parse(path.read_text(encoding="utf-8")))]  # fmt: skip
    assert not wrong


@pytest.mark.parametrize(
    "code",
    ["from . import ir", "import pickle", "from pickle import loads", "eval('1')",
     "run('ls', shell=True)", "np.load(path, allow_pickle=True)", "os.system('ls')",
     "run('ls', shell=flag)"],
)  # fmt: skip
def test_the_check_above_sees(code: str) -> None:
    assert list(complaints(ast.parse(code)))


def test_a_wrong_direction_would_be_seen() -> None:
    assert dict(imports(ROOT / "cli" / "main.py"))
    assert not within("backends.simulator", MAY_IMPORT["compiler"])
    assert within("compiler.passes.retime", ("compiler.passes",))
    assert not within("compiler.passes_of_time", ("compiler.passes",))
