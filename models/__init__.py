"""Describe networks in Python, and a small zoo of trained ones."""

from __future__ import annotations

from spikec.compiler.frontends.native import read as load
from spikec.compiler.frontends.native import write as save
from spikec.models.build import (
    analog,
    conv2d,
    decay_factor,
    dense,
    graded,
    network,
    seed_lif,
    seed_network,
    seed_readout,
    sparse,
    spikes,
)
from spikec.models.torch_export import export_torch

__all__ = [
    "analog",
    "conv2d",
    "decay_factor",
    "dense",
    "export_torch",
    "graded",
    "load",
    "network",
    "save",
    "seed_lif",
    "seed_network",
    "seed_readout",
    "sparse",
    "spikes",
]
