"""The emitted directory: complete, readable, the same each time, never over someone's files."""

from __future__ import annotations

import ast
import io
import json

import numpy as np
import pytest

from spikec.backends.lava.emit import emit, matrix_of, message_bits
from spikec.compiler.errors import UsageError
from spikec.compiler.npz import npz_bytes
from spikec.compiler.operators import Conv2d
from spikec.compiler.program import ProgramInput

FILES = {
    "README.md",
    "manifest.json",
    "network.py",
    "parameters.npz",
    "requirements.txt",
    "runtime.py",
    "spikec_processes/__init__.py",
    "spikec_processes/models.py",
    "spikec_processes/process.py",
}


def content(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def test_same_program_same_bytes(build, tmp_path):
    emit(build(bias_mant=[1, 2, 3]), tmp_path / "a")
    emit(build(bias_mant=[1, 2, 3]), tmp_path / "b")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert set(content(tmp_path / "a")) == FILES
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_needs_no_spikec(build, tmp_path):
    emit(build(reset="subtract"), tmp_path / "net")
    for name, text in content(tmp_path / "net").items():
        if name.endswith(".py"):
            modules = [
                getattr(node, "module", None) or node.names[0].name
                for node in ast.walk(ast.parse(text))
                if isinstance(node, (ast.Import, ast.ImportFrom))
            ]
            assert not [module for module in modules if module.split(".")[0] == "spikec"]


def test_own_processes_stand_alone(build, tmp_path):
    # Lava imports every .py that lies beside the class of a Process.
    emit(build(), tmp_path / "net")
    names = sorted(path.name for path in (tmp_path / "net" / "spikec_processes").iterdir())
    assert names == ["__init__.py", "models.py", "process.py"]


def test_network_names_processes_and_parameters(build, tmp_path):
    emit(build(bias_mant=[1, 2, 3], readout=True, delay=3), tmp_path / "net")
    text = (tmp_path / "net" / "network.py").read_text()
    assert "from lava.proc.lif.process import LIF\n" in text
    assert "cells = net.population(" in text
    assert "bias_mant=p['cells.bias_mant']" in text
    assert "sign_mode=SignMode.MIXED" in text
    assert "delay=3" in text
    assert "readout=True" in text
    assert "vth=131071" in text
    assert "exact=[]" in text
    emit(build(reset="subtract"), tmp_path / "own")
    assert "exact=['cells']" in (tmp_path / "own" / "network.py").read_text()


def test_readme_says_what_is_not_stock_and_not_tried(build, tmp_path):
    emit(build(reset="subtract", readout=True), tmp_path / "net")
    text = (tmp_path / "net" / "README.md").read_text()
    assert "not run on hardware" in text
    assert "| `out` | `LIF` | yes |" in text
    assert "| `cells` | `ExactLIF` | **no** |" in text
    assert "silently" in text


def test_names_are_data(build, tmp_path):
    name = 'a\'"""\n\\import os; os.abort() `|` ${title}'
    emit(build(name=name), tmp_path / "net")
    tree = ast.parse((tmp_path / "net" / "network.py").read_text())
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert name in constants
    imports = {n.names[0].name for n in ast.walk(tree) if isinstance(n, ast.Import)}
    assert not imports
    assert "\n\\import" not in (tmp_path / "net" / "README.md").read_text()


def test_replaces_its_own_directory(build, tmp_path):
    emit(build(), tmp_path / "net")
    emit(build(vth=77), tmp_path / "net")
    assert "vth=77" in (tmp_path / "net" / "network.py").read_text()


def test_fills_an_empty_directory(build, tmp_path):
    (tmp_path / "net").mkdir()
    emit(build(), tmp_path / "net")
    assert set(content(tmp_path / "net")) == FILES


@pytest.mark.parametrize("where", ["stranger", "own and a result", "file", "missing parent"])
def test_refuses_what_is_not_its_own(build, tmp_path, where):
    target = tmp_path / "net"
    if where == "stranger":
        target.mkdir()
        (target / "manifest.json").write_text(json.dumps({"schema": "other", "files": []}))
    elif where == "own and a result":
        emit(build(), target)
        (target / "trace.npz").write_bytes(b"precious")
    elif where == "file":
        target.write_text("precious")
    else:
        target = tmp_path / "no" / "net"
    before = content(tmp_path)
    with pytest.raises(UsageError, match="U060") as caught:
        emit(build(), target)
    assert caught.value.diagnostics[0].hint
    assert content(tmp_path) == before


def test_conv_becomes_the_matrix_of_the_same_map():
    rng = np.random.default_rng(1)
    operator = Conv2d(
        weight=rng.integers(-9, 9, (4, 1, 3, 2)).astype(np.int16),
        stride=(2, 1), padding=(1, 1), dilation=(1, 2), groups=2,
    )  # fmt: skip
    values = rng.integers(-5, 5, (3, 2, 5, 17)).astype(np.int64)
    matrix = matrix_of(operator, (2, 5, 17)).astype(np.int64)
    expected = operator.apply(values).reshape(3, -1)
    np.testing.assert_array_equal(values.reshape(3, -1) @ matrix.T, expected)


def test_npz_is_readable_and_takes_any_name():
    arrays = {"file": np.arange(3), "a/b": np.zeros((2, 0)), "allow_pickle": np.array(1)}
    with np.load(io.BytesIO(npz_bytes(arrays)), allow_pickle=False) as read:
        assert {name: read[name].tolist() for name in read.files} == {
            name: values.tolist() for name, values in arrays.items()
        }


@pytest.mark.parametrize(
    ("kind", "low", "high", "bits"),
    [
        ("binary", 0, 1, 0),
        ("graded", 0, 255, 8),
        ("graded", -1, 255, 16),
        ("analog", 0, 1 << 16, 24),
    ],
)
def test_message_bits(kind, low, high, bits):
    assert message_bits(ProgramInput(name="x", shape=(1,), kind=kind, low=low, high=high)) == bits
