"""Translation validation: is this program the network it was compiled from?

A checker of its own. It shares graph, program, reference and operators with the compiler, and
nothing with the quantizer: what that does wrong is seen here. Each number of the program is held
against the source's, within the rounding that its grid allows; the passes between are checked
number by number and by running both graphs in float.
"""

from __future__ import annotations

from spikec.compiler.validation.findings import Validation
from spikec.compiler.validation.validate import Extent, validate

__all__ = ["Extent", "Validation", "validate"]
