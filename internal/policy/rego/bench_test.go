package rego_test

import (
	"fmt"
	"testing"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

const requestPolicy = `package guardrails.request%d

deny contains sprintf("no exec on %%s without a ticket", [input.request.cluster.name]) if {
	input.request.resource == "pods"
	input.request.subresource in {"exec", "attach"}
	input.request.cluster.labels.env == "prod"
	every grant in input.grants {
		not regex.match("\\b[A-Z]+-[0-9]+\\b", grant.reason)
	}
}
`

const grantPolicy = `package guardrails.grant%d

import data.sallyport.rbac

deny contains {"message": sprintf("no exec on %%s", [cluster.name]), "field": entry.field} if {
	some cluster in input.clusters
	cluster.labels.env == "prod"
	some entry in input.access
	some rule in entry.rules
	rbac.allows(rule, "create", "", "pods/exec")
}
`

func BenchmarkCheck(b *testing.B) {
	grant := grantInput()
	for i := range 20 {
		grant.Clusters = append(grant.Clusters, &guardrail.Cluster{Name: fmt.Sprintf("c-%d", i), Labels: map[string]string{"env": "dev", "region": "eu"}})
	}
	for _, kind := range []struct {
		name, source string
		point        guardrail.Point
		in           *guardrail.Input
	}{
		{"request", requestPolicy, guardrail.Request, requestInput()},
		{"grant", grantPolicy, guardrail.Compile, grant},
	} {
		for _, n := range []int{1, 20, 100} {
			var rails []*guardrail.Guardrail
			for i := range n {
				rails = append(rails, &guardrail.Guardrail{
					Name: fmt.Sprint(i), Points: guardrail.GrantPoints | 1<<guardrail.Request,
					Check: compile(b, fmt.Sprintf(kind.source, i), rego.Options{}),
				})
			}
			set := guardrail.NewSet(rails, nil, guardrail.Options{})
			judge := func(b *testing.B, in *guardrail.Input) {
				for _, r := range set.Judge(kind.point, in).Reasons {
					if r.Failed {
						b.Fatal(r.Detail)
					}
				}
			}
			b.Run(fmt.Sprintf("%s/%d/cold", kind.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					judge(b, fresh(kind.in))
				}
			})
			b.Run(fmt.Sprintf("%s/%d/warm", kind.name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					judge(b, kind.in)
				}
			})
		}
	}
}

// fresh is an input of which nothing has been made yet. Clusters are shared.
func fresh(in *guardrail.Input) *guardrail.Input {
	return &guardrail.Input{
		Version: in.Version, Now: in.Now, Grant: in.Grant, Namespace: in.Namespace, Roles: in.Roles, Access: in.Access,
		Clusters: in.Clusters, Source: in.Source, Request: in.Request, Grants: in.Grants,
	}
}
