# The commands of the project. `make` lists them.

SHELL := /bin/bash
# Heavy outputs live outside the checkout, so that a fresh clone starts warm.
CACHE := $(HOME)/.cache/inferyard
export CARGO_TARGET_DIR ?= $(CACHE)/target
export INFERYARD_BIN := $(CARGO_TARGET_DIR)/release/inferyard
DENY := $(CACHE)/tools/bin/cargo-deny
# Where the demo listens; port 0 takes a free one.
LISTEN ?= 127.0.0.1:8080

say = @printf '\033[1m==>\033[0m %s\n'

.PHONY: help
help:  ## list the commands
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

.PHONY: demo
demo: build  ## serve the demo model and send it three requests; Ctrl-C ends (ONCE=1: end after them)
	@ONCE=$(ONCE) LISTEN=$(LISTEN) examples/demo

.PHONY: cluster
cluster: build  ## boot a Kubernetes here, install the chart, serve the demo model; Ctrl-C ends (ONCE=1: end after an answer)
	@.ci/prerequisites cluster
	@ONCE=$(ONCE) PORT=$(lastword $(subst :, ,$(LISTEN))) examples/cluster

.PHONY: test
test:  ## everything CI runs
	@.ci/prerequisites test
	@.ci/prerequisites cluster
	@e2e/cluster/build --beside $(MAKE) --no-print-directory lint chart unit e2e
	$(say) "all tests passed"

.PHONY: build
build:  ## build the one binary
	@.ci/prerequisites build
	$(say) "building inferyard (the first build compiles llama.cpp and takes some minutes)"
	@cargo build --locked --release -p inferyard

.PHONY: lint
lint:  ## format, lints, house rules, import circles, dependencies of crates, licences
	@.ci/prerequisites test
	$(say) "format, house rules, import circles, dependencies of crates"
	@cargo fmt --all --check
	@.ci/tidy
	@.ci/circles
	@.ci/dependencies
	$(say) "clippy"
	@cargo clippy --locked --release --workspace --exclude inferyard-proto-codegen --all-targets -- -D warnings
	@cargo clippy --locked --release -p inferyard-proto-codegen --all-targets -- -D warnings
	$(say) "licences, bans, sources"
	@$(MAKE) --no-print-directory deny

.PHONY: chart
chart:  ## the Helm chart: its templates, its schema, what it makes for each Kubernetes
	@.ci/prerequisites cluster
	@charts/check

.PHONY: deny
deny: $(DENY)
	@$(DENY) --log-level error check licenses bans sources

$(DENY):
	$(say) "building cargo-deny (once)"
	@CARGO_TARGET_DIR=$(CACHE)/target-tools cargo install --quiet --locked --root $(CACHE)/tools \
	  --no-default-features cargo-deny@0.20.2

.PHONY: advisories
advisories: $(DENY)  ## look up known vulnerabilities (needs the network)
	@$(DENY) check advisories

.PHONY: unit
unit:  ## cargo's tests: units, properties, snapshots, real gRPC and HTTP, a real API server
	@.ci/prerequisites test
	@.ci/prerequisites cluster
	$(say) "cargo test"
	@e2e/cluster/with-api cargo test --locked --release --workspace --exclude inferyard-proto-codegen --no-fail-fast
	@cargo test --locked --release -p inferyard-proto-codegen

.PHONY: e2e
e2e: build  ## black-box tests: the binary with the OpenAI SDKs, and a real Kubernetes
	@.ci/prerequisites test
	@.ci/prerequisites cluster
	$(say) "black-box tests"
	@e2e/run $(E2E)

# None of these is a part of `make test`.
RUNS ?= 20
SEEDS ?= 100

.PHONY: gemma
gemma:  ## the worker with a real base model, Gemma 3 270M, which is fetched once
	@.ci/prerequisites build
	@.ci/gemma
	@cargo test --locked --release -p inferyard-engine-embedded --test gemma

.PHONY: busy
busy:  ## cargo's tests that wait or draw, RUNS times (20), AT_ONCE (1) of them together, while every core is busy: a row for each test that failed
	@.ci/prerequisites test
	@.ci/prerequisites cluster
	$(say) "$(RUNS) busy runs of cargo's tests"
	@e2e/cluster/with-api .ci/busy rust $(RUNS)

.PHONY: busy-e2e
busy-e2e: build  ## the same of the black-box tests that start servers of their own
	@.ci/prerequisites test
	@.ci/busy e2e $(RUNS) $(E2E)

.PHONY: busy-cluster
busy-cluster: build  ## the same of those against a real Kubernetes
	@.ci/prerequisites test
	@.ci/prerequisites cluster
	@.ci/busy cluster $(RUNS) $(E2E)

.PHONY: soak
soak:  ## the tests that draw their cases, with SEEDS new seeds (100); prints the seed that failed
	@.ci/prerequisites test
	$(say) "$(SEEDS) seeds"
	@.ci/soak $(SEEDS)

.PHONY: kubernetes
kubernetes:  ## build the Kubernetes of the tests (5 minutes, once); boot it with e2e/cluster/ctl
	@.ci/prerequisites cluster
	@e2e/cluster/build

.PHONY: image
image: build  ## the OCI image of the binary, without a registry, into inferyard.tar
	@image/build inferyard.tar

.PHONY: bench
bench: build  ## the figures of docs/performance.md
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench

.PHONY: bench-limits
bench-limits: build  ## what a decision about limits costs Redis, and a request
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench limits

.PHONY: bench-peers
bench-peers: build  ## the CPU that the router takes, beside SMG, vllm-router, LiteLLM, HAProxy and nginx
	@.ci/prerequisites bench
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench peers

.PHONY: bench-standing
bench-standing: build  ## what routers take while little happens: added latency, idle, open streams
	@.ci/prerequisites bench
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench standing

.PHONY: bench-cores
bench-cores: build  ## the embedded engine on quiet, shared and limited cores, beside llama.cpp (6 minutes; root for the last)
	@.ci/prerequisites build
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench cores

.PHONY: bench-fairness
bench-fairness: build  ## what a flood of one plan does to another one
	@.ci/prerequisites bench
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench fairness

.PHONY: bench-traces
bench-traces:  ## recorded traffic over simulated fleets: TRACES="FILE.jsonl FILE.csv"
	@.ci/prerequisites build
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench traces $(TRACES)

.PHONY: bench-live
bench-live: build  ## the same traffic in real time, on real routers, SMG's among them: TRACES="FILE.jsonl FILE.csv"
	@.ci/prerequisites bench
	@cargo build --locked --release -p inferyard-bench
	@$(CARGO_TARGET_DIR)/release/inferyard-bench live $(TRACES)

.PHONY: bench-operator
bench-operator: build  ## what 1,000 models cost the operator, on a real Kubernetes
	@.ci/prerequisites cluster
	@e2e/run cluster_tests/bench_operator.py

.PHONY: train-demo
train-demo:  ## train the demo model anew (about an hour on 2 cores)
	@crates/demo-model/recipe/run
