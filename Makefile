# The first call sets up $(VENV) with the versions in constraints.txt; later ones only when those or pyproject.toml change.
#   PYTHON=python3.12 make test        another interpreter (3.11 or newer)
#   PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu make demo
#                                      on Linux without a GPU: PyTorch's CPU build, some 3 GB less to download

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# More threads make small networks slower, and starve whoever shares the machine.
export OMP_NUM_THREADS ?= 2
# Figures go to files; no screen is needed.
export MPLBACKEND ?= Agg

.PHONY: help demo test test-lowest lint docs clean

help:
	@echo "make demo   simulate a small MintPy project, correct it, compare with the truth"
	@echo "make test   ruff, mypy and the whole test suite"
	@echo "make lint   ruff and mypy only"
	@echo "make test-lowest  the tests with the oldest versions that pyproject.toml allows (6 GB on Linux)"
	@echo "make docs   the documentation, in site/; its warnings are errors"
	@echo "make clean  remove $(VENV), caches and the demo's files"

demo: $(READY)
	$(BIN)/python -m mintpy_vae.demo

# three processes for two cores, since tests wait for MintPy and for killed processes; one thread each
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/python -m pip install --progress-bar off -c constraints-lowest.txt -e '.[test]'
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

lint: $(READY)
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("constraints.txt needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[test,docs]'
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest demo build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
