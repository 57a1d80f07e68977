"""The time step in an ONNX file's metadata: read, said once, and checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from spikec.compiler.errors import FrontendError, UsageError
from spikec.compiler.frontends import ReadOptions, load_graph
from spikec.compiler.frontends.onnx_write import write
from spikec.models import seed_network


def written(path: Path, dt: float | None) -> Path:
    graph = seed_network(feedforward=[np.full((3, 4), 0.5)], alpha=0.5, beta=0.75, dt=dt)
    write(graph, path)
    return path


def test_the_time_step_comes_back(tmp_path: Path) -> None:
    graph = load_graph(written(tmp_path / "net.onnx", 2.5e-3))
    assert graph.dt == 2.5e-3
    (choice,) = [choice for choice in graph.choices if choice.what == "dt"]
    assert choice.origin == "metadata 'snn.dt'"


def test_an_option_says_what_the_file_leaves_open(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", None)
    assert load_graph(path).dt is None
    graph = load_graph(path, ReadOptions(dt=1e-3))
    assert graph.dt == 1e-3
    assert "option --dt" in [choice.origin for choice in graph.choices]


def test_an_option_cannot_say_it_again(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="says so itself"):
        load_graph(written(tmp_path / "net.onnx", 1e-3), ReadOptions(dt=1e-3))


@pytest.mark.parametrize("said", ["None", "-0.001", "0", "inf", "nan", "soon"])
def test_what_is_no_time_step_is_refused(said: str, tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", 1e-3)
    model = onnx.load(path)
    helper.set_model_props(model, {"snn.dt": said})
    onnx.save(model, path)
    with pytest.raises(FrontendError, match=f"'{said}' is no time step"):
        load_graph(path)
