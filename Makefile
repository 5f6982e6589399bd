# One environment in .venv; every target makes it first if it is missing or older than pyproject.toml.
PYTHON ?= python3
BIN := .venv/bin
# For models this small one thread is faster than two, and two test processes with two threads each wait for each other.
export OMP_NUM_THREADS := 1
PYTEST := $(BIN)/python -m pytest

.PHONY: lab test test-slow lint notebooks exercises mutants bench peers site clean

lab: .venv/lab-installed
	$(BIN)/minilab tour

# Techniques and all examples run with every shape in a signature checked at run time, which takes
# twice as long; the slow tests do so for the whole lab. What bad input is answered with
# (*_messages.py) is tested as a user runs the package.
SHAPES := --jaxtyping-packages=mini_transformer,beartype.beartype
MESSAGES = $(shell find tests/lab/methods -name '*_messages.py')
REST = $(filter-out tests/lab/methods,$(wildcard tests/lab/*))
test: .venv/dev-installed
	$(PYTEST) -n auto --dist worksteal tests/lab/methods mini_transformer --doctest-modules $(SHAPES)
	$(PYTEST) -n auto --dist worksteal $(REST) $(MESSAGES) tests/exercises tests/repo

test-slow: .venv/dev-installed
	$(PYTEST) tests -m slow
	$(PYTEST) -n auto --dist worksteal tests/lab $(SHAPES)

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

peers:
	$(PYTHON) tests/peers/run.py

site: .venv/site-installed
	$(BIN)/python docs/site/make_site.py

clean:
	rm -rf .venv out lessons/*.ipynb

.venv/lab-installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[learn]'
	touch $@

.venv/dev-installed: .venv/lab-installed
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

.venv/site-installed: .venv/lab-installed
	$(BIN)/python -m pip install --quiet --editable '.[site]'
	touch $@
