# A thin front: what a person types. CMake does the work; deploy/install-dependencies what a bare machine lacks.
.DEFAULT_GOAL := help
BUILD ?= build
JOBS ?= $(shell nproc)
CTEST = ctest --output-on-failure -j $(JOBS)

help:  ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: deps-build  ## install what is missing and build build/modu
	@$(call configure,release,$(BUILD),-DMODU_TESTS=OFF -DMODU_BENCHMARKS=OFF)
	@cmake --build $(BUILD) -j $(JOBS) --target modu

serve: build  ## fetch the default model and serve it
	@exec $(BUILD)/modu serve

test: deps-test build/venv/.done  ## every test: fast, real model, end to end; the linter; the sanitizers
	@$(call configure,release,$(BUILD),-DMODU_TESTS=ON -DMODU_BENCHMARKS=ON)
	@cmake --build $(BUILD) -j $(JOBS)
	@deploy/fetch-promtool $(BUILD)/promtool
	@$(BUILD)/modu pull
	@cd $(BUILD) && $(CTEST)
	@tests/lint/run $(BUILD)
	@$(MAKE) --no-print-directory sanitize

test-fast: deps-test  ## the fast tests: no network, no real model
	@$(call configure,release,$(BUILD),-DMODU_TESTS=ON)
	@cmake --build $(BUILD) -j $(JOBS)
	@cd $(BUILD) && $(CTEST) -L fast

sanitize: sanitize-asan sanitize-tsan  ## fast tests under ASan+UBSan, and those without gRPC under TSan

# ASLR off where it may be: an older TSan runtime does not find its shadow memory under a kernel's wide one.
sanitize-asan sanitize-tsan: sanitize-%: deps-test
	@$(call configure,$*,build-$*,)
	@cmake --build build-$* -j $(JOBS) --target modu_fast_tests
	@cd build-$* && $$(setarch -R true 2>/dev/null && echo setarch -R) $(CTEST) -L fast

fuzz: deps-build deps-fuzz  ## every libFuzzer target for FUZZ_SECONDS (60) each
	@$(call configure,fuzz,build-fuzz,)
	@cmake --build build-fuzz -j $(JOBS) --target modu_fuzz_targets
	@tests/fuzz/run-all build-fuzz $${FUZZ_SECONDS:-60}

bench: deps-test  ## this machine's figures: kernels against their floors, and the server under load
	@$(call configure,release,$(BUILD),-DMODU_BENCHMARKS=ON)
	@cmake --build $(BUILD) -j $(JOBS)
	@benchmarks/run $(BUILD)

# Not part of test: it takes a minute or more of callgrind, and its numbers are those of one compiler.
instructions: deps-test deps-instructions  ## instructions of the hot loops against benchmarks/engine/instructions.json
	@$(call configure,release,$(BUILD),-DMODU_BENCHMARKS=ON)
	@cmake --build $(BUILD) -j $(JOBS) --target step_benchmark modu
	@$(BUILD)/modu pull >/dev/null
	@benchmarks/engine/instructions --binary $(BUILD)/step_benchmark --against benchmarks/engine/instructions.json

format:  ## clang-format all of our sources
	@deploy/install-dependencies lint
	@git ls-files '*.h' '*.cc' | xargs clang-format-19 -i

lint: build  ## clang-tidy over what changed since tests/lint/passed; commit what it writes there
	@deploy/install-dependencies lint
	@tests/lint/run $(BUILD)

build/venv/.done: tests/e2e/requirements.txt | deps-test
	@python3 -m venv build/venv && build/venv/bin/pip install -q -r $< && touch $@

deps-build deps-test deps-fuzz deps-instructions: deps-%:
	@deploy/install-dependencies $*

# configure(preset, folder, options): once, and again when the options differ from what the folder was made with.
configure = test -f $(2)/build.ninja && test "$$(cat $(2)/.options 2>/dev/null)" = "$(3)" || \
  { cmake --preset $(1) -B $(2) $(3) >$(2).log 2>&1 && mv $(2).log $(2)/configure.log && echo "$(3)" >$(2)/.options; } || \
  { cat $(2).log; exit 1; }

.PHONY: help build serve test test-fast sanitize sanitize-asan sanitize-tsan fuzz bench instructions format lint deps-build deps-test deps-fuzz deps-instructions
