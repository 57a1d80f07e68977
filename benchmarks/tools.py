"""The measured tools: what runs them, and the child process of each."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A script under ``peers/``, its argument, and the environment it runs in.

    ``exact`` tools must give the golden engine's spikes in every layer; ``differs`` says what
    the others do differently, and ``early`` by how many steps their first layer spikes before
    golden's, and each further one before that (None where there is nothing to compare).
    ``batches`` says that it takes several samples at a time; ``dense_only`` that it has no
    convolution. A tool is ended if an answer takes longer than ``patience`` seconds; one that
    ``compiles`` a workload slowly once, and keeps that, does it before the clock runs.
    """

    name: str
    environment: str
    script: str
    argument: str = ""
    exact: bool = False
    differs: str = "float"
    early: tuple[int, int] | None = None
    patience: float = 120
    compiles: bool = False
    batches: bool = True
    dense_only: bool = False
    own: bool = False


TOOLS = (
    Tool(name="spikec fast", environment="spikec", script="with_spikec.py", argument="fast",
         exact=True, own=True),
    Tool(name="spikec c", environment="spikec", script="with_spikec.py", argument="c",
         exact=True, own=True),
    Tool(name="spikec golden", environment="spikec", script="with_spikec.py",
         argument="golden", exact=True, own=True),
    Tool(name="NumPy rows", environment="spikec", script="with_numpy.py", exact=True),
    Tool(name="Lava", environment="lava", script="with_lava.py", exact=True, batches=False),
    Tool(name="Brian2 C++", environment="brian2", script="with_brian2.py", exact=True,
         batches=False, dense_only=True),
    Tool(name="Brian2Loihi", environment="brian2-loihi", script="with_brian2_loihi.py", exact=True,
         batches=False, dense_only=True, patience=600, compiles=True),
    Tool(name="nengo-loihi", environment="nengo-loihi", script="with_nengo_loihi.py", exact=True,
         batches=False, dense_only=True),
    Tool(name="SANA-FE", environment="sanafe", script="with_sanafe.py", batches=False,
         dense_only=True, differs="currents in floats", early=(0, 0)),
    Tool(name="XyloSim", environment="xylosim", script="with_xylosim.py", batches=False,
         dense_only=True, differs="other neurons"),
    Tool(name="NEST", environment="nest", script="with_nest.py", batches=False,
         dense_only=True, early=(0, -1)),
    Tool(name="torch int8", environment="torch", script="with_torch_int8.py", exact=True),
    Tool(name="torch by hand", environment="torch", script="with_torch.py", early=(1, 1)),
    Tool(name="snnTorch", environment="torch", script="with_snntorch.py", early=(1, 1)),
    Tool(name="Norse", environment="torch", script="with_norse.py", early=(1, 1)),
    Tool(name="SpikingJelly", environment="torch", script="with_spikingjelly.py", early=(1, 1)),
    Tool(name="sinabs", environment="torch", script="with_sinabs.py", early=(1, 1)),
)  # fmt: skip
FRAMEWORKS = ("torch by hand", "snnTorch", "Norse", "SpikingJelly", "sinabs")

#: Peers that are not run, and why.
LEFT_OUT = {"snn-mlir 1.0": "running needs a tool built against LLVM"}


class Child:
    """A tool's process; ended when its ``with`` block is left, or when it does not answer."""

    def __init__(self, tool: Tool, python: str, threads: int, log: Path) -> None:
        self.tool = tool
        #: Why there are no more answers; "" while there are.
        self.error = ""
        variables = {name: str(threads) for name in
                     ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}  # fmt: skip
        command = [python, str(HERE / "peers" / tool.script), *filter(None, [tool.argument])]
        self._log = log.open("a", encoding="utf-8")
        self._process = subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,
            env={**os.environ, **variables, "PYTHONWARNINGS": "ignore"},
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.versions: Mapping[str, str] = self._answer().get("versions", {})

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and return the answer; one with ``error`` if there is none."""
        if self.error:
            return {"error": self.error}
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._ended(f"its process ended, see {self._log.name}")
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=self.tool.patience)
        except queue.Empty:
            return self._ended(f"no answer in {self.tool.patience:g} s")
        if line is None:
            return self._ended(f"its process ended, see {self._log.name}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self, reason: str) -> dict[str, Any]:
        self.error = reason
        self._kill()
        return {"error": reason}

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # NEST greets when it is imported
                self._lines.put(line)
        self._lines.put(None)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # Lava's own processes, too

    def __enter__(self) -> Child:  # noqa: PYI034 - it is final
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its input, which ends it; wait, and end it if it does not."""
        self.close()

    def close(self) -> None:
        """End the process; a second time does nothing."""
        if self._log.closed:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._kill()
            self._process.wait()
            self._reader.join()
            self._process.stdout.close()
            self._log.close()
