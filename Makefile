# Everything a person or CI does with this repository. Needs Python >= 3.11, git and make; no Docker.

PYTHON ?= python3
STAGE ?=
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help run demo test test-crash test-dynamodb-local check provider package deploy clean

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(READY) ## Start Railyard on this machine, take a payment, stay up until Ctrl-C
	@$(BIN)/python -m infra.local run

demo: $(READY) ## The same, but stop after the payment; fails when anything in its story is wrong
	@$(BIN)/python -m infra.local demo

test: $(READY) ## All tests but the next two; no network beyond this machine
	@$(BIN)/python -m pytest -n auto --dist loadgroup

test-crash: $(READY) ## Kill workers under 100 payments, stop and start under 50 (about six minutes)
	@$(BIN)/python -m pytest tests/crash

test-dynamodb-local: $(READY) ## The storage contract on Amazon's DynamoDB Local (needs Java 17 and mvn)
	@$(BIN)/python -m infra.dynamodb_local

check: $(READY) ## Lint, types, import rules, OpenAPI document, template
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m infra.openapi --check
	@$(BIN)/python -m infra.deploy local --package-only
	@$(BIN)/cfn-lint .railyard/build/local/out/template.json

provider: $(READY) ## Begin a new provider: make provider NAME=acme
	@$(BIN)/python -m infra.scaffold $(if $(NAME),$(NAME),$(error say which: make provider NAME=acme))

package: $(READY) ## Build the Lambda zip and the template of STAGE=local|localstack|dev|prod
	@$(BIN)/python -m infra.deploy $(if $(STAGE),$(STAGE),$(error say which: make package STAGE=dev)) --package-only

deploy: $(READY) ## Deploy STAGE=dev|prod to AWS, localstack to LocalStack, local to a running `make run`
	@$(BIN)/python -m infra.deploy $(if $(STAGE),$(STAGE),$(error say where to: make deploy STAGE=dev))

clean: ## Remove everything that make has made, the local stack's data included
	rm -rf $(VENV) .railyard .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements.txt requirements-dev.txt infra/constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Railyard needs Python 3.11 or newer, and %s is %s. Try: make PYTHON=python3.12 ..." % (sys.executable, sys.version.split()[0]))'
	@echo "Making $(VENV) (once; about a minute) ..."
	@$(PYTHON) -m venv $(VENV)
	@# chalice needs pip < 26.3
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip==26.2.1'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c infra/constraints.txt -r requirements-dev.txt
	@touch $@
