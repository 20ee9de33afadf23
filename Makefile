# Never Sleeps: what people type. Every target sets up its own environment first; nothing is asked of the machine but
# Python 3.11 or newer, git and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One environment for all targets, made anew when a lock file changes; `make docs` has one of its own.
READY := $(VENV)/ready
DOCS := .venv-docs

# Where this is set, every process of every test and run would compile the same modules anew: a bot then starts twice as slowly.
unexport PYTHONDONTWRITEBYTECODE
# A user's settings of shell and Python have no say.
unexport CDPATH PYTHONHOME PYTHONINSPECT PYTHONPLATLIBDIR PYTHONEXECUTABLE

.DEFAULT_GOAL := help
.PHONY: help FORCE service demo test fire proof bench lint docs release lock clean $(foreach do,run stop status audit,$(do) $(do)-docker $(do)-process)

help: ## say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

# Containers where a Docker Engine answers (then nothing is set up on this machine), else processes; RUNTIME= says which.
# What never-sleeps.toml sets counts beneath the environment.
AS_CHOSEN = runtime=$$(bin/with-config bin/runtime) && exec bin/with-config $(MAKE) --no-print-directory $@-$$runtime

run: ## trade on paper: exchange, bot, deployer, panel; Ctrl-C ends all of it (LIVE=1: on real prices, with play money; FAST=1: 1 s polls, windows of 30 and 90 s; DETACH=1: goes on without a terminal)
	@$(AS_CHOSEN)
# Never as words of a command line: a path may have spaces and quotes.
export FAST LIVE TAPE DETACH WATCH
run-docker:
	@bin/compose run
run-process: $(READY)
	@$(if $(TAPE),PAPER_TAPE="$$TAPE") $(BIN)/python -m deployer up $(if $(FAST),--fast) $(if $(LIVE),--mirror) $(if $(WATCH),--watch) $(if $(DETACH),--detach)

demo: $(READY) ## a minute of everything on a copy: two deploys, a broken one, a rollback, a kill -9; then the audit
	@$(BIN)/python -m deployer demo

# On a terminal it asks (YES=1: it does not). Without one nobody can be asked, and whoever wrote `make stop` into a script means it.
AGREED = $$([ -n "$(YES)" ] || [ ! -t 0 ] && echo --yes)

stop: ## end everything that `make run` started, the bots that trade first; asks on a terminal (YES=1: does not)
	@$(AS_CHOSEN)
stop-docker:
	@bin/compose stop $(AGREED)
stop-process: $(READY)
	@$(BIN)/python -m deployer down $(AGREED)

service: ## write a systemd unit for this checkout, with the settings that are set now
	@PAPER_TAPE="$$TAPE" bin/service

status: ## say what runs and who trades
	@$(AS_CHOSEN)
status-docker:
	@bin/compose status
status-process: $(READY)
	@$(BIN)/python -m deployer status

audit: ## check the invariants from the ledger
	@$(AS_CHOSEN)
audit-docker:
	@bin/compose audit $(ARGS)
audit-process: $(READY)
	@$(BIN)/python -m bot audit $(ARGS)

test: $(READY) ## run every test that can run here; REQUIRE_ALL=1 forbids skips
	@$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

fire: $(READY) ## swaps under fire: the bot killed, stopped and broken on purpose, half an hour (ARGS="--part kill-taker")
	@$(BIN)/python -m bench.fire --runtime $$(bin/runtime) $(ARGS)

bench: $(READY) ## price to order, polls of 16 and 1,000 slots, commits; then the load that the paper exchange bears
	@$(BIN)/python -m bench.trading $(ARGS); missed=$$?; $(BIN)/python -m bench.paper_load && exit $$missed

proof: $(READY) ## the model, the simulation, power cuts and kills at every step, within a budget (PART=power BUDGET=40m); table in docs/reference/proof-results.md
	@$(BIN)/python -m proof.report $(if $(PART),--part $(PART)) --budget $(or $(BUDGET),40m)

lint: $(READY) ## style, types, imports between the packages
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docs: $(DOCS)/ready ## build the site of docs/ into site/index.html; a broken link or anchor fails it
	@NO_COLOR=1 PATH="$(CURDIR)/$(DOCS)/bin:$$PATH" $(DOCS)/bin/zensical build --clean --strict
	@! grep -rlE '<(script|link|img|iframe)[^>]* (src|href)="https?:' site --include='*.html' || { \
		echo "make docs: expected pages that load nothing from elsewhere, found those above; see zensical.toml" >&2; exit 1; }

release: $(READY) ## check this checkout, try the upgrade from the release before, build wheel, docs and image into dist/, and tag it
	@.ci/release

lock: $(READY) ## resolve the dependencies anew into the lock files (hashes, no addresses)
	@sh .ci/lock $(BIN)

clean: ## remove the environments and the site (not the state: that is volumes/bus and .run)
	rm -rf $(VENV) $(DOCS) site .cache

# Also when its interpreter went away, with the Python that it was made of.
$(READY): requirements-uv.lock requirements-dev.lock $(if $(realpath $(BIN)/python),,FORCE)
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no command $(PYTHON); install Python 3.11 or newer, or name one: make PYTHON=python3.13" >&2; exit 2; }
	@$(PYTHON) -I bin/set-up $(VENV)
FORCE:

$(DOCS)/ready: requirements-docs.lock | $(READY)
	@echo "setting up $(DOCS) (once, some seconds)" >&2
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(DOCS)
	@$(BIN)/uv pip sync --quiet --require-hashes --python $(DOCS)/bin/python requirements-docs.lock
	@touch $@
