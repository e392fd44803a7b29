# Two commands are all a newcomer needs: `make repro` and `make test`. Both install first, once.
# Inside an active conda environment, say where it is: make repro VENV=$CONDA_PREFIX
VENV   ?= .venv
ARGS   ?=

# Paths are quoted for the shell and are no targets of make, which cannot quote: any will do but one with a colon or quote.
BIN   := '$(VENV)'/bin
STAMP := '$(VENV)'/.installed
PIP   := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check
# Lines of the lock, each with the hashes below it, whose package a pattern of awk picks: pip refuses any other file.
locked = awk '/==/ {on = $(1)} on' requirements.lock | $(2) $(PIP) --require-hashes --no-build-isolation $(3) -r /dev/stdin

export PATH := $(if $(filter /%,$(firstword $(VENV))),,$(CURDIR)/)$(VENV)/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true

ifneq ($(findstring :,$(CURDIR)$(VENV))$(findstring ',$(VENV)),)
$(error the project is in $(CURDIR), its environment in $(VENV): a path with a colon or a quote cannot be on the PATH; move it)
endif

.DEFAULT_GOAL := help
.PHONY: help ours setup install repro status seeds studies annotation baselines test lint lab ui site

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-12s%s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# An environment has one checkout installed: a second one must not take its place unasked.
ours:
	@test ! -x $(BIN)/python || $(BIN)/python -c "$$OURS"

define OURS
import importlib.metadata as metadata, json, os, sys, urllib.parse
try:
    url = json.loads(metadata.distribution("reviosa-workbook").read_text("direct_url.json") or "{}").get("url", "")
except metadata.PackageNotFoundError:
    url = ""
there = urllib.parse.unquote(urllib.parse.urlparse(url).path)
if url.startswith("file:") and os.path.realpath(there) != os.path.realpath("."):
    sys.exit(f"make: the environment {sys.prefix} has the project in {there} installed, not the one in {os.getcwd()}; name another: make ... VENV=.venv")
endef
export OURS

setup: ours ## create .venv and install what requirements.lock pins (about 5 minutes and 7 GB, once)
	@test -e $(STAMP) -a ! requirements.lock -nt $(STAMP) -a ! pyproject.toml -nt $(STAMP) || $(MAKE) --no-print-directory install

# The build tools come first, so that nothing is built with tools the lock does not name. sam2 comes last: it is a
# source package whose build imports torch. Its optional CUDA kernel is not used here, so it is not compiled.
install:
	@test -x $(BIN)/pip || echo "setup: an environment in $(VENV)"
	@test -x $(BIN)/pip || "$${PYTHON:-$$(command -v python3.11 || command -v python3)}" -m venv '$(VENV)'
	@$(BIN)/python -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"make setup: Python 3.11 is needed, {sys.executable} is {v[0]}.{v[1]}; remove $(VENV) and set PYTHON=/path/to/python3.11")'
	@echo "setup 1/4: build tools"
	@$(call locked,/^(packaging|setuptools|wheel)==/)
	@echo "setup 2/4: the $$(grep -c == requirements.lock) packages of requirements.lock (7 GB: some minutes, and silent)"
	@$(call locked,!/^sam2==/)
	@echo "setup 3/4: sam2, from its source"
	@$(call locked,/^sam2==/,SAM2_BUILD_CUDA=0,--no-deps)
	@echo "setup 4/4: this project"
	@$(PIP) --no-build-isolation --no-deps -e .
	@touch $(STAMP)

repro: setup ## run every stage that is out of date, down to the report (ARGS=... goes to dvc repro)
	dvc repro $(ARGS)

status: setup ## which stages are stale, why, and which figures and tables hang on them (ARGS=seeds/dvc.yaml for others)
	reviosa status $(ARGS)

seeds: setup ## Table 4 in the mean of three seeds (two more runs a row: about half an hour on two cores)
	dvc repro seeds/dvc.yaml $(ARGS)

studies: setup ## the same training under other rules, scored on dev (two to three hours on two cores; goes on where it stopped)
	dvc repro studies/dvc.yaml $(ARGS)

annotation: setup ## annotate InterShapes with an embedded endpoint, and study its errors (about two minutes)
	dvc repro annotation/dvc.yaml $(ARGS)

# Two processes of one thread each: at these sizes a second thread gives nothing (LOG.md).
baselines: setup ## ReferFormer, IFIRVOS and SOC, trained and compared (52 minutes on two cores)
	dvc repro baselines/dvc.yaml $(ARGS)

test: setup ## run all tests; ARGS="-m 'not slow'" for the quick ones, ARGS="-n 0" for one process
	OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup ## formatting, lint, types
	ruff format --check .
	ruff check .
	pyright

lab: setup ## open the notebooks in JupyterLab
	jupyter lab notebooks

site: setup ## executed notebooks, report and docs as pages in site/, which open without a server
	reviosa site $(ARGS)

ui: setup ## compare the runs in MLflow's web page
	@test -n "$$MLFLOW_TRACKING_URI" || echo "runs: http://127.0.0.1:5000/#/experiments/1/runs?workflowType=machine_learning"
	@uri="$$(python -c "from reviosa_core.report import store; print(store.tracking_uri())")"; case "$$uri" in \
	  http*) python -c "from reviosa_core.report import store; print('runs:', store.without_password(store.tracking_uri()))" ;; \
	  *) MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow ui --workers 1 --backend-store-uri "$$uri" $(ARGS) ;; \
	esac
