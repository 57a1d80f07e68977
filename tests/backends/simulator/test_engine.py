"""The simulator backend: which engine runs, and what it refuses."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.random_programs import random_inputs, random_program

from spikec.backends import open_backend
from spikec.backends.simulator import fast, golden, kernels, layout
from spikec.compiler.arrays import aligned
from spikec.compiler.errors import BackendError, UsageError
from spikec.compiler.frontends.lava_weights import connections
from spikec.compiler.operators import Dense
from spikec.compiler.program import Neurons, Program, ProgramInput


def test_loops_are_compiled_anew_when_what_they_are_made_of_changes() -> None:
    folder = Path(kernels.__file__).parent
    text = "".join((folder / name).read_text("utf-8") for name in ("codes.py", "vectors.py"))
    digest = sha256(text.encode()).hexdigest()[:16]
    assert digest == kernels.MADE_OF, f'write MADE_OF = "{digest}" to kernels.py'


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_both_engines_give_the_same_trace(threads: int) -> None:
    rng = np.random.default_rng(3)
    program = random_program(rng)
    inputs = random_inputs(program, rng, samples=4, steps=9)
    traces = []
    for options in ({"engine": "golden"}, {"threads": threads}):
        with open_backend("simulator", **options).load(program) as executable:
            traces.append(executable.run(inputs))
    first, second = traces
    assert dict(first.events) == dict(second.events)
    for probe in program.default_probes:
        np.testing.assert_array_equal(first[probe], second[probe])


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UsageError, match=r"U072 at engine 'warp'.*\n.*fast, golden"):
        open_backend("simulator", engine="warp")


@pytest.mark.parametrize("engine", ["fast", "golden"])
def test_strict_refuses_a_current_that_wraps(engine: str) -> None:
    for seed in range(100):
        rng = np.random.default_rng([5, seed])
        program = random_program(rng)
        inputs = random_inputs(program, rng, samples=2, steps=9)
        events = open_backend("simulator").load(program).run(inputs).events
        strict = open_backend("simulator", engine=engine, strict=True).load(program)
        if any("wrapped" in name for name in events):
            with pytest.raises(BackendError, match=r"B010.*currents left 24 bits"):
                strict.run(inputs)
            return
        assert strict.run(inputs).events == events
    pytest.fail("no random program wraps")


def test_without_numba_the_error_names_the_other_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    plain = builtins.__import__

    def missing(name: str, *rest: Any, **options: Any) -> Any:
        if name.startswith("numba"):
            raise ImportError("Numba needs NumPy 2.5 or less")
        return plain(name, *rest, **options)

    program = random_program(np.random.default_rng(0))
    monkeypatch.delitem(sys.modules, "spikec.backends.simulator.kernels", raising=False)
    import spikec.backends.simulator as package

    monkeypatch.delattr(package, "kernels", raising=False)
    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(BackendError, match=r"NumPy 2.5 or less.*\n.*--engine golden"):
        open_backend("simulator").load(program)


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64, np.float64])
def test_no_memory_is_read_that_nobody_wrote(monkeypatch: pytest.MonkeyPatch, dtype: type) -> None:
    """Spikes lie in lines of 64 bytes: what is beside them must not be what was there before."""
    weight = Dense(weight=np.arange(-70, 70).reshape(2, 70) * 2)
    program = Program(
        target="loihi2",
        inputs=(ProgramInput(name="in", shape=(70,), kind="binary", low=0, high=1),),
        populations=(
            Neurons(
                name="n", shape=(2,), du=np.array(4095), dv=np.array(300), vth=np.array(9),
                reset="zero", reset_order="at_spike",
            ),
        ),
        connections=tuple(connections(source="in", target="n", operator=weight, delay=1)),
        outputs=("n",),
    )  # fmt: skip

    def dirty(shape: tuple[int, ...], kind: Any, *, blank: bool = True) -> Any:
        values = aligned(shape, kind, blank=blank)
        if not blank:
            values[...] = 1
        return values

    monkeypatch.setattr(fast, "aligned", dirty)
    session = fast.Session(layout.laid_out(program), samples=3, probes=program.default_probes)
    given = {"in": (np.random.default_rng(4).random((3, 12, 70)) < 0.3).astype(dtype)}
    trace = session.run(given, last=True)
    assert not session._sent[:, :, 70:128].any()
    np.testing.assert_array_equal(trace.spikes("n"), golden.run(program, given).spikes("n"))


@pytest.mark.once
def test_no_index_of_a_kernel_leaves_its_array(tmp_path: Path) -> None:
    """A debug build with bounds checks runs random programs; ``make nightly`` runs more."""
    count = 3000 if os.environ.get("SPIKEC_NIGHTLY") else 60
    script = Path(__file__).parents[2] / "tools" / "checked_programs.py"
    checked = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, str(script), "0", str(count)],
        env=checked, capture_output=True, text=True, check=False, timeout=3600,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == [f"{count} programs"], done.stderr[-2000:]
