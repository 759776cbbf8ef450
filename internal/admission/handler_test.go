package admission_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/admission"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/inventory"
)

var t0 = time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)

// check is a policy in Go.
type check func(*guardrail.Input) []guardrail.Violation

func (c check) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	if c == nil {
		return nil, errors.New("line 7 says password=hunter2")
	}
	return c(in), nil
}

func (check) Timed() bool { return false }

// broken cannot be evaluated.
var broken check

// noExec objects to each access that gives pods/exec on a prod cluster.
func noExec(in *guardrail.Input) []guardrail.Violation {
	prod := false
	for _, c := range in.Clusters {
		prod = prod || c.Labels["env"] == "prod"
	}
	var out []guardrail.Violation
	for _, a := range in.Access {
		for _, r := range a.Rules {
			for _, resource := range r.Resources {
				if prod && resource == "pods/exec" {
					out = append(out, guardrail.Violation{Message: "no exec in prod", Field: a.Field})
				}
			}
		}
	}
	return out
}

func says(message string) check {
	return func(*guardrail.Input) []guardrail.Violation { return []guardrail.Violation{{Message: message}} }
}

func rail(name string, c check, change ...func(*guardrail.Guardrail)) *guardrail.Guardrail {
	g := &guardrail.Guardrail{Name: name, Digest: "d", Enforcement: v1alpha1.EnforcementDeny, Points: guardrail.GrantPoints, Check: c}
	for _, f := range change {
		f(g)
	}
	return g
}

func enforced(e v1alpha1.Enforcement) func(*guardrail.Guardrail) {
	return func(g *guardrail.Guardrail) { g.Enforcement = e }
}

func excusable(longest time.Duration) func(*guardrail.Guardrail) {
	return func(g *guardrail.Guardrail) { g.Exceptions.Longest = longest }
}

// rules are the guardrails that are known: as the cache has them, and as they are.
type rules struct {
	current, live []*guardrail.Guardrail
	excused       []guardrail.Exception // that only live has
	err           error
	looked        int
}

func (r *rules) Current(context.Context) (*guardrail.Set, error) {
	return guardrail.NewSet(r.current, nil, guardrail.Options{}), r.err
}

func (r *rules) Live(context.Context) (*guardrail.Set, error) {
	r.looked++
	return guardrail.NewSet(r.live, r.excused, guardrail.Options{}), r.err
}

func same(g ...*guardrail.Guardrail) *rules { return &rules{current: g, live: g} }

// members of the fleet.
type members []fleet.Member

func (m members) Fleet(context.Context) (*fleet.Fleet, []inventory.Problem, error) {
	return fleet.New(m), nil, nil
}

func (members) Placements(context.Context) (map[types.NamespacedName][]string, error) {
	return nil, nil
}

func scheme(t testing.TB) *runtime.Scheme {
	t.Helper()
	s := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(s), v1alpha1.AddToScheme(s)); err != nil {
		t.Fatal(err)
	}
	return s
}

func handler(t testing.TB, policy admission.Policy, objects ...client.Object) *admission.Handler {
	t.Helper()
	return handlerWith(t, policy, objects, objects)
}

// handlerWith what the cache has, and what there is.
func handlerWith(t testing.TB, policy admission.Policy, cached, live []client.Object) *admission.Handler {
	t.Helper()
	return handlerOf(t, members{{Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}, Accepted: true, Delivery: fleet.ManifestWork}}, policy, cached, live)
}

func handlerOf(t testing.TB, all members, policy admission.Policy, cached, live []client.Object) *admission.Handler {
	t.Helper()
	s := scheme(t)
	reader := func(objects []client.Object) client.Reader {
		return fake.NewClientBuilder().WithScheme(s).WithObjects(objects...).Build()
	}
	h, err := admission.NewHandler(s, reader(cached), reader(live), admission.Options{
		Policy: policy, Now: func() time.Time { return t0 }, Inventory: all,
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func ns(name string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func grant(name string, change ...func(*v1alpha1.AccessGrant)) *v1alpha1.AccessGrant {
	g := &v1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
		Spec: v1alpha1.AccessGrantSpec{
			Reason:   "on-call",
			Subjects: []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "oncall"}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"prod-eu-1"}},
			Access:   []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{podRule("pods")}, Namespaces: []v1alpha1.NamespaceName{"payments"}}},
		},
	}
	for _, f := range change {
		f(g)
	}
	return g
}

func podRule(resource string) v1alpha1.PolicyRule {
	return v1alpha1.PolicyRule{APIGroups: []string{""}, Resources: []string{resource}, Verbs: []string{"create"}}
}

func exec(g *v1alpha1.AccessGrant) { g.Spec.Access[0].Rules[0].Resources = []string{"pods/exec"} }

// narrower ends, where others do not.
func narrower(g *v1alpha1.AccessGrant) {
	g.Spec.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)}}
}

func ofRole(g *v1alpha1.AccessGrant) {
	g.Spec.Access[0].Rules = nil
	g.Spec.Access[0].RoleRef = &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: "debug"}
}

func role(resource string) *v1alpha1.AccessRole {
	return &v1alpha1.AccessRole{ObjectMeta: metav1.ObjectMeta{Name: "debug"}, Spec: v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{podRule(resource)}}}
}

func exception(length time.Duration) *v1alpha1.GuardrailException {
	return &v1alpha1.GuardrailException{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "incident"},
		Spec: v1alpha1.GuardrailExceptionSpec{
			Guardrail: "no-exec", Grant: "oncall", Reason: "incident", Ticket: "INC-1",
			NotBefore: metav1.NewTime(t0), NotAfter: metav1.NewTime(t0.Add(length)),
		},
	}
}

func excused(length time.Duration) []guardrail.Exception {
	return []guardrail.Exception{{Namespace: "payments", Name: "incident", Guardrail: "no-exec", Grant: "oncall", NotBefore: t0, NotAfter: t0.Add(length)}}
}

// request to create an object, or to update one that there was.
func request(t testing.TB, now, old client.Object) crwebhook.Request {
	t.Helper()
	raw := func(o client.Object) runtime.RawExtension {
		if o == nil {
			return runtime.RawExtension{}
		}
		content, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: content}
	}
	object, op := now, admissionv1.Update
	switch {
	case old == nil:
		op = admissionv1.Create
	case now == nil:
		object, op = old, admissionv1.Delete
	}
	kinds, _, err := scheme(t).ObjectKinds(object)
	if err != nil {
		t.Fatal(err)
	}
	return crwebhook.Request{AdmissionRequest: admissionv1.AdmissionRequest{
		UID: "1", Operation: op, Name: object.GetName(), Namespace: object.GetNamespace(),
		Kind:   metav1.GroupVersionKind{Group: kinds[0].Group, Version: kinds[0].Version, Kind: kinds[0].Kind},
		Object: raw(now), OldObject: raw(old),
	}}
}

func TestGrants(t *testing.T) {
	deleted := metav1.NewTime(t0)
	tests := map[string]struct {
		reason   string
		policy   *rules
		cached   []client.Object // payments, if nil
		live     []client.Object // as cached, if nil
		old, now client.Object
		refused  string // "" for none
		warnings []string
		looked   int // past the caches
	}{
		"Allowed": {
			reason: "What no guardrail objects to is taken, and takes no look past the caches.",
			policy: same(rail("no-exec", noExec)), now: grant("oncall"),
		},
		"Denied": {
			reason: "Every reason is told, with its guardrail and its field.",
			policy: same(rail("no-exec", noExec), rail("also", says("nor this"))), now: grant("oncall", exec), looked: 1,
			refused: `guardrail "also": nor this; guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"Undecided": {
			reason: "S16: what cannot be evaluated refuses, and tells nothing of the policy.",
			policy: same(rail("broken", broken)), now: grant("oncall"), looked: 1,
			refused: `guardrail "broken": the guardrail cannot be evaluated`,
		},
		"UndecidedNarrower": {
			reason: "What is taken away while nothing can be judged is taken away.",
			policy: same(rail("broken", broken)), old: grant("oncall", exec), now: grant("oncall", exec, narrower), looked: 1,
			warnings: []string{`guardrail "broken": the guardrail cannot be evaluated`},
		},
		"UndecidedWider": {
			reason: "What becomes wider is not taken.",
			policy: same(rail("broken", broken)), old: grant("oncall", exec, narrower), now: grant("oncall", exec), looked: 1,
			refused: `guardrail "broken": the guardrail cannot be evaluated`,
		},
		"Notes": {
			reason: "Whoever asks for a pass, or applies the same again, changes nothing that is judged.",
			policy: same(rail("no-exec", noExec)), old: grant("oncall", exec), now: grant("oncall", exec, func(g *v1alpha1.AccessGrant) {
				g.Annotations = map[string]string{"reconcile.fluxcd.io/requestedAt": "now", corev1.LastAppliedConfigAnnotation: "{}"}
				g.Labels = map[string]string{"argocd.argoproj.io/instance": "a"}
			}),
		},
		"OriginByLabel": {
			reason: "Guardrails may go by where a grant comes from.",
			policy: same(rail("no-exec", noExec)), looked: 1,
			old: grant("oncall", exec), now: grant("oncall", exec, func(g *v1alpha1.AccessGrant) {
				g.Labels = map[string]string{v1alpha1.ManagedByLabel: v1alpha1.SyncManagedByValue}
			}),
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"OriginByAnnotation": {
			reason: "And by who wrote the commit.",
			policy: same(rail("no-exec", noExec)), looked: 1,
			old: grant("oncall", exec), now: grant("oncall", exec, func(g *v1alpha1.AccessGrant) { g.Annotations = map[string]string{v1alpha1.AuthorAnnotation: "ann"} }),
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"NotKnown": {
			reason: "S16: while nobody knows the guardrails, nothing passes.",
			policy: &rules{err: errors.New("secret of the snapshot")}, now: grant("oncall"),
			refused: "the guardrails cannot be asked at the moment; try again",
		},
		"Warned": {
			reason: "A guardrail that warns does, and one that audits does not.",
			policy: same(rail("w", noExec, enforced(v1alpha1.EnforcementWarn)), rail("a", noExec, enforced(v1alpha1.EnforcementAudit))), now: grant("oncall", exec),
			warnings: []string{`guardrail "w": no exec in prod (spec.access[0])`},
		},
		"WarnedAndDenied": {
			reason: "Whoever is refused is also told of what else there is.",
			policy: same(rail("no-exec", noExec), rail("w", says("mind"), enforced(v1alpha1.EnforcementWarn))), now: grant("oncall", exec), looked: 1,
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`, warnings: []string{`guardrail "w": mind`},
		},
		"ExceptionThatTheCacheHasNot": {
			reason: "An exception that came a moment before its grant counts, and is told.",
			policy: &rules{current: []*guardrail.Guardrail{rail("no-exec", noExec, excusable(time.Hour))}, live: []*guardrail.Guardrail{rail("no-exec", noExec, excusable(time.Hour))}, excused: excused(time.Hour)},
			live:   []client.Object{ns("payments"), exception(time.Hour)}, now: grant("oncall", exec), looked: 1,
			warnings: []string{`excused by exception "incident" until 2026-11-23T10:00:00Z: guardrail "no-exec": no exec in prod (spec.access[0])`},
		},
		"ExceptionOfAnother": {
			reason: "S24: an exception for one grant is none for another.",
			policy: &rules{current: []*guardrail.Guardrail{rail("no-exec", noExec)}, live: []*guardrail.Guardrail{rail("no-exec", noExec, excusable(time.Hour))}, excused: excused(time.Hour)},
			now:    grant("night", exec), looked: 1,
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"NamespaceThatTheCacheHasNot": {
			reason: "A commit that brings a namespace and then the grant is not refused.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{}, live: []client.Object{ns("payments")},
			now: grant("oncall"), looked: 1,
		},
		"RoleThatTheCacheHasNot": {
			reason: "What is refused by an old version of a role is judged by the new one.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{ns("payments"), role("pods/exec")}, live: []client.Object{ns("payments"), role("pods")},
			now: grant("oncall", ofRole), looked: 1,
		},
		"Update": {
			reason: "An update is judged like a creation.",
			policy: same(rail("no-exec", noExec)), old: grant("oncall"), now: grant("oncall", exec), looked: 1,
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"UpdateWhileBeingDeleted": {
			reason: "S27: a deletionTimestamp excuses from nothing.",
			policy: same(rail("no-exec", noExec)), looked: 1,
			old:     grant("oncall", func(g *v1alpha1.AccessGrant) { g.DeletionTimestamp = &deleted }),
			now:     grant("oncall", exec, func(g *v1alpha1.AccessGrant) { g.DeletionTimestamp = &deleted }),
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"FinalizerRemoved": {
			reason: "What leaves alone all that is judged passes, so that a refused grant can be revoked.",
			policy: same(rail("no-exec", noExec)),
			old:    grant("oncall", exec, func(g *v1alpha1.AccessGrant) { g.Finalizers = []string{v1alpha1.AccessGrantFinalizer} }),
			now:    grant("oncall", exec),
		},
		"LabelChanged": {
			reason: "Guardrails may go by labels.",
			policy: same(rail("no-exec", noExec)), looked: 1,
			old: grant("oncall", exec), now: grant("oncall", exec, func(g *v1alpha1.AccessGrant) { g.Labels = map[string]string{"a": "b"} }),
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"Narrowed": {
			reason: "A grant that stays refused is not taken because it gives less.",
			policy: same(rail("no-exec", noExec)), looked: 1,
			old: grant("oncall", exec, func(g *v1alpha1.AccessGrant) {
				g.Spec.Subjects = append(g.Spec.Subjects, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: "bob"})
			}),
			now:     grant("oncall", exec),
			refused: `guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"Deleted": {
			reason: "Nothing keeps a grant from being deleted.",
			policy: &rules{err: errors.New("no")}, old: grant("oncall", exec),
		},
		"Escaped": {
			reason: "S25: what a policy says cannot write on a terminal.",
			policy: same(rail("esc", says("a\x1b[2Jb\u202ec\r\nd\x00"))), now: grant("oncall"), looked: 1,
			refused: `guardrail "esc": a[2Jbc  d`,
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			cached, live := tc.cached, tc.live
			if cached == nil {
				cached = []client.Object{ns("payments")}
			}
			if live == nil {
				live = cached
			}
			r := handlerWith(t, tc.policy, cached, live).Handle(t.Context(), request(t, tc.now, tc.old))
			message := ""
			if r.Result != nil {
				message = r.Result.Message
			}
			if message != tc.refused || r.Allowed != (tc.refused == "") {
				t.Errorf("%s\nallowed %t: %q, want %q", tc.reason, r.Allowed, message, tc.refused)
			}
			if diff := cmp.Diff(tc.warnings, r.Warnings); diff != "" {
				t.Errorf("%s\nwarnings (-want +got):\n%s", tc.reason, diff)
			}
			if tc.policy.looked != tc.looked {
				t.Errorf("%s\nlooked %d times past the caches, want %d", tc.reason, tc.policy.looked, tc.looked)
			}
		})
	}
}

// TestNoShortcut: S27. No user, no version and no kind goes unjudged.
func TestNoShortcut(t *testing.T) {
	h := handler(t, same(rail("no-exec", noExec)), ns("payments"))
	for _, user := range []string{"system:admin", "system:serviceaccount:sallyport-system:sallyport-controller", "alice"} {
		r := request(t, grant("oncall", exec), nil)
		r.UserInfo.Username, r.UserInfo.Groups = user, []string{"system:masters"}
		if h.Handle(t.Context(), r).Allowed {
			t.Errorf("%s: not judged", user)
		}
	}
	for name, change := range map[string]func(*crwebhook.Request){
		"version": func(r *crwebhook.Request) { r.Kind.Version = "v1" },
		"group":   func(r *crwebhook.Request) { r.Kind.Group = "example.com" },
		"kind":    func(r *crwebhook.Request) { r.Kind.Kind = "AccessRequest" },
		"object":  func(r *crwebhook.Request) { r.Object.Raw = []byte(`{"spec":7}`) },
		"nothing": func(r *crwebhook.Request) { r.Object.Raw = nil },
	} {
		r := request(t, grant("oncall"), nil)
		change(&r)
		if got := h.Handle(t.Context(), r); got.Allowed || got.Result.Message == "" {
			t.Errorf("another %s: %+v", name, got)
		}
	}
}

// TestAuditAnnotations: what only audits goes to the API server's log, with the
// policy that it was judged by.
func TestAuditAnnotations(t *testing.T) {
	policy := same(rail("a", noExec, enforced(v1alpha1.EnforcementAudit)))
	set, _ := policy.Current(t.Context())
	r := handler(t, policy, ns("payments")).Handle(t.Context(), request(t, grant("oncall", exec), nil))
	want := map[string]string{"policy": set.Digest(), "violations": `guardrail "a": no exec in prod (spec.access[0])`}
	if diff := cmp.Diff(want, r.AuditAnnotations); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestBounds: S25. However much policies say, the answer is small.
func TestBounds(t *testing.T) {
	var all []*guardrail.Guardrail
	for i := range 100 {
		e := v1alpha1.EnforcementDeny
		if i%2 == 0 {
			e = v1alpha1.EnforcementWarn
		}
		all = append(all, rail(fmt.Sprintf("g%03d", i), says(strings.Repeat("é", 4000)), enforced(e)))
	}
	r := handler(t, same(all...), ns("payments")).Handle(t.Context(), request(t, grant("oncall"), nil))
	if r.Allowed || len(r.Result.Message) > 20<<10 || !strings.HasSuffix(r.Result.Message, "and 34 more") {
		t.Errorf("the message has %d bytes and ends with %q", len(r.Result.Message), r.Result.Message[len(r.Result.Message)-20:])
	}
	total := 0
	for _, w := range r.Warnings {
		total += len(w)
		if len(w) > 256 || !utf8.ValidString(w) {
			t.Errorf("a warning of %d bytes", len(w))
		}
	}
	if total > 4096 || total < 2048 {
		t.Errorf("%d bytes of warnings", total)
	}
}

// TestEnd: what comes when there is no time left is refused.
func TestEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	policy := same(rail("w", check(func(*guardrail.Input) []guardrail.Violation { return nil })))
	h, err := admission.NewHandler(scheme(t), late{}, late{}, admission.Options{Policy: policy, Inventory: members{}})
	if err != nil {
		t.Fatal(err)
	}
	if r := h.Handle(ctx, request(t, grant("oncall"), nil)); r.Allowed {
		t.Error("allowed without looking")
	}
}

// held tells whose namespace is asked for, and answers when it is let.
type held struct {
	client.Reader
	reached chan string
	open    chan struct{}
}

func (h held) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	select {
	case h.reached <- key.Name:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-h.open:
		return h.Reader.Get(ctx, key, o, opts...)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestTurns: S22. However many grants a tenant has judged at once, those of others
// are judged. Policies await no grants, and what is not judged awaits nothing.
func TestTurns(t *testing.T) {
	s := scheme(t)
	objects := fake.NewClientBuilder().WithScheme(s).WithObjects(ns("payments"), ns("other"), ns("third"), ns("fourth")).Build()
	cached := held{objects, make(chan string), make(chan struct{})}
	h, err := admission.NewHandler(s, cached, objects, admission.Options{Policy: same(rail("no-exec", noExec)), Inventory: members{}})
	if err != nil {
		t.Fatal(err)
	}
	var ended atomic.Bool
	ask := func(ctx context.Context, wg *sync.WaitGroup, namespace string, allowed bool) {
		wg.Go(func() {
			g := grant("oncall", func(g *v1alpha1.AccessGrant) { g.Namespace = namespace })
			r := h.Handle(ctx, request(t, g, nil))
			ended.Store(true)
			if r.Allowed != allowed {
				t.Errorf("%s: allowed %t: %+v", namespace, r.Allowed, r.Result)
			}
		})
	}
	reached := func(want string) {
		t.Helper()
		for range 2 {
			if got := <-cached.reached; got != want {
				t.Errorf("a grant of %s is judged, want one of %s", got, want)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var hostile, others sync.WaitGroup
	for range 20 {
		ask(ctx, &hostile, "payments", false)
	}
	reached("payments")
	finalized := grant("oncall", func(g *v1alpha1.AccessGrant) { g.Finalizers = []string{v1alpha1.AccessGrantFinalizer} })
	if !h.Handle(t.Context(), request(t, grant("oncall"), finalized)).Allowed {
		t.Error("a finalizer is not taken away")
	}
	for _, namespace := range []string{"other", "third", "fourth"} {
		ask(t.Context(), &others, namespace, true)
		ask(t.Context(), &others, namespace, true)
		reached(namespace)
	}
	for what, r := range map[string]crwebhook.Request{"written": request(t, ceiling(), nil), "deleted": request(t, nil, ceiling())} {
		if got := h.Handle(t.Context(), r); !got.Allowed {
			t.Errorf("a guardrail is not %s: %+v", what, got.Result)
		}
	}
	if ended.Load() {
		t.Error("a guardrail awaits the end of a grant")
	}
	cancel()
	hostile.Wait()
	close(cached.open)
	others.Wait()
	if n := h.Tenants(); n != 0 {
		t.Errorf("%d namespaces are remembered", n)
	}
}

// late answers when nobody waits any more.
type late struct{ client.Reader }

func (late) Get(ctx context.Context, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestRoles(t *testing.T) {
	noncompliant := func(g *v1alpha1.AccessGrant) { exec(g) }
	many := []client.Object{ns("payments"), role("pods")}
	for i := range 5 {
		many = append(many, grant(fmt.Sprintf("g%d", i), ofRole))
	}
	tests := map[string]struct {
		reason   string
		policy   *rules
		cached   []client.Object
		old, now client.Object
		refused  string
	}{
		"Harmless": {
			reason: "A role may change as long as its grants pass.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{ns("payments"), role("pods"), grant("oncall", ofRole)},
			old: role("pods"), now: role("pods/log"),
		},
		"Worse": {
			reason: "A role cannot bring grants what they would be refused for.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{ns("payments"), role("pods"), grant("oncall", ofRole)},
			old: role("pods"), now: role("pods/exec"),
			refused: `1 grant that names the role would be refused: payments/oncall: guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"Many": {
			reason: "The first few are named.",
			policy: same(rail("no-exec", noExec)), cached: many, old: role("pods"), now: role("pods/exec"),
			refused: `5 grants that name the role would be refused: payments/g0, payments/g1, payments/g2 and 2 more: guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"Created": {
			reason: "Nor by coming to be.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{ns("payments"), grant("oncall", ofRole)}, now: role("pods/exec"),
			refused: `1 grant that names the role would be refused: payments/oncall: guardrail "no-exec": no exec in prod (spec.access[0])`,
		},
		"Unused": {
			reason: "A role gives nothing by itself.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{ns("payments"), grant("oncall", noncompliant)}, now: role("pods/exec"),
		},
		"Already": {
			reason: "A grant that is refused as it is does not keep a role from changing.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{ns("payments"), role("pods/exec"), grant("oncall", ofRole)},
			old: role("pods/exec"), now: &v1alpha1.AccessRole{ObjectMeta: metav1.ObjectMeta{Name: "debug"}, Spec: v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{podRule("pods/exec"), podRule("pods")}}},
		},
		"Better": {
			reason: "What takes away is never refused.",
			policy: same(rail("no-exec", noExec)), cached: []client.Object{ns("payments"), role("pods/exec"), grant("oncall", ofRole)},
			old: role("pods/exec"), now: role("pods"),
		},
		"StaleGuardrail": {
			reason: "A guardrail that is gone refuses nothing.",
			policy: &rules{current: []*guardrail.Guardrail{rail("no-exec", noExec)}}, cached: []client.Object{ns("payments"), role("pods"), grant("oncall", ofRole)},
			old: role("pods"), now: role("pods/exec"),
		},
		"NotKnown": {
			reason: "S16: while nobody knows the guardrails, nothing passes.",
			policy: &rules{err: errors.New("no")}, now: role("pods"),
			refused: "the guardrails cannot be asked at the moment; try again",
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := handler(t, tc.policy, tc.cached...).Handle(t.Context(), request(t, tc.now, tc.old))
			message := ""
			if r.Result != nil {
				message = r.Result.Message
			}
			if message != tc.refused || r.Allowed != (tc.refused == "") {
				t.Errorf("%s\nallowed %t: %q, want %q", tc.reason, r.Allowed, message, tc.refused)
			}
		})
	}
}

// TestLargeStanding: S22. Of grants that take long, few are judged after there is no
// time left.
func TestLargeStanding(t *testing.T) {
	objects := []client.Object{ns("payments"), role("pods")}
	for i := range 10 {
		objects = append(objects, grant(fmt.Sprintf("g%d", i), ofRole, func(g *v1alpha1.AccessGrant) {
			rule := podRule("pods")
			for n := range 3000 {
				rule.ResourceNames = append(rule.ResourceNames, fmt.Sprint(n))
			}
			g.Spec.Access = append(g.Spec.Access, v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule}})
		}))
	}
	ctx, cancel := context.WithCancel(t.Context())
	judged := 0
	over := check(func(*guardrail.Input) []guardrail.Violation {
		judged++
		cancel()
		return nil
	})
	r := handler(t, same(rail("over", over)), objects...).Handle(ctx, request(t, role("pods/log"), role("pods")))
	want := []string{"8 grants that name the role could not be judged in time, and will be when the change is compiled"}
	if diff := cmp.Diff(want, r.Warnings); diff != "" || judged != 2 {
		t.Errorf("%d are judged (-want +got):\n%s", judged, diff)
	}
}

func ceiling(change ...func(*v1alpha1.Guardrail)) *v1alpha1.Guardrail {
	g := &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: "tenants"},
		Spec:       v1alpha1.GuardrailSpec{Ceiling: &v1alpha1.Ceiling{Rules: []v1alpha1.PolicyRule{podRule("pods")}}},
	}
	for _, f := range change {
		f(g)
	}
	return g
}

func refusedAlready(g *v1alpha1.AccessGrant) {
	g.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionCompliant, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonRefused}}
}

func TestGuardrails(t *testing.T) {
	beingDeleted := func(g *v1alpha1.AccessGrant) {
		now := metav1.NewTime(t0)
		g.DeletionTimestamp, g.Finalizers = &now, []string{v1alpha1.AccessGrantFinalizer}
	}
	tests := map[string]struct {
		reason   string
		policy   *rules
		cached   []client.Object
		old, now client.Object
		invalid  string // field
		warnings []string
	}{
		"Harmless": {
			reason: "A guardrail that nothing violates is taken in silence.",
			policy: same(), cached: []client.Object{ns("payments"), grant("oncall")}, now: ceiling(),
		},
		"Revokes": {
			reason: "Whoever brings a guardrail is told what it will take away from those that stand.",
			policy: same(), now: ceiling(),
			cached: []client.Object{
				ns("payments"), grant("a", exec), grant("b", exec), grant("c"), grant("d", exec),
				grant("gone", exec, beingDeleted), grant("refused", exec, refusedAlready),
			},
			warnings: []string{"3 grants that stand will be revoked: payments/a, payments/b, payments/d"},
		},
		"WithoutCache": {
			reason: "The warning is not worth refusing for.",
			policy: &rules{err: errors.New("no")}, now: ceiling(),
		},
		"Warns": {
			reason: "One that only warns revokes nothing.",
			policy: same(), cached: []client.Object{ns("payments"), grant("a", exec)},
			now: ceiling(func(g *v1alpha1.Guardrail) { g.Spec.Enforcement = v1alpha1.EnforcementWarn }),
		},
		"OnlyAdmission": {
			reason: "One that is not asked when grants are compiled revokes nothing.",
			policy: same(), cached: []client.Object{ns("payments"), grant("a", exec)},
			now: ceiling(func(g *v1alpha1.Guardrail) {
				g.Spec.Points = []v1alpha1.GuardrailPoint{v1alpha1.PointAdmission}
			}),
		},
		"Invalid": {
			reason: "What does not compile is refused, with the field.",
			policy: same(), invalid: "spec.match",
			now: ceiling(func(g *v1alpha1.Guardrail) {
				g.Spec.Match = &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: &metav1.LabelSelector{
					MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}},
				}}}
			}),
		},
		"TwoEngines": {
			reason: "One guardrail, one engine.",
			policy: same(), invalid: "spec",
			now: ceiling(func(g *v1alpha1.Guardrail) { g.Spec.Rego = &v1alpha1.RegoPolicy{Module: "package a"} }),
		},
		"Deleted": {
			reason: "Whoever deletes a guardrail is told what it alone has refused.",
			policy: same(rail("tenants", noExec), rail("other", func(in *guardrail.Input) []guardrail.Violation {
				if in.Grant.Metadata.Name == "b" {
					return []guardrail.Violation{{Message: "no b"}}
				}
				return nil
			})),
			cached:   []client.Object{ns("payments"), grant("a", exec, refusedAlready), grant("b", exec, refusedAlready), grant("c")},
			old:      ceiling(),
			warnings: []string{"what nothing else refuses will be applied: payments/a"},
		},
		"DeletedUnknown": {
			reason: "Nothing keeps a guardrail from being deleted.",
			policy: &rules{err: errors.New("no")}, old: ceiling(),
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := handler(t, tc.policy, tc.cached...).Handle(t.Context(), request(t, tc.now, tc.old))
			if r.Allowed != (tc.invalid == "") {
				t.Fatalf("%s\nallowed %t: %+v", tc.reason, r.Allowed, r.Result)
			}
			if tc.invalid != "" && (r.Result.Reason != metav1.StatusReasonInvalid || !strings.HasPrefix(r.Result.Details.Causes[0].Field, tc.invalid)) {
				t.Errorf("%s\n%+v, want %s invalid", tc.reason, r.Result, tc.invalid)
			}
			if diff := cmp.Diff(tc.warnings, r.Warnings); diff != "" {
				t.Errorf("%s\nwarnings (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestExceptions(t *testing.T) {
	day := rail("no-exec", noExec, excusable(24*time.Hour))
	tests := map[string]struct {
		reason   string
		policy   *rules
		now      client.Object
		refused  string
		warnings []string
	}{
		"Honoured":  {"One that will be honoured is taken.", same(day), exception(time.Hour), "", nil},
		"Forbidden": {"One that never counts is no use.", same(rail("no-exec", noExec)), exception(time.Hour), `guardrail "no-exec" allows no exceptions`, nil},
		"TooLong": {"One that is too long never counts, and its author learns the longest.", same(day), exception(25 * time.Hour),
			`guardrail "no-exec" honours exceptions of at most 24h0m0s from notBefore to notAfter, and this one is of 25h0m0s`, nil},
		"Stale":    {"Terms that have just changed count.", &rules{current: []*guardrail.Guardrail{rail("no-exec", noExec)}, live: []*guardrail.Guardrail{day}}, exception(time.Hour), "", nil},
		"New":      {"A guardrail that the cache has not is known.", &rules{live: []*guardrail.Guardrail{day}}, exception(time.Hour), "", nil},
		"Unknown":  {"One that is early is taken, with a warning.", same(), exception(time.Hour), "", []string{`there is no guardrail "no-exec"`}},
		"NotKnown": {"S16: while nobody knows the guardrails, nothing passes.", &rules{err: errors.New("no")}, exception(time.Hour), "the guardrails cannot be asked at the moment; try again", nil},
		"UnknownGrant": {"One for a grant that is not there is taken, with a warning.", same(day), func() client.Object {
			e := exception(time.Hour)
			e.Spec.Grant = "other"
			return e
		}(), "", []string{`there is no grant "other" in namespace "payments"`}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			r := handler(t, tc.policy, ns("payments"), grant("oncall")).Handle(t.Context(), request(t, tc.now, nil))
			message := ""
			if r.Result != nil {
				message = r.Result.Message
			}
			if message != tc.refused || r.Allowed != (tc.refused == "") {
				t.Errorf("%s\nallowed %t: %q, want %q", tc.reason, r.Allowed, message, tc.refused)
			}
			if diff := cmp.Diff(tc.warnings, r.Warnings); diff != "" {
				t.Errorf("%s\nwarnings (-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

func TestBundles(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	small := "-----BEGIN PUBLIC KEY-----\nMFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf\n9Cnzj4p4WGeKLs1Pt8QuKUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ==\n-----END PUBLIC KEY-----\n"
	for name, tc := range map[string]struct {
		reason, algorithm, key string
		refused                string
	}{
		"RSA":       {"A key for its algorithm.", "RS256", public(&large.PublicKey), ""},
		"EC":        {"A key for its algorithm.", "ES256", public(&ec.PublicKey), ""},
		"RSAForEC":  {"No signature could be verified.", "ES256", public(&large.PublicKey), "is an RSA key, and ES256 takes one of ECDSA"},
		"ECForRSA":  {"No signature could be verified.", "PS512", public(&ec.PublicKey), "is an ECDSA key, and PS512 takes one of RSA"},
		"Ed25519":   {"No algorithm takes it.", "ES256", public(ed), "is neither an RSA nor an ECDSA key"},
		"Small":     {"512 bits are broken in hours.", "RS256", small, "has 512 bits; the least is 2048"},
		"NotPEM":    {"A key is in PEM.", "RS256", "PUBLIC KEY", "is not one key in PEM"},
		"NoKey":     {"PEM may be of anything.", "RS256", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "cannot be read"},
		"NoKeyNoPM": {"Empty is not a key.", "RS256", "", "is not one key in PEM"},
		"TwoKeys":   {"Nobody could tell with which of them.", "ES256", public(&ec.PublicKey) + public(&ec.PublicKey), "is not one key in PEM"},
		"Private":   {"A key that is not to be shown is not taken.", "ES256", strings.ReplaceAll(public(&ec.PublicKey), "PUBLIC", "PRIVATE"), "no public key"},
	} {
		t.Run(name, func(t *testing.T) {
			b := &v1alpha1.GuardrailBundle{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: v1alpha1.GuardrailBundleSpec{
				Verification: &v1alpha1.BundleVerification{Keys: []v1alpha1.BundleKey{{ID: "k", Algorithm: tc.algorithm, PublicKey: tc.key}}},
			}}
			r := handler(t, same()).Handle(t.Context(), request(t, b, nil))
			switch {
			case tc.refused == "":
				if !r.Allowed {
					t.Errorf("%s\n%+v", tc.reason, r.Result)
				}
			case r.Allowed || len(r.Result.Details.Causes) != 1 || r.Result.Details.Causes[0].Field != "spec.verification.keys[0].publicKey" || !strings.Contains(r.Result.Message, tc.refused):
				t.Errorf("%s\nallowed %t: %+v, want %q", tc.reason, r.Allowed, r.Result, tc.refused)
			}
		})
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	hub := fake.NewClientBuilder().WithScheme(scheme(t)).WithObjects(ns("payments")).Build()
	h, err := admission.NewHandler(scheme(t), hub, hub, admission.Options{
		Policy: same(), Inventory: members{}, Metrics: registry, Now: time.Now,
	})
	if err != nil {
		t.Fatal(err)
	}
	h.Handle(t.Context(), request(t, grant("oncall"), nil))
	h.Handle(t.Context(), request(t, grant("oncall"), grant("oncall")))
	odd := request(t, grant("oncall"), nil)
	odd.Kind.Kind = "Whatever the caller says"
	h.Handle(t.Context(), odd)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, l.GetValue())
			}
			if m.Counter != nil {
				got[f.GetName()+" "+strings.Join(labels, " ")] = m.Counter.GetValue()
			} else {
				got[f.GetName()+" "+strings.Join(labels, " ")] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	want := map[string]float64{
		"sallyport_admission_decisions_total AccessGrant Allowed":   1,
		"sallyport_admission_decisions_total AccessGrant Unchanged": 1,
		"sallyport_admission_decisions_total other Invalid":         1,
		"sallyport_admission_duration_seconds AccessGrant":          2,
		"sallyport_admission_duration_seconds other":                1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
