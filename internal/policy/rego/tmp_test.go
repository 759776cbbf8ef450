package rego

import (
	"fmt"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"testing"
	"time"
)

const src = `package guardrails.request

deny contains sprintf("no exec on %s without a ticket", [input.request.cluster.name]) if {
	input.request.resource == "pods"
	input.request.subresource in {"exec", "attach"}
	input.request.cluster.labels.env == "prod"
	every grant in input.grants {
		not regex.match("\\b[A-Z]+-[0-9]+\\b", grant.reason)
	}
}
`

func BenchmarkTmp(b *testing.B) {
	c, errs := Compile(field.NewPath("x"), Policy{Modules: map[string]string{"p": src}, Main: "p"}, Options{})
	if errs != nil {
		b.Fatal(errs)
	}
	in := &guardrail.Input{Version: "v", Now: time.Unix(1, 0), Request: &guardrail.RequestInfo{User: guardrail.User{Name: "a"}, Resource: "pods", Subresource: "exec", Cluster: &guardrail.Cluster{Name: "c", Labels: map[string]string{"env": "prod"}}}, Grants: []*guardrail.GrantInfo{{Namespace: "p", Name: "o", Reason: "on call"}}}
	ch := c.(*check)
	b.Run("go", func(b *testing.B) {
		for b.Loop() {
			if v, err := c.Check(in); err != nil || len(v) != 1 {
				b.Fatal(err)
			}
		}
	})
	b.Run("inline", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			t, err := ch.run(documentOf(in).with(ch.parameters), &evaluation{})
			if err != nil {
				b.Fatal(err)
			}
			violations(t)
		}
	})
	_ = fmt.Sprint
}
