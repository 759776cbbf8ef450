package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

var (
	noon    = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	errDown = errors.New("the hub is down")
)

// scripted is a hub that answers what the test says.
type scripted struct {
	snapshot compile.Snapshot
	err      error // of read
	policy   *guardrail.Set
	noPolicy error
	noCall   error
	behind   bool
	// reads and calls count the questions.
	reads, calls int
	onCall       func()
	// reading, where set, is sent to at each read, which then waits to receive.
	reading chan struct{}
}

func (h *scripted) read(ctx context.Context) (compile.Snapshot, error) {
	h.reads++
	if h.reading != nil {
		for range 2 {
			select {
			case h.reading <- struct{}{}:
			case <-ctx.Done():
				return compile.Snapshot{}, ctx.Err()
			}
		}
	}
	s := h.snapshot
	if h.err != nil {
		return s, h.err
	}
	var err error
	s.Guardrails, err = h.guardrails(ctx)
	return s, err
}

func (h *scripted) guardrails(context.Context) (*guardrail.Set, error) {
	if h.noPolicy != nil {
		return nil, errPolicy{h.noPolicy}
	}
	return h.policy, nil
}

func (h *scripted) call(_ context.Context, now time.Time) (*rolls, error) {
	h.calls++
	if h.onCall != nil {
		h.onCall()
	}
	if h.noCall != nil {
		return nil, h.noCall
	}
	return &rolls{at: now}, nil
}

func (h *scripted) answered(context.Context, *rolls) (bool, error) { return !h.behind, nil }

// aGrant lets alice look at pods on the cluster "c".
func aGrant(name string, v *v1alpha1.Validity) compile.Grant {
	return compile.Grant{Namespace: "team", Name: name, Spec: &v1alpha1.AccessGrantSpec{
		Reason:   "r",
		Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "alice"}},
		Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"c"}},
		Access:   []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}}}},
		Validity: v,
	}}
}

func during(from, to time.Time) *v1alpha1.Validity {
	v := &v1alpha1.Validity{}
	if !from.IsZero() {
		v.NotBefore = &metav1.Time{Time: from}
	}
	if !to.IsZero() {
		v.NotAfter = &metav1.Time{Time: to}
	}
	return v
}

type fixture struct {
	*testing.T
	*Access
	hub   *scripted
	clock *clocktesting.FakeClock
	// swaps are the indexes that a subscriber was given.
	swaps []*effective.Index
}

func newFixture(t *testing.T, staleness time.Duration, grants ...compile.Grant) *fixture {
	t.Helper()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, clock: clocktesting.NewFakeClock(noon), hub: &scripted{
		policy: guardrail.NewSet(nil, nil, guardrail.Options{}),
		snapshot: compile.Snapshot{
			Point:  guardrail.Compile,
			Fleet:  fleet.New([]fleet.Member{{Name: "c", Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway}}),
			Grants: grants, Namespaces: map[string]map[string]string{"team": {}},
		},
	}}
	f.Access = newAccess(accessConfig{
		world: f.hub, clock: f.clock, staleness: staleness, metrics: m, watch: func(context.Context, *Access) error { return nil },
	})
	f.Subscribe(func(ix *effective.Index) { f.swaps = append(f.swaps, ix) })
	return f
}

// event is a pass after something has changed.
func (f *fixture) event() time.Duration {
	f.due = true
	return f.pass(f.Context())
}

// standing are the grants that the index was made of.
func (f *fixture) standing() []string {
	var out []string
	if f.last != nil {
		for i := range f.last.Grants {
			out = append(out, f.last.Grants[i].Name)
		}
	}
	return out
}

func (f *fixture) expect(reason string, want ...string) {
	f.Helper()
	if diff := cmp.Diff(want, f.standing()); diff != "" {
		f.Errorf("%s\n%s", reason, diff)
	}
}

func (f *fixture) expectSwaps(reason string, want int) {
	f.Helper()
	if len(f.swaps) != want {
		f.Errorf("%s Swapped %d times, want %d.", reason, len(f.swaps), want)
	}
	for i, ix := range f.swaps {
		if i > 0 && ix.Number() <= f.swaps[i-1].Number() {
			f.Error("subscribers were given indexes out of order")
		}
	}
	if n := len(f.swaps); n > 0 && f.swaps[n-1] != f.Current() {
		f.Error("subscribers were not given the current index")
	}
}

// stepUntil lets time pass until something is done.
func (f *fixture) stepUntil(done <-chan struct{}, step time.Duration) {
	for {
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond): // for the goroutine to begin to wait; any other would do
			f.clock.Step(step)
		}
	}
}

func TestFirstIndex(t *testing.T) {
	f := newFixture(t, 0, aGrant("a", nil))
	notReady := func(reason string) {
		t.Helper()
		if f.Current() != nil || f.Ready(nil) == nil {
			t.Errorf("S16: %s, and there is an index, or readiness.", reason)
		}
	}
	notReady("Nothing has been read")
	f.hub.noCall = errDown
	if wait := f.event(); wait != firstRetry {
		t.Errorf("the first retry is after %s", wait)
	}
	notReady("The hub has not been reached")
	f.hub.noCall, f.hub.behind = nil, true
	f.pass(t.Context())
	notReady("The caches are behind what the hub has: a revoked grant may be in them")
	f.hub.behind, f.hub.noPolicy = false, errDown
	f.pass(t.Context())
	notReady("The guardrails cannot be read")
	f.hub.noPolicy, f.hub.err = nil, fmt.Errorf("cannot read the fleet: %w", served.ErrUnknown)
	failed := testutil.ToFloat64(f.metrics.failures)
	f.pass(t.Context())
	notReady("The fleet is not known")
	if testutil.ToFloat64(f.metrics.failures) != failed {
		t.Error("kinds that are still being listed are no failure")
	}
	f.hub.err = nil
	f.pass(t.Context())
	f.expect("All is known.", "a")
	f.expectSwaps("The first index.", 1)
	if err := f.Ready(nil); err != nil {
		t.Error(err)
	}
	if f.Current().Policy() != f.hub.policy || f.Current().Fleet().Len() != 1 || !f.Confirmed().Equal(noon) {
		t.Error("the index is of something else")
	}
}

func TestEvents(t *testing.T) {
	f := newFixture(t, 0, aGrant("a", nil))
	f.event()
	reads, calls := f.hub.reads, f.hub.calls
	f.pass(t.Context())
	f.expectSwaps("Nothing happened.", 1)
	if f.hub.reads != reads || f.hub.calls != calls {
		t.Error("reads what has not changed")
	}
	f.hub.snapshot.Grants = []compile.Grant{f.hub.snapshot.Grants[0], aGrant("b", nil)}
	f.event()
	f.expect("A grant came.", "a", "b")
	f.hub.snapshot.Grants = nil
	f.event()
	f.expect("Both went.")
	f.expectSwaps("Each time once.", 3)
}

// TestTime: instants at which time alone changes the index are met without an event.
func TestTime(t *testing.T) {
	from, to := noon.Add(time.Minute), noon.Add(3*time.Hour)
	f := newFixture(t, -1, aGrant("a", during(from, to)))
	if wait := f.event(); wait != time.Minute {
		t.Errorf("looks again after %s, when the grant begins in a minute", wait)
	}
	f.clock.SetTime(from)
	if wait := f.pass(t.Context()); wait > calling {
		t.Errorf("does not look again for %s: what a watch has missed is not found", wait)
	}
	f.expectSwaps("The grant begins.", 2)
	f.clock.SetTime(to)
	f.pass(t.Context())
	f.expectSwaps("The grant ends.", 3)
	if next := f.Current().Next(); !next.IsZero() {
		t.Errorf("nothing is left, and something happens at %s", next)
	}
}

// TestPolicyUnreadable: while the guardrails cannot be read nothing widens, and what
// is taken away is.
func TestPolicyUnreadable(t *testing.T) {
	f := newFixture(t, -1, aGrant("a", nil), aGrant("b", nil), aGrant("changed", nil), aGrant("later", during(noon.Add(time.Minute), time.Time{})))
	f.event()
	before := f.hub.snapshot.Grants
	f.hub.noPolicy = errDown
	f.hub.snapshot.Grants = []compile.Grant{before[0], aGrant("changed", nil), before[3], aGrant("new", nil)}
	wait := f.event()
	f.expect("S26: what is gone is gone, what is new or changed waits for the guardrails, and so does what has not begun.", "a")
	if f.Current().Policy() != f.hub.policy {
		t.Error("the guardrails that were in force are not any more")
	}
	if wait != firstRetry {
		t.Errorf("retries after %s", wait)
	}
	f.hub.snapshot.Fleet = fleet.New(nil)
	f.event()
	if f.Current().Fleet().Len() != 0 {
		t.Error("a member that is gone is still there")
	}
	f.hub.noPolicy = nil
	f.pass(t.Context())
	f.expect("With the guardrails, all is judged again.", "a", "changed", "later", "new")
	if testutil.ToFloat64(f.metrics.failures) != 2 {
		t.Error("each failure is to be counted")
	}
}

// TestGuardrailGone: where a guardrail goes, what is judged without it is read when the
// caches have what the hub had by then (S26).
func TestGuardrailGone(t *testing.T) {
	f := newFixture(t, -1, aGrant("a", nil))
	strict := guardrail.NewSet([]*guardrail.Guardrail{undecided}, nil, guardrail.Options{})
	f.hub.policy = strict
	f.event()
	calls := f.hub.calls
	f.hub.policy = guardrail.NewSet([]*guardrail.Guardrail{undecided, {Name: "more"}}, nil, guardrail.Options{})
	f.event()
	f.expectSwaps("A guardrail comes.", 2)
	if f.hub.calls != calls {
		t.Error("a guardrail that comes waits for what it does not need")
	}
	f.hub.policy, f.hub.noCall = strict, errDown
	f.event()
	f.expectSwaps("It goes, and whether the caches have all is not to be learned.", 2)
	f.hub.noCall = nil
	f.hub.reads = 0
	f.hub.onCall = func() { f.hub.snapshot.Grants = nil } // it was deleted before the guardrail was
	f.event()
	f.expect("A grant that went before a guardrail is not there without it.")
	f.expectSwaps("It is learned.", 3)

	f.hub.onCall, f.hub.noCall = nil, errDown
	f.hub.policy = guardrail.NewSet([]*guardrail.Guardrail{{Name: "instead"}}, nil, guardrail.Options{})
	f.event()
	if !f.Current().Policy().Covers(f.hub.policy) || !f.Current().Policy().Covers(strict) {
		t.Error("S13: one that comes instead waits until it is known what the other one held back")
	}
	f.event()
	f.expectSwaps("Both are in force, once.", 4)
	f.hub.noCall = nil
	f.event()
	if f.Current().Policy() != f.hub.policy {
		t.Error("it is known, and the other one is still in force")
	}
}

func TestBackoff(t *testing.T) {
	f := newFixture(t, -1)
	f.hub.err = errDown
	var waits []time.Duration
	for range 9 {
		waits = append(waits, f.event())
	}
	if !slices.IsSorted(waits) || waits[0] != firstRetry || waits[8] != lastRetry {
		t.Errorf("retries after %v", waits)
	}
	f.hub.err = nil
	f.event()
	f.hub.err = errDown
	if wait := f.event(); wait != firstRetry {
		t.Errorf("after a success, the first retry is after %s", wait)
	}
	f.expect("An error leaves the index.")
	f.expectSwaps("An error leaves the index.", 1)
}

// TestStaleness: a hub that does not confirm what is known has everything denied,
// after MaxStaleness and not before.
func TestStaleness(t *testing.T) {
	cases := map[string]struct {
		reason string
		fail   func(*scripted)
	}{
		"Partition":     {"The hub cannot be reached.", func(h *scripted) { h.noCall = errDown }},
		"SilentWatch":   {"The hub answers, and the caches do not follow it.", func(h *scripted) { h.behind = true }},
		"NoPolicy":      {"The guardrails cannot be read.", func(h *scripted) { h.noPolicy = errDown }},
		"CallsButEvent": {"Events come, and nothing confirms that they all do.", func(h *scripted) { h.behind = true }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 8*time.Minute, aGrant("a", nil))
			f.event()
			healthy := *f.hub
			tc.fail(f.hub)
			end := noon.Add(8 * time.Minute)
			for f.clock.Now().Before(end) {
				if f.Ready(nil) != nil || f.lapsed.Load() {
					t.Fatalf("%s Not ready at %s, before its time.", tc.reason, f.clock.Now())
				}
				f.due = name == "CallsButEvent"
				f.clock.Step(f.pass(t.Context()))
			}
			if over := f.clock.Now().Sub(end); over > 0 {
				t.Errorf("%s Looked %s too late.", tc.reason, over)
			}
			f.event()
			if !f.lapsed.Load() || f.Ready(nil) == nil || f.Current().Policy() != outOfDate {
				t.Errorf("%s Nothing was confirmed for MaxStaleness, and something is given.", tc.reason)
			}
			swaps := len(f.swaps)
			f.clock.Step(f.pass(t.Context()))
			f.expectSwaps("It lapses once.", swaps)

			f.hub.noCall, f.hub.behind, f.hub.noPolicy = healthy.noCall, healthy.behind, healthy.noPolicy
			f.pass(t.Context())
			f.pass(t.Context()) // where a call was pending
			if f.Ready(nil) != nil || f.Current().Policy() != f.hub.policy {
				t.Errorf("%s It is over, and nothing is given.", tc.reason)
			}
			f.expect("It is over.", "a")
		})
	}
}

func TestMissedGuardrail(t *testing.T) {
	f := newFixture(t, 0, aGrant("a", nil))
	f.event()
	f.hub.policy = guardrail.NewSet(nil, nil, guardrail.Options{RequireCeiling: true})
	f.clock.Step(calling)
	f.pass(t.Context())
	if f.Current().Policy() != f.hub.policy {
		t.Error("guardrails of which no event told are not in force after they were read")
	}
}

// TestCoalescing: one build at a time, and one more for all that comes meanwhile.
func TestCoalescing(t *testing.T) {
	f := newFixture(t, 0, aGrant("a", nil))
	f.hub.reading = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- f.Start(ctx) }()
	<-f.hub.reading // the first build is under way
	<-f.hub.reading
	<-f.hub.reading
	for range 1000 {
		f.changed()
		f.stirred()
	}
	<-f.hub.reading
	second := make(chan struct{})
	go func() {
		<-f.hub.reading
		close(second)
	}()
	f.stepUntil(second, spacing) // which is all that is waited for
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if f.hub.reads != 3 { // the first index is read twice, see Access.read
		t.Errorf("%d reads, want 3", f.hub.reads)
	}
}

// TestStirred: health of members is no reason to build at once, nor for ever.
func TestStirred(t *testing.T) {
	f := newFixture(t, 0)
	var event bool
	await := func() <-chan struct{} {
		done := make(chan struct{})
		go func() {
			event = f.await(t.Context(), time.Hour)
			close(done)
		}()
		return done
	}
	f.stirred()
	f.stepUntil(await(), settle/10)
	if !event {
		t.Error("a change was forgotten")
	}
	if waited := f.clock.Since(noon); waited < settle || waited >= time.Hour {
		t.Errorf("waited %s", waited)
	}
	f.changed()
	if <-await(); !event {
		t.Error("a change was forgotten")
	}
}

func TestUnsubscribe(t *testing.T) {
	f := newFixture(t, 0)
	var stop func()
	n := 0
	stop = f.Subscribe(func(*effective.Index) {
		n++
		stop()
	})
	f.event()
	f.event()
	if n != 1 {
		t.Errorf("called %d times", n)
	}
	f.expectSwaps("The other subscriber stays.", 2)
}

func TestRoll(t *testing.T) {
	o := func(uid, version string) metav1.Object {
		return &metav1.ObjectMeta{UID: types.UID(uid), ResourceVersion: version}
	}
	r := &roll{version: "100", versions: map[types.UID]string{"a": "9", "b": "90"}}
	cases := map[string]struct {
		reason string
		cached []metav1.Object
		want   bool
	}{
		"Same":      {"All of it.", []metav1.Object{o("a", "9"), o("b", "90")}, true},
		"Later":     {"Or later: numbers, not words.", []metav1.Object{o("a", "101"), o("b", "90")}, true},
		"Created":   {"What came after the call is none of its business.", []metav1.Object{o("a", "9"), o("b", "90"), o("c", "101")}, true},
		"Missing":   {"A grant that the cache lacks.", []metav1.Object{o("a", "9")}, false},
		"Old":       {"A version that the cache lacks.", []metav1.Object{o("a", "9"), o("b", "89")}, false},
		"Revoked":   {"A grant that the hub does not have any more.", []metav1.Object{o("a", "9"), o("b", "90"), o("c", "50")}, false},
		"Malformed": {"What cannot be compared proves nothing.", []metav1.Object{o("a", "9"), o("b", "")}, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if got := r.answered(tc.cached); got != tc.want {
				t.Errorf("%s Got %t.", tc.reason, got)
			}
		})
	}
}
