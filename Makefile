# make run     start a relay on ws://127.0.0.1:7777, with its events in relay.db
# make test    install what is missing, then everything that CI runs: checks and tests
# make check   format, lints, documentation, unused dependencies, spelling, production files, alerts and dashboards, licences
# make unit    the tests inside the crates; make integration: those in */tests, which start real servers
# make deps    only install what is missing
# make up      a cluster on this machine: HAProxy, 3 relays, Redis, Postgres with 2 replicas (UP='--relays 5 --tls --observe')
# make down    end it; DIR=... for another directory than /var/tmp/skein, with both
# make bench   the relay over the wire, then micro-benchmarks
# make bench-store  each shape of filter on a PostgreSQL of its own: times and buffers next to their targets (EVENTS=3000000)
# make bench-cache  what the cache is worth, on a cluster of its own: off, cold, warm (EVENTS=300000 CACHE='--filters 30000')
# make bench-observe  what metrics, sampling and an open dashboard cost: processor time of each delivery, on against off
# make bench-cluster  from one instance to another: how soon events come, what they cost, how much goes over Redis
# make soak    the long tests

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := run
.PHONY: run test check unit unit-code unit-docs integration deps up down soak
.PHONY: bench bench-store bench-cache bench-cluster bench-front bench-observe
.PHONY: check-format check-lints check-docs check-unused check-spelling check-production check-observe check-licences check-workflow

# Tools that Debian does not have lie here, out of the way of the system's.
TOOLS := $(CURDIR)/target/tools
export PATH := $(TOOLS)/bin:$(PATH)

run:
	cargo run --release

# Runs each target to its end, then names those that failed.
define each
@failed=(); for target in $(1); do $(MAKE) --no-print-directory "$$target" || failed+=("$$target"); done; \
	if (($${#failed[@]})); then echo "make $@: failed: $${failed[*]}" >&2; exit 1; fi
endef

test: deps
	$(call each,check unit integration)

check:
	$(call each,check-format check-lints check-docs check-unused check-spelling check-production check-observe check-licences check-workflow)

check-format:
	cargo fmt --all --check
check-lints:
	cargo clippy --workspace --all-targets -- -D warnings
check-docs:
	RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps
check-unused:
	cargo machete
check-spelling:
	typos
check-production:
	scripts/check-production.sh
# No panel and no alert without a metric.
check-observe:
	cargo test --workspace --test observe
check-licences:
	cargo deny --log-level error check bans licenses sources
check-workflow:
	check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/ci.yml

# The two together run what `cargo test --workspace` runs.
unit:
	$(call each,unit-code unit-docs)
unit-code:
	cargo test --workspace --no-fail-fast --lib --bins
unit-docs:
	cargo test --workspace --no-fail-fast --doc
integration:
	cargo test --workspace --no-fail-fast --test '*'

deps:
	scripts/deps.sh "$(TOOLS)"

up:
	cargo run --release -p deploy -- up $(if $(DIR),--dir "$(DIR)") $(UP)

down:
	cargo run --release -p deploy -- down $(if $(DIR),--dir "$(DIR)")

bench:
	cargo build --release -p relay -p loadtest
	target/release/loadtest bench --spawn target/release/relay --json target/bench.json
	cargo bench -p relay

EVENTS ?= 1000000
bench-store:
	cargo run --release -p relay --example store_bench -- --postgres --events $(EVENTS)

bench-cache:
	cargo build --release -p relay -p loadtest
	target/release/loadtest cache --spawn target/release/relay --events $(EVENTS) $(CACHE)

bench-observe:
	cargo build --release -p relay -p loadtest
	scripts/bench-observe.py

bench-cluster:
	cargo build --release -p relay -p loadtest
	target/release/loadtest cluster --spawn target/release/relay --json target/bench-cluster.json

bench-front:
	scripts/bench-front.sh

# One at a time: they measure.
soak:
	cargo test --workspace --release --no-fail-fast -- --ignored --nocapture --test-threads=1
