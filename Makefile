# One command each, on a machine that has only Python and make.
# PYTHON picks the interpreter of the working environment, any of 3.10 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LAVA := $(CURDIR)/.lava
SANAFE := $(CURDIR)/.sanafe
export SPIKEC_LAVA_PYTHON := $(LAVA)/bin/python
export SPIKEC_SANAFE_PYTHON := $(SANAFE)/bin/python

.PHONY: demo test lava browser check lint types supported frameworks nightly fuzz bench bench-quick clean

demo: $(VENV)/ready lava
	$(BIN)/spikec demo

test: $(VENV)/ready lava browser $(SANAFE)/ready
	$(BIN)/python -m pytest --numprocesses=2 --cov --cov-report=json:.coverage.json
	$(BIN)/python .ci/coverage.py .coverage.json

check: lint types

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/ready
	$(BIN)/mypy

# The core on the oldest and the newest Python, and the built wheel in a clean environment.
supported: $(VENV)/ready
	$(BIN)/python .ci/supported.py

# Networks of the PyTorch frameworks, exported and compared, in an environment of their own.
frameworks: $(VENV)/ready
	$(BIN)/python .ci/frameworks.py

# New random programs each day, many more than a commit is tested with: golden = fast = C = Lava;
# and many more networks of the frameworks.
nightly: $(VENV)/ready lava
	SPIKEC_NIGHTLY=1 $(BIN)/python .ci/frameworks.py
	SPIKEC_NIGHTLY=1 $(BIN)/python -m pytest --numprocesses=2 tests/nightly tests/properties/test_nir_forms.py tests/backends/simulator/test_engine.py::test_no_index_of_a_kernel_leaves_its_array

# Damaged files of every format, COUNT of each: all are taken, or refused by one error.
COUNT ?= 20000
fuzz: $(VENV)/ready
	$(BIN)/python tests/tools/fuzz.py --count $(COUNT)

# spikec beside its peers, which get environments of their own; the quick form only shows that it works.
bench: $(VENV)/ready lava
	$(BIN)/python benchmarks/run.py

bench-quick: $(VENV)/ready
	$(BIN)/python benchmarks/run.py --quick --output .bench

# Lava runs on Python 3.10 only: an environment of its own, made from an installed
# 3.10, pyenv's, or uv's.
lava: $(VENV)/ready
	env -u SPIKEC_LAVA_PYTHON $(BIN)/spikec setup-lava --directory $(LAVA)

# SANA-FE, which mapped programs are compared with, in an environment of its own.
$(SANAFE)/ready:
	$(PYTHON) -m venv $(SANAFE)
	$(SANAFE)/bin/python -m pip install --quiet sanafe==2.2.9 numpy
	touch $@

# A headless Chromium for the tests of the HTML report: one that is there, else Debian's, else Playwright's.
browser: $(VENV)/ready
	$(BIN)/python .ci/browser.py

$(VENV)/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .lava .sanafe .supported .bench build dist *.egg-info demo-output .coverage .mypy_cache .pytest_cache .ruff_cache
