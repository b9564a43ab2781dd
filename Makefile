# Everything a user or CI runs. PYTHON may name another Python 3.11.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
COMPILED := $(wildcard schemas/*.pyx pipeline/stages/*.pyx connectors/*/*.pyx)

.PHONY: help demo test lint check chaos bench lock clean
help:  ## Say what there is
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/^([a-z]+):.*## /make \1  - /'

$(VENV)/runtime: requirements.lock setup.cfg setup.py $(COMPILED)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: install it, or give PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "$(PYTHON) is not Python 3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { echo "the venv module is missing: apt install python3-venv"; exit 1; }
	@echo "installing the locked packages into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@rm -rf payment_pipeline.egg-info  # An older one would hide new entry points from programs that run in this folder.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/development: $(VENV)/runtime requirements-dev.lock
	@echo "installing the locked development tools (once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements-dev.lock
	@touch $@

demo: $(VENV)/runtime  ## Run the whole pipeline here, with traffic of its own
	@$(BIN)/ptr demo $(ARGS)

test: $(VENV)/development  ## Install what is needed and run all tests
	@$(BIN)/python -m pytest $(ARGS)

lint: $(VENV)/development  ## Style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

check: lint  ## The same, and the fast tests
	$(BIN)/python -m pytest -q tests/unit tests/contract tests/simulation

chaos: $(VENV)/runtime  ## Kill processes on a real Kafka and recount (needs Java 17 and Maven)
	@$(BIN)/ptr chaos $(ARGS)

bench: $(VENV)/runtime  ## Measure on a real Kafka (needs Java 17 and Maven)
	@$(BIN)/ptr bench $(ARGS)

lock: $(VENV)/development  ## Write the lock files anew from setup.cfg
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 setup.cfg requirements-build.in -o requirements.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --python-version 3.11 -c requirements.lock requirements-dev.in -o requirements-dev.lock

clean:  ## Remove the environment and local state
	rm -rf $(VENV) var build schemas/*.so pipeline/stages/*.so connectors/*/*.so
