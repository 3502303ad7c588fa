# The door of the house: `make` builds, `make demo` shows it at work, `make test` proves it. Each does its own set-up.
SHELL := /bin/sh
CMAKE ?= cmake
CTEST ?= ctest
PYTHON := .venv/bin/python
# A file that includes LibTorch takes 1.4 GB to compile, so memory limits the jobs as much as cores do.
JOBS ?= $(shell awk -v cores=$$(nproc) '/^MemAvailable/ { fit = int($$2 / 1600000) } \
          END { print fit < 1 ? 1 : fit < cores ? fit : cores }' /proc/meminfo)

.DEFAULT_GOAL := build
.PHONY: help setup build release demo check test test-dev test-asan test-tsan test-night sanitize fuzz fuzz-build fuzz-minimize check-cuda format format-check bench bench-build bench-quick bench-docs bench-other clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## install what is missing: Debian packages (as root) and .venv; does nothing on a ready machine
	@tools/setup.sh

# $(call built,PRESET): configured once; ninja configures again when a CMakeLists.txt changes.
built = { [ -f build/$(1)/build.ninja ] || $(CMAKE) --preset $(1); } && $(CMAKE) --build build/$(1) -j $(JOBS)
# Without address randomisation where that may be switched off: TSan of this compiler dies on kernels that randomise widely.
fixed_addresses = $(shell setarch -R true 2>/dev/null && echo setarch -R)
tested = $(CTEST) --test-dir build/$(1) --output-on-failure --no-tests=error -j $(JOBS)

build: setup  ## build everything into build/dev (the default)
	@$(call built,dev)

release: setup  ## build everything, optimised, into build/release
	@$(call built,release)

demo: build  ## train on 2 ranks, kill, resume on 3, compare with stock PyTorch: under 2 minutes once built
	@$(PYTHON) tests/demo/demo.py --build build/dev

check: setup format-check  ## the checks that build nothing: includes and format
	@$(PYTHON) tools/check_includes.py
	@$(PYTHON) tools/check_includes_test.py

# What is cheap comes first, so that a slip shows early.
test: check  ## all tests: checks, everything under dev, the file wing under ASan + UBSan and under TSan
	@$(MAKE) --no-print-directory test-asan
	@$(MAKE) --no-print-directory test-tsan
	@$(MAKE) --no-print-directory test-dev

test-dev: build  ## all tests without sanitizers
	@$(call tested,dev)

test-asan: setup  ## the file wing under ASan and UBSan
	@$(call built,asan)
	@$(call tested,asan)

test-tsan: setup  ## the file wing under TSan
	@$(call built,tsan)
	@$(fixed_addresses) $(call tested,tsan)

sanitize: test-asan test-tsan  ## both sanitizer runs

# How many times as many cases as in `make test`.
NIGHT_SCALE ?= 20
night_tests = crash/crash_point_test crash/power_loss_test crash/io_failure_test crash/allocation_failure_test \
              corruption/corruption_test simulation/simulation_test property/meshes_test soak/soak_test
test-night: check release  ## the random tests with NIGHT_SCALE (20) times as many cases, then all tests with more of each property
	@for test in $(night_tests); do echo "== $$test"; \
	   TESSERA_SCALE=$(NIGHT_SCALE) TESSERA_SOAK_MIB=160 build/release/tests/$$test || exit 1; done
	@TESSERA_SCALE=$(NIGHT_SCALE) $(PYTHON) tests/crash/kill.py --program build/release/tests/crash/save_program || [ $$? = 77 ]
	@$(PYTHON) tests/ranks/process_faults.py --save-rank build/release/tests/ranks/save_rank --all
	@$(call built,asan)
	@$(call built,tsan)
	@RC_PARAMS="max_success=2000" $(call tested,release)
	@RC_PARAMS="max_success=1000" $(call tested,asan)
	@RC_PARAMS="max_success=1000" $(fixed_addresses) $(call tested,tsan)

FUZZ_SECONDS ?= 60
fuzz-build:
	@tools/setup.sh fuzz
	@[ -f build/fuzz/build.ninja ] || $(CMAKE) --preset fuzz
	@$(CMAKE) --build --preset fuzz -j $(JOBS)

fuzz: fuzz-build  ## every parser under libFuzzer for FUZZ_SECONDS (60) each, two at a time; fails on a finding
	@$(PYTHON) tools/fuzz.py run --seconds $(FUZZ_SECONDS)

fuzz-minimize: fuzz-build  ## make the corpora of fuzz/corpus anew, with what `make fuzz` found
	@$(PYTHON) tools/fuzz.py minimize

check-cuda: setup  ## compile what is built only beside a LibTorch with CUDA, against its headers (fetches 1 GB once)
	@tools/check_cuda.sh

format: setup  ## format every C++ file in place
	@tools/check_format.sh --fix

format-check: setup  ## fail if clang-format would change a file
	@tools/check_format.sh

bench-build: setup
	@$(call built,release) --target benchmarks
	@tools/setup.sh bench

bench: bench-build  ## ours beside the peers and the machine's ceilings, into build/bench: results.json, a table, plots; half an hour
	@$(PYTHON) bench/bench.py --build build/release

bench-quick: bench-build  ## the same in under 5 minutes: fewer rounds, smaller states
	@$(PYTHON) bench/bench.py --build build/release --quick

bench-docs:  ## put what `make bench` found last into docs/benchmarks.md and docs/img
	@.venv-peers/bin/python bench/report.py build/bench --docs

bench-other: bench-build  ## conversions beside cp and stock, and what safety costs
	@$(PYTHON) bench/convert_bench.py --build build/release
	@mkdir -p build/bench/safety && build/release/bench/safety_bench --dir build/bench/safety

clean:  ## remove what was built; .venv and .venv-peers stay
	rm -rf build
