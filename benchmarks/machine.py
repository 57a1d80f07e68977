"""The machine that was measured, without what identifies it."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path


def described() -> dict[str, str]:
    """Return model, caches and versions; what cannot be found is left out."""
    facts = {
        "system": f"{platform.system()} {platform.machine()}",
        "processors": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
    }
    listed = _output("lscpu")
    for line in listed.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"Model name", "L1d cache", "L2 cache", "L3 cache", "Hypervisor vendor"}:
            facts[name.strip()] = value.strip()
        if name.strip() == "Flags":
            wanted = ("avx2", "avx512bw", "avx512_vnni", "avx512_bf16", "amx_int8")
            facts["vector units"] = ", ".join(f for f in wanted if f in value.split())
    compiler = _output("cc", "--version").splitlines()
    if compiler:
        facts["compiler"] = compiler[0]
    return facts


def load() -> float:
    """Return how many processes ran on average in the last minute."""
    return round(os.getloadavg()[0], 2)


def stolen() -> float:
    """Return the seconds that the host has kept from this machine since it started."""
    try:
        fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return 0.0
    return int(fields[8]) / os.sysconf("SC_CLK_TCK")


def _output(*command: str) -> str:
    try:
        return subprocess.run(  # noqa: S603 - a list of arguments, no shell
            command, capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return ""
