# make run   everything: environment, data, five trainings, samples, scores, figure, tables
# make cluster  the environment, with Snakemake's plugin for SLURM
# make test-fast  formatting, lint and the quick unit tests: what to run while working
# make test  formatting, lint, all unit tests and real small workflows
# make study  all tables of docs/study.md; make study-t2 one of them; ARCHIVES=FOLDER instead of fetching
# make test-browser  the report in Debian's chromium (apt-get install chromium)
# make test-faults  damaged files, failing disks, kills, power cuts, fuzzing, in 30 minutes; needs strace
# make test-slurm  the workflow on a SLURM that it starts; needs slurmctld, slurmd and munge
# make test-gpu  what only a machine with a GPU can check
# make schema  write config.schema.json again, from which editors complete and check config.yaml
# make lock  write the three locks again, from pyproject.toml, cluster.in and fuzzing.in (needs uv)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := svae scripts tests benchmarks studies
# One per core; more than eight would wait for the longest file.
WORKERS ?= $(shell nproc)
# What needs no more than the environment.
ANYWHERE := not browser and not gpu and not faults and not slurm
PYTEST = $(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# Nothing of the caller's Python set-up may leak into the environment or out of it.
unexport PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_USER := 0

.PHONY: run test test-fast env cluster format lint unit workflow study test-browser test-faults test-slurm test-gpu schema lock clean

run: env
	@$(BIN)/python -m svae.jobs.environment '$(VENV)'
	$(BIN)/snakemake --cores all

# Unit tests and workflows in one go, so that no worker idles between them.
test: env lint
	$(PYTEST) -m "$(ANYWHERE)"

test-fast: env lint
	$(PYTEST) -m "not slow and not workflow and $(ANYWHERE)"

env: $(VENV)/.complete

# The build back end comes from the lock too and goes in first, so that no step of the installation
# fetches anything that the lock does not name.
$(VENV)/.complete: requirements.lock pyproject.toml Makefile
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("Spatial VAE needs Python 3.11, 3.12 or 3.13, but %s is Python %d.%d. Try: make PYTHON=python3.12 $(MAKECMDGOALS)" % (sys.executable, *v))'
	@$(PYTHON) -m svae.jobs.environment '$(VENV)'
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -c 'import re; text = open("requirements.lock").read(); open("$(VENV)/build.lock", "w").write("".join(re.findall(r"(?ms)^(?:setuptools|wheel|packaging)==.*?(?=^\S|\Z)", text)))'
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r $(VENV)/build.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $@

cluster: env
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r cluster.lock

format: env
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/snakefmt Snakefile rules

lint: env
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/python tests/helpers/lint_workflow.py
	$(BIN)/python studies/pages.py --check
	$(BIN)/python tests/helpers/lint_numbers.py

unit: env
	$(PYTEST) -m "not workflow and $(ANYWHERE)"

workflow: env
	$(PYTEST) -m "workflow and $(ANYWHERE)"

# ARCHIVES: a folder with the archives of CIFAR-10 and CelebA; without it, they are fetched.
study: env
	$(BIN)/python studies/run.py $(if $(ARCHIVES),--archives '$(ARCHIVES)') $(TABLES)

study-%: env
	$(BIN)/python studies/run.py $(if $(ARCHIVES),--archives '$(ARCHIVES)') $*

test-browser: env
	@command -v chromium > /dev/null || { echo "make test-browser needs chromium: apt-get install chromium" >&2; exit 1; }
	$(BIN)/python -m pytest -m browser

test-faults: env
	@command -v strace > /dev/null || { echo "make test-faults needs strace: apt-get install strace" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r fuzzing.lock
	$(PYTEST) -m faults --dist load $(addprefix tests/test_,faults.py damage.py fuzzing.py power_cuts.py)

# Without SLURM, all tests are skipped, with the reason.
test-slurm: cluster
	$(BIN)/python -m pytest -m slurm tests/test_slurm.py tests/test_profiles.py

test-gpu: env
	$(BIN)/python -m pytest -m gpu

schema: env
	$(BIN)/python -m svae.config.schema > config.schema.json

lock:
	uv pip compile pyproject.toml --extra features --extra test --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --output-file requirements.lock
	for name in cluster fuzzing; do uv pip compile $$name.in --no-deps --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url --output-file $$name.lock || exit; done

clean:
	rm -rf $(VENV) .snakemake build *.egg-info
