# Needs git, make and Python 3.11 or newer; everything else goes into .venv. PYTHON=python3.12 make ... chooses one.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
PEERS := .venv-peers
# Threads that wait for work give up their core; by default they spin, and a busy machine crawls.
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: run test lab lint notebooks bench peers lock

run: $(READY)  ## every chapter at tiny scale, with a table and an HTML gallery
	$(BIN)/fcnbook book --scale tiny --out runs/tiny

test: $(READY)  ## the tests: no network, no GPU
	$(BIN)/pytest --numprocesses 2 --dist loadfile
	OMP_NUM_THREADS=1 FCNBOOK_SCALE=smoke $(BIN)/pytest --nbval-lax --nbval-current-env --numprocesses 2 --dist loadfile notebooks

lab: $(READY)  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab --notebook-dir=notebooks

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/codespell --skip fcnbook/datasets/classes.json fcnbook data_scripts tests README.md CHANGELOG.md CONTRIBUTING.md

notebooks: $(READY)  ## execute the committed notebooks again, in place
	$(BIN)/python -m fcnbook.book.headless notebooks

bench: $(READY)
	$(BIN)/pytest tests/benchmarks --benchmark-enable --benchmark-only

peers: $(PEERS)/ready  ## our networks and pipelines against those of other projects
	PYTHONPATH=. FCNBOOK_PEERS=required $(PEERS)/bin/python -m pytest -m peers -q -o console_output_style=classic $(TABLE) tests/peers

$(PEERS)/ready: $(READY) tests/peers/requirements.txt tests/peers/overrides.txt requirements.lock
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --constraint requirements.lock \
		--override tests/peers/overrides.txt -r tests/peers/requirements.txt
	touch $@

lock: $(READY)  ## exact versions for all platforms
	$(BIN)/uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--no-emit-index-url -o requirements.lock pyproject.toml

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --editable .
	touch $(READY)
