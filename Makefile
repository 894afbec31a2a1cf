# Everything a developer or the CI does here; CONTRIBUTING.md explains it.
SHELL := /bin/bash
export PATH := $(HOME)/.cargo/bin:$(PATH)

ARGS ?=
FUZZ_SECONDS ?= 60

.PHONY: run build test bench fmt lint clean setup setup-build fuzz

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

## fmt: format in place
fmt:
	cargo fmt --all

## lint: formatting and clippy, warnings are errors
lint: setup-build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

## fuzz: all targets together for FUZZ_SECONDS
fuzz: setup
	tests/fuzz/run $(FUZZ_SECONDS)

## setup: the Debian packages and the Python environment for building and testing
setup:
	tools/setup build test

setup-build:
	tools/setup build

clean:
	cargo clean
	rm -rf tests/fuzz/target tests/fuzz/artifacts tests/fuzz/corpus .venv sidetone-data
