SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help

# Binaries are static; only the race detector needs a C compiler.
export CGO_ENABLED := 0
# A semantic version, tagged or not: that is what a plugin has by contract.
VERSION := $(or $(patsubst v%,%,$(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null)),0.0.0-dev+$(shell git describe --always --dirty --exclude '*' 2>/dev/null || echo unknown))
BUILDFLAGS := -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
BUF := go tool -modfile=cmd/tools/buf.mod buf
LINT := go tool -modfile=cmd/tools/lint.mod golangci-lint
GOTESTSUM := go tool -modfile=cmd/tools/check.mod gotestsum
PKG := ./...
TESTFLAGS :=
ROUNDS := 30
SANDBOXES := 100000
STREAMS := 1000
CREATES := 1000
PROVIDERS := daytona fake local vercel
VENDOR :=
# The minor of the suite: reports of another are about another contract.
SUITE := $(shell sed -n 's/^const Version = "\([0-9]*\.[0-9]*\)\..*/\1/p' conformance/options.go)

.PHONY: help
help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build all binaries into bin/
	@mkdir -p bin
	go build -trimpath -buildvcs=false -ldflags '-s -w' -o bin/ ./cmd/sandbar-provider-local/sandbar-guest-agent
	go build $(BUILDFLAGS) -o bin/ ./cmd/sandbar ./cmd/sandbar/sandbar-broker ./cmd/sandbar-provider-local ./cmd/sandbar-provider-fake ./cmd/sandbar-provider-daytona ./cmd/sandbar-provider-vercel

# One package at a time: several of them start dozens of real sandboxes each,
# and side by side they would measure each other's load.
.PHONY: test
test: ## Run every test with the race detector (PKG=./broker/... for less)
	@command -v gcc >/dev/null || { echo "the race detector needs a C compiler: install gcc" >&2; exit 1; }
	CGO_ENABLED=1 $(GOTESTSUM) --format pkgname-and-test-fails -- -race -p 1 -timeout 40m $(TESTFLAGS) $(PKG)

.PHONY: conformance
conformance: build ## Test every provider and write docs/conformance (PROVIDERS="fake local")
	./.ci/conformance bin docs/conformance/$(SUITE) $(PROVIDERS)

.PHONY: conformance-live
conformance-live: build ## Test a provider against its vendor's service (VENDOR=vercel), with credentials from the environment
	./.ci/conformance-live bin dist/conformance-live/$(VENDOR) $(VENDOR)

.PHONY: soak
soak: build ## Test every provider ROUNDS times, each time with another seed
	./.ci/soak bin $(ROUNDS) $(PROVIDERS)

.PHONY: mutate
mutate: build ## Test the conformance suite: every case must find the bug it is for
	./bin/sandbar conformance mutate --matrix

.PHONY: bench
bench: build ## Measure the binaries and write docs/performance.md (ROUNDS=100 for more)
	go test -count=1 -timeout 60m -run '^TestMeasure$$' ./cmd/sandbar/internal/bench -args \
		-bin '$(CURDIR)/bin' -rounds $(ROUNDS) -report '$(CURDIR)/docs/performance.md'

.PHONY: scale
scale: build ## Fill a broker with SANDBOXES, follow STREAMS commands, and write docs/scale.md
	go test -count=1 -timeout 90m -run '^TestScale$$' ./cmd/sandbar/internal/bench -args \
		-bin '$(CURDIR)/bin' -scale $(SANDBOXES) -streams $(STREAMS) -scale-page '$(CURDIR)/docs/scale.md'

.PHONY: exactly-once
exactly-once: ## Create many sandboxes while answers are lost and the broker is killed (CREATES=1000)
	go test -count=1 -timeout 60m -v -run '^TestManyCreates$$' ./cmd/sandbar/internal/exactlyonce -args -exactly.creates $(CREATES)

.PHONY: lint
lint: ## Run the linters
	$(LINT) run $(PKG)

.PHONY: fmt
fmt: ## Format Go and proto files
	$(LINT) fmt
	$(BUF) format -w

.PHONY: generate
generate: ## Regenerate proto/gen
	rm -rf proto/gen
	$(BUF) generate --template buf.gen.provider.yaml
	$(BUF) generate --template buf.gen.broker.yaml

.PHONY: check-generate
check-generate: ## Check the contract and that proto/gen is current
	$(BUF) lint
	$(BUF) format --diff --exit-code
	@before=$$(find proto/gen -type f -exec sha256sum {} + | sort); \
	$(MAKE) --no-print-directory generate; \
	after=$$(find proto/gen -type f -exec sha256sum {} + | sort); \
	[[ "$$before" == "$$after" ]] || { echo "proto/gen was not current: run make generate and commit" >&2; exit 1; }

.PHONY: breaking
breaking: ## Check the contract against the last release (AGAINST=<git ref>)
	$(BUF) breaking --against '.git#ref=$(AGAINST)'

.PHONY: tidy
tidy: ## Tidy go.mod
	go mod tidy

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist

AGAINST := main
