package route

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/identity"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

// Reconciler of routes. A request names a cluster. Its fields are set before
// SetupWithManager and not changed afterwards.
type Reconciler struct {
	// Client writes.
	Client client.Client
	// Live reads past every cache: no right to watch is needed for it.
	Live client.Reader
	// Inventory reads the fleet. *inventory.Inventory is one.
	Inventory interface {
		Fleet(context.Context) (*fleet.Fleet, []inventory.Problem, error)
	}
	// Issuers of tokens.
	Issuers map[fleet.Issuer]identity.Issuer
	// Accounts are withdrawn where they are not needed any more.
	// *identity.ManagedServiceAccounts is one; nil withdraws none.
	Accounts interface {
		Withdraw(ctx context.Context, cluster, name string) error
	}
	// Namespace of the routes, the gateway's.
	Namespace string
	// Impersonator is the name of the account on members, but on Karmada's.
	Impersonator string
	Events       record.EventRecorder
	// Now is the clock.
	Now func() time.Time
	// Resync is how often a member is looked at though nothing happened; 2 minutes if
	// zero.
	Resync time.Duration
	// Timeout for getting a token; 10 s if zero.
	Timeout time.Duration
	// Metrics is where metrics are registered; nil for nowhere.
	Metrics prometheus.Registerer

	once    sync.Once
	metrics *metrics

	mu sync.Mutex
	// told is what was last told of each cluster.
	told map[string]string
}

const fieldOwner = client.FieldOwner("sallyport")

// seen is what there is of a cluster.
type seen struct {
	cluster string
	// member is nil where nothing is delivered to the cluster, least of all rights.
	member *fleet.Member
	// held is the route that the gateway has; nil for none.
	held *corev1.Secret
}

// Reconcile brings the route to one cluster to what it should be.
func (r *Reconciler) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	s, err := r.observe(ctx, req.Name)
	if err != nil {
		return ctrl.Result{}, err
	}
	route, err := r.obtain(ctx, s)
	return r.commit(ctx, s, route, err)
}

func (r *Reconciler) observe(ctx context.Context, cluster string) (*seen, error) {
	s := &seen{cluster: cluster}
	f, _, err := r.Inventory.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	if m, ok := f.Get(cluster); ok && m.Accepted && m.Delivery != fleet.None {
		s.member = &m
	}
	held := &corev1.Secret{}
	switch err := r.Live.Get(ctx, client.ObjectKey{Namespace: r.Namespace, Name: identity.SecretName(cluster)}, held); {
	case apierrors.IsNotFound(err):
	case err != nil:
		return nil, fmt.Errorf("cannot read the route to cluster %q: %w", cluster, err)
	case !identity.Ours(held):
		return nil, fmt.Errorf("cannot write the route to cluster %q: Secret %q is not Sallyport's", cluster, held.Name)
	default:
		s.held = held
	}
	return s, nil
}

// errNoRoute: there is none, which is as it should be.
var errNoRoute = errors.New("the gateway does not reach the cluster")

// obtain the route that there should be.
func (r *Reconciler) obtain(ctx context.Context, s *seen) (*identity.Route, error) {
	if r.Accounts != nil && (s.member == nil || s.member.Issuer != fleet.ManagedServiceAccount) {
		if err := r.Accounts.Withdraw(ctx, s.cluster, r.Impersonator); err != nil {
			return nil, err
		}
	}
	if s.member == nil {
		return nil, errNoRoute
	}
	issuer := r.Issuers[s.member.Issuer]
	if issuer == nil {
		return nil, fmt.Errorf("nothing gets tokens of an impersonator on cluster %q, which has neither the managed-serviceaccount add-on nor a kubeconfig Secret: %w", s.cluster, identity.ErrWaits)
	}
	var held identity.Route
	if s.held != nil {
		held = identity.Held(s.held)
	}
	ctx, cancel := context.WithTimeout(ctx, or(r.Timeout, 10*time.Second))
	defer cancel()
	route, err := issuer.Route(ctx, s.member, held)
	if err != nil {
		return nil, err
	}
	return &route, nil
}

func or(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}
