# Every target sets up .venv by itself, and again only when pyproject.toml or constraints.txt change.
PYTHON ?= python3
MODEL ?=
SEED ?=
JOBS ?=
NOTEBOOKS ?=

VENV := .venv
RUN := $(VENV)/bin/python -m
STAMP := $(VENV)/.pins
QUIET := -qq --disable-pip-version-check
# numpy 1, which repeng needs, has no wheels from Python 3.13 on.
EXTRAS := import sys; print("notebooks,demo,judges,neighbours,languages,test" + ",repeng" * (sys.version_info < (3, 13)))

# Another Python than that of .venv, asked for by name: .venv is made anew.
ifeq ($(origin PYTHON),command line)
  ifneq ($(shell $(PYTHON) --version 2>&1),$(shell $(VENV)/bin/python --version 2>&1))
    ANEW := FORCE
  endif
endif

.DEFAULT_GOAL := help
.PHONY: help results test lab demo figures study clean pins FORCE

help:  ## list the targets
	@echo "make TARGET [PYTHON=python3.12]"
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12 | sed 's/^/  /'

results: $(STAMP)  ## run the notebooks and write the report [MODEL=name or path] [SEED=0] [JOBS=2] [NOTEBOOKS="01 02"]
	@$(RUN) workbench.cli results $(if $(MODEL),--model "$(MODEL)") $(if $(SEED),--seed $(SEED)) $(if $(JOBS),--jobs $(JOBS)) $(NOTEBOOKS)

test: $(STAMP)  ## lint, types, tests
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) basedpyright --level error
	@OMP_NUM_THREADS=1 $(RUN) pytest -n 2 --dist worksteal

lab: $(STAMP)  ## open the notebooks in JupyterLab
	@$(RUN) jupyterlab --notebook-dir=notebooks

demo: $(STAMP)  ## the live demo as a page without code, for this machine only [MODEL=name or path]
	@$(RUN) workbench.cli demo $(if $(MODEL),--model "$(MODEL)")

figures: $(STAMP)  ## export every report figure again from its saved data, without a model
	@$(RUN) workbench.cli figures

study: $(STAMP)  ## run the studies over many seeds and say which tables are stale
	@$(RUN) workbench.cli study

clean:  ## remove .venv and caches; notebooks and reports stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis notebooks/.ipynb_checkpoints
	find workbench tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The stamp holds what it was made from, so that a fresh checkout of the same pins installs nothing.
$(STAMP): pyproject.toml constraints.txt $(ANEW)
	@if [ -z "$(ANEW)" ] && cat $^ | cmp -s - $@ && $(RUN) pip --version >/dev/null 2>&1; then touch $@; else $(MAKE) --no-print-directory pins; fi

# torch goes in alone and pinned, so that a CPU build is taken where one is offered; with the other
# requirements beside it a resolver may prefer the build for GPUs.
pins:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
	    "Name another one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version): about 5 minutes, once"
	@[ -z "$(ANEW)" ] && $(RUN) pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
	  echo "Python's venv module is missing. On Debian and Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(RUN) pip install $(QUIET) "$$(grep '^torch==' constraints.txt)"
	@$(RUN) pip install $(QUIET) -c constraints.txt -e ".[$$($(VENV)/bin/python -c '$(EXTRAS)')]"
	@cat pyproject.toml constraints.txt > $(STAMP)
