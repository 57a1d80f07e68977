"""What all tests share: helpers are imported as ``support.<module>``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
