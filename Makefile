# Two commands: make run, make test. make check is what a change has to pass.

GO      ?= go
VERSION := $(shell git describe --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: run build test long check vet race desk desk-check desk-modules needs bench bench-parts clean

run: build
	./holdline serve

build:
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)' -o holdline .

# Everything, Postgres and browsers included; needs installs what is missing.
test: needs desk-modules
	$(GO) test -timeout 25m ./...
	cd agentd/desk && npm test && npm run browser

# What takes too long for every change: longer storms, and a cluster whose servers are killed and frozen.
long: needs desk-modules
	HOLDLINE_LONG=1 $(GO) test -timeout 60m ./test ./broker/journal/jetstream

check: needs desk-modules vet desk-check test race

vet:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || { echo "gofmt these:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) vet -tags killpoints ./...
	$(GO) mod verify

# The packages with goroutines, under the race detector; test/ runs the real binary instead.
race:
	$(GO) test -race -short -timeout 20m . ./chat/... ./broker/... ./bridge/... ./storage/... ./agentd/...

# The desk: dist is committed, so Go alone builds the product.
desk: desk-modules
	cd agentd/desk && npm run build

desk-check: desk-modules
	./agentd/desk/check.sh

desk-modules:
	cd agentd/desk && npm ci --no-audit --no-fund --loglevel=error

# What the tests need beyond Go and node, from Debian's packages.
needs:
	@./test/needs.sh

# Ours against mosquitto, in the same run: BENCH='-only pairs -runs 5', say.
bench: build
	$(GO) run ./test/load -holdline ./holdline $(BENCH)

# The parts one by one.
bench-parts:
	$(GO) test -run '^$$' -bench . -benchtime 3s ./broker/... ./bridge/... ./storage/...

clean:
	rm -rf holdline bin test/artifacts agentd/desk/node_modules
