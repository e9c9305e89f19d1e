# A thin front: what a person types. CMake does the work.
.DEFAULT_GOAL := help
BUILD ?= build
JOBS ?= $(shell nproc)

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps:  ## install what is missing (Debian packages)
	@deploy/install-dependencies

configure: deps
	@test -f $(BUILD)/build.ninja || cmake --preset release -B $(BUILD)

build: configure  ## install what is missing and build build/modu
	@cmake --build $(BUILD) -j $(JOBS)

test-fast: build  ## the fast tests: no network, no real model
	@cd $(BUILD) && ctest -L fast -j $(JOBS) --output-on-failure

test: build  ## every test
	@cd $(BUILD) && ctest -j $(JOBS) --output-on-failure

serve: build  ## fetch the default model and serve it
	@$(BUILD)/modu serve

.PHONY: help deps configure build test test-fast serve
