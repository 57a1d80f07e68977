"""Finding a Python with Lava, and making one: with stand-ins for the interpreters."""

from __future__ import annotations

import sys

import pytest

from spikec.backends.lava import environment
from spikec.compiler.errors import BackendError, UsageError


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv(environment.PYTHON_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)


def test_nothing_found_names_all_that_was_tried():
    with pytest.raises(BackendError, match="B040") as caught:
        environment.require()
    text = str(caught.value)
    assert "SPIKEC_LAVA_PYTHON: not set" in text
    assert "this interpreter: it has no module 'lava'" in text
    assert "our own environment" in text
    assert "spikec setup-lava" in text


def test_option_alone_counts(tmp_path, monkeypatch):
    good = script(tmp_path / "good", "echo 0.10.0")
    monkeypatch.setenv(environment.PYTHON_VARIABLE, str(good))
    result = environment.search(str(tmp_path / "absent"))
    assert result.found is None
    assert result.tried == (f"option 'python' ({tmp_path}/absent): no such program",)


def test_variable_before_own_environment(tmp_path, monkeypatch):
    good = script(tmp_path / "good", "echo some chatter; echo 0.10.0")
    monkeypatch.setenv(environment.PYTHON_VARIABLE, str(good))
    found = environment.find()
    assert found is not None
    assert (found.path, found.version, found.origin) == (good, "0.10.0", "SPIKEC_LAVA_PYTHON")


def test_a_named_python_that_fails_is_not_passed_over(tmp_path, monkeypatch):
    own = environment.default_directory()
    script(own / "bin" / "python", "echo 0.10.0")
    (own / ".spikec-complete").touch()
    bad = script(tmp_path / "bad", "echo No module named lava >&2; exit 1")
    monkeypatch.setenv(environment.PYTHON_VARIABLE, str(bad))
    result = environment.search()
    assert result.found is None
    assert "No module named lava" in result.tried[-1]


def test_another_version_does_not_count(tmp_path):
    old = script(tmp_path / "old", "echo 0.9.0")
    assert "0.9.0; 0.10.0 is needed" in environment.search(str(old)).tried[0]


def test_own_environment_needs_its_marker():
    own = environment.default_directory()
    script(own / "bin" / "python", "echo 0.10.0")
    assert environment.find() is None
    (own / ".spikec-complete").touch()
    found = environment.find()
    assert found is not None
    assert found.path == own / "bin" / "python"


def fake_310(path, *, venv_fails=False):
    """A python3.10 whose venv has a pip that "installs" and a Lava that "imports"."""
    inner = 'case "$*" in *"pip install"*) exit 0;; *) echo 0.10.0;; esac'
    make = (
        f"mkdir -p \"$3/bin\"; printf '#!/bin/sh\\n%s\\n' '{inner}' > \"$3/bin/python\"; "
        'chmod 755 "$3/bin/python"; touch "$3/pyvenv.cfg"'
    )
    if venv_fails:
        make = "echo ensurepip is not available >&2; exit 1"
    return script(path, f'case "$*" in *venv*) {make};; *) echo 3 10;; esac')


def test_setup_passes_over_a_shim_that_fails(tmp_path, monkeypatch):
    shim = script(tmp_path / "bin" / "python3.10", "echo pyenv: not found >&2; exit 127")
    real = fake_310(tmp_path / "pyenv" / "versions" / "3.10.13" / "bin" / "python")
    monkeypatch.setenv("PATH", f"{shim.parent}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(script(tmp_path / "other", "echo 3 13")))
    lines = []
    python = environment.setup(progress=lines.append)
    assert python == environment.default_directory() / "bin" / "python"
    assert (environment.default_directory() / ".spikec-complete").is_file()
    assert str(real) in lines[0]
    found = environment.find()
    assert found is not None
    assert environment.setup() == found.path == python


def test_setup_starts_again_after_an_interruption(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(fake_310(tmp_path / "python")))
    own = environment.default_directory()
    own.mkdir(parents=True)
    (own / "pyvenv.cfg").touch()
    (own / "half").touch()
    environment.setup()
    assert not (own / "half").exists()


def test_setup_says_what_was_tried(tmp_path, monkeypatch):
    failing = fake_310(tmp_path / "python", venv_fails=True)
    monkeypatch.setattr(sys, "executable", str(failing))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(BackendError, match="ensurepip is not available") as caught:
        environment.setup()
    assert "SPIKEC_LAVA_PYTHON" in caught.value.diagnostics[0].hint
    assert not environment.default_directory().exists()


def test_setup_leaves_other_directories_alone(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").touch()
    with pytest.raises(BackendError, match="not empty"):
        environment.setup(tmp_path / "work")
    assert (tmp_path / "work" / "thesis.tex").exists()


def test_setup_names_a_place_that_cannot_be_a_directory(tmp_path):
    (tmp_path / "file").write_text("text")
    with pytest.raises(BackendError, match=r"B041 at .*file: it is not a directory"):
        environment.setup(tmp_path / "file")
    with pytest.raises(UsageError, match="U030"):
        environment.setup(tmp_path / "file" / "lava")
    assert (tmp_path / "file").read_text() == "text"
