"""See to a Chromium for the tests of the HTML report; print where it is.

One that is there is taken. Else Debian's headless build is installed where this may be done,
and else the one that Playwright fetches.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
DEBIAN = ("chromium-headless-shell", "fonts-liberation")


def found() -> str | None:
    """Return a Chromium on PATH, or the one that Playwright fetched."""
    given = os.environ.get("SPIKEC_CHROMIUM")
    for name in (given, *NAMES):
        path = name and shutil.which(name)
        if path:
            return path
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        fetched = playwright.chromium.executable_path
    return fetched if Path(fetched).is_file() else None


def install() -> None:
    """Install one; the first way that works."""
    if shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        update = subprocess.run(["apt-get", "-qq", "update"], env=quiet, check=False)
        command = ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *DEBIAN]
        if not update.returncode and not subprocess.run(
            command, env=quiet, check=False, stdout=subprocess.DEVNULL
        ).returncode:  # fmt: skip
            return
    command = [sys.executable, "-m", "playwright", "install", "chromium"]
    subprocess.run(command, check=False, stdout=sys.stderr)


def main() -> int:
    """Return 1 with a remedy if there is no Chromium after all."""
    if found() is None:
        install()
    path = found()
    if path is None:
        print("no Chromium: install one, or name it in SPIKEC_CHROMIUM", file=sys.stderr)
        return 1
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
