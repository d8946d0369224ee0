# Every target sets up what it needs: a virtual environment in .venv with the package and its tools.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_DATA := data/toy
DEMO_CONFIG := config/toy-resnet18-upernet_tiny.yaml

.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

# Done again only when what it installs has changed.
$(READY): pyproject.toml setup.py requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "$(PYTHON) is missing or older than 3.10. Run: make PYTHON=python3.12"; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "Python's venv module is missing. On Debian: apt install python3-venv"; exit 2; }
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

setup: $(READY)  ## install the package and its tools into .venv

# Scored and segmented at a short edge nearer to the scenes' own than the one that is affordable in training.
demo: $(READY)  ## train, evaluate and predict on rendered scenes, on a CPU, in 3 minutes
	$(BIN)/python -m demo $(DEMO_DATA)
	$(BIN)/python train.py --gpus cpu --cfg $(DEMO_CONFIG) TRAIN.resume auto
	$(BIN)/python test.py --gpu cpu --cfg $(DEMO_CONFIG) DATASET.imgSizes 112 \
		--imgs $(DEMO_DATA)/images/validation/scene_0000[0-4].jpg
	$(BIN)/python eval_multipro.py --gpus cpu --cfg $(DEMO_CONFIG) DATASET.imgSizes 112 VAL.visualize True

# One process per core, at most 4 to limit memory. Each starts with a contiguous share of the tests, so that few fixtures
# are built twice; one that finishes early takes over tests of another.
test: $(READY)  ## run the test suite
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal --durations 10

lint: $(READY)  ## check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:  ## remove the environment and what the demo wrote
	rm -rf $(VENV) $(DEMO_DATA) ckpt/toy-*

.PHONY: help setup demo test lint clean
