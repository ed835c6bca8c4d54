# Everything that people do with this repository. `make help` lists it.

GO       ?= go
BIN      := bin/vale-vmnet
VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -X github.com/vale-vmnet/vale-vmnet/plugin/version.Version=$(VERSION)
PREFIX   ?= /usr/local
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0
FUZZTIME ?= 3s
ROUNDS   ?= 5

.PHONY: help build install demo test lint unit race fuzz e2e bench bench-core bench-peers bench-tcp bench-idle clean

help: ## this list
	@awk -F': .*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## the program, bin/vale-vmnet
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/vale-vmnet

install: ## the program, below PREFIX (/usr/local); built before, since root may have no Go
	@test -x $(BIN) || { echo "there is no $(BIN) yet: run \"make build\" first"; exit 1; }
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/vale-vmnet

demo: ## two guests on one switch, ping and iperf3 between them; KEEP=1 keeps them
	@deploy/deps.sh demo
	@$(GO) run ./deploy/demo $(if $(KEEP),-keep)

test: ## everything that CI runs; installs what it needs when root
	deploy/deps.sh test
	$(MAKE) lint unit race fuzz e2e

lint: ## formatting, vet and a few linters
	@test -z "$$(gofmt -l .)" || { echo "not formatted (run gofmt -w):"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) run $(LINT) run ./...

unit: ## unit and property tests
	$(GO) test -timeout 5m $$($(GO) list ./... | grep -v /deploy/)

race: ## the same under the race detector
	$(GO) test -race -timeout 8m -short ./vale/... ./plugin/... ./configs/... ./hypervisor

fuzz: ## each fuzz target for FUZZTIME (3s)
	@set -e; for file in $$(grep -rl --include='*_test.go' '^func Fuzz' .); do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$file); do \
			echo "fuzz $$target ($$(dirname $$file))"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) ./$$(dirname $$file) >/tmp/vale-fuzz.$$$$ 2>&1 || { cat /tmp/vale-fuzz.$$$$; exit 1; }; \
			rm -f /tmp/vale-fuzz.$$$$; \
		done; \
	done

e2e: ## real guests, DPDK and the real agent
	$(GO) test -timeout 20m ./deploy/...

bench: bench-core bench-peers bench-tcp bench-idle ## all benchmarks: figures are ratios within one run

bench-core: ## the switch in process beside a copy loop
	$(GO) run ./deploy/bench/core -rounds $(ROUNDS)

bench-peers: ## the agent beside dpdk-testpmd and OVS-DPDK
	deploy/deps.sh bench
	$(GO) run ./deploy/bench -rounds $(ROUNDS)

bench-tcp: ## TCP between guests beside tap and Linux bridge
	deploy/deps.sh bench
	$(GO) run ./deploy/bench -targets tcp -rounds 3 -out bench-tcp.csv

bench-idle: ## the agent with 64 idle guests
	$(GO) run ./deploy/bench/idle

clean: ## what was built here
	rm -rf bin bench*.csv
