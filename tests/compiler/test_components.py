"""Groups of populations, compared with a graph library's."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from support.random_programs import random_program

from spikec.compiler.components import components


@pytest.mark.parametrize("seed", range(60))
def test_groups_are_strongly_connected_and_after_what_they_hear(seed: int) -> None:
    program = random_program(np.random.default_rng([21, seed]), max_populations=7)
    names = [item.name for item in program.populations]
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(names)
    graph.add_edges_from(
        (item.source, item.target) for item in program.connections if item.source in names
    )
    found = components(program)
    expected = {frozenset(item) for item in nx.strongly_connected_components(graph)}
    assert {frozenset(group) for group in found} == expected
    assert len(found) == len(expected)
    place = {name: index for index, group in enumerate(found) for name in group}
    assert all(place[a] <= place[b] for a, b in graph.edges)
    assert all(group == sorted(group, key=names.index) for group in found)
