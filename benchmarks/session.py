"""The children that live, and what they are asked: times of a case, and its spikes."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from bound import bound_seconds, measured
from cases import Case
from environments import COMPLETE, cache_folder, python_of
from machine import load
from tools import TOOLS, Child, Tool
from workloads import Workload, kept, operations, simulated

from spikec.backends import open_backend
from spikec.compiler.errors import UsageError

#: Seconds that a turn of fast calls is meant to take, and the most calls in one.
ROUND_SECONDS, MOST_CALLS = 0.2, 64
#: A tool that takes this many times a case's seconds for one call is timed once.
TOO_SLOW = 4
#: Processes of a tool that may end by themselves before it is given up.
DEATHS = 2
BY_NAME = {tool.name: tool for tool in TOOLS}

Spikes = npt.NDArray[np.uint8]


@dataclass
class Turns:
    """What a tool's first timed call says about the others: how many in a turn, how many turns."""

    calls: int = 1
    turns: int = 0
    times: dict[str, list[float]] = field(default_factory=lambda: {"wall": [], "processor": []})

    def plan(self, took: float, case: Case, answer: Mapping[str, Any]) -> None:
        """Set what is to come, given what one call cost; a slow one counts already."""
        self.calls = max(1, min(MOST_CALLS, int(ROUND_SECONDS / max(1e-6, took))))
        each = max(took, ROUND_SECONDS)
        self.turns = max(1, min(case.rounds, int(case.seconds / each)))
        if took > ROUND_SECONDS:
            self.take(answer)
        if took > TOO_SLOW * case.seconds:
            self.turns = 0

    def take(self, answer: Mapping[str, Any]) -> None:
        """Keep an answer's times."""
        for kind in self.times:
            self.times[kind] += answer[kind]

    def due(self, turn: int, rounds: int) -> bool:
        """Say whether the tool is asked in ``turn`` of 1 to ``rounds``: evenly over them."""
        return turn * self.turns // rounds > (turn - 1) * self.turns // rounds


class Session:
    """One run of the benchmarks."""

    def __init__(
        self, stack: contextlib.ExitStack, *, install: bool = True, python: Sequence[str] = ()
    ) -> None:
        self.cache = cache_folder()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.rates = measured(self.cache)
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.missing: dict[str, str] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self._install = install
        self._given = dict(item.split("=", 1) for item in python)
        self._children: dict[tuple[str, int], Child] = {}
        self._deaths: Counter[str] = Counter()
        self._work: dict[Path, dict[str, float]] = {}
        self._stack = stack

    def make_ready(self, cases: Sequence[Case]) -> None:
        """Install what the cases need, make their workloads and compile, before the clock runs."""
        for case in cases:
            kept(self.cache, case.workload, case.make)
        for tool in TOOLS:
            ours = [case for case in cases if tool.name in case.tools and case.batch == 1]
            if any(tool.name in case.tools for case in cases) and self._python(tool):
                self._compile(tool, ours)

    def _compile(self, tool: Tool, cases: Sequence[Case]) -> None:
        marker = self.cache / f"{Path(tool.script).stem}.compiled"
        environment = self.cache / tool.environment / COMPLETE
        if not tool.compiles or (
            marker.is_file()
            and environment.is_file()
            and marker.stat().st_mtime >= environment.stat().st_mtime
        ):
            return
        print(f"{tool.name} compiles", flush=True)
        for case in cases:
            path = kept(self.cache, case.workload, case.make)
            child = self._usable(tool.name, case, Workload.load(path))
            if child is not None:
                self._ask(child, case, workload=str(path), batch=1, threads=1, calls=0)
        if tool.name not in self.missing:
            marker.touch()

    def _python(self, tool: Tool) -> str:
        """Return the tool's Python; where there is none, note why and return ""."""
        if tool.own and not available(tool.argument):
            self._without(tool.name, "this version of spikec has no such backend")
            return ""
        python, reason = python_of(tool.environment, self._given, install=self._install)
        if not python:
            self._without(tool.name, reason)
        return python

    def _without(self, name: str, reason: str) -> None:
        self.missing[name] = reason
        print(f"without {name}: {reason}", flush=True)

    def child(self, name: str, threads: int) -> Child | None:
        """Return the tool's process, started when first asked for; None if it cannot be had."""
        if name in self.missing:
            return None
        if (name, threads) not in self._children:
            tool = BY_NAME[name]
            python = self._python(tool)
            if not python:
                return None
            log = self.cache / f"{Path(tool.script).stem}.log"
            child = self._stack.enter_context(Child(tool, python, threads, log))
            if child.error:
                self._without(name, child.error)
                return None
            self._children[name, threads] = child
            self.versions[name] = dict(child.versions)
        return self._children[name, threads]

    def _ask(self, child: Child, case: Case, **request: Any) -> dict[str, Any]:
        """Ask; a process that ends is started again for the next case, one that hangs is not."""
        answer = child.ask(**request)
        if child.error:
            name = child.tool.name
            child.close()
            self._children = {key: one for key, one in self._children.items() if one is not child}
            self._deaths[name] += 1
            if "no answer" in child.error or self._deaths[name] >= DEATHS:
                self._without(name, f"{child.error} ({case.label})")
        return answer

    def close_others(self, case: Case) -> None:
        """End processes of other numbers of threads than the case's: they hold memory."""
        for (name, threads), child in list(self._children.items()):
            if threads != case.threads:
                child.close()
                del self._children[name, threads]

    def measure(self, case: Case) -> dict[str, Any]:
        """Return a case's figures: seconds per sample of every call, tool by tool."""
        path = kept(self.cache, case.workload, case.make)
        work = Workload.load(path)
        result: dict[str, Any] = {
            "workload": case.workload, "title": work.title, "batch": case.batch,
            "threads": case.threads, "steps": work.spikes.shape[1], "curve": case.curve,
            "at": case.at, "label": case.label, "load": load(), "refused": {},
        }  # fmt: skip
        result |= self._bound(path, work, case)
        request = {"workload": str(path), "batch": case.batch, "threads": case.threads}
        found: dict[str, Turns] = {}
        for name in case.tools:  # after an untimed call, one that says what to expect
            child = self._usable(name, case, work)
            if child is None:
                continue
            answer = self._ask(child, case, **request, calls=1)
            if "error" in answer:
                result["refused"][name] = answer["error"]
                continue
            found[name] = Turns()
            found[name].plan(answer["took"], case, answer)
        for turn in range(1, case.rounds + 1):
            for name, turns in found.items():
                child = self._usable(name, case, work)
                if child is None or name in result["refused"] or not turns.due(turn, case.rounds):
                    continue
                answer = self._ask(child, case, **request, calls=turns.calls)
                if "error" in answer:
                    result["refused"][name] = answer["error"]
                else:
                    turns.take(answer)
        result["tools"] = {name: one.times for name, one in found.items() if one.times["wall"]}
        result["load after"] = load()
        return result

    def _usable(self, name: str, case: Case, work: Workload) -> Child | None:
        tool = BY_NAME[name]
        pictures = any(layer.stride for layer in work.layers)
        if (tool.dense_only and pictures) or (case.batch > 1 and not tool.batches):
            return None
        return self.child(name, case.threads)

    def _bound(self, path: Path, work: Workload, case: Case) -> dict[str, Any]:
        if path not in self._work:
            few = 2 if work.input_shape[0] >= 4096 else 8
            self._work[path] = operations(work, simulated(work, few))
        costs = self._work[path]
        largest = max(layer.weight.size for layer in work.layers)
        found: dict[str, Any] = {"work": costs}
        if self.rates:
            found["bound"] = bound_seconds(self.rates, costs, largest, case.batch)
        return found

    def compare(self, case: Case) -> dict[str, Any]:
        """Return, per tool, which layers have golden's spikes on the first sample, and its rates.

        Of a tool that computes something else: the share of spikes that both have.
        """
        path = kept(self.cache, case.workload, case.make)
        work = Workload.load(path)
        golden = open_backend("simulator", engine="golden").load(work.program())
        trace = golden.run({"input": work.spikes[:1]})
        steps = work.spikes.shape[1]
        expected = [
            np.asarray(trace[f"layer{i}", "spikes"], np.uint8).reshape(steps, -1)
            for i in range(len(work.layers))
        ]
        result: dict[str, Any] = {
            "workload": case.workload, "rates": [float(item.mean()) for item in expected],
            "events": dict(trace.events), "tools": {},
        }  # fmt: skip
        for name in case.tools:
            child = self._usable(name, case, work)
            if child is None:
                continue
            out = self.folder / "spikes.npz"
            answer = self._ask(
                child, case, workload=str(path), batch=1, threads=1, spikes=str(out)
            )  # fmt: skip
            if not answer.get("spikes"):
                continue
            with np.load(out) as held:
                layers = [held[f"layer{i}"].reshape(steps, -1) for i in range(len(work.layers))]
            result["tools"][name] = compared(BY_NAME[name], layers, expected)
        return result


def compared(tool: Tool, layers: Sequence[Spikes], expected: Sequence[Spikes]) -> dict[str, Any]:
    """Return whether each layer's spikes ``[step, neuron]`` are equal, and what is shared."""
    found: dict[str, Any] = {
        "exact": tool.exact,
        "differs": tool.differs,
        "equal": [bool(np.array_equal(*pair)) for pair in zip(layers, expected, strict=True)],
        "rates": [float(item.mean()) for item in layers],
    }
    if tool.early is not None:
        found["common"] = [
            _common(ours, theirs, tool.early[0] + index * tool.early[1])
            for index, (ours, theirs) in enumerate(zip(layers, expected, strict=True))
        ]
    return found


def _common(found: Spikes, expected: Spikes, early: int) -> float:
    """Return the spikes that both have over those that one has; ``found`` has them ``early``."""
    if early < 0:
        return _common(expected, found, -early)
    ours, theirs = found[: len(found) - early] > 0, expected[early:] > 0
    return float((ours & theirs).sum() / max(1, (ours | theirs).sum()))


def available(engine: str) -> bool:
    """Say whether this spikec has the engine, and the computer what it needs."""
    if engine != "c":
        return True
    try:
        open_backend("c")
    except UsageError:
        return False
    return True
