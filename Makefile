# Two commands do everything: `make run` starts a broker, `make test` runs the tests.
# The virtual environment is made on first use; only wheels are installed, nothing is compiled.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DATA ?= data
PORT ?= 9092

.PHONY: help run test check fmt lint types imports bench kill exactly-once scale clusters failover \
  chaos mixed handover sim fuzz differential

help:
	@echo "make run           start a broker on 127.0.0.1:$(PORT), data in ./$(DATA)"
	@echo "make test          run the tests (at most 10 minutes)"
	@echo "make check         format check, lint, types, import contracts, tests"
	@echo "make fmt           format the sources"
	@echo "make bench         measure cost and latency beside the budgets"
	@echo "make kill          kill the broker 50 times under load and look for lost records"
	@echo "make exactly-once  kill 30 workers and the broker 10 times, look for lost or doubled records"
	@echo "make scale         groups of every client grow and shrink under load"
	@echo "make clusters      the clients' tests on three brokers, in one process and with ZooKeeper"
	@echo "make failover      20 rounds each of brokers killed, paused, stopped and cut off under load"
	@echo "make chaos         ten minutes of faults of a ZooKeeper ensemble"
	@echo "make mixed         brokers of Apache Kafka 3.9 and of Odradek in one cluster, and replaced by each other"
	@echo "make handover      data directories go from Apache Kafka to Odradek and back"
	@echo "make sim           5,000 simulated clusters under faults, and planted bugs that must be found"
	@echo "make fuzz          one million mutated frames"
	@echo "make differential  compare answers with a real Apache Kafka (needs Java)"

run: $(VENV)/.run
	@exec $(BIN)/odradek start --data-dir $(DATA) --port $(PORT)

test: $(VENV)/.test
	@command -v kcat >/dev/null || echo "kcat is missing: its tests are skipped (apt-get install kcat)"
	@command -v java >/dev/null || echo "Java is missing: tests with ZooKeeper and Apache Kafka are skipped (apt-get install default-jre-headless libzookeeper-java)"
	$(BIN)/python -m pytest -q -rs -n 3 --dist loadfile --no-loadscope-reorder

check: lint types imports test

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.test
	$(BIN)/mypy

imports: $(VENV)/.test
	$(BIN)/lint-imports

fmt: $(VENV)/.test
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

bench: $(VENV)/.test
	$(BIN)/python -m tests.bench

kill: $(VENV)/.test
	$(BIN)/python -m tests.e2e.kill --rounds 50

exactly-once: $(VENV)/.test
	$(BIN)/python -m tests.e2e.exactly_once --worker-kills 30 --broker-kills 10

scale: $(VENV)/.test
	$(BIN)/python -m tests.e2e.scale

clusters: $(VENV)/.test
	$(BIN)/python -m tests.e2e.clusters

failover: $(VENV)/.test
	$(BIN)/python -m tests.e2e.failover

chaos: $(VENV)/.test
	$(BIN)/python -m tests.e2e.store_chaos --seconds 600

mixed: $(VENV)/.test
	$(BIN)/python -m tests.e2e.mixed
	$(BIN)/python -m tests.e2e.rolling
	$(BIN)/python -m tests.e2e.rolling --kill

handover: $(VENV)/.test
	$(BIN)/python -m tests.e2e.handover

sim: $(VENV)/.test
	$(BIN)/python -m tests.sim --seeds 5000 --keep-going
	$(BIN)/python -m tests.sim --planted

fuzz: $(VENV)/.test
	$(BIN)/python -m tests.fuzz.frames --count 1000000

differential: $(VENV)/.test
	$(BIN)/python -m compat.differential --generated 5000
	$(BIN)/python -m compat.differential --cluster

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; say which one with PYTHON=..."; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { rm -rf $(VENV); echo "Python's venv module is missing (Debian: apt-get install python3-venv)"; exit 1; }

$(VENV)/.run: pyproject.toml | $(BIN)/python
	$(PIP) install --only-binary :all: --editable .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) install --only-binary :all: --editable '.[test]'
	@touch $@ $(VENV)/.run
