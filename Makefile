# The only interface. `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := /bin/bash
NEXTEST := $(shell command -v cargo-nextest 2>/dev/null)
ifdef NEXTEST
RUN_TESTS = cargo nextest run --no-fail-fast
else
RUN_TESTS = cargo test --no-fail-fast
endif

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 15

# Says in one line what is missing, and how to get it.
tools:
	@command -v cargo >/dev/null || { echo "missing: Rust 1.95 or newer. Get it by rustup, or: apt-get install rustup && rustup toolchain install stable" >&2; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C compiler. Get it by: apt-get install gcc libc6-dev" >&2; exit 1; }

run: tools ## build and start a node on port 6379
	cargo build --release
	./target/release/ringwood server --config conf/ringwood.toml

cluster: tools ## start three nodes that form one store (127.0.0.1 to .3, port 7001); Ctrl-C stops them
	cargo build --release
	@trap 'kill $$(jobs -p) 2>/dev/null; wait' EXIT INT TERM; \
	for n in 1 2 3; do \
	  mkdir -p data/cluster/$$n; \
	  ./target/release/ringwood server --config conf/cluster/$$n.toml 2>&1 | sed -u "s/^/node-$$n | /" & \
	done; wait

deps: ## install what the tests need (Debian packages, as root)
	@missing=; \
	command -v redis-server >/dev/null || missing="$$missing redis-server"; \
	command -v npm >/dev/null || missing="$$missing nodejs npm"; \
	php -m 2>/dev/null | grep -q '^redis$$' || missing="$$missing php-cli php-redis"; \
	ruby -e 'require "redis-rack"; require "webrick"' 2>/dev/null || missing="$$missing ruby ruby-redis-rack ruby-webrick"; \
	python3 -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	command -v chromium >/dev/null || [ -n "$$CHROMIUM" ] || missing="$$missing chromium"; \
	[ -z "$$missing" ] || { [ "$$(id -u)" = 0 ] && apt-get update -qq && \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; } || \
	{ echo "missing:$$missing. As root: apt-get install$$missing" >&2; exit 1; }

test: tools deps ## all tests, and the client libraries
	$(RUN_TESTS)
	$(MAKE) clients
	$(MAKE) example-test

SIM_SEEDS ?= 20000
sim: ## whole clusters in one process, under virtual time (SIM_SEEDS=n worlds of each kind)
	RINGWOOD_SIM_SEEDS=$(SIM_SEEDS) $(RUN_TESTS) --test sim

clients: deps ## client libraries of Python, Node, PHP, Ruby and Rust against one node and three, and sessions while nodes are killed
	cargo build --release
	tests/clients/against_ringwood.sh

example: tools ## a shop on three nodes, with a network that can be cut: http://127.0.0.1:8080 (needs Node.js 20)
	@command -v npm >/dev/null || { echo "missing: nodejs npm. As root: apt-get install nodejs npm" >&2; exit 1; }
	cargo build --release
	cd examples/shop && npm ci --silent --no-audit --no-fund --omit=dev && exec node main.mjs

example-test: deps ## clicks through a conflict in that shop (SCREENSHOT=file)
	cargo build --release
	cd examples/shop && npm ci --silent --no-audit --no-fund && node test.mjs $(SCREENSHOT)

logic: ## the pure core alone, in seconds
	$(RUN_TESTS) --no-default-features

check: ## format, lints, documentation
	cargo fmt --check
	cargo clippy --all-targets -- -D warnings
	cargo clippy --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps --quiet
	@if cargo deny --version >/dev/null 2>&1; then cargo deny --offline check bans licenses sources; \
	else echo "not checked: licences and duplicates of crates (cargo install --locked cargo-deny)"; fi

audit: ## known holes in the crates that are used (needs cargo-deny and its database)
	cargo deny check advisories

mutants: ## which changes of logic/ no test notices (needs cargo-mutants; hours)
	cargo mutants --no-shuffle --jobs 2 --no-default-features --file 'src/logic/**/*.rs' --baseline skip --timeout 90 \
	  $(if $(NEXTEST),--test-tool nextest) $(foreach t,lib test=causal_laws test=type_laws test=membership test=placement,--cargo-arg=--$t)

docs: ## write docs/compat.md, docs/facts.md and conf/ringwood.toml from their tables
	RINGWOOD_WRITE_DOCS=1 cargo test --test tidy

bench: deps ## side by side with redis-server: a table of ratios
	cargo build --release
	python3 benches/side_by_side.py

bench-long: deps ## ten million SETs over ten million keys, beside redis-server
	cargo build --release
	python3 benches/long_run.py

bench-types: deps ## one element of collections of ten to a million, beside redis-server
	cargo build --release
	python3 benches/elements.py

bench-cluster: deps ## three nodes beside one and redis-server, then one is killed
	cargo build --release
	python3 benches/cluster.py

# How long: a minute each. CI does always the same instead.
FUZZ_LIMIT ?= -max_total_time=60
# libFuzzer's coverage instrumentation, with flags that the stable compiler takes.
FUZZ_FLAGS = -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
  -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares
FUZZ_TARGET = $(shell rustc -vV | sed -n 's/host: //p')

fuzz: ## a minute of fuzzing each for requests, rows, other nodes' messages and contexts (FUZZ_LIMIT=-max_total_time=600)
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --release --manifest-path fuzz/Cargo.toml \
	  --target $(FUZZ_TARGET) --target-dir target/fuzz
	for t in resp row peer token; do mkdir -p target/fuzz/corpus/$$t && \
	  target/fuzz/$(FUZZ_TARGET)/release/$$t $(FUZZ_LIMIT) -max_len=4096 \
	  -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
	  -artifact_prefix=target/fuzz/ target/fuzz/corpus/$$t || exit 1; done

# The logic's own tests are among all; that it stands alone is seen by the lints.
ci: FUZZ_LIMIT = -seed=1 -runs=1000000
ci: check test fuzz ## what CI runs

.PHONY: help tools run cluster deps test sim clients example example-test logic check audit mutants docs bench bench-long bench-types bench-cluster fuzz ci
