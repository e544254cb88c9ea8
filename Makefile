# Entry points. `make` lists them; CI runs exactly `make ready`.

.DEFAULT_GOAL := help
SHELL := /bin/bash
export PATH := $(CURDIR)/target/tools/bin:$(PATH)

.PHONY: help
help: ## List these targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{ printf "  make %-10s %s\n", $$1, $$2 }'

.PHONY: run
run: ## Build and start the product with the shipped DAGs and the demonstration fortnight (data in ./.tidemill).
	cargo run --release -- standalone --dags-dir dags --data-dir .tidemill --demo

.PHONY: tools
tools: ## Install what the tests need: Debian packages, cargo-nextest, cargo-deny.
	@.ci/packages
	@.ci/tools

.PHONY: test
test: tools ## Install what the tests need and run them all.
	cargo nextest run --workspace --no-fail-fast
	cargo test --workspace --doc

.PHONY: ready
ready: fmt lint doc test deny ## Everything that CI runs: format, lints, docs, tests, dependencies.

.PHONY: fmt
fmt: ## Check the format.
	cargo fmt --all --check

.PHONY: lint
lint: ## Run clippy; a warning is an error.
	cargo clippy --workspace --all-targets -- -D warnings

.PHONY: doc
doc: ## Build the documentation of every item, private ones too; a broken link is an error.
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

.PHONY: deny
deny: tools ## Check bans, licences and sources, and advisories where their database can be reached.
	@.ci/deny

.PHONY: bench
bench: ## Measure the budgets, each beside its floor.
	cargo build --release --package tidemill-cli --package tidemill-bench --bins
	$${CARGO_TARGET_DIR:-target}/release/tidemill-bench

.PHONY: kills
kills: ## The long form of the kill tests: 200 kills of standalone, 200 of server, 20 of a writing task.
	TIDEMILL_KILLS=200 cargo nextest run --workspace --no-capture -E 'package(tidemill-tests) & (test(kills::) | test(logs::))'

.PHONY: broken
broken: tools ## Show that the tests can fail: each deliberately broken variant must be caught (NAMES="a b" for some).
	tests/broken/run $(NAMES)

.PHONY: sim
sim: ## Run the long random histories of the engine (SEEDS=n, default 2000).
	PROPTEST_CASES=$${SEEDS:-2000} cargo nextest run --package tidemill-engine --release properties stories
