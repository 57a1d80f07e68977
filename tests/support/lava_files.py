"""Files as lava-dl writes them (``.net``), built with h5py alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

h5py = pytest.importorskip("h5py")

Fields = dict[str, Any]


def cuba(i_decay: int = 1024, v_decay: int = 300, vth: int = 9, **more: object) -> Fields:
    fields = {"type": b"CUBA", "iDecay": i_decay, "vDecay": v_decay, "vThMant": vth, "refDelay": 1}
    return {f"neuron/{name}": value for name, value in {**fields, **more}.items()}


def sdnn(vth: int = 3, **more: object) -> Fields:
    fields = {"type": b"SDNN", "activation": b"relu", "vThMant": vth}
    return {f"neuron/{name}": value for name, value in {**fields, **more}.items()}


def layer(kind: str, **fields: object) -> Fields:
    return {"type": kind.encode(), **fields}


def write(path: Path, *layers: Fields) -> Path:
    with h5py.File(path, "w") as file:
        file.create_group("layer")
        for index, fields in enumerate(layers):
            file.create_group(f"layer/{index}")
            for name, value in fields.items():
                file[f"layer/{index}/{name}"] = value
    return path
