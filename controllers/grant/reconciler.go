package grant

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/sallyport-dev/sallyport/internal/audit"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/distribute"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
)

// Kinds reads the kinds that a hub need not have.
type Kinds interface {
	client.Reader
	Status(gk schema.GroupKind) served.Status
}

// Reconciler of all grants. Its fields are set before SetupWithManager and not
// changed afterwards.
type Reconciler struct {
	// Client reads from a cache, and writes.
	Client client.Client
	// Live reads past every cache.
	Live client.Reader
	// Kinds holds the works, where there are any, that have Sallyport's label.
	Kinds     Kinds
	Inventory snapshot.Inventory
	Policy    Policy
	// Audit takes what guardrails make of everything that stands, once a pass. It
	// does not wait. Nil for nobody.
	Audit func(audit.Audit)
	// Carriers by way of delivery.
	Carriers map[fleet.Delivery]distribute.Carrier
	Events   record.EventRecorder
	// Now is the clock.
	Now func() time.Time
	// Writers is how many writes may be under way at once; 8 if zero.
	Writers int
	// Grace is how long members may take to confirm a revocation before it is
	// called residual access; 30 s if zero.
	Grace time.Duration

	// What follows only spares work, but for fleet; all of it is guarded by mu.
	mu       sync.Mutex
	compiler compile.Compiler
	specs    snapshot.Specs
	recent   recent
	fleet    snapshot.Fleet
	// failing guardrails in the last pass, and of which grant and why.
	failing map[string]string
	// failed counts the passes in a row in which writes failed.
	failed int

	// applied is what each grant meant when it was last applied everywhere.
	applied   map[types.UID]meaning
	standings map[carrierKey]standing
	carried   map[carrierKey]carried
	versions  map[carrierKey]versions
	confirmed map[carrierKey]confirmed
}

// everything is the one request.
var everything = reconcile.Request{NamespacedName: types.NamespacedName{Name: "fleet"}}

// Reconcile brings hub, members and statuses to what the grants say.
func (r *Reconciler) Reconcile(ctx context.Context, _ ctrl.Request) (ctrl.Result, error) {
	r.mu.Lock()
	defer r.mu.Unlock()

	seen, err := r.observe(ctx)
	switch {
	case errors.Is(err, served.ErrUnknown):
		// As at every start: the kinds are still being listed, which is no failure.
		ctrl.LoggerFrom(ctx).Info("Waiting for the hub", "because", err.Error())
		return ctrl.Result{RequeueAfter: time.Second}, nil
	case err != nil:
		return ctrl.Result{}, err
	}
	plan := r.decide(seen)
	r.tellFailures(ctx, plan)
	r.audit(ctx, seen, plan)
	done := r.commit(ctx, seen, plan)
	return r.report(ctx, seen, plan, done)
}

func (r *Reconciler) writers() int {
	if r.Writers > 0 {
		return r.Writers
	}
	return 8
}

// retireAfter is how long an emptied object stays in a work.
func (r *Reconciler) retireAfter() time.Duration { return 2 * time.Second }

func (r *Reconciler) grace() time.Duration {
	if r.Grace > 0 {
		return r.Grace
	}
	return 30 * time.Second
}
