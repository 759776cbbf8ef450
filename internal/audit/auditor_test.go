package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	orv1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

var allKinds = []schema.GroupVersionKind{ReportKind, ClusterReportKind, PolicyReportKind, ClusterPolicyReportKind}

// hub is a control plane with an Auditor that a test drives pass by pass.
type hub struct {
	*testing.T
	fleet *controlplane.Fleet
	admin client.Client
	// sallyport has the rights that rbac.go asks for, and no more.
	sallyport client.Client
	kinds     *served.Kinds
	clock     *clocktesting.FakeClock
	auditor   *Auditor

	mu     sync.Mutex
	calls  []string // to the hub by sallyport: "verb Kind namespace/name"
	refuse string   // the call to refuse
}

// One hub for all of it, in order.
func TestAuditor(t *testing.T) {
	ctrl.SetLogger(zap.New(zap.WriteTo(io.Discard)))
	h := &hub{T: t, fleet: controlplane.ForTest(t, controlplane.Options{}), clock: clocktesting.NewFakeClock(t0)}
	h.connect()
	for _, n := range []string{"a", "b", "c"} {
		h.must(h.admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n}}))
	}
	h.restart(Config{Reports: true, Legacy: true})
	t.Run("Later", h.later)
	t.Run("Unchanged", h.unchanged)
	t.Run("OneGrant", h.oneGrant)
	t.Run("Restart", h.restarted)
	t.Run("Tampered", h.tampered)
	t.Run("NotOurs", h.notOurs)
	t.Run("NamespaceGoes", h.namespaceGoes)
	t.Run("Divided", h.divided)
	t.Run("Start", h.started)
	t.Run("Off", h.off)
}

func (h *hub) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

func (h *hub) connect() {
	h.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, rbacv1.AddToScheme} {
		h.must(add(scheme))
	}
	config := h.fleet.Hub.AdminConfig()
	var err error
	h.admin, err = client.New(config, client.Options{Scheme: scheme})
	h.must(err)
	verbs := []string{"get", "list", "watch", "create", "update", "delete"}
	h.must(h.admin.Create(h.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "audit"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{"openreports.io"}, Resources: []string{"reports", "clusterreports"}, Verbs: verbs},
		{APIGroups: []string{"wgpolicyk8s.io"}, Resources: []string{"policyreports", "clusterpolicyreports"}, Verbs: verbs},
	}}))
	h.must(h.admin.Create(h.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "audit"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "audit"},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "sallyport"}},
	}))
	own := h.fleet.Hub.AdminConfig()
	own.Impersonate.UserName = "sallyport"
	plain, err := client.NewWithWatch(own, client.Options{Scheme: scheme})
	h.must(err)
	h.sallyport = h.counted(plain)

	h.kinds, err = served.New(config, served.Options{Scheme: scheme, Retry: 100 * time.Millisecond})
	h.must(err)
	h.must(h.kinds.Add(Kinds()...))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.kinds.Start(ctx) }()
	h.Cleanup(func() {
		cancel()
		<-ended
	})
}

// counted notes each call.
func (h *hub) counted(c client.WithWatch) client.Client {
	note := func(verb string, o client.Object) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		call := fmt.Sprintf("%s %s %s/%s", verb, o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName())
		h.calls = append(h.calls, call)
		if call == h.refuse {
			return errors.New("refused")
		}
		return nil
	}
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			o.SetNamespace(key.Namespace)
			o.SetName(key.Name)
			if err := note("get", o); err != nil {
				return err
			}
			return c.Get(ctx, key, o, opts...)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if err := note("create", o); err != nil {
				return err
			}
			return c.Create(ctx, o, opts...)
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			if err := note("update", o); err != nil {
				return err
			}
			return c.Update(ctx, o, opts...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if err := note("delete", o); err != nil {
				return err
			}
			return c.Delete(ctx, o, opts...)
		},
	})
}

// restart makes a new Auditor, as a new leader has it.
func (h *hub) restart(c Config) {
	h.Helper()
	c.Client, c.Kinds, c.Clock = h.sallyport, h.kinds, h.clock
	var err error
	h.auditor, err = New(c)
	h.must(err)
}

// pass makes one and returns the calls that it took, sorted.
func (h *hub) pass(t *testing.T, a Audit) []string {
	t.Helper()
	h.settle(t)
	h.calls = nil
	h.auditor.Publish(a)
	h.auditor.pass(t.Context())
	slices.Sort(h.calls)
	return h.calls
}

// writes among calls.
func writes(calls []string) []string {
	return slices.DeleteFunc(slices.Clone(calls), func(c string) bool { return strings.HasPrefix(c, "get ") })
}

// settle waits until the caches show what the hub has.
func (h *hub) settle(t *testing.T) {
	t.Helper()
	for _, kind := range allKinds {
		if h.kinds.Status(kind.GroupKind()).State == served.Absent {
			continue
		}
		h.eventually(t, kind.Kind+" is as the hub has it", func() bool {
			cached := &metav1.PartialObjectMetadataList{}
			cached.SetGroupVersionKind(kind.GroupVersion().WithKind(kind.Kind + "List"))
			if err := h.kinds.List(t.Context(), cached); err != nil {
				return false
			}
			var seen, there []string
			for _, o := range cached.Items {
				seen = append(seen, string(o.UID)+o.ResourceVersion)
			}
			for _, o := range h.list(t, kind) {
				if o.GetLabels()[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue {
					there = append(there, string(o.GetUID())+o.GetResourceVersion())
				}
			}
			slices.Sort(seen)
			slices.Sort(there)
			return slices.Equal(seen, there)
		})
	}
}

func (h *hub) eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	began := time.Now()
	for !holds() {
		if time.Since(began) > 40*time.Second {
			t.Fatalf("not in time: %s", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (h *hub) list(t *testing.T, kind schema.GroupVersionKind) []unstructured.Unstructured {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(kind)
	if err := h.admin.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// report as it stands; nil if it does not.
func (h *hub) report(t *testing.T, kind schema.GroupVersionKind, namespace, name string) *orv1.Report {
	t.Helper()
	for _, o := range h.list(t, kind) {
		if o.GetNamespace() == namespace && o.GetName() == name {
			return read(&o)
		}
	}
	return nil
}

func (h *hub) summary(t *testing.T, kind schema.GroupVersionKind, namespace string) orv1.ReportSummary {
	t.Helper()
	if r := h.report(t, kind, namespace, Name); r != nil {
		return r.Summary
	}
	return orv1.ReportSummary{}
}

// install the kinds of a group, as their own projects define them.
func (h *hub) install(t *testing.T, group string) {
	t.Helper()
	files, err := filepath.Glob("../../test/controlplane/crds/" + group + "_*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("got %v, %v, want two CRDs of %s", files, err, group)
	}
	if err := h.fleet.Hub.InstallCRDs(t.Context(), files...); err != nil {
		t.Fatal(err)
	}
	for _, kind := range allKinds {
		if kind.Group == group {
			h.eventually(t, kind.Kind+" is served", func() bool { return h.kinds.Status(kind.GroupKind()).State == served.Current })
		}
	}
}

// first is two namespaces, of which one has something to report of each kind.
func first() Audit {
	excused := denies("ceiling", "too long")
	excused.Exception = "break-glass"
	return Audit{
		Grants: []Grant{
			judged("a", "one", denies("ceiling", "too much"), denies("ceiling", "too wide")),
			judged("a", "two", guardrail.Reason{Guardrail: "tickets", Enforcement: v1alpha1.EnforcementWarn, Message: "<b>no ticket</b>"}, excused),
			judged("a", "three"),
			judged("b", "four"),
		},
		Guardrails: []*guardrail.Guardrail{inForce("ceiling", v1alpha1.EnforcementDeny), inForce("tickets", v1alpha1.EnforcementWarn)},
	}
}

// A hub without the kinds is left in peace; kinds that come later are written to.
func (h *hub) later(t *testing.T) {
	for _, kind := range allKinds {
		h.eventually(t, kind.Kind+" is known to be absent", func() bool { return h.kinds.Status(kind.GroupKind()).State == served.Absent })
	}
	if calls := h.pass(t, first()); len(calls) > 0 || h.auditor.trouble != "" {
		t.Errorf("without the kinds: %v, %s", calls, h.auditor.trouble)
	}
	h.install(t, "openreports.io")
	want := []string{
		"create ClusterReport /sallyport-guardrails", "create Report a/sallyport-guardrails", "create Report b/sallyport-guardrails",
	}
	if d := cmp.Diff(want, writes(h.pass(t, first()))); d != "" {
		t.Error(d)
	}
	h.install(t, "wgpolicyk8s.io")
	want = []string{
		"create ClusterPolicyReport /sallyport-guardrails", "create PolicyReport a/sallyport-guardrails", "create PolicyReport b/sallyport-guardrails",
	}
	if d := cmp.Diff(want, writes(h.pass(t, first()))); d != "" {
		t.Error(d)
	}
	if h.auditor.trouble != "" {
		t.Error(h.auditor.trouble)
	}

	stamp := metav1.Timestamp{Seconds: t0.Unix()}
	result := func(grant string, edit func(*orv1.ReportResult)) orv1.ReportResult {
		r := orv1.ReportResult{
			Policy: "ceiling", Rule: "spec.access[0]", Category: "Access", Source: "sallyport", Result: "fail", Severity: "high", Scored: true, Timestamp: stamp, Subjects: grantRef("a", grant),
			Properties: map[string]string{"enforcement": "Deny", "revision": "main@sha1:abc"},
		}
		edit(&r)
		return r
	}
	content := &orv1.Report{
		Source: "sallyport", Summary: orv1.ReportSummary{Pass: 1, Fail: 2, Warn: 1, Skip: 1},
		Configuration: &orv1.ReportConfiguration{Limits: orv1.Limits{MaxResults: 300, StatusFilter: []orv1.StatusFilter{"fail", "warn", "error", "skip"}}},
		Results: []orv1.ReportResult{
			result("one", func(r *orv1.ReportResult) { r.Description = "too much" }),
			result("one", func(r *orv1.ReportResult) { r.Description = "too wide" }),
			result("two", func(r *orv1.ReportResult) {
				r.Policy, r.Rule, r.Result, r.Severity, r.Scored, r.Description = "tickets", "", "warn", "medium", false, "‹b›no ticket‹/b›"
				r.Properties = map[string]string{"enforcement": "Warn", "revision": "main@sha1:abc"}
			}),
			result("two", func(r *orv1.ReportResult) {
				r.Result, r.Severity, r.Scored, r.Description, r.Properties["exception"] = "skip", "info", false, "too long", "break-glass"
			}),
		},
	}
	onlyContent := func(r *orv1.Report) *orv1.Report {
		if r != nil {
			r.TypeMeta, r.ObjectMeta = metav1.TypeMeta{}, metav1.ObjectMeta{}
		}
		return r
	}
	if d := cmp.Diff(content, onlyContent(h.report(t, ReportKind, "a", Name))); d != "" {
		t.Errorf("Report: %s", d)
	}
	content.Source, content.Configuration = "", nil
	if d := cmp.Diff(content, onlyContent(h.report(t, PolicyReportKind, "a", Name))); d != "" {
		t.Errorf("PolicyReport: %s", d)
	}
	if got, want := h.summary(t, ReportKind, "b"), (orv1.ReportSummary{Pass: 1}); got != want {
		t.Errorf("namespace b: got %+v, want %+v", got, want)
	}
	for _, kind := range []schema.GroupVersionKind{ClusterReportKind, ClusterPolicyReportKind} {
		if got, want := h.summary(t, kind, ""), (orv1.ReportSummary{Fail: 1, Warn: 1}); got != want {
			t.Errorf("%s: got %+v, want %+v", kind.Kind, got, want)
		}
	}
}

// What is the same is neither written nor read, however often it is published.
func (h *hub) unchanged(t *testing.T) {
	h.clock.Step(time.Hour)
	for range 3 {
		if calls := h.pass(t, first()); len(calls) > 0 {
			t.Errorf("nothing changed, and that took %v", calls)
		}
	}
}

// One grant's change rewrites the reports that it is in, and leaves alone the
// timestamps of what did not change.
func (h *hub) oneGrant(t *testing.T) {
	a := first()
	a.Grants[0] = judged("a", "one", denies("ceiling", "too much"), denies("ceiling", "too new"))
	want := []string{"update PolicyReport a/sallyport-guardrails", "update Report a/sallyport-guardrails"}
	if d := cmp.Diff(want, writes(h.pass(t, a))); d != "" {
		t.Error(d)
	}
	var got []string
	for _, r := range h.report(t, ReportKind, "a", Name).Results {
		got = append(got, fmt.Sprintf("%s after %s", r.Description, time.Unix(r.Timestamp.Seconds, 0).Sub(t0)))
	}
	if d := cmp.Diff([]string{"too much after 0s", "too new after 1h0m0s", "‹b›no ticket‹/b› after 0s", "too long after 0s"}, got); d != "" {
		t.Error(d)
	}
	h.pass(t, first())
}

// A new leader looks once, and finds that it all is as it should be.
func (h *hub) restarted(t *testing.T) {
	h.restart(Config{Reports: true, Legacy: true})
	h.clock.Step(time.Hour)
	calls := h.pass(t, first())
	if len(writes(calls)) > 0 || len(calls) != 6 {
		t.Errorf("the first pass of a new leader took %v, want to read each of 6", calls)
	}
	if calls := h.pass(t, first()); len(calls) > 0 {
		t.Errorf("the second took %v", calls)
	}
}

// What others change or delete of Sallyport's own is put right, and what they add
// to it besides is kept.
func (h *hub) tampered(t *testing.T) {
	for _, o := range h.list(t, ReportKind) {
		switch o.GetNamespace() {
		case "a":
			o.SetAnnotations(map[string]string{"note": "kept"})
			delete(o.Object, "results")
			o.Object["scope"] = map[string]any{"kind": "Namespace", "name": "a"}
			h.must(h.admin.Update(t.Context(), &o))
		case "b":
			h.must(h.admin.Delete(t.Context(), &o))
		}
	}
	want := []string{"create Report b/sallyport-guardrails", "update Report a/sallyport-guardrails"}
	if d := cmp.Diff(want, writes(h.pass(t, first()))); d != "" {
		t.Error(d)
	}
	if r := h.report(t, ReportKind, "a", Name); len(r.Results) != 4 || r.Scope != nil || r.Annotations["note"] != "kept" {
		t.Errorf("got %d results, scope %v, annotations %v", len(r.Results), r.Scope, r.Annotations)
	}
}

// Reports that are not Sallyport's are left alone, even one of its name, and keep
// none of the others from being written.
func (h *hub) notOurs(t *testing.T) {
	foreign := func(namespace, name string, labels map[string]string) {
		u := &unstructured.Unstructured{Object: map[string]any{"source": "kyverno"}}
		u.SetGroupVersionKind(ReportKind)
		u.SetNamespace(namespace)
		u.SetName(name)
		u.SetLabels(labels)
		h.must(h.admin.Create(t.Context(), u))
	}
	foreign("c", Name, nil)
	foreign("a", Name+"-0", map[string]string{v1alpha1.ManagedByLabel: "kyverno"})
	a := first()
	a.Grants = append(a.Grants, judged("c", "five"))
	want := []string{"create PolicyReport c/sallyport-guardrails"}
	if d := cmp.Diff(want, writes(h.pass(t, a))); d != "" {
		t.Error(d)
	}
	if !strings.Contains(h.auditor.trouble, `Report "c/sallyport-guardrails": one of that name is not Sallyport's`) {
		t.Errorf("the trouble is %q", h.auditor.trouble)
	}
	// Nor deleted when it is not wanted.
	if d := cmp.Diff([]string{"delete PolicyReport c/sallyport-guardrails"}, writes(h.pass(t, first()))); d != "" {
		t.Error(d)
	}
	for _, key := range [][2]string{{"c", Name}, {"a", Name + "-0"}} {
		if r := h.report(t, ReportKind, key[0], key[1]); r == nil || r.Source != "kyverno" || len(r.Results) > 0 {
			t.Errorf("someone else's %v is now %+v", key, r)
		}
	}
	// A report that loses the label is not Sallyport's any more either.
	for _, o := range h.list(t, PolicyReportKind) {
		if o.GetNamespace() == "b" {
			o.SetLabels(nil)
			h.must(h.admin.Update(t.Context(), &o))
		}
	}
	// Nor one that loses it before the cache shows so.
	stale, err := h.auditor.standing(t.Context(), h.auditor.targets[0])
	h.must(err)
	report := stale[client.ObjectKey{Namespace: "b", Name: Name}]
	live, err := h.auditor.get(t.Context(), h.auditor.targets[0], client.ObjectKeyFromObject(report))
	h.must(err)
	live.SetLabels(nil)
	h.must(h.admin.Update(t.Context(), live))
	if err := h.auditor.remove(t.Context(), h.auditor.targets[0], report); err == nil || h.report(t, ReportKind, "b", Name) == nil {
		t.Errorf("deleting a report as it was: %v, want it refused", err)
	}
	live.SetLabels(report.Labels)
	h.must(h.admin.Update(t.Context(), live))

	a = first()
	a.Grants = slices.DeleteFunc(a.Grants, func(g Grant) bool { return g.Namespace == "b" })
	if d := cmp.Diff([]string{"delete Report b/sallyport-guardrails"}, writes(h.pass(t, a))); d != "" {
		t.Error(d)
	}
}

// A namespace that goes, or is gone, is no trouble; one without grants has no
// reports.
func (h *hub) namespaceGoes(t *testing.T) {
	// Nothing finalizes a namespace here, so that it stays on its way.
	h.must(h.admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going"}}))
	h.must(h.admin.Delete(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "going"}}))
	a := Audit{Grants: []Grant{judged("going", "one"), judged("gone", "two")}}
	h.pass(t, a)
	if h.auditor.trouble != "" {
		t.Error(h.auditor.trouble)
	}
	want := []string{"ClusterPolicyReport 0", "ClusterReport 0", "PolicyReport 0", "Report 0"}
	if d := cmp.Diff(want, h.counts(t)); d != "" {
		t.Error(d)
	}
}

// counts Sallyport's reports by kind.
func (h *hub) counts(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, kind := range allKinds {
		n := 0
		for _, o := range h.list(t, kind) {
			if o.GetLabels()[v1alpha1.ManagedByLabel] == v1alpha1.ManagedByValue {
				n++
			}
		}
		out = append(out, fmt.Sprintf("%s %d", kind.Kind, n))
	}
	slices.Sort(out)
	return out
}

// Results that move to another shard keep their timestamps.
func (h *hub) divided(t *testing.T) {
	h.restart(Config{Reports: true})
	began := h.clock.Now()
	grants := func(n int) Audit {
		var a Audit
		for i := range n {
			g := badGrant(i, 1)
			g.Namespace = "b"
			a.Grants = append(a.Grants, g)
		}
		return a
	}
	dates := func() map[string]int {
		out := map[string]int{}
		for _, o := range h.list(t, ReportKind) {
			if o.GetNamespace() != "b" {
				continue
			}
			for _, r := range read(&o).Results {
				out[o.GetName()+" "+time.Unix(r.Timestamp.Seconds, 0).Sub(began).String()]++
			}
		}
		return out
	}
	h.pass(t, grants(300))
	if d := cmp.Diff(map[string]int{"sallyport-guardrails 0s": 300}, dates()); d != "" {
		t.Fatal(d)
	}
	h.clock.Step(time.Minute)
	// As long as one half cannot be written, the whole is kept.
	h.refuse = "create Report b/sallyport-guardrails-1"
	h.pass(t, grants(301))
	if kept := dates()["sallyport-guardrails 0s"]; kept != 300 || !strings.Contains(h.auditor.trouble, "refused") {
		t.Errorf("got %v, trouble %q, want the whole kept", dates(), h.auditor.trouble)
	}
	h.refuse = ""
	h.pass(t, grants(301))
	divided := dates()
	old, fresh := 0, 0
	for k, n := range divided {
		if strings.HasSuffix(k, " 0s") {
			old += n
		} else {
			fresh += n
		}
	}
	if old != 300 || fresh != 1 || len(divided) != 3 {
		t.Errorf("got %v, want 300 results as they were and a new one, in two shards", divided)
	}
	h.clock.Step(time.Minute)
	h.pass(t, grants(300))
	if d := cmp.Diff(map[string]int{"sallyport-guardrails 0s": 300}, dates()); d != "" {
		t.Error(d)
	}
}

// The whole of it, as a manager runs it.
func (h *hub) started(t *testing.T) {
	h.restart(Config{Reports: true, Legacy: true})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.auditor.Start(ctx) }()
	h.auditor.Publish(first())
	h.eventually(t, "the first audit is written at once", func() bool {
		return h.summary(t, ReportKind, "a").Fail == 2 && h.summary(t, ClusterPolicyReportKind, "").Fail == 1
	})
	a := first()
	a.Grants[0] = judged("a", "one")
	h.auditor.Publish(first())
	h.auditor.Publish(a)
	h.eventually(t, "the pass ends", h.clock.HasWaiters)
	if got := h.summary(t, ReportKind, "a").Fail; got != 2 {
		t.Errorf("the second audit was written before its time")
	}
	h.clock.Step(10 * time.Second)
	h.eventually(t, "the newest audit is written", func() bool { return h.summary(t, ReportKind, "a").Fail == 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// What is switched off is cleaned up, and the rest kept.
func (h *hub) off(t *testing.T) {
	h.restart(Config{Legacy: true})
	h.pass(t, first())
	want := []string{"ClusterPolicyReport 1", "ClusterReport 0", "PolicyReport 1", "Report 0"}
	if d := cmp.Diff(want, h.counts(t)); d != "" {
		t.Error(d)
	}
	h.restart(Config{})
	h.pass(t, first())
	want = []string{"ClusterPolicyReport 0", "ClusterReport 0", "PolicyReport 0", "Report 0"}
	if d := cmp.Diff(want, h.counts(t)); d != "" {
		t.Error(d)
	}
}
