package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	orv1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// Config of an Auditor.
type Config struct {
	// Client writes reports, and reads unstructured objects from the hub itself
	// rather than from a cache.
	Client client.Client
	// Kinds follow those of Kinds.
	Kinds *served.Kinds
	// Reports has openreports.io reports written; without, those that stand are
	// deleted. Where the hub has no such kind, nothing happens.
	Reports bool
	// Legacy does the same for wgpolicyk8s.io.
	Legacy bool
	// Metrics is where metrics are registered; nil for nowhere.
	Metrics prometheus.Registerer
	// Every is the least time between two passes over the reports: 10 seconds. As
	// often it is looked whether they still stand.
	Every time.Duration
	// Clock is the real one if nil.
	Clock clock.Clock
}

// Auditor keeps the reports on the hub as the newest audit has them. Add it to a
// manager; it runs on the leader.
type Auditor struct {
	client  client.Client
	kinds   *served.Kinds
	metrics *metrics
	every   time.Duration
	clock   clock.Clock

	newest atomic.Pointer[Audit]
	first  chan struct{} // closed when there is one

	// Of the goroutine that Start runs in:
	audited *Audit
	reports []*Report
	targets []*target
	trouble string
}

// target is a kind of report with what is known of those that stand.
type target struct {
	kind  schema.GroupVersionKind
	fleet bool // for the reports without a namespace
	on    bool
	known map[types.NamespacedName]written
}

// written is a report as it was last seen to hold what is wanted.
type written struct {
	resourceVersion string
	digest          [32]byte
}

// New makes an Auditor, which does nothing until Start.
func New(c Config) (*Auditor, error) {
	m, err := newMetrics(c.Metrics)
	if err != nil {
		return nil, fmt.Errorf("cannot register metrics of the audit: %w", err)
	}
	a := &Auditor{
		client: c.Client, kinds: c.Kinds, metrics: m, every: c.Every, clock: c.Clock, first: make(chan struct{}),
		targets: []*target{
			{kind: ReportKind, on: c.Reports}, {kind: ClusterReportKind, on: c.Reports, fleet: true},
			{kind: PolicyReportKind, on: c.Legacy}, {kind: ClusterPolicyReportKind, on: c.Legacy, fleet: true},
		},
	}
	if a.every <= 0 {
		a.every = 10 * time.Second
	}
	if a.clock == nil {
		a.clock = clock.RealClock{}
	}
	return a, nil
}

// Publish the newest audit, in place of any before. It never waits, and may be
// called from any goroutine. Nothing that the audit refers to may change any more.
func (a *Auditor) Publish(audit Audit) {
	if a.newest.Swap(&audit) == nil {
		close(a.first)
	}
}

// NeedLeaderElection is true: one replica writes.
func (a *Auditor) NeedLeaderElection() bool { return true }

// Start keeps the reports until the context ends. It is a manager.Runnable, and
// returns no error for what the hub does or lacks: it tries again.
func (a *Auditor) Start(ctx context.Context) error {
	pace(ctx, a.clock, a.every, a.first, func() { a.pass(ctx) })
	return nil
}

// pace does it at once when there is something to do, and from then on with a
// pause after each time, so that a burst of audits is one.
func pace(ctx context.Context, c clock.Clock, every time.Duration, first <-chan struct{}, do func()) {
	select {
	case <-ctx.Done():
		return
	case <-first:
	}
	for ctx.Err() == nil {
		do()
		pause := c.NewTimer(every)
		select {
		case <-ctx.Done():
			pause.Stop()
		case <-pause.C():
		}
	}
}

// pass brings what stands to what the newest audit says.
func (a *Auditor) pass(ctx context.Context) {
	newest := a.newest.Load()
	if newest == nil {
		return
	}
	if newest != a.audited {
		guardrails := tallies(newest)
		a.metrics.record(newest, guardrails)
		a.reports, a.audited = reports(newest, guardrails), newest
	}
	var errs []error
	for _, t := range a.targets {
		errs = append(errs, a.keep(ctx, t))
	}
	a.tell(ctx, errors.Join(errs...))
}

// tell logs a trouble once.
func (a *Auditor) tell(ctx context.Context, err error) {
	was := a.trouble
	a.trouble = ""
	if err == nil || ctx.Err() != nil {
		return
	}
	if a.trouble = err.Error(); a.trouble != was {
		log.FromContext(ctx).Error(err, "Cannot keep policy reports")
	}
}

// keep the reports of one kind. What the hub does not serve is left for the next
// pass.
func (a *Auditor) keep(ctx context.Context, t *target) error {
	status := a.kinds.Status(t.kind.GroupKind())
	if status.State == served.Absent {
		t.known = nil
	}
	if !status.State.Readable() {
		return nil
	}
	standing, err := a.standing(ctx, t)
	if err != nil {
		return err
	}
	if t.known == nil {
		t.known = map[types.NamespacedName]written{}
	}
	wanted := t.wanted(a.reports)
	unwanted := maps.Clone(standing)
	for _, r := range wanted {
		delete(unwanted, keyOf(r))
	}
	var errs []error
	for _, r := range wanted {
		k := keyOf(r)
		if s, ok := standing[k]; ok && t.known[k] == (written{s.ResourceVersion, r.Digest}) {
			continue
		}
		if err := a.write(ctx, t, r, unwanted); err != nil {
			errs = append(errs, err)
			maps.DeleteFunc(unwanted, func(old types.NamespacedName, _ *metav1.PartialObjectMetadata) bool { return takesOver(r, old) })
		}
	}
	for k, s := range unwanted {
		delete(t.known, k)
		errs = append(errs, a.remove(ctx, t, s))
	}
	return errors.Join(errs...)
}

// wanted are the reports that there should be of the kind.
func (t *target) wanted(all []*Report) []*Report {
	if !t.on {
		return nil
	}
	// The fleet's come first.
	n := slices.IndexFunc(all, func(r *Report) bool { return r.Namespace != "" })
	switch {
	case n < 0 && t.fleet:
		return all
	case n < 0:
		return nil
	case t.fleet:
		return all[:n]
	}
	return all[n:]
}

func keyOf(r *Report) types.NamespacedName {
	return types.NamespacedName{Namespace: r.Namespace, Name: r.Name}
}

// standing are Sallyport's own reports of the kind, as the cache last saw them.
func (a *Auditor) standing(ctx context.Context, t *target) (map[types.NamespacedName]*metav1.PartialObjectMetadata, error) {
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(t.kind.GroupVersion().WithKind(t.kind.Kind + "List"))
	if err := a.kinds.List(ctx, list); err != nil {
		return nil, fmt.Errorf("cannot list %s: %w", t.kind.GroupKind(), err)
	}
	out := make(map[types.NamespacedName]*metav1.PartialObjectMetadata, len(list.Items))
	for i := range list.Items {
		out[client.ObjectKeyFromObject(&list.Items[i])] = &list.Items[i]
	}
	return out, nil
}

// get a report from the hub itself; nil if there is none.
func (a *Auditor) get(ctx context.Context, t *target, k types.NamespacedName) (*unstructured.Unstructured, error) {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(t.kind)
	err := a.client.Get(ctx, k, u)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s %q: %w", t.kind.Kind, k, err)
	}
	return u, nil
}

// write a report if it is not as wanted.
func (a *Auditor) write(ctx context.Context, t *target, r *Report, unwanted map[types.NamespacedName]*metav1.PartialObjectMetadata) error {
	k := keyOf(r)
	live, err := a.get(ctx, t, k)
	if err != nil {
		return err
	}
	if live != nil && live.GetLabels()[v1alpha1.ManagedByLabel] != v1alpha1.ManagedByValue {
		return fmt.Errorf("cannot write %s %q: one of that name is not Sallyport's", t.kind.Kind, k)
	}
	was := &content{}
	if live != nil {
		was = read(live)
	}
	before, err := a.moved(ctx, t, r, unwanted)
	if err != nil {
		return err
	}
	results := r.Results()
	date(results, metav1.Timestamp{Seconds: a.clock.Now().Unix()}, append(before, was.Results)...)
	want := contentOf(t.kind, r, results)
	if live != nil && same(was, want) {
		t.known[k] = written{live.GetResourceVersion(), r.Digest}
		return nil
	}
	to := live
	if live == nil {
		to = newObject(t.kind, r)
	}
	if err := write(want, to); err != nil {
		return err
	}
	if live == nil {
		err = a.client.Create(ctx, to)
		if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
			return nil // the namespace goes, and its grants with it
		}
	} else {
		err = a.client.Update(ctx, to)
	}
	a.metrics.wrote(t.kind.Kind, err)
	if err != nil {
		return fmt.Errorf("cannot write %s %q: %w", t.kind.Kind, k, err)
	}
	t.known[k] = written{to.GetResourceVersion(), r.Digest}
	return nil
}

// moved are results that the report may have taken over from those that go: a
// shard is divided, or no longer.
func (a *Auditor) moved(ctx context.Context, t *target, r *Report, unwanted map[types.NamespacedName]*metav1.PartialObjectMetadata) ([][]orv1.ReportResult, error) {
	var out [][]orv1.ReportResult
	for k := range unwanted {
		if !takesOver(r, k) {
			continue
		}
		u, err := a.get(ctx, t, k)
		if err != nil {
			return nil, err
		}
		if u != nil {
			out = append(out, read(u).Results)
		}
	}
	return out, nil
}

// remove a report as the cache saw it: not one that has changed since, and so may
// not be Sallyport's any more.
func (a *Auditor) remove(ctx context.Context, t *target, s *metav1.PartialObjectMetadata) error {
	err := a.client.Delete(ctx, s, client.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion})
	if apierrors.IsNotFound(err) {
		return nil
	}
	a.metrics.wrote(t.kind.Kind, err)
	if err != nil {
		return fmt.Errorf("cannot delete %s %q: %w", t.kind.Kind, client.ObjectKeyFromObject(s), err)
	}
	return nil
}
