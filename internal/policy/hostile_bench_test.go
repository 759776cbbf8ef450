package policy_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy"
)

// hostile policies are within what the API server takes and never end by themselves.
var hostile = map[string]*v1alpha1.GuardrailSpec{
	"CEL": {CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{
		Expression: `input.request.user.groups.all(a, input.request.user.groups.all(b, input.request.user.groups.all(c, a + b + c != '')))`,
	}}}},
	"Rego": {Rego: &v1alpha1.RegoPolicy{Module: `package hostile

n := ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]

deny contains "never" if {
	some a in n
	some b in n
	some c in n
	some d in n
	some e in n
	some f in n
	some g in n
	concat("", [a, b, c, d, e, f, g, input.request.verb]) == ""
}
`}},
}

// BenchmarkBesideHostile (S22): the p50 and p99 of a request that one ordinary
// guardrail judges, alone, and while somebody else's hostile policy is asked all the
// time by another goroutine.
func BenchmarkBesideHostile(b *testing.B) {
	ordinary := &v1alpha1.GuardrailSpec{
		Points: []v1alpha1.GuardrailPoint{v1alpha1.PointRequest},
		CEL:    &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: `input.request.subresource != 'exec'`}}},
	}
	set := setOf(b, ordinary)
	b.Run("Alone", func(b *testing.B) { measureRequests(b, set) })
	for name, spec := range hostile {
		spec.Points = ordinary.Points
		other := setOf(b, spec)
		many := request()
		many.Request.User.Groups = strings.Split(strings.Repeat("group,", 400), ",")
		if got := other.Judge(guardrail.Request, many).Verdict; got != guardrail.Undecided {
			b.Fatalf("%s: it is %v, and not cut off", name, got)
		}
		b.Run(name, func(b *testing.B) {
			stop := make(chan struct{})
			var asking sync.WaitGroup
			asking.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						other.Judge(guardrail.Request, many)
					}
				}
			})
			measureRequests(b, set)
			close(stop)
			asking.Wait()
		})
	}
}

func setOf(b *testing.B, spec *v1alpha1.GuardrailSpec) *guardrail.Set {
	g, errs := policy.Compile("g", spec, policy.Options{})
	if err := errs.ToAggregate(); err != nil {
		b.Fatal(err)
	}
	return guardrail.NewSet([]*guardrail.Guardrail{g}, nil, guardrail.Options{})
}

func request() *guardrail.Input {
	return &guardrail.Input{
		Version: guardrail.InputVersion, Now: time.Unix(0, 0).UTC(),
		Request: &guardrail.RequestInfo{
			User: guardrail.User{Name: "alice", Groups: []string{"a", "b", "c", "d"}}, Cluster: &guardrail.Cluster{Name: "prod-eu-1"},
			Verb: "get", ResourceRequest: true, APIVersion: "v1", Resource: "pods", Namespace: "payments", Name: "api-0",
		},
	}
}

// measureRequests one by one, since a mean says nothing of the worst.
func measureRequests(b *testing.B, set *guardrail.Set) {
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		in := request()
		began := time.Now()
		if set.Judge(guardrail.Request, in).Verdict != guardrail.Allowed {
			b.Fatal("an ordinary request is refused")
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
	b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
}
