# A thin layer of names over the doors: python -m local | assets | regimes | experiments | analysis.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
ifeq ($(value WORKLOAD),)
EXPERIMENT ?= quick
else
EXPERIMENT ?= mine
endif
RUN ?= latest
CAMPAIGNS ?= 1000
VIDEO ?= short
QUERY ?= find scenes with cars
OPEN ?=
REGIME ?= cold
# What people say goes into recipes by the environment ("$$QUERY"): nothing of it is read by make or by a shell, whatever
# letters are in it. Options in plural are words, in which quotes hold as they do in a shell.
WORDS := PYTHON VENV EXPERIMENT WORKLOAD TRACE PATHS REGIMES DURATION RUN A B CAMPAIGNS PRICES REGIME VIDEO QUERY OPEN INVOKE_OPTIONS IMAGE_OPTIONS INIT_OPTIONS PLATFORM
$(foreach word,$(WORDS),$(eval override $(word) := $$(value $(word))))
export $(WORDS)
# VENV is a target, too, and make has no way to quote one.
$(foreach letter,' " ` : ; % * ? [ | & < > ( ) = ~ $$,$(if $(findstring $(letter),$(VENV)),$(error VENV=$(VENV): a path with letters, digits and - . _ / only)))
$(if $(filter 1,$(words $(VENV))),,$(error VENV=$(VENV): a path without blanks))
# As everywhere: without what an account's PYTHON* variables say, and in UTF-8.
override PY := '$(VENV)/bin/python' -E -X utf8
split = mapfile -d '' -t words < <(xargs -r printf '%s\0' <<< "$$$(1)" 2>/dev/null) && wait $$! \
  || { echo "error: $(1): a quote has no end" >&2; exit 2; }

##@ Measure
.PHONY: bench ab plan resume reproduce init restore controls compare ui distortion report index calibrate
own = $${WORKLOAD:+"--workload=$$WORKLOAD"} $${TRACE:+"--trace=$$TRACE"} $${PATHS:+"--paths=$$PATHS"} $${REGIMES:+"--regimes=$$REGIMES"} $${DURATION:+"--duration=$$DURATION"}
bench: $(VENV)/.ready  ## Benchmark without a browser: EXPERIMENT (quick), or your own: WORKLOAD (a file), TRACE, REGIMES, DURATION; PLATFORM
	@$(PY) -m experiments run $(own) -- "$$EXPERIMENT"

ab: $(VENV)/.ready  ## Two versions of your functions, A and B (B='commit=HEAD' 'env.X=1' 'image=…'): WORKLOAD, REGIME (cold); for CI
	@$(PY) -m experiments run "--workload=$$WORKLOAD" $${A:+"--a=$$A"} $${B:+"--b=$$B"} "--regime=$$REGIME" -- ab

plan: $(VENV)/.installed  ## What EXPERIMENT (quick) would run, how long it takes and what it can show; runs nothing
	@$(PY) -m experiments plan $(own) -- "$$EXPERIMENT"

resume: $(VENV)/.ready  ## Go on with a campaign that was cut short: RUN (a folder of runs/; default: the latest)
	@$(PY) -m experiments resume -- "$$RUN"

reproduce: $(VENV)/.ready  ## Run a campaign again at its commit: RUN; says compatible, or what differs. NEW: one that was run already
	@$(PY) -m experiments reproduce $(RUN) $(if $(NEW),--new $(NEW))

init: $(VENV)/.installed  ## A commented workload of your own, to go on from: INIT_OPTIONS='--run "python3 server.py {port}"' (or --image, --url)
	@$(call split,INIT_OPTIONS); $(PY) -m workloads init "$${words[@]}"

restore: $(VENV)/.installed  ## After a campaign that was killed: functions of others scale as before, FAVE's own go from a cluster
	@$(PY) -m regimes restore

controls: $(VENV)/.ready  ## Does the instrument give the answers that are known beforehand? (17 minutes) passed or failed
	@$(PY) -m experiments run controls

compare: $(VENV)/.installed  ## Two campaigns side by side: A and B (folders of runs/); unlike ones are refused
	@$(PY) -m analysis compare -- "$$A" "$$B"

ui: $(VENV)/.ready  ## The Locust web UI with FAVE's tab, on the embedded platform
	@$(PY) -m experiments ui $${WORKLOAD:+"--workload=$$WORKLOAD"}

distortion: $(VENV)/.ready  ## The same arrivals open loop and closed loop (2 minutes): what the latter hides
	@$(PY) -m experiments distortion

report: $(VENV)/.installed  ## Analyse RUN (a folder of runs/; default: the latest) anew; PRICES (a file) adds money
	@$(PY) -m analysis report $${PRICES:+"--prices=$$PRICES"} -- "$$RUN"

index: $(VENV)/.installed  ## runs/index.html: all campaigns on one page
	@$(PY) -m analysis index

calibrate: $(VENV)/.installed  ## Are the verdicts as often wrong as they say? CAMPAIGNS (1000) of each kind, simulated (90 s)
	@$(PY) -m analysis calibrate "--campaigns=$$CAMPAIGNS"

##@ Search a video
.PHONY: invoke smoke
invoke: $(VENV)/.ready  ## One request, watched: VIDEO (a file, s3://, short, long), QUERY; OPEN=1 shows pictures and clips
	@case "$$OPEN" in 1|yes) open=--open ;; ''|0|no) open= ;; *) echo "error: OPEN=$$OPEN: need 1 or 0" >&2; exit 2 ;; esac; \
	  $(call split,INVOKE_OPTIONS); $(PY) -m search invoke $$open "$${words[@]}" -- "$$VIDEO" "$$QUERY"

smoke: $(VENV)/.ready  ## Invoke every function once and see that each reaches the object store
	@$(PY) -m search smoke

##@ Platform
.PHONY: up down status
up: $(VENV)/.ready  ## Start the embedded platform (object store, gateway, Prometheus) and leave it running
	@$(PY) -m local up

down: $(VENV)/.installed  ## Stop it
	@$(PY) -m local down

status: $(VENV)/.installed  ## Show where it answers and what its functions do; WATCH=1: again every second
	@$(PY) -m local status $(if $(WATCH),--watch)

##@ Cluster
need_kubectl = command -v kubectl >/dev/null || { echo "error: kubectl is not installed, or not on PATH" >&2; exit 2; }
.PHONY: cluster-up cluster-down cluster-bench fetch stack probe images images-test
manifests = platforms/manifests/$(if $(filter plain,$(PLATFORM)),plain,base)
cluster-up:  ## Beside an OpenFaaS: object store, Prometheus, rights, bounds (kubectl; DRY=1: print only; PLATFORM=plain: more rights)
	@$(call need_kubectl); kubectl $(if $(DRY),kustomize,apply -k) $(manifests)

cluster-down:  ## Take them away again, with what the object store holds
	@$(call need_kubectl); kubectl delete -k $(manifests) --ignore-not-found

cluster-bench:  ## EXPERIMENT as a Job of the cluster; its run folder goes to the object store (DRY=1: print only)
	@$(call need_kubectl); say() { kubectl -n fave create configmap bench --dry-run=client -o yaml \
	    --from-literal=EXPERIMENT="$$EXPERIMENT" $${PLATFORM:+--from-literal=PLATFORM="$$PLATFORM"}; \
	    echo ---; kubectl kustomize platforms/manifests/bench; }; \
	  if [ -n '$(DRY)' ]; then say; else kubectl -n fave delete job bench --ignore-not-found && say | kubectl apply -f -; fi

fetch: $(VENV)/.installed  ## Bring a run folder from the object store: RUN; without it, which there are
	@$(PY) -m experiments fetch $(if $(filter-out latest,$(RUN)),"$$RUN")

stack: $(VENV)/.installed  ## functions/stack.yml with REGIME (cold) in it, for faas-cli; to standard output
	@$(PY) -m regimes stack -- "$$REGIME"

probe: $(VENV)/.ready  ## Try what the platform can do, with one throw-away function (PATIENT=1: also what takes minutes)
	@$(PY) -m regimes probe $(if $(PATIENT),--patient)

images: $(VENV)/.ready  ## Build the functions' container images (FAVE_IMAGE_PREFIX, FAVE_IMAGE_TAG, IMAGE_OPTIONS)
	@$(call split,IMAGE_OPTIONS); $(PY) -m functions.images "$${words[@]}"

images-test: $(VENV)/.installed-dev $(VENV)/.ready  ## Build them and run each against the embedded platform (FAVE_DEBIAN_IMAGE)
	@FAVE_IMAGES_TEST=1 $(PY) -m pytest -m images tests/e2e/test_images.py

##@ Develop
.PHONY: test test-all check bench-pipeline bench-analysis bench-load bench-gateway bench-speech lock clean
check: $(VENV)/.installed-dev  ## Format, lint, types, layers
	@$(PY) -m ruff format --check . && $(PY) -m ruff check . && $(PY) -m mypy . \
	  && $(PY) -c 'from importlinter.cli import lint_imports_command as lint; lint()'

# Two at a time, a file's tests together: most of them wait for processes. Each half has a platform of its own.
AT_ONCE = -n 2 --dist loadfile
test: $(VENV)/.installed-dev $(VENV)/.ready  ## What protects a change, at most ten minutes on two cores: every room, no browser
	@$(PY) -m pytest $(AT_ONCE) -m "unit" && $(PY) -m pytest $(AT_ONCE) -m "not unit and not long and not images"

test-all: $(VENV)/.installed-dev $(VENV)/.ready $(VENV)/.browser  ## And the long ones: kills, campaigns, clean environments, a browser
	@$(PY) -m pytest $(AT_ONCE) -m "unit" && $(PY) -m pytest $(AT_ONCE) -m "not unit and not images"

bench-pipeline: $(VENV)/.ready  ## Measure: warm pass against the handlers in a row, cold start of each stage
	@$(PY) -m tests.benchmarks.pipeline

bench-analysis: $(VENV)/.installed  ## Measure: a report of a million requests with seven million stage rows, and of the example
	@$(PY) -m tests.benchmarks.analysis

bench-load: $(VENV)/.installed-dev $(VENV)/.ready  ## Measure: the generator beside plain Locust and k6; table in runs/bench-load.md
	@$(PY) -m tests.benchmarks.load

bench-gateway: $(VENV)/.installed-dev $(VENV)/.ready  ## Measure: the gateway's own cost, beside others (REAL_GATEWAY); in runs/bench-gateway.md
	@$(PY) -m tests.benchmarks.gateway

bench-speech: $(VENV)/.ready  ## Measure: how often is speech doubted that is understood, and believed that is not?
	@$(PY) -m tests.benchmarks.speech

lock: $(VENV)/.installed-dev  ## Pin the newest versions that requirements*.in allow
	@for set in requirements requirements-dev; do \
	  $(PY) -m piptools compile --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links $$set.in; done
	@python="$$(cd '$(VENV)/bin' && pwd)/python"; for folder in functions/images/*/; do (cd "$$folder" && "$$python" -E -m piptools compile \
	  --quiet --upgrade --strip-extras --no-emit-index-url --no-emit-find-links requirements.in); done

clean:  ## Remove the virtual environment, caches and the platform's files (runs/ and the download cache stay)
	@if [ -x '$(VENV)/bin/python' ]; then $(PY) -m local down 2>/dev/null || true; fi
	rm -rf -- '$(VENV)' .fave .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help:  ## This list
	@awk 'BEGIN {FS = ":.*##"} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*##/ {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What stands behind the names.

$(VENV)/bin/python:
	@"$$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "error: FAVE needs Python 3.11 or newer as $$PYTHON (set PYTHON=...)"; exit 3; }
	@if [ -e '$(VENV)' ]; then echo "error: $(VENV) is there and has no python; remove it, or set VENV=..."; exit 3; fi
	@echo "making the virtual environment $(VENV) ..." >&2
	@"$$PYTHON" -m venv '$(VENV)' >/dev/null 2>&1 \
	  || { rm -rf -- '$(VENV)'; if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	       echo "installing Debian's python3-venv ..." >&2; apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null \
	       && "$$PYTHON" -m venv '$(VENV)'; else false; fi; } \
	  || { rm -rf -- '$(VENV)'; echo "error: $$PYTHON has no venv module; as root: apt-get install python3-venv"; exit 3; }

$(VENV)/.installed: requirements.txt | $(VENV)/bin/python
	@echo "installing packages (the first time some minutes) ..." >&2
	@$(PY) -m pip install -qq --disable-pip-version-check -r requirements.txt \
	  || { echo "error: pip could not install requirements.txt; check that it reaches its package index (pip config list)"; exit 3; }
	@touch '$@'

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	@echo "installing tools for checks and tests ..." >&2
	@$(PY) -m pip install -qq --disable-pip-version-check -r requirements-dev.txt \
	  || { echo "error: pip could not install requirements-dev.txt; check that it reaches its package index"; exit 3; }
	@touch '$@'

# For one long test, which drives the web UI as a person does; without Chromium it is skipped, and says so.
$(VENV)/.browser: | $(VENV)/bin/python
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && echo "installing Debian's chromium for the browser test ..." >&2 \
	       && { apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null 2>&1 \
	            || { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver >/dev/null; }; }; } \
	  || echo "no Chromium: the browser test is skipped (as root: apt-get install chromium chromium-driver)" >&2
	@touch '$@'

# Models and media, and librosa's compile cache: once, so that no cold start pays for it.
$(VENV)/.ready: $(VENV)/.installed assets/manifest.yml
	@$(PY) -m assets >&2
	@echo "warming librosa's compile cache (once) ..." >&2
	@$(PY) -c 'import numpy, librosa; librosa.effects.split(numpy.sin(numpy.arange(8192, dtype=numpy.float32)))'
	@touch '$@'
