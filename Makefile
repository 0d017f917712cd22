# `make demo` runs the whole thing on lab hosts on this machine; `make test` passes the tests. Both install the
# Debian packages that they miss (scripts/setup says which) when run as root.

AESOP_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/aesop
# Outside the checkout, so that a fresh clone builds quickly.
export CARGO_TARGET_DIR ?= $(AESOP_CACHE)/target
DEMO = $(CARGO_TARGET_DIR)/release/aesop

.PHONY: help demo demo-down build test check unit lab test-long bench

help:
	@echo 'make demo       from nothing to rows in Kafka and a lag mail, on lab hosts on this machine (root)'
	@echo 'make demo-down  removes the demo'
	@echo 'make test       formatting, lints, all tests; without root all but the lab tests'
	@echo 'make test-long  the lab tests with ten rounds of crashes, and the longer stories'
	@echo 'make bench      the benchmarks of bench/'

demo: build
	scripts/setup lab
	$(DEMO) demo

demo-down:
	$(DEMO) demo down

build:
	scripts/setup build
	cargo build --release --bins

test: check unit lab

check:
	scripts/setup build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny --log-level error check bans licenses sources; \
	else echo 'check: cargo-deny is not installed, so licences and sources were not checked'; fi

# The same random cases each time, so that what turns it red is a change and not chance; test-long draws new ones.
unit: export PROPTEST_RNG_SEED ?= 20261123
unit:
	cargo build --workspace --bins
	cargo test --workspace --lib --bins
	cargo test --test it
	cargo test -p relay --test fuzz

ifeq ($(shell id -u),0)
lab:
	scripts/setup lab
	cargo test --test lab
	cargo test -p relay --test database
else
lab:
	@echo 'lab: not root, so the lab tests are left out: tests/lab (hosts, story, add a host, crash and compare) and relay/tests/database (the oracle on real servers)'
endif

test-long:
	scripts/setup lab
	cargo build --workspace --bins
	for round in 1 2 3 4 5 6 7 8 9 10; do cargo test --workspace --lib || exit 1; done
	AESOP_LONG=1 AESOP_CRASH_ROUNDS=10 cargo test --test lab
	AESOP_FUZZ_ROUNDS=2000000 cargo test -p relay --test fuzz
	AESOP_LONG=1 AESOP_ORACLE_STATEMENTS=20000 cargo test -p relay --test database

bench: build
	scripts/setup lab
	bench/run
