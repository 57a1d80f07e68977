"""``spikec verify --report``: one file that holds all of a verification.

:mod:`examination` runs and gathers, :mod:`sections` puts into words and tables, and
:mod:`html` and :mod:`markdown` write them down; :mod:`figures` has the data of the drawings.
"""

from __future__ import annotations

from spikec.cli.report.examination import Examination, examine, look_into
from spikec.cli.report.forms import has_drawings, refuse, samples_of, write
from spikec.compiler.verification.report import Gate

__all__ = [
    "Examination",
    "Gate",
    "examine",
    "has_drawings",
    "look_into",
    "refuse",
    "samples_of",
    "write",
]
