# Sets everything up from a fresh clone: needs Python 3.11 or newer, git and make.
#
#   make demo    compress photographs with the shipped network, restore, print and draw
#   make test    the tests, on TensorFlow, on JAX where no TensorFlow is, and of the Beam pipeline
#   make test-fast   those in which no network runs: under a minute
#   make lint    style
#   make house   rooms, floors and imports of the package, drawn and checked
#   make fuzz    hostile files, millions of them: PARSER_RUNS and DECODER_RUNS (fuzz/README.md)
#
# Stamps: an environment is made anew when what it installs changes.

PYTHON ?= python3
PHOTOS ?=
VENV := .venv
JAX_VENV := .venv-jax
BEAM_VENV := .venv-beam
BIN := $(VENV)/bin

.PHONY: demo test test-fast lint house fuzz clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py $(if $(PHOTOS),--photos=$(PHOTOS)) --output=demo_output

# Two processes: most of a test's time is one thread tracing or compiling a network.
PYTEST := -m pytest -q -n 2 --dist loadfile

# What does not compute on Keras itself is tested once.
ONCE := adaptive_model bitstream data evaluate evaluation_codecs evaluation_curves \
	evaluation_measures evaluation_runner files house metrics pictures planes range_coder report \
	runs standard_codecs targets tasks

test: $(VENV)/installed $(JAX_VENV)/installed $(BEAM_VENV)/installed
	$(BIN)/python $(PYTEST)
	KERAS_BACKEND=jax $(JAX_VENV)/bin/python $(PYTEST) -m "not tensorflow" \
		$(ONCE:%=--ignore=tests/%_test.py)
	$(BEAM_VENV)/bin/python -m pytest -q tests/beam_test.py

# No backend compiles anything here: tests/conftest.py sees to it.
test-fast: $(VENV)/installed
	$(BIN)/python $(PYTEST) -m "not network and not slow"

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Who imports whom: a drawing, and what is wrong with it. Needs nothing but Python.
house:
	$(PYTHON) tools/house.py

# atheris has wheels for Linux only, for Python 3.11 to 3.14.
PARSER_RUNS ?= 5000000
DECODER_RUNS ?= 20000
LIBFUZZER := -max_len=4096 -print_final_stats=1

fuzz: $(VENV)/installed
	$(BIN)/pip install --quiet -e ".[fuzz]"
	$(BIN)/python -m fuzz.parser runs/fuzz/parser -runs=$(PARSER_RUNS) -timeout=5 \
		-rss_limit_mb=256 -artifact_prefix=runs/fuzz/parser_ $(LIBFUZZER)
	TF_CPP_MIN_LOG_LEVEL=3 $(BIN)/python -m fuzz.decoder runs/fuzz/decoder \
		-runs=$(DECODER_RUNS) -timeout=20 -rss_limit_mb=1536 \
		-artifact_prefix=runs/fuzz/decoder_ $(LIBFUZZER)

$(VENV)/installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -e ".[train,eval,baselines-gpl,dev]"
	touch $@

# Keras on JAX alone: that the codec runs without TensorFlow is tested where there is none.
$(JAX_VENV)/installed: requirements-jax.txt
	$(PYTHON) -m venv $(JAX_VENV)
	$(JAX_VENV)/bin/pip install --quiet -r requirements-jax.txt
	touch $@

# Beam wants an older Pillow than the others.
$(BEAM_VENV)/installed: setup.py
	$(PYTHON) -m venv $(BEAM_VENV)
	$(BEAM_VENV)/bin/pip install --quiet -e ".[beam,dev]"
	touch $@

clean:
	rm -rf $(VENV) $(JAX_VENV) $(BEAM_VENV) demo_output
