package clusters

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/endpoints/request"
	clocktesting "k8s.io/utils/clock/testing"
	"k8s.io/utils/ptr"

	accessv1alpha1 "github.com/sallyport-dev/sallyport/api/v1alpha1"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/transport"
)

var t0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// world is a fleet of three, its grants, and who hears of them.
type world struct {
	builder effective.Builder
	clock   *clocktesting.FakeClock
	down    map[string]bool

	mu    sync.Mutex
	index *effective.Index
	hears map[int]func(*effective.Index)
}

func newWorld() *world {
	return &world{clock: clocktesting.NewFakeClock(t0), down: map[string]bool{}, hears: map[int]func(*effective.Index){}}
}

func (w *world) Current() *effective.Index {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.index
}

func (w *world) Subscribe(f func(*effective.Index)) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := len(w.hears)
	w.hears[i] = f
	return func() { delete(w.hears, i) }
}

func (w *world) Route(cluster string) (*transport.Route, error) {
	if w.down[cluster] {
		return nil, &transport.Unavailable{Cluster: cluster, Reason: "does not answer"}
	}
	return &transport.Route{Cluster: cluster}, nil
}

// grants are all that there are now.
func (w *world) grants(grants ...compile.Grant) {
	var members []fleet.Member
	for _, name := range []string{"dev-1", "prod-1", "prod-2"} {
		members = append(members, fleet.Member{
			Name: name, Labels: map[string]string{"env": name[:len(name)-2]}, Accepted: true, Availability: fleet.Available,
			Delivery: fleet.ManifestWork, Paths: subject.Gateway,
		})
	}
	ix := w.builder.Build(compile.Snapshot{
		Grants: grants, Fleet: fleet.New(members), Now: w.clock.Now(), Guardrails: &guardrail.Set{}, Point: guardrail.Compile,
	})
	w.mu.Lock()
	w.index = ix
	hears := w.hears
	w.mu.Unlock()
	for _, f := range hears {
		f(ix)
	}
}

// grant to a user on clusters; without an end where until is zero.
func grant(name, to string, until time.Duration, clusters ...accessv1alpha1.ClusterName) compile.Grant {
	spec := &accessv1alpha1.AccessGrantSpec{
		Reason:   "test",
		Subjects: []accessv1alpha1.Subject{{Kind: rbacv1.UserKind, Name: to}},
		Clusters: accessv1alpha1.ClusterSelection{Names: clusters},
		Access: []accessv1alpha1.AccessEntry{{Rules: []accessv1alpha1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list"}},
		}}},
	}
	if until > 0 {
		spec.Validity = &accessv1alpha1.Validity{NotAfter: ptr.To(metav1.NewTime(t0.Add(until)))}
	}
	return compile.Grant{Namespace: "team", Name: name, Spec: spec}
}

func as(t *testing.T, name string) context.Context {
	return request.WithUser(t.Context(), &user.DefaultInfo{Name: name, Groups: []string{user.AllAuthenticated}})
}

func names(ctx context.Context, t *testing.T, s *Storage, o *internalversion.ListOptions) []string {
	t.Helper()
	list, err := s.List(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	all := []string{}
	for _, c := range list.(*v1alpha1.ClusterList).Items {
		all = append(all, c.Name)
	}
	return all
}

func TestList(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", 0, "prod-1", "dev-1"), grant("b", "bob", 0, "prod-2"))
	s := New(w, w, w.clock)
	byLabel, _ := labels.Parse("env=prod")
	for name, tc := range map[string]struct {
		reason, user string
		options      *internalversion.ListOptions
		want         []string
	}{
		"Alice":    {"What her grants open, sorted.", "alice", nil, []string{"dev-1", "prod-1"}},
		"Bob":      {"Nothing of alice's.", "bob", &internalversion.ListOptions{}, []string{"prod-2"}},
		"Carol":    {"Nobody without a grant sees anything.", "carol", nil, []string{}},
		"Labels":   {"By the labels of the fleet.", "alice", &internalversion.ListOptions{LabelSelector: byLabel}, []string{"prod-1"}},
		"Fields":   {"By name.", "alice", &internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "dev-1")}, []string{"dev-1"}},
		"NotHers":  {"A name gives nothing.", "alice", &internalversion.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", "prod-2")}, []string{}},
		"Anything": {"A version is no view of another moment.", "bob", &internalversion.ListOptions{ResourceVersion: "0"}, []string{"prod-2"}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, names(as(t, tc.user), t, s, tc.options)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestGet(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", time.Hour, "prod-1"), grant("b", "bob", 0, "prod-2"))
	w.down["prod-1"] = true
	s := New(w, w, w.clock)
	got, err := s.Get(as(t, "alice"), "prod-1", nil)
	if err != nil {
		t.Fatal(err)
	}
	end := metav1.NewTime(t0.Add(time.Hour))
	want := v1alpha1.ClusterStatus{
		Availability: v1alpha1.Available, Route: v1alpha1.RouteNotReady, RouteMessage: "does not answer", Delivery: "ManifestWork",
		Grants: []v1alpha1.ClusterGrant{{Namespace: "team", Name: "a", NotAfter: &end}},
	}
	if diff := cmp.Diff(want, got.(*v1alpha1.Cluster).Status); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
	_, theirs := s.Get(as(t, "alice"), "prod-2", nil)
	_, unknown := s.Get(as(t, "alice"), "prod-9", nil)
	if !apierrors.IsNotFound(theirs) || !apierrors.IsNotFound(unknown) {
		t.Errorf("another's cluster got %v, an unknown one %v: want both not found", theirs, unknown)
	}
	w.clock.Step(time.Hour + time.Nanosecond)
	if _, err := s.Get(as(t, "alice"), "prod-1", nil); !apierrors.IsNotFound(err) {
		t.Errorf("after the end of the grant got %v", err)
	}
}

// TestS6Nobody: who is not authenticated is told nothing.
func TestS6Nobody(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", 0, "prod-1"))
	s := New(w, w, w.clock)
	for name, ctx := range map[string]context.Context{
		"nobody": t.Context(), "no name": as(t, ""), "anonymous": as(t, user.Anonymous),
	} {
		_, list := s.List(ctx, nil)
		_, get := s.Get(ctx, "prod-1", nil)
		_, watch := s.Watch(ctx, &internalversion.ListOptions{})
		for _, err := range []error{list, get, watch} {
			if !apierrors.IsUnauthorized(err) {
				t.Errorf("%s: got %v, want 401", name, err)
			}
		}
	}
}

// TestS16NotReady: before there is an index there is no answer.
func TestS16NotReady(t *testing.T) {
	w := newWorld()
	s := New(w, w, w.clock)
	if _, err := s.List(as(t, "alice"), nil); !apierrors.IsServiceUnavailable(err) {
		t.Errorf("got %v, want 503", err)
	}
}

// events of a watch, as "ADDED prod-1".
type events struct {
	*testing.T
	watch.Interface
	last string // resource version
}

func (s *Storage) watchFor(ctx context.Context, t *testing.T, o internalversion.ListOptions) *events {
	t.Helper()
	w, err := s.Watch(ctx, &o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	return &events{T: t, Interface: w}
}

func (e *events) want(texts ...string) {
	e.Helper()
	for _, want := range texts {
		select {
		case event, ok := <-e.ResultChan():
			if !ok {
				e.Fatalf("the watch ended; want %s", want)
			}
			c, isCluster := event.Object.(*v1alpha1.Cluster)
			if !isCluster {
				e.Fatalf("got %s %v, want %s", event.Type, event.Object, want)
			}
			if c.ResourceVersion <= e.last {
				e.Errorf("resource version %s after %s", c.ResourceVersion, e.last)
			}
			e.last = c.ResourceVersion
			if got := string(event.Type) + " " + c.Name; got != want {
				e.Fatalf("got %s, want %s", got, want)
			}
		case <-time.After(10 * time.Second):
			e.Fatalf("nothing came; want %s", want)
		}
	}
}

func TestWatch(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", 0, "prod-1"))
	s := New(w, w, w.clock)
	alice := s.watchFor(as(t, "alice"), t, internalversion.ListOptions{})
	bob := s.watchFor(as(t, "bob"), t, internalversion.ListOptions{})
	alice.want("ADDED prod-1")
	w.grants(grant("a", "alice", 0, "prod-1", "prod-2"))
	alice.want("ADDED prod-2")
	w.grants(grant("a", "alice", 0, "prod-1", "prod-2"), grant("more", "alice", 0, "prod-2"), grant("b", "bob", 0, "dev-1"))
	alice.want("MODIFIED prod-2")
	bob.want("ADDED dev-1")
	w.grants(grant("a", "alice", 0, "prod-1"))
	alice.want("DELETED prod-2")
	bob.want("DELETED dev-1")
}

// TestWatchLooksAgain: what no index tells of is told all the same.
func TestWatchLooksAgain(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", lookAgain, "prod-1"), grant("b", "alice", 0, "prod-2"))
	s := New(w, w, w.clock)
	alice := s.watchFor(as(t, "alice"), t, internalversion.ListOptions{})
	alice.want("ADDED prod-1", "ADDED prod-2")
	w.down["prod-2"] = true
	w.clock.Step(lookAgain + time.Nanosecond)
	alice.want("DELETED prod-1", "MODIFIED prod-2")
}

// TestWatchGoesOn: from the version of a list or of the last event of a watch, for the
// same person only; from any other version a client lists again.
func TestWatchGoesOn(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", 0, "prod-1", "dev-1"))
	s := New(w, w, w.clock)
	listed, err := s.List(as(t, "alice"), nil)
	if err != nil {
		t.Fatal(err)
	}
	from := listed.(*v1alpha1.ClusterList).ResourceVersion
	w.grants(grant("a", "alice", 0, "prod-1", "prod-2"))
	first := s.watchFor(as(t, "alice"), t, internalversion.ListOptions{ResourceVersion: from})
	first.want("DELETED dev-1", "ADDED prod-2")
	w.grants(grant("a", "alice", 0, "prod-1"))
	first.want("DELETED prod-2")
	first.Stop()
	w.grants(grant("a", "alice", 0, "prod-1", "dev-1"))
	s.watchFor(as(t, "alice"), t, internalversion.ListOptions{ResourceVersion: first.last}).want("ADDED dev-1")

	other := newWorld()
	other.index, other.clock = w.index, clocktesting.NewFakeClock(t0.Add(time.Millisecond))
	replica := New(other, other, other.clock)
	n, _ := strconv.ParseUint(from, 10, 64)
	for name, try := range map[string]struct {
		storage *Storage
		user    string
		version string
	}{
		"bob":         {s, "bob", from},
		"one between": {s, "alice", strconv.FormatUint(n+1, 10)},
		"the future":  {s, "alice", strconv.FormatUint(n+1e9, 10)},
		"replica":     {replica, "alice", from},
	} {
		if _, err := try.storage.Watch(as(t, try.user), &internalversion.ListOptions{ResourceVersion: try.version}); !apierrors.IsResourceExpired(err) {
			t.Errorf("%s: got %v, want 410", name, err)
		}
	}
	w.clock.Step(keptFor + time.Second)
	if _, err := s.Watch(as(t, "alice"), &internalversion.ListOptions{ResourceVersion: from}); !apierrors.IsResourceExpired(err) {
		t.Errorf("much later: got %v, want 410", err)
	}
	if _, err := s.Watch(as(t, "alice"), &internalversion.ListOptions{ResourceVersion: "x"}); !apierrors.IsBadRequest(err) {
		t.Errorf("no version: got %v, want 400", err)
	}
}

// TestWatchSelects: what comes into a selection is added, what leaves it is deleted.
func TestWatchSelects(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", 0, "prod-1", "dev-1"))
	s := New(w, w, w.clock)
	prod, _ := labels.Parse("env=prod")
	alice := s.watchFor(as(t, "alice"), t, internalversion.ListOptions{LabelSelector: prod})
	alice.want("ADDED prod-1")
	w.grants(grant("a", "alice", 0, "prod-2", "dev-1"))
	alice.want("DELETED prod-1", "ADDED prod-2")
}

func TestWatchList(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", 0, "prod-1"))
	s := New(w, w, w.clock)
	alice := s.watchFor(as(t, "alice"), t, internalversion.ListOptions{
		SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
	})
	alice.want("ADDED prod-1", "BOOKMARK ")
	alice.Stop()
	w.grants(grant("a", "alice", 0, "prod-1", "prod-2"))
	s.watchFor(as(t, "alice"), t, internalversion.ListOptions{ResourceVersion: alice.last}).want("ADDED prod-2")
}

// TestDrain: a replica that ends keeps nobody waiting.
func TestDrain(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", 0, "prod-1"))
	s := New(w, w, w.clock)
	before := s.watchFor(as(t, "alice"), t, internalversion.ListOptions{})
	before.want("ADDED prod-1")
	s.Drain()
	for name, watch := range map[string]*events{"before": before, "after": s.watchFor(as(t, "alice"), t, internalversion.ListOptions{})} {
		select {
		case _, open := <-watch.ResultChan():
			for open {
				_, open = <-watch.ResultChan()
			}
		case <-time.After(10 * time.Second):
			t.Errorf("a watch that began %s goes on", name)
		}
	}
}

func TestTable(t *testing.T) {
	w := newWorld()
	w.grants(grant("a", "alice", time.Hour, "prod-1", "prod-2"), grant("b", "alice", 2*time.Hour, "prod-1"),
		grant("c", "alice", 0, "dev-1"), grant("d", "alice", 0, "dev-1"), grant("e", "alice", 0, "dev-1"), grant("f", "alice", 0, "dev-1"))
	w.down["prod-2"] = true
	s := New(w, w, w.clock)
	list, err := s.List(as(t, "alice"), nil)
	if err != nil {
		t.Fatal(err)
	}
	table, err := s.ConvertToTable(t.Context(), list, &metav1.TableOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got [][]any
	for _, r := range table.Rows {
		got = append(got, r.Cells)
	}
	want := [][]any{
		{"dev-1", "True", "Ready", "team/c,team/d,team/e +1", "no end", "ManifestWork", ""},
		{"prod-1", "True", "Ready", "team/a,team/b", "2026-01-02T05:04:05Z", "ManifestWork", ""},
		{"prod-2", "True", "NotReady", "team/a", "2026-01-02T04:04:05Z", "ManifestWork", "does not answer"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	if len(table.ColumnDefinitions) != len(want[0]) || table.ResourceVersion == "" {
		t.Errorf("%d columns, resource version %q", len(table.ColumnDefinitions), table.ResourceVersion)
	}
}
