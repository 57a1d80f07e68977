"""What all tests share: helpers are imported as ``support.<module>``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from spikec.backends.c import compiler

sys.path.insert(0, str(Path(__file__).parent))

if find_spec("hypothesis"):  # the frameworks' environment has none
    from hypothesis import settings

    # The same examples in every run, so that a commit passes or fails for good;
    # SPIKEC_RANDOM=1 draws new ones.
    settings.register_profile("same", derandomize=not os.environ.get("SPIKEC_RANDOM"))
    settings.load_profile("same")

#: The frameworks have an environment of their own: ``make frameworks`` runs those tests.
collect_ignore = [] if find_spec("torch") else ["frameworks"]
#: ``make nightly`` runs these, half an hour long.
collect_ignore += [] if os.environ.get("SPIKEC_NIGHTLY") else ["nightly"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden anew from what is printed"
    )


@pytest.fixture(scope="session", autouse=True)
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the engines that tests compile out of the user's cache."""
    folder = tmp_path_factory.mktemp("engines")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compiler, "user_cache", lambda: folder)
        yield
