package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// kubeconfigSecret makes a member known by a kubeconfig, and by nothing else.
func (w *world) kubeconfigSecret(cluster string, kubeconfig []byte, labels map[string]string) *corev1.Secret {
	w.Helper()
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: cluster, Labels: map[string]string{v1alpha1.ClusterLabel: cluster}},
		Data:       map[string][]byte{"kubeconfig": kubeconfig},
	}
	for k, v := range labels {
		s.Labels[v1alpha1.FleetLabelPrefix+k] = v
	}
	w.create(s)
	return s
}

// byKubeconfig makes a running member known, as its administrator.
func (w *world) byKubeconfig(cluster string, labels map[string]string) {
	w.Helper()
	kubeconfig, err := os.ReadFile(w.fleet.Member(cluster).Kubeconfig())
	w.must(err)
	w.kubeconfigSecret(cluster, kubeconfig, labels)
	w.must(w.member(cluster).Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}))
}

// grants that the tests of direct members write: several, with roles of their own.
func roleOf(name, resource string) *v1alpha1.AccessRole {
	return &v1alpha1.AccessRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.AccessRoleSpec{Rules: []v1alpha1.PolicyRule{
			{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{resource}},
		}},
	}
}

func grantOf(name, role string, clusters []v1alpha1.ClusterName, subjects ...v1alpha1.Subject) *v1alpha1.AccessGrant {
	return oncall(func(g *v1alpha1.AccessGrant) {
		g.Name, g.Spec.Subjects, g.Spec.Clusters = name, subjects, v1alpha1.ClusterSelection{Names: clusters}
		g.Spec.Access[0].RoleRef.Name = role
	})
}

func userSubject(name string) v1alpha1.Subject {
	return v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: name}
}

// TestDirect: a member of which there is only a kubeconfig.
func TestDirect(t *testing.T) {
	w := newWorld(t, "edge-1")
	w.byKubeconfig("edge-1", prod)
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader())
	w.controller()
	edge := w.member("edge-1")
	carol := who{"carol", nil}

	t.Run("a grant arrives", func(t *testing.T) {
		begin := time.Now()
		w.create(oncall())
		w.ready("payments", "oncall", "True Applied")
		t.Logf("applied after %s", time.Since(begin).Round(time.Millisecond))
		for _, c := range []struct {
			name      string
			got, want bool
		}{
			{"alice is let through by the hub", w.canReach("edge-1", alice, "get"), true},
			{"alice may not write through the hub", w.canReach("edge-1", alice, "create"), false},
			{"alice lists pods", w.can("edge-1", alice, "list", "pods", "payments"), true},
			{"alice does not list pods elsewhere", w.can("edge-1", alice, "list", "pods", "default"), false},
			{"alice reads no Secrets", w.can("edge-1", alice, "get", "secrets", "payments"), false},
			{"bob has nothing", w.can("edge-1", bob, "list", "pods", "payments"), false},
		} {
			if c.got != c.want {
				t.Errorf("%s: %t", c.name, c.got)
			}
		}
		// The fields are Sallyport's by server-side apply.
		binding := &rbacv1.RoleBinding{}
		w.must(edge.Get(w.ctx, client.ObjectKey{Namespace: "payments", Name: "sallyport:accessrole:pod-reader"}, binding))
		if !slices.ContainsFunc(binding.ManagedFields, func(f metav1.ManagedFieldsEntry) bool {
			return f.Manager == "sallyport" && f.Operation == metav1.ManagedFieldsOperationApply
		}) {
			t.Errorf("the binding was not applied server-side: %+v", binding.ManagedFields)
		}
	})

	t.Run("drift is put right", func(t *testing.T) { testDirectDrift(t, w, edge) })

	t.Run("a foreign object is left alone", func(t *testing.T) { testForeign(t, w, edge) })

	t.Run("narrowing takes away what only one grant gave", func(t *testing.T) {
		w.create(grantOf("carol", "pod-reader", []v1alpha1.ClusterName{"edge-1"}, userSubject("carol")))
		w.ready("payments", "carol", "True Applied")
		if !w.can("edge-1", carol, "list", "pods", "payments") {
			t.Fatal("carol was not added to the binding")
		}
		w.delete(grantOf("carol", "pod-reader", nil))
		w.ready("payments", "carol", "gone")
		if w.can("edge-1", carol, "list", "pods", "payments") || w.canReach("edge-1", carol, "get") {
			t.Error("carol's grant is gone and her access is not")
		}
		if !w.can("edge-1", alice, "list", "pods", "payments") || !w.canReach("edge-1", alice, "get") {
			t.Error("alice lost what her own grant gives")
		}
		w.ready("payments", "oncall", "True Applied")
	})

	// S12: of the shared binding one grant is taken away while the member is
	// down, then the other.
	t.Run("a member that is down at revocation", func(t *testing.T) {
		w.create(grantOf("carol", "pod-reader", []v1alpha1.ClusterName{"edge-1"}, userSubject("carol")))
		w.ready("payments", "carol", "True Applied")
		w.must(w.fleet.Member("edge-1").Stop())

		w.change("payments", "carol", func(g *v1alpha1.AccessGrant) { g.Spec.Subjects = []v1alpha1.Subject{userSubject("dora")} })
		w.eventually("the change is not said to be applied", func() string {
			if got := w.condition("payments", "carol", v1alpha1.ConditionReady); got != "False ApplyFailed" {
				return got
			}
			return ""
		})
		if w.canReach("edge-1", carol, "get") {
			t.Error("the hub still lets carol through")
		}

		w.delete(oncall(), grantOf("carol", "", nil))
		for _, name := range []string{"oncall", "carol"} {
			w.residual("payments", name, "edge-1")
		}
		if w.canReach("edge-1", alice, "get") || w.canReach("edge-1", who{"dora", nil}, "get") {
			t.Error("the hub still lets somebody through")
		}
		w.nothingLeft(w.hub) // of hub RBAC

		begin := time.Now()
		w.must(w.fleet.Member("edge-1").Start(w.ctx))
		for _, name := range []string{"oncall", "carol"} {
			w.ready("payments", name, "gone")
		}
		t.Logf("gone %s after the member came back", time.Since(begin).Round(time.Millisecond))
		for _, who := range []who{alice, carol, {"dora", nil}} {
			if w.can("edge-1", who, "list", "pods", "payments") {
				t.Errorf("%s still has access", who.name)
			}
		}
		w.nothingLeft(w.hub, edge)
		w.noOrders()
	})

	t.Run("narrowed away from a member that is down", func(t *testing.T) {
		w.create(oncall(func(g *v1alpha1.AccessGrant) {
			g.Name, g.Spec.Clusters = "moving", v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"edge-1"}}
		}))
		w.ready("payments", "moving", "True Applied")
		w.must(w.fleet.Member("edge-1").Stop())
		w.kubeconfigSecret("edge-2", w.unreachable(), nil)
		w.change("payments", "moving", func(g *v1alpha1.AccessGrant) { g.Spec.Clusters.Names = []v1alpha1.ClusterName{"edge-2"} })
		w.eventually("the grant says that edge-1 lingers", func() string {
			g := w.grant("payments", "moving")
			for _, f := range g.Status.Failures {
				if f.Cluster == "edge-1" && f.Reason == v1alpha1.ReasonResidualAccess {
					return ""
				}
			}
			return fmt.Sprintf("%+v", g.Status)
		})
		if w.canReach("edge-1", alice, "get") {
			t.Error("the hub still lets alice through to edge-1")
		}
		w.must(w.fleet.Member("edge-1").Start(w.ctx))
		w.eventually("edge-1 is forgotten", func() string {
			g := w.grant("payments", "moving")
			if n := g.Status.Clusters.Revoking; n != 0 {
				return fmt.Sprintf("%+v", g.Status)
			}
			return ""
		})
		w.nothingLeft(edge)
		w.delete(oncall(func(g *v1alpha1.AccessGrant) { g.Name = "moving" }))
		// Nothing was ever applied to edge-2, but nobody can know: what may stand
		// was written down first. Its Secret is put right, and it lets go.
		w.residual("payments", "moving", "edge-2")
	})
}

// unreachable is a kubeconfig for an address where nobody answers.
func (w *world) unreachable() []byte {
	w.Helper()
	kubeconfig, err := os.ReadFile(w.fleet.Member("edge-1").Kubeconfig())
	w.must(err)
	return []byte(strings.Replace(string(kubeconfig), w.fleet.Member("edge-1").URL(), "https://127.0.0.1:1", 1))
}

// residual waits until a grant says that a cluster may still give its access, and
// that the hub does not.
func (w *world) residual(ns, name, cluster string) {
	w.Helper()
	w.eventually(fmt.Sprintf("grant %s says that %s is residual", name, cluster), func() string {
		g := w.grant(ns, name)
		if g == nil {
			return "it is gone"
		}
		if got := w.condition(ns, name, v1alpha1.ConditionActive); got != "False ResidualAccess" {
			return got
		}
		for _, c := range g.Status.Conditions {
			if c.Type == v1alpha1.ConditionActive && (!strings.Contains(c.Message, cluster) || !strings.Contains(c.Message, "the hub is cut")) {
				return c.Message
			}
		}
		if !slices.ContainsFunc(g.Status.Failures, func(f v1alpha1.GrantFailure) bool {
			return f.Cluster == cluster && f.Reason == v1alpha1.ReasonResidualAccess
		}) {
			return fmt.Sprintf("failures are %+v", g.Status.Failures)
		}
		return ""
	})
}

// noOrders waits until no order for a direct member is left on the hub.
func (w *world) noOrders() {
	w.Helper()
	w.eventually("no order is left", func() string {
		var list corev1.ConfigMapList
		w.must(w.hub.List(w.ctx, &list, client.InNamespace(namespace), client.HasLabels{distribute.DirectLabel}))
		if len(list.Items) > 0 {
			return list.Items[0].Name
		}
		return ""
	})
}

func testDirectDrift(t *testing.T, w *world, edge client.Client) {
	binding := func() *rbacv1.RoleBinding {
		b := &rbacv1.RoleBinding{}
		w.must(edge.Get(w.ctx, client.ObjectKey{Namespace: "payments", Name: "sallyport:accessrole:pod-reader"}, b))
		return b
	}
	role := func() *rbacv1.ClusterRole {
		r := &rbacv1.ClusterRole{}
		w.must(edge.Get(w.ctx, client.ObjectKey{Name: "sallyport:accessrole:pod-reader"}, r))
		return r
	}
	want := role().Rules
	bobBound := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "bob"}
	label := "rbac.authorization.k8s.io/aggregate-to-admin"
	for _, drift := range []struct {
		name string
		do   func()
		off  func() string
	}{
		{"another subject", func() {
			b := binding()
			b.Subjects = append(b.Subjects, bobBound)
			w.must(edge.Update(w.ctx, b))
		}, func() string {
			if w.can("edge-1", bob, "list", "pods", "payments") {
				return "bob can"
			}
			return ""
		}},
		{"a subject less", func() {
			b := binding()
			b.Subjects = []rbacv1.Subject{bobBound}
			w.must(edge.Update(w.ctx, b))
		}, func() string {
			if !w.can("edge-1", alice, "list", "pods", "payments") || w.can("edge-1", bob, "list", "pods", "payments") {
				return "alice cannot, or bob can"
			}
			return ""
		}},
		{"another rule", func() {
			r := role()
			r.Rules = append(r.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}})
			w.must(edge.Update(w.ctx, r))
		}, func() string {
			if w.can("edge-1", alice, "get", "secrets", "payments") {
				return "alice reads Secrets"
			}
			return ""
		}},
		{"a removed binding", func() { w.must(edge.Delete(w.ctx, binding())) }, func() string {
			if !w.can("edge-1", alice, "list", "pods", "payments") {
				return "alice cannot"
			}
			return ""
		}},
		{"a removed role", func() { w.must(edge.Delete(w.ctx, role())) }, func() string {
			if !w.can("edge-1", alice, "list", "pods", "payments") {
				return "alice cannot"
			}
			return ""
		}},
		{"another roleRef", func() {
			b := binding()
			w.must(edge.Delete(w.ctx, b))
			b.ResourceVersion, b.UID, b.RoleRef.Name = "", "", "admin"
			w.must(edge.Create(w.ctx, b))
		}, func() string {
			if got := binding().RoleRef.Name; got != "sallyport:accessrole:pod-reader" {
				return "it refers to " + got
			}
			return ""
		}},
		{"a label that aggregates", func() { // S19
			r := role()
			r.Labels[label] = "true"
			w.must(edge.Update(w.ctx, r))
		}, func() string {
			if _, ok := role().Labels[label]; ok {
				return "the label is still there"
			}
			return ""
		}},
		{"a label of a grant that is none", func() {
			r := role()
			r.Labels[v1alpha1.GrantLabelPrefix+"0123456789abcdef0123"] = "payments"
			w.must(edge.Update(w.ctx, r))
		}, func() string {
			if _, ok := role().Labels[v1alpha1.GrantLabelPrefix+"0123456789abcdef0123"]; ok {
				return "the label is still there"
			}
			return ""
		}},
		{"an aggregationRule", func() {
			r := role()
			r.AggregationRule = &rbacv1.AggregationRule{ClusterRoleSelectors: []metav1.LabelSelector{{MatchLabels: map[string]string{"a": "b"}}}}
			w.must(edge.Update(w.ctx, r))
		}, func() string {
			r := role()
			if r.AggregationRule != nil || fmt.Sprint(r.Rules) != fmt.Sprint(want) {
				return fmt.Sprintf("%+v %+v", r.AggregationRule, r.Rules)
			}
			return ""
		}},
	} {
		begin := time.Now()
		drift.do()
		w.eventually(drift.name+" is put right", drift.off)
		t.Logf("%s was put right after %s", drift.name, time.Since(begin).Round(time.Millisecond))
	}
}

// testForeign: an object of our name that Sallyport did not make is not touched,
// neither now nor when the grant goes, and the grant says so.
func testForeign(t *testing.T, w *world, edge client.Client) {
	theirs := &rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "sallyport:accessrole:taken", Labels: map[string]string{"owner": "somebody"}},
		Rules:      []rbacv1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}}},
	}
	w.must(edge.Create(w.ctx, theirs))
	untouched := func() {
		t.Helper()
		now := &rbacv1.ClusterRole{}
		w.must(edge.Get(w.ctx, client.ObjectKeyFromObject(theirs), now))
		if now.ResourceVersion != theirs.ResourceVersion || now.UID != theirs.UID {
			t.Errorf("their role was touched: %+v", now)
		}
	}
	w.create(roleOf("taken", "configmaps"), grantOf("taken", "taken", []v1alpha1.ClusterName{"edge-1"}, userSubject("bob")))
	w.ready("payments", "taken", "False ApplyFailed")
	g := w.grant("payments", "taken")
	if !slices.ContainsFunc(g.Status.Failures, func(f v1alpha1.GrantFailure) bool {
		return f.Cluster == "edge-1" && strings.Contains(f.Message, "ClusterRole sallyport:accessrole:taken") && strings.Contains(f.Message, "did not make")
	}) {
		t.Errorf("the failures do not say what is wrong: %+v", g.Status.Failures)
	}
	untouched()
	// Others are not held up by it.
	w.ready("payments", "oncall", "True Applied")
	// A binding of ours to a role of theirs would give what they wrote.
	if w.can("edge-1", bob, "get", "secrets", "payments") {
		t.Error("bob has what somebody else's role says")
	}
	t.Run("also one that was ours", func(t *testing.T) {
		w.must(edge.Delete(w.ctx, theirs))
		w.ready("payments", "taken", "True Applied")
		if !w.can("edge-1", bob, "get", "configmaps", "payments") {
			t.Error("bob lacks what his grant gives")
		}
		ours := &rbacv1.ClusterRole{}
		w.must(edge.Get(w.ctx, client.ObjectKeyFromObject(theirs), ours))
		ours.Rules, ours.Labels = theirs.Rules, theirs.Labels
		w.must(edge.Update(w.ctx, ours))
		theirs = ours
		w.waitCan(false, "edge-1", bob, "get", "secrets", "payments")
		w.ready("payments", "taken", "False ApplyFailed")
		untouched()
	})
	w.delete(grantOf("taken", "", nil))
	w.ready("payments", "taken", "gone")
	untouched()
	w.must(edge.Delete(w.ctx, theirs))
	w.delete(roleOf("taken", ""))
}

// tap lets one test at a time read what the controllers log.
var logged tap

type tap struct {
	mu   sync.Mutex
	open bool
	text strings.Builder
}

func (t *tap) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open {
		t.text.Write(p)
	}
	return len(p), nil
}

func (t *tap) listen(open bool) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	defer t.text.Reset()
	t.open = open
	return t.text.String()
}

// TestS24KubeconfigThatRuns: a kubeconfig that would have Sallyport run a program
// is refused, said so clearly, and nothing of what it holds is shown to anybody.
func TestS24KubeconfigThatRuns(t *testing.T) {
	w := newWorld(t)
	const canary = "canary-9f1c"
	ran := t.TempDir() + "/ran"
	ca := base64.StdEncoding.EncodeToString(w.fleet.Hub.CABundle())
	exec := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", certificate-authority-data: %[3]s}}]
users:
- name: u
  user:
    token: %[1]s-token
    exec:
      apiVersion: client.authentication.k8s.io/v1
      command: touch
      args: [%[2]s]
      env: [{name: PASSWORD, value: %[1]s-password}]
      interactiveMode: Never
`, canary, ran, ca)
	provider := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1", certificate-authority-data: %[2]s}}]
users: [{name: u, user: {auth-provider: {name: oidc, config: {id-token: %[1]s-id}}}}]
`, canary, ca)
	logged.listen(true)
	defer logged.listen(false)
	w.kubeconfigSecret("runs", []byte(exec), prod)
	w.kubeconfigSecret("provides", []byte(provider), prod)
	// One in another namespace is nobody's.
	other := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "tenant", Labels: map[string]string{v1alpha1.ClusterLabel: "tenant"}},
		Data:       map[string][]byte{"kubeconfig": []byte(strings.ReplaceAll(exec, "runs", "tenant"))},
	}
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader(), other)
	w.controller(func(o *controllers.Options) { o.Resync = 200 * time.Millisecond })
	w.create(grantOf("refused", "pod-reader", []v1alpha1.ClusterName{"runs", "provides", "tenant"}, userSubject("alice")))
	w.eventually("the grant says why", func() string {
		g := w.grant("payments", "refused")
		for _, want := range []struct{ cluster, text string }{
			{"runs", "users[].user.exec is not allowed"}, {"provides", "users[].user.auth-provider is not allowed"}, {"tenant", "not in the fleet"},
		} {
			if !slices.ContainsFunc(g.Status.Failures, func(f v1alpha1.GrantFailure) bool {
				return f.Cluster == want.cluster && strings.Contains(f.Message, want.text)
			}) {
				return fmt.Sprintf("nothing of %s on %s in %+v", want.text, want.cluster, g.Status.Failures)
			}
		}
		return ""
	})
	for _, f := range w.grant("payments", "refused").Status.Failures {
		t.Logf("%s: %s: %s", f.Cluster, f.Reason, f.Message)
	}
	w.delete(grantOf("refused", "", nil))
	w.residual("payments", "refused", "runs")

	if _, err := os.Stat(ran); err == nil {
		t.Error("the program was run")
	}
	var everything []any
	for _, list := range []client.ObjectList{
		&v1alpha1.AccessGrantList{}, &eventsv1.EventList{}, &corev1.EventList{}, &corev1.ConfigMapList{}, &rbacv1.ClusterRoleList{}, &rbacv1.ClusterRoleBindingList{},
	} {
		w.must(w.hub.List(w.ctx, list))
		everything = append(everything, list)
	}
	text, err := json.Marshal(everything)
	w.must(err)
	log := logged.listen(false)
	if os.Getenv("E2E_LOG") == "" && !strings.Contains(log, "user.exec") {
		t.Error("the log does not say that the kubeconfig was refused, or the test does not see it")
	}
	for what, shown := range map[string]string{"an object on the hub": string(text), "the log": log} {
		if i := strings.Index(shown, canary); i >= 0 {
			t.Errorf("%s shows what the Secret holds: …%s…", what, shown[max(0, i-200):min(len(shown), i+100)])
		}
	}
}
