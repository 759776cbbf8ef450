package snapshot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// DefaultMaxStaleness is for how long an Access decides by what it knows while it
// cannot learn whether that still holds.
const DefaultMaxStaleness = 10 * time.Minute

const (
	// spacing between two builds, of which the first is made at once.
	spacing = 50 * time.Millisecond
	// settle is how long a change waits for others that takes no access away by
	// itself: members tell of their health all the time.
	settle = 500 * time.Millisecond
	// followed is how often caches are looked at that are about to follow.
	followed = 5 * time.Millisecond
	// timeout for what is read live in one pass.
	timeout = 5 * time.Second
	// calling is how often caches are compared with the hub, unless MaxStaleness asks
	// for more; callAgain while they are behind.
	calling   = 2 * time.Minute
	callAgain = 250 * time.Millisecond
	// retries of what failed.
	firstRetry, lastRetry = 100 * time.Millisecond, 10 * time.Second
)

// Access keeps the effective.Index of a hub. Each replica has its own and asks no
// other; it writes nothing.
//
// It reads, compiles and judges what the controller does, and so gives what the
// controller would have delivered, within a moment of each change. Where anything
// cannot be read, nothing widens: what was taken away is taken away, and what is new
// waits. What ends by time ends by itself, since each decision looks at the instant.
//
// What it cannot see is a revocation on a hub that it cannot reach. So it compares its
// caches with the hub every two minutes, and when it could not for MaxStaleness its
// Index denies everything until it can again. Short of that a partition costs nobody
// their access.
type Access struct {
	world     reader
	clock     clock.Clock
	staleness time.Duration // negative for never
	spacing   time.Duration
	watch     func(ctx context.Context, a *Access) error
	metrics   *metrics

	current   atomic.Pointer[effective.Index]
	confirmed atomic.Pointer[time.Time]
	lapsed    atomic.Bool
	wake      chan struct{}
	stir      chan struct{}

	mu          sync.Mutex
	subscribers []*subscriber

	// What follows is of the one goroutine of Start.
	builder effective.Builder
	// last is what the current index was built of; its Guardrails are never nil.
	last *compile.Snapshot
	// due: something has changed since, or may have.
	due bool
	// pending is a call that the caches have not answered yet, made at called.
	pending *rolls
	called  time.Time
	built   time.Time
	retry   time.Duration
	trouble string
}

// reader of a hub; *world is one.
type reader interface {
	// read everything that decides but the instant.
	read(ctx context.Context) (compile.Snapshot, error)
	guardrails(ctx context.Context) (*guardrail.Set, error)
	// call lists live what gives access, and answered reports whether the caches have it.
	call(ctx context.Context, now time.Time) (*rolls, error)
	answered(ctx context.Context, r *rolls) (bool, error)
}

type subscriber struct{ f func(*effective.Index) }

// Current is the index to decide by. It is nil, which denies everything, until all
// that decides has been read for the first time.
func (a *Access) Current() *effective.Index { return a.current.Load() }

// Subscribe has f called with each index that comes after, in their order, by one
// goroutine at a time: the next index waits for f to return. After stop, f is called
// no more, but for a call that is under way.
func (a *Access) Subscribe(f func(*effective.Index)) (stop func()) {
	s := &subscriber{f}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.subscribers = append(slices.Clip(a.subscribers), s)
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.subscribers = slices.DeleteFunc(slices.Clone(a.subscribers), func(o *subscriber) bool { return o == s })
	}
}

// Ready is nil while there is an index that is not out of date: guardrails, grants and
// fleet have been read, and MaxStaleness has not passed since the hub confirmed them.
func (a *Access) Ready(*http.Request) error {
	switch {
	case a.Current() == nil:
		return errors.New("the guardrails and grants are not known yet")
	case a.lapsed.Load():
		return errors.New("the hub has not confirmed the grants for too long")
	}
	return nil
}

// Confirmed is the last instant at which the caches are known to have had all that the
// hub had; zero if there is none.
func (a *Access) Confirmed() time.Time {
	if at := a.confirmed.Load(); at != nil {
		return *at
	}
	return time.Time{}
}

// NeedLeaderElection is false: every replica decides.
func (a *Access) NeedLeaderElection() bool { return false }

// changed has an index built soon.
func (a *Access) changed() { signal(a.wake) }

// stirred has an index built after a while.
func (a *Access) stirred() { signal(a.stir) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it will be
	}
}

// Start keeps the index until the context ends. It is a manager.Runnable.
func (a *Access) Start(ctx context.Context) error {
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithName("access"))
	if err := a.watch(ctx, a); err != nil {
		return fmt.Errorf("cannot watch what decides: %w", err)
	}
	a.due = true
	for ctx.Err() == nil {
		wait := a.pass(ctx)
		a.due = a.await(ctx, wait) || a.due
	}
	return nil
}

// pass does what there is to do now, and returns when to look again if nothing
// happens.
func (a *Access) pass(ctx context.Context) time.Duration {
	now := a.clock.Now()
	reading, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := a.confirm(reading, now)
	next := a.next()
	a.due = a.due || !next.IsZero() && !now.Before(next)
	switch {
	case a.stale(now):
		a.lapse(ctx)
	case a.due:
		// Also where the hub did not answer: what the caches saw go is gone.
		err = cmp.Or(a.build(reading, now), err)
	}
	if ctx.Err() == nil {
		a.tell(ctx, err)
	}
	return a.again(now, err)
}

// again is how long to wait if nothing happens.
func (a *Access) again(now time.Time, err error) time.Duration {
	wait := a.callEvery()
	sooner := func(at time.Time) {
		if !at.IsZero() {
			wait = min(wait, max(at.Sub(now), time.Millisecond))
		}
	}
	switch {
	case err != nil:
		a.retry = min(max(2*a.retry, firstRetry), lastRetry)
		wait = min(wait, a.retry)
	case a.pending != nil:
		wait = min(wait, callAgain)
	default:
		a.retry = 0
		sooner(a.next())
		sooner(a.called.Add(a.callEvery()))
	}
	if a.staleness >= 0 && !a.lapsed.Load() && a.Current() != nil {
		sooner(a.Confirmed().Add(a.staleness))
	}
	return wait
}

// next is when time alone asks for another index.
func (a *Access) next() time.Time {
	if ix := a.Current(); ix != nil && !a.lapsed.Load() {
		return ix.Next()
	}
	return time.Time{}
}

// await an event or the end of the wait, but at least for the spacing. It reports
// whether there was an event.
func (a *Access) await(ctx context.Context, wait time.Duration) (event bool) {
	end := a.clock.Now().Add(wait)
	timer := a.clock.NewTimer(wait)
	defer timer.Stop()
	stir := a.stir
	for waiting := true; waiting; {
		select {
		case <-ctx.Done():
			return event
		case <-timer.C():
			waiting = false
		case <-a.wake:
			event, waiting = true, false
		case <-stir:
			event, stir = true, nil
			if end.Sub(a.clock.Now()) > settle {
				timer.Reset(settle)
			}
		}
	}
	if pause := a.built.Add(a.spacing).Sub(a.clock.Now()); pause > 0 {
		select {
		case <-ctx.Done():
		case <-a.clock.After(pause):
		}
	}
	for _, c := range []chan struct{}{a.wake, a.stir} { // the build that follows sees it all
		select {
		case <-c:
			event = true
		default:
		}
	}
	return event
}

// build an index of what there is now. Where the guardrails cannot be read, it is of
// what is left of what the last one was built of.
func (a *Access) build(ctx context.Context, now time.Time) error {
	if a.Confirmed().IsZero() {
		return nil // a cache that begins behind would bring back what was revoked
	}
	s, err := a.world.read(ctx)
	if err == nil && (a.last == nil || !s.Guardrails.Covers(a.last.Guardrails)) {
		s, err = a.without(ctx, now, s)
	}
	var noPolicy errPolicy
	switch {
	case err == nil:
		a.put(s, now)
		a.due = false
	case errors.As(err, &noPolicy) && a.last != nil:
		a.put(narrower(a.last, &s), now)
	}
	return err
}

// without a guardrail that was there the last time, the caches may yet have a grant that
// went before it. So the grants are read again when the caches have all that the hub had
// when the guardrail was gone (S26). What came in its place is in force meanwhile.
func (a *Access) without(ctx context.Context, now time.Time, s compile.Snapshot) (compile.Snapshot, error) {
	less := s.Guardrails
	if a.last != nil {
		if s.Guardrails = guardrail.Together(a.last.Guardrails, less); s.Guardrails.Digest() != a.last.Guardrails.Digest() {
			a.put(s, now)
		}
	}
	if err := a.follow(ctx, now); err != nil {
		return s, err
	}
	s, err := a.world.read(ctx)
	if err == nil && !s.Guardrails.Covers(less) {
		err = errors.New("cannot read the guardrails: they change faster than they can be read")
	}
	return s, err
}

// put in place an index of a snapshot.
func (a *Access) put(s compile.Snapshot, now time.Time) {
	s.Now = now
	begin := a.clock.Now()
	ix := a.builder.Build(s)
	a.last = &s
	a.lapsed.Store(false)
	a.built = a.clock.Now()
	a.metrics.build(ix, len(s.Grants), a.built.Sub(begin))
	a.swap(ix)
}

// swap is where requests begin to be decided by another index.
func (a *Access) swap(ix *effective.Index) {
	a.current.Store(ix)
	a.mu.Lock()
	to := a.subscribers // never changed in place
	a.mu.Unlock()
	for _, s := range to {
		s.f(ix)
	}
}

// tell operators what is wrong, each time that it changes. At a start the kinds are
// still being listed, which is no failure.
func (a *Access) tell(ctx context.Context, err error) {
	var trouble string
	if err != nil {
		trouble = err.Error()
		if !errors.Is(err, served.ErrUnknown) {
			a.metrics.fail()
		}
	}
	if trouble == a.trouble {
		return
	}
	logger := log.FromContext(ctx)
	switch {
	case err == nil:
		logger.Info("What decides can be read again")
	case errors.Is(err, served.ErrUnknown):
		logger.Info("Waiting for the hub", "because", trouble)
	default:
		logger.Error(err, "Cannot read what decides; nothing widens until it can be")
	}
	a.trouble = trouble
}

// accessConfig is what an Access is made of.
type accessConfig struct {
	world     reader
	clock     clock.Clock
	staleness time.Duration
	watch     func(ctx context.Context, a *Access) error
	metrics   *metrics
}

func newAccess(c accessConfig) *Access {
	return &Access{
		world: c.world, clock: c.clock, staleness: cmp.Or(c.staleness, DefaultMaxStaleness), spacing: spacing, watch: c.watch, metrics: c.metrics,
		wake: make(chan struct{}, 1), stir: make(chan struct{}, 1),
	}
}
