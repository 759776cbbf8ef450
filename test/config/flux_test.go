package config_test

import (
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// TestFluxArtifacts: with the component, and only with it, the controller is let out
// to where Flux serves artifacts, and to no other pod by that port.
func TestFluxArtifacts(t *testing.T) {
	selects := func(s *metav1.LabelSelector, key, value string) bool {
		selector, err := metav1.LabelSelectorAsSelector(s)
		must(t, err)
		return selector.Matches(labels.Set{key: value}) && !selector.Matches(labels.Set{key: "other"})
	}
	for folder, want := range map[string]bool{"../../config/default": false, "testdata/flux-artifacts": true} {
		t.Run(folder, func(t *testing.T) {
			out := manifestsOf(t, folder).policy.Spec.Egress
			at := slices.IndexFunc(out, func(r networkingv1.NetworkPolicyEgressRule) bool {
				return slices.ContainsFunc(r.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == 9090 })
			})
			if got := at >= 0; got != want {
				t.Fatalf("let out to port 9090: %t, want %t", got, want)
			}
			if !want {
				return
			}
			if to := out[at].To; len(to) != 1 || !selects(to[0].NamespaceSelector, "kubernetes.io/metadata.name", "flux-system") || !selects(to[0].PodSelector, "app", "source-controller") {
				t.Errorf("let out to %+v", to)
			}
		})
	}
}
