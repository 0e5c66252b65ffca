# make demo    the main job on real data, from nothing
# make test    all tests but the long ones        make test-long    those
# make check   ruff and mypy
# make bench   beamhub beside hand-written TensorFlow and its peers     make bench-short    three rows, in eight minutes
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCH := .venv/.bench

.PHONY: demo test test-long check bench bench-short format clean

$(INSTALLED): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("beamhub wants Python 3.11 or newer, this is " + sys.version.split()[0] + ": set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,test,check]'
	@touch $@

demo: $(INSTALLED)
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: $(INSTALLED)
	$(BIN)/python -m pytest -m 'not long'

test-long: $(INSTALLED)
	$(BIN)/python -m pytest -m long

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(BENCH): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	@touch $@

bench: $(BENCH)
	$(BIN)/python -m benchmarks

bench-short: $(BENCH)
	$(BIN)/python -m benchmarks --workloads text,vae,mobilenet035 --formats parquet --repeats 3

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
