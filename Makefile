# Nothing but make and Python 3.11 or newer (with venv) is needed; everything else comes from the lock files.

PYTHON ?= python3
ARGS   ?=
BASE   ?=
BIN    := .venv/bin

# Hundreds of processes read the same modules; without this, where it is set, each of them compiles them anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: up
up: .venv/.ready ## bring up examples/quickstart (ARGS=--check: bring up, report, remove)
	@cd tests && ../$(BIN)/python -m services.base_images
	$(BIN)/toolkeeper up examples/quickstart $(ARGS)

.PHONY: check
check: .venv/.dev ## format, lint, types, import contracts and the unit tests but the slow ones
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 $(UNITS)

.PHONY: format
format: .venv/.dev ## format the code, and mend what the linter can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

# The tests without these markers start nothing: no container, no child process, no server of another process.
GROUPS := docker or registry or process or kubernetes or postgres or conformance or browser or network

# The loop of somebody who edits leaves out what takes long; the whole suite does not, and generates more input.
UNITS        := -m 'not slow and not ($(GROUPS))'
suite: UNITS := -m 'not ($(GROUPS))' --hypothesis-profile=whole

# Everything, with the real parts around it; what a machine cannot offer is skipped with its reason.
.PHONY: test
test: .venv/.dev ## the whole suite: sets up Docker, a registry and base images first, tidies up after
	$(SERVICES) $(MAKE) --no-print-directory -C .. suite

SERVICES := cd tests && ../$(BIN)/python -m services

.PHONY: suite
suite: check
	$(BIN)/python -m pytest -m '$(GROUPS)'
	$(MAKE) --no-print-directory quickstart

# The README's first command, in both runtimes.
.PHONY: quickstart
quickstart: .venv/.dev
	@set -ex; \
	$(MAKE) --no-print-directory up ARGS='--check --runtime process'; \
	! ($(SERVICES) --ask docker) || $(MAKE) --no-print-directory up ARGS='--check --runtime docker'

.PHONY: services
services: .venv/.dev ## start the real parts and leave them running, for tests run by hand
	$(SERVICES)

.PHONY: bench
bench: .venv/.dev ## every benchmark in tests/benchmarks, one after the other
	@set -e; for each in $(sort $(wildcard tests/benchmarks/*.py)); do echo "== $$each"; $(BIN)/python $$each; done

.PHONY: crds
crds: .venv/.ready ## write crds/, the chart's copies and the editors' JSON Schemas from the models
	$(BIN)/toolkeeper crds
	cp crds/*.yaml helm/toolkeeper/files/crds/

.PHONY: image
image: .venv/.dev ## build the container image of all programs (BASE=…: on another base image)
	@cd tests && ../$(BIN)/python -m services.image '$(BASE)'

.PHONY: lock
lock: .venv/.dev ## pin every dependency, with hashes, in the two lock files
	$(BIN)/uv pip compile $(LOCKING) --group build pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile $(LOCKING) --group build --group dev -c requirements.lock pyproject.toml -o requirements-dev.lock

# Hashes instead of hosts: whichever index or mirror a machine uses, it must serve these very files.
LOCKING := --quiet --all-extras --universal --generate-hashes --no-header --no-annotate --no-emit-index-url

.PHONY: clean
clean: ## remove the environment and every cache in the tree
	rm -rf .venv dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache .schemathesis
	find operator tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.ready: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'Toolkeeper needs Python 3.11 or newer: name one with make PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

.venv/.dev: .venv/.ready requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	@touch $@
