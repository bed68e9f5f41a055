# `make` lists the targets. Needs Python 3.11, make and a C compiler; all else goes into .venv.

PYTHON   ?= python3.11
WORKERS  ?= 2
PROTOCOL ?= quick
RESULTS  ?= results
CACHE    ?= .cache
ARGS     ?=

VENV  := .venv
PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
FOLDERS = --results $(RESULTS) --cache $(CACHE)
# `make bundle PYTHON=3.12` names the Python of the machine that the bundle is for.
WHEELS_FOR := $(filter 3.%,$(PYTHON))
ifneq ($(WHEELS_FOR),)
override PYTHON := python3.11
endif
say    = @printf '\n== %s ==\n'

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help setup test lint types unit smoke claims bundle test-slurm site format lock clean

help:  ## List the targets
	@echo "make TARGET  (PYTHON=$(PYTHON) WORKERS=$(WORKERS) PROTOCOL=$(PROTOCOL) RESULTS=$(RESULTS) CACHE=$(CACHE) ARGS='more options for pytest')"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP)  ## Install requirements.lock and this project into .venv; does nothing when they are there

$(STAMP): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	    { echo "error: '$(PYTHON)' is not a Python 3.11; name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "Setting up $(VENV): $$(grep -c == requirements.lock) packages, torch the largest; a minute or more."
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --no-compile --requirement requirements.lock
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@problems=$$($(PY) -m pip check --disable-pip-version-check) || { echo "$$problems" >&2; exit 1; }
	@touch $@
	@echo "$(VENV) is ready."

test: lint types unit smoke  ## Lint, types, unit tests, smoke protocol; stops at the first failure

lint: setup  ## Ruff: rules and format
	$(say) 'lint'
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .

types: setup  ## Mypy
	$(say) 'types'
	@$(PY) -m mypy

# One thread a worker: two workers with a thread pool each only wait for one another.
unit smoke: export OMP_NUM_THREADS := 1
unit smoke: export MKL_NUM_THREADS := 1
unit smoke: export OPENBLAS_NUM_THREADS := 1

unit: setup  ## The fast tests
	$(say) 'unit tests'
	@$(PY) -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

smoke: setup  ## Tiny end-to-end runs
	$(say) 'smoke protocol'
	@$(PY) -m pytest benchmark/ -m smoke -n $(WORKERS) $(ARGS)

claims: setup  ## Train what PROTOCOL lacks, judge every claim, write the report
	$(say) 'claims, $(PROTOCOL) protocol'
	@status=0; \
	$(PY) -m pytest benchmark/ -m claims -n $(WORKERS) --protocol $(PROTOCOL) $(FOLDERS) --accept-contradicted $(ARGS) || status=$$?; \
	$(PY) -m benchmark report --protocol $(PROTOCOL) $(FOLDERS) || { report=$$?; [ $$status -ne 0 ] || status=$$report; }; \
	exit $$status

bundle: setup  ## Pack all but torch into dist/kit.tar.xz for machines without a package index; PYTHON=3.12 is theirs
	@$(PY) -m benchmark bundle $(FOLDERS) $(addprefix --python ,$(WHEELS_FOR)) $(ARGS)

test-slurm: setup  ## Jobs on a real SLURM on this machine, disturbed in every way; takes minutes
	@$(PY) tests/slurm_trial.py $(ARGS)

site:  ## Build the documentation into dist/site, every link checked; mkdocs has an environment of its own
	@[ -x .venv-docs/bin/mkdocs ] || { $(PYTHON) -m venv .venv-docs && .venv-docs/bin/pip install -qq --disable-pip-version-check 'mkdocs-material>=9.6,<10'; }
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet --site-dir dist/site
	@echo "dist/site is built."

format: setup  ## Let ruff rewrite the code
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

lock:  ## Resolve pyproject.toml anew in an empty environment and rewrite requirements.lock
	@set -eu; fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; \
	$(PYTHON) -m venv "$$fresh"; \
	"$$fresh/bin/python" -m pip install -qq --disable-pip-version-check '.[dev]'; \
	{ sed -n '/^#/p' requirements.lock; \
	  "$$fresh/bin/python" -m pip freeze --all --exclude pip --exclude free-lunch-forensics > "$$fresh/freeze"; \
	  sed -E 's/(==[^+]*)\+.*/\1/; /^(nvidia-|cuda-|triton==)/d' "$$fresh/freeze" | LC_ALL=C sort -f; } > "$$fresh/lock"; \
	cp "$$fresh/lock" requirements.lock; \
	rm -rf build *.egg-info; \
	echo "requirements.lock holds $$(grep -c == requirements.lock) packages; try them with: make test"

clean:  ## Remove .venv, tool caches and build products; results/ stays
	@rm -rf $(VENV) .venv-docs .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	@find mbpo benchmark tests -name __pycache__ -type d -prune -exec rm -rf {} +
