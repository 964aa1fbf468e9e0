# Every target makes its own .venv from nothing; the second run finds it ready. `make help` lists them.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
READY := $(VENV)/.ready
# PICTURES is the former name.
IMAGES ?= $(PICTURES)
export IMAGES

# Two test workers of one thread each: the fastest on two cores, and no slower on more.
PYTEST := OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-matrix bench load numerics memory fuzz faults quality style cards dist sbom audit clean

help:  ## show this list
	@echo "usage: make TARGET [PYTHON=python3.12]"
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  %-11s %s\n", $$1, $$2}'

setup: $(READY)  ## make .venv and install the package with everything below needs

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "stmine-hf needs Python >= 3.10, found " + sys.version.split()[0] + "; choose another with: make PYTHON=python3.12 ...")'
	@test -x $(VENV)/bin/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing stmine-hf and what it needs into $(VENV) (PyTorch is large: the first time takes minutes)"
	@$(RUN) pip install --quiet --upgrade pip
	@$(RUN) pip install --editable ".[dev]"
	@touch $@

demo: $(READY)  ## write a report of all three methods at work, then serve a page to play with (not with ONCE=1)
	@$(RUN) stmine_hf.cli demo --once $(if $(IMAGES),--images "$$IMAGES") $(if $(QUERY),--query "$$QUERY") $(if $(MODEL),--model "$$MODEL")
	@$(if $(ONCE),,$(RUN) stmine_hf.cli demo $(if $(IMAGES),--images "$$IMAGES") $(if $(MODEL),--model "$$MODEL"))

test: $(READY)  ## run the tests that take under ten minutes on two cores
	@$(PYTEST) -m "not slow"

test-all: $(READY)  ## run every test, the slow ones too
	@$(PYTEST)

test-matrix: $(READY)  ## run the tests with the lowest and the newest versions of what the package needs
	@$(RUN) tests.matrix $(CELLS)

bench: $(READY)  ## compare with the released pipelines and usual alternatives (QUICK=1: three to five minutes; THREADS, DATA, GROUPS)
	@$(VENV)/bin/python examples/benchmarks/harness.py $(if $(QUICK),--quick) --threads $(or $(THREADS),1) \
		$(if $(DATA),--data "$(DATA)") $(if $(BEFORE),--before "$(BEFORE)") $(if $(GROUPS),--groups $(GROUPS))

load: $(READY)  ## let 1,000 visitors ask the demo for a minute, with as many stalled connections
	@PYTHONPATH=.:tests OMP_NUM_THREADS=1 $(RUN) load

numerics: $(READY)  ## print how far answers of the shipped models move with what must not matter
	@PYTHONPATH=.:tests OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(RUN) test_numerics

memory: $(READY)  ## measure the peak memory of every command, and of hostile files
	@PYTHONPATH=.:tests OMP_NUM_THREADS=1 $(RUN) memory

fuzz: $(READY)  ## put TRIALS (200,000) changed files through every reader and writer
	@PYTHONPATH=.:tests OMP_NUM_THREADS=1 $(RUN) fuzz.mutate --trials $(or $(TRIALS),200000) --seed $(or $(SEED),1) \
		--record outputs/fuzz.jsonl

quality: $(READY)  ## check style and types: ruff and mypy
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy stmine_hf modeling

style: $(READY)  ## format, and fix what ruff can fix
	@$(RUN) ruff check --fix .
	@$(RUN) ruff format .

cards: $(READY)  ## bring hub_cards/ and the guide's list of data sets up to today's code and templates
	@for list in hub_cards/*/manifest.json; do \
		repository=$$(dirname $$list); \
		$(RUN) stmine_hf.cli publish build $$repository --out $$repository || exit 1; \
	done
	@$(RUN) tests.data_table

faults: $(READY)  ## kill, interrupt and starve every command (COMMANDS) at MOMENTS (20) random moments
	@PYTHONPATH=.:tests OMP_NUM_THREADS=1 $(RUN) faults --moments $(or $(MOMENTS),20) --record outputs/faults.jsonl $(COMMANDS)

dist: $(READY)  ## build the wheel and the source archive in dist/, the same bytes from the same commit
	@$(RUN) tests.archives dist

sbom: $(READY)  ## list the installed packages with versions and licenses in dist/sbom.json (CycloneDX)
	@$(RUN) tests.audit sbom dist/sbom.json

audit: $(READY)  ## look the installed packages up in the database of known vulnerabilities (needs the network)
	@$(RUN) tests.audit check

clean:  ## remove .venv, caches and outputs
	@rm -rf $(VENV) build dist outputs .pytest_cache .ruff_cache .mypy_cache *.egg-info
