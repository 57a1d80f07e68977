"""Weights that a framework writes as [in, out]: told from their shapes, or refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from spikec.compiler.errors import FrontendError
from spikec.compiler.frontends.nir_answers import Answers
from spikec.compiler.frontends.nir_file import NirFile, problem
from spikec.compiler.frontends.nir_shapes import shapes_under
from spikec.compiler.ir import Choice

__all__ = ["oriented"]

_DENSE = ("Affine", "Linear")


def oriented(file: NirFile, answers: Answers) -> tuple[NirFile, Answers]:
    """Return a file whose weights are [out, in], and the answers that hold for it.

    Raises :class:`FrontendError` where both orders fit, which only square weights allow.
    """
    dense = [name for name, node in file.nodes.items() if node.kind in _DENSE]
    if not answers.profile.writes_in_out or not dense:
        return file, answers
    turned = _turned(file, dense)
    if not _fits(turned, answers):
        return file, answers
    if _fits(file, answers):
        raise problem(
            "F125",
            file.path,
            "all weights are square: nothing tells [in, out], as Spyx exports, from [out, in]",
            "--profile spyx-import reads [out, in], as other frameworks write",
        )
    said = Choice(
        what="weights",
        value=f"[in, out], turned; each input counts once: {', '.join(dense)}",
        origin=f"profile '{answers.profile.name}': only so do their shapes fit",
    )
    profile = replace(answers.profile, voltage_gain="one", current_gain="one", if_gain="one")
    return turned, replace(answers, profile=profile, choices=(*answers.choices, said))


def _turned(file: NirFile, dense: list[str]) -> NirFile:
    nodes = dict(file.nodes)
    for name in dense:
        weight = nodes[name].array("weight")
        fields = {**nodes[name].fields, "weight": np.ascontiguousarray(weight.T)}
        nodes[name] = replace(nodes[name], fields=fields)
    return replace(file, nodes=nodes)


def _fits(file: NirFile, answers: Answers) -> bool:
    try:
        shapes_under(file, answers.profile)
    except FrontendError as error:
        if any(item.code != "F114" for item in error.diagnostics):
            raise
        return False
    return True
