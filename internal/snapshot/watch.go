package snapshot

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// namespaceMetadata is read for its labels only.
func namespaceMetadata() *metav1.PartialObjectMetadata {
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(namespaceKind)
	return o
}

// watched is what of a kind concerns decisions.
type watched struct {
	object client.Object
	// same reports whether a change of an object is none to decisions.
	same func(before, now client.Object) bool
}

func watchedKinds() []watched {
	return []watched{
		{&v1alpha1.AccessGrant{}, sameGrant},
		{&v1alpha1.AccessRole{}, sameSpec},
		{&v1alpha1.Guardrail{}, sameSpec},
		{&v1alpha1.GuardrailException{}, sameSpec},
		{&v1alpha1.GuardrailBundle{}, sameBundle},
		{namespaceMetadata(), func(before, now client.Object) bool { return maps.Equal(before.GetLabels(), now.GetLabels()) }},
		{&rbacv1.ClusterRole{}, sameOpening},
	}
}

func sameSpec(before, now client.Object) bool {
	return before.GetUID() == now.GetUID() && before.GetGeneration() == now.GetGeneration() &&
		before.GetDeletionTimestamp().IsZero() == now.GetDeletionTimestamp().IsZero()
}

// sameGrant leaves out most of the status: each grant's is written after each change
// of a fleet.
func sameGrant(before, now client.Object) bool {
	a, b := before.(*v1alpha1.AccessGrant), now.(*v1alpha1.AccessGrant)
	return sameSpec(a, b) && maps.Equal(a.Labels, b.Labels) && maps.Equal(a.Annotations, b.Annotations) && slices.Equal(a.Finalizers, b.Finalizers) &&
		reflect.DeepEqual(a.Status.Source, b.Status.Source) && reflect.DeepEqual(a.Status.Applied, b.Status.Applied) &&
		slices.Equal(a.Status.AppliedRoles, b.Status.AppliedRoles) &&
		meta.IsStatusConditionFalse(a.Status.Conditions, v1alpha1.ConditionCompliant) == meta.IsStatusConditionFalse(b.Status.Conditions, v1alpha1.ConditionCompliant)
}

// sameBundle looks at which archive is in force.
func sameBundle(before, now client.Object) bool {
	a, b := before.(*v1alpha1.GuardrailBundle), now.(*v1alpha1.GuardrailBundle)
	return sameSpec(a, b) && reflect.DeepEqual(a.Status.Active, b.Status.Active)
}

func sameOpening(before, now client.Object) bool {
	return !strings.HasPrefix(now.GetName(), compile.HubPrefix) || sameSpec(before, now) && maps.Equal(before.GetLabels(), now.GetLabels()) &&
		reflect.DeepEqual(before.(*rbacv1.ClusterRole).Rules, now.(*rbacv1.ClusterRole).Rules)
}

// watchHub has the Access hear of every change on a hub. It waits for the caches.
func watchHub(of cache.Cache, kinds *served.Kinds, inventoryKinds []served.Kind) func(context.Context, *Access) error {
	return func(ctx context.Context, a *Access) error {
		for _, w := range watchedKinds() {
			informer, err := of.GetInformer(ctx, w.object)
			if err != nil {
				return fmt.Errorf("cannot watch %T: %w", w.object, err)
			}
			if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
				AddFunc:    func(any) { a.changed() },
				DeleteFunc: func(any) { a.changed() },
				UpdateFunc: func(before, now any) {
					if !w.same(before.(client.Object), now.(client.Object)) {
						a.changed()
					}
				},
			}); err != nil {
				return fmt.Errorf("cannot watch %T: %w", w.object, err)
			}
		}
		return watchFleet(ctx, kinds, inventoryKinds, a)
	}
}

// watchFleet has it hear of what makes the fleet. Nothing is ever queued: the handlers
// only pass on that there was an event.
func watchFleet(ctx context.Context, kinds *served.Kinds, inventoryKinds []served.Kind, a *Access) error {
	queue := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	context.AfterFunc(ctx, queue.ShutDown)
	type q = workqueue.TypedRateLimitingInterface[reconcile.Request]
	stirred := handler.Funcs{
		CreateFunc: func(context.Context, event.CreateEvent, q) { a.stirred() },
		UpdateFunc: func(context.Context, event.UpdateEvent, q) { a.stirred() },
		// A member that is gone is not to wait.
		DeleteFunc: func(context.Context, event.DeleteEvent, q) { a.changed() },
	}
	for _, k := range inventoryKinds {
		if err := kinds.Source(k.GVK.GroupKind(), stirred).Start(ctx, queue); err != nil {
			return err
		}
	}
	return kinds.Changes(handler.Funcs{
		GenericFunc: func(context.Context, event.GenericEvent, q) { a.changed() },
	}).Start(ctx, queue)
}
