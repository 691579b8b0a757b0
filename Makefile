# SPDX-License-Identifier: Apache-2.0
# `make demo` and `make test` are all you need; the rest are their parts. `make help` lists them.

VENV    := .venv
PYTHON  ?= python3
DIST    ?= dist
KERNELS ?= 5.10 6.1 6.12
LONG_KERNELS := $(if $(filter command environment,$(firstword $(origin KERNELS))),$(KERNELS),$(KERNELS) newest)
SUDO    := $(if $(filter-out 0,$(shell id -u)),sudo,)

export VENV PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup dev bpf demo test test-vm test-long check bench screenshots wheel pyz deb share clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup:  ## install what is missing: system packages (as root), .venv, BPF objects; then .venv/bin/xdptui runs
	@scripts/system-packages run build
	@scripts/venv run
	@$(MAKE) --no-print-directory -C bpf

dev: setup
	@scripts/system-packages test
	@scripts/venv dev

bpf:  ## build the BPF objects from bpf/
	@$(MAKE) --no-print-directory -C bpf

demo: setup  ## a playground with a chain of three sample programs, and xdptui on it
	@$(SUDO) $(VENV)/bin/python -m xdptui.demo $(ARGS)

test: dev  ## install what is missing, run all tests (ARGS="-k name" narrows)
	@scripts/test $(ARGS)

test-vm: dev  ## the tests in stock kernels under emulation (KERNELS="5.10 6.1 6.12")
	@tests/vm/run $(KERNELS) $(ARGS)

test-long: dev  ## soak and stress whole, and every kernel: hours (KERNELS="5.10 6.1 6.12 newest")
	@KERNELS="$(LONG_KERNELS)" scripts/test-long $(ARGS)

check: dev  ## lint, format, types, import contracts, shell scripts, links and commands of the documents
	@scripts/check

bench: dev  ## measure what the chains cost
	@$(VENV)/bin/python -m pytest -m bench --timeout=600 -s tests/bench $(ARGS)

screenshots: setup  ## make the pictures in screenshots/ from the running program
	@$(SUDO) $(VENV)/bin/python scripts/screenshots.py $(ARGS)

wheel: setup  ## dist/*.whl, with the BPF objects inside
	@rm -rf build/lib build/bdist.* $(DIST)/xdptui-*.whl  # setuptools would ship what an earlier build left there
	@$(VENV)/bin/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(DIST) .
	@ls $(DIST)/*.whl

pyz: wheel  ## dist/*.pyz: one file, with all Python packages, for `sudo python3 xdptui-VERSION.pyz`
	@rm -f $(DIST)/xdptui-*.pyz
	@set -- $(DIST)/xdptui-*.whl && $(VENV)/bin/python scripts/make-pyz "$$1" "$${1%-py3-none-any.whl}.pyz"
	@ls $(DIST)/*.pyz

deb: dev wheel  ## dist/*.deb: a Debian package, with units, manual page and completions
	@rm -f $(DIST)/xdptui_*.deb
	@scripts/make-deb $(DIST)/xdptui-*.whl $(DIST)
	@ls $(DIST)/*.deb

share: dev  ## dist/share: the manual page, and completions for bash, zsh and fish
	@rm -rf $(DIST)/share
	@$(VENV)/bin/python scripts/make-share $(DIST)/share
	@find $(DIST)/share -type f

clean:  ## remove what was built, but not .venv
	@$(MAKE) --no-print-directory -C bpf clean
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
