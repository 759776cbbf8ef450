package source

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// Repository is the branch to sync, as Remote implements it.
type Repository interface {
	// Head returns the SHA of the tip of the branch.
	Head(context.Context) (string, error)
	// Checkout returns the tip of the branch, which may have moved since.
	Checkout(context.Context) (*Checkout, error)
}

// Config is what a Syncer works with.
type Config struct {
	Options
	// Repository to sync; by default the one that the options name.
	Repository Repository
	// Client reads and writes. It must not read from a cache: the sync has to see
	// its own writes.
	Client client.Client
	// Events are recorded about the ConfigMap with the state.
	Events events.EventRecorder
	// Metrics are registered here, if it is given.
	Metrics prometheus.Registerer
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

// Syncer keeps a cluster equal to a branch. Only one may run for a state at a
// time, for which leader election is there; should two do, the state's resource
// version stops the one that is behind.
type Syncer struct {
	Config
	metrics *metrics
	trigger chan struct{}
	// built is the last commit that was fetched, built once: for one commit,
	// Build always says the same.
	built *built
}

type built struct {
	Commit
	objects []Object
	err     error
}

var (
	_ manager.Runnable               = &Syncer{}
	_ manager.LeaderElectionRunnable = &Syncer{}
)

// New returns a Syncer that is to be added to a manager.
func New(c Config) (*Syncer, error) {
	if c.Client == nil || c.Events == nil {
		return nil, errors.New("cannot sync without a client and an event recorder")
	}
	if c.Repository == nil {
		remote, err := NewRemote(c.Options)
		if err != nil {
			return nil, err
		}
		c.Repository = remote
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	m, err := newMetrics(c.Metrics, c.id())
	if err != nil {
		return nil, fmt.Errorf("cannot register metrics of sync %q: %w", c.id(), err)
	}
	return &Syncer{Config: c, metrics: m, trigger: make(chan struct{}, 1)}, nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (s *Syncer) NeedLeaderElection() bool { return true }

// Trigger has a pass begin now, or after the one that is under way. It never
// blocks; triggers that come close together are one.
func (s *Syncer) Trigger() {
	select {
	case s.trigger <- struct{}{}:
	default:
	}
}

// Start implements manager.Runnable: it syncs at once, at each interval and when
// triggered, until the context ends. What fails is recorded and tried again.
func (s *Syncer) Start(ctx context.Context) error {
	ctx = log.IntoContext(ctx, log.FromContext(ctx).WithValues("sync", s.id()))
	ticker := time.NewTicker(s.Interval)
	defer ticker.Stop()
	for {
		if err := s.Sync(ctx); err != nil && ctx.Err() == nil {
			log.FromContext(ctx).Error(err, "Git sync failed")
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.trigger:
		}
	}
}

// Sync makes one pass and records how it went. The error is the same as in the
// state, or says why that could not be written.
func (s *Syncer) Sync(ctx context.Context) error {
	state, err := load(ctx, s.Client, types.NamespacedName{Namespace: s.Namespace, Name: s.Name})
	if err != nil {
		s.metrics.failures.WithLabelValues(string(ReasonClusterFailed)).Inc()
		return err
	}
	out := s.pass(ctx, state)
	if err := ctx.Err(); err != nil {
		return err // perhaps another leader writes by now
	}
	return errors.Join(out.err, s.record(ctx, state, out))
}

// pass fetches, builds and converges.
func (s *Syncer) pass(ctx context.Context, state *store) outcome {
	fetchErr := s.refresh(ctx)
	if s.built == nil {
		return failed(ReasonFetchFailed, fetchErr, state.inventory)
	}
	var out outcome
	if s.built.err != nil {
		out = failed(ReasonBuildFailed, s.built.err, state.inventory)
	} else {
		out = s.converge(ctx, state)
	}
	out.commit = s.built.Commit
	if fetchErr != nil && (out.err == nil || out.reason == ReasonBuildFailed) {
		out.reason, out.err = ReasonFetchFailed, fetchErr
	}
	return out
}

// refresh fetches and builds the tip of the branch, if it has moved.
func (s *Syncer) refresh(ctx context.Context) error {
	head, err := s.Repository.Head(ctx)
	if err != nil {
		return err
	}
	if s.built != nil && s.built.SHA == head {
		return nil
	}
	checkout, err := s.Repository.Checkout(ctx)
	if err != nil {
		return err
	}
	b := &built{Commit: checkout.Commit}
	b.objects, b.err = Build(checkout.Files, s.Path)
	if errors.Is(b.err, ErrNoPath) && s.AllowEmpty {
		b.err = nil
	}
	s.built = b
	return nil
}
