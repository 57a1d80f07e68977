"""What quantization did, and whether the machines agree: the ladder F, Q, I, backends."""

from __future__ import annotations

from spikec.compiler.verification.ladder import verify
from spikec.compiler.verification.report import VerificationReport

__all__ = ["VerificationReport", "verify"]
