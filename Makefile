# `make demo` and `make test` do everything on a fresh machine that has Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: venv demo test test-all lint clean

# The lab extension is built again when its sources change; without node all else is there, and a line says so.
venv: $(STAMP)
	$(BIN)/python labextension/hatch_build.py

$(STAMP): pyproject.toml $(wildcard jupyter/*/*.json jupyter/*/*/*.json)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: venv
	$(BIN)/itera demo

# One process a core; the tests of a file stay together, because they share an experiment.
test: venv
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile -m "not slow"

test-all: venv
	$(BIN)/python -m pytest -n logical --maxprocesses 8 --dist loadfile

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	if test -d labextension/node_modules; then cd labextension && npm run --silent lint; fi

clean:
	rm -rf $(VENV) .cache build dist itera_nb/labextension labextension/lib labextension/node_modules
