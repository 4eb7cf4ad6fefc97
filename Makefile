SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .local/venv
PLAYBOOK := $(VENV)/bin/ansible-playbook
# Options for ansible-playbook, e.g. EXTRA='-e @my-overrides.yml'
EXTRA ?=
# The programs of the local cluster (kind, kubectl, helm), once they are built, before others of the same names.
export PATH := $(CURDIR)/.local/bin:$(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help demo test drill lint unit rust cluster-test clean distclean benchmark environment

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

environment:
	@tools/python-env $(VENV) requirements-dev.txt

demo: environment ## Bring up a local cluster, deploy the platform, verify it, and say how to call it
	@$(PLAYBOOK) playbooks/cluster.yml playbooks/images.yml site.yml playbooks/verify.yml $(EXTRA)

test: environment ## Lint, unit tests, and the platform on a cluster of its own (molecule)
	@tests/run

drill: environment ## Break the local platform on purpose, under load, and measure how it comes back
	@$(PLAYBOOK) playbooks/drill.yml $(EXTRA)

clean: environment ## Remove the local cluster and all that was started for it
	@$(PLAYBOOK) playbooks/cluster.yml -e cluster_state=absent $(EXTRA)

distclean: clean ## Remove the built programs and environments of this checkout too
	rm -rf .local

benchmark: environment ## Measure make demo, and site.yml against plain helm and kubectl
	@tests/benchmark/site
