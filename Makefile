# Every door of the project. All of them work on a fresh Debian with git, make and python3.

PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test check dist clean

help: ## show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' Makefile

setup: ## install what is missing; quick when nothing is
	@.ci/setup

demo: setup ## start the daemon with a small real model and ask it three ways
	@.ci/demo

test: setup ## run everything: linters, types, contracts, units, real buses, real model
	@.ci/test $(PYTEST_ARGS)

check: setup ## the quick half of test: linters, types, import contracts
	.venv/bin/ruff check daemon tests
	.venv/bin/ruff format --check daemon tests
	.venv/bin/mypy -p unified_llm -p tests
	.venv/bin/lint-imports

dist: setup ## render systemd units and D-Bus files for Debian and others into dist/
	@.ci/dist

clean: ## remove what setup and the tests made here; the wheel cache stays
	rm -rf .venv build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find daemon tests -name __pycache__ -prune -exec rm -rf {} +
	rm -rf daemon/unified_llm.egg-info
