# Jikimi. `make help` lists what can be asked for.

PYTHON ?= python3
VENV := .venv/bin
TOOLS := .tools/bin
BASELINE := protos/baseline.binpb
LOCK := $(TOOLS)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-header \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# Programs that no suite runs whole: what a change elsewhere breaks in them is found by their types.
PROGRAMS := tests/bench tests/load tests/operate tests/regression tests/rollback

# What was compiled once, tests included, is kept: a machine that forbids it pays for it at every start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: load bench bench-faces bench-ocr bench-removal bench-uploads chaos demo eval help setup environments protos models ocr test test-slow test-all lint up down status lock clean dashboards observe prometheus triton bench-pii presidio eval-pii regression
.PHONY: images-check manifests native wheelhouse

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: environments protos models native ## Make .venv and .tools, the generated contracts, the model files, the core of the scan
	@$(VENV)/python -m compileall -q services protos/gen # five processes need not each compile at every start

environments:
	@$(PYTHON) bootstrap/environments.py

protos: environments ## Generate the Python of protos/misuse (protos/gen)
	@$(PYTHON) bootstrap/protos.py

native: environments ## Compile the core of the scan of personal data, where a C compiler is at hand
	@$(VENV)/python -m services.detector.adapters.pii_core.build

models: environments ## Fetch and check the model files and the demo's pictures (.cache)
	@$(PYTHON) bootstrap/assets.py models pictures

ocr: setup ## Add what reads texts in pictures: package, models, fonts of its tests (.venv, .cache); else faces only
	@$(PYTHON) bootstrap/environments.py ocr
	@$(PYTHON) bootstrap/assets.py ocr fonts

test: setup ## Run the fast suite; it prints what it skipped and why
	@# One that hangs fails alone.
	@$(VENV)/python -m pytest -n auto -m "not slow" -o faulthandler_exit_on_timeout=true

test-slow: setup ## Run the slow suite alone
	@$(VENV)/python -m pytest -m slow

test-all: setup ## Run every test
	@$(VENV)/python -m pytest

lint: protos ## ruff, mypy strict, import contracts, buf lint and breaking
	@failed=0; \
	$(TOOLS)/ruff check --quiet bootstrap services tests deploy || failed=1; \
	$(TOOLS)/mypy --python-executable $(VENV)/python services $(PROGRAMS) || failed=1; \
	PYTHONPATH=.:protos/gen $(TOOLS)/lint-imports --no-logo --cache-dir .cache/import_linter || failed=1; \
	(cd protos && ../$(TOOLS)/buf lint) || failed=1; \
	if [ -f $(BASELINE) ]; then (cd protos && ../$(TOOLS)/buf breaking --against $(notdir $(BASELINE))) || failed=1; fi; \
	exit $$failed

demo: setup ## Run the whole way once on pictures and posts (DEMO_EXIT=1 stops it after; IMAGES=folder, POSTS=file)
	@DEMO_EXIT="$(DEMO_EXIT)" IMAGES="$(IMAGES)" POSTS="$(POSTS)" $(VENV)/python -m services.console.demo

eval: setup ## Measure faces, personal data, near duplicates, redaction on labelled data (DATA=folder with faces, pii, neardup)
	@if [ -z "$(DATA)" ]; then echo "Name the data: make eval DATA=folder" >&2; exit 2; fi
	@$(VENV)/jikimi eval faces --data "$(DATA)/faces" && $(VENV)/jikimi eval pii --data "$(DATA)/pii" && \
		$(VENV)/jikimi eval dedup --data "$(DATA)" && $(VENV)/jikimi eval redaction --data "$(DATA)/faces"

bench: setup ## Measure a whole system on this machine: pictures, texts, matches a second (var/bench/bench.json)
	@$(VENV)/python -m tests.bench

bench-faces: setup ## Measure faces on one core beside face_recognition (an environment of its own, .peers)
	@$(PYTHON) bootstrap/environments.py peers
	@$(VENV)/python -m tests.bench --only faces

bench-ocr: ocr ## Measure texts in pictures on one core beside the bare models
	@$(VENV)/python -m tests.bench.ocr

bench-pii: presidio ## Measure the scan of personal data on one core beside Presidio (an environment of its own, .presidio)
	@$(VENV)/python -m tests.bench.pii

eval-pii: presidio ## Score the scan beside Presidio on generated Korean posts and, where named, DATA=file or folder
	@$(VENV)/python -m tests.data.korean_posts --part scoring --out var/eval/korean_scoring.jsonl
	@$(VENV)/jikimi eval pii --presidio --data var/eval/korean_scoring.jsonl
	@if [ -n "$(DATA)" ]; then $(VENV)/jikimi eval pii --presidio --data "$(DATA)"; fi

presidio: setup ## Install Presidio beside the project, to compare with (.presidio)
	@$(PYTHON) bootstrap/environments.py presidio

bench-uploads: setup ## Measure the warning before an upload beside the bare models, and under twice its load
	@$(VENV)/python -m tests.bench.uploads

bench-removal: setup ## Measure removal: 5,000 requests at ten platforms, 20 a second, undisturbed and under 50 kill -9
	@$(VENV)/python -m tests.bench.removal --json var/bench/removal.json
	@$(VENV)/python -m tests.bench.removal --kills 50 --json var/bench/removal_killed.json

load: setup ## Load a whole system until 10,000 matches are through (FIND=1 knee, RATE= SHAPE= MIX= MATCHES= UI=1, docs/load.md)
	@$(PYTHON) bootstrap/environments.py load
	@$(VENV)/python -m tests.load $(if $(FIND),--find) $(if $(RATE),--rate $(RATE)) $(if $(SHAPE),--shape $(SHAPE)) \
		$(if $(MIX),--mix $(MIX)) $(if $(MATCHES),--matches $(MATCHES)) $(if $(SECONDS),--seconds $(SECONDS)) \
		$(if $(UI),--ui) $(if $(WORKERS),--workers $(WORKERS)) $(if $(BOUND_MS),--bound-ms $(BOUND_MS)) \
		$(if $(JUNIT),--junit $(JUNIT)) $(if $(PROFILE),--profile $(PROFILE)) $(if $(JSON),--json)

triton: setup ## Compare a real Triton server with this process: vectors, throughput (an environment of its own, .triton)
	@$(PYTHON) bootstrap/environments.py triton
	@$(VENV)/python -m pytest tests/triton -s

manifests: setup ## Render the Kubernetes files with the real kubectl and judge them (an environment of its own, .deploy)
	@$(PYTHON) bootstrap/environments.py deploy
	@$(VENV)/python -m deploy.manifests check

wheelhouse: setup ## Gather the wheels of every image, with bills of materials (var/wheelhouse; SERVICES=one two, detector-gpu)
	@$(PYTHON) bootstrap/environments.py deploy
	@$(VENV)/python bootstrap/wheelhouse.py $(SERVICES)

images-check: wheelhouse ## Do the steps of every service's Dockerfile in a clean folder and start the service from it
	@$(VENV)/python -m pytest -q tests/deploy/test_images.py

chaos: setup ## Kill every program and delete streams in mid-demo; the figures must stay what they are
	@JIKIMI_CHAOS=all $(VENV)/python -m pytest tests/chaos

# --- operate: backup, keys, restarts, rollback ---

.PHONY: restore-test rolling rotate-test rehearse-rollback

restore-test: setup ## Save a working system of 10,000 cases, destroy it, bring it back, hold every log and event against it
	@$(VENV)/python -m tests.operate.restore --cases 10000 --json var/operate/restore.json

rolling: setup ## Restart every service under load, two instances each: no failed call, nothing lost or doubled
	@$(VENV)/python -m tests.operate.rolling --seconds 60 --json var/operate/rolling.json

rotate-test: setup ## The same while every key is rotated and retired
	@$(VENV)/python -m tests.operate.rolling --seconds 60 --keys --json var/operate/rotation.json

regression: setup ## Send one corpus through the last release and this one; report every decision that changed (AGAINST=REF)
	@$(VENV)/python -m tests.regression --against "$(AGAINST)" $(if $(RECORD),--record $(RECORD))

rehearse-rollback: setup ## Upgrade a loaded system to this release, write, go back, and forth again (var/rollback; RECORD=release)
	@$(VENV)/python -m tests.rollback.rehearse --out var/rollback $(if $(RECORD),--record "$(RECORD)")

up: setup ## Start PostgreSQL, NATS and the five services (JIKIMI_HOME, default var/home)
	@$(VENV)/python -m services.console.supervisor up

observe: setup ## Start the system with what keeps its traces and, where it is there, Prometheus (`jikimi trace`)
	@$(VENV)/python -m services.console.supervisor up --observe

dashboards: setup ## Write Grafana's dashboards and the rules of the service levels anew (deploy/observe)
	@PYTHONPATH=.:protos/gen $(VENV)/python -m deploy.observe.build

prometheus: ## Unpack Debian's Prometheus and promtool into .cache/prometheus; nothing is installed
	@mkdir -p .cache/prometheus && cd .cache/prometheus && \
		{ apt-get download -q prometheus || { apt-get update -q && apt-get download -q prometheus; }; } && dpkg -x prometheus_*.deb . \
		&& rm -f prometheus_*.deb && echo "Prometheus lies in .cache/prometheus."

down: ## Stop what `make up` or `make demo` started
	@if [ -x $(VENV)/python ]; then $(VENV)/python -m services.console.supervisor down; fi

status: ## Show what runs
	@if [ -x $(VENV)/python ]; then $(VENV)/python -m services.console.supervisor status; else echo "Nothing is set up yet."; fi

lock: environments ## Resolve requirements/*.in anew into hash-pinned locks
	@cd requirements && for name in installer runtime embedded dev tools triton load peers ocr presidio deploy detector_gpu compiler; do \
		echo "$$name"; PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS= ../$(LOCK) --output-file $$name.txt $$name.in || exit 1; done
	@$(VENV)/python bootstrap/service_locks.py

clean: down ## Remove everything that make made, downloads and JIKIMI_HOME excepted
	@rm -rf .venv .tools .triton .load .peers .presidio .deploy protos/gen .cache/mypy .ruff_cache .pytest_cache .hypothesis services/detector/adapters/pii_core/*.so

.PHONY: gate-histories
gate-histories: setup ## Judge ten thousand random histories whose truth is known (about five minutes)
	@JIKIMI_HISTORIES=10000 $(VENV)/python -m pytest -s -p no:xdist tests/unit/gate/test_many_histories.py
