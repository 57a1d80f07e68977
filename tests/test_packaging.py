"""What a wheel holds is what the folders hold; versions and links agree."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from spikec.compiler.version import VERSION

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("backends", "cli", "compiler", "models")

in_source_tree = pytest.mark.skipif(
    not (ROOT / "compiler").is_dir(), reason="the source tree is not beside the tests"
)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_version_is_said_once(settings: dict[str, Any]) -> None:
    assert settings["project"]["version"] == VERSION == version("spikec")


@in_source_tree
def test_every_folder_with_an_init_is_a_package_and_the_other_way_round(
    settings: dict[str, Any],
) -> None:
    found = sorted(
        "spikec." + ".".join(path.parent.relative_to(ROOT).parts)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("__init__.py")
    )
    assert settings["tool"]["setuptools"]["packages"] == found


@in_source_tree
def test_every_folder_with_python_files_has_an_init() -> None:
    bare = {
        path.parent.relative_to(ROOT).as_posix()
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        if not (path.parent / "__init__.py").is_file()
    }
    assert bare == {"backends/lava/templates", "backends/sanafe/templates"}


@in_source_tree
def test_folders_are_mapped_to_packages(settings: dict[str, Any]) -> None:
    mapping = settings["tool"]["setuptools"]["package-dir"]
    assert mapping == {f"spikec.{folder}": folder for folder in FOLDERS}


@in_source_tree
def test_every_data_file_is_declared(settings: dict[str, Any]) -> None:
    declared = {
        path
        for package, patterns in settings["tool"]["setuptools"]["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package.removeprefix("spikec.").replace(".", "/")).glob(pattern)
    }
    present = {
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and path.suffix != ".py"
        and path.name[0] != "."
        and path.parent.name != "__pycache__"
    }
    assert present - declared == set()
    assert {path.name for path in declared} >= {"py.typed", "loihi2.toml", "mnist-test.npz"}


@in_source_tree
def test_a_pattern_of_data_files_matches_something(settings: dict[str, Any]) -> None:
    for package, patterns in settings["tool"]["setuptools"]["package-data"].items():
        folder = ROOT / package.removeprefix("spikec.").replace(".", "/")
        for pattern in patterns:
            assert list(folder.glob(pattern)), f"{package}: {pattern}"


@in_source_tree
def test_the_links_for_type_checkers_lead_to_the_folders() -> None:
    links = ROOT / ".links" / "spikec"
    assert sorted(path.name for path in links.iterdir()) == sorted(FOLDERS)
    for folder in FOLDERS:
        assert (links / folder).is_symlink()
        assert (links / folder).readlink() == Path("..", "..", folder)
        assert (links / folder).resolve() == ROOT / folder


def test_the_command_is_installed(settings: dict[str, Any]) -> None:
    assert settings["project"]["scripts"] == {"spikec": "spikec.cli.start:main"}
    assert settings["project"]["requires-python"] == ">=3.10"
