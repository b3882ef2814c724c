# `make train` and `make test` set up what they need in .venv and run. `make help` lists the rest.

PYTHON ?= python3
VENV   := .venv
CONSTRAINT := --constraint constraints.txt
ARGS   ?=

PY      := $(VENV)/bin/python
BASE    := $(VENV)/.base-installed
DEV     := $(VENV)/.dev-installed
DOCS    := $(VENV)/.docs-installed
STARTED := $(VENV)/.install-started
SOURCES := pyproject.toml constraints.txt

# Nothing of an environment that happens to be active reaches .venv.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help train test coverage mutants fuzz faults lint types format docs clean
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile
	@echo "  ARGS=... is appended to the command of train, test, coverage, mutants, fuzz and faults; PYTHON=python3.12 picks the interpreter."
	@echo "  VENV=.venv-newest CONSTRAINT= makes another environment, with the newest versions that are allowed."

train: $(BASE) ## set up and meta-train RL3 on bandits
	$(PY) -m rl3jax.train --env bandit --n-tasks 4096 $(ARGS)

test: $(DEV) ## set up and run the tests
	$(PY) -m pytest -n 2 --dist worksteal $(ARGS)

coverage: $(DEV) ## set up and run the fast tests; lists the lines that they miss, fails below 90 %
	$(PY) -m pytest -n 2 --dist worksteal -m "not slow" --cov --cov-fail-under=90 $(ARGS)

mutants: $(DEV) ## set up and change 100 places, one at a time; lists what no fast test notices, fails above 20
	$(PY) -m tests.mutants $(ARGS)

fuzz: $(DEV) ## try 10 000 bad command lines, and configs and damaged files
	$(PY) -m tests.fuzz $(ARGS)

faults: $(DEV) ## kill, stop, starve and damage two hundred real trainings
	$(PY) -m tests.faults $(ARGS)

lint: $(DEV) ## check style, complexity and formatting
	$(PY) -m ruff check
	$(PY) -m ruff format --check

types: $(DEV) ## check types
	$(PY) -m mypy

format: $(DEV) ## format, and fix what can be fixed safely
	$(PY) -m ruff format
	$(PY) -m ruff check --fix

docs: $(DOCS) ## build the site of docs/ into site/
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict $(ARGS)

clean: ## remove the environment and all caches (not the runs)
	$(remove_venv)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov build dist site

$(BASE): $(SOURCES)
	$(call install,.)
	@touch $(BASE)

$(DEV): $(SOURCES)
	$(call install,.[dev])
	@touch $(BASE) $(DEV)

$(DOCS): $(SOURCES)
	$(call install,.[docs])
	@touch $(BASE) $(DOCS)

# $(call install,WHAT): make .venv if there is none in working order, then install WHAT into it.
# STARTED exists while an environment is made or filled: one that is still there was interrupted, and
# the environment is made anew. An environment without its pyvenv.cfg runs as the interpreter it was
# made from, so that pip would install there: `healthy` and --require-virtualenv each rule this out.
define install
@if [ -e $(STARTED) ] || ! $(healthy); then $(make_venv); fi
@touch $(STARTED)
@echo "installing rl3jax and what it needs into $(VENV) (a minute or two the first time)"
@$(PY) -m pip --require-virtualenv install --quiet $(CONSTRAINT) --editable '$(1)'
@rm $(STARTED)
endef

healthy = $(PY) -c 'import os, pip, sys; sys.exit(not os.path.samefile(sys.prefix, "$(VENV)"))' 2>/dev/null

# Stamps and interpreter go first: a removal that is interrupted leaves nothing that looks installed.
remove_venv = rm -rf $(BASE) $(DEV) $(DOCS) $(VENV)/bin && rm -rf $(VENV)

define make_venv
$(check_python); \
echo "making $(VENV) with $(PYTHON)"; \
$(remove_venv) && mkdir $(VENV) && touch $(STARTED) && $(PYTHON) -m venv $(VENV) || exit 1
endef

define check_python
$(PYTHON) -c '' || { echo "rl3jax needs Python 3.11 or newer; '$(PYTHON)' does not run: try make PYTHON=..." >&2; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "rl3jax needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1): try make PYTHON=python3.12" >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' || { \
  echo "'$(PYTHON)' lacks the venv module (on Debian and Ubuntu: the package python3-venv)" >&2; exit 1; }
endef
