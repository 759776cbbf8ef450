package guardrailbundle

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// BundleLabel on an archive names the GuardrailBundle that it is of.
const BundleLabel = "access.sallyport.dev/bundle"

// Annotations on an archive.
const (
	revisionAnnotation = "access.sallyport.dev/bundle-revision"
	digestAnnotation   = "access.sallyport.dev/bundle-digest"
	keyAnnotation      = "access.sallyport.dev/bundle-key"
)

// keep is how long an archive is kept that is not in force any more.
const keep = time.Minute

const fieldOwner = client.FieldOwner("sallyport")

// Reconciler of GuardrailBundles. Its fields are set before SetupWithManager and not
// changed afterwards.
type Reconciler struct {
	// Client writes.
	Client client.Client
	// Live reads past every cache: a status that is behind would let an older bundle
	// in.
	Live client.Reader
	// Namespace of the archives, Sallyport's own.
	Namespace string
	Events    record.EventRecorder
	// Now is the clock.
	Now func() time.Time
	// Metrics is where metrics are registered; nil for nowhere.
	Metrics prometheus.Registerer
	// Timeout for fetching a bundle; 30 s if zero.
	Timeout time.Duration

	once    sync.Once
	metrics *metrics

	mu sync.Mutex
	// compiled is what of each bundle was last found to compile. It spares work.
	compiled map[types.UID]version
}

// version of a bundle: both what it is and how it is put in force.
type version struct {
	generation int64
	digest     string
}

// SetupWithManager has the reconciler run on the leader.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	if err := r.instruments().register(r.Metrics); err != nil {
		return err
	}
	ofBundle := handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Name: o.GetLabels()[BundleLabel]}}}
	})
	archives := builder.WithPredicates(predicate.NewPredicateFuncs(func(o client.Object) bool {
		return o.GetNamespace() == r.Namespace && o.GetLabels()[BundleLabel] != "" && distribute.Ours(o)
	}))
	return ctrl.NewControllerManagedBy(mgr).
		Named("guardrailbundle").
		For(&v1alpha1.GuardrailBundle{}, builder.WithPredicates(predicate.Or(
			predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{},
		))).
		Watches(&corev1.ConfigMap{}, ofBundle, archives).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: 4, // a slow source is not to hold up the others
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[ctrl.Request](100*time.Millisecond, 30*time.Second),
		}).
		Complete(r)
}

// Reconcile looks at the source of one bundle.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	seen, err := r.observe(ctx, req.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	if seen == nil {
		return ctrl.Result{}, r.forget(ctx, req.Name)
	}
	return r.commit(ctx, seen, decide(seen))
}

// observation is all that a decision depends on.
type observation struct {
	bundle *v1alpha1.GuardrailBundle
	// archives of the bundle that are kept.
	archives []*corev1.ConfigMap
	// fetched from the source, or why it could not be. Neither, where the bundle is
	// suspended.
	fetched  []byte
	fetchErr error
	// compiled is what was found to compile before.
	compiled version
	now      time.Time
}

// observe is nil for a bundle that is gone.
func (r *Reconciler) observe(ctx context.Context, name string) (*observation, error) {
	seen := &observation{bundle: &v1alpha1.GuardrailBundle{}, now: r.Now()}
	if err := r.Live.Get(ctx, client.ObjectKey{Name: name}, seen.bundle); err != nil {
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		return nil, fmt.Errorf("cannot read bundle %q: %w", name, err)
	}
	archives, err := r.archives(ctx, name)
	if err != nil {
		return nil, err
	}
	for _, a := range archives {
		// Those of another object of the same name have gone with it.
		if owned(a, seen.bundle.UID) {
			seen.archives = append(seen.archives, a)
		}
	}
	r.mu.Lock()
	seen.compiled = r.compiled[seen.bundle.UID]
	r.mu.Unlock()
	if !seen.bundle.Spec.Suspend {
		seen.fetched, seen.fetchErr = r.fetch(ctx, &seen.bundle.Spec.Source)
	}
	return seen, nil
}

// archives of a bundle, and of those of the same name before it.
func (r *Reconciler) archives(ctx context.Context, name string) ([]*corev1.ConfigMap, error) {
	var list corev1.ConfigMapList
	err := r.Live.List(ctx, &list, client.InNamespace(r.Namespace), client.MatchingLabels{
		BundleLabel: name, v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue,
	})
	if err != nil {
		return nil, fmt.Errorf("cannot list the archives of bundle %q: %w", name, err)
	}
	out := make([]*corev1.ConfigMap, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, &list.Items[i])
	}
	return out, nil
}

func owned(o client.Object, by types.UID) bool {
	for _, owner := range o.GetOwnerReferences() {
		if owner.UID == by {
			return true
		}
	}
	return false
}

// forget a bundle that is gone. Where nobody collects garbage, its archives would
// stay.
func (r *Reconciler) forget(ctx context.Context, name string) error {
	r.instruments().forget(name)
	archives, err := r.archives(ctx, name)
	if err != nil {
		return err
	}
	return r.remove(ctx, archives)
}
