"""Emitted networks in programs of others: called from C++, several at once, with names of ours."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.c_programs import STRICT, build, events_text, shifted
from support.random_programs import random_inputs, random_program

from spikec.backends.c.compiler import find
from spikec.backends.c.emit import emit
from spikec.backends.simulator import golden
from spikec.compiler.arrays import Array
from spikec.compiler.errors import UsageError
from spikec.compiler.inputs import to_integers
from spikec.compiler.program import Program
from spikec.compiler.trace import Probe

ZIG = (sys.executable, "-m", "ziglang")
#: Compilers of C and of C++: those that a package brings, and the host's where it has both.
COMPILERS = {"zig": ((*ZIG, "cc"), (*ZIG, "c++"))}
if shutil.which("cc") and shutil.which("c++"):
    COMPILERS["host"] = (("cc",), ("c++",))
WARNINGS = ("-Wall", "-Wextra", "-Werror")
STEPS = 12


def drawn(seed: int) -> tuple[Program, dict[str, Array]]:
    rng = np.random.default_rng([11, seed])
    program = random_program(rng, max_neurons=12)
    return program, random_inputs(program, rng, 1, STEPS)


def driver(prefix: str, program: Program, inputs: dict[str, Array], folder: Path) -> str:
    """Return a function that runs one network and prints spikes and voltages of each step."""
    names = json.loads((folder / "manifest.json").read_text())["names"]
    idents = {name: ident for ident, name in names.items()}
    integers, _ = to_integers(program, inputs)
    lines = [f"static {prefix}_net {prefix};", f"static void run_{prefix}(void)", "{"]
    lines += ["    uint32_t i;", f"    {prefix}_reset(&{prefix});"]
    events = events_text({idents[name]: values for name, values in integers.items()}, EXTRA)
    for line in events.splitlines():
        words = line.split()
        if words[0] != "step":
            name, index, value = words
            lines.append(f"    {prefix}_set_{name}(&{prefix}, {index}, {value});")
            continue
        for _ in range(int(words[1])):
            lines.append(f"    {prefix}_step(&{prefix});")
            for item in program.populations:
                name = idents[item.name]
                lines.append(f"    for (i = 0; i < {prefix}_size_{name}; ++i) {{")
                got = f"{prefix}_get_{name}(&{prefix}, i)"
                lines.append(f'        printf("%d %d\\n", {got}, {prefix}.{name}_v[i]);')
                lines.append("    }")
    return "\n".join([*lines, "}", ""])


#: Silent steps at the end: more than the lag of any random program.
EXTRA = 8


def expected(program: Program, inputs: dict[str, Array], printed: Array) -> Array:
    """Compare what was printed with golden; return what other networks printed after it."""
    probes: list[Probe] = [(item.name, "voltage") for item in program.populations]
    probes += [(item.name, "spikes") for item in program.populations]
    trace = golden.run(program, inputs, probes=probes)
    moments = STEPS + EXTRA
    number = sum(item.num_neurons for item in program.populations)
    mine = printed[: moments * number].reshape(moments, number, 2)
    begin = 0
    for item in program.populations:
        assert item.view.lag <= EXTRA
        part = mine[:, begin : begin + item.num_neurons]
        begin += item.num_neurons
        for place, quantity in enumerate(("spikes", "voltage")):
            found = shifted(part[None, :, :, place], item, quantity, STEPS)
            wanted = trace[item.name, quantity].reshape(found.shape)
            np.testing.assert_array_equal(found, wanted, err_msg=f"{item.name} {quantity}")
    return printed[moments * number :]


def compiled(command: tuple[str, ...], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("language", ["c", "cpp"])
@pytest.mark.parametrize("compiler", COMPILERS)
def test_two_networks_link_into_one_program_and_both_are_golden(
    compiler: str, language: str, tmp_path: Path
) -> None:
    c, plus = COMPILERS[compiler]
    cases = {"left": drawn(0), "right2_": drawn(1), "spk": drawn(2)}
    text = '#include <stdio.h>\n#include "left.h"\n#include "right2_.h"\n#include "network.h"\n'
    for prefix, (program, inputs) in cases.items():
        emit(program, tmp_path / prefix, prefix=None if prefix == "spk" else prefix)
        text += driver(prefix, program, inputs, tmp_path / prefix)
    text += "int main(void)\n{\n" + "".join(f"    run_{prefix}();\n" for prefix in cases)
    (tmp_path / f"all.{language}").write_text(text + "    return 0;\n}\n")
    sources = [f"{prefix}/{'network' if prefix == 'spk' else prefix}.c" for prefix in cases]
    folders = [f"-I{prefix}" for prefix in cases]
    for source in sources:
        compiled((*c, *STRICT, "-c", source, "-o", source[:-1] + "o"), tmp_path)
    objects = [source[:-1] + "o" for source in sources]
    caller = c if language == "c" else plus
    compiled((*caller, *WARNINGS, *folders, "-c", f"all.{language}", "-o", "all.o"), tmp_path)
    # Nothing of a library of C++ is in it, which takes a minute to build where it is not there.
    compiled((*c, "all.o", *objects, "-o", "all"), tmp_path)
    result = subprocess.run([tmp_path / "all"], capture_output=True, text=True, check=True)
    printed = np.array([line.split() for line in result.stdout.splitlines()], np.int64)
    for program, inputs in cases.values():
        printed = expected(program, inputs, printed)
    assert not len(printed)


@pytest.mark.parametrize("compiler", COMPILERS)
def test_a_program_of_c_plus_plus_can_hold_the_source_too(compiler: str, tmp_path: Path) -> None:
    """A C++ compiler takes a file of C for C++ of its own."""
    emit(drawn(3)[0], tmp_path / "net", prefix="net")
    text = '#include "net.h"\nint main() { static net_net n; net_reset(&n); net_step(&n); }\n'
    (tmp_path / "net" / "user.cpp").write_text(text)
    c, plus = COMPILERS[compiler]
    for source in ("user.cpp", "net.c"):
        command = (*plus, *WARNINGS, "-x", "c++", "-c", source, "-o", f"{source}.o")
        compiled(command, tmp_path / "net")
    compiled((*c, "user.cpp.o", "net.c.o", "-o", "user"), tmp_path / "net")
    subprocess.run([tmp_path / "net" / "user"], check=True)


@pytest.mark.parametrize("prefix", ["spk", "step", "w"])
@pytest.mark.parametrize("name", ["net", "reset", "bias", "step_step"])
def test_what_a_population_is_called_meets_no_name_of_ours(
    prefix: str, name: str, tmp_path: Path
) -> None:
    program = drawn(4)[0]
    names = [item.name for item in program.populations]
    called = {old: name if old == names[0] else old for old in names}

    def renamed(item: str) -> str:
        return called.get(item, item)

    program = replace(
        program,
        populations=tuple(replace(item, name=renamed(item.name)) for item in program.populations),
        connections=tuple(
            replace(item, source=renamed(item.source), target=renamed(item.target))
            for item in program.connections
        ),
        outputs=tuple(map(renamed, program.outputs)),
    )
    emit(program, tmp_path / "net", prefix=prefix)
    compiled((*find().command, *STRICT, "-c", f"{prefix}.c", "-o", "it.o"), tmp_path / "net")


def test_a_population_that_is_called_like_the_prefix(tmp_path: Path) -> None:
    """Its reset voltages were once a constant of the name of a function."""
    program = drawn(0)[0]
    first = program.populations[0]
    odd = replace(
        first, name="spk", reset="value", reset_order="at_spike", reset_drops_input=False,
        reset_value=np.arange(first.num_neurons).reshape(first.shape), max_spikes=1,
        reset_twice=False, vth=np.ones(first.shape, int), floor=None,
    )  # fmt: skip
    alone = replace(
        program,
        populations=(odd,),
        connections=tuple(
            replace(item, target="spk")
            for item in program.connections_into(first.name)
            if item.source in {one.name for one in program.inputs}
        ),
        outputs=("spk",),
    )
    build(alone, tmp_path / "net")


def test_the_makefile_builds_what_has_a_prefix(tmp_path: Path) -> None:
    program = drawn(3)[0]
    emit(program, tmp_path / "net", prefix="gesture")
    assert {path.name for path in (tmp_path / "net").iterdir()} == {
        "gesture.c", "gesture.h", "main.c", "Makefile", "README.md", "manifest.json",
    }  # fmt: skip
    compiled(("make", "-s", f"CC={' '.join(COMPILERS['zig'][0])}"), tmp_path / "net")
    result = subprocess.run(
        [tmp_path / "net" / "gesture"], input="step 2\n", capture_output=True, text=True, check=True
    )
    assert "# " not in result.stdout
    text = "".join(path.read_text() for path in (tmp_path / "net").iterdir() if path.is_file()
                   and path.suffix in (".c", ".h", ".md"))  # fmt: skip
    assert "spk" not in text.lower()


@pytest.mark.parametrize(
    "prefix",
    ["", "1st", "a b", "a-b", "größe", "_net", "int", "class", "main", "MAIN", "string", "aux",
     "a" * 64, "a\n", "../a", "a;b"],
)  # fmt: skip
def test_what_is_no_prefix_is_refused(prefix: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="U131"):
        emit(drawn(0)[0], tmp_path / "net", prefix=prefix)
    assert not (tmp_path / "net").exists()
