"""Every command on programs of every frontend: it works, or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.every_command import unexpected
from support.network_files import NETWORKS

#: The others run at night.
SOME = (
    "native: convolution", "onnx: foreign", "nir: readout", "relu: mlp",
    "spk: chain", "net: wide weights", "net: odd weights with delays",
    "net: resonators", "net: encoders",
)  # fmt: skip


def test_some_are_among_all() -> None:
    assert set(SOME) < set(NETWORKS)


@pytest.mark.parametrize("network", SOME)
def test_every_command_takes_it_or_says_why_not(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(unexpected(network, tmp_path)) == []
