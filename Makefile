# Two commands: `make run` and `make test`. Both make the environment .venv, or repair it.
# Without make, as on Windows: `python -m common.course setup`, `run --profile smoke --dataset
# synthetic`, `test`.

SHELL := /bin/bash
PY := .venv/bin/python

# Compiled modules are kept: else each notebook compiles TensorFlow anew, 15 s a time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup run test lint unit unit-jax chain nbval notebooks clean
.DEFAULT_GOAL := help

help:
	@echo "make run        every lesson, headless, on built-in data; see outputs/index.html"
	@echo "make test       ruff, unit tests on TensorFlow and on JAX, every notebook"
	@echo "make lint       ruff only; 'ruff check --fix . && ruff format .' repairs"
	@echo "make notebooks  run the lessons and keep their outputs in the notebooks (authors)"
	@echo "make clean      remove outputs and caches; 'rm -r .venv' removes the environment"

# Any Python from 3.11 to 3.13. PYTHON=... chooses another, and makes .venv anew with it.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(shell for p in $(PY) python3.13 python3.12 python3.11 python3 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
	>/dev/null 2>&1 && echo "$$p" && break; done)
else
THIS := --this-python
endif

define need_python
@test -n "$(PYTHON)" || { \
  echo "Python 3.11, 3.12 or 3.13 (with its venv module) was not found. Install one, or name"; \
  echo "it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.12"; exit 1; }
endef

setup:
	$(need_python)
	@"$(PYTHON)" -m common.course setup $(THIS)

run: export COURSE_DATASET := synthetic
run: export COURSE_PROFILE := smoke
run: setup
	@$(PY) -m common.course run

notebooks: setup
	$(PY) -m common.course refresh

test:
	$(need_python)
	@"$(PYTHON)" -m common.course setup --extras dev,jax $(THIS)
	@$(PY) -m common.course test

lint unit unit-jax chain nbval:
	$(need_python)
	@"$(PYTHON)" -m common.course test $@

# Of one phase alone.
chain-% nbval-%:
	$(need_python)
	@"$(PYTHON)" -m common.course test $@

clean:
	rm -rf outputs .pytest_cache .ruff_cache build *.egg-info
	find common tests phase*_* \( -name __pycache__ -o -name .ipynb_checkpoints \) -print0 | xargs -0 rm -rf
