# Development of agent-magics. `make help` lists the targets.
# Everything is installed below this folder (.venv, .venvs, labextension/node_modules).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
OLD := .venvs/ipykernel6
INSTALL := -m pip install -qq --disable-pip-version-check --no-input
PINS := .ci/constraints.txt
OLD_PINS := .ci/constraints-ipykernel6.txt
NODE := labextension/node_modules/.installed
BUNDLE := $(VENV)/.labextension
BUNDLE_SOURCES := $(wildcard labextension/src/*.ts labextension/style/* labextension/schema/* labextension/scripts/*) \
  $(addprefix labextension/,install.json package.json package-lock.json tsconfig.json)
SCRIPTS := .ci/find-python .ci/make-venv .ci/system-packages
TESTS ?= tests
WORKERS ?= 2

.PHONY: help demo lab test lint bench screenshots clean python-lint script-lint script-test

help:
	@echo "make demo    install what is needed, run notebooks/01_quickstart.ipynb without any key, say what happened"
	@echo "make lab     open the notebooks in JupyterLab"
	@echo "make test    lint, all tests (real kernels, containers, browser), coverage gates; TESTS=tests/wire for a part"
	@echo "make lint    ruff, mypy, tsc, eslint"
	@echo "make bench   measure the figures in the README"
	@echo "make screenshots  make the pictures of the documentation, in real JupyterLab"
	@echo "make clean   remove everything that make made"

demo: $(VENV)/.demo
	@$(BIN)/agent-magics demo

lab: $(VENV)/.lab
	@$(BIN)/jupyter lab --notebook-dir=notebooks $$([ "$$(id -u)" -ne 0 ] || echo --allow-root) $(LAB_ARGS)

test: $(VENV)/.dev
	@$(MAKE) -j2 $(OLD)/.dev lint script-test
	@.ci/system-packages browser bubblewrap
	@.ci/system-packages podman || echo "NO PODMAN: the tests of podman and docker will be skipped" >&2
	@$(BIN)/coverage erase
	@if [ "$(TESTS)" = tests ]; then \
	  $(BIN)/coverage run -m pytest -n $(WORKERS) --dist loadfile tests --ignore=tests/ui; \
	  $(BIN)/coverage run -m pytest tests/ui; \
	else $(BIN)/coverage run -m pytest $(TESTS); fi
	@$(BIN)/coverage combine --quiet
	@[ "$(TESTS)" != tests ] || .ci/coverage-gates $(BIN)/coverage

lint: python-lint script-lint

python-lint: $(VENV)/.dev
	@echo "ruff, mypy"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "formatting differs: $(BIN)/ruff format ."; exit 1; }
	@$(BIN)/mypy --no-error-summary

script-lint: $(NODE)
	@echo "tsc, eslint"
	@cd labextension && npm run --silent lint

script-test: $(NODE)
	@echo "unit tests of the JupyterLab extension"
	@cd labextension && npm run --silent test

bench: $(VENV)/.dev
	@.ci/system-packages bubblewrap
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

screenshots: $(VENV)/.dev
	@.ci/system-packages browser bubblewrap
	@$(BIN)/python -m tests.screenshots notebooks/img

clean:
	@rm -rf $(VENV) .venvs labextension/{node_modules,lib,dist,build} notebooks/out build dist htmlcov \
	  .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .coverage.*
	@find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
	@echo "clean"

# ---- environments: one stamp each, made again when the project file or the pins change

$(VENV)/.demo: pyproject.toml $(PINS) $(SCRIPTS)
	@.ci/make-venv $(VENV)
	@echo "installing agent-magics[demo] into $(VENV)"
	@$(BIN)/python $(INSTALL) -c $(PINS) -e '.[demo]'
	@touch $@

$(VENV)/.lab: $(VENV)/.demo $(BUNDLE)
	@echo "installing agent-magics[lab] into $(VENV)"
	@$(BIN)/python $(INSTALL) -c $(PINS) -e '.[lab]'
	@touch $@

$(VENV)/.dev: $(VENV)/.lab
	@echo "installing the development tools and the small local model into $(VENV)"
	@$(BIN)/python $(INSTALL) -c $(PINS) -e '.[lab,local,mcp,kubernetes]' --group dev
	@touch $@

$(OLD)/.dev: pyproject.toml $(OLD_PINS) $(SCRIPTS)
	@.ci/make-venv $(OLD)
	@echo "installing agent-magics with the oldest supported ipykernel into $(OLD)"
	@$(OLD)/bin/python $(INSTALL) -c $(OLD_PINS) -e . ipykernel coverage
	@touch $@

$(NODE): labextension/package.json labextension/package-lock.json labextension/.npmrc
	@.ci/system-packages node
	@echo "installing what the JupyterLab extension is built with into labextension/node_modules"
	@cd labextension && npm ci --loglevel=error
	@touch $@

$(BUNDLE): $(BUNDLE_SOURCES) | $(VENV)/.demo
	@if .ci/system-packages node; then \
	  $(MAKE) $(NODE); echo "building the JupyterLab extension"; \
	  cd labextension && npm run --silent build >/dev/null; \
	else echo "NO NODE: JupyterLab will not have the agent's panel; all magics work" >&2; fi
	@touch $@
