"""How a program was compiled, kept in its provenance: options, command line, calibration data.

With it ``verify`` reads the source and the calibration data as ``compile`` did, unasked. Files are
kept by their names alone, and where a program was written to is not part of how: equal commands
give equal programs on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikec.cli.session import command_line
from spikec.compiler.axes import parse_layouts
from spikec.compiler.errors import UsageError
from spikec.compiler.files import sha256_of_file
from spikec.compiler.frontends import ReadOptions
from spikec.compiler.inputs import Dataset, read_dataset
from spikec.compiler.ir import Graph
from spikec.compiler.program import Program

if TYPE_CHECKING:
    from spikec.cli.loading import CompileOptions

__all__ = ["calibration_beside", "compiled_with", "read_as_compiled"]

#: Options of compiling that are kept, beside those of reading.
_KEPT = ("target", "weight_bits", "steps", "budget", "max_drop", "horizon", "headroom")
#: Options of a command line that do not change what is compiled, first those that take a value.
_WITH_VALUE = ("-o", "--output", "--report")
_ASIDE = (*_WITH_VALUE, "--json")


def compiled_with(
    program: Program, options: CompileOptions, calibration: Dataset | None
) -> Program:
    """Return ``program`` with how it was compiled in its provenance."""
    given = {name: value for name, value in asdict(options.read).items() if value is not None}
    for name in _KEPT:
        if getattr(options, name) is not None:
            given[name] = getattr(options, name)
    if options.layouts is not None:
        given["layout"] = str(options.layouts)
    added: dict[str, object] = {"options": given, "command": _command(command_line())}
    if calibration is not None and options.calibrate is not None:
        added["calibration"] = {
            "path": options.calibrate.name,
            "sha256": sha256_of_file(options.calibrate),
            "samples": [0, calibration.num_samples],
        }
    return replace(program, provenance={**program.provenance, **added})


def _command(words: tuple[str, ...]) -> list[str]:
    kept, skipped = [], False
    for word in words:
        name = word.partition("=")[0]
        if not skipped and name not in _ASIDE and not _is_short_output(word):
            kept.append(_without_folders(word))
        skipped = not skipped and word in _WITH_VALUE
    return kept


def _without_folders(word: str) -> str:
    """Return a word with a file's name alone where it says a path."""
    name, equals, value = word.partition("=") if word.startswith("-") else ("", "", word)
    return name + equals + (Path(value).name if "/" in value or os.sep in value else value)


def _is_short_output(word: str) -> bool:
    """Say whether ``word`` is ``-o`` with its value, in one."""
    return word.startswith("-o") and not word.startswith("--")


def read_as_compiled(program: Program, options: ReadOptions) -> ReadOptions:
    """Return ``options`` with those that ``program`` was compiled with where none are given."""
    said = _said(program, "options")
    known = {item.name: said[item.name] for item in fields(ReadOptions) if item.name in said}
    given = {name: value for name, value in asdict(options).items() if value is not None}
    try:
        return ReadOptions(**{**known, **given})
    except (TypeError, ValueError):
        return options


def calibration_beside(program: Program, network: Graph, beside: Path) -> Dataset | None:
    """Return the calibration data of ``program``, if they are where its source would be.

    A file of the recorded name beside the program, or in the current folder, is taken if its hash
    agrees.
    """
    said, options = _said(program, "calibration"), _said(program, "options")
    path = Path(str(said.get("path", "")))
    steps, layout = options.get("steps"), options.get("layout")
    for candidate in (beside.parent / path.name, Path(path.name)):
        if not path.name or not candidate.is_file():
            continue
        if sha256_of_file(candidate) != said.get("sha256"):
            continue
        try:
            return read_dataset(
                candidate,
                network.inputs,
                steps=steps if isinstance(steps, int) else None,
                layouts=parse_layouts(layout) if isinstance(layout, str) else None,
            )
        except UsageError:
            return None
    return None


def _said(program: Program, part: str) -> Mapping[str, Any]:
    said = program.provenance.get(part)
    return said if isinstance(said, Mapping) else {}
