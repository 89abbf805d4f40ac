# Each target makes what it needs; what is there already is reused, without the network.
PYTHON ?= python3
VENV ?= .venv
OUTPUT ?= output/demo

PY := $(VENV)/bin/python
PIP := $(PY) -m pip --quiet --disable-pip-version-check
RUNTIME := $(VENV)/.runtime-installed
DEV := $(VENV)/.dev-installed

.PHONY: help demo demo-compare test test-slow test-slurm test-newest lint format bench gpu-check clean install requirements

help:
	@echo "make demo       pretrain, fine-tune, evaluate and draw, in 6 minutes on two idle cores"
	@echo "make demo-compare  the same, and the plain network beside, in twice the time"
	@echo "make test       run the tests (test-slow: those too that take minutes each)"
	@echo "make test-slurm  run those on a real Slurm, which they start and stop: apt install slurm-wlm munge"
	@echo "make test-newest  run them with the newest release of everything, in $(NEWEST)"
	@echo "make lint       ruff, black, mypy (format: let ruff and black fix what they can)"
	@echo "make bench      time ShakeDrop against stock detectron2"
	@echo "make gpu-check  on a machine with a GPU: its tests, and the benchmark there"
	@echo "make install    only make the environment, in $(VENV)"
	@echo "make clean      remove the environment, outputs and caches"

install: $(RUNTIME)

$(PY):
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 13) or sys.exit("The pinned packages need Python 3.10 to 3.12: make PYTHON=python3.12 ..., or make test-newest PYTHON=python3.13")'
	$(PYTHON) -m venv $(VENV)

# The wheel is tagged for Python 3.10; its Python files run on any: see README, "Installation".
DETECTRON2_WHEEL := --require-hashes --no-deps --only-binary=:all: --python-version 3.10 --upgrade \
  -r requirements/detectron2.txt

# fvcore and iopath come as sources: what builds them is pinned as well, hence no isolation.
$(RUNTIME): requirements/build.txt requirements/runtime.txt requirements/detectron2.txt setup.py | $(PY)
	@echo "Installing into $(VENV): a few minutes, several GB (PyTorch)"
	$(PIP) install --require-hashes -r requirements/build.txt
	$(PIP) install --require-hashes --no-build-isolation -r requirements/runtime.txt
	$(PIP) install $(DETECTRON2_WHEEL) \
	  --target "$$($(PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	$(PIP) install --no-deps --no-build-isolation --editable .
	touch $@

$(DEV): $(RUNTIME) requirements/dev.txt requirements/optional.txt
	$(PIP) install --require-hashes -r requirements/dev.txt
	$(PIP) install --require-hashes -r requirements/optional.txt
	touch $@

demo: $(RUNTIME)
	$(PY) tools/demo.py --output $(OUTPUT)

demo-compare: $(RUNTIME)
	$(PY) tools/demo.py --compare --output $(OUTPUT)

# Two processes of one thread each: tiny networks gain nothing from more threads.
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest --numprocesses 2 --dist loadfile

test: $(DEV)
	$(PYTEST) -m "not slow" tests

test-slow: $(DEV)
	$(PYTEST) tests

# One node with two slots, which only this machine can reach, in a folder of its own.
test-slurm: $(DEV)
	OMP_NUM_THREADS=1 $(PY) -m pytest -rs tests/slurm

# The newest releases of the day on which the environment was made; "rm -r .venv-newest" for others.
# DETECTRON2=FOLDER takes a checkout of detectron2, built in place, instead of the pinned one.
NEWEST := .venv-newest
NEWEST_PY := $(NEWEST)/bin/python
NEWEST_PIP := $(NEWEST_PY) -m pip --quiet --disable-pip-version-check
$(NEWEST)/.installed: requirements/newest.in requirements/detectron2.txt setup.py
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST_PIP) install --upgrade pip setuptools wheel
	$(NEWEST_PIP) install --no-build-isolation -r requirements/newest.in
	# hydra-core asks for an older one. detectron2 works with this one too.
	$(NEWEST_PIP) install --no-deps --upgrade omegaconf
	$(NEWEST_PIP) install $(DETECTRON2_WHEEL) \
	  --target "$$($(NEWEST_PY) -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	$(NEWEST_PIP) install --no-deps --no-build-isolation --editable .
	touch $@

test-newest: $(NEWEST)/.installed
	$(NEWEST_PY) -m pip --disable-pip-version-check list
	OMP_NUM_THREADS=1 PYTHONPATH=$(abspath $(DETECTRON2)) $(NEWEST_PY) -m pytest \
	  --numprocesses 2 --dist loadfile -m "not slow" tests

lint: $(DEV)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/black --quiet --check .
	$(VENV)/bin/mypy

format: $(DEV)
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/black --quiet .

bench: $(RUNTIME)
	$(PY) tools/benchmark.py --output output/benchmark

# After a change of requirements/*.in; needs uv. Only optional.in is limited to some platforms.
UV_COMPILE := uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --no-header --no-annotate
requirements:
	for name in build runtime dev; do \
	  $(UV_COMPILE) --no-config requirements/$$name.in -o requirements/$$name.txt; \
	done
	$(UV_COMPILE) requirements/optional.in -o requirements/optional.txt

# All that needs a GPU. Its results are output/gpu-check/benchmark.{json,md,png}.
GPU_TESTS := tests/layers/test_on_gpu.py tests/modeling/test_on_gpu.py tests/modeling/test_cuda_graphs.py \
  tests/modeling/test_device_sync.py
gpu-check: $(DEV)
	$(PY) -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else "There is no GPU")'
	$(PY) -m pytest -n 4 $(GPU_TESTS)
	$(PY) tools/benchmark.py --device cuda --rounds 11 --output output/gpu-check

clean:
	rm -rf $(VENV) $(NEWEST) output build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
