# Everything a developer or the CI does here; CONTRIBUTING.md explains it.
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

ARGS ?=
FUZZ_SECONDS ?= 60
# Of bench-relay and bench-ai: how often everything is measured, and 1 for a short and coarse look.
export REPEATS ?= 3
export QUICK ?=
# What the comparison is started with, as "chrt -f 30 taskset -c 1" on a busy machine.
BENCH_WITH ?=
KERNELS = benches/kernels/target/release/bench-kernels

.PHONY: run build test bench bench-kernels bench-websocket bench-ai bench-bystanders bench-relay dsp-report fmt lint clean setup setup-build setup-bench fuzz

## run: build the release binary and start it (ARGS="--sip-bind 127.0.0.1:5070" passes flags)
run: build
	./target/release/sidetone $(ARGS)

build: setup-build
	cargo build --release --locked

## test: every check a reviewer would run; the last line counts them
test: setup
	tests/run

## bench: criterion benches; the commands of the load figures are in docs/performance.md
bench: setup-build
	cargo bench --bench engine --bench signaling --bench rings

## bench-kernels: our kernels beside Debian's libraries; writes docs/performance.md and docs/dsp.md
bench-kernels: setup-bench
	cargo build --release --locked --manifest-path benches/kernels/Cargo.toml
	$(BENCH_WITH) $(KERNELS) --write docs/performance.md
	$(KERNELS) --quality docs/dsp.md

## bench-websocket: WebSocket libraries, base64 and JSON on the messages of an AI stream; see docs/decisions/0015
bench-websocket:
	cargo build --release --locked --manifest-path benches/websocket/Cargo.toml
	$(BENCH_WITH) benches/websocket/target/release/bench-websocket

## bench-ai: AI streams on one media core and one stream core; writes docs/performance.md (REPEATS=3, QUICK=1)
bench-ai: setup-build
	cargo build --release --locked -p sidetone -p sidetone-tools
	$(BENCH_WITH) timeout --foreground --kill-after=20 480 target/release/bench-ai --repeats $(REPEATS) $(if $(QUICK),--quick) --write docs/performance.md $(ARGS)

## bench-bystanders: what ten calls whose backends misbehave do to ninety others; writes docs/performance.md (REPEATS=3, QUICK=1)
bench-bystanders: setup-build
	cargo build --release --locked -p sidetone -p sidetone-tools
	$(BENCH_WITH) timeout --foreground --kill-after=20 480 target/release/bench-ai --bystanders 90 -d 15 --repeats $(REPEATS) $(if $(QUICK),--quick) --write docs/performance.md $(ARGS)

## bench-relay: rtpengine and sidetone as relays on one core, in turn; as root; writes docs/performance.md (REPEATS=3, QUICK=1)
bench-relay: setup-build
	benches/relay/run --write docs/performance.md

## dsp-report: the quality of our kernels and of Debian's libraries on the same signals; writes docs/dsp.md
dsp-report: setup-bench
	cargo build --release --locked --manifest-path benches/kernels/Cargo.toml
	$(KERNELS) --quality docs/dsp.md

## fmt: format in place
fmt:
	cargo fmt --all
	cargo fmt --manifest-path benches/kernels/Cargo.toml
	cargo fmt --manifest-path benches/websocket/Cargo.toml

## lint: formatting and clippy, warnings are errors
lint: setup-bench
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo fmt --manifest-path benches/kernels/Cargo.toml --check
	cargo fmt --manifest-path benches/websocket/Cargo.toml --check
	cargo clippy --release --all-targets --locked --manifest-path benches/kernels/Cargo.toml -- -D warnings

## fuzz: all targets together for FUZZ_SECONDS
fuzz: setup
	tests/fuzz/run $(FUZZ_SECONDS)

## setup: the Debian packages and the Python environment for building, testing and comparing
setup:
	tools/setup build test bench

setup-build:
	tools/setup build

setup-bench:
	tools/setup build bench

clean:
	cargo clean
	rm -rf benches/kernels/target benches/websocket/target tests/fuzz/target tests/simd/target tests/fuzz/artifacts tests/fuzz/corpus .venv .venv-vendors sidetone-data
