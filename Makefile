# Two commands, and nothing to do before them:
#   make demo    train on a simulated stack, denoise it and look at it in napari
#   make test    all checks and tests, with coverage (make test ARGS="-m 'not gui'" runs a part of the tests)
#   make docs    builds the documentation into build/docs; a broken link is an error
#   make reliability    all cases of tests/reliability, of which make test runs a sample; under 40 minutes
# They need git, make and Python 3.11 or newer (make test PYTHON=python3.12 takes another one).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# Without a screen on Linux, Qt gets a virtual one.
ifeq ($(shell uname)$(DISPLAY)$(WAYLAND_DISPLAY),Linux)
SCREEN := xvfb-run --auto-servernum --server-args="-screen 0 1600x1000x24"
HEADLESS := --headless
endif

.DEFAULT_GOAL := help
.PHONY: help demo test docs reliability lint format install clean

help:
	@sed -n 's/^#   //p' Makefile

demo: install
	$(SCREEN) $(BIN)/direct-denoiser demo $(HEADLESS) $(ARGS)

# Two processes with one thread each share two cores better than with two threads; where a test asks for more, threads
# that wait leave the cores to others. Files go to them in the order of
# tests/conftest.py, slow ones first, and not by their numbers of tests. COVERAGE=1 also measures coverage, of
# all tests together, and fails below the floor in pyproject.toml. Compiled modules are kept, also where the environment
# says otherwise: pytest rewrites the 600 modules of napari, which takes each process 7 seconds, and tests start processes.
# A test that takes over 5 minutes hangs: its stack is printed, and it fails.
test: lint
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(SCREEN) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0 -o faulthandler_timeout=300 -o faulthandler_exit_on_timeout=true $(if $(COVERAGE),--cov) $(ARGS)

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The counts become the table of docs/reliability.md.
reliability: install
	@mkdir -p build && rm -f build/reliability.jsonl build/soak.jsonl
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive RELIABILITY_COUNTS=$(CURDIR)/build/reliability.jsonl $(SCREEN) $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/reliability $(ARGS)
	$(BIN)/python docs/reliability.py build/reliability.jsonl

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

install: $(STAMP)
	@sh scripts/system-libs.sh qt $(VENV)

# Again only if what is to be installed has changed. The constraints are the whole set that was tested.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Expected Python 3.11 or newer, found %s at %s: install one and run make PYTHON=python3.12, say" % (sys.version.split()[0], sys.executable))'
	@sh scripts/system-libs.sh venv $(PYTHON)
	$(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV); the first time this takes some minutes."
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[all,test]"
	@touch $(STAMP)

clean:
	rm -rf $(VENV) demo build dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache
