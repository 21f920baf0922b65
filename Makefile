# Two commands do everything on a machine with Python 3.11 or later, git and make: `make demo` and `make test`.
VENV ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help demo live test lint format lock benchmark clean

help:
	@echo "make demo       install gsched and show what it does"
	@echo "make live       install what gsched serve and gsched loadgen need"
	@echo "make test       install what the tests need and run them"
	@echo "make lint       check format, style, types and the direction of imports"
	@echo "make format     format the code"
	@echo "make benchmark  measure speed against peers"
	@echo "make lock       choose the newest versions of all dependencies"

demo: $(VENV)/.installed
	$(BIN)/gsched demo

live: $(VENV)/.installed
	@$(PIP) install --require-hashes -r requirements-live.lock

test: $(VENV)/.installed-dev
	@scripts/install_test_tools.sh $(BIN)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

benchmark: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/engine.py
	$(BIN)/python benchmarks/end_to_end.py

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "gsched needs Python 3.11 or later (not found)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "gsched needs Python 3.11 or later; name one with make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python requirements.lock pyproject.toml
	@echo "Installing gsched into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@echo "Installing what the tests need into $(VENV) …"
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@touch $@

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header --upgrade

lock: $(VENV)/.installed-dev
	$(PIP) install uv
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --constraint requirements.lock --extra live --extra report --output-file requirements-live.lock pyproject.toml
	$(LOCK) --constraint requirements-live.lock --extra all --group dev --output-file requirements-dev.lock pyproject.toml

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
