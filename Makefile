# Everything lives in .venv (install), .venv-demo (demo) and .venv-bench (bench). Only Python,
# pip and make are needed. uv is fetched from the package index to install faster (the whole of
# `make install` in about 1 instead of 5 minutes on two cores); without it pip does the same.
#
#   make PYTHON=/path/to/python3.12 ...   another interpreter (3.11 or newer)
#   make UV=no ...                        install with pip only

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

NEW := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c '$(NEW)' >/dev/null 2>&1 && { echo $$p; exit; }; done; echo python3)
UV ?= yes
SOURCES := pyproject.toml constraints.txt
PYTEST_ARGS ?=
# In three processes, for tests of processes wait a lot; one that is done takes over from others.
TESTS ?= -n 3 --dist worksteal
BENCH_ARGS ?=
DATA ?=
comma := ,
# Where bytecode is not kept, each of some hundred processes compiles all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install demo test check check-deploy bench bench-nets scores test-crash test-browser test-service pictures clean

help:
	@echo 'make install     .venv with everything: networks and development tools (about 6.5 GB)'
	@echo 'make demo        segment tests/data/demo into demo-out (small install of its own), and by a'
	@echo '                 network into demo-out-unet, where make install was done'
	@echo 'make test        the tests, in three processes (PYTEST_ARGS="-k name", TESTS= for one)'
	@echo 'make check       format, lint, types, layers, tests: what CI runs'
	@echo 'make check-deploy  the files of deploy/, with Docker, Kubernetes and SLURM where they are'
	@echo 'make test-crash  the long form of the crash tests'
	@echo 'make test-service  a real service that is killed while its archive grows (10 minutes)'
	@echo 'make test-browser  viewer and service in a real browser (Debian: chromium, chromium-driver)'
	@echo 'make bench       measure beside other packages (BENCH_ARGS="J1=8192 --repeat 3")'
	@echo 'make bench-nets  networks beside their bare forward pass (BENCH_ARGS="--size 1024")'
	@echo 'make scores      score merged regions beside scikit-image (DATA=folder for all of them)'
	@echo 'make pictures    draw the pictures of the docs'
	@echo 'make clean       remove environments, caches and demo-out'

# $(call environment,FOLDER,EXTRAS): a virtual environment with this project, editable. What every
# process imports is compiled at once, so that servers and workers start fast; the extras (torch
# alone is 100 CPU-s) when first imported.
define environment
	@$(PYTHON) -c '$(NEW)' || { \
	  echo "tilewright needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(1)/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(1) || { \
	  echo "Could not make a virtual environment with $(PYTHON) (on Debian: python3-venv)." >&2; exit 1; }
	@export PIP_DISABLE_PIP_VERSION_CHECK=1 UV_HTTP_TIMEOUT=300; \
	pip="$(1)/bin/python -m pip install --quiet"; \
	uv="$(1)/bin/uv pip install --quiet --python $(1)/bin/python --constraint constraints.txt"; \
	if [ "$(UV)" = yes ] && $$pip --constraint constraints.txt uv && \
	   $$uv --compile-bytecode --editable . && \
	   { [ -z '$(2)' ] || $$uv --editable '.$(2)'; }; \
	then echo "$(1): installed with uv"; \
	else echo "$(1): installing with pip"; \
	  $$pip --constraint constraints.txt --editable '.$(2)'; fi
	@touch $@
endef

.venv/.installed: $(SOURCES)
	$(call environment,.venv,[dev$(comma)nets])

.venv-demo/.installed: $(SOURCES)
	$(call environment,.venv-demo,)

.venv-bench/.installed: $(SOURCES)
	$(call environment,.venv-bench,[bench])

install: .venv/.installed

# The full environment runs the demo too, if it is there; the demo alone needs no networks.
DEMO := $(if $(wildcard .venv/.installed),.venv,.venv-demo)

# The classical recipe and the network side by side; status 3 says that some images have no truth.
define NETWORK_TOO
rm -rf demo-out-unet; \
$(DEMO)/bin/tilewright run nuclei-unet tests/data/demo demo-out-unet; \
for out in demo-out demo-out-unet; do \
  $(DEMO)/bin/tilewright evaluate $$out tests/data/truth --out $$out > $$out/scores.txt 2>&1 || [ $$? = 3 ]; \
  echo; echo "$$out (pictures: $$out/scores.html):"; head -n 4 $$out/scores.txt; done; \
echo; echo 'The network has learned from most of these images; docs/shipped-models.md scores others.'
endef

demo: $(DEMO)/.installed
	rm -rf demo-out
	$(DEMO)/bin/tilewright run nuclei tests/data/demo demo-out
	@if $(DEMO)/bin/python -c 'import torch, torchvision' 2>/dev/null; then $(NETWORK_TOO); \
	  else echo 'With networks (make install) the demo shows the recipe nuclei-unet, too.'; fi
	@echo
	@echo 'Labels, tables and the run record are in demo-out; the ground truth of most images'
	@echo 'is in tests/data/truth, and tests/data/README.md says where the images are from.'

test: .venv/.installed
	.venv/bin/python -m pytest -m "not browser and not service" $(TESTS) $(PYTEST_ARGS)

check: .venv/.installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/python -m pytest -m "not browser and not service" $(TESTS) $(PYTEST_ARGS)

check-deploy: .venv/.installed
	.venv/bin/python -m pytest tests/deploy $(PYTEST_ARGS)
	@if docker info >/dev/null 2>&1; then docker build --check -f deploy/Dockerfile .; \
	  else echo 'No Docker engine here: the image was not checked by it.'; fi
	@if kubectl version >/dev/null 2>&1; then kubectl apply --dry-run=client -k deploy/kubernetes; \
	  else echo 'No Kubernetes here: the manifests were not checked by it.'; fi
	@if command -v sbatch >/dev/null; then \
	  for job in deploy/slurm/*.sbatch; do sbatch --test-only $$job; done; \
	  else echo 'No SLURM here: the job scripts were not checked by it.'; fi

test-crash: .venv/.installed
	TILEWRIGHT_CRASH_TESTS=long .venv/bin/python -m pytest -m crash --timeout 3600 $(PYTEST_ARGS)

test-service: .venv/.installed
	.venv/bin/python -m pytest -m service tests/service --timeout 3600 $(PYTEST_ARGS)

test-browser: .venv/.installed
	.venv/bin/python -m pytest -m browser tests/browser $(PYTEST_ARGS)

bench: .venv-bench/.installed
	.venv-bench/bin/python tests/benchmarks/run.py $(BENCH_ARGS)
	.venv-bench/bin/python tests/benchmarks/flat_memory.py

bench-nets: .venv/.installed
	.venv/bin/python tests/benchmarks/nets.py $(if $(DATA),--montage $(DATA)) $(BENCH_ARGS)

scores: .venv/.installed
	.venv/bin/python tests/benchmarks/scores.py $(DATA)

pictures: .venv/.installed
	.venv/bin/python docs/make_pictures.py
	.venv/bin/python docs/make_gallery.py
	.venv/bin/python docs/make_tutorial.py
	.venv/bin/python docs/make_scores.py

clean:
	rm -rf .venv .venv-demo .venv-bench demo-out demo-out-unet build dist
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
