package source

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

var errCrash = errors.New("crashed")

// fixture is a sync of one repository into a real API server.
type fixture struct {
	*repository
	*Syncer
	client client.WithWatch // not counted
	writes []string         // of the last pass
	crash  int              // how many writes succeed before all fail; negative for no crash
	events chan string
	name   string
}

func newFixture(t *testing.T, c client.WithWatch, name string) *fixture {
	f := &fixture{repository: newRepository(t), client: c, crash: -1, events: make(chan string, 100), name: name}
	f.Syncer = f.syncer(func(*Options) {})
	return f
}

// syncer returns another process for the same sync.
func (f *fixture) syncer(change func(*Options)) *Syncer {
	f.t.Helper()
	o := f.options()
	o.Namespace, o.Name = "sallyport-system", f.name
	change(&o)
	s, err := New(Config{
		Options: o,
		Client:  interceptor.NewClient(f.client, f.counting()),
		Events:  &events.FakeRecorder{Events: f.events},
		Metrics: prometheus.NewRegistry(),
		Now:     func() time.Time { return time.Unix(1_800_000_000, 0) },
	})
	f.must(err)
	return s
}

func (f *fixture) counting() interceptor.Funcs {
	write := func(what string, o client.Object) error {
		if f.crash >= 0 && len(f.writes) >= f.crash {
			return errCrash
		}
		f.writes = append(f.writes, what+" "+o.GetObjectKind().GroupVersionKind().Kind+" "+o.GetName())
		return nil
	}
	return interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := write("create", o); err != nil {
				return err
			}
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := write("update", o); err != nil {
				return err
			}
			return c.Update(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := write("delete", o); err != nil {
				return err
			}
			return c.Delete(ctx, o, opts...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			var options client.PatchOptions
			if options.ApplyOptions(opts); len(options.DryRun) == 0 {
				if err := write("patch", o); err != nil {
					return err
				}
			}
			return c.Patch(ctx, o, p, opts...)
		},
	}
}

// sync makes one pass and returns its writes to anything but the state.
func (f *fixture) sync() ([]string, error) {
	f.t.Helper()
	f.writes = nil
	err := f.Sync(f.t.Context())
	return slices.DeleteFunc(f.writes, func(w string) bool { return strings.HasSuffix(w, f.name) }), err
}

func (f *fixture) mustSync(want ...string) {
	f.t.Helper()
	got, err := f.sync()
	f.must(err)
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		f.t.Fatalf("writes: -want +got\n%s", diff)
	}
}

func (f *fixture) state() *corev1.ConfigMap {
	f.t.Helper()
	cm := &corev1.ConfigMap{}
	f.must(f.client.Get(f.t.Context(), types.NamespacedName{Namespace: "sallyport-system", Name: f.name}, cm))
	return cm
}

func (f *fixture) grant(namespace, name string) *v1alpha1.AccessGrant {
	f.t.Helper()
	g := &v1alpha1.AccessGrant{}
	f.must(f.client.Get(f.t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, g))
	return g
}

// owned are the grants that say that they are this sync's.
func (f *fixture) owned() []string {
	f.t.Helper()
	var list v1alpha1.AccessGrantList
	f.must(f.client.List(f.t.Context(), &list))
	var names []string
	for _, g := range list.Items {
		if owner(g.ObjectMeta) == f.id() {
			names = append(names, g.Namespace+"/"+g.Name)
		}
	}
	return names
}

func (f *fixture) recorded() []string {
	var all []string
	for len(f.events) > 0 {
		all = append(all, <-f.events)
	}
	return all
}

func namespaceYAML(name string) string {
	return "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: " + name + "\n"
}

func TestSync(t *testing.T) {
	hub := controlplane.ForTest(t, controlplane.Options{}).Hub
	if err := hub.InstallCRDs(t.Context(), "../../config/crd/bases"); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	config := hub.AdminConfig()
	config.QPS = -1
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "sallyport-system"}}); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]func(*testing.T, *fixture){
		"lifecycle":  testLifecycle,
		"refused":    testRefused,
		"drift":      testDrift,
		"crash":      testCrash,
		"namespaces": testNamespaces,
		"finalizer":  testFinalizer,
		"empty":      testEmpty,
		"outage":     testOutage,
		"conflict":   testConflict,
		"start":      testStart,
	} {
		t.Run(name, func(t *testing.T) { test(t, newFixture(t, c, "sync-"+name)) })
	}
}

func testLifecycle(t *testing.T, f *fixture) {
	first := f.commit("add payments", map[string]any{
		"grants/ns.yaml":  namespaceYAML("lifecycle"),
		"grants/one.yaml": grant("lifecycle", "one", "first"),
		"grants/two.yaml": grant("lifecycle", "two", "first"),
	})
	f.mustSync("create Namespace lifecycle", "patch AccessGrant one", "patch AccessGrant two")

	one := f.grant("lifecycle", "one")
	want := map[string]string{
		v1alpha1.SyncAnnotation:     f.id(),
		v1alpha1.RevisionAnnotation: "main@sha1:" + first,
		v1alpha1.AuthorAnnotation:   "Ada Lovelace <ada@example.org>",
	}
	if diff := cmp.Diff(want, one.Annotations); diff != "" {
		t.Errorf("annotations: -want +got\n%s", diff)
	}
	data := maps.Clone(f.state().Data)
	if n := strings.Count(data["inventory"], "\n"); n != 2 {
		t.Errorf("%d lines in the inventory:\n%s", n, data["inventory"])
	}
	delete(data, "inventory")
	if diff := cmp.Diff(map[string]string{
		"ready": "true", "reason": "Applied", "message": "2 objects in the inventory",
		"source":            "file://" + f.dir + ", branch main, path grants",
		"attemptedRevision": "main@sha1:" + first, "appliedRevision": "main@sha1:" + first,
		"appliedAuthor": "Ada Lovelace <ada@example.org>", "appliedMessage": "add payments", "appliedAt": "2027-01-15T08:00:00Z",
	}, data); diff != "" {
		t.Errorf("state: -want +got\n%s", diff)
	}

	f.mustSync()
	if len(f.writes) > 0 {
		t.Errorf("a pass without changes wrote %v", f.writes)
	}
	f.Syncer = f.syncer(func(*Options) {})
	f.mustSync()
	if len(f.writes) > 0 {
		t.Errorf("a pass after a restart wrote %v", f.writes)
	}

	second := f.commit("change two", map[string]any{"grants/two.yaml": grant("lifecycle", "two", "second"), "README.md": "x"})
	f.mustSync("patch AccessGrant two")
	for name, sha := range map[string]string{"one": first, "two": second} {
		if got := f.grant("lifecycle", name).Annotations[v1alpha1.RevisionAnnotation]; got != "main@sha1:"+sha {
			t.Errorf("%s is said to come from %s, want %s", name, got, sha)
		}
	}
	third := f.commit("remove one", map[string]any{"grants/one.yaml": nil})
	f.mustSync("delete AccessGrant one")

	if diff := cmp.Diff([]string{
		"Normal Applied Applied main@sha1:" + first + " by Ada Lovelace <ada@example.org>: 2 created",
		"Normal Applied Applied main@sha1:" + second + " by Ada Lovelace <ada@example.org>: 1 changed",
		"Normal Applied Applied main@sha1:" + third + " by Ada Lovelace <ada@example.org>: 1 pruned",
	}, f.recorded()); diff != "" {
		t.Errorf("events: -want +got\n%s", diff)
	}
}

func testRefused(t *testing.T, f *fixture) {
	good := f.commit("good", map[string]any{
		"grants/ns.yaml":  namespaceYAML("refused"),
		"grants/one.yaml": grant("refused", "one", "first"),
	})
	f.mustSync("create Namespace refused", "patch AccessGrant one")
	f.recorded()

	for name, tc := range map[string]struct {
		reason string
		bad    string
		want   Reason
		text   string
	}{
		"Build":   {"What does not build changes nothing.", "a: [", ReasonBuildFailed, "grants/two.yaml:1: "},
		"CEL":     {"Nor does what the API server refuses, though all else is fine.", strings.Replace(grant("refused", "two", "x"), "oncall", "system:masters", 1), ReasonRefused, "cannot apply AccessGrant refused/two (grants/two.yaml:1)"},
		"NoSpace": {"A namespace that nobody brings is not made up.", grant("nowhere", "two", "x"), ReasonRefused, `namespaces "nowhere" not found`},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			bad := f.commit("bad", map[string]any{"grants/one.yaml": grant("refused", "one", "changed"), "grants/two.yaml": tc.bad})
			for range 2 {
				if got, err := f.sync(); err == nil || len(got) > 0 {
					t.Fatalf("%s\ngot writes %v and error %v", tc.reason, got, err)
				}
			}
			data := f.state().Data
			if data["ready"] != "false" || data["reason"] != string(tc.want) || !strings.Contains(data["message"], tc.text) {
				t.Errorf("%s\ngot state %s %s: %s", tc.reason, data["ready"], data["reason"], data["message"])
			}
			if data["appliedRevision"] != "main@sha1:"+good || data["attemptedRevision"] != "main@sha1:"+bad {
				t.Errorf("applied %s, attempted %s", data["appliedRevision"], data["attemptedRevision"])
			}
			if got := f.recorded(); len(got) != 1 || !strings.HasPrefix(got[0], "Warning "+string(tc.want)+" main@sha1:"+bad) {
				t.Errorf("events: %v, want one", got)
			}
			f.force(good)
			f.mustSync()
			if got := f.recorded(); len(got) != 1 || !strings.HasSuffix(got[0], "nothing to change") {
				t.Errorf("events: %v, want one of the recovery", got)
			}
		})
	}
}

func testDrift(t *testing.T, f *fixture) {
	f.commit("good", map[string]any{
		"grants/ns.yaml":  namespaceYAML("drift"),
		"grants/one.yaml": grant("drift", "one", "first"),
	})
	// Made by hand before Git knew of it, with more than Git says.
	f.must(f.client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "drift"}}))
	f.must(f.client.Create(t.Context(), &v1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "drift", Name: "one", Finalizers: []string{v1alpha1.AccessGrantFinalizer}},
		Spec: v1alpha1.AccessGrantSpec{
			Reason:   "by hand",
			Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "mallory"}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"prod-us-1"}},
			Access:   []v1alpha1.AccessEntry{{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.ClusterRoleRef, Name: "admin"}}},
		},
	}, client.FieldOwner("kubectl-create")))
	f.mustSync("patch AccessGrant one", "patch AccessGrant one") // its ownership, and itself
	want := f.grant("drift", "one")
	if len(want.Spec.Subjects) != 1 || want.Spec.Subjects[0].Name != "oncall" || len(want.Spec.Clusters.Names) != 1 {
		t.Fatalf("something made by hand stays: %+v", want.Spec)
	}
	if len(want.Finalizers) != 1 {
		t.Errorf("finalizers are %v: another's metadata is not the sync's", want.Finalizers)
	}

	edited := f.grant("drift", "one")
	edited.Spec.Subjects = append(edited.Spec.Subjects, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: "mallory"})
	edited.Spec.Suspend = true
	f.must(f.client.Update(t.Context(), edited, client.FieldOwner("kubectl-edit")))
	f.mustSync("patch AccessGrant one", "patch AccessGrant one")
	if diff := cmp.Diff(want.Spec, f.grant("drift", "one").Spec); diff != "" {
		t.Errorf("an edit stays: -want +got\n%s", diff)
	}

	edited = f.grant("drift", "one")
	edited.Labels = nil
	edited.Finalizers = nil
	f.must(f.client.Update(t.Context(), edited, client.FieldOwner("kubectl-edit")))
	f.mustSync("patch AccessGrant one")

	f.must(f.client.Delete(t.Context(), f.grant("drift", "one")))
	f.mustSync("patch AccessGrant one")
	if diff := cmp.Diff(want.Annotations, f.grant("drift", "one").Annotations); diff != "" {
		t.Errorf("what comes back comes from another commit: -want +got\n%s", diff)
	}
}

// testCrash kills a pass after each of its writes.
func testCrash(t *testing.T, f *fixture) {
	f.commit("before", map[string]any{
		"grants/ns.yaml":    namespaceYAML("crash"),
		"grants/gone.yaml":  grant("crash", "gone", "first"),
		"grants/one.yaml":   grant("crash", "one", "first"),
		"grants/other.yaml": grant("crash", "other", "first"),
	})
	f.mustSync("create Namespace crash", "patch AccessGrant gone", "patch AccessGrant one", "patch AccessGrant other")
	for n := range 20 {
		f.commit("crash", map[string]any{
			"grants/gone.yaml": nil,
			"grants/one.yaml":  grant("crash", "one", fmt.Sprint("reason", n)),
			"grants/new.yaml":  grant("crash", "new", "first"),
		})
		f.Syncer, f.crash = f.syncer(func(*Options) {}), n
		_, crashed := f.sync()
		f.crash = -1

		inv, err := decodeInventory(f.state().Data["inventory"], nil)
		f.must(err)
		for _, name := range f.owned() {
			ref := Ref{Group: "access.sallyport.dev", Kind: "AccessGrant", Namespace: "crash", Name: strings.TrimPrefix(name, "crash/")}
			if _, listed := inv[ref]; !listed {
				t.Fatalf("after %d writes %s is in no inventory", n, name)
			}
		}

		// Another process comes up, and finds Git further on.
		f.commit("after", map[string]any{"grants/gone.yaml": grant("crash", "gone", "first"), "grants/new.yaml": nil})
		f.Syncer = f.syncer(func(*Options) {})
		_, err = f.sync()
		f.must(err)
		if diff := cmp.Diff([]string{"crash/gone", "crash/one", "crash/other"}, f.owned()); diff != "" {
			t.Fatalf("after a crash at write %d: -want +got\n%s", n, diff)
		}
		if got := f.grant("crash", "one").Spec.Reason; got != fmt.Sprint("reason", n) {
			t.Fatalf("after a crash at write %d: reason %q", n, got)
		}
		f.mustSync()
		if crashed == nil {
			if n < 4 {
				t.Errorf("a pass has only %d writes", n)
			}
			return
		}
	}
	t.Error("no pass came to its end")
}

func testNamespaces(t *testing.T, f *fixture) {
	f.commit("with", map[string]any{"grants/ns.yaml": namespaceYAML("spaces") + "  labels: {team: a}\n", "grants/one.yaml": grant("spaces", "one", "x")})
	f.mustSync("create Namespace spaces", "patch AccessGrant one")
	f.commit("change", map[string]any{"grants/ns.yaml": namespaceYAML("spaces") + "  labels: {team: b}\n"})
	f.mustSync()
	f.commit("without", map[string]any{"grants/ns.yaml": nil})
	f.mustSync()
	ns := &corev1.Namespace{}
	f.must(f.client.Get(t.Context(), types.NamespacedName{Name: "spaces"}, ns))
	if ns.Labels["team"] != "a" || ns.DeletionTimestamp != nil {
		t.Errorf("a namespace was changed or deleted: %v", ns.ObjectMeta)
	}

	// Nothing but the namespace comes of a commit whose objects in it are refused.
	f.commit("bad", map[string]any{
		"grants/new.yaml": namespaceYAML("spaces-new") + "---\n" + strings.Replace(grant("spaces-new", "bad", "x"), "oncall", "system:masters", 1),
		"grants/one.yaml": grant("spaces", "one", "changed"),
	})
	if got, err := f.sync(); err == nil || !slices.Equal(got, []string{"create Namespace spaces-new"}) {
		t.Errorf("got writes %v and error %v", got, err)
	}
}

func testFinalizer(t *testing.T, f *fixture) {
	f.commit("with", map[string]any{"grants/ns.yaml": namespaceYAML("finalizer"), "grants/one.yaml": grant("finalizer", "one", "first")})
	f.mustSync("create Namespace finalizer", "patch AccessGrant one")
	held := f.grant("finalizer", "one")
	held.Finalizers = []string{v1alpha1.AccessGrantFinalizer}
	f.must(f.client.Update(t.Context(), held, client.FieldOwner("sallyport")))
	f.mustSync()

	f.commit("without", map[string]any{"grants/one.yaml": nil})
	f.mustSync("delete AccessGrant one")
	f.mustSync()
	f.commit("again", map[string]any{"grants/one.yaml": grant("finalizer", "one", "second")})
	f.mustSync()
	if data := f.state().Data; data["ready"] != "false" || data["reason"] != string(ReasonWaiting) || !strings.Contains(data["message"], "AccessGrant finalizer/one") {
		t.Errorf("got state %s %s: %s", data["ready"], data["reason"], data["message"])
	}
	held = f.grant("finalizer", "one")
	held.Finalizers = nil
	f.must(f.client.Update(t.Context(), held, client.FieldOwner("sallyport")))
	f.mustSync("patch AccessGrant one")
	if f.state().Data["ready"] != "true" {
		t.Error("not ready once the object was there again")
	}
}

func testEmpty(t *testing.T, f *fixture) {
	f.commit("with", map[string]any{"grants/ns.yaml": namespaceYAML("empty"), "grants/one.yaml": grant("empty", "one", "first")})
	f.mustSync("create Namespace empty", "patch AccessGrant one")
	f.commit("without", map[string]any{"grants/ns.yaml": nil, "grants/one.yaml": nil, "README.md": "x"})
	if got, err := f.sync(); !errors.Is(err, ErrNoPath) || len(got) > 0 {
		t.Fatalf("a missing folder: got writes %v and error %v", got, err)
	}
	f.commit("kept", map[string]any{"grants/.gitkeep": ""})
	f.mustSync("delete AccessGrant one")

	f.commit("with", map[string]any{"grants/one.yaml": grant("empty", "one", "first")})
	f.mustSync("patch AccessGrant one")
	f.commit("without", map[string]any{"grants/one.yaml": nil, "grants/.gitkeep": nil})
	f.Syncer = f.syncer(func(o *Options) { o.AllowEmpty = true })
	f.mustSync("delete AccessGrant one")
}

// broken is a repository that cannot be reached.
type broken struct{}

func (broken) Head(context.Context) (string, error)        { return "", errors.New("down") }
func (broken) Checkout(context.Context) (*Checkout, error) { return nil, errors.New("down") }

func testOutage(t *testing.T, f *fixture) {
	f.commit("with", map[string]any{"grants/ns.yaml": namespaceYAML("outage"), "grants/one.yaml": grant("outage", "one", "first")})
	f.mustSync("create Namespace outage", "patch AccessGrant one")
	f.Repository = broken{}
	f.must(f.client.Delete(t.Context(), f.grant("outage", "one")))
	if got, err := f.sync(); err == nil || !slices.Equal(got, []string{"patch AccessGrant one"}) {
		t.Errorf("the last commit is not upheld: writes %v, error %v", got, err)
	}
	if data := f.state().Data; data["reason"] != string(ReasonFetchFailed) || data["message"] != "down" {
		t.Errorf("got state %s: %s", data["reason"], data["message"])
	}
	f.Syncer = f.syncer(func(*Options) {})
	f.Repository = broken{}
	if got, err := f.sync(); err == nil || len(got) > 0 || len(f.owned()) != 1 {
		t.Errorf("a start without Git: writes %v, error %v", got, err)
	}
}

func testConflict(t *testing.T, f *fixture) {
	f.commit("with", map[string]any{"grants/ns.yaml": namespaceYAML("conflict"), "grants/one.yaml": grant("conflict", "one", "first")})
	f.mustSync("create Namespace conflict", "patch AccessGrant one")

	other := newFixture(t, f.client, "sync-conflict-other")
	other.commit("with", map[string]any{"grants/one.yaml": grant("conflict", "one", "theirs")})
	if got, err := other.sync(); err == nil || len(got) > 0 || other.state().Data["reason"] != string(ReasonRefused) {
		t.Errorf("another sync's object: writes %v, error %v", got, err)
	}

	// The state of a leader that was overtaken cannot be written.
	stale, err := load(t.Context(), f.client, types.NamespacedName{Namespace: "sallyport-system", Name: f.name})
	f.must(err)
	f.commit("change", map[string]any{"grants/one.yaml": grant("conflict", "one", "second")})
	f.mustSync("patch AccessGrant one")
	if err := stale.save(t.Context(), stale.status, Inventory{}); !apierrors.IsConflict(err) {
		t.Errorf("got error %v, want a conflict", err)
	}

	// Nor is a ConfigMap of somebody else taken.
	f.must(f.client.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "sallyport-system", Name: "sync-taken"}}))
	taken := newFixture(t, f.client, "sync-taken")
	taken.commit("x", map[string]any{"grants/one.yaml": grant("conflict", "two", "x")})
	if got, err := taken.sync(); err == nil || len(got) > 0 {
		t.Errorf("another's ConfigMap: writes %v, error %v", got, err)
	}
}

func testStart(t *testing.T, f *fixture) {
	f.commit("with", map[string]any{"grants/ns.yaml": namespaceYAML("start"), "grants/one.yaml": grant("start", "one", "first")})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- f.Start(ctx) }()
	if got := <-f.events; !strings.HasSuffix(got, "1 created") {
		t.Errorf("event %q", got)
	}
	f.commit("more", map[string]any{"grants/two.yaml": grant("start", "two", "first")})
	f.Trigger()
	f.Trigger()
	if got := <-f.events; !strings.HasSuffix(got, "1 created") {
		t.Errorf("event %q", got)
	}
	cancel()
	if err := <-ended; err != nil || !f.NeedLeaderElection() {
		t.Errorf("ended with error %v", err)
	}
}
