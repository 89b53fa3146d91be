# make setup | demo | web | test | slow | lint | docs | wheel | mutants | peers. Needs make and Python >= 3.11; everything else goes into $(VENV).
PYTHON ?= python3
VENV ?= .venv
DEMO ?= out/demo
PIP_FLAGS ?=

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) -c constraints.txt
SETUP := $(VENV)/.setup
DEV := $(VENV)/.dev

.PHONY: setup dev demo web test slow lint docs wheel mutants peers
setup: $(SETUP)
dev: $(DEV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python {sys.version.split()[0]} found, 3.11 or newer needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no venv made; on Debian: apt-get install python3-venv"; exit 1; }

$(SETUP): $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable .
	@touch $@

$(DEV): $(SETUP)
	$(PIP) --editable '.[dev]'
	@touch $@

# The main job on a procedural patient that the package draws, with the weights that it ships.
demo: $(SETUP)
	rm -rf $(DEMO)
	$(BIN)/anydose phantom $(DEMO)/patient --format dicom
	$(BIN)/anydose predict $(DEMO)/patient --out $(DEMO)/prediction
	$(BIN)/anydose report $(DEMO)/prediction/dose.dcm --case $(DEMO)/patient --out $(DEMO)/report.html
	@echo "patient:    $(DEMO)/patient"
	@echo "prediction: $(DEMO)/prediction, report: $(DEMO)/report.html"
	@ls $(DEMO)/prediction

lint: $(DEV)
	$(BIN)/ruff check src tests examples tools
	$(BIN)/ruff format --check --quiet src tests examples tools
	OMP_NUM_THREADS=1 $(BIN)/mypy

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# The tests that take minutes each; `make test` leaves them out.
slow: $(DEV)
	-$(BIN)/python tools/fetch_web.py  # without npm the viewer's page is skipped
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

# Break the code on purpose, a line at a time, and see that a test notices: about an hour on one core.
mutants: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/python tools/mutants.py --out docs/results/mutants.json

# The site, into site/; warnings are errors. Nothing is fetched while it is built.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.docs: $(SETUP)
	$(PIP) --editable '.[docs]'
	@touch $@

# The page's third-party JavaScript (NiiVue), from the npm registry, pinned and checked; needs npm.
web: $(BIN)/python
	$(BIN)/python tools/fetch_web.py

wheel: $(DEV) web
	$(PIP) build
	$(BIN)/python -m build --wheel --outdir dist .

# The field's tools that cannot live beside pydicom 3, for side-by-side runs, in an environment of their own.
peers: .venv-peers/.setup
.venv-peers/.setup:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_FLAGS) \
		dcmrtstruct2nii==5 dicompyler-core==0.5.6 'pydicom<3' 'numpy<2'
	@touch $@
