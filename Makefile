# Every target does its own set-up; a second run repeats nothing. Bare `make` lists the targets.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
T ?=
SCENARIO ?= beacon
# Python keeps what it compiles, whatever the shell asks for: half of what a fresh process does would be that.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
ALL := src lab tests bench scripts
.PHONY: help demo test check lint types rooms generate check-generated test-offline test-slow test-lab lab-up lab-down bench fmt clean lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## a real cluster, an attack, Ringfence's response, live; results in out/demo (SCENARIO=stolen-token)
	@$(BIN)/python -m lab.demo $(SCENARIO)

test: check test-slow test-lab ## everything: checks, unit tests, lab tests

check: $(READY) lint types rooms check-generated test-offline ## before a commit: lint, types, rooms, tests without network

lint: $(READY)
	@$(BIN)/ruff check $(ALL)
	@$(BIN)/ruff format --check $(ALL)

types: $(READY)
	@$(BIN)/mypy

rooms: $(READY)
	@$(BIN)/lint-imports --no-logo

generate: $(READY) ## write the generated pages of docs/reference
	@$(BIN)/python -m scripts.generate

check-generated: $(READY)
	@$(BIN)/python -m scripts.generate --check

test-offline: $(READY)
	@$(BIN)/python -m pytest -m "not lab and not slow" -q -n auto $(T)

test-slow: $(READY)
	@$(BIN)/python -m scripts.packages
	@$(BIN)/python -m pytest -m "slow and not lab" -q -n auto $(T)

test-lab: $(READY) ## the proof: tests on a real cluster (a skip is a failure)
	@$(BIN)/python -m lab build --profile kyverno --profile argocd
	@$(BIN)/python -m lab up
	@$(BIN)/python -m pytest -m lab $(T)

lab-up: $(READY) ## start the lab: Kubernetes, bank, attacker's host
	@$(BIN)/python -m lab up

lab-down: $(READY) ## take the lab down without a trace
	@$(BIN)/python -m lab down

bench: $(READY) ## measure on the lab; each prints one JSON object as its last line
	@$(BIN)/python -m bench.contain
	@$(BIN)/python -m bench.logs
	@$(BIN)/python -m bench.startup
	@$(BIN)/python -m bench.runbook

fmt: $(READY) ## format the code
	@$(BIN)/ruff check --fix -q $(ALL) || true
	@$(BIN)/ruff format $(ALL)

clean: ## remove the environment and what was built in the tree
	rm -rf $(VENV) out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

lock: $(READY) ## renew the hashed requirement files from pyproject.toml
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml -o requirements/run.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate --python-version 3.11 pyproject.toml --group test -o requirements/test.txt
	$(BIN)/uv pip compile -q --upgrade --generate-hashes --no-header --no-annotate --python-version 3.11 requirements/build.in -o requirements/build.txt

# The environment: made anew when the requirements change, kept otherwise.
$(READY): requirements/test.txt requirements/build.txt pyproject.toml
	@sh scripts/environment "$(PYTHON)" "$(VENV)"
	@touch $(READY)
