# Everything a newcomer needs; `make` alone lists it. Works on Debian and Ubuntu with Rust and nothing else.

# What the build needs besides Rust: a linker and C headers (gcc, libc6-dev), glommio's build script (git), the
# machine's topology (libhwloc-dev, found by pkg-config).
PACKAGES := gcc libc6-dev git pkg-config libhwloc-dev python3 python3-venv
CARGO ?= cargo
# Any CPython from 3.9 on; and where the project's own packages for it are, which nobody else sees.
PYTHON ?= python3
VENV := target/python
# What a wheel needs of the system it is installed on.
MANYLINUX ?= manylinux_2_34
PYTHON_TOOLS := "maturin>=1.9,<2" pytest numpy mypy aiohttp
# How long each target is fuzzed.
FUZZ_SECONDS ?= 60
# Switches from one thread to another that did not ask for it, in one interleaving; and the crates with models.
LOOM_MAX_PREEMPTIONS ?= 3
LOOMED := snowskin-io snowskin-client snowskin-engine snowskin-bench
# How long the nightly run simulates.
SIM_MINUTES ?= 60
BINARIES := snowskin-engine snowskin-master snowskin-bench snowskin-tools

.DEFAULT_GOAL := help
.PHONY: help setup build run test lint format check sim canary watch nightly vm loom fuzz python wheel

help: ## list these targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: ## install what is missing (apt packages); silent when nothing is
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: install it from https://rustup.rs, then run make again" >&2; exit 1; }
	@missing=""; \
	if command -v dpkg-query >/dev/null; then \
		for package in $(PACKAGES); do \
			dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; \
		done; \
	fi; \
	if command -v cc >/dev/null && command -v git >/dev/null && pkg-config --exists hwloc 2>/dev/null \
		&& echo 'int main(void) { return 0; }' | cc -include stdio.h -x c -o /dev/null - 2>/dev/null \
		&& $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then exit 0; fi; \
	if [ -z "$$missing" ] || ! command -v apt-get >/dev/null; then \
		echo "needed: a C compiler with headers, git, pkg-config, hwloc 2 with headers, and Python 3.9 or later with venv; install them and run make again" >&2; exit 1; \
	fi; \
	sudo=""; \
	if [ "$$(id -u)" != 0 ]; then \
		command -v sudo >/dev/null || { echo "missing:$$missing; run as root: apt-get install$$missing" >&2; exit 1; }; \
		sudo="sudo"; \
	fi; \
	echo "installing:$$missing"; \
	$$sudo apt-get update -qq && \
	$$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null

build: setup ## build the binaries, optimised
	@$(CARGO) build --release $(addprefix -p ,$(BINARIES))

run: build ## see it work: a master, two engines and a replayed trace on this machine, half a minute
	@target/release/snowskin-bench demo

test: setup ## run all tests
	@$(CARGO) build --workspace --bins
	@$(CARGO) test --workspace
	@$(MAKE) --no-print-directory python
	@cd python && ../$(VENV)/bin/python -m pytest -q
	@cd python && ../$(VENV)/bin/python -m mypy

# The virtual environment is made anew when its tools change.
$(VENV)/made: Makefile
	@$(PYTHON) -m venv --clear $(VENV)
	@$(VENV)/bin/python -m pip install -q --disable-pip-version-check $(PYTHON_TOOLS)
	@touch $@

python: setup $(VENV)/made ## build the Python package for developers, in target/python: target/python/bin/python
	@mkdir -p python/snowskin.data
	@cd python && VIRTUAL_ENV=$(CURDIR)/$(VENV) ../$(VENV)/bin/maturin develop -q --profile dev

wheel: setup $(VENV)/made ## build the wheel, with the programs in it: target/wheels; pip install ./python does the same
	@$(VENV)/bin/python -m pip wheel -q --disable-pip-version-check --no-deps --wheel-dir target/wheels \
		--config-settings build-args="--compatibility $(MANYLINUX)" ./python
	@ls target/wheels/snowskin-*.whl

lint: setup ## formatting and clippy, warnings refused
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets -- -D warnings
	@$(CARGO) clippy -p snowskin-engine --no-default-features --lib -- -D warnings

format: ## format all sources
	@$(CARGO) fmt --all

check: lint test ## what continuous integration runs

loom: setup ## try every interleaving of what threads share
	@LOOM_MAX_PREEMPTIONS=$(LOOM_MAX_PREEMPTIONS) RUSTFLAGS="--cfg snowskin_loom" CARGO_TARGET_DIR=target/loom \
		$(CARGO) test $(addprefix -p ,$(LOOMED)) --release --lib loom

sim: setup ## run seeds of the simulated cluster under fire; SIM="--seed 7" runs one, SIM="--help" says what else
	@$(CARGO) run --release -q -p snowskin-tests --bin sim -- $(SIM)

canary: setup ## a build with a bug on purpose must fail in the simulator
	@RUSTFLAGS="--cfg snowskin_seeded_bugs" $(CARGO) build --target-dir target/seeded -p snowskin-tests --bin sim
	@if target/seeded/debug/sim --bug "acknowledged and not published" --seeds 0..20 >/dev/null; then \
		echo "the canary lives: the simulator does not find a bug that it must find" >&2; exit 1; \
	else echo "the canary died, as it must"; fi

watch: setup ## find every bug of docs/SEEDED-BUGS.md and print its table
	@RUSTFLAGS="--cfg snowskin_seeded_bugs" $(CARGO) build --release --target-dir target/seeded -p snowskin-tests --bin sim
	@target/seeded/release/sim --detect

nightly: setup ## SIM_MINUTES of seeds (60) with all situations reached, every seeded bug, loom
	@$(MAKE) --no-print-directory sim SIM="--minutes $(SIM_MINUTES) --coverage"
	@$(MAKE) --no-print-directory watch loom

vm: setup ## lose power in a virtual machine with an NVMe disk; SNOWSKIN_VM names the program that runs one (tests/src/vm.rs)
	@test -n "$(SNOWSKIN_VM)" || { echo "name a program that runs a virtual machine: make vm SNOWSKIN_VM=…; tests/src/vm.rs says how it is called" >&2; exit 1; }
	@$(CARGO) build --workspace --bins
	@SNOWSKIN_VM="$(SNOWSKIN_VM)" $(CARGO) test -p snowskin-ssd-tier --test tier power -- --nocapture --test-threads 1
	@SNOWSKIN_VM="$(SNOWSKIN_VM)" $(CARGO) test -p snowskin-tests --test vm -- --nocapture --test-threads 1

fuzz: setup ## fuzz every decoder, FUZZ_SECONDS each; installs cargo-fuzz and needs a nightly Rust
	@command -v cargo-fuzz >/dev/null || rustup run nightly $(CARGO) install cargo-fuzz --locked
	@for target in $$(sed -n 's/^name = "\([a-z_]*\)"$$/\1/p' fuzz/Cargo.toml); do \
		echo "-- $$target"; mkdir -p fuzz/target/corpus/$$target; \
		rustup run nightly $(CARGO) fuzz run $$target fuzz/target/corpus/$$target fuzz/corpus/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -verbosity=0 -print_final_stats=1 || exit 1; \
	done
