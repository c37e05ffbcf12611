# Everything runs in a virtual environment inside the checkout; each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types imports unit chaos soak bench bench-detection bench-ocnn-paper fuzz broker format lock clean

help: ## Show the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Set up the virtual environment with the tested versions

$(STAMP): pyproject.toml constraints.txt
	@if command -v uv >/dev/null 2>&1; then \
	  uv venv --quiet --allow-existing --python $(PYTHON) $(VENV) && \
	  uv pip install --quiet --python $(BIN)/python -c constraints.txt -e . --group dev; \
	else \
	  $(PYTHON) -m venv $(VENV) && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1' && \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev; \
	fi
	@touch $(STAMP)

demo: $(STAMP) ## Simulated plant, training, live monitoring, and what was found: about two minutes
	$(BIN)/nuwatch demo

test: lint types imports unit ## All checks and tests

lint: $(STAMP) ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP) ## pyright, strict
	$(BIN)/pyright

imports: $(STAMP) ## import-linter contracts
	$(BIN)/lint-imports

unit: $(STAMP) ## pytest, with a real Kafka broker
	$(BIN)/pytest

chaos: $(STAMP) ## The fault suite on a real broker: CHAOS repetitions (200) of each fault, seeded by SEED
	$(BIN)/pytest -m chaos -s --timeout 7200 --chaos $(or $(CHAOS),200) $(if $(SEED),--seed $(SEED))

soak: $(STAMP) ## Two daemons under load, one of them killed every minute: MINUTES (30), RATE (5000 records/s), SEED
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),30) --rate $(or $(RATE),5000) $(if $(SEED),--seed $(SEED))

bench: $(STAMP) ## Speed: decode, window, score, whole path, latency
	$(BIN)/python -m benchmarks.speed

bench-detection: $(STAMP) ## Detection quality on labelled data (SKAB and TEP from NUWATCH_DATA); goes on where it was interrupted
	$(BIN)/nuwatch benchmark detection --json out/bench/detection.json --markdown docs/detection.md

bench-ocnn-paper: $(STAMP) ## The OC-NN paper's experiments (MNIST from NUWATCH_DATA): hours on two cores, minutes on a GPU; goes on where it was interrupted
	$(BIN)/python -m benchmarks.ocnn_paper --json out/ocnn-paper/results.json --markdown out/ocnn-paper/tables.md

fuzz: $(STAMP) ## A million damaged records through codec and fold: some minutes
	nice -n 10 $(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),1000000)

broker: $(STAMP) ## A real Apache Kafka broker on localhost:9092 from its Maven artefacts (Java 17 and Maven)
	$(BIN)/python tests/broker.py --port 9092

format: $(STAMP) ## Format and fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: ## Write the installed versions to constraints.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -v '^pip==' > constraints.txt

clean: ## Remove everything that can be made again
	rm -rf $(VENV) .cache .pytest_cache .ruff_cache .hypothesis dist build out
