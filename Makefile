# Each target sets up what it needs: Python 3.10 to 3.13 with venv and pip is all it asks for.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint types check format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## compile the packaged network to INT8, verify it, and show the table
	$(BIN)/pkecho-edge demo --out demo-output

# Two workers with one thread each: threads of several workers on the same cores only wait. Each begins
# at its half of the tests, in their order, so that what a file sets up is mostly set up once.
test: $(VENV)/.installed ## run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(VENV)/.installed ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.installed ## check the types
	$(BIN)/mypy

check: test lint types ## all of the above but the demo

format: $(VENV)/.installed ## rewrite the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what builds and runs made; the environment stays
	rm -rf demo-output build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find pkecho_edge tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is written last, so an interrupted installation is repeated.
$(VENV)/.installed: pyproject.toml
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[all,dev]"
	touch $@
