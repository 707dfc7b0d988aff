SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
E := tests/engine
BIN := .venv/bin

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: .venv/ready ## .venv with backupd and all tools, every one pinned by hash
.venv/ready: requirements/dev.txt pyproject.toml hatch_build.py backupd/repository/stream/_walk.c
	@$(E)/venv .venv
	@touch $@

engine: ## a Docker Engine and compose: those that run already, else Debian's (root)
	@$(E)/up
	@$(E)/fetch compose

images: engine ## the images of demo and tests: pulled, or made from Debian packages
	@$(E)/images

# A second, newer engine for the tests; where it cannot be had (exit 3) its tests say so.
second: images
	@$(E)/second up || [ $$? = 3 ]
	@$(E)/fetch all || [ $$? = 3 ]
	@eval "$$($(E)/env)"; if [ -n "$${TESTS_SECOND_ENGINE:-}" ]; then $(E)/images "$$TESTS_SECOND_ENGINE"; fi

demo: venv images ## write rows, lose the volumes, get every row back
	@eval "$$($(E)/env)"; PATH=$(CURDIR)/$(BIN):$$PATH deploy/demo/demo.sh

test: check second ## everything: check, then all tests on real engines
	@eval "$$($(E)/env)"; $(E)/tests $(BIN)/python $(ARGS)

check: venv ## fast: lint, types, layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

lint: venv ## mend what can be mended by itself
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: venv second ## measure against other tools
	@eval "$$($(E)/env)"; $(BIN)/python -m tests.bench $(ARGS)

soak: venv images ## MINUTES=30 of random kills of daemon, helpers and engine under load; then all must be true
	@eval "$$($(E)/env)"; $(BIN)/python -m tests.soak --minutes $(or $(MINUTES),30) $(ARGS)

down: ## stop the engines that were started here
	@$(E)/down

clean: down ## remove the environment, and the cache with the second engine's data
	@rm -rf .venv .cache build dist backupd/repository/stream/*.so .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

PIN := uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --no-annotate --no-header
lock: venv ## write requirements/ anew from pyproject.toml
	@$(BIN)/$(PIN) $(ARGS) pyproject.toml -o requirements/runtime.txt
	@$(BIN)/$(PIN) $(ARGS) pyproject.toml --group dev -o requirements/dev.txt
	@$(BIN)/$(PIN) $(ARGS) requirements/build.in -o requirements/build.txt
	@$(BIN)/$(PIN) $(ARGS) deploy/demo/api/requirements.in -o deploy/demo/api/requirements.txt
	@$(BIN)/$(PIN) $(ARGS) tests/s3/swift.in -o requirements/swift.txt

.PHONY: help venv engine images second demo test check lint bench soak down clean lock
