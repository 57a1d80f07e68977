"""The command as a process: closed and full streams, signals, hostile names, its own inputs."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from spikec.cli.main import app
from spikec.compiler import targets
from spikec.compiler.errors import GraphError
from spikec.compiler.frontends import native
from spikec.compiler.ir import LIF, Edge, Graph, Input
from spikec.compiler.npz import write_npz
from spikec.compiler.operators import Dense

START = [sys.executable, "-m", "spikec.cli.start"]
GRAPH, DATA = "net.safetensors", "data.npz"


def network(*names: str) -> Graph:
    """Return a chain of populations; the first name is the input's, edges have them all too."""
    nodes = [Input(name=names[0], shape=(3,))]
    nodes += [
        LIF(name=name, shape=(3,), alpha=None, beta=np.array(0.5), coupling="immediate",
            vth=np.array(1.0), reset="zero", reset_order="at_spike", compare=">")
        for name in names[1:]
    ]  # fmt: skip
    return Graph(
        nodes=nodes,
        edges=[
            Edge(name=f"{first} {second}", source=first, target=second,
                 operator=Dense(weight=np.eye(3, dtype=np.float32)))
            for first, second in itertools.pairwise(names)
        ],
        outputs=[names[-1]],
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    native.write(network("in", "out"), GRAPH)
    write_npz(Path(DATA), {"spikes": np.ones((2, 5, 3), np.uint8), "labels": np.zeros(2, int)})


def test_a_reader_that_goes_away_is_no_failed_verification() -> None:
    with subprocess.Popen(
        [*START, "inspect", GRAPH], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.parametrize("words", [["inspect", GRAPH], ["inspect", GRAPH, "--json"], ["--help"]])
@pytest.mark.parametrize("where", ["/dev/full", "closed"])
def test_output_that_cannot_be_written_is_said(words: list[str], where: str) -> None:
    if where != "closed" and not Path(where).exists():
        pytest.skip("this system has no such device")
    to = ">&-" if where == "closed" else f">{where}"
    ended = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {to}', "sh", *START, *words],
        stderr=subprocess.PIPE, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "U034 at standard output" in ended.stderr


LIMITED = """
import resource, sys
most = int(sys.argv.pop())
from spikec.cli import start
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
start.main()
"""


@pytest.mark.parametrize("most", [512, 4 << 10, 16 << 10, 64 << 10])
def test_events_on_a_full_disk_are_an_error_about_their_place(most: int) -> None:
    """Whether data are unpacked there, events kept or the file put together."""
    rng = np.random.default_rng(0)
    write_npz(Path("long.npz"), {"spikes": (rng.random((8, 2000, 3)) < 0.9).astype(np.uint8)})
    before = sorted(Path().iterdir())
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, "run", GRAPH, "--data", "long.npz",
         "--events", "events.npz", "--engine", "golden", str(most)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2, ended.stderr
    assert "U030 at" in ended.stderr
    assert "File too large" in ended.stderr
    assert sorted(Path().iterdir()) == before


def test_errors_that_nobody_hears_change_no_code() -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *START, "inspect", "missing"],
        check=False, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 2


STOPPED = """
import os, signal, sys
inherited, number, when = int(sys.argv.pop()), int(sys.argv.pop()), sys.argv.pop()
signal.signal(number, signal.Handlers(inherited))
from spikec.cli import start
def stop():
    os.kill(os.getpid(), number)
if when == "working":
    real = os.fsync
    os.fsync = lambda file: (stop(), real(file))
else:
    sys.meta_path.insert(0, type("Stop", (), {"find_spec": staticmethod(
        lambda name, *_: stop() if name == "spikec.cli.main" else None)}))
start.main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("when", ["starting", "working"])
def test_signals_end_it_with_their_code_and_nothing_is_left(
    when: str, number: signal.Signals
) -> None:
    before = sorted(Path().iterdir())
    ended = stopped(when, number, signal.SIG_DFL)
    assert (ended.returncode, ended.stderr) == (128 + number, "")
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("when", ["starting", "working"])
def test_signals_that_a_parent_ignores_end_nothing(when: str, number: signal.Signals) -> None:
    """As under nohup, and in the background of a script."""
    ended = stopped(when, number, signal.SIG_IGN)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert Path("new.spk").exists()


def stopped(
    when: str, number: signal.Signals, inherited: signal.Handlers
) -> subprocess.CompletedProcess[str]:
    """Compile a network, and send a signal ``when`` it starts or writes.

    A process begins with signals ignored that its parent ignores: ``inherited`` says which it is,
    whatever the parent of these tests does.
    """
    return subprocess.run(
        [sys.executable, "-c", STOPPED, "compile", GRAPH, "-o", "new.spk", when,
         str(int(number)), str(int(inherited))],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


PARENT = """
import sys
from pathlib import Path
from spikec.backends.child import run_child
code = "import os, time; os.fork(); os.write(1, b'%d%c' % (os.getpid(), 10)); time.sleep(60)"
run_child([sys.executable, "-c", code], errors=Path("stderr.txt"), timeout=60,
          heard=lambda line: print(line, flush=True))
"""


def test_a_child_s_group_ends_with_a_parent_that_is_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        numbers = [int(parent.stdout.readline()) for _ in range(2)]
        parent.kill()
    for _ in range(100):
        if not any(map(runs, numbers)):
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError("a child lives on")


COMPILING = """
import sys
from pathlib import Path
from spikec.backends.c import compiler
code = "import os, time; os.fork(); os.open(f'{os.getpid()}.pid', os.O_CREAT); time.sleep(60)"
slow = compiler.Compiler(command=(sys.executable, "-c", code), version="", flags=())
compiler._build(slow, "", Path("engines/engine.so"))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_compiler_ends_with_whoever_started_it(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", COMPILING]) as parent:
        for _ in range(300):
            started = [int(path.stem) for path in Path().glob("*.pid")]
            if len(started) == 2:
                break
            signal.sigtimedwait([], 0.1)
        parent.send_signal(number)
    assert len(started) == 2
    for _ in range(100):
        if not any(map(runs, started)):
            return
        signal.sigtimedwait([], 0.1)
    raise AssertionError("the compiler lives on")


def runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# What is read is not written over


def overwriting() -> Iterator[list[str]]:
    """Yield every command that writes, over every file that it reads."""
    fits = {
        "compile": ["--target", "--calibrate"],
        "run": ["--target", "--calibrate", "--data"],
        "map": ["--target", "--calibrate", "--data"],
        "verify": ["--target", "--calibrate", "--data", "--source"],
        "sweep": ["--targets", "--calibrate", "--data"],
    }
    options = {"compile": ["-o"], "run": ["-o", "--events"], "map": ["-o"],
               "verify": ["--report"], "sweep": ["--plot"]}  # fmt: skip
    for command, read in fits.items():
        for option in options[command]:
            for item in read:
                yield [command, option, item]
    yield ["inspect", "--svg", ""]


ENDINGS = {"compile": ".toml", "map": ".toml", "run": ".npz", "verify": ".json", "sweep": ".png",
           "inspect": ".svg"}  # fmt: skip


@pytest.mark.parametrize("link", ["same", "hard link", "symbolic link", "other spelling"])
@pytest.mark.parametrize("case", list(overwriting()), ids=" ".join)
def test_nothing_that_is_read_is_written_over(case: list[str], link: str) -> None:
    command, option, item = case
    source = {"--target": "t.toml", "--targets": "t.toml", "": GRAPH, "--source": GRAPH}.get(
        item, "other.npz"
    )
    if source == "other.npz":
        Path(source).write_bytes(Path(DATA).read_bytes())
    elif source == "t.toml":
        shipped = Path(targets.__file__).with_name(f"{targets.SHIPPED[0]}.toml")
        Path(source).write_bytes(shipped.read_bytes())
    before = Path(source).read_bytes()
    output = f"link{ENDINGS[command]}"
    if link == "hard link":
        os.link(source, output)
    elif link == "symbolic link":
        Path(output).symlink_to(source)
    else:
        output = source if link == "same" else f"./../{Path.cwd().name}/{source}"
    words = [command, GRAPH]
    if command in ("run", "verify", "sweep") and item != "--data":
        words += ["--data", DATA]
    words += [item, source] if item else []
    result = CliRunner().invoke(app, [*words, option, output])
    assert result.exit_code == 2, result.output
    assert Path(source).read_bytes() == before
    if "link" in link:
        assert "U031" in result.output


@pytest.mark.parametrize("link", ["same", "hard link", "symbolic link"])
@pytest.mark.parametrize("words", [["compile", "-o"], ["convert"], ["inspect", "--svg"]])
def test_external_data_of_a_network_are_not_written_over(words: list[str], link: str) -> None:
    onnx = pytest.importorskip("onnx")
    onnx_write = pytest.importorskip("spikec.compiler.frontends.onnx_write")
    model = onnx_write.to_model(network("in", "out"))
    weights = f"weights.{'svg' if '--svg' in words else 'nir'}"
    onnx.save(
        model, "net.onnx", save_as_external_data=True, location=weights, size_threshold=0
    )  # fmt: skip
    before, output = Path(weights).read_bytes(), weights
    if link != "same":
        output = f"link{Path(weights).suffix}"
        os.link(weights, output) if link == "hard link" else Path(output).symlink_to(weights)
    command, *option = words
    result = CliRunner().invoke(app, [command, "net.onnx", *option, output])
    assert (result.exit_code, "U031" in result.output) == (2, True), result.output
    assert Path(weights).read_bytes() == before


# Names that a terminal or a page would take for more


HOSTILE = (
    '"; DROP', "a* int b;", "two\nlines\r", "\x1b[31mred\x1b[0m\x9b2J",
    "<script>alert(1)<b>", "[red]rich[bold]", ":bomb:", "..", "\u202eback", "int",
    "\x07bell\t",
)  # fmt: skip


def hostile_commands() -> Iterator[list[str]]:
    data = ["--data", DATA]
    yield ["inspect", "bad"]
    yield ["inspect", "bad", "--svg", "p.svg"]
    yield ["compile", "bad", "-o", "bad.spk"]
    yield ["inspect", "bad.spk"]
    yield ["run", "bad", *data, "-o", "t.npz", "--explain"]
    yield ["run", "bad", *data, "--probe", "nothing:voltage"]
    yield ["run", "bad", *data, "--events", "e.npz"]
    yield ["verify", "bad", *data, "--report", "r.html", "--attribute"]
    yield ["verify", "bad", *data, "--report", "r.md"]
    yield ["diff", "bad", "bad.spk", *data]
    yield ["attribute", "bad", *data]
    yield ["sweep", "bad", *data, "--bits", "8,2"]
    yield ["map", "bad"]
    yield ["check", "bad"]
    yield ["emit", "bad", "-o", "c", "--backend", "c"]
    yield ["emit", "bad", "-o", "lava"]
    yield ["convert", "bad", "bad.onnx"]
    yield ["convert", "bad", "bad.nir"]
    missing = "missing \x1b[31m\u202e\udcff"
    yield ["inspect", missing]
    yield [missing]
    yield ["inspect", "bad", missing]
    yield ["inspect", f"--{missing}"]
    yield ["run", "bad", "--data", missing]
    for option in ("--engine", "--samples", "--readout", "--profile", "--compare", "--target",
                   "--weight-bits", "--layout", "--lava-python", "--probe", "--input"):  # fmt: skip
        yield ["run", "bad", *data, option, missing]
    yield ["run", "bad", *data, "-o", f"{missing}/t.npz"]


def test_no_command_lets_a_name_do_more_than_be_read() -> None:
    native.write(network(*HOSTILE), "bad")
    for words in hostile_commands():
        result = CliRunner().invoke(app, words)
        assert result.exit_code in (0, 1, 2), (words, result.output)
        raw = [c for c in result.output if unicodedata.category(c)[0] == "C" and c != "\n"]
        assert not raw, (words, raw)
        if words[0] == "inspect" and words[1] != "missing":
            assert ":bomb:" in result.output or "missing" in result.output
    for path in Path().glob("*.svg"), Path().glob("r.*"):
        for made in path:
            text = made.read_text(encoding="utf-8")
            assert "<script>alert" not in text
            assert "\x1b" not in text
            assert "\u202e" not in text


def test_half_a_character_is_no_name() -> None:
    with pytest.raises(GraphError, match="G011 at node 'lone"):
        network("in", "lone\udcff")


def test_a_file_s_name_need_not_be_text() -> None:
    name = os.fsdecode(b"net-\xff\x1b[31m.safetensors")
    native.write(network("in", "out"), name)
    for words in (["inspect", name], ["compile", name, "-o", name + ".spk"],
                  ["inspect", name, "--svg", name + ".svg"],
                  ["emit", name, "-o", name + ".c", "--backend", "c"]):  # fmt: skip
        ended = subprocess.run([*START, *words], capture_output=True, check=False, timeout=120)
        assert ended.returncode in (0, 2), ended.stderr.decode(errors="replace")
        assert b"\x1b" not in ended.stdout + ended.stderr
