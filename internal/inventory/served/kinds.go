package served

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// Options for New. Zero durations have the defaults that are named.
type Options struct {
	// Scheme knows the Go types of the kinds.
	Scheme *runtime.Scheme
	// Poll is how often the hub is asked though nothing changed: 1 minute.
	Poll time.Duration
	// Retry is how often it is asked while a kind is in doubt: 2 seconds.
	Retry time.Duration
	// Grace is for how long an aggregated API that was in use and whose
	// APIService was deleted is Stale before it is Absent: 10 minutes. Deleting
	// an APIService, as an upgrade may do for a moment, deletes no objects.
	// (Deleting a CustomResourceDefinition does, so that has no grace.)
	Grace time.Duration
}

// Kinds follows optional kinds, and is a client.Reader of those that are served.
// Add it to a manager; it runs on every replica. Its methods may be called from
// several goroutines.
type Kinds struct {
	config  *rest.Config
	http    *http.Client
	scheme  *runtime.Scheme
	options Options
	hub     *hub
	wake    chan struct{}

	mu      sync.RWMutex
	kinds   map[schema.GroupKind]*kind
	watches []*watch
	changes []*changes
}

// kind is what is known of one of them. Guarded by Kinds.mu.
type kind struct {
	Kind
	// looked: there was a verdict.
	looked bool
	doubt  string
	held   *held
	// aggregated: it came from an APIService when last seen.
	aggregated bool
	// lostAt is when an aggregated kind went without a trace.
	lostAt time.Time
}

var _ client.Reader = (*Kinds)(nil)

// New makes a Kinds for the hub that config reaches. It does nothing until Start.
func New(config *rest.Config, options Options) (*Kinds, error) {
	if options.Scheme == nil {
		options.Scheme = runtime.NewScheme()
	}
	options.Poll = orDefault(options.Poll, time.Minute)
	options.Retry = orDefault(options.Retry, 2*time.Second)
	options.Grace = orDefault(options.Grace, 10*time.Minute)
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("cannot make a client for the hub: %w", err)
	}
	k := &Kinds{
		config: config, http: httpClient, scheme: options.Scheme, options: options,
		wake: make(chan struct{}, 1), kinds: map[schema.GroupKind]*kind{},
	}
	if k.hub, err = newHub(config, httpClient, k.concerns, k.poke, k.blocked); err != nil {
		return nil, err
	}
	return k, nil
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// Add more kinds to follow, at any time. Each is added once.
func (k *Kinds) Add(more ...Kind) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range more {
		if err := m.validate(k.scheme); err != nil {
			return fmt.Errorf("cannot follow %s: %w", m.GVK, err)
		}
		gk := m.GVK.GroupKind()
		if _, twice := k.kinds[gk]; twice {
			return fmt.Errorf("cannot follow %s: it was added before", gk)
		}
		k.kinds[gk] = &kind{Kind: m}
	}
	k.poke()
	return nil
}

// NeedLeaderElection is false: every replica reads, so that the next leader is
// ready.
func (k *Kinds) NeedLeaderElection() bool { return false }

// Start follows the kinds until the context ends. It is a manager.Runnable, and
// returns no error for what the hub does or lacks.
func (k *Kinds) Start(ctx context.Context) error {
	if err := k.hub.start(ctx); err != nil {
		return err
	}
	for ctx.Err() == nil {
		again := k.look(ctx)
		select {
		case <-ctx.Done():
		case <-time.After(again):
		case <-k.wake:
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, kind := range k.kinds {
		kind.drop()
	}
	return nil
}

// poke has the hub asked soon.
func (k *Kinds) poke() {
	select {
	case k.wake <- struct{}{}:
	default: // it will be
	}
}

// blocked says what keeps the hub from being asked for the first time, such as a
// right to list CustomResourceDefinitions that is missing.
func (k *Kinds) blocked(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, kind := range k.kinds {
		if !kind.looked {
			kind.doubt = "cannot watch what the hub serves: " + err.Error()
		}
	}
}

// concerns reports whether a CustomResourceDefinition (resource.group) or an
// APIService (version.group) of that name is about a kind that is followed.
func (k *Kinds) concerns(name string) bool {
	first, group, _ := strings.Cut(name, ".")
	k.mu.RLock()
	defer k.mu.RUnlock()
	for _, kind := range k.kinds {
		if kind.GVK.Group != group {
			continue
		}
		if kind.Resource == first || slices.ContainsFunc(kind.versions(), func(gv schema.GroupVersion) bool { return gv.Version == first }) {
			return true
		}
	}
	return false
}

// look asks the hub about every kind and does what follows from it. It returns
// when to look again.
func (k *Kinds) look(ctx context.Context) time.Duration {
	k.mu.RLock()
	followed := slices.Collect(maps.Values(k.kinds))
	var versions []schema.GroupVersion
	for _, kind := range followed {
		versions = append(versions, kind.versions()...)
	}
	k.mu.RUnlock()

	answers := k.hub.ask(ctx, versions)
	if ctx.Err() != nil {
		return 0 // answers of a hub that is being left prove nothing
	}
	again := k.options.Poll
	for _, kind := range followed {
		f, err := k.hub.facts(ctx, kind.Kind, answers)
		if err != nil {
			f = facts{answers: failedAnswers(len(kind.versions()), err)}
		}
		if doubtful := k.conclude(ctx, kind, f); doubtful {
			again = min(again, k.options.Retry)
		}
	}
	return again
}

func failedAnswers(n int, err error) []answer {
	return slices.Repeat([]answer{{failed: err}}, n)
}

// conclude brings one kind to what the facts say, and reports whether they leave
// a doubt.
func (k *Kinds) conclude(ctx context.Context, kind *kind, f facts) (doubtful bool) {
	k.mu.Lock()
	before := kind.status()
	var inUse schema.GroupVersion
	if kind.held != nil {
		inUse = kind.held.gvk.GroupVersion()
	}
	v := k.grace(kind, decide(kind.Kind, inUse, f), time.Now())
	kind.looked, kind.doubt = true, v.doubt
	var err error
	switch {
	case v.absent:
		kind.drop()
	case !v.served.Empty():
		kind.aggregated = f.aggregated != ""
		if v.served != inUse {
			kind.drop()
			if kind.held, err = k.hold(ctx, kind.Kind, v.served.WithKind(kind.GVK.Kind)); err != nil {
				kind.doubt = err.Error()
			}
		}
	}
	after := kind.status()
	doubtful = kind.doubt != ""
	k.mu.Unlock()

	k.tell(ctx, kind.GVK.GroupKind(), before, after)
	return doubtful
}

// grace turns the sudden absence of an aggregated API that was in use into a
// doubt, for a while.
func (k *Kinds) grace(kind *kind, v verdict, now time.Time) verdict {
	if !v.absent || !kind.aggregated || kind.held == nil {
		kind.lostAt = time.Time{}
		return v
	}
	if kind.lostAt.IsZero() {
		kind.lostAt = now
	}
	if now.Sub(kind.lostAt) >= k.options.Grace {
		return v
	}
	return verdict{doubt: fmt.Sprintf("its APIService was deleted less than %s ago", k.options.Grace)}
}

// status of the kind. Kinds.mu is held.
func (kind *kind) status() Status {
	switch {
	case !kind.looked:
		return Status{Message: cmp.Or(kind.doubt, "the hub has not been asked yet")}
	case kind.held == nil && kind.doubt == "":
		return Status{State: Absent}
	case kind.held == nil:
		return Status{Message: kind.doubt}
	case !kind.held.full:
		return Status{State: Listing, GVK: kind.held.gvk, Message: kind.held.listing()}
	case kind.doubt != "":
		return Status{State: Stale, GVK: kind.held.gvk, Message: kind.doubt}
	}
	return Status{State: Current, GVK: kind.held.gvk}
}

// drop stops holding the kind. Kinds.mu is held.
func (kind *kind) drop() {
	if kind.held != nil {
		kind.held.stop()
		kind.held = nil
	}
	kind.aggregated, kind.lostAt = false, time.Time{}
}

// Status of a kind; Unknown if it was never added.
func (k *Kinds) Status(gk schema.GroupKind) Status {
	k.mu.RLock()
	defer k.mu.RUnlock()
	kind, ok := k.kinds[gk]
	if !ok {
		return Status{Message: "it is not followed"}
	}
	return kind.status()
}

// Readable reports whether Get and List answer for the kind.
func (k *Kinds) Readable(gk schema.GroupKind) bool { return k.Status(gk).State.Readable() }

// Get reads from the kind's cache. The error wraps ErrAbsent or ErrUnknown where
// there is no full cache to read from; it never waits for one.
func (k *Kinds) Get(ctx context.Context, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
	r, err := k.reader(obj)
	if err != nil {
		return err
	}
	return r.Get(ctx, key, obj, opts...)
}

// List reads from the kind's cache, as Get does.
func (k *Kinds) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	r, err := k.reader(list)
	if err != nil {
		return err
	}
	return r.List(ctx, list, opts...)
}

func (k *Kinds) reader(obj runtime.Object) (client.Reader, error) {
	gvk, err := apiutil.GVKForObject(obj, k.scheme)
	if err != nil {
		return nil, err
	}
	gvk.Kind = strings.TrimSuffix(gvk.Kind, "List")
	k.mu.RLock()
	defer k.mu.RUnlock()
	kind, ok := k.kinds[gvk.GroupKind()]
	if !ok {
		return nil, fmt.Errorf("cannot read %s: it is not followed: %w", gvk.GroupKind(), ErrUnknown)
	}
	status := kind.status()
	switch {
	case status.State == Absent:
		return nil, fmt.Errorf("cannot read %s: %w", gvk.GroupKind(), ErrAbsent)
	case !status.State.Readable():
		return nil, fmt.Errorf("cannot read %s: %w: %s", gvk.GroupKind(), ErrUnknown, status.Message)
	case status.GVK != gvk:
		return nil, fmt.Errorf("cannot read %s: it is held in version %s: %w", gvk, status.GVK.Version, ErrUnknown)
	}
	return kind.held.cache, nil
}

// tell logs a change of state and passes it on to those who asked for Changes.
func (k *Kinds) tell(ctx context.Context, gk schema.GroupKind, before, after Status) {
	if before.State == after.State && before.GVK == after.GVK {
		return
	}
	log.FromContext(ctx).Info("Optional kind changed", "kind", gk.String(), "version", after.GVK.Version,
		"from", before.State.String(), "to", after.State.String(), "because", after.Message)
	k.mu.RLock()
	to := slices.Clone(k.changes)
	k.mu.RUnlock()
	for _, c := range to {
		c.send(gk)
	}
}
