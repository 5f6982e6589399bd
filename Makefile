# One environment in .venv; every target makes it first if it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
# For models this small one thread is faster than two, and two test processes with two threads each wait for each other.
export OMP_NUM_THREADS := 1
PYTEST := $(BIN)/python -m pytest

.PHONY: lab test test-slow lint notebooks exercises mutants bench clean

lab: .venv/lab-installed
	$(BIN)/minilab tour

# The lab's own tests run with every shape in a signature checked at run time. What bad input is
# answered with (*_messages.py), exercises and pages are tested as a user runs the package.
SHAPES := --jaxtyping-packages=mini_transformer,beartype.beartype
MESSAGES = $(shell find tests/lab -name '*_messages.py')
test: .venv/dev-installed
	$(PYTEST) -n auto --dist worksteal tests/lab mini_transformer --doctest-modules $(SHAPES)
	$(PYTEST) -n auto --dist worksteal $(MESSAGES) tests/exercises tests/repo

test-slow: .venv/dev-installed
	$(PYTEST) tests -m slow

lint: .venv/dev-installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

notebooks: .venv/lab-installed
	$(BIN)/jupytext --to ipynb lessons/*.py

exercises: .venv/lab-installed
	$(BIN)/python -m mini_transformer.course.exercises

mutants: .venv/dev-installed
	$(BIN)/python tests/repo/mutants_table.py

bench: .venv/dev-installed
	$(BIN)/python tests/bench/run.py

clean:
	rm -rf .venv out lessons/*.ipynb

.venv/lab-installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[learn]'
	touch $@

.venv/dev-installed: .venv/lab-installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@
