"""Every command on every network that the tests write, of all frontends: ``make nightly``."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.every_command import unexpected
from support.network_files import NETWORKS


@pytest.mark.parametrize("network", NETWORKS)
def test_every_command_takes_it_or_says_why_not(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert list(unexpected(network, tmp_path)) == []
