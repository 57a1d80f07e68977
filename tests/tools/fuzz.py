"""Read many damaged files of every format; print what came of them.

    python tests/tools/fuzz.py --count 20000 --format spk --seed 1

Files are read by child processes, a few hundred each, so that one that crashes its reader is a
finding too. ``--keep`` is where files that were neither taken nor refused are put.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.fuzz import FORMATS, Outcomes, attempts, damaged, files

#: Address space that a child may take beside what it starts with, which bounds a runaway.
_ROOM = 6 << 30
_BLOCK = 250


def _child(kind: str, numbers: range, seed: int, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_ROOM, _ROOM))
    with tempfile.TemporaryDirectory() as folder:
        pipe.send(attempts(kind, numbers, seed, Path(folder), pipe.send))


def _block(kind: str, numbers: range, seed: int, total: Outcomes) -> None:
    """Try some numbers; go on behind one whose process died."""
    context = multiprocessing.get_context("fork")
    waiting = [numbers]
    while waiting:
        left = waiting.pop()
        if not left:
            continue
        receiving, sending = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(kind, left, seed, sending))
        process.start()
        sending.close()
        last: int | Outcomes = left.start
        try:
            while isinstance(last, int):
                last = receiving.recv()
        except EOFError:
            process.join()
            total.counts["died"] += 1
            total.findings[last] = f"its process ended with {process.exitcode}"
            waiting += [range(left.start, last), range(last + 1, left.stop)]
            continue
        process.join()
        total.counts.update(last.counts)
        total.findings.update(last.findings)


def main() -> None:
    """Try every format that is wanted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=FORMATS, action="append")
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    failed = False
    for kind in given.format or FORMATS:
        total = Outcomes()
        for begin in range(given.first, given.first + given.count, _BLOCK):
            end = min(given.first + given.count, begin + _BLOCK)
            _block(kind, range(begin, end), given.seed, total)
        sys.stdout.write(f"{kind} {dict(total.counts)}\n")
        for number, what in sorted(total.findings.items()):
            sys.stdout.write(f"  {number}: {what}\n")
        sys.stdout.flush()
        failed |= bool(total.findings)
        if given.keep is not None and total.findings:
            given.keep.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory() as folder:
                sound = files(kind, Path(folder))
                for number in total.findings:
                    content = damaged(kind, sound, given.seed, number, Path(folder))
                    (given.keep / f"{kind}-{given.seed}-{number}").write_bytes(content)
    sys.exit(failed)


if __name__ == "__main__":
    main()
