# Two commands do the whole job on a fresh machine:
#
#     make finetune export bench
#     make test
#
# Every target sets up .venv by itself the first time, and again when pyproject.toml or constraints.txt change.

PYTHON  ?= python3
RECIPE  ?= auto
DATA    ?=
BACKBONE ?=
RUN     ?=
IMAGES  ?=
ARGS    ?=
BUNDLE  ?=
# How the tests are shared out: a process per core, with one thread each (tests/conftest.py).
WORKERS ?= -n auto --maxprocesses 4 --dist worksteal

VENV    := .venv
BIN     := $(VENV)/bin
# What 'make lowest' installs: lowest-direct takes the lower bounds of pyproject.toml, highest the newest releases.
LOWEST  := .lowest
RESOLUTION ?= lowest-direct
STAMP   := $(VENV)/.installed
RUN_OPTION := $(if $(RUN),--run $(RUN))
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
# Each folder of examples/ that has a run.sh is a host.
EXAMPLES := $(sort $(patsubst examples/%/run.sh,%,$(wildcard examples/*/run.sh)))
MKDOCS  := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup run finetune export verify bench report predict doctor browser test test-all check lowest docs gpu-wheels gpu-check examples $(EXAMPLES:%=example-%) format schemas clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@for name in $(EXAMPLES); do \
	  printf '  make %-22s %s\n' example-$$name "$$(sed -n '1s/^# //p' examples/$$name/README.md)"; done
	@echo
	@echo "  variables: RECIPE=auto|textbook|cifar10|digits|folder|FILE  DATA=cifar10|digits|FOLDER  BACKBONE=NAME  RUN=NAME"
	@echo "             IMAGES='FILES OR FOLDERS' (predict)  ARGS='more flags for the command'  PYTHON=python3.11"
	@echo "             BUNDLE='A BUNDLE OR A RUN' (examples; default: artifacts/latest)"

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "toolkit needs Python 3.11 or later; $(PYTHON) is older. Use: make PYTHON=python3.11 ..."; exit 2; }
	@echo "setting up $(VENV) (PyTorch with its CUDA libraries is about 6.6 GB, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[train,dev]'
	@touch $@

setup: $(STAMP) ## make .venv with everything that training, export and the tests need

run: $(STAMP) ## do the whole job on DATA: finetune, export, verify, bench and report
	@$(BIN)/toolkit run $(if $(filter --resume,$(ARGS)),,--recipe $(RECIPE)) $(if $(DATA),--data '$(DATA)') $(if $(BACKBONE),--backbone $(BACKBONE)) $(RUN_OPTION) $(ARGS)

finetune: $(STAMP) ## fine-tune in two stages, into artifacts/<run>
	@$(BIN)/toolkit finetune --recipe $(RECIPE) $(if $(DATA),--data '$(DATA)') $(if $(BACKBONE),--backbone $(BACKBONE)) $(RUN_OPTION) $(ARGS)

export: $(STAMP) ## export the run to TorchScript and ONNX, into artifacts/<run>/bundle
	@$(BIN)/toolkit export $(RUN_OPTION) $(ARGS)

verify: $(STAMP) ## prove parity between PyTorch and every artifact
	@$(BIN)/toolkit verify $(RUN_OPTION) $(ARGS)

bench: $(STAMP) ## measure every artifact (verifies first what was not verified) and print the comparison table
	@$(BIN)/toolkit bench $(RUN_OPTION) $(ARGS)

report: $(STAMP) ## write the reports of the run again
	@$(BIN)/toolkit report $(RUN_OPTION) $(ARGS)

predict: $(STAMP) ## classify IMAGES with the run's bundle
	@$(BIN)/toolkit predict artifacts/$(or $(RUN),latest) $(IMAGES) $(ARGS)

doctor: $(STAMP) ## say what this machine can run
	@$(BIN)/toolkit doctor

test: $(STAMP) ## run the tests of daily work: all units, the whole job, each format, a kill (some 14 minutes on 2 cores)
	@$(BIN)/python -m pytest $(WORKERS) -m 'not exhaustive' $(ARGS)

test-all: $(STAMP) ## run every test, with coverage: all backbones and families, 25 kills, planted faults (some 35 minutes on 2 cores)
	@$(BIN)/python -m pytest $(WORKERS) --cov --cov-report=term:skip-covered --cov-fail-under=90 $(ARGS)

check: $(STAMP) ## lint, formatting, types, the layers of the design, and the documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MKDOCS)

docs: $(STAMP) ## build the documentation into build/docs; a warning is an error
	@$(MKDOCS)

gpu-wheels: $(STAMP) ## gather into .gpu-wheels/ what a machine with a GPU and no network lacks
	@PYTHONPATH=tests $(BIN)/python -m gpu.wheels $(ARGS)

# Under the PyTorch of that machine, which has its GPU: no .venv is set up.
gpu-check: ## prove on CUDA what can be proved, in 8 minutes and without network; figures in artifacts/gpu-check.json
	@PYTHONPATH=tests $(PYTHON) -m gpu.check $(ARGS)

# What a host needs it installs beside itself; Python is that of .venv where there is one.
define on_bundle
	@given='$(or $(BUNDLE),artifacts/latest)'; bundle=$$given; \
	  [ -f "$$bundle/manifest.json" ] || bundle=$$given/bundle; \
	  [ -f "$$bundle/manifest.json" ] || { echo "there is no bundle in $$given: 'make finetune export' makes one, and BUNDLE=FOLDER names one that you have."; exit 2; }; \
	  export PYTHON='$(if $(wildcard $(STAMP)),$(CURDIR)/$(BIN)/python,$(PYTHON))'; bundle=$$(cd "$$bundle" && pwd);
endef

examples: ## run every example on BUNDLE, and print the table of examples/README.md
	$(on_bundle) "$$PYTHON" examples/table.py "$$bundle"

$(EXAMPLES:%=example-%): example-%:
	$(on_bundle) examples/$*/run.sh "$$bundle"

# Of the system, not of .venv: the tests that open report.html take the Chromium that they find, or say that there is none.
browser: ## install Chromium for the tests of report.html (Debian and Ubuntu; elsewhere it says what to do)
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { command -v apt-get >/dev/null && $(AS_ROOT) apt-get update -qq && $(AS_ROOT) apt-get install -y -qq chromium; } || \
	  { echo "no Chromium could be installed: put 'chromium' on the PATH; without it the tests of report.html are skipped."; exit 2; }

format: $(STAMP) ## format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

schemas: $(STAMP) ## write the published JSON Schemas again after a record has changed
	@$(BIN)/python -m toolkit.bundle.schemas

# Not into .venv: an environment of its own, which has uv and nothing else.
lowest: ## install the lowest versions that the base install claims, without PyTorch, and run every command there
	@rm -rf $(LOWEST)
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --constraint constraints.txt uv
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST) --resolution $(RESOLUTION) '.[cpu,sign]'
	@$(LOWEST)/bin/python tests/compatibility/base_install.py tests/assets/bundles/version-1
	@rm -rf $(LOWEST)

clean: ## remove .venv and caches; artifacts stay
	rm -rf examples/*/node_modules examples/*/.venv examples/opencv/.opencv-*
	rm -rf $(VENV) $(LOWEST) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage .coverage.* build dist *.egg-info
