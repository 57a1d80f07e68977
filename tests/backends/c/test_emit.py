"""The emitted C99: complete, the same each time, readable by strict compilers everywhere."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.c_programs import STRICT, build
from support.random_programs import random_program

from spikec.backends.c.emit import emit
from spikec.backends.c.plan import check
from spikec.compiler.errors import GraphError, UsageError
from spikec.compiler.operators import Dense, Sparse, Synapses
from spikec.compiler.program import Connection, Neurons, Program, ProgramInput

FILES = {"Makefile", "README.md", "main.c", "manifest.json", "network.c", "network.h"}
CLANG = (sys.executable, "-m", "ziglang", "cc")


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def drawn(*seed: int) -> Program:
    return random_program(np.random.default_rng(seed))


def small(name: str = "cells") -> Program:
    neurons = {"du": 4095, "dv": 0, "vth": 1, "reset": "zero", "reset_order": "at_spike"}
    connection = Connection(
        name="w",
        source="x",
        target=name,
        operator=Dense(weight=np.array([[2, 4, -2], [0, 0, 8]])),
        weight_exp=0,
        num_weight_bits=8,
        sign_mode="mixed",
        delay=2,
    )
    return Program(
        target="loihi",
        inputs=(ProgramInput(name="x", shape=(3,), kind="binary", low=0, high=1),),
        populations=(Neurons(name=name, shape=(2,), **neurons),),  # type: ignore[arg-type]
        connections=(connection,),
        outputs=(name,),
    )


def test_same_program_same_bytes(tmp_path: Path) -> None:
    for number in range(5):
        emit(drawn(1, number), tmp_path / "a")
        emit(drawn(1, number), tmp_path / "b")
        assert content(tmp_path / "a") == content(tmp_path / "b")
        assert set(content(tmp_path / "a")) == FILES


def test_it_needs_no_float_no_heap_and_no_library_but_memset(tmp_path: Path) -> None:
    for number in range(20):
        emit(drawn(2, number), tmp_path / "net")
        for name in ("network.c", "network.h"):
            code = re.sub(r"/\*.*?\*/", "", (tmp_path / "net" / name).read_text(), flags=re.DOTALL)
            assert not re.search(
                r"\b(float|double|malloc|free|static(?! const| int| void))\b", code
            )
            assert set(re.findall(r"#include (\S+)", code)) <= {
                "<stdint.h>", "<string.h>", '"network.h"',
            }  # fmt: skip


def test_a_run_by_hand(tmp_path: Path) -> None:
    run = build(small(), tmp_path / "net")
    events = "# one spike\nx 1 1\nstep 4\nx 0 1\nstep 1\nreset\nx 2 1\nstep 3\n"
    result = subprocess.run([run], input=events, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == ["2 cells 0 1", "reset", "2 cells 1 1"]
    for wrong in ("y 0 1\n", "x 3 1\n", "x 0\n", "jump 3\n"):
        result = subprocess.run([run], input=wrong, capture_output=True, text=True, check=False)
        assert result.returncode == 2
        assert "line 1" in result.stderr


def test_the_makefile_builds_it(tmp_path: Path) -> None:
    emit(small(), tmp_path / "net")
    subprocess.run(["make", "-s", f"CC={' '.join(CLANG)}"], cwd=tmp_path / "net", check=True)
    result = subprocess.run(
        [tmp_path / "net" / "network"], input="x 1 1\nstep 3\n", capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert result.stdout == "2 cells 0 1\n"


@pytest.mark.parametrize("seed", range(8))
def test_clang_has_no_warning_here_and_on_a_cortex_m4(seed: int, tmp_path: Path) -> None:
    emit(drawn(3, seed), tmp_path / "net")
    include = tmp_path / "include"
    include.mkdir()
    prototype = "#include <stddef.h>\nvoid *memset(void *to, int value, size_t size);\n"
    (include / "string.h").write_text(prototype)
    bare = (
        "-target",
        "thumb-freestanding-eabi",
        "-mcpu=cortex_m4",
        "-ffreestanding",
        f"-I{include}",
    )
    for target in ((), bare):
        for counted in ((), ("-DSPK_COUNT_EVENTS",)):
            command = [
                *CLANG,
                *target,
                *STRICT,
                *counted,
                "-Os",
                "-c",
                "network.c",
                "-o",
                "network.o",
            ]
            result = subprocess.run(
                command, cwd=tmp_path / "net", capture_output=True, text=True, check=False
            )
            assert result.returncode == 0, result.stderr


def test_sizes_are_those_of_the_compiler(tmp_path: Path) -> None:
    for number in range(10):
        sizes = emit(drawn(4, number), tmp_path / "net")
        probe = '#include "network.h"\n#include <stdio.h>\n'
        probe += 'int main(void) { printf("%u", (unsigned)sizeof(spk_net)); return 0; }\n'
        (tmp_path / "probe.c").write_text(probe)
        command = [*CLANG, f"-I{tmp_path / 'net'}", "probe.c", "-o", "probe"]
        subprocess.run(command, cwd=tmp_path, check=True)
        result = subprocess.run([tmp_path / "probe"], capture_output=True, text=True, check=True)
        assert 0 <= int(result.stdout) - sizes.ram < 8
        manifest = json.loads((tmp_path / "net" / "manifest.json").read_text())
        assert manifest["bytes"]["ram"] == sizes.ram


@pytest.mark.parametrize("name", ['a"b\\n', "* #error", "int", "x", "1st", "größe\n#error", "??="])
def test_names_are_data(name: str, tmp_path: Path) -> None:
    if name == "x":
        name = "X"
    run = build(small(name), tmp_path / "net")
    result = subprocess.run(
        [run], input="x 1 1\nstep 3\n", capture_output=True, text=True, check=True
    )
    assert result.stdout.split()[0::2] == ["2", "0"]


@pytest.mark.parametrize("name", ["*/ #error", "??/"])
def test_names_that_could_end_a_comment_are_none(name: str) -> None:
    with pytest.raises(GraphError, match="must not be empty or hold '/'"):
        small(name)


def test_replaces_its_own_directory_and_no_other(tmp_path: Path) -> None:
    emit(small(), tmp_path / "net")
    emit(small("others"), tmp_path / "net")
    assert b"others" in content(tmp_path / "net")["network.h"]
    (tmp_path / "net" / "mine.c").write_text("precious")
    with pytest.raises(UsageError, match="U060"):
        emit(small(), tmp_path / "net")
    lava = tmp_path / "lava"
    lava.mkdir()
    (lava / "manifest.json").write_text('{"schema": "spikec.lava", "files": []}')
    with pytest.raises(UsageError, match="U060"):
        emit(small(), lava)


def test_sparse_synapses_of_a_large_matrix_are_refused() -> None:
    many = 5000
    program = small()
    neurons = {"du": 4095, "dv": 0, "vth": 1, "reset": "zero", "reset_order": "at_spike"}
    synapses = Synapses(targets=np.arange(many), pointers=np.arange(many + 1), outputs=many)
    sparse = Sparse(weight=np.full(many, 2), synapses=synapses)
    large = replace(
        program,
        inputs=(replace(program.inputs[0], shape=(many,)),),
        populations=(Neurons(name="cells", shape=(many,), **neurons),),  # type: ignore[arg-type]
        connections=(replace(program.connections[0], operator=sparse),),
    )
    (finding,) = check(large)
    assert finding.code == "B055"
    assert "5,000 x 5,000" in finding.message
