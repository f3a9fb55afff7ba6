# Exeat. `make` lists the targets; `make demo` and `make test` do everything.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export GOFLAGS := -buildvcs=false
export CGO_ENABLED ?= 1

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X main.version=$(VERSION)
TIMEOUT ?= 15m

.PHONY: help tools build demo test lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools: ## put the pinned tools (Envoy, linters, test clients) under .tools/
	@tools/install envoy python schemathesis node npm lint

.PHONY: envoy
envoy:
	@tools/install envoy

build: envoy ## build exeatd, exeat and exeat-sidecar into bin/
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/exeatd ./cmd/exeat ./cmd/exeat-sidecar

demo: build ## run the main job on a real Envoy and tell the story
	@go build -trimpath -o bin/ ./examples/tickets/demo
	@bin/demo

test: tools lint build ## all tests, with the race detector
	go build -race -o bin/race/ ./cmd/exeatd ./cmd/exeat ./cmd/exeat-sidecar
	@EXEAT_BIN=$(CURDIR)/bin/race tools/gotest -race -timeout $(TIMEOUT) ./...

TIME ?= 10m
.PHONY: robustness
robustness: build ## anything dies, hangs or is parted for TIME (10m), and every call is checked
	EXEAT_BIN=$(CURDIR)/bin EXEAT_ROBUSTNESS_TIME=$(TIME) go test -count=1 -v -timeout 24h -run TestPromisesHoldUnderFaults ./test/robustness

lint: tools ## gofmt, go vet, staticcheck, golangci-lint
	@out=$$(gofmt -l $$(git ls-files -co --exclude-standard '*.go')); \
	  if [ -n "$$out" ]; then echo "gofmt: run gofmt -w on:"; echo "$$out"; exit 1; fi
	go vet ./...
	.tools/staticcheck ./...
	.tools/golangci-lint run ./...

clean: ## remove what was built; .tools stays
	rm -rf bin .demo
