# A host that only serves needs less: make serve EXTRAS=
EXTRAS ?= index
# Every variable given on this command line is the twin of a flag (see `.venv/bin/python -m indexer --help`) and of
# the environment variable SIMILARITY_<NAME>; it is handed on through the environment, so no shell ever reads it.
VARIABLES := DPT DOMAIN DATA CATALOG IMAGE_URL MODEL WEIGHTS ENGINE STORE LIMIT CONNECTIONS MAX_FAILURES RETRY_FAILED \
             METRIC ALIKE USER_PHOTOS MAX_DROP FORCE PHOTOS AGAINST \
             DEPOT KEEP TO SSH SIGNING_KEY ADMIN_KEY KEYS RATE PROXY CORS_ORIGINS LOG_FORMAT \
             HOST PORT WORKERS PHOTO_HOSTS DATASET BENCH
$(foreach v,$(VARIABLES),$(if $(filter command line,$(origin $(v))),$(eval export SIMILARITY_$(v) := $$(value $(v)))))

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help index images weights evaluate changes export publish pull snapshots rollback ship serve demo bench test \
        faults fuzz soak check format audit

help: ## Show this list
	@echo "image-similarity: which products look most like this product, or like this photo?"
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

index: $(VENV)/installed ## Index a department: DPT=371 DOMAIN=0341 [CATALOG= IMAGE_URL= MODEL= WEIGHTS= LIMIT= ..]
	@$(RUN) -m indexer index

images: $(VENV)/installed ## Only fetch its images, into DATA/images: DPT=371 DOMAIN=0341
	@$(RUN) -m indexer images

weights: $(VENV)/installed ## Install the weights of a network: MODEL=clip_vit_b16
	@$(RUN) -m indexer weights

evaluate: $(VENV)/installed ## Measure the answers: DPT= DOMAIN= [PHOTOS=photos.csv ALIKE=category,style AGAINST=snapshot]
	@$(RUN) -m indexer evaluate

changes: $(VENV)/installed ## See whose answers changed since the snapshot before: DPT= DOMAIN= [AGAINST=snapshot]
	@$(RUN) -m indexer changes

export: $(VENV)/installed ## Write all answers as Parquet and JSON lines: DPT= DOMAIN= [TO=folder]
	@$(RUN) -m indexer export

publish: $(VENV)/installed ## Make this host's snapshot the depot's: DPT= DOMAIN= DEPOT=s3://bucket/prefix [KEEP=5]
	@$(RUN) -m indexer publish

pull: $(VENV)/installed ## Make the depot's snapshot this host's: DPT= DOMAIN= DEPOT= [KEEP=5]
	@$(RUN) -m indexer pull

snapshots: $(VENV)/installed ## List the snapshots of host and depot: DPT= DOMAIN= [DEPOT=]
	@$(RUN) -m indexer snapshots

rollback: $(VENV)/installed ## Go back, in the depot or else on this host: DPT= DOMAIN= [DEPOT= TO=id]
	@$(RUN) -m indexer rollback

ship: $(VENV)/installed ## Make this host's snapshot another host's, over ssh: DPT= DOMAIN= HOST=user@host:/dir [KEEP=5]
	@$(RUN) -m indexer ship

serve: $(VENV)/installed ## Answer over HTTP: [HOST=127.0.0.1 PORT=8000 DATA=./data WORKERS=2 DEPOT=]
	@exec $(RUN) -m server

demo: $(VENV)/installed ## See it work on a drawn sports shop, or on your pictures: [DATASET=folder]
	@$(RUN) -m indexer demo

bench: $(VENV)/installed ## See how fast it is: [BENCH=embed|pipeline|search|serve|load DATASET=folder LIMIT=100]
	@$(RUN) -m bench

test: $(VENV)/dev ## Run the tests: [QUICK=1 ONLY=tests/shared/search THOROUGH=1 ORDER=random]
	@$(if $(ONLY)$(QUICK),,echo "Only the quick ones: make test QUICK=1. Only one room's: make test ONLY=tests/shared/search")
	@$(RUN) -m pytest -n auto --dist loadfile $(if $(QUICK),-m "not slow") $(if $(filter random,$(ORDER)),-p randomly -v) $(ONLY)

faults: $(VENV)/dev ## See which faults were survived: a table, data/faults.md [THOROUGH=1]
	@$(RUN) -m pytest -n auto --dist loadfile -m fault -p tests.support.fault_table

fuzz: $(VENV)/dev ## Try to break what reads bytes, each reader for so long: [MINUTES=10 ONLY=manifest]
	@FUZZ_MINUTES=$(or $(MINUTES),10) $(RUN) -m pytest -s --durations=0 tests/fuzz $(if $(ONLY),-k $(ONLY))

soak: $(VENV)/installed ## Serve under load while everything changes, and see what breaks: [MINUTES=20]
	@MINUTES=$(or $(MINUTES),20) $(RUN) -m bench.soak

check: $(VENV)/dev ## Check style and types
	@$(RUN) -m ruff format --check --quiet . && $(RUN) -m ruff check --quiet . && $(RUN) -m mypy

format: $(VENV)/dev ## Format the code
	@$(RUN) -m ruff format . && $(RUN) -m ruff check --fix .

audit: $(VENV)/dev ## Look for known vulnerabilities of what constraints.txt pins
	@$(RUN) .ci/audit.py

$(VENV)/installed: setup.cfg constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
		{ echo "Error: Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is $$($(PYTHON) -V). Set PYTHON=python3.11."; exit 1; }
	@echo "Installing into $(VENV) (once; with EXTRAS=index, the default, it is large) .."
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[$(EXTRAS)]"
	@touch $@

$(VENV)/dev: $(VENV)/installed
	@$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[index,dev]'
	@touch $@
