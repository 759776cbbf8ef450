# What people and .ci/run do with this repository. "make help" lists it.
# Needed: Go, git and make. Everything else is built from the modules under
# test/tools, which pin it apart from the main module.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
IMAGE ?= sallyport:$(VERSION)
ARGS ?=
FUZZTIME ?= 30s
KEEP ?=

# The flags of the image for everything: one build cache, and no need of a C compiler.
export CGO_ENABLED ?= 0
export GOFLAGS := $(strip $(GOFLAGS) $(if $(findstring -trimpath,$(GOFLAGS)),,-trimpath))

TOOLS := bin/tools
LINT := $(TOOLS)/golangci-lint
CONTROLLER_GEN := $(TOOLS)/controller-gen
CRD_REF_DOCS := $(TOOLS)/crd-ref-docs

# What "make generate" writes, and "make verify" compares.
GENERATED = $(wildcard api/*/zz_generated.deepcopy.go api/*/*/zz_generated.deepcopy.go) \
	config/crd/bases config/rbac/role.yaml config/gateway/role.yaml config/authorizer/role.yaml $(wildcard policies/*/guardrail*.yaml) \
	$(addprefix docs/reference/,api.md metrics.md cli.md decision-log.md guardrail-input.md policies.md)

# What the end-to-end tests run, brought before them with progress shown.
PROGRAMS := etcd kube-apiserver kube-controller-manager kubectl kubelet ocm-work ocm-placement ocm-serviceaccount opa
PEER_PROGRAMS := $(PROGRAMS) karmada-aggregated-apiserver karmada-controller-manager kustomize-controller \
	konnectivity-server konnectivity-agent

# Packages with end-to-end tests against real peers, by their build tag.
# Of these packages only those tests: "make test" has run the others.
PEER_TESTS = $(shell grep -rlsE '^//go:build .*\bpeers\b' --include='*_test.go' internal test \
	| xargs grep -hoE '^func Test[A-Za-z0-9_]+' | sed 's/^func //' | sort -u | paste -sd'|')
PEERS = $(sort $(dir $(shell grep -rlsE '^//go:build .*\bpeers\b' --include='*_test.go' internal test)))

.PHONY: help
help: ## List the targets.
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

##@ Build

.PHONY: build
build: ## Build bin/sallyport, and bin/kubectl-sallyport beside it.
	@$(GO) build -ldflags '-s -w -X main.version=$(VERSION)' -o bin/sallyport ./cmd/sallyport
	@ln -sf sallyport bin/kubectl-sallyport
	@echo "built bin/sallyport $(VERSION)"

.PHONY: image
image: ## Build the container image IMAGE with docker.
	docker build --build-arg VERSION=$(VERSION) --tag $(IMAGE) .

##@ Test

.PHONY: test
test: ## Run the unit, property and end-to-end tests (ARGS are passed to go test).
	@$(GO) run ./test/prepare $(PROGRAMS)
	@begin=$$SECONDS; $(GO) test -count 1 -p 2 -timeout 40m $(ARGS) ./... \
		&& $(GO) -C test/rbac test -count 1 -timeout 20m $(ARGS) ./... \
		&& echo "make test: passed in $$((SECONDS - begin)) s" \
		|| { echo "make test: FAILED after $$((SECONDS - begin)) s"; exit 1; }

.PHONY: test-peers
test-peers: ## Run the end-to-end tests with real Karmada, Flux and konnectivity (ARGS as above).
	@$(GO) run ./test/prepare $(PEER_PROGRAMS)
	@begin=$$SECONDS; test -n "$(strip $(PEERS))" || { echo "make test-peers: no package has tests with the tag peers"; exit 0; }; \
	$(GO) test -count 1 -p 1 -timeout 60m -tags peers -run '^($(PEER_TESTS))$$' $(ARGS) $(addprefix ./,$(PEERS)) \
		&& echo "make test-peers: passed in $$((SECONDS - begin)) s" \
		|| { echo "make test-peers: FAILED after $$((SECONDS - begin)) s"; exit 1; }

.PHONY: race
race: ## Run the tests of the internal packages with the race detector, which needs a C compiler.
	@$(GO) run ./test/prepare $(PROGRAMS)
	@CGO_ENABLED=1 $(GO) test -race -count 1 -p 1 -timeout 60m $(ARGS) ./internal/... ./controllers/...

.PHONY: bench
bench: ## Run the benchmarks and print the figures beside the targets.
	@$(GO) run ./test/bench $(ARGS)

.PHONY: fuzz
fuzz: ## Fuzz every fuzz target in turn, each for FUZZTIME (30s).
	@found=0; while IFS=: read -r file func; do \
		found=$$((found + 1)); echo "fuzz $$(dirname $$file) $$func for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$$func\$$" -fuzztime $(FUZZTIME) "./$$(dirname $$file)"; \
	done < <(grep -rsoE '^func Fuzz[A-Za-z0-9_]*' --include='*_test.go' api cmd controllers internal test | sed 's/:func /:/' | sort); \
	echo "make fuzz: $$found targets, nothing found"

##@ Check

.PHONY: lint
lint: $(LINT) ## Run golangci-lint, built once from test/tools/lint.
	@$(LINT) run $(ARGS)

.PHONY: generate
generate: $(CONTROLLER_GEN) $(CRD_REF_DOCS) ## Generate deep copies, CRDs, Sallyport's RBAC and the references.
	@rm -f config/crd/bases/*.yaml
	@$(CONTROLLER_GEN) object paths=./api/... 
	@$(CONTROLLER_GEN) crd paths=./api/v1alpha1/... output:crd:dir=config/crd/bases
	@$(CONTROLLER_GEN) rbac:roleName=sallyport-controller paths=./controllers/... paths=./internal/audit/... paths=./internal/admission/... output:rbac:dir=config/rbac
	@$(CONTROLLER_GEN) rbac:roleName=sallyport-gateway paths=./internal/gateway/rights/... paths=./internal/snapshot/... output:rbac:dir=config/gateway
	@$(CONTROLLER_GEN) rbac:roleName=sallyport-authorizer paths=./internal/snapshot/... output:rbac:dir=config/authorizer
	@mkdir -p docs/reference
	@$(CRD_REF_DOCS) --log-level=WARN --source-path=api --config=test/tools/generate/crd-ref-docs.yaml \
		--renderer=markdown --output-path=docs/reference/api.md
	@$(GO) test ./cmd/sallyport -run '^TestReference$$' -update >/dev/null
	@$(GO) test ./internal/decisionlog -run '^TestReference$$' -update >/dev/null
	@$(GO) test ./test/docs -run '^TestMetrics$$' -update >/dev/null
	@$(GO) test ./policies -run '^(TestModules|TestIndex|TestInputReference)$$' -update >/dev/null

.PHONY: verify
verify: ## Fail if generated files, formatting, modules or go vet are not in order.
	@before=$$(mktemp -d); trap 'rm -rf "$$before"' EXIT; cp -r --parents $(GENERATED) "$$before"; \
	$(MAKE) --no-print-directory generate; \
	for f in $(GENERATED); do diff -ruN "$$before/$$f" "$$f" \
		|| { echo "verify: $$f was not what \"make generate\" makes of the sources; it has just been regenerated"; exit 1; }; done
	@unformatted=$$(git ls-files -co --exclude-standard '*.go' | xargs -r ls -d 2>/dev/null | xargs -r gofmt -l); \
	test -z "$$unformatted" || { echo "verify: not formatted by gofmt:"; echo "$$unformatted"; exit 1; }
	@$(GO) mod tidy -diff
	@for m in test/tools/*/go.mod test/rbac/go.mod; do $(GO) -C "$$(dirname $$m)" list -m all >/dev/null; done
	@$(GO) vet ./...
	@$(GO) vet -tags peers ./internal/... ./test/...
	@echo "make verify: generated files, formatting, modules and vet are in order"

##@ Demo

.PHONY: demo
demo: ## Play the story on real control planes (KEEP=1 leaves it running).
	@$(GO) run ./test/demo $(if $(filter 1 true yes,$(KEEP)),-keep) $(ARGS)

.PHONY: demo-stop
demo-stop: ## End what "make demo KEEP=1" left running.
	@$(GO) run ./test/demo -stop

# The tools. Each is rebuilt when the module that pins it changes.

define build_tool
	@mkdir -p $(@D)
	@echo "building $(@F) from $(<D) (once)"
	@$(GO) -C $(<D) build -v -o "$(CURDIR)/$@" $(1) 2>&1 | awk \
		'/^[^ #]+$$/ {if (++n % 100 == 0) {print "  " n " packages"; fflush()} next} {print}'
endef

$(LINT): test/tools/lint/go.mod
	$(call build_tool,github.com/golangci/golangci-lint/v2/cmd/golangci-lint)

$(CONTROLLER_GEN): test/tools/generate/go.mod
	$(call build_tool,sigs.k8s.io/controller-tools/cmd/controller-gen)

$(CRD_REF_DOCS): test/tools/generate/go.mod
	$(call build_tool,github.com/elastic/crd-ref-docs)
