package main

import "fmt"

// decided are rows of the index, with a guardrail in CEL that refuses, and of its peer.
func decided() (out []row) {
	for _, n := range []int{100, 1_000, 10_000, 100_000} {
		ours, peer := fmt.Sprintf("BenchmarkDecide/grants=%d/index/Denied", n), fmt.Sprintf("BenchmarkDecide/grants=%d/rbac/NotGranted", n)
		out = append(out,
			row{name: ours, what: fmt.Sprintf("%d grants, refused by a guardrail in CEL: p50", n), metric: "p50-ns", limit: 1, unit: "µs", peer: peer},
			row{name: ours, what: fmt.Sprintf("%d grants, refused by a guardrail in CEL: p99", n), metric: "p99-ns", limit: 5, unit: "µs", peer: peer},
			row{name: ours, what: fmt.Sprintf("%d grants, refused by a guardrail in CEL: allocations", n), metric: "allocs/op", limit: 2, peer: peer},
			row{name: fmt.Sprintf("BenchmarkDecide/grants=%d/index/Allowed", n), what: fmt.Sprintf("%d grants, allowed: p50", n), metric: "p50-ns", unit: "µs"},
			row{name: fmt.Sprintf("BenchmarkDecide/grants=%d/index/NotGranted", n), what: fmt.Sprintf("%d grants, not granted: p50", n), metric: "p50-ns", unit: "µs"},
			row{name: peer, what: fmt.Sprintf("peer: RBAC authorizer, %d bindings: p50", n), metric: "p50-ns", unit: "µs"},
			row{name: peer, what: fmt.Sprintf("peer: RBAC authorizer, %d bindings: p99", n), metric: "p99-ns", unit: "µs"},
		)
	}
	return out
}

// webhook are rows of what BenchmarkWebhook measures.
func webhook() (out []row) {
	for _, clients := range []int{1, 8} {
		name, what := fmt.Sprintf("BenchmarkWebhook/clients=%d/", clients), fmt.Sprintf("%d clients: ", clients)
		floor, slowest := 0.0, 0.0
		if clients == 8 {
			floor, slowest = .9, 1.2
		}
		out = append(out, answers(name+"authorizer", what+"authorizer")...)
		out = append(out,
			row{name: name + "authorizer", what: what + "authorizer's share of the floor's reviews", metric: "of-floor", least: floor},
			row{name: name + "authorizer", what: what + "authorizer's p99, of the floor's", metric: "p99-of-floor", limit: slowest},
		)
		out = append(out, answers(name+"authorizer-new", what+"authorizer, asked about another pod each time")...)
		out = append(out,
			row{name: name + "authorizer-new", what: what + "… its share of the floor's reviews", metric: "of-floor", least: floor},
			row{name: name + "authorizer-new", what: what + "… its p99, of the floor's", metric: "p99-of-floor", limit: slowest},
		)
		out = append(out, answers(name+"floor", what+"floor")...)
		out = append(out, answers(name+"opa", what+"peer: OPA, two rules")...)
		out = append(out, answers(name+"opa-grants", what+"peer: OPA, the grants as data")...)
	}
	return out
}

// gateway are rows of what BenchmarkGateway measures.
func gateway() (out []row) {
	for _, way := range []struct {
		name, what string
		karmada    float64 // how many times as many requests as Karmada's are wanted
		others     []string
	}{
		{"hub", "through the hub", 3, []string{"floor", "karmada"}},
		{"direct", "directly", 4, []string{"floor", "karmada", "member"}},
	} {
		for _, clients := range []int{1, 8, 64} {
			name, what := fmt.Sprintf("BenchmarkGateway/%s/clients=%d/", way.name, clients), fmt.Sprintf("%s, %d clients: ", way.what, clients)
			floor, karmada := 0.0, 0.0
			if clients == 8 {
				floor, karmada = .9, way.karmada
			}
			out = append(out, answers(name+"gateway", what+"gateway")...)
			out = append(out,
				row{name: name + "gateway", what: what + "gateway's share of the floor's requests", metric: "of-floor", least: floor},
				row{name: name + "gateway", what: what + "times Karmada's requests", metric: "of-karmada", least: karmada},
			)
			// What nothing between client and member can be much better than.
			for _, other := range way.others {
				if other != "karmada" {
					out = append(out, row{name: name + other, what: what + "… of the " + other, metric: "of-karmada"})
				}
			}
			if way.name == "hub" {
				out = append(out,
					row{name: name + "gateway", what: what + "processor time of the hub's API server", metric: "hub-cpu-ns/req", unit: "µs"},
					row{name: name + "gateway", what: what + "processor time of the member's", metric: "member-cpu-ns/req", unit: "µs"},
				)
			}
			for _, other := range way.others {
				out = append(out, answers(name+other, what+other)...)
			}
			if way.name == "direct" && clients > 1 {
				out = append(out, answers(name+"http2", what+"gateway, HTTP/2 to the member")...)
				out = append(out, row{name: name + "gateway", what: what + "HTTP/1.1 to the member, of HTTP/2's requests", metric: "of-http2"})
			}
		}
	}
	log, watches, cut := "BenchmarkGateway/log/", "BenchmarkGateway/watches/", "BenchmarkGateway/cut"
	return append(out,
		row{name: log + "gateway", what: "log of 1 GiB: gateway", metric: "MB/s", unit: "MB/s", peer: log + "floor"},
		row{name: log + "floor", what: "log of 1 GiB: floor", metric: "MB/s", unit: "MB/s"},
		row{name: log + "member", what: "log of 1 GiB: member itself", metric: "MB/s", unit: "MB/s"},
		row{name: log + "gateway", what: "log of 1 GiB: memory of the gateway at most", metric: "peak-MiB", unit: "MiB"},
		row{name: log + "gateway", what: "log of 1 GiB: … and before", metric: "before-MiB", unit: "MiB"},
		row{name: watches + "gateway", what: "1,000 open watches: memory of the gateway for each", metric: "KiB/watch", unit: "KiB", peer: watches + "floor"},
		row{name: watches + "floor", what: "1,000 open watches: memory of the floor for each", metric: "KiB/watch", unit: "KiB"},
		row{name: cut, what: "a grant is deleted: its open watch ends, p50", metric: "p50-ns", unit: "ms"},
		row{name: cut, what: "a grant is deleted: its open watch ends, the longest of 20", metric: "max-ns", limit: 1000, unit: "ms"},
	)
}

// answers are requests per second of a server, and how long they take.
func answers(name, what string) []row {
	return []row{
		{name: name, what: what + ": requests a second", metric: "req/s"},
		{name: name, what: what + ": p50", metric: "p50-ns", unit: "ms"},
		{name: name, what: what + ": p99", metric: "p99-ns", unit: "ms"},
		{name: name, what: what + ": processor time of one request", metric: "cpu-ns/req", unit: "µs"},
	}
}
