SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .local/venv
PLAYBOOK := $(VENV)/bin/ansible-playbook
# Options for ansible-playbook, e.g. EXTRA='-e @my-overrides.yml'
EXTRA ?=
# A file that playbooks/bundle.yml wrote of inventories/local: its images are taken, and none is built.
BUNDLE ?=
export BUNDLE
# Where a release is published, for galaxy.yml in its archive.
REPOSITORY ?=
# What `make rehearse` rehearses.
INVENTORY ?= inventories/production-eks
# The programs of the local cluster (kind, kubectl, helm), once they are built, before others of the same names.
export PATH := $(CURDIR)/.local/bin:$(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: help machine demo test lint unit apiserver-test rust cluster-test upgrade-test drill dashboards docs rehearse clean distclean benchmark environment execution-environment release release-check

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

environment:
	@tools/python-env $(VENV) requirements-dev.txt

machine:
	@tools/machine $(EXTRA)

comma := ,
demo: export ANSIBLE_CALLBACKS_ENABLED := lambda_microservice.platform.steps$(addprefix $(comma),$(ANSIBLE_CALLBACKS_ENABLED))
demo: machine environment ## Bring up a local cluster, deploy the platform, verify it, and say how to call it
ifeq ($(BUNDLE),)
	@$(PLAYBOOK) playbooks/cluster.yml playbooks/images.yml site.yml playbooks/verify.yml playbooks/index.yml $(EXTRA)
else
	@$(PLAYBOOK) playbooks/cluster.yml playbooks/unbundle.yml -e unbundle_archive='$(abspath $(BUNDLE))' \
		-e unbundle_registry='localhost:{{ cluster_registry_port | default(5001) }}' $(EXTRA)
	@cp .local/unbundled/images.json .local/images.json
	@$(PLAYBOOK) site.yml playbooks/verify.yml playbooks/index.yml -e @.local/unbundled/variables.yml $(EXTRA)
endif

test: environment ## All that has to pass: linters, tests, and the platform on a cluster of its own
	@tests/run

lint: environment ## The linters and the types, without any test
	@tests/run lint

unit: environment ## The tests that need no cluster
	@tests/run unit

apiserver-test: environment ## The tests of the modules on a real API server, which they start
	@tests/run apiserver

rust: environment ## The format, the lints and the tests of the Rust programs
	@tests/run rust

cluster-test: environment ## The tests that need nodes, on the local cluster, which some of them disturb
	@tests/run cluster

upgrade-test: environment ## An earlier platform becomes this one under load, on a cluster of its own
	@tools/build .local/bin && molecule test -s upgrade --no-command-borders

drill: environment ## Break the local platform on purpose, under load, and measure how it comes back
	@$(PLAYBOOK) playbooks/drill.yml $(EXTRA)

dashboards: environment ## Draw the dashboards from the local platform's Prometheus into .local/dashboards.html
	@$(PLAYBOOK) playbooks/dashboards.yml $(EXTRA)

docs: environment ## Make the documents a site with a search, in .local/site; it loads nothing from elsewhere
	@$(VENV)/bin/python tools/docs/build .local/site

rehearse: environment ## Try INVENTORY (inventories/production-eks) at full size on a throwaway cluster with simulated nodes
	@$(PLAYBOOK) -i $(INVENTORY) playbooks/rehearse.yml $(EXTRA)

clean: environment ## Remove the local cluster and all that was started for it
	@$(PLAYBOOK) playbooks/cluster.yml -e cluster_state=absent $(EXTRA)

distclean: clean ## Remove the built programs and environments of this checkout too
	rm -rf .local

benchmark: environment ## Measure site.yml and the modules against plain helm and kubectl, with nothing changed
	@tests/benchmark/site && tests/benchmark/modules

execution-environment: environment ## Write the build context of the image for AWX and ansible-navigator into .local/execution-environment
	@tools/go-programs load .local/load
	@ansible-builder create --context .local/execution-environment --output-filename Containerfile

release: ## Make the archive, the bill of materials and the checksums of this version in .local/dist
	@tools/python-env .local/release requirements-release.txt
	@tools/release .local/dist $(REPOSITORY)

release-check: release ## Ask of that archive what Galaxy asks, some minutes
	@tools/release-check .local/dist
