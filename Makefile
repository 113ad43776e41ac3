# make demo    three company processes on this machine: align, train, compare
# make test    lint, types and tests, ten to twelve minutes (make test-slow: whole runs, some twenty-five more)
# make faults  kill, stop, cut and slow real processes at 200 random moments (SEED=1 POINTS=200): 40 minutes
# make simulate  whole runs in virtual time with their files, from SEED=1 on, SEEDS=10000: ten minutes
# make docs    the pages of docs/ as a site in build/docs; every link between them is checked (make links: those that lead out)
# make dist    a wheel in dist/, for partners who install it with pip
# Each sets up .venv first, if needed. Nothing else is required but Python >= 3.11 and make.

PYTHON ?= python3
BIN := .venv/bin
DEMO_ARGS ?=
SEED ?= 1
POINTS ?= 200
SEEDS ?= 10000

.PHONY: setup demo test test-slow faults simulate fuzz lint dist docs links reference protos clean

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	@echo "== Setting up .venv with the pinned packages (a few minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 setup"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch==2.13.0 -e '.[dev,export]'
	@touch $@

demo: .venv/ready
	@echo "== Three companies on this machine: make data, align, train, compare"
	$(BIN)/party demo $(DEMO_ARGS)

test: lint
	@echo "== Tests (the slow ones: make test-slow)"
	$(BIN)/python -m pytest -n 2 -m "not slow"

test-slow: .venv/ready
	@echo "== Slow tests: whole runs of real processes"
	$(BIN)/python -m pytest -m slow
	@echo "== PSI once more, every index into an array checked (compiled code does not check by itself)"
	NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=$$(mktemp -d) $(BIN)/python -m pytest -n 2 -m "not slow" tests/psi

faults: .venv/ready
	@echo "== Real processes over mutual TLS: killed, stopped, cut off and slowed at $(POINTS) random moments"
	$(BIN)/python -m tests.faults.real --seed $(SEED) --points $(POINTS)

simulate: .venv/ready
	@echo "== Whole runs with their files in virtual time, under the faults of $(SEEDS) seeds"
	$(BIN)/python -m tests.faults.simulated --seed $(SEED) --seeds $(SEEDS)

fuzz: .venv/ready
	@echo "== Fuzzing: $${FUZZ_SECONDS:-600} seconds of each decoder, findings in fuzz-findings/"
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[fuzz]'
	$(BIN)/python -m tests.fuzz.run

lint: .venv/ready
	@echo "== Lint and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs
	@echo "== Documents: build/docs/index.html"
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

dist: .venv/ready
	@echo "== A wheel, and the source that it is built from, in dist/"
	$(BIN)/python -m build --outdir dist

links: .venv/docs
	@echo "== Links that lead out of the documents"
	$(BIN)/python -m sphinx -q -W --keep-going -b linkcheck docs build/links

.venv/docs: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

reference: .venv/ready
	$(BIN)/python docs/reference.py

protos: .venv/ready
	$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. protos/party.proto protos/serving.proto

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis demo fuzz-findings
