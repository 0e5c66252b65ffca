# make demo    the main job on real data, from nothing
# make test    all tests but the long ones        make test-long    those
# make check   ruff and mypy
# make bench   beamhub beside hand-written TensorFlow and its peers     make bench-short    three rows, in eight minutes
#              (hours; what is done stays done: BENCH="--minutes 60" does a piece; PEERS= leaves Ray Data and Spark out)
PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
BENCHED := .venv-bench/.bench
PEERS ?= bench-peers
BENCH ?=

.PHONY: demo test test-long check bench bench-short format clean

$(INSTALLED): EXTRAS := demo,test,check
# Without scikit-learn, which TensorFlow's Keras imports where it is there: beamhub's users need not have it.
$(BENCHED): EXTRAS := bench
$(INSTALLED) $(BENCHED): pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("beamhub wants Python 3.11 or newer, this is " + sys.version.split()[0] + ": set PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
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

$(BENCHED)-peers: $(BENCHED)
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[bench-peers]'
	@touch $@

bench: $(BENCHED) $(PEERS:%=.venv-bench/.%)
	.venv-bench/bin/python -m benchmarks $(BENCH)
	.venv-bench/bin/python -m benchmarks.page

bench-short: $(BENCHED)
	@.venv-bench/bin/python -m benchmarks --short --repeats 3 --minutes 6.5

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .venv-bench demo build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
