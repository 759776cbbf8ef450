package inventory

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

const (
	// karmadaNamespace is where Karmada keeps a cluster's secrets on the hub and
	// its service accounts on the member, unless it was installed otherwise.
	karmadaNamespace = "karmada-cluster"
	// karmadaImpersonator is the service account on the member by which Karmada's
	// proxy impersonates people.
	karmadaImpersonator = "karmada-impersonator"
)

// fromKarmadaCluster is the member that Karmada knows. One that is being deleted
// stays in the fleet, accepted no longer, until Karmada has removed its Works.
func fromKarmadaCluster(u *unstructured.Unstructured) fleet.Member {
	m := fleet.Member{
		Name:         u.GetName(),
		Labels:       u.GetLabels(),
		Accepted:     u.GetDeletionTimestamp() == nil,
		Availability: availability(conditions(u), "Ready"),
		Delivery:     fleet.KarmadaWork,
		Paths:        subject.Gateway,
	}
	spec, _, _ := unstructured.NestedMap(u.Object, "spec")
	for _, fact := range []string{"provider", "region", "zone"} {
		m.Claims = put(m.Claims, fact, text(spec, fact))
	}
	if zones, _, _ := unstructured.NestedStringSlice(spec, "zones"); m.Claims["zone"] == "" {
		m.Claims = put(m.Claims, "zone", strings.Join(zones, ","))
	}
	for _, t := range objects(spec, "taints") {
		m.Taints = append(m.Taints, fleet.Taint{Key: text(t, "key"), Value: text(t, "value"), Effect: text(t, "effect")})
	}
	// Without that Secret, Karmada's proxy refuses everybody.
	if ref, found, _ := unstructured.NestedMap(spec, "impersonatorSecretRef"); found && text(ref, "name") != "" {
		m.Paths |= subject.Karmada
		m.Impersonator = types.NamespacedName{
			Namespace: cmp.Or(text(ref, "namespace"), karmadaNamespace),
			Name:      karmadaImpersonator,
		}
	}
	return m
}

// conditions of an object without a Go type; those that are malformed are left
// out.
func conditions(u *unstructured.Unstructured) []metav1.Condition {
	status, _, _ := unstructured.NestedMap(u.Object, "status")
	var all []metav1.Condition
	for _, raw := range objects(status, "conditions") {
		c := metav1.Condition{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(raw, &c); err == nil {
			all = append(all, c)
		}
	}
	return all
}

// text is a field of an object without a Go type; "" where it is none.
func text(of map[string]any, field string) string {
	s, _ := of[field].(string)
	return s
}

// objects are the objects in a list field.
func objects(of map[string]any, field string) []map[string]any {
	list, _ := of[field].([]any)
	var all []map[string]any
	for _, item := range list {
		if m, ok := item.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all
}
