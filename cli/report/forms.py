"""The forms of a report: the ending of its name says which."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, TypeAlias

from spikec.cli.loading import idle, refuse_given
from spikec.cli.outputs import check_output
from spikec.cli.report.examination import Examination
from spikec.cli.session import plain_json
from spikec.compiler.errors import Diagnostic, UsageError
from spikec.compiler.files import write_atomically
from spikec.compiler.verification.evidence import MOST

__all__ = ["has_drawings", "refuse", "samples_of", "write"]

Form: TypeAlias = Literal["html", "md", "json"]
_FORMS: dict[str, Form] = {".html": "html", ".md": "md", ".json": "json"}


def has_drawings(path: Path | None) -> bool:
    """Say whether the report at ``path`` shows evidence."""
    return path is not None and _form_of(path) == "html"


def samples_of(text: str) -> tuple[int, ...]:
    """Return the samples that ``--report-samples`` lists, each once."""
    words = [word.strip() for word in text.split(",")]
    numbers = tuple(dict.fromkeys(int(word) for word in words if word.isdecimal()))
    if not all(word.isdecimal() for word in words) or len(numbers) > MOST.samples:
        raise UsageError(
            Diagnostic(
                code="U122",
                where="option --report-samples",
                message=f"'{text}' does not list up to {MOST.samples} samples",
                hint="numbers from 0 with commas between, e.g. 3,17",
            )
        )
    return numbers


def refuse(
    path: Path | None, *, attribute: bool, samples: str | None, read: Sequence[Path | None]
) -> None:
    """Raise :class:`UsageError` before anything is run for a report that cannot be written.

    That is one over a file that is ``read``, in no folder, with an ending that names no form,
    or of HTML without Plotly; and ``--attribute`` without a report, or ``--report-samples``
    (``samples``) without one that draws them.
    """
    if path is None:
        if attribute:
            raise UsageError(idle("--attribute", "it adds to a report, and none is named"))
        refuse_given({"--report-samples": samples}, "there is no --report to draw them in")
        return
    check_output(path, *read)
    if not has_drawings(path):
        refuse_given({"--report-samples": samples}, "only a report as .html draws samples")
    if has_drawings(path) and find_spec("plotly") is None:
        raise UsageError(
            Diagnostic(
                code="U121",
                where=f"option --report {path}",
                message="its drawings need Plotly, which is missing",
                hint="pip install 'spikec[report]', or name a report that ends in .md or .json",
            )
        )


def _form_of(path: Path) -> Form:
    form = _FORMS.get(path.suffix.lower())
    if form is None:
        raise UsageError(
            Diagnostic(
                code="U120",
                where=f"option --report {path}",
                message=f"no form of a report ends in '{path.suffix}'",
                hint=f"one of {', '.join(_FORMS)}",
            )
        )
    return form


def write(examination: Examination, path: Path) -> None:
    """Write a report of ``examination`` to ``path``, whole or not at all."""
    form = _form_of(path)
    if form == "html":
        from spikec.cli.report.html import page

        content = page(examination)
    elif form == "md":
        from spikec.cli.report.markdown import text

        content = text(examination)
    else:
        content = plain_json(examination.as_dict())
    write_atomically(path, content.encode())
