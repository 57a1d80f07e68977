"""Measure spikec beside its peers: ``python benchmarks/run.py`` (or ``make bench``).

Every tool runs in a child process of its own; they take turns, round by round, so that
whatever else the machine does meets them all. See README.md beside this file.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bound import bound_seconds, measured
from cases import Case, quick, standard
from environments import cache_folder, python_of
from extras import profile, start_up, trained
from machine import described, load, stolen
from report import write
from tools import LEFT_OUT, TOOLS, Child, Tool
from workloads import Workload, kept, operations, simulated

from spikec.backends import open_backend
from spikec.compiler.errors import UsageError

HERE = Path(__file__).parent
#: Seconds that a tool's round of calls is meant to take, and the most calls in one.
ROUND_SECONDS, MOST_CALLS = 0.25, 64
#: Minutes kept for what comes after the cases.
AFTERWARDS = 2.0


class Session:
    """One run of the benchmarks: the children that live, and what was found so far."""

    def __init__(self, arguments: argparse.Namespace, stack: contextlib.ExitStack) -> None:
        self.cache = cache_folder()
        self.cache.mkdir(parents=True, exist_ok=True)
        self.rates = measured(self.cache)
        self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        self.missing: dict[str, str] = {}
        self.children: dict[tuple[str, int], Child] = {}
        self.versions: dict[str, dict[str, str]] = {}
        self.arguments = arguments
        self.stack = stack
        self.given = dict(item.split("=", 1) for item in arguments.python)

    def make_ready(self, cases: Sequence[Case]) -> None:
        """Install what the cases need and make their workloads, before the clock runs."""
        for case in cases:
            kept(self.cache, case.workload, case.make)
        for tool in TOOLS:
            if any(tool.name in case.tools for case in cases):
                self._python(tool)

    def _python(self, tool: Tool) -> str:
        """Return the tool's Python; where there is none, note why and return ""."""
        if tool.own and not _available(tool.argument):
            self.missing[tool.name] = "this version of spikec has no such backend"
            return ""
        install = not self.arguments.no_install
        python, reason = python_of(tool.environment, self.given, install=install)
        if not python:
            self.missing[tool.name] = reason
        return python

    def child(self, name: str, threads: int) -> Child | None:
        """Return the tool's process, started when first asked for; None if it cannot be had."""
        if name in self.missing:
            return None
        if (name, threads) not in self.children:
            tool = next(item for item in TOOLS if item.name == name)
            python = self._python(tool)
            if not python:
                return None
            child = self.stack.enter_context(
                Child(tool, python, threads, self.cache / f"{Path(tool.script).stem}.log")
            )
            if child.error:
                self.missing[name] = child.error
                return None
            self.children[name, threads] = child
            self.versions[name] = dict(child.versions)
        return self.children[name, threads]

    def measure(self, case: Case) -> dict[str, Any]:
        """Return a case's figures: seconds per sample of every call, tool by tool."""
        path = kept(self.cache, case.workload, case.make)
        work = Workload.load(path)
        request = {"workload": str(path), "batch": case.batch, "threads": case.threads}
        result = {
            "workload": case.workload, "title": work.title, "batch": case.batch,
            "threads": case.threads, "steps": work.spikes.shape[1], "curve": case.curve,
            "at": case.at, "load": load(), "tools": {}, "refused": {},
        }  # fmt: skip
        result |= self._bound(work, case)
        calls: dict[str, int] = {}
        for turn in range(case.rounds + 1):  # the first, of one call, says how many there can be
            for name in case.tools:
                child = self._usable(name, case, work)
                if child is None or name in result["refused"]:
                    continue
                answer = child.ask(**request, calls=calls.get(name, 1))
                if "error" in answer:
                    result["refused"][name] = answer["error"]
                    continue
                if not turn:
                    seconds = max(1e-6, answer["wall"][0] * case.batch)
                    calls[name] = max(1, min(MOST_CALLS, int(ROUND_SECONDS / seconds)))
                    continue
                times = result["tools"].setdefault(name, {"wall": [], "processor": []})
                for kind in times:
                    times[kind] += answer[kind]
        result["load after"] = load()
        return result

    def _usable(self, name: str, case: Case, work: Workload) -> Child | None:
        tool = next(item for item in TOOLS if item.name == name)
        pictures = any(layer.stride for layer in work.layers)
        if (tool.dense_only and pictures) or (case.batch > 1 and not tool.batches):
            return None
        return self.child(name, case.threads)

    def _bound(self, work: Workload, case: Case) -> dict[str, Any]:
        few = 2 if work.input_shape[0] >= 4096 else 8
        costs = operations(work, simulated(work, few))
        largest = max(layer.weight.size for layer in work.layers)
        found: dict[str, Any] = {"work": costs}
        if self.rates:
            found["bound"] = bound_seconds(self.rates, costs, largest, case.batch)
        return found

    def compare(self, case: Case) -> dict[str, Any]:
        """Return, per tool, which layers have golden's spikes on the first sample, and its rates.

        A tool whose layers are not a step apart cannot have the same spikes: it only has
        the rates.
        """
        path = kept(self.cache, case.workload, case.make)
        work = Workload.load(path)
        golden = open_backend("simulator", engine="golden").load(work.program())
        trace = golden.run({"input": work.spikes[:1]})
        expected = [trace[f"layer{i}", "spikes"].reshape(-1) for i in range(len(work.layers))]
        result: dict[str, Any] = {
            "workload": case.workload, "rates": [float(item.mean()) for item in expected],
            "events": dict(trace.events), "tools": {},
        }  # fmt: skip
        for name in case.tools:
            child = self._usable(name, case, work)
            if child is None:
                continue
            out = self.folder / "spikes.npz"
            answer = child.ask(workload=str(path), batch=1, threads=1, spikes=str(out))
            if not answer.get("spikes"):
                continue
            with np.load(out) as held:
                layers = [held[f"layer{i}"].reshape(-1) for i in range(len(work.layers))]
            result["tools"][name] = {
                "exact": next(item.exact for item in TOOLS if item.name == name),
                "equal": [
                    bool(np.array_equal(*pair)) for pair in zip(layers, expected, strict=True)
                ],
                "rates": [float(item.mean()) for item in layers],
            }
        return result


def _available(engine: str) -> bool:
    """Say whether this spikec has the engine, and the computer what it needs."""
    if engine != "c":
        return True
    try:
        open_backend("c")
    except UsageError:
        return False
    return True


def main() -> int:
    """Run, write the results, and return 1 if spikes differ that must not."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the children as well
    cases = quick() if arguments.quick else standard()
    if arguments.only:
        cases = [item for item in cases if item.workload in arguments.only.split(",")]
    with contextlib.ExitStack() as stack:
        session = Session(arguments, stack)
        session.make_ready(cases)
        begin, before = time.time(), stolen()
        results = _results(session, cases, quick=arguments.quick)
    results |= {"minutes": (time.time() - begin) / 60, "stolen": stolen() - before}
    output = Path(arguments.output)
    output.mkdir(parents=True, exist_ok=True)
    write(results, output)
    print((output / "results.md").read_text(encoding="utf-8"))
    wrong = _differences(results)
    for line in wrong:
        print(f"DIFFERENT: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _results(session: Session, cases: Sequence[Case], *, quick: bool) -> dict[str, Any]:
    results: dict[str, Any] = {
        "form": "quick" if quick else "standard",
        "machine": described(),
        "rates": session.rates,
        "left out": LEFT_OUT,
        "checks": [],
        "cases": [],
    }
    end = time.time() + 60 * (session.arguments.minutes - AFTERWARDS)
    skipped = []
    for case in cases:
        label = f"{case.workload} batch {case.batch} threads {case.threads}"
        if time.time() > end:
            skipped.append(label)
            continue
        print(label, flush=True)
        if case.batch == 1 and not case.curve:
            results["checks"].append(session.compare(case))
        results["cases"].append(session.measure(case))
    engines = [item.argument for item in TOOLS
               if item.own and item.argument != "golden" and _available(item.argument)]  # fmt: skip
    print("start-up, trained networks, profile", flush=True)
    names = [item.workload for item in cases if item.batch == 1 and not item.curve]
    paths = {item.workload: kept(session.cache, item.workload, item.make) for item in cases}
    few = 2 if quick else 5
    if "W1" in paths:
        results["start-up"] = start_up(paths["W1"], engines, few)
    results["trained"] = trained(
        engines, samples=200 if quick else 2000, rounds=few, lava=not quick
    )
    results["profile"] = profile([paths[name] for name in names], engines, few)
    results["skipped"] = skipped
    results["missing"], results["versions"] = session.missing, session.versions
    results["rates after"] = measured(session.cache)
    return results


def _differences(results: dict[str, Any]) -> list[str]:
    """Name what had to be equal and is not."""
    wrong = [
        f"{check['workload']}: {name}"
        for check in results["checks"]
        for name, found in check["tools"].items()
        if found["exact"] and not all(found["equal"])
    ]
    wrong += [f"{check['workload']}: {check['events']}"
              for check in results["checks"] if check["events"]]  # fmt: skip
    for name, found in results["trained"].items():
        wrong += [f"{name}: {engine}" for engine, equal in found["equal"].items() if not equal]
        if found.get("lava") == "DIFFERENT":
            wrong.append(f"{name}: Lava")
    return wrong


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure spikec beside its peers.")
    parser.add_argument("--quick", action="store_true", help="our engines and NumPy only: seconds")
    parser.add_argument("--no-install", action="store_true", help="leave out peers not installed")
    parser.add_argument("--only", default="", help="workloads to run, with commas between")
    parser.add_argument(
        "--minutes", type=float, default=12,
        help="cases that would begin too late for this are skipped (12); without installing",
    )  # fmt: skip
    parser.add_argument(
        "--python", action="append", default=[], metavar="GROUP=PATH",
        help="the Python that has a group of peers (torch, brian2, nest, lava)",
    )  # fmt: skip
    parser.add_argument("--output", default=str(HERE / "results"), help="folder to write")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
