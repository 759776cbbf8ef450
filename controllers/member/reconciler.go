// Package member describes, in ConfigMaps of Sallyport's own namespace, the members of
// the fleet that only a kubeconfig Secret tells of. Gateway and authorizer have to know
// their names and labels to judge by, and must not read the Secrets.
package member

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/distribute"
	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// Reconciler of all descriptions.
type Reconciler struct {
	// Client reads from a cache, and writes.
	Client    client.Client
	Inventory interface {
		Fleet(ctx context.Context) (*fleet.Fleet, []inventory.Problem, error)
	}
	// Namespace is Sallyport's own.
	Namespace string
}

// everything is the one request.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "fleet"}}

// SetupWithManager has the reconciler run, on the leader, whenever the fleet or a
// description changes. The kinds follow those of inventory.Kinds.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager, kinds *served.Kinds, options inventory.Options) error {
	enqueue := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{everything}
	})
	c, err := ctrl.NewControllerManagedBy(mgr).
		Named("member").
		Watches(&corev1.ConfigMap{}, enqueue, builder.WithPredicates(predicate.NewPredicateFuncs(r.described))).
		Build(r)
	if err != nil {
		return err
	}
	for _, k := range inventory.Kinds(options) {
		if err := c.Watch(kinds.Source(k.GVK.GroupKind(), enqueue)); err != nil {
			return err
		}
	}
	return c.Watch(kinds.Changes(enqueue))
}

// described reports whether an object is a description.
func (r *Reconciler) described(o client.Object) bool {
	return o.GetNamespace() == r.Namespace && o.GetLabels()[v1alpha1.ClusterLabel] != "" && distribute.Ours(o)
}

// Reconcile brings the descriptions to what the fleet is. A fleet that cannot be read
// leaves them as they are.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	f, _, err := r.Inventory.Fleet(ctx)
	switch {
	case errors.Is(err, served.ErrUnknown):
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	var list corev1.ConfigMapList
	if err := r.Client.List(ctx, &list, client.InNamespace(r.Namespace), client.HasLabels{v1alpha1.ClusterLabel}); err != nil {
		return ctrl.Result{}, fmt.Errorf("cannot list descriptions of members: %w", err)
	}
	standing := map[string]*corev1.ConfigMap{}
	for i := range list.Items {
		if cm := &list.Items[i]; r.described(cm) {
			standing[cm.Name] = cm
		}
	}
	var errs []error
	for _, want := range inventory.Describe(f, r.Namespace) {
		errs = append(errs, r.describe(ctx, standing[want.Name], want))
		delete(standing, want.Name)
	}
	for _, gone := range standing {
		errs = append(errs, client.IgnoreNotFound(r.Client.Delete(ctx, gone, client.Preconditions{UID: &gone.UID})))
	}
	return ctrl.Result{}, errors.Join(errs...)
}

func (r *Reconciler) describe(ctx context.Context, have, want *corev1.ConfigMap) error {
	var err error
	switch {
	case have == nil:
		err = r.Client.Create(ctx, want)
	case !inventory.Described(have, want):
		want.ResourceVersion = have.ResourceVersion
		err = r.Client.Update(ctx, want)
	}
	if err != nil {
		return fmt.Errorf("cannot describe member %q: %w", want.Labels[v1alpha1.ClusterLabel], err)
	}
	return nil
}
