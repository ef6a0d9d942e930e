# fibflow: every command that the README and CONTRIBUTING name.

PYTHON ?= python3
BIN    := .venv/bin
STAMP  := .venv/.stamp
PEER   := .venv/.peer

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help clean-clone demo check unit test guards e2e reference cluster cluster-down bench faults lives constraints clean venv postgres programs

help: ## print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: venv ## set up, then run the example with three workers, one of them killed (SQLite, about a minute)
	$(BIN)/python examples/stdlib/demo.py

check: venv ## lint, format, types and architecture
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

unit: venv ## the tests that need no database, in seconds
	$(BIN)/pytest tests/unit

test: check postgres programs ## check, then every test (what they need is found, installed or built)
	$(BIN)/pytest

guards: venv postgres programs ## take each guard out once, in a copy; its test must fail (make guards GUARDS='lease fence')
	$(BIN)/python tools/guards.py $(GUARDS)

e2e: venv postgres programs ## the tests on a real Kubernetes, with nothing shortened; figures go to build/e2e.json
	FIBFLOW_E2E=full $(BIN)/pytest tests/e2e --timeout 900

reference: venv ## write docs/reference and the chart's copies from their sources
	$(BIN)/python tools/reference.py

cluster: venv postgres programs ## start a Kubernetes of two nodes with a PostgreSQL (root, no Docker), say how to use it
	PYTHONPATH=tests $(BIN)/python -m cluster up

cluster-down: venv ## end it; nothing is left
	PYTHONPATH=tests $(BIN)/python -m cluster down

bench: $(PEER) postgres ## measure against the peer, which is installed for it; write build/bench.json
	cd tests && ../$(BIN)/python -m bench $(BENCH)

faults: venv postgres ## kill, stop and overtake workers, write build/faults.json
	mkdir -p build && cd tests && ../$(BIN)/python -m faults $(FAULTS)

lives: venv postgres ## hold the verbs to their model, twenty times as long as make test does
	FIBFLOW_LIVES=many $(BIN)/pytest tests/semantics/test_life.py --timeout 3600

clean-clone: ## clone to a temporary folder and run both commands of the README there
	@bash tools/clean_clone.sh

constraints: venv ## resolve the newest versions afresh into constraints.txt
	rm -rf build/resolve && $(BIN)/python -m venv build/resolve
	build/resolve/bin/pip install --quiet '.[postgres,operator,dev,image,bench]'
	{ sed -n '/^#/p' constraints.txt; build/resolve/bin/pip freeze --exclude fibflow; } > build/constraints.txt
	mv build/constraints.txt constraints.txt && rm -rf build/resolve

clean: ## remove what was built, the virtual environment too
	test ! -e build/cluster || $(MAKE) cluster-down
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find operator worker tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tools/venv.sh
	@bash tools/venv.sh $(PYTHON) .venv
	@touch $@

$(PEER): $(STAMP)
	@$(BIN)/pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[bench]'
	@touch $@

postgres: venv
	@$(BIN)/python tools/postgres.py

programs: venv postgres
	@PYTHONPATH=tests $(BIN)/python -m cluster build
