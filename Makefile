# SPDX-FileCopyrightText: selfheal.delivery contributors
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Every target does its own set-up: a locked virtual environment under the user's cache, and the tree that Ansible wants
# around a checkout. Needed beforehand: make, and Python 3.11 (all of `make test`: also git, Java 17, 3.12, 3.13, 3.9).

.DEFAULT_GOAL := help
.PHONY: help demo test tools lint format unit integration sanity artifact testbed bench lock clean

CORE ?= 2.19
CORES := 2.19 2.20 2.21
PYTEST_ARGS ?= -n 2

ifndef PYTHON
PYTHON := $(shell for python in python3.11 python3 python3.12 python3.13 /usr/bin/python3; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
endif
ifeq ($(PYTHON),)
$(error Python 3.11 or newer is missing: put python3.11 on the PATH, or call make PYTHON=/path/to/python3.11)
endif

TREE := .tree/ansible_collections/selfheal/delivery
TOOLS := $(PYTHON) tests/tools
# $(call in,NAME): the rest of the recipe line runs in the environment NAME, with its commands first on the PATH.
in = python=$$($(TOOLS)/environment.py $(1)) && PATH="$${python%/*}:$$PATH" &&
report = $(if $(REPORT),--junitxml=$(REPORT))

help:  ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

$(TREE):
	@mkdir -p $(@D) && ln -sfn ../../.. $@

demo: $(TREE)  ## four places here: a bad release is caught and taken back, a good one promoted
	@$(call in,demo) python demo/run.py $(DEMO_ARGS)

test: $(TREE)  ## everything that CI runs: lint, unit, integration, sanity, the built artifact
	@$(TOOLS)/parts.py environments tools lint $(foreach core,$(CORES),"unit CORE=$(core)" "integration CORE=$(core)" \
		"sanity CORE=$(core)") artifact

.PHONY: environments
environments:
	@for name in demo $(CORES); do $(TOOLS)/environment.py $$name || exit 1; done

tools:  ## the real servers that the tests run, found, or built and installed from locked modules, once (10 minutes)
	@$(TOOLS)/go_tool.py
	@$(TOOLS)/postgres.py
	@$(TOOLS)/npm_tool.py
	@$(TOOLS)/java.py

lint: $(TREE)  ## style, types, ansible-lint, yamllint, documentation and changelog
	@$(call in,2.19) python tests/tools/lint.py

format: $(TREE)  ## put the code into its format
	@$(call in,2.19) ruff check --fix-only --quiet . && ruff format .

# 2.19 measures the coverage of the cores, the others only repeat the tests.
unit: $(TREE)  ## unit and property tests (CORE=2.20: on another ansible-core)
ifeq ($(CORE),2.19)
	@mkdir -p build/coverage
	@$(call in,$(CORE)) python -m pytest tests/unit $(PYTEST_ARGS) $(report) --cov --cov-report=json --cov-report=term
	@$(TOOLS)/check_coverage.py
else
	@$(call in,$(CORE)) python -m pytest tests/unit $(PYTEST_ARGS) $(report)
endif

integration: $(TREE) tools  ## tests on real processes (CORE=2.20: the demo-sized ones on another ansible-core)
	@$(call in,$(CORE)) python -m pytest tests/integration --dist loadgroup $(PYTEST_ARGS) $(report) \
		$(if $(filter-out 2.19,$(CORE)),-m demo_sized)

sanity:  ## ansible-test sanity on what is shipped, without an ignore file (CORE=2.20: of another ansible-core)
	@$(call in,$(CORE)) python tests/tools/sanity.py $(SANITY_ARGS)

artifact:  ## build the collection, check what is in it, and import it as Galaxy does
	@$(call in,2.19) python tests/tools/artifact.py

testbed: $(TREE) tools  ## a Kubernetes control plane here to play with, with Argo Rollouts, traffic and Prometheus
	@$(call in,2.19) python tests/tools/testbed.py

bench: $(TREE)  ## every bench in turn (make bench-judge: one of them); each writes build/bench/NAME.json
	@$(call in,2.19) python tests/tools/bench.py

bench-%: $(TREE)
	@$(call in,2.19) python tests/tools/bench.py $*

bench bench-eda bench-flags bench-kubernetes bench-guard: tools

lock:  ## resolve the requirements anew (make lock ONLY=2.20: of one environment)
	@$(TOOLS)/lock.py $(ONLY)

clean:  ## remove what was built in this checkout; environments stay in the cache
	rm -rf build .tree
