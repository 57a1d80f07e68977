"""The commands and programs in README and docs do what they say.

Blocks marked ``console`` and ``python`` are run. A fragment that needs PyTorch is
marked ``py``: ``tests/tools/make_onnx_fixtures.py`` is the tested form of those.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spikec.cli.diagram import diagram_of
from spikec.cli.drawing import drawn
from spikec.cli.layout import arrange
from spikec.cli.main import app
from spikec.models import zoo
from tests.tools import nir_tables

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, body)
        for page in PAGES
        for kind, body in BLOCK.findall(page.read_text(encoding="utf-8"))
        if kind == language
    ]


@pytest.mark.parametrize(("page", "body"), blocks("console"))
def test_commands_run(
    page: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for line in body.splitlines() if line.startswith("$ ")]
    assert lines, f"{page}: a console block without a command"
    for line in lines:
        program, *arguments = shlex.split(line[2:])
        assert program == "spikec", line
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{page}: {line}\n{result.output}"


@pytest.mark.parametrize(("page", "body"), blocks("python"))
def test_programs_run(
    page: str, body: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code = compile(body, page, "exec")
    exec(code, {"__name__": "__main__"})  # noqa: S102 - our own documentation


def test_the_picture_in_the_readme_is_what_inspect_draws() -> None:
    layout = arrange(diagram_of(zoo.graph("mnist-recurrent")), width=80)
    assert layout is not None
    picture = "\n".join(line.plain for line in drawn(layout))
    assert f"```\n{picture}\n```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_about_nir_are_those_of_the_profiles_and_of_what_is_tested() -> None:
    """``python -m tests.tools.nir_tables`` renews them."""
    text = nir_tables.PAGE.read_text(encoding="utf-8")
    assert nir_tables.renewed(text) == text
