"""Exporting without PyTorch says what to install; ``tests/frameworks`` has what it does with it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from spikec.compiler.errors import UsageError
from spikec.models import export_torch


@pytest.mark.parametrize("missing", ["torch", "onnxscript"])
def test_the_remedy_is_named(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UsageError, match=r"spikec\[torch\]"):
        export_torch(object(), tmp_path / "net.onnx", inputs=3)
