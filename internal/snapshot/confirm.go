package snapshot

import (
	"context"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// OutOfDate is the name by which the refusal goes of whatever is asked while the hub has
// not confirmed for MaxStaleness what is granted.
const OutOfDate = "out-of-date"

// outOfDate are the guardrails of an index that denies everything.
var outOfDate = guardrail.NewSet([]*guardrail.Guardrail{{
	Name: OutOfDate, Enforcement: v1alpha1.EnforcementDeny, Points: 1<<guardrail.Compile | 1<<guardrail.Request, Check: refusal{},
}}, nil, guardrail.Options{})

// refusal of everything.
type refusal struct{}

// Check implements guardrail.Check.
func (refusal) Check(*guardrail.Input) ([]guardrail.Violation, error) {
	return []guardrail.Violation{{Message: "the hub cannot be reached to confirm what is granted; access comes back when it can"}}, nil
}

// Timed implements guardrail.Check.
func (refusal) Timed() bool { return false }

func (a *Access) callEvery() time.Duration {
	if a.staleness > 0 {
		return min(calling, a.staleness/4)
	}
	return calling
}

// confirm compares the caches with the hub where it is time to, and has an index built
// where they missed something.
func (a *Access) confirm(ctx context.Context, now time.Time) error {
	if a.pending == nil && !a.called.IsZero() && now.Before(a.called.Add(a.callEvery())) && a.retry == 0 {
		return nil
	}
	var err error
	if a.pending == nil || now.Sub(a.pending.at) >= 4*callAgain { // or what was listed may be gone since
		if a.pending, err = a.world.call(ctx, now); err != nil {
			return err
		}
	}
	same, err := a.world.answered(ctx, a.pending)
	if err != nil || !same {
		return err
	}
	set, err := a.world.guardrails(ctx)
	if err != nil {
		return err
	}
	at := a.pending.at
	a.confirmed.Store(&at)
	a.metrics.confirm(at)
	a.pending, a.called = nil, at
	a.due = a.due || a.last == nil || set != a.last.Guardrails || a.lapsed.Load()
	return nil
}

// follow returns when the caches have all that the hub has now.
func (a *Access) follow(ctx context.Context, now time.Time) error {
	r, err := a.world.call(ctx, now)
	if err != nil {
		return err
	}
	for {
		if same, err := a.world.answered(ctx, r); same || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("cannot read grants: the caches are behind the hub: %w", ctx.Err())
		case <-a.clock.After(followed):
		}
	}
}

func (a *Access) stale(now time.Time) bool {
	return a.staleness >= 0 && a.Current() != nil && !now.Before(a.Confirmed().Add(a.staleness))
}

// lapse has everything denied.
func (a *Access) lapse(ctx context.Context) {
	if a.lapsed.Swap(true) {
		return
	}
	log.FromContext(ctx).Error(nil, "The hub has not confirmed the grants for too long; everything is denied until it does",
		"confirmed", a.Confirmed(), "maxStaleness", a.staleness.String())
	a.swap(a.builder.Build(compile.Snapshot{Point: a.last.Point, Fleet: a.last.Fleet, Guardrails: outOfDate, Now: a.clock.Now()}))
}
