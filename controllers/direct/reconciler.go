package direct

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/util/workqueue"
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
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 8, // a slow member is not to hold up the others
			// A member that is back is not to keep for long what was revoked meanwhile.
			RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](100*time.Millisecond, 30*time.Second),
		}).
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
	result := ctrl.Result{}
	if cm.DeletionTimestamp.IsZero() {
		result.RequeueAfter = or(r.Resync, 30*time.Second)
		err = r.carryOut(ctx, cm, order)
	} else {
		err = r.takeAway(ctx, cm, order)
	}
	if errors.Is(err, errStale) {
		return ctrl.Result{}, nil
	}
	return result, err
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
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
	obsolete := slices.DeleteFunc(slices.Clone(may), func(ref distribute.ObjectRef) bool { return slices.Contains(refs, ref) })
	left, more, err := r.remove(onMember, member, cm, order.Cluster, obsolete)
	failures = append(failures, more...)
	return r.failed(ctx, cm, slices.Concat(refs, left), failures, errors.Join(append(errs, err)...))
}

// remove objects from a member, bindings before roles, and go on past failures.
// What another order for the member wants is let be: it has moved there. It
// returns what is left.
func (r *Reconciler) remove(onMember context.Context, member client.Client, cm *corev1.ConfigMap, cluster string, refs []distribute.ObjectRef) ([]distribute.ObjectRef, []distribute.DirectFailure, error) {
	if len(refs) == 0 {
		return nil, nil, nil
	}
	elsewhere, err := r.wantedElsewhere(onMember, cm, cluster)
	if err != nil {
		return refs, nil, err
	}
	refs = slices.Clone(refs)
	slices.SortStableFunc(refs, func(a, b distribute.ObjectRef) int { return rank(a) - rank(b) })
	var left []distribute.ObjectRef
	var failures []distribute.DirectFailure
	var errs []error
	for _, ref := range refs {
		if elsewhere[ref] {
			continue
		}
		if err := remove(onMember, member, ref); err != nil {
			left = append(left, ref)
			failures = append(failures, distribute.DirectFailure{Object: ref.String(), Message: err.Error()})
			errs = append(errs, fmt.Errorf("cannot remove %s from cluster %q: %w", ref, cluster, err))
		}
	}
	return left, failures, errors.Join(errs...)
}

func rank(ref distribute.ObjectRef) int {
	if strings.HasSuffix(ref.Kind, "Binding") {
		return 0
	}
	return 1
}

// wantedElsewhere are the objects that other orders for the member want.
func (r *Reconciler) wantedElsewhere(ctx context.Context, cm *corev1.ConfigMap, cluster string) (map[distribute.ObjectRef]bool, error) {
	var list corev1.ConfigMapList
	if err := r.Client.List(ctx, &list, client.InNamespace(r.Namespace), client.HasLabels{distribute.DirectLabel}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("cannot list orders: %w", err)
	}
	out := map[distribute.ObjectRef]bool{}
	for i := range list.Items {
		other := &list.Items[i]
		if other.UID == cm.UID || !other.DeletionTimestamp.IsZero() || !distribute.Ours(other) {
			continue
		}
		order, err := distribute.ReadOrder(other)
		if err != nil || order.Cluster != cluster {
			continue
		}
		_, refs, err := manifests(order)
		if err != nil {
			continue
		}
		for _, ref := range refs {
			out[ref] = true
		}
	}
	return out, nil
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
		left, failures, err := r.remove(onMember, member, cm, order.Cluster, order.Applied)
		if err != nil {
			return r.failed(ctx, cm, left, failures, err)
		}
	}
	controllerutil.RemoveFinalizer(cm, distribute.DirectFinalizer)
	return r.update(ctx, cm)
}

// report writes to the order what is known of the member, if that is news.
func (r *Reconciler) report(ctx context.Context, cm *corev1.ConfigMap, applied []distribute.ObjectRef, failures []distribute.DirectFailure, confirmed bool) error {
	before := cm.DeepCopy()
	if err := distribute.Report(cm, applied, failures, confirmed); err != nil {
		return err
	}
	if maps.Equal(before.Data, cm.Data) {
		return nil
	}
	return r.update(ctx, cm)
}

// errStale: the order changed meanwhile or is gone, and its event is on its way.
var errStale = errors.New("the order has changed")

func (r *Reconciler) update(ctx context.Context, cm *corev1.ConfigMap) error {
	switch err := r.Client.Update(ctx, cm, fieldOwner); {
	case apierrors.IsConflict(err) || apierrors.IsNotFound(err):
		return errStale
	case err != nil:
		return fmt.Errorf("cannot update ConfigMap %q: %w", cm.Name, err)
	}
	return nil
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
