"""Export networks of snnTorch, Norse, SpikingJelly, sinabs and PyTorch, and compare their spikes.

The frameworks are installed beside spikec in an environment of their own, made anew each
time, at the versions in ``frameworks.txt``; it cannot be the one of the other tests, because
sinabs wants an older nir than spikec. SPIKEC_NIGHTLY=1 makes many more networks.
"""

import shutil

from supported import ROOT, WORK, environment, run

PYTHON = "3.11"


def main() -> None:
    """Run the tests marked ``torch``, the programs in ``examples/`` among them."""
    name = "frameworks"
    shutil.rmtree(WORK / name, ignore_errors=True)
    WORK.mkdir(exist_ok=True)
    python = environment(PYTHON, name)
    pins = ROOT / ".ci" / "frameworks.txt"
    run(python, "-m", "pip", "install", "--quiet", "--requirement", pins, "--editable", ".[torch]")
    run(python, "-m", "pytest", "-m", "torch", "-q", "--no-header", "-p", "no:cacheprovider",
        "-W", "ignore", "--durations=5", "--numprocesses=2", "tests/frameworks")  # fmt: skip
    shutil.rmtree(WORK / name)


if __name__ == "__main__":
    main()
