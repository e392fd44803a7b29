# Two commands are all a newcomer needs: `make repro` and `make test`. Both install first, once.
# Inside an active conda environment, say where it is: make repro VENV=$CONDA_PREFIX
VENV   ?= .venv
PYTHON ?= $(shell command -v python3.11 || command -v python3)
ARGS   ?=

BIN   := $(abspath $(VENV))/bin
STAMP := $(VENV)/.installed
PIP   := $(BIN)/python -m pip install --no-input --disable-pip-version-check
STORE := sqlite:///$(CURDIR)/mlflow.db

export PATH := $(BIN):$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

.DEFAULT_GOAL := help
.PHONY: help setup repro seeds test lint lab ui

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-7s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP) ## create .venv and install what requirements.lock pins (about 5 minutes and 7 GB, once)

# The build tools come first, so that nothing is built with tools the lock does not name. sam2 comes last: it is a
# source package whose build imports torch. Its optional CUDA kernel is not used here, so it is not compiled.
$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"make setup: Python 3.11 is needed, {sys.executable} is {v[0]}.{v[1]}; remove $(VENV) and set PYTHON=/path/to/python3.11")'
	grep -E '^(setuptools|wheel)==' requirements.lock | $(PIP) -r /dev/stdin
	grep -v '^sam2==' requirements.lock | $(PIP) --no-build-isolation -r /dev/stdin
	grep '^sam2==' requirements.lock | SAM2_BUILD_CUDA=0 $(PIP) --no-build-isolation --no-deps -r /dev/stdin
	$(PIP) --no-build-isolation --no-deps -e .
	@touch $@

repro: setup ## run every stage that is out of date, down to the report (ARGS=... goes to dvc repro)
	dvc repro $(ARGS)

seeds: setup ## Table 4 in the mean of three seeds (two more runs a row: about half an hour on two cores)
	dvc repro seeds/dvc.yaml $(ARGS)

# Two processes of one thread each: at these sizes a second thread gives nothing (LOG.md).
test: setup ## run all tests; ARGS="-m 'not slow'" for the quick ones, ARGS="-n 0" for one process
	OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## formatting, lint, types
	ruff format --check .
	ruff check .
	pyright

lab: setup ## open the notebooks in JupyterLab
	jupyter lab notebooks

ui: setup ## compare the runs in MLflow's web page
	MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --backend-store-uri $(or $(MLFLOW_TRACKING_URI),$(STORE)) $(ARGS)
