package ceiling

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// TestNothingAggregates: S19. Whatever a grant and a role are called and labelled,
// nothing that is delivered has a label by which Kubernetes
// adds it to another role. The compiler copies no labels.
func TestNothingAggregates(t *testing.T) {
	const label = aggregates + "admin"
	labels := map[string]string{label: "true"}
	out := compile.Grants(compile.Snapshot{
		Fleet: fleet.New([]fleet.Member{{Name: "m", Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Karmada | subject.Gateway}}),
		Now:   t0, Guardrails: guardrail.NewSet(nil, nil, guardrail.Options{}), Point: guardrail.Compile,
		Namespaces: map[string]map[string]string{aggregates: labels},
		Roles:      map[string]*v1alpha1.AccessRoleSpec{label: {Rules: all(rule("get", "", "secrets"))}},
		Grants: []compile.Grant{{
			Namespace: aggregates, Name: label, Source: label, Labels: labels, Annotations: labels,
			Spec: &v1alpha1.AccessGrantSpec{
				Reason: label, Subjects: []v1alpha1.Subject{{Kind: "Group", Name: label}},
				Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"m"}},
				Access: []v1alpha1.AccessEntry{
					{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: label}},
					{Rules: all(rule("get", "", "pods"))},
				},
			},
		}},
	})
	objects := out.Hub
	for _, m := range out.Members {
		for _, w := range m.Works {
			objects = append(objects, w.Objects...)
		}
	}
	if len(objects) < 4 {
		t.Fatalf("the grant compiles to %d objects only", len(objects))
	}
	for _, o := range objects {
		m, err := meta.Accessor(o.Object)
		if err != nil {
			t.Fatal(err)
		}
		for key := range m.GetLabels() {
			if strings.Contains(key, "aggregate") {
				t.Errorf("%s has the label %q", o.ID(), key)
			}
		}
		if strings.Contains(string(o.JSON), `"aggregationRule"`) {
			t.Errorf("%s aggregates", o.ID())
		}
	}
}
