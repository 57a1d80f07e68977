"""A small network with names that would be markup, and reports of it, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from spikec.cli.main import app
from spikec.compiler.ir import Graph
from spikec.models import dense, network, save, seed_lif, seed_readout, spikes

__all__ = ["HIDDEN", "INPUT", "OUTPUT", "SAMPLES", "STEPS", "hostile_network", "spikec", "write"]

SAMPLES, STEPS = 8, 25
INPUT, HIDDEN, OUTPUT = "in<b>", "<img src=x onerror=alert(1)>", "<!--<script>alert(2)"
_DT = 1e-3


def hostile_network() -> Graph:
    """Return a recurrent network whose names are markup."""
    rng = np.random.default_rng(3)
    return network(
        dt=_DT,
        nodes=[
            spikes(INPUT, 6),
            seed_lif(HIDDEN, 20, tau_syn=5e-3, tau_mem=10e-3, dt=_DT, vth=1.0),
            seed_lif("second & last", 9, tau_syn=5e-3, tau_mem=8e-3, dt=_DT, vth=1.0),
            seed_readout(OUTPUT, 4, tau_syn=5e-3, tau_mem=20e-3, dt=_DT),
        ],
        edges=[
            dense(INPUT, HIDDEN, rng.normal(0.2, 0.5, (20, 6))),
            dense(HIDDEN, HIDDEN, rng.normal(0, 0.2, (20, 20))),
            dense(HIDDEN, "second & last", rng.normal(0.1, 0.3, (9, 20))),
            dense("second & last", OUTPUT, rng.normal(0, 0.3, (4, 9))),
        ],
        outputs=[OUTPUT],
    )


def write(folder: Path) -> tuple[Path, Path]:
    """Write the network and data for it into ``folder``."""
    rng = np.random.default_rng(4)
    graph, data = folder / "net<i>.safetensors", folder / "data.npz"
    save(hostile_network(), graph)
    np.savez(
        data,
        spikes=(rng.random((SAMPLES, STEPS, 6)) < 0.4).astype(np.uint8),
        labels=rng.integers(0, 4, SAMPLES),
    )
    return graph, data


def spikec(*words: str | Path, code: int = 0) -> str:
    """Run the command and return what it printed."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output
