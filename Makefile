# The two commands of a fresh machine are `make demo` and `make test`; both make the environment first.
VENV := $(or $(MEDTRAIN_VENV),$(CURDIR)/.venv)
BIN := $(VENV)/bin
CODE := src tests $(wildcard jobs cluster benchmarks)
ARGS ?=

.PHONY: demo test test-all lint bench env

# Trains again each time; `make demo ARGS=--reuse` keeps what is whole.
demo: env
	cluster/local.sh jobs/run_pipeline.py $(if $(filter --reuse,$(ARGS)),$(filter-out --reuse,$(ARGS)),--again $(ARGS))

# Two at a time: much of a test's time is waiting for Ray, and each of the two has a cluster of its own.
test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

test-all: env
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: env
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy src $(wildcard jobs cluster benchmarks)

bench: env
	set -e; for claim in benchmarks/*.py; do $(BIN)/python $$claim $(ARGS); done

env:
	@PYTHON="$(PYTHON)" cluster/make_env.sh
