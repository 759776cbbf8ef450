package cel_test

import (
	"fmt"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

// BenchmarkCheck judges a request and a grant by 1, 20 and 100 guardrails. Warm, the
// input has been judged before, as a grant has that is judged again; cold, it has
// not, as is every request.
func BenchmarkCheck(b *testing.B) {
	for name, kind := range map[string]struct {
		expression string
		point      guardrail.Point
		input      func() *guardrail.Input
	}{
		"Request": {
			"!(input.request.verb == 'create' && input.request.resource == 'pods' && input.request.subresource == 'exec')",
			guardrail.Request, requestInput,
		},
		"Grant": {
			"input.access.all(a, a.rules.all(r, !rbac.allows(r, 'get', '', 'secrets')))",
			guardrail.Compile, grantInput,
		},
	} {
		for _, n := range []int{1, 20, 100} {
			var all []*guardrail.Guardrail
			for i := range n {
				check, errs := cel.Compile(field.NewPath("spec", "cel"), policy(kind.expression), nil, cel.Options{})
				if len(errs) > 0 {
					b.Fatal(errs)
				}
				all = append(all, &guardrail.Guardrail{
					Name: fmt.Sprint("g", i), Points: guardrail.PointsOf([]v1alpha1.GuardrailPoint{v1alpha1.GuardrailPoint(kind.point.String())}),
					Check: check,
				})
			}
			set := guardrail.NewSet(all, nil, guardrail.Options{})
			in := kind.input()
			b.Run(fmt.Sprintf("%s/%d/Warm", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if j := set.Judge(kind.point, in); j.Verdict != guardrail.Allowed {
						b.Fatal(j.Verdict)
					}
				}
			})
			b.Run(fmt.Sprintf("%s/%d/Cold", name, n), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					cold := guardrail.Input{
						Version: in.Version, Now: in.Now, Grant: in.Grant, Namespace: in.Namespace, Roles: in.Roles, Access: in.Access,
						Clusters: in.Clusters, Source: in.Source, Request: in.Request, Grants: in.Grants,
					}
					if j := set.Judge(kind.point, &cold); j.Verdict != guardrail.Allowed {
						b.Fatal(j.Verdict)
					}
				}
			})
		}
	}
}
