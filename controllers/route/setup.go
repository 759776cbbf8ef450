package route

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/identity"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// SetupWithManager has the reconciler run, on the leader, whenever something that it
// reads changes. The kinds follow those of inventory.Kinds and identity.Kinds.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, kinds *served.Kinds) error {
	if err := r.instruments().register(r.Metrics); err != nil {
		return err
	}
	routes, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		DefaultNamespaces:    map[string]cache.Config{r.Namespace: {}},
		DefaultLabelSelector: labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}),
		DefaultTransform:     withoutData,
	})
	if err != nil {
		return fmt.Errorf("cannot watch routes: %w", err)
	}
	byLabel := named(func(o client.Object) string { return o.GetLabels()[v1alpha1.ClusterLabel] })
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("route").
		WatchesRawSource(source.TypedFunc[reconcile.Request](func(ctx context.Context, q queue) error {
			// The gateway's namespace may not be there, or not ours to watch: then
			// that is told of each member, and holds nothing else up.
			go func() { _ = routes.Start(ctx) }() // ends with the context
			return source.Kind(routes, &corev1.Secret{}, handler.TypedEnqueueRequestsFromMapFunc(clusterOf)).Start(ctx, q)
		})).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 16, // a slow member is not to hold up the others
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](time.Second, 2*time.Minute),
		}).
		Build(r)
	if err != nil {
		return err
	}
	byName := named(client.Object.GetName)
	byNamespace := named(client.Object.GetNamespace)
	spec := predicate.GenerationChangedPredicate{} // their status changes all the time
	for _, w := range []struct {
		kind    schema.GroupVersionKind
		handler handler.EventHandler
		when    []predicate.Predicate
	}{
		{kind: inventory.ManagedClusterKind, handler: byName, when: []predicate.Predicate{spec}},
		{kind: inventory.KarmadaClusterKind, handler: byName, when: []predicate.Predicate{spec}},
		{kind: inventory.ClusterProfileKind, handler: byName},
		{kind: inventory.ManagedClusterAddOnKind, handler: byNamespace},
		{kind: identity.ManagedServiceAccountKind, handler: byNamespace},
		{kind: inventory.SecretKind, handler: byLabel},
	} {
		if err := c.Watch(kinds.Source(w.kind.GroupKind(), w.handler, w.when...)); err != nil {
			return err
		}
	}
	return c.Watch(kinds.Changes(handler.EnqueueRequestsFromMapFunc(r.everything)))
}

// named enqueues the cluster that an object is about.
func named(cluster func(client.Object) string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request { return request(cluster(o)) })
}

func clusterOf(_ context.Context, s *corev1.Secret) []reconcile.Request {
	return request(s.Labels[v1alpha1.ClusterLabel])
}

func request(cluster string) []reconcile.Request {
	if cluster == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: cluster}}}
}

// everything there is, where a whole inventory came or went.
func (r *Reconciler) everything(ctx context.Context, _ client.Object) []reconcile.Request {
	f, _, err := r.Inventory.Fleet(ctx)
	if err != nil {
		return nil // when it is known, that is another change
	}
	var all []reconcile.Request
	for i := range f.Members() {
		all = append(all, request(f.Members()[i].Name)...)
	}
	var routes corev1.SecretList
	if err := r.Live.List(ctx, &routes, client.InNamespace(r.Namespace), client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "Cannot list routes")
	}
	for i := range routes.Items {
		all = append(all, clusterOf(ctx, &routes.Items[i])...)
	}
	return all
}

// withoutData keeps tokens out of the cache, which only says that something changed.
func withoutData(o any) (any, error) {
	if s, ok := o.(*corev1.Secret); ok {
		s.Data, s.ManagedFields = nil, nil
	}
	return o, nil
}
