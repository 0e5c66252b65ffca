# make demo    the main job on real data, from nothing
# make test    all tests but the long ones        make test-long    those
# make check   ruff and mypy
# make bench   beamhub beside hand-written TensorFlow and its peers     make bench-short    three rows, in eight minutes
#              (hours; what is done stays done: BENCH="--minutes 60" does a piece; PEERS= leaves Ray Data and Spark out)
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCHED := .venv/.bench
PEERS ?= bench-peers
BENCH ?=

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

$(BENCHED) $(BENCHED)-peers: $(INSTALLED)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(@F:.%=%)]'
	@touch $@

bench: $(BENCHED) $(PEERS:%=.venv/.%)
	$(BIN)/python -m benchmarks $(BENCH)
	$(BIN)/python -m benchmarks.page

bench-short: $(BENCHED)
	@$(BIN)/python -m benchmarks --short --repeats 3 --minutes 6.5

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
