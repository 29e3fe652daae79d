# Every target installs what this machine lacks and says what that is (scripts/install-parts).
#
#   make demo    a scheduler in one process, a short run of messages, and the proof that none was lost
#   make test    everything .ci/run runs but the checks below
#   make chaos   every fault on real Kafka and etcd, an hour: ARGS="--seed 7 clocks replays"
#   make check   format, clippy, cargo-deny, documentation, walls between crates
#   make local   real Kafka, real etcd, coordinators and workers: ARGS="--workers 3", ARGS=--observe
#   make tools   the command-line tools that the README and the hints use, in one folder for PATH
#   make sim     whole clusters under faults in virtual time: ARGS="--seeds 100000 --from 1", "--seed N --trace", "--mutants"
#   make experiment  ksched beside PostgreSQL and MariaDB on one plan, and a page that compares them (docs/EXPERIMENT.md)
#   make bench   the table of what speed is aimed at (three quarters of an hour); ARGS="--rate 5000 --duration 60s": one run
#
# Builds and downloads are kept under ~/.cache/ksched (KSCHED_CACHE), so that a second run is quick.

SHELL := /bin/bash
XDG_CACHE_HOME ?= $(HOME)/.cache
KSCHED_CACHE ?= $(XDG_CACHE_HOME)/ksched
CARGO_TARGET_DIR ?= $(KSCHED_CACHE)/target
export KSCHED_CACHE CARGO_TARGET_DIR
export PATH := $(KSCHED_CACHE)/bin:$(PATH)

BIN := $(CARGO_TARGET_DIR)/debug
RELEASE := $(CARGO_TARGET_DIR)/release
BENCH_DIR := $(KSCHED_CACHE)/bench
# What is shipped, without what the simulator and the chaos tests turn on in its crates.
PRODUCTS := -p ksched-server -p ksched-worker -p ksched-client -p ksched-standalone

.DEFAULT_GOAL := help
.PHONY: help demo test chaos check sim local tools bench experiment

help:
	@sed -n 's/^#   make/make/p' Makefile

# A first build leaves out what the experiment needs; a whole one that is there is not replaced by less.
demo:
	@scripts/install-parts build
	cargo build --locked -p ksched-standalone -p ksched-client $(if $(wildcard $(BIN)/ksched-worker),,--no-default-features)
	$(BIN)/ksched dev --demo $(ARGS)

# Binaries and tests in one build, so that they share what they depend on; the end-to-end tests run the binaries.
test:
	@scripts/install-parts test
	cargo build --locked --workspace --bins --tests
	KSCHED_BIN=$(BIN) deploy/check
	$(BIN)/ksched-sim --seeds 10000
	$(BIN)/ksched-sim --mutants --seeds 400
	cargo test --locked --workspace --no-fail-fast $(ARGS)

# The short ones are part of `make test`.
chaos:
	@scripts/install-parts test
	cargo build --locked --workspace --bins --tests
	cargo test --locked --workspace --test chaos -- --all $(ARGS)

check:
	@scripts/install-parts check
	cargo fmt --all --check
	scripts/check-seams
	scripts/check-logs
	cargo clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --workspace --no-deps
	cargo deny --locked check bans licenses sources

sim:
	@scripts/install-parts build
	cargo build --locked -p ksched-sim
	$(BIN)/ksched-sim $(ARGS)

local:
	@scripts/install-parts $(if $(findstring --observe,$(ARGS)),observe,local)
	cargo build --locked $(PRODUCTS)
	$(BIN)/ksched local up --coordinators 2 --workers 3 $(ARGS)

tools:
	@scripts/install-parts tools
	cargo build --locked -p ksched-client
	@echo 'export PATH=$(KSCHED_CACHE)/bin:$(BIN):$$PATH'

# A cluster of its own, gone afterwards whatever the outcome.
bench:
	@scripts/install-parts local
	cargo build --locked --release $(PRODUCTS)
	@set -e; [ -n "$(ARGS)" ] || exec scripts/bench-targets; \
	trap '$(RELEASE)/ksched local down --purge --dir $(BENCH_DIR)' EXIT; \
	up=$$($(RELEASE)/ksched local up --dir $(BENCH_DIR) --coordinators 2 --workers 3 --output json); \
	$(RELEASE)/ksched-client bench --server "$$(jq -r '.coordinators[0].grpc' <<< "$$up")" $(ARGS)

experiment:
	./messagescheduler $(or $(ARGS),--exp)
