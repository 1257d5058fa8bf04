# Lightsout: `make` (or `make help`) lists what there is.
SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH):/usr/sbin:/sbin
# Some images forbid bytecode, and pay for it at each start of Python.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := pytest -q
# What takes minutes begins first, so that both processes end at the same time.
LONGEST := tests/flows $(patsubst %,tests/integration/test_%.py,autostop train sagemaker fleet provision access torchrun judges)
SCENARIOS := $(notdir $(patsubst %/molecule.yml,%,$(wildcard molecule/*/molecule.yml)))

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup:  ## Install everything for AWS: .venv with pinned packages, ssh, rsync
	@tools/setup aws

.PHONY: setup-local
setup-local:  ## The same, and the local cloud and the test tools (podman included)
	@tools/setup local

.PHONY: demo
demo: setup-local  ## The whole job on the local cloud, no AWS account needed; Ctrl-C is safe
	@python -m tools.demo

.PHONY: test
test: setup-local  ## All tests: lint, units, Molecule, and the flows on the local cloud
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint unit
	@$(MAKE) --no-print-directory molecule
	@$(PYTEST) --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(LONGEST) tests/integration

.PHONY: test-long
test-long: setup-local  ## What takes too long for each change: whole installations, long waits
	@$(PYTEST) --numprocesses=2 --dist=loadfile -m long tests/flows tests/integration

.PHONY: unit
unit: setup-local  ## Unit and contract tests, no cloud needed
	@$(PYTEST) --numprocesses=2 tests/unit tests/contract

.PHONY: lint
lint: setup-local  ## ansible-lint (profile production), yamllint, ruff
	@yamllint --strict .
	@ruff check --quiet .
	@ruff format --check --quiet .
	@ANSIBLE_INVENTORY=inventory/localhost.yml ansible-lint -q --offline

.PHONY: molecule
molecule: setup-local  ## Each role's Molecule scenarios, two at a time (one: make molecule SCENARIOS=jupyter)
	@python -m localcloud build
	@mkdir -p .lightsout
	@eval "$$(python -m localcloud podman-env)"; printf '%s\n' $(SCENARIOS) | xargs -P 2 -I @ sh -c ' \
	  if molecule test --scenario-name @ >.lightsout/molecule-@.log 2>&1; then echo "molecule @: passed"; \
	  else cat .lightsout/molecule-@.log; echo "molecule @: FAILED"; exit 1; fi'

.PHONY: bench
bench: setup-local  ## Measure configure.yml beside a shell script, pyinfra and Mitogen; writes docs/performance.md
	@uv pip install --quiet --target .cache/bench --requirement bench/requirements.txt
	@eval "$$(python -m localcloud podman-env)"; python -m bench

.PHONY: bench-journey
bench-journey: setup-local  ## Measure the way from nothing to Jupyter's first answer; joins docs/performance.md
	@uv pip install --quiet --target .cache/bench --requirement bench/requirements.txt
	@eval "$$(python -m localcloud podman-env)"; python -m bench.journey

.PHONY: bench-transfer
bench-transfer: setup-local  ## Measure uploads and fetches of 10,000 files beside rsync; writes docs/transfer.md
	@eval "$$(python -m localcloud podman-env)"; python -m bench.transfer

.PHONY: bench-lights
bench-lights: setup-local  ## Measure teardown, status and the agent; writes docs/lights-out.md
	@eval "$$(python -m localcloud podman-env)"; PYTHONPATH=collections python -m bench.lights

.PHONY: docs
docs: setup-local  ## Write the variable tables of the roles' READMEs from their argument specs
	@python -m tools.role_docs

.PHONY: iam
iam: setup-local  ## Write docs/iam/*.json from what the playbooks ask AWS for, recorded on the local cloud
	@python -m tools.iam

.PHONY: security
security: setup-local  ## Let Prowler and checkov judge what we make, on the local cloud; writes docs/security.md
	@python -m tools.security

.PHONY: lock
lock: setup-local  ## Renew the locked requirements from requirements*.in
	@for file in requirements requirements-dev; do \
	  uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.12 \
	    --custom-compile-command "make lock" "$$file.in" -o "$$file.txt"; done
	@for part in anaconda_standin sagemaker_image; do \
	  uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
	    --python-version 3.11 --custom-compile-command "make lock" "localcloud/$$part/requirements.in" \
	    -o "localcloud/$$part/requirements.txt"; done
	@for judge in prowler checkov; do \
	  uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --no-emit-find-links --python-version 3.12 \
	    --excludes "tools/judges/$$judge-excludes.txt" --custom-compile-command "make lock" "tools/judges/$$judge.in" \
	    -o "tools/judges/$$judge.txt"; done

.PHONY: clean
clean:  ## Stop the local cloud and remove all that was made here (AWS and your results stay untouched)
	@if [ -x .venv/bin/python ]; then python -m localcloud clean || true; fi
	@rm -rf .venv .lightsout .cache .ansible .pytest_cache .ruff_cache .hypothesis dist
	@echo "Clean. Results, if any, are still in results/."
