# What people run. `make help` lists it; CI runs `make ci`.
# Everything also works with plain cargo: `cargo run --release -- demo`, `cargo test --workspace`.

CARGO ?= cargo
# One runner for both: nextest where it is installed, else cargo's own.
RUNNER = scripts/run-tests

.DEFAULT_GOAL := help
.PHONY: help demo test test-tools check ci lint docs tidy bench microbench bench-peers fmt fuzz simulate soak torture bridges-long bridges-soak

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## The whole thing on this machine for ten seconds, nothing else needed
	$(CARGO) run --release -- demo --for 10s

test: test-tools ## All tests, with a real PostgreSQL and a real mosquitto
	$(RUNNER)

test-tools: ## Install what the tests run against, where it is missing
	scripts/install-test-tools

check: fmt-check lint docs tidy test ## Everything that CI checks
.PHONY: fmt-check
fmt-check:
	$(CARGO) fmt --all --check

lint: ## clippy with warnings denied; shellcheck and cargo-deny where installed
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p weir-rules -p weir --features weir/jq --lib --bins --test jq --test functions --locked -- -D warnings
	@if command -v shellcheck >/dev/null; then shellcheck scripts/* .ci/run; \
	else echo 'shellcheck is not installed: the shell scripts were not checked'; fi
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --offline check licenses bans sources; \
	else echo 'cargo-deny is not installed: licences and duplicate versions were not checked'; fi

docs: ## The API documentation, with warnings denied
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --locked

tidy: ## Rules about the source that no compiler knows
	scripts/tidy

ci: ## What a submission must pass: `check`, then the release demo
	scripts/install-test-tools --with-linters
	$(MAKE) check
	scripts/demo-agrees

bench: ## weir and every broker installed here under the same load: one table; BENCH="--brokers weir,mosquitto" narrows it
	$(CARGO) build --release --locked
	target/release/weir bench compare $(BENCH)

microbench: ## Nanoseconds of the codec, the rules and the topic index alone
	$(CARGO) bench --workspace

bench-peers: ## Rule evaluation beside vrl, jaq, cel and rhai: one table; builds them first, which takes minutes
	cd benches/peers && $(CARGO) bench --locked

fmt: ## Format everything
	$(CARGO) fmt --all

fuzz: ## Fuzz each target for FUZZ_SECONDS (60); needs cargo-fuzz
	scripts/fuzz

simulate: ## 10,000 simulated brokers, each with clients that come, go, break off and are slow; SEEDS=100 for fewer
	WEIR_SIM_SEEDS=$(or $(SEEDS),10000) $(CARGO) test --release --locked -p weir --lib -- \
		nothing_is_lost_doubled_or_reordered what_mqtt_promises_holds

soak: test-tools ## The long version of the fault tests: a million messages, database away for a minute, 100,000 sessions
	WEIR_SOAK=1 $(CARGO) test --release -p weir --test faults -- --nocapture

torture: ## Everything around a weir is broken and the promises are counted; TORTURE="--for 30m --kills 220" for longer
	$(CARGO) build --release --locked
	target/release/weir torture $(TORTURE)

bridges-long: test-tools ## 100,000 messages over each kind of bridge while the remote is killed and hangs; a million wait; MESSAGES=20000 for fewer
	$(CARGO) build --release --locked
	BRIDGES_MESSAGES=$(or $(MESSAGES),100000) BRIDGES_BINARY=$(CURDIR)/target/release/weir \
		$(CARGO) test --locked -p weir --test faults -- --nocapture --test-threads 1 bridges:: --skip lessons

bridges-soak: test-tools ## Ten minutes of bridges to clouds that throw away or cut what crosses their limits: none is crossed; SOAK=60 for fewer seconds
	$(CARGO) build --release --locked
	BRIDGES_SOAK=$(or $(SOAK),600) BRIDGES_BINARY=$(CURDIR)/target/release/weir \
		$(CARGO) test --locked -p weir --test faults -- --nocapture bridges::soak
