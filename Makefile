# Everything runs in .venv, made on first use. PYTHON chooses the interpreter it is made from.
PYTHON ?= python3
# Processes that share the tests, best one a core: each takes up to 3 GB and compiles one program after the other.
WORKERS ?= 2
BIN := .venv/bin

.PHONY: quickstart test lint format bench clean

quickstart: .venv/installed
	$(BIN)/robust-jax run experiments/random_lp.py --scale smoke

test: .venv/installed-test
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

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
