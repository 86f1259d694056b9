# Everything runs in .venv, which the first target that needs it makes. PYTHON chooses the interpreter (3.11 or later).
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 3
ROWS ?= 1000000 3000000 10000000
FAULTS ?= 1000
SEED ?= 1

.PHONY: help demo test check model chaos bench format truth docs clean

help: ## Say what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/.made: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Crossfade needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

.venv/.bench: .venv/.made
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

demo: .venv/.made ## Run a whole migration on an embedded PostgreSQL, ending with the cutover report; FAULT=latency, mismatch or errors: one that has to turn back
	$(BIN)/crossfade demo $(if $(FAULT),--fault $(FAULT))

test: .venv/.made ## Run all tests on an embedded PostgreSQL, or on the server that CROSSFADE_TEST_URL names
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder --durations 15

check: .venv/.made ## Format, lint, types, direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

model: ## Check the protocol of moving authority, and that each of its rules is needed (wants spin and gcc)
	$(PYTHON) model/check.py

chaos: .venv/.made ## Let everything die while authority moves, and check that nothing was lost
	PYTHONPATH=tests $(BIN)/python -m chaos --faults $(FAULTS) --seed $(SEED)

bench: .venv/.bench ## Measure, as ratios within one run; ROWS="20000" is quick, and tells little of volume
	$(BIN)/python -m benchmarks --json bench.json $(ROWS:%=--rows %)

format: .venv/.made ## Bring the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

truth: .venv/.made ## Make every kind of corruption, ask every check, and write docs/truth-table.md
	PYTHONPATH=tests $(BIN)/python -m truth

docs: .venv/.made ## Write the generated pages of the documentation anew
	$(BIN)/python -m harness.cli.pages docs

clean: ## Remove what was made here
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench.json
