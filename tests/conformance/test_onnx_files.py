"""Trained networks as ONNX files in every form: each layer spikes as in its framework.

The data is found through ``SPIKEC_SHARED_DATA``; its MANIFEST.md says where it is from.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from spikec.compiler import reference
from spikec.compiler.arrays import Array
from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends import load, load_graph

DEFAULT = Path(__file__).parents[2] / "../shared/data"
DATA = Path(os.environ.get("SPIKEC_SHARED_DATA", DEFAULT)).resolve()
FOLDER = DATA / "onnx"

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(
        not FOLDER.is_dir(),
        reason=f"there is no folder {FOLDER}: set SPIKEC_SHARED_DATA to the shared test data",
    ),
]

#: Every form that a trained network is stored in.
FORMS = {
    "snn_leaky": "scan step.dyn step.ts step_batch.dyn step_fn.ts step_op11.ts step_op13.ts "
    "step_op17.ts step_op18.dyn step_op23.dyn unroll.dyn unroll.ts",
    "hand_cuba_rec": "loop_script.ts loop_script_badshapes.ts scan scan_fn scan_hop.dyn step.dyn "
    "step.ts step_customop.dyn step_fn.dyn unroll.dyn unroll.ts",
    "norse_lif": "scan step.dyn step.ts unroll.dyn unroll.ts",
    "sj_conv_if_hard": "loop_sj014.ts scan step.dyn step.ts unroll.dyn unroll.ts",
}
FILES = [(net, form) for net, forms in FORMS.items() for form in forms.split()]

#: Files that must be refused, and what their refusal must say.
REFUSED = {
    "negative/snn_leaky_init_hidden.ts.onnx": ("no state inputs", "init_hidden=False"),
    "negative/norse_lif_nostate.dyn.onnx": ("no state inputs", "Norse: pass the state"),
    "negative/snn_alpha_subtract_step.dyn.onnx": ("syn_exc", "Alpha"),
    "ann_mlp_bn.ts.onnx": ("no state inputs", "ReLU network"),
    "ann_mlp_bn.dyn.onnx": ("no state inputs", "ReLU network"),
}


@cache
def recorded(net: str) -> dict[str, Array]:
    """Return the framework's own recording of ``net``."""
    with np.load(FOLDER / f"{net}.npz") as archive:
        return {name: archive[name] for name in archive.files}


@pytest.mark.parametrize(("net", "form"), FILES, ids=lambda item: item)
def test_all_layers_spike_as_in_the_framework(net: str, form: str) -> None:
    graph, expected = load_graph(FOLDER / f"{net}.{form}.onnx"), recorded(net)
    (source,), spikes = graph.inputs, expected["spikes"]
    given = spikes.reshape(*spikes.shape[:2], *source.shape)
    trace = reference.run(graph, {source.name: given}, dtype=np.float32)
    stable = expected["stable"]
    assert stable.mean() > 0.99
    layers = [node.name for node in graph.populations]
    assert len(layers) == sum(key.startswith("spk_") for key in expected)
    for index, name in enumerate(layers):
        truth = expected[f"spk_{index}"]
        found = trace.spikes(name).reshape(truth.shape)
        np.testing.assert_array_equal(found[stable], truth[stable], err_msg=name)
        assert truth.mean() > 0.005
    (output,) = graph.outputs
    assert output == layers[-1]
    predicted = trace.spikes(output).reshape(*spikes.shape[:2], -1).sum(axis=1).argmax(axis=1)
    np.testing.assert_array_equal(predicted, expected["pred"])


@pytest.mark.parametrize("file", REFUSED)
def test_what_has_no_spiking_form_is_refused_with_the_reason(file: str) -> None:
    path = FOLDER / file
    with pytest.raises(FrontendError) as caught:
        load(path)
    text = str(caught.value)
    assert path.name in text
    for words in REFUSED[file]:
        assert words in text


def test_every_file_is_in_a_list_here() -> None:
    listed = {f"{net}.{form}.onnx" for net, form in FILES} | set(REFUSED)
    assert {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.onnx")} == listed
