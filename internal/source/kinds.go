package source

import (
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// kind is a kind that a commit may bring.
type kind struct {
	schema.GroupVersionKind
	namespaced bool
	// typed returns an empty object whose fields are all that there are, for
	// kinds that this binary defines. The API server knows the fields of others.
	typed func() any
}

var namespaceKind = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}

// kinds may be applied, in this order: what others refer to comes first. Whoever
// can commit acts with the controller's rights on these kinds, so that each one
// more must be worth it: none may give rights on the hub by itself, as a
// ClusterRoleBinding or a Secret would.
var kinds = []kind{
	{GroupVersionKind: namespaceKind},
	// What judges comes before what is judged, and what that is made of (S26).
	{GroupVersionKind: v1alpha1.GroupVersion.WithKind(v1alpha1.GuardrailKind), typed: func() any { return &v1alpha1.Guardrail{} }},
	{GroupVersionKind: v1alpha1.GroupVersion.WithKind(v1alpha1.GuardrailBundleKind), typed: func() any { return &v1alpha1.GuardrailBundle{} }},
	{GroupVersionKind: v1alpha1.GroupVersion.WithKind(v1alpha1.GuardrailExceptionKind), namespaced: true, typed: func() any { return &v1alpha1.GuardrailException{} }},
	{GroupVersionKind: schema.GroupVersionKind{Group: "cluster.open-cluster-management.io", Version: "v1beta2", Kind: "ManagedClusterSetBinding"}, namespaced: true},
	{GroupVersionKind: schema.GroupVersionKind{Group: "cluster.open-cluster-management.io", Version: "v1beta1", Kind: "Placement"}, namespaced: true},
	{GroupVersionKind: v1alpha1.GroupVersion.WithKind(v1alpha1.AccessRoleKind), typed: func() any { return &v1alpha1.AccessRole{} }},
	{GroupVersionKind: v1alpha1.GroupVersion.WithKind(v1alpha1.AccessGrantKind), namespaced: true, typed: func() any { return &v1alpha1.AccessGrant{} }},
}

// Kinds are the kinds that a commit may bring, and for which the sync needs get,
// list, create, patch and delete; for Namespaces get and create suffice.
func Kinds() []schema.GroupVersionKind {
	gvks := make([]schema.GroupVersionKind, 0, len(kinds))
	for _, k := range kinds {
		gvks = append(gvks, k.GroupVersionKind)
	}
	return gvks
}

// rank is the place of a kind in the order of applying, -1 for a kind that may
// not be applied. The group is matched exactly: look-alikes are other kinds.
func rank(gk schema.GroupKind) int {
	for i, k := range kinds {
		if k.GroupKind() == gk {
			return i
		}
	}
	return -1
}

func kindNames() string {
	names := make([]string, 0, len(kinds))
	for _, k := range kinds {
		names = append(names, k.Kind+" ("+k.GroupVersion().String()+")")
	}
	return strings.Join(names, ", ")
}
