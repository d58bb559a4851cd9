# Targets work on a fresh machine with Python >= 3.11: each makes the environment first if need be.
# VENV=FOLDER takes an environment from elsewhere, e.g. one that several clones share.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# The package is found by its path, so that clones can share one environment.
RUN := PYTHONPATH=$(CURDIR)/src $(BIN)/python
# Files of tests side by side, each test on one thread. Three processes for two cores, since many
# tests wait for a command that they start.
PYTEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n 3 --dist loadfile
STAMP := $(VENV)/.realsr-installed

.PHONY: help install demo test test-all lint format docs dist clean

help:
	@echo "make demo      a whole study on bundled photographs, about 8 minutes on 2 cores; results in runs/demo"
	@echo "make test      lint, then the tests (slow ones left out)"
	@echo "make test-all  lint, then all tests"
	@echo "make lint      ruff and mypy"
	@echo "make format    let ruff format the code"
	@echo "make docs      the documentation site in build/docs; warnings are errors"
	@echo "make dist      build dist/realsr-*.tar.gz and .whl, and check them with twine"
	@echo "make install   the environment alone, in VENV=$(VENV)"

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	$(BIN)/python -m pip install --quiet --no-deps pyiqa --constraint constraints.txt
	touch $@

demo: install
	$(RUN) -m realsr.demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m mypy

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# REPOSITORY_URL=https://HOST/OWNER/NAME/blob/main: address of links to files outside docs/.
# SPHINXOPTS="-D nb_execution_mode=auto" runs the notebooks that have no recorded outputs.
docs: install
	OMP_NUM_THREADS=1 $(RUN) -m sphinx --nitpicky --fail-on-warning --keep-going $(SPHINXOPTS) docs build/docs

# The wheel is built from the unpacked source archive, which shows that the archive is complete.
dist: install
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf dist build .mypy_cache .pytest_cache .ruff_cache
