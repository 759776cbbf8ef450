package grant

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/util/workqueue"
	workv1 "open-cluster-management.io/api/work/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/distribute"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// ManifestWorkKind is Open Cluster Management's work.
var ManifestWorkKind = schema.GroupVersionKind{Group: workv1.GroupName, Version: "v1", Kind: "ManifestWork"}

// CarrierKinds are the optional kinds that carry works to members, of which only
// Sallyport's own objects are held.
func CarrierKinds() []served.Kind {
	ours := Managed()
	return []served.Kind{
		{GVK: ManifestWorkKind, Resource: "manifestworks", Namespaced: true, Object: &workv1.ManifestWork{}, Labels: ours},
		{GVK: distribute.KarmadaWorkKind, Resource: "works", Namespaced: true, Labels: ours},
	}
}

// SourceKinds are the optional kinds that apply grants. They are not read from a
// cache: it matters only whether there are any.
func SourceKinds() []served.Kind {
	never := fields.OneTermEqualSelector("metadata.name", "none.invalid")
	return []served.Kind{
		{GVK: KustomizationKind, Resource: "kustomizations", Namespaced: true, Object: &metav1.PartialObjectMetadata{}, Fields: never},
		{GVK: HelmReleaseKind, Resource: "helmreleases", Namespaced: true, Object: &metav1.PartialObjectMetadata{}, Fields: never},
		{GVK: ApplicationKind, Resource: "applications", Namespaced: true, Object: &metav1.PartialObjectMetadata{}, Fields: never},
	}
}

// Managed selects the objects that Sallyport makes.
func Managed() labels.Selector {
	return labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})
}

// SetupWithManager has the reconciler run, on the leader, whenever something that
// it reads changes. The kinds follow those of inventory.Kinds and CarrierKinds.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, kinds *served.Kinds, options inventory.Options) error {
	enqueue := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	// A grant's own status is what this controller writes.
	meant := builder.WithPredicates(predicate.Or(
		predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}, predicate.AnnotationChangedPredicate{},
	))
	ours := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool { return distribute.Ours(o) }))
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("accessgrant").
		Watches(&v1alpha1.AccessGrant{}, enqueue, meant).
		Watches(&v1alpha1.AccessRole{}, enqueue, meant).
		Watches(&v1alpha1.Guardrail{}, enqueue, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.GuardrailException{}, enqueue, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		// Which archive of a bundle is in force is in its status.
		Watches(&v1alpha1.GuardrailBundle{}, enqueue).
		WatchesMetadata(namespaceObject(), enqueue, builder.WithPredicates(predicate.LabelChangedPredicate{})).
		Watches(&rbacv1.ClusterRole{}, enqueue, ours).
		Watches(&rbacv1.ClusterRoleBinding{}, enqueue, ours).
		Watches(&corev1.ConfigMap{}, enqueue, ours).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 1,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 30*time.Second),
		}).
		Build(r)
	if err != nil {
		return err
	}
	for _, k := range append(inventory.Kinds(options), CarrierKinds()...) {
		if err := c.Watch(kinds.Source(k.GVK.GroupKind(), enqueue)); err != nil {
			return err
		}
	}
	return c.Watch(kinds.Changes(enqueue))
}
