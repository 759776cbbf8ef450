package admission_test

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// BenchmarkGrant is one grant that gives access to every member, judged by 20
// guardrails in Go, by number of members.
func BenchmarkGrant(b *testing.B) {
	for _, n := range []int{10, 200, 2000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			var all members
			g := grant("oncall")
			g.Spec.Clusters.Names = nil
			for i := range n {
				name := fmt.Sprintf("prod-%d", i)
				all = append(all, fleet.Member{Name: name, Labels: map[string]string{"env": "prod"}, Accepted: true, Delivery: fleet.ManifestWork})
			}
			g.Spec.Clusters.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}
			var rails []*guardrail.Guardrail
			for i := range 20 {
				rails = append(rails, rail(fmt.Sprintf("g%d", i), noExec))
			}
			h := handlerOf(b, all, same(rails...), []client.Object{ns("payments")}, nil)
			req := request(b, g, nil)
			for b.Loop() {
				if r := h.Handle(b.Context(), req); !r.Allowed {
					b.Fatal(r.Result)
				}
			}
		})
	}
}
