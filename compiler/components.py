"""Which populations of a program hear each other, in an order that runs can follow.

Kosaraju's way, without recursion; a graph library would take longer to import than most
programs take to run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from spikec.compiler.program import Program

__all__ = ["components"]


def components(program: Program) -> list[list[str]]:
    """Return groups of populations that loops join, each after those it hears.

    Inside a group populations are in the program's order.
    """
    names = [item.name for item in program.populations]
    reached: dict[str, list[str]] = {name: [] for name in names}
    heard: dict[str, list[str]] = {name: [] for name in names}
    for item in program.connections:
        if item.source in reached:
            reached[item.source].append(item.target)
            heard[item.target].append(item.source)
    done: set[str] = set()
    finished = [name for root in names for name in _finished(root, reached, done)]
    taken: set[str] = set()
    place = {name: index for index, name in enumerate(names)}
    groups = (sorted(_finished(root, heard, taken), key=place.__getitem__)
              for root in reversed(finished))  # fmt: skip
    return [group for group in groups if group]


def _finished(root: str, ways: Mapping[str, Iterable[str]], seen: set[str]) -> list[str]:
    """Return what ``root`` leads to and was not ``seen``, each after what it leads to itself."""
    if root in seen:
        return []
    seen.add(root)
    finished = []
    open_ones = [(root, iter(ways[root]))]
    while open_ones:
        name, rest = open_ones[-1]
        following = next((item for item in rest if item not in seen), None)
        if following is None:
            finished.append(name)
            open_ones.pop()
        else:
            seen.add(following)
            open_ones.append((following, iter(ways[following])))
    return finished
