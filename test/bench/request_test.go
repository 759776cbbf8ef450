package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// documented is the example of role-based access control in OPA's documentation of
// policy performance, in Rego v1. The request is its example too.
const documented = `package rbac

bindings := [
	{"user": "alice", "roles": ["dev", "test"]},
	{"user": "bob", "roles": ["test"]},
]

roles := [
	{"name": "dev", "permissions": [{"resource": "foo123", "action": "write"}, {"resource": "foo123", "action": "read"}]},
	{"name": "test", "permissions": [{"resource": "foo123", "action": "read"}]},
]

default allow := false

allow if {
	some role
	user_has_role[role]
	role_has_permission[role]
}

user_has_role contains role if {
	some binding in bindings
	binding.user == input.subject
	some role in binding.roles
}

role_has_permission contains role.name if {
	some role in roles
	some permission in role.permissions
	permission.resource == input.resource
	permission.action == input.action
}
`

// BenchmarkRequest judges a request to a member: an exec in production for which the
// grant names no ticket. Nothing of the request has been seen before.
func BenchmarkRequest(b *testing.B) {
	cluster := &guardrail.Cluster{Name: "prod-eu-1", Labels: map[string]string{"env": "prod", "region": "eu"}, Claims: map[string]string{}}
	request := func() *guardrail.Input {
		return &guardrail.Input{
			Version: guardrail.InputVersion, Now: now,
			Request: &guardrail.RequestInfo{
				User:    guardrail.User{Name: "alice", UID: "6f8c", Groups: []string{"payments-oncall", "payments", "staff", "system:authenticated"}, Extra: map[string][]string{}},
				Cluster: cluster, Verb: "create", ResourceRequest: true, APIVersion: "v1", Resource: "pods", Subresource: "exec",
				Namespace: "payments", Name: "api-0", Path: "/api/v1/namespaces/payments/pods/api-0/exec",
			},
			Grants: []*guardrail.GrantInfo{{Namespace: "payments", Name: "oncall", Reason: "on call"}},
		}
	}
	for _, engine := range []struct{ name, file string }{{"cel", "guardrail.yaml"}, {"rego", "guardrail.rego.yaml"}} {
		b.Run(engine.name, func(b *testing.B) {
			set := setOf(loaded(b, engine.file, []string{"no-exec-without-ticket"}, 1)...)
			percentiles(b, func() {
				if j := set.Judge(guardrail.Request, request()); j.Verdict != guardrail.Denied {
					b.Fatal(j)
				}
			})
		})
	}
	b.Run("library", func(b *testing.B) {
		set := setOf(loaded(b, "guardrail.yaml", inForce, 20)...)
		percentiles(b, func() {
			in := request()
			in.Request.Verb, in.Request.Subresource, in.Request.Path = "get", "", "/api/v1/namespaces/payments/pods/api-0"
			if j := set.Judge(guardrail.Request, in); j.Verdict != guardrail.Allowed {
				b.Fatal(j)
			}
		})
	})
	b.Run("opa", func(b *testing.B) {
		ctx := context.Background()
		query, err := rego.New(rego.Query("data.rbac.allow"), rego.Module("rbac.rego", documented)).PrepareForEval(ctx)
		if err != nil {
			b.Fatal(err)
		}
		input := ast.MustParseTerm(`{"subject": "bob", "resource": "foo123", "action": "write"}`).Value
		percentiles(b, func() {
			if r, err := query.Eval(ctx, rego.EvalParsedInput(input)); err != nil || r.Allowed() {
				b.Fatal(r, err)
			}
		})
	})
}

// percentiles of how long one call takes.
func percentiles(b *testing.B, call func()) {
	b.Helper()
	var took []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		begin := time.Now()
		call()
		took = append(took, time.Since(begin))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100]), "p99-ns")
}
