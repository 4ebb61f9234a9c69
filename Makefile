# Two commands do all the set-up: `make run` and `make test`.
# The newest interpreter that runs: one that is only a name on the PATH (a version manager's shim) doesn't.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do $$p -c pass 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin

# Containers like to set it: then each of the thousands of processes that the tests start would compile
# every module anew (0.2 of 0.4 s of a `runner run`, measured).
export PYTHONDONTWRITEBYTECODE :=

.PHONY: run test stress coverage lint format docs bench bundle deb clean
.DELETE_ON_ERROR:

$(VENV)/.installed: pyproject.toml runner/__init__.py
	$(PYTHON) -c 'import sys; sys.exit("runner needs Python 3.11 or newer; this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

run: $(VENV)/.installed
	rm -rf .run && mkdir .run
	cd .run && ../$(BIN)/runner run ../examples/quickstart.json --state-dir state --log-dir logs --results results
	@echo; echo "--- the jobs (runner status)"
	@cd .run && ../$(BIN)/runner status --state-dir state --log-dir logs
	@echo; echo "--- the state (.run/state/queue-state.json)"
	@cat .run/state/queue-state.json
	@echo; echo "--- the results (.run/results)"
	@cd .run/results && find . -type f | sort

# Most tests wait for processes: one more at a time than there are processors.
JOBS ?= $(shell echo $$(($$(nproc) + 1)))

# Minutes, as any user, without a service or a package of the system beside Python.
test: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal -m 'not long'

# The rest: kill matrices, simulation, long S3 faults, machines of the lab (root, and what .ci/run
# installs). SCALE=0.1 for a tenth of what can be scaled, SEED=N for the same choice again.
stress: $(VENV)/.installed
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal -m long tests

# Lines of runner/api that the Executor's tests run, in the processes that they start as well; fails
# below 90 %. What runs in containers is not counted.
COVERED := $(wildcard tests/*/test_executor*.py tests/*/test_failover*.py tests/unit/test_target_registry.py)
coverage: $(VENV)/.installed
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest --numprocesses $(JOBS) --dist worksteal $(COVERED)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --fail-under=90

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The generated parts of docs/: tables of fields, flags, settings, events, permissions; the diagrams.
docs: $(VENV)/.installed
	$(BIN)/python packaging/reference.py

clean:
	rm -rf $(VENV) .run .bench build dist *.egg-info

bench: $(VENV)/.installed
	$(BIN)/python tests/bench/bench.py

# dist/runner-<version>-<arch>.tar.gz of the commit that is checked out, for both architectures.
bundle: $(VENV)/.installed
	$(BIN)/python packaging/bundle.py build

# The same files as dist/queue-runner_<version>_<arch>.deb.
deb: $(VENV)/.installed
	$(BIN)/python packaging/bundle.py build --deb
