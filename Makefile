# Two commands: `make run` and `make test`. Both make the environment .venv if it is missing.

SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
# Processes that run unit tests side by side; each imports the backend once.
WORKERS ?= 2
PHASES := $(wildcard phase*_*)
# Results of the tests' notebooks: beside those of `make run`, never among them.
CHECKS := outputs/checks

# Compiled modules are kept: else each notebook compiles TensorFlow anew, 15 s a time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test lint unit unit-jax chain nbval notebooks clean
.DEFAULT_GOAL := help

help:
	@echo "make run        every lesson, headless, on built-in data; see outputs/index.html"
	@echo "make test       ruff, unit tests on TensorFlow and on JAX, every notebook"
	@echo "make lint       ruff only; 'ruff check --fix . && ruff format .' repairs"
	@echo "make notebooks  run the lessons and keep their outputs in the notebooks (authors)"
	@echo "make clean      remove outputs and caches; 'rm -r .venv' removes the environment"

# The environment --------------------------------------------------------------------------------

# Any Python from 3.11 to 3.13. PYTHON=... chooses another.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	2>/dev/null && echo "$$p" && break; done)

$(VENV)/bin/python:
	@test -n "$(PYTHON)" || { \
	  echo "Python 3.11, 3.12 or 3.13 (with its venv module) was not found. Install one, or name"; \
	  echo "it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

# uv installs three times faster than pip; where it cannot be had, pip does the same.
define install
	@echo "Installing the course$(if $(1), and $(1),) into $(VENV) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check uv || true
	@if $(PY) -m uv --version >/dev/null 2>&1; then \
	  $(PY) -m uv pip install --quiet --python $(PY) -e ".$(1)" || \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-compile -e ".$(1)"; \
	else \
	  $(PY) -m pip install --quiet --disable-pip-version-check --no-compile -e ".$(1)"; \
	fi
	@touch $@
endef

# Stamps: installed again only when what is to be installed has changed.
$(VENV)/.installed: pyproject.toml requirements.txt | $(VENV)/bin/python
	$(call install,)

$(VENV)/.installed-dev: pyproject.toml requirements.txt | $(VENV)/bin/python
	$(call install,[dev$(comma)jax])
	@touch $(VENV)/.installed

comma := ,

# The lessons ------------------------------------------------------------------------------------

run: $(VENV)/.installed
	$(PY) -m common.course run --profile smoke

notebooks: $(VENV)/.installed
	$(PY) -m common.course refresh

# The tests --------------------------------------------------------------------------------------

test: lint unit unit-jax chain nbval
	@echo "All tests passed."

lint: $(VENV)/.installed-dev
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .

unit: $(VENV)/.installed-dev
	KERAS_BACKEND=tensorflow $(PY) -m pytest tests -q -n $(WORKERS)

# With TensorFlow made unimportable, for the tests' own processes too. Notebooks are tested above.
unit-jax: $(VENV)/.installed-dev
	KERAS_BACKEND=jax PYTHONPATH=tests/no_tensorflow $(PY) -m pytest tests -q -n $(WORKERS) \
	  --ignore=tests/course --ignore=tests/notebooks

# The lessons one after the other, as `make run` does; phases side by side.
chain: $(VENV)/.installed-dev
	rm -rf $(CHECKS)
	+$(MAKE) --no-print-directory -j $(WORKERS) $(addprefix chain-,$(PHASES))

chain-%:
	$(PY) -m common.course run $* --profile smoke --output $(CHECKS)/$*

# Every cell of every notebook; cells marked NBVAL_CHECK_OUTPUT must give what is committed.
# Networks that the chain has trained are found again.
nbval: $(VENV)/.installed-dev
	+$(MAKE) --no-print-directory -j $(WORKERS) $(addprefix nbval-,$(PHASES))

nbval-%:
	COURSE_PROFILE=smoke COURSE_OUTPUTS="$$PWD/$(CHECKS)/$*" $(PY) -m pytest -q \
	  --nbval-lax --nbval-current-env --nbval-cell-timeout=600 $*/*.ipynb

clean:
	rm -rf outputs .pytest_cache .ruff_cache build *.egg-info
	find common tests phase*_* \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0 rm -rf
