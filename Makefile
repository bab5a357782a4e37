# The two commands of a fresh machine are `make demo` and `make test`; both make the environment first.
VENV := $(or $(MEDTRAIN_VENV),$(CURDIR)/.venv)
BIN := $(VENV)/bin
CODE := src tests $(wildcard jobs tune cluster benchmarks)
ARGS ?=

.PHONY: demo demo-tune test test-all lint bench bench-env study-staf env

# Trains again each time; `make demo ARGS=--reuse` keeps what is whole.
demo: env
	cluster/local.sh jobs/run_pipeline.py $(if $(filter --reuse,$(ARGS)),$(filter-out --reuse,$(ARGS)),--again $(ARGS))

# Experts of the demo, then a search over their router; both keep what is whole. ARGS=--again searches anew.
demo-tune: env
	cluster/local.sh jobs/train_experts.py
	cluster/local.sh tune/run_study.py --config demo $(ARGS)

# Two at a time: much of a test's time is waiting for Ray, and each of the two has a cluster of its own.
test: env
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "not long"

# PART=cluster, study or bench runs the tests that take minutes of that part alone.
PART ?=
LONG_cluster := tests/cluster tests/train tests/experts tests/router
LONG_study := tests/demo tests/search tests/evaluate tests/test_studies.py
LONG_bench := tests/test_benchmarks.py
test-all: env
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(PART),-m long $(LONG_$(PART)))

lint: env
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy src $(wildcard jobs tune cluster benchmarks)

bench: env bench-env
	set -e; for claim in benchmarks/*.py; do $(BIN)/python $$claim $(ARGS); done

# An hour and more on two cores; killed, it goes on where it was. ARGS=--quick shows that it runs.
study-staf: env
	cluster/local.sh benchmarks/studies/staf.py --shared "$(abspath $(or $(MEDTRAIN_SHARED),../shared))" $(ARGS)

# The peers that are no dependencies, in an environment that looks through to this one.
bench-env: env
	$(BIN)/python -m venv .bench-env
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$$(.bench-env/bin/python -c \
	  'import sysconfig; print(sysconfig.get_path("purelib"))')/medtrain.pth"
	.bench-env/bin/python -m pip install --quiet --no-deps trl==1.16.0 datasets==5.2.0 dill==0.4.1 multiprocess==0.70.19 xxhash==4.1.0

env:
	@PYTHON="$(PYTHON)" cluster/make_env.sh
