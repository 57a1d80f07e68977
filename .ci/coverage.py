"""Hold the modules that define what integers and floats mean to full branch coverage."""

import json
import sys
from pathlib import Path

FULL = ("compiler/fixedpoint.py", "backends/simulator/golden.py", "compiler/reference.py")
FLOOR = 85.0


def main() -> int:
    """Return 1 if a defining module has an untested branch, or the whole falls below the floor."""
    report = json.loads(Path(sys.argv[1]).read_text())
    missed = {
        name: [*file["missing_lines"], *file["missing_branches"]]
        for name, file in report["files"].items()
        if name.endswith(FULL) and (file["missing_lines"] or file["missing_branches"])
    }
    for name, where in missed.items():
        print(f"{name}: not covered: {where}")
    found = [name for name in report["files"] if name.endswith(FULL)]
    total = report["totals"]["percent_covered"]
    print(
        f"coverage {total:.1f} % of lines and branches; {len(found)} defining modules held to 100"
    )
    return int(bool(missed) or len(found) != len(FULL) or total < FLOOR)


if __name__ == "__main__":
    sys.exit(main())
