package direct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// Members gives a client for a member that has a kubeconfig.
type Members interface {
	Client(ctx context.Context, cluster string) (client.Client, error)
}

// Reconciler of the orders for members with a kubeconfig.
type Reconciler struct {
	Client  client.Client
	Members Members
	// Namespace of the orders, Sallyport's own.
	Namespace string
	// Resync is how often a member is looked at though nothing was ordered; 30 s
	// if zero.
	Resync time.Duration
	// Timeout for all that is done on a member in one go; 30 s if zero.
	Timeout time.Duration
}

const fieldOwner = client.FieldOwner("sallyport")

// SetupWithManager has the reconciler run on the leader.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named("direct").
		For(&corev1.ConfigMap{}, builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
			return o.GetNamespace() == r.Namespace && o.GetLabels()[distribute.DirectLabel] != "" && distribute.Ours(o)
		}))).
		WithOptions(controller.Options{MaxConcurrentReconciles: 8}). // a slow member is not to hold up the others
		Complete(r)
}

// Reconcile carries out one order.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	cm := &corev1.ConfigMap{}
	if err := r.Client.Get(ctx, req.NamespacedName, cm); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	order, err := distribute.ReadOrder(cm)
	if err != nil {
		return ctrl.Result{}, err
	}
	if !cm.DeletionTimestamp.IsZero() {
		return ctrl.Result{}, ignoreConflict(r.takeAway(ctx, cm, order))
	}
	return ctrl.Result{RequeueAfter: or(r.Resync, 30*time.Second)}, ignoreConflict(r.carryOut(ctx, cm, order))
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// ignoreConflict: the order changed meanwhile, and its event is on its way.
func ignoreConflict(err error) error {
	if apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// onMember bounds what is done on a member. What is told of it to the hub is not
// bounded by it: of a member that hangs, that is what there is to tell.
func (r *Reconciler) onMember(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, or(r.Timeout, 30*time.Second))
}

// carryOut brings the member to what is ordered.
func (r *Reconciler) carryOut(ctx context.Context, cm *corev1.ConfigMap, order distribute.DirectOrder) error {
	wanted, refs, err := manifests(order)
	if err != nil {
		return err
	}
	// Write down what may stand before anything does.
	may := union(order.Applied, refs)
	if !slices.Equal(may, order.Applied) {
		if err := r.report(ctx, cm, may, nil, false); err != nil {
			return err
		}
	}
	onMember, cancel := r.onMember(ctx)
	defer cancel()
	member, err := r.Members.Client(onMember, order.Cluster)
	if err != nil {
		return r.failed(ctx, cm, may, []distribute.DirectFailure{{Message: err.Error()}}, err)
	}
	var failures []distribute.DirectFailure
	var errs []error
	unsound := map[distribute.ObjectRef]error{}
	for i, o := range wanted { // roles come before their bindings
		err := bindable(onMember, member, o, unsound)
		if err == nil {
			err = apply(onMember, member, o)
		}
		if err != nil {
			unsound[refs[i]] = err
			failures = append(failures, distribute.DirectFailure{Object: refs[i].String(), Message: err.Error(), Labels: o.GetLabels()})
			errs = append(errs, fmt.Errorf("cannot apply %s on cluster %q: %w", refs[i], order.Cluster, err))
		}
	}
	left := slices.Clone(refs)
	for _, ref := range may {
		if slices.Contains(refs, ref) {
			continue
		}
		if err := remove(onMember, member, ref); err != nil {
			left = append(left, ref)
			failures = append(failures, distribute.DirectFailure{Object: ref.String(), Message: err.Error()})
			errs = append(errs, fmt.Errorf("cannot remove %s from cluster %q: %w", ref, order.Cluster, err))
		}
	}
	return r.failed(ctx, cm, left, failures, errors.Join(errs...))
}

// failed reports what is left on a member, and returns the error that is to be
// retried for; with none, the member holds exactly what is ordered.
func (r *Reconciler) failed(ctx context.Context, cm *corev1.ConfigMap, left []distribute.ObjectRef, failures []distribute.DirectFailure, err error) error {
	return errors.Join(r.report(ctx, cm, left, failures, err == nil), err)
}

// takeAway everything of an order that is being deleted, and let it go.
func (r *Reconciler) takeAway(ctx context.Context, cm *corev1.ConfigMap, order distribute.DirectOrder) error {
	if !controllerutil.ContainsFinalizer(cm, distribute.DirectFinalizer) {
		return nil
	}
	if len(order.Applied) > 0 {
		onMember, cancel := r.onMember(ctx)
		defer cancel()
		member, err := r.Members.Client(onMember, order.Cluster)
		if err != nil {
			return err
		}
		for _, ref := range order.Applied {
			if err := remove(onMember, member, ref); err != nil {
				return fmt.Errorf("cannot remove %s from cluster %q: %w", ref, order.Cluster, err)
			}
		}
	}
	controllerutil.RemoveFinalizer(cm, distribute.DirectFinalizer)
	return client.IgnoreNotFound(r.Client.Update(ctx, cm, fieldOwner))
}

// report writes to the order what is known of the member, if that is news.
func (r *Reconciler) report(ctx context.Context, cm *corev1.ConfigMap, applied []distribute.ObjectRef, failures []distribute.DirectFailure, confirmed bool) error {
	before := cm.DeepCopy()
	if err := distribute.Report(cm, applied, failures, confirmed); err != nil {
		return err
	}
	if equalData(before.Data, cm.Data) {
		return nil
	}
	return r.Client.Update(ctx, cm, fieldOwner)
}

func equalData(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if b[k] != v {
			return false
		}
	}
	return true
}

// manifests of an order, and what each of them is.
func manifests(order distribute.DirectOrder) ([]*unstructured.Unstructured, []distribute.ObjectRef, error) {
	objects := make([]*unstructured.Unstructured, 0, len(order.Manifests))
	refs := make([]distribute.ObjectRef, 0, len(order.Manifests))
	for i, raw := range order.Manifests {
		o := &unstructured.Unstructured{}
		if err := json.Unmarshal(raw, o); err != nil {
			return nil, nil, fmt.Errorf("cannot read manifest %d for cluster %q: %w", i, order.Cluster, err)
		}
		if o.GroupVersionKind().GroupVersion() != rbacv1.SchemeGroupVersion {
			return nil, nil, fmt.Errorf("cannot apply a %s: only RBAC is carried to members", o.GroupVersionKind())
		}
		objects = append(objects, o)
		refs = append(refs, distribute.ObjectRef{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()})
	}
	return objects, refs, nil
}

func union(a, b []distribute.ObjectRef) []distribute.ObjectRef {
	out := slices.Clone(a)
	for _, ref := range b {
		if !slices.Contains(out, ref) {
			out = append(out, ref)
		}
	}
	return out
}
