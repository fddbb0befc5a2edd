# Rohrpost's few tasks. Each is one line that a person could type as well.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

# Counting allocations costs time, so it is a feature that only the tests turn on.
FEATURES := $(if $(shell grep -s '^count-allocations' Cargo.toml),--features count-allocations)
TARGET := $(or $(CARGO_TARGET_DIR),target)
LOG := target/test.log

.PHONY: build run test tools fuzz bench instructions peers deb clean

build: ## the server, for use
	cargo build --release --locked

run: build ## a server to try out, and a sink that prints what it delivers
	@exec examples/run.sh $(TARGET)/release/rohrpost

test: tools ## everything; ends with the closing line of every runner
	@mkdir -p target && : > $(LOG)
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked $(FEATURES) -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked
	cargo test --workspace --locked --no-fail-fast $(FEATURES) 2>&1 | tee -a $(LOG)
	tests/tools/fuzz.sh 2>&1 | tee -a $(LOG)
	@echo && echo 'All closing lines:' && grep -E '^(test result|fuzz result|fuzz:)' $(LOG)

tools: ## compilers and foreign programs that the tests talk to, into target/tools
	@tests/tools/fetch.sh

fuzz: ## each fuzz target for a while: make fuzz FUZZ_SECONDS=600
	FUZZ_SECONDS=$(or $(FUZZ_SECONDS),60) tests/tools/fuzz.sh

bench: tools ## criterion's answers to the questions in benches/: make bench BENCH='--bench tls -- --quick'
	cargo bench --workspace --locked $(BENCH)
	@benches/ratios.py

instructions: ## what takes more instructions than it did: make instructions BLESS=--bless writes them down
	@benches/instructions.sh $(BLESS)

peers: build tools ## beside other servers, an hour alone on a machine: make peers PEERS=--quick for a look
	$(or $(ROHRPOST_TOOLS),target/tools)/bin/python3 benches/peers \
		$(if $(PEERS_SECONDS),--seconds $(PEERS_SECONDS)) $(PEERS)

deb: build ## a Debian package in target/debian
	packaging/deb.sh

clean:
	cargo clean
	rm -rf run fuzz/target fuzz/corpus
