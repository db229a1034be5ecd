# Everything runs in .venv, made on first use. PYTHON chooses the interpreter it is made from.
PYTHON ?= python3
# Processes that share the tests: one a core, as each compiles one program after the other, and one for each 3 GB of
# memory, as much as each may take. Without /proc/meminfo, as on a Mac, two.
CORES := $(shell getconf _NPROCESSORS_ONLN)
FITTING := $(shell [ -r /proc/meminfo ] && awk '/^MemAvailable/ {n = int($$2 / 3e6)} END {print n ? n : 1}' /proc/meminfo || echo 2)
WORKERS ?= $(shell echo $$(( $(CORES) < $(FITTING) ? $(CORES) : $(FITTING) )))
# Limits the instructions of compiled programs (SSE4_2, AVX, AVX2, AVX512): how an older processor rounds.
ISA ?=
PYTEST = ROBUST_JAX_TEST_ISA=$(ISA) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
BIN := .venv/bin

.PHONY: quickstart test test-long lint format bench clean

quickstart: .venv/installed
	$(BIN)/robust-jax run experiments/random_lp.py --scale smoke

test: .venv/installed-test
	$(PYTEST) -m "not long"

# What takes long by nature: whole experiments, brute force, many shapes.
test-long: .venv/installed-test
	$(PYTEST) -m long

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python

format: .venv/installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed-bench
	$(BIN)/python benchmarks/lp_sampling.py
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/corruptions.py
	$(BIN)/python benchmarks/corruption_suite.py
	$(BIN)/python benchmarks/attacks.py
	$(BIN)/python benchmarks/members.py

clean:
	rm -rf .venv

# uv resolves and installs in seconds what takes pip minutes. Bytecode is compiled once, not by every first import.
.venv/bin/uv:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

.venv/installed: setup.py .venv/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable .
	touch $@

.venv/installed-test: setup.py .venv/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable ".[test]"
	touch $@ .venv/installed

.venv/installed-bench: setup.py .venv/bin/uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable ".[test,bench]"
	touch $@ .venv/installed .venv/installed-test
