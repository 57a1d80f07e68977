"""Test the core on the oldest and the newest Python, and once from the built wheel.

Interpreters are looked for on PATH, in pyenv, and with uv (which can fetch them).
Environments live in ``.supported/`` and are made anew each time.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST, NEWEST = "3.10", "3.13"
ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".supported"
CORE = [
    "-m", "not lava and not browser and not once", "-q", "--no-header", "-p", "no:cacheprovider",
    "--numprocesses=2",
]  # fmt: skip


def run(*command: str | Path, cwd: Path = ROOT) -> None:
    """Run a command, shown; stop everything if it fails."""
    print("+", *command, flush=True)
    subprocess.run([str(part) for part in command], cwd=cwd, check=True)


def candidates(version: str) -> Iterator[str]:
    """Yield interpreters that may be ``version``: a pyenv shim on PATH need not run."""
    yield sys.executable
    yield shutil.which(f"python{version}") or ""
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from map(str, sorted((root / "versions").glob(f"{version}.*/bin/python")))


def is_version(python: str, version: str) -> bool:
    """Say whether ``python`` runs and is ``version``."""
    if not python:
        return False
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.strip() == version


def environment(version: str, name: str) -> Path:
    """Return the Python of a new environment of ``version``."""
    folder = WORK / name
    found = next((item for item in candidates(version) if is_version(item, version)), None)
    if found is not None:
        run(found, "-m", "venv", folder)
    else:
        run(sys.executable, "-m", "uv", "venv", "--seed", "--python", version, folder)
    return folder / "bin" / "python"


def main() -> None:
    """Test from the sources on both Pythons, then the wheel away from the sources."""
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    run(sys.executable, "-m", "build", "--wheel", "--outdir", WORK, ROOT)
    (wheel,) = WORK.glob("*.whl")

    oldest = environment(OLDEST, "oldest")
    run(oldest, "-m", "pip", "install", "--quiet", "--editable", ".[test]")
    run(oldest, "-m", "pytest", *CORE)

    newest = environment(NEWEST, "wheel")
    run(newest, "-m", "pip", "install", "--quiet", f"{wheel}[test]")
    away = WORK / "away"
    shutil.copytree(ROOT / "tests", away / "tests")
    shutil.copytree(ROOT / "docs", away / "docs")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, away / name)
    run(newest, "-m", "pytest", *CORE, cwd=away)
    shutil.rmtree(WORK)


if __name__ == "__main__":
    main()
