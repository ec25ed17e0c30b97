# Two commands do everything on a fresh machine: `make demo` and `make test`. Each builds .venv first if it has to.
# Variables: PYTHON=python3.12 (what .venv is made with), ARGS='...' (handed to demo, serve, test and test-image).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Empty files that say what .venv holds; older than the pins, they are made again.
MADE := $(VENV)/.made
SIM := $(VENV)/.installed-sim
ALL := $(VENV)/.installed-all
GL := $(VENV)/.renders-offscreen
BROWSER := $(VENV)/.opens-pages
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -qq -c constraints.txt --editable

# ONNX Runtime from 1.29 on reports its use to its maker unless told not to.
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
# One thing after the other, also under `make -j`: what looks whether it works needs what is installed before.
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo serve test lint test-image

help:  ## List what make can do
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1 /' | \
	  while read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

demo: $(SIM) $(GL)  ## The policy server moves MetaWorld's robot in real time; look in runs/demo/ (under 3 minutes)
	@$(BIN)/python -m clients.demo $(ARGS)

serve: $(SIM)  ## Serve the shipped policy at 127.0.0.1:8000 (HTTP) and 5570 (ZeroMQ)
	@$(BIN)/python -m tinyvla serve $(ARGS)

test: $(ALL) $(GL) $(BROWSER)  ## Run every test (about 15 minutes)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(ALL)  ## Check style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

test-image:  ## Build the container image without Docker and get actions from the server in it (as root)
	@$(PYTHON) deploy/test_image.py $(ARGS)

$(MADE):
	@sh deploy/make_venv.sh $(PYTHON) $(VENV)
	@touch $@

$(SIM): pyproject.toml constraints.txt | $(MADE)
	@echo "installing the server, the receiver and MetaWorld into $(VENV)"
	@$(INSTALL) '.[cpu,sim]'
	@touch $@

$(ALL): pyproject.toml constraints.txt | $(MADE)
	@echo "installing everything, the trainer included, into $(VENV)"
	@$(INSTALL) '.[cpu,sim,train,vlm,viz,cluster,dev]'
	@# It asks for NumPy 1, though nothing of what the tests use of it needs that.
	@$(BIN)/python -m pip install --disable-pip-version-check -qq -c constraints.txt --no-deps openpi-client
	@touch $(SIM) $@

$(GL): deploy/check_gl.py deploy/system_packages.py | $(MADE)
	@$(BIN)/python deploy/check_gl.py
	@touch $@

$(BROWSER): deploy/check_browser.py deploy/system_packages.py | $(ALL)
	@$(BIN)/python deploy/check_browser.py
	@touch $@
