# Everything runs in a virtual environment of its own; the first target that needs it makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS ?= tests
JOBS ?= 2
export TF_CPP_MIN_LOG_LEVEL ?= 2

.PHONY: help setup quickstart test test-jax test-slow test-peers test-serving lint format bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

setup: $(READY)  ## the virtual environment with everything in it

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt -e '.[dev,deploy]'
	touch $@

quickstart: $(READY)  ## train a robust classifier of handwritten digits and compare it with a plain one
	$(BIN)/tfrobust quickstart

test: $(READY)  ## the test suite
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

# Losses, layers, networks, balls and step rules are written in keras.ops: they have to pass under another backend too.
# Of the networks each once, at work on its images; what a network is made of does not depend on the backend.
PURE := tests/test_losses.py tests/attacks/test_threat_model.py tests/attacks/test_steps.py \
	tests/attacks/test_auto_step.py tests/objectives/test_objectives.py tests/layers \
	tests/models/test_models.py::test_cosine_head tests/models/test_resnets.py::test_against_plain_arithmetic \
	tests/models/test_madry_resnet.py::test_outputs_with_attention tests/models/test_expose.py::test_pooling_and_dense
# Programs that run once need no optimizing.
UNOPTIMIZED := XLA_FLAGS=--xla_backend_optimization_level=0

test-jax: $(READY)  ## the tests of what is written in keras.ops, under JAX
	KERAS_BACKEND=jax $(UNOPTIMIZED) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(PURE)

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/python -m pytest -m slow $(TESTS)

PEERS := $(VENV)/.peers

$(PEERS): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[peers]'
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1  # asks for torchvision and an old requests
	touch $@

test-peers: $(PEERS)  ## our attacks against Foolbox, ART and torchattacks on the same weights; takes a while
	$(BIN)/python -m pytest tests/peers

# Where `tensorflow_model_server` is on PATH it is started; tests/export/conftest.py says how to name one that runs.
test-serving: $(READY)  ## the tests of the serving protocols, against a real TensorFlow Serving where one is at hand
	$(BIN)/python -m pytest tests/export/test_serve_grpc.py tests/export/test_serve_rest.py \
		tests/export/test_client.py::test_a_server_that_is_no_fake

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(PEERS)  ## attack and training steps against their floor of gradients, a PyTorch loop and ART
	$(BIN)/python -m benchmarks.attack
	$(BIN)/python -m benchmarks.attack --objectives
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.training --write=docs/performance.md

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
