# Sets everything up from a fresh clone: needs Python 3.11 or newer, git and make.
#
#   make demo    compress photographs with the shipped network, restore, print and draw
#   make test    the tests, on TensorFlow, then on JAX where no TensorFlow is
#   make lint    style
#
# Stamps: an environment is made anew when what it installs changes.

PYTHON ?= python3
PHOTOS ?=
VENV := .venv
JAX_VENV := .venv-jax
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py $(if $(PHOTOS),--photos=$(PHOTOS)) --output=demo_output

test: $(VENV)/installed $(JAX_VENV)/installed
	$(BIN)/python -m pytest -q
	KERAS_BACKEND=jax $(JAX_VENV)/bin/python -m pytest -q -m "not tensorflow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

$(VENV)/installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e ".[train,eval,dev]"
	touch $@

# Keras on JAX alone: that the codec runs without TensorFlow is tested where there is none.
$(JAX_VENV)/installed: requirements-jax.txt
	$(PYTHON) -m venv $(JAX_VENV)
	$(JAX_VENV)/bin/pip install --quiet -r requirements-jax.txt
	touch $@

clean:
	rm -rf $(VENV) $(JAX_VENV) demo_output
