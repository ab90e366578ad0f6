# Every target sets up what it needs in .venv, once; a changed requirement sets it up again.
# Needs Python 3.11 or later and a package index that pip knows; PYTHON=python3.12 picks another interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check
PINNED := $(PIP) --require-hashes --only-binary :all: -r
OUT ?= build/demo
PYTEST_ARGS ?=
FACES ?= ../shared/data/lfw_raw_dev
RUNTIME_PACKAGES := duetface edge_agent recognition_service gallery cli
export PYTHONDONTWRITEBYTECODE ?= 1
# Matrices here are small: more BLAS threads than one make a busy machine slower.
export OPENBLAS_NUM_THREADS ?= 1

# glibc: a step's maps are reused for the next instead of going back to the system page by page (docs/training.md).
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184 MALLOC_TOP_PAD_=268435456

.DEFAULT_GOAL := help
.PHONY: help demo test test-runtime lint lint-runtime protos protos-check bench bench-gallery chaos evaluate results train wheel lock docs portraits clean distclean
.DELETE_ON_ERROR:

help: ## list every target
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F'\t' '{printf "  make %-14s %s\n", $$1, $$2}'

demo: $(STAMPS)/project $(STAMPS)/portraits ## enrol, watch a video, verify and identify, on public-domain portraits; CAMERA=0 uses a webcam
	@$(BIN)/python -m demo.run --out $(OUT) $(if $(CAMERA),--camera $(CAMERA))

test: lint $(STAMPS)/portraits $(STAMPS)/node ## lint and run every test
	@$(BIN)/python -m pytest $(PYTEST_ARGS)

test-runtime: lint-runtime $(STAMPS)/portraits $(STAMPS)/node ## the same without torch: what a device or a server runs
	@$(BIN)/python -m pytest --ignore=tests/unit/networks --ignore=tests/unit/training --ignore=tests/unit/privacy $(PYTEST_ARGS)

lint: lint-runtime $(STAMPS)/train ## style, types, contract, and whether generated code is up to date
	@$(BIN)/python -m mypy -p networks -p privacy

lint-runtime: $(STAMPS)/dev protos-check ## the same without torch and the packages that need it
	@$(BIN)/ruff check --quiet
	@$(BIN)/python -m mypy $(addprefix -p ,$(RUNTIME_PACKAGES))

protos: $(STAMPS)/dev ## generate duetface/v1 from protos/
	@$(BIN)/python protos/generate.py

protos-check: $(STAMPS)/dev ## lint protos/ and compare duetface/v1 with what it generates
	@cd protos && ../$(BIN)/buf lint
	@$(BIN)/python protos/generate.py --check

bench: $(STAMPS)/project $(STAMPS)/portraits ## measure bytes and milliseconds on this machine; prints JSON
	@$(BIN)/python -m benchmarks.run

bench-gallery: $(STAMPS)/dev ## measure a gallery of a million templates beside FAISS and usearch (6 GB of memory, 6 of disk); plots in build/; ARGS="--parts search"
	@$(BIN)/python -m benchmarks.gallery $(ARGS)
	@$(BIN)/python -m benchmarks.gallery_plots

chaos: $(STAMPS)/dev ## kill enrolling processes 200 times at random and look for losses, into benchmarks/results/; ARGS="--seed 2"
	@$(BIN)/python -m tests.unit.gallery.crash_driver --out benchmarks/results/chaos.json $(ARGS)

evaluate: $(STAMPS)/project ## KNOWN=DIR STRANGERS=DIR: error rates on your own people, over gRPC
	@$(BIN)/duetface evaluate --known "$(KNOWN)" --strangers "$(STRANGERS)" --enroll-per-subject $(or $(ENROLL),2)

results: $(STAMPS)/project $(STAMPS)/portraits ## measure for the docs: bench and evaluate into benchmarks/results/ (FACES=../shared/data/lfw_raw_dev)
	@mkdir -p benchmarks/results build
	@$(BIN)/python -m benchmarks.run > build/bench.json && mv build/bench.json benchmarks/results/bench.json
	@$(BIN)/duetface evaluate --known $(FACES)/known --strangers $(FACES)/strangers --json > build/evaluate.json \
	  && mv build/evaluate.json benchmarks/results/evaluate-$(notdir $(FACES)).json
	@$(MAKE) --no-print-directory docs

train: $(STAMPS)/train ## ARGS="...": train the networks (see docs/training.md)
	@$(KEEP_MEMORY) $(BIN)/python -m training $(or $(ARGS),--help)

wheel: $(STAMPS)/dev ## build dist/duetface-*.whl, models included
	@$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

docs: $(STAMPS)/project ## write docs/cli.md and fill measured numbers into the docs
	@$(BIN)/python -m cli.reference docs/cli.md
	@$(BIN)/python -m benchmarks.fill README.md docs/*.md
	@$(BIN)/python -m benchmarks.capacity docs/operations.md

lock: $(STAMPS)/dev ## resolve requirements/*.txt anew
	@BIN=$(BIN) sh requirements/lock.sh

portraits: $(STAMPS)/portraits ## fetch the public-domain portraits of the demo and the tests

clean: ## remove what was built, keep the set-up
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## remove the set-up as well
	rm -rf $(VENV) tests/node/node_modules .cache/portraits

# ---- set-up, one stamp a step -------------------------------------------------------------------------------------

$(STAMPS)/venv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "DuetFace needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12 ..." >&2; exit 2; }
	@echo "set-up: $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@mkdir -p $(STAMPS) && touch $@

$(STAMPS)/runtime: requirements/runtime.txt requirements/build.txt $(STAMPS)/venv
	@echo "set-up: run-time packages"
	@$(PINNED) requirements/runtime.txt -r requirements/build.txt
	@touch $@

$(STAMPS)/project: pyproject.toml $(STAMPS)/runtime
	@$(PIP) --no-build-isolation --no-deps --editable .
	@touch $@

$(STAMPS)/dev: requirements/dev.txt $(STAMPS)/project
	@echo "set-up: test tools"
	@$(PINNED) requirements/dev.txt
	@touch $@

$(STAMPS)/train: requirements/train.txt requirements/torch.txt $(STAMPS)/dev
	@echo "set-up: torch and what training needs"
	@$(PINNED) requirements/train.txt
	@$(PIP) -r requirements/torch.txt
	@touch $@

$(STAMPS)/portraits: requirements/portraits.txt demo/portraits.py $(STAMPS)/runtime
	@$(BIN)/python -m demo.portraits .cache/portraits
	@touch $@

# The Node.js client is a test of the contract; without npm it is skipped with a reason.
$(STAMPS)/node: tests/node/package-lock.json $(STAMPS)/venv
	@if command -v npm >/dev/null; then echo "set-up: Node.js client"; \
	  (cd tests/node && npm ci --silent --no-audit --no-fund --ignore-scripts) || echo "npm failed: the Node.js test will be skipped" >&2; fi
	@touch $@
