# Everything a person or CI types. `make test` decides what lands.
SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
BUILT := $(TARGET)/x86_64-unknown-linux-gnu/release
STRATA := $(TARGET)/release/strata
export CARGO_TERM_COLOR ?= never
# What setup builds where the machine has none.
export PATH := $(PATH):$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/strata/bin
export SIG FOCUS PROCS RERUN TIMEOUT ONLY CLUSTERS SEED

.PHONY: help setup build test test-all lint unit e2e deny demo bench golden conformance conformance-share placement operators people interop containerd runtime-tools test-v2 critest cni kubelet ci fuzz overload clean

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## Install what building and testing need from Debian packages.
	@tests/setup.sh

build: ## Build target/release/strata and strata-runtime, static.
	$(CARGO) build --release --locked --package strata --features descriptions
	@mkdir -p $(TARGET)/release
	@ln -f $(BUILT)/strata $(STRATA)
	@cp -f "$$(ls -t $(BUILT)/build/strata-*/out/small/*/release/strata-runtime | head -1)" $(TARGET)/release/strata-runtime
	@ls -l $(STRATA) $(TARGET)/release/strata-runtime

lint: ## Formatting, clippy with warnings as errors, licences.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

unit: ## Unit, property and contract tests, and the repository's own checks.
	$(CARGO) xtask tidy
	$(CARGO) xtask licences
	$(CARGO) test --workspace --exclude strata-e2e --locked

e2e: build ## A real cluster, the real kubectl, real containers.
	STRATA_BINARY=$(abspath $(STRATA)) $(CARGO) test --package strata-e2e --locked -- --test-threads=1

deny: ## Advisories, licences and sources of dependencies (needs cargo-deny, and the network for advisories).
	$(CARGO) deny --locked check

test: setup lint unit e2e ## Everything that gates a change.

test-all: test deny ## The long form.

demo: ## A throwaway cluster, a deployment, a service, a request, timings.
	@tests/setup.sh build
	$(MAKE) build
	$(STRATA) --log warn demo

bench: setup build ## The budget's rows beside their peers, one table.
	bench/run

golden: build ## The recorded requests to kube-apiserver and to Strata; answers may differ only where tests/replay/allowed.txt says.
	bench/peers.sh "$${XDG_CACHE_HOME:-$$HOME/.cache}/strata-bench" >&2
	$(CARGO) run --quiet --locked --package strata-replay -- --strata $(STRATA) --peers "$${XDG_CACHE_HOME:-$$HOME/.cache}/strata-bench/bin"

conformance: setup build ## Kubernetes' own suite [SIG=..] [FOCUS=..] [PROCS=..] [RERUN=failed] [TIMEOUT=..]; needs Go.
	STRATA=$(abspath $(STRATA)) tests/conformance/run.sh

conformance-share: setup build ## The share of that suite that CI runs.
	STRATA=$(abspath $(STRATA)) SHARE=1 tests/conformance/run.sh

placement: ## Random clusters, placed by kube-scheduler's own plugins and by ours: every difference [CLUSTERS=..] [SEED=..]; needs Go.
	tests/placement/run.sh

operators: setup build ## Operators and clients of others, unmodified [ONLY=..]; needs Go, Java with Maven, Python.
	STRATA=$(abspath $(STRATA)) tests/operators/run.sh

people: setup build ## docker's client and ours, given the same commands against our engine; without the first, what it printed stands in.
	tests/people/run.sh $(abspath $(STRATA))

interop: setup build ## Every suite of others against the runtime, the container runtime interface and the shim, one last line; needs Go.
	STRATA=$(abspath $(STRATA)) RUNTIME_BINARY=$(abspath $(TARGET)/release/strata-runtime) tests/interop/run.sh

runtime-tools: setup build ## OCI runtime-tools' validation against strata-runtime, crun and runc [ONLY=..]; needs Go.
	RUNTIME_BINARY=$(abspath $(TARGET)/release/strata-runtime) tests/interop/runtime-tools/run.sh

containerd: setup build ## Debian's containerd with our shim: ctr, crictl, and what happens when either is killed.
	STRATA=$(abspath $(STRATA)) RUNTIME_BINARY=$(abspath $(TARGET)/release/strata-runtime) tests/interop/containerd/run.sh

test-v2: setup ## The runtime's tests under cgroup v2 alone in a QEMU guest, and with systemd as its first process [FORM=short|systemd].
	container/shim/tests/guest/run $(FORM)

critest: setup build ## cri-tools' validation and crictl against `strata cri` [FOCUS=..] [PROCS=..]; needs Go.
	STRATA=$(abspath $(STRATA)) tests/interop/critest/run.sh

cni: setup build ## Pods of `strata cri` on a network of Debian's plugins; needs critest's images.
	STRATA=$(abspath $(STRATA)) tests/interop/cni/run.sh

kubelet: setup build ## A pod under an upstream kubelet that has `strata cri`; needs Go, and critest's images.
	STRATA=$(abspath $(STRATA)) tests/interop/kubelet/run.sh

ci: ## What decides whether a change lands: the tests, a share of the conformance suite, critest.
	.ci/run

fuzz: ## Every fuzz target for SECONDS=60, with coverage feedback.
	fuzz/run all $(or $(SECONDS),60)

overload: build ## 10,000 connections, oversized bodies: the server goes on answering, its memory stays bounded; prints the figures.
	STRATA_BINARY=$(abspath $(STRATA)) $(CARGO) test --package strata-e2e --locked --test overload -- --ignored --nocapture

clean: ## Remove what was built.
	$(CARGO) clean
