SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DEFAULT_GOAL := help

export CGO_ENABLED ?= 0
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILDFLAGS := -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
BUF := go tool -modfile=cmd/tools/buf.mod buf

.PHONY: help
help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build all binaries into bin/
	go build $(BUILDFLAGS) -o bin/ ./cmd/...

.PHONY: test
test: ## Run every test with the race detector
	CGO_ENABLED=1 go test -race ./...

.PHONY: generate
generate: ## Regenerate proto/gen
	$(BUF) generate --template buf.gen.provider.yaml
	$(BUF) generate --template buf.gen.broker.yaml
