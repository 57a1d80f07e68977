"""What all tests share: helpers are imported as ``support.<module>``."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

#: The frameworks have an environment of their own: ``make frameworks`` runs those tests.
collect_ignore = [] if find_spec("torch") else ["frameworks"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write tests/golden anew from what is printed"
    )
