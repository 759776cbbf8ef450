//go:build peers

package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/distribute"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// TestKarmada: people, groups and service accounts reach a member through
// Karmada's own aggregated API server, with what Karmada's own execution
// controller delivered there, and with exactly what was granted.
func TestKarmada(t *testing.T) {
	w := newWorld(t, "m1")
	w.must(w.fleet.StartKarmadaAggregatedAPIServer(w.ctx))
	w.must(w.fleet.JoinKarmada(w.ctx, "m1", prod))
	w.must(w.fleet.StartKarmadaControllerManager(w.ctx))
	m1 := w.member("m1")
	for _, ns := range []string{"payments", "ci"} {
		w.must(m1.Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}))
		w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	}
	w.must(m1.Create(w.ctx, pod("web")))
	w.create(podReader())
	stop := w.controller()

	t.Run("verbs that the hub sees", func(t *testing.T) { testHubVerbs(t, w) })
	t.Run("exactly what was granted", func(t *testing.T) { testThroughKarmada(t, w, m1) })
	t.Run("delivery", func(t *testing.T) { testKarmadaDelivery(t, w, m1) })
	t.Run("a Work without its finalizer leaves its object behind", func(t *testing.T) { testKarmadaOrphan(t, w, m1) })
	stop()
	t.Run("killed at every write of a change that is then undone", func(t *testing.T) { testKarmadaKilled(t, w) })
}

// testKarmadaKilled: a change of a Work takes two writes. Whatever is killed when,
// and even if by then there is nothing to change any more, Karmada is asked again
// for the confirmation that was withdrawn.
func testKarmadaKilled(t *testing.T, w *world) {
	carol, dora := who{"carol", nil}, who{"dora", nil}
	to := func(name string) {
		w.change("payments", "carol", func(g *v1alpha1.AccessGrant) { g.Spec.Subjects = []v1alpha1.Subject{userSubject(name)} })
	}
	w.create(grantOf("carol", "pod-reader", []v1alpha1.ClusterName{"m1"}, userSubject("carol")))
	stop := w.controller()
	w.ready("payments", "carol", "True Applied")
	stop()
	for n := 1; ; n++ {
		to("dora")
		cut := newWrites(n)
		stop := w.controller(func(o *controllers.Options) { o.WrapClient = cut.wrap })
		died := false
		w.eventually(fmt.Sprintf("write %d, or the end", n), func() string {
			select {
			case <-cut.dead:
				died = true
				return ""
			default:
				return strings.TrimPrefix(w.condition("payments", "carol", v1alpha1.ConditionReady), "True Applied")
			}
		})
		stop()
		to("carol")
		stop = w.controller()
		w.ready("payments", "carol", "True Applied")
		w.waitCan(true, "m1", carol, "list", "pods", "payments")
		w.waitCan(false, "m1", dora, "list", "pods", "payments")
		stop()
		if !died {
			t.Logf("killed at %d writes", n-1)
			break
		}
	}
	w.controller()
	w.delete(grantOf("carol", "", nil))
	w.ready("payments", "carol", "gone")
	w.nothingLeft(w.hub, w.member("m1"))
	w.noWorks()
}

// TestKarmadaUnifiedAuth proves what Karmada's own unified-auth controller makes
// of RBAC on the hub. Sallyport takes its place: it does not run here.
func TestKarmadaUnifiedAuth(t *testing.T) {
	w := newWorld(t, "m1")
	w.must(w.fleet.StartKarmadaAggregatedAPIServer(w.ctx))
	w.must(w.fleet.JoinKarmada(w.ctx, "m1", nil))
	w.must(w.fleet.StartKarmadaControllerManager(w.ctx, "cluster", "clusterStatus", "execution", "workStatus", "unifiedAuth"))
	m1 := w.member("m1")

	sa := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "ci", Name: "deployer"}
	w.proxyRole("reachable", sa, "get")
	// "none" is a verb that no request has.
	group := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts:ci"}
	w.proxyRole("impersonatable", group, "none")

	impersonator := who{"system:serviceaccount:karmada-cluster:karmada-impersonator", nil}
	can := func(resource, ns, name string) bool {
		t.Helper()
		ok, err := may(w.ctx, m1, impersonator.name, nil, "impersonate", "", resource, ns, name)
		w.must(err)
		return ok
	}
	w.eventually("Karmada's impersonator may be ci/deployer", func() string {
		if !can("serviceaccounts", "ci", "deployer") {
			return "not yet"
		}
		return ""
	})
	if !can("serviceaccounts", "dev", "deployer") {
		t.Error("unified-auth keeps the namespace of a ServiceAccount now: correct docs/explanation/interop-facts.md")
	}
	w.eventually("a role with a verb that no request has makes its group impersonatable", func() string {
		if !can("groups", "", "system:serviceaccounts:ci") {
			return "not yet"
		}
		return ""
	})
	member := who{"system:serviceaccount:ci:other", []string{"system:serviceaccounts:ci", "system:authenticated"}}
	for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
		if w.karmadaReach("m1", member, verb) {
			t.Errorf("the group may %s through the hub", verb)
		}
	}
}

// karmadaReach is whether the hub lets somebody through to Karmada's proxy.
func (w *world) karmadaReach(member string, who who, verb string) bool {
	w.Helper()
	ok, err := may(w.ctx, w.hub, who.name, who.groups, verb, "cluster.karmada.io", "clusters/proxy", "", member)
	w.must(err)
	return ok
}

// proxyRole gives somebody a verb on Karmada's proxy of m1, as an administrator of
// the hub could, and not as a grant.
func (w *world) proxyRole(name string, to rbacv1.Subject, verb string) {
	w.Helper()
	w.create(&rbacv1.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Rules: []rbacv1.PolicyRule{{
			Verbs: []string{verb}, APIGroups: []string{"cluster.karmada.io"}, Resources: []string{"clusters/proxy"}, ResourceNames: []string{"m1"},
		}},
	}, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Subjects: []rbacv1.Subject{to},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
	})
}

func pod(name string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "example.invalid/c"}}},
	}
}

const karmadaProxy = "/apis/cluster.karmada.io/v1alpha1/clusters/%s/proxy"

// answer of a request through the hub.
type answer struct {
	code int
	body string
}

// by is who refused: "hub", "impersonation" (the member, which would not have
// Karmada speak for that person), "member", or "" for nobody.
func (a answer) by() string {
	switch {
	case a.code != http.StatusForbidden && a.code != http.StatusUnauthorized:
		return ""
	case strings.Contains(a.body, "clusters.cluster.karmada.io") || strings.Contains(a.body, `resource \"clusters/proxy\"`):
		return "hub"
	case strings.Contains(a.body, "impersonate"):
		return "impersonation"
	}
	return "member"
}

// ask sends one request to the hub as somebody.
func (w *world) ask(as *rest.Config, method, path string, headers map[string]string) answer {
	w.Helper()
	config := rest.CopyConfig(as)
	config.NextProtos = []string{"http/1.1"} // for the sake of upgrades
	c, err := rest.HTTPClientFor(config)
	w.must(err)
	defer c.CloseIdleConnections()
	body := ""
	if method == http.MethodPost || method == http.MethodPut || method == http.MethodPatch {
		body = "{}"
	}
	r, err := http.NewRequestWithContext(w.ctx, method, config.Host+path, strings.NewReader(body))
	w.must(err)
	r.Header.Set("Content-Type", "application/json")
	if method == http.MethodPatch {
		r.Header.Set("Content-Type", "application/merge-patch+json")
	}
	for k, v := range headers {
		r.Header.Set(k, v)
	}
	response, err := c.Do(r)
	w.must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 64<<10))
	if response.StatusCode != http.StatusSwitchingProtocols {
		w.must(err)
	}
	return answer{response.StatusCode, string(text)}
}

var websocket = map[string]string{
	"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
	"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol": "v5.channel.k8s.io",
}

var spdy = map[string]string{"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}

// testHubVerbs: the hub's authorizer sees a verb made of the HTTP method. Whom it
// refuses it tells which.
func testHubVerbs(t *testing.T, w *world) {
	nobody, err := w.fleet.Hub.User("nobody")
	w.must(err)
	proxy := fmt.Sprintf(karmadaProxy, "m1")
	exec := proxy + "/api/v1/namespaces/payments/pods/web/exec?command=sh"
	for _, c := range []struct {
		name, method, path string
		headers            map[string]string
		verb               string
	}{
		{"get", "GET", proxy + "/api/v1/namespaces/payments/pods/web", nil, "get"},
		{"list", "GET", proxy + "/api/v1/pods", nil, "get"},
		{"watch", "GET", proxy + "/api/v1/pods?watch=true", nil, "get"},
		{"create", "POST", proxy + "/api/v1/namespaces/payments/pods", nil, "create"},
		{"update", "PUT", proxy + "/api/v1/namespaces/payments/pods/web", nil, "update"},
		{"patch", "PATCH", proxy + "/api/v1/namespaces/payments/pods/web", nil, "patch"},
		{"delete", "DELETE", proxy + "/api/v1/namespaces/payments/pods/web", nil, "delete"},
		{"deletecollection", "DELETE", proxy + "/api/v1/namespaces/payments/pods", nil, "delete"},
		{"exec by WebSocket", "GET", exec, websocket, "get"},
		{"exec by SPDY", "POST", exec, spdy, "create"},
		// A prefix from the time before v1.0 that still means a verb of its own:
		// nobody is ever granted it.
		{"the old watch prefix", "GET", "/apis/cluster.karmada.io/v1alpha1/watch/clusters/m1/proxy/api/v1/pods", nil, "watch"},
		// All clusters at once: a name like any other, that no grant has.
		{"all clusters", "GET", fmt.Sprintf(karmadaProxy, "*") + "/api/v1/pods", nil, "get"},
	} {
		got := w.ask(nobody, c.method, c.path, c.headers)
		if got.by() != "hub" || !strings.Contains(got.body, fmt.Sprintf(`cannot %s resource \"clusters/proxy\"`, c.verb)) {
			t.Errorf("%s: the hub is to see %s, and says %d %s", c.name, c.verb, got.code, got.body)
		}
	}
}

// testThroughKarmada asks as a user, a member of a group and a service account.
func testThroughKarmada(t *testing.T, w *world, m1 client.Client) {
	rule := func(resource string, verbs ...string) v1alpha1.AccessEntry {
		return v1alpha1.AccessEntry{
			Rules:      []v1alpha1.PolicyRule{{Verbs: verbs, APIGroups: []string{""}, Resources: []string{resource}}},
			Namespaces: []v1alpha1.NamespaceName{"payments"},
		}
	}
	m := []v1alpha1.ClusterName{"m1"}
	alices := grantOf("alice", "pod-reader", m, userSubject("alice"))
	alices.Spec.Access = append(alices.Spec.Access, rule("configmaps", "create", "update", "patch", "delete", "deletecollection"),
		rule("pods/exec", "create"))
	accounts := grantOf("deployer", "pod-reader", m, v1alpha1.Subject{Kind: v1alpha1.ServiceAccountSubject, Namespace: "ci", Name: "deployer"})
	accounts.Spec.Access = append(accounts.Spec.Access, rule("pods/log", "get"))
	both := grantOf("exec", "pod-reader", m, userSubject("frank"))
	both.Spec.Access = append(both.Spec.Access, rule("pods/exec", "get", "create"))
	onlyGet := grantOf("attach", "pod-reader", m, userSubject("gina"))
	onlyGet.Spec.Access = append(onlyGet.Spec.Access, rule("pods/exec", "get"))
	w.create(alices, oncall(), accounts, both, onlyGet)
	for _, name := range []string{"alice", "oncall", "deployer", "exec", "attach"} {
		w.ready("payments", name, "True Applied")
	}

	user := func(name string, groups ...string) *rest.Config {
		c, err := w.fleet.Hub.User(name, groups...)
		w.must(err)
		return c
	}
	account := func(ns, name string) *rest.Config {
		c, err := w.fleet.Hub.ServiceAccount(w.ctx, ns, name)
		w.must(err)
		return c
	}
	const ns = "/api/v1/namespaces/payments/"
	type ask struct {
		method, path string
		by           string // who refuses
		headers      map[string]string
	}
	discovery := []ask{
		{"GET", "/api", "", nil}, {"GET", "/apis", "", nil}, {"GET", "/api/v1", "", nil}, {"GET", "/apis/apps/v1", "", nil},
		{"GET", "/openapi/v3", "", nil}, {"GET", "/version", "", nil}, {"GET", "/readyz", "", nil},
	}
	reads := append(slices.Clone(discovery),
		ask{"GET", ns + "pods", "", nil}, ask{"GET", ns + "pods/web", "", nil}, ask{"GET", ns + "pods/missing", "", nil},
		ask{"GET", ns + "pods?watch=true&timeoutSeconds=1", "", nil}, ask{"HEAD", ns + "pods/web", "", nil},
		ask{"GET", "/api/v1/namespaces/default/pods", "member", nil}, ask{"GET", "/api/v1/pods", "member", nil},
		ask{"GET", ns + "secrets", "member", nil}, ask{"GET", ns + "pods/web/exec?command=sh", "member", websocket}, // S18
		ask{"GET", "/apis/rbac.authorization.k8s.io/v1/clusterroles", "member", nil}, ask{"GET", "/metrics", "member", nil},
	)
	readOnly := append(slices.Clone(reads),
		ask{"POST", ns + "pods", "hub", nil}, ask{"PUT", ns + "pods/web", "hub", nil}, ask{"PATCH", ns + "pods/web", "hub", nil},
		ask{"DELETE", ns + "pods/web", "hub", nil}, ask{"DELETE", ns + "pods", "hub", nil}, ask{"POST", ns + "pods/web/exec?command=sh", "hub", spdy},
	)
	refused := func(by string) []ask {
		return []ask{{"GET", "/api", by, nil}, {"GET", ns + "pods", by, nil}, {"GET", ns + "pods/web", by, nil}}
	}
	for _, c := range []struct {
		name, why string
		as        *rest.Config
		asks      []ask
	}{
		{"a user", "a grant names her", user("alice"), append(slices.Clone(reads),
			ask{"GET", ns + "pods/web/log", "member", nil},
			ask{"POST", ns + "configmaps", "", nil}, ask{"PUT", ns + "configmaps/missing", "", nil}, ask{"PATCH", ns + "configmaps/missing", "", nil},
			ask{"DELETE", ns + "configmaps/missing", "", nil}, ask{"DELETE", ns + "configmaps", "", nil},
			ask{"GET", ns + "configmaps", "member", nil}, ask{"GET", ns + "configmaps/missing", "member", nil},
			// The hub lets these verbs through for the sake of ConfigMaps; the member has
			// the last word.
			ask{"POST", ns + "pods", "member", nil}, ask{"PATCH", ns + "pods/web", "member", nil}, ask{"DELETE", ns + "pods/web", "member", nil},
			ask{"DELETE", ns + "pods", "member", nil}, ask{"POST", ns + "secrets", "member", nil},
			ask{"POST", ns + "pods/web/exec?command=sh", "", spdy},
		)},
		// To the hub a WebSocket exec is a get. To a member since 1.35 it is a get and a
		// create, so that get alone is not enough to run a command.
		{"one who may exec", "with both verbs", user("frank"), []ask{
			{"GET", ns + "pods/web/exec?command=sh", "", websocket}, {"POST", ns + "pods/web/exec?command=sh", "", spdy},
		}},
		{"one who may get exec", "with one of the two", user("gina"), []ask{
			{"GET", ns + "pods/web/exec?command=sh", "member", websocket}, {"POST", ns + "pods/web/exec?command=sh", "hub", spdy},
		}},
		{"one of a group", "only her group is granted, so that the member lets Karmada be her by constrained impersonation alone",
			user("carol", "payments-oncall"), append(slices.Clone(readOnly), ask{"GET", ns + "pods/web/log", "member", nil})},
		{"another of that group", "whoever the hub says is in it", user("erin", "payments-oncall"), readOnly},
		{"a service account", "with the groups that Kubernetes gives it", account("ci", "deployer"),
			append(slices.Clone(readOnly), ask{"GET", ns + "pods/web/log", "", nil})},
		{"its namesake", "the namespace counts", account("dev", "deployer"), refused("hub")},
		{"another of its namespace", "the groups of a service account are not subjects", account("ci", "other"), refused("hub")},
		{"nobody", "no grant names them", user("dave", "developers"), refused("hub")},
		// Karmada's proxy impersonates every group that somebody has, and the member
		// lets it impersonate only those with a grant there. Were groups without a
		// grant impersonatable, Karmada's token could be used to be in any group. So
		// through Karmada's proxy whoever has further groups is refused; Sallyport's
		// own gateway will leave out the groups that mean nothing on the member.
		{"a user with a group that has no grant", "see above", user("alice", "developers"), refused("impersonation")},
		{"one of a group with one more", "see above", user("carol", "payments-oncall", "developers"), refused("impersonation")},
		{"a user with a group that has a grant", "both are granted", user("alice", "payments-oncall"), reads},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, a := range c.asks {
				// A member's authorizer is a moment behind what was written.
				begin := time.Now()
				for {
					got := w.ask(c.as, a.method, fmt.Sprintf(karmadaProxy, "m1")+a.path, a.headers)
					by := got.by()
					same := by == a.by || a.by == "member" && by == "impersonation"
					if same && got.code < 500 || time.Since(begin) > 10*time.Second {
						if !same {
							t.Errorf("%s: %s %s is refused by %q, not %q: %d %s", c.why, a.method, a.path, by, a.by, got.code, got.body)
						}
						break
					}
				}
			}
			if got := w.ask(c.as, "GET", fmt.Sprintf(karmadaProxy, "m2")+"/api", nil); got.by() != "hub" {
				t.Errorf("m2 is let through: %d %s", got.code, got.body)
			}
			if got := w.ask(c.as, "GET", fmt.Sprintf(karmadaProxy, "*")+"/api", nil); got.by() != "hub" {
				t.Errorf("* is let through: %d %s", got.code, got.body)
			}
		})
	}

	t.Run("a service account that only the hub lets through", func(t *testing.T) {
		// Whatever an administrator of the hub binds besides: the member refuses.
		w.proxyRole("stray", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "dev", Name: "deployer"}, "get")
		w.eventually("dev/deployer is refused by the member", func() string {
			if got := w.ask(account("dev", "deployer"), "GET", fmt.Sprintf(karmadaProxy, "m1")+ns+"pods", nil); got.by() != "impersonation" {
				return fmt.Sprintf("%d %s", got.code, got.body)
			}
			return ""
		})
	})
	t.Run("kubectl", func(t *testing.T) {
		for name, as := range map[string]*rest.Config{"alice": user("alice"), "carol": user("carol", "payments-oncall"), "deployer": account("ci", "deployer")} {
			if out, err := w.kubectl(as, "m1", "get", "pods", "-n", "payments", "-o", "name"); err != nil || strings.TrimSpace(out) != "pod/web" {
				t.Errorf("%s: %v: %s", name, err, out)
			}
			if out, err := w.kubectl(as, "m1", "get", "secrets", "-n", "payments"); err == nil || !strings.Contains(out, "orbidden") {
				t.Errorf("%s gets Secrets: %v: %s", name, err, out)
			}
		}
	})
	t.Run("a watch", func(t *testing.T) { testWatchThrough(t, w, m1, user("carol", "payments-oncall")) })

	t.Run("revocation closes it", func(t *testing.T) {
		begin := time.Now()
		w.delete(oncall(), alices, accounts, both, onlyGet)
		for _, name := range []string{"oncall", "alice", "deployer", "exec", "attach"} {
			w.ready("payments", name, "gone")
		}
		t.Logf("revoked after %s", time.Since(begin).Round(time.Millisecond))
		for _, as := range []*rest.Config{user("alice"), user("carol", "payments-oncall"), account("ci", "deployer")} {
			w.eventually("the hub refuses", func() string {
				if got := w.ask(as, "GET", fmt.Sprintf(karmadaProxy, "m1")+"/api", nil); got.by() != "hub" {
					return fmt.Sprintf("%d %s", got.code, got.body)
				}
				return ""
			})
		}
		w.nothingLeft(w.hub, m1)
		w.noWorks()
	})
}

// testWatchThrough: what happens while a watch is open reaches whoever watches.
func testWatchThrough(t *testing.T, w *world, m1 client.Client, as *rest.Config) {
	c, err := rest.HTTPClientFor(as)
	w.must(err)
	r, err := http.NewRequestWithContext(w.ctx, http.MethodGet, as.Host+fmt.Sprintf(karmadaProxy, "m1")+"/api/v1/namespaces/payments/pods?watch=true&fieldSelector=metadata.name%3Dlate", nil)
	w.must(err)
	response, err := c.Do(r)
	w.must(err)
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("got %s", response.Status)
	}
	w.must(m1.Create(w.ctx, pod("late")))
	line, err := bufio.NewReader(response.Body).ReadString('\n')
	if err != nil || !strings.Contains(line, `"ADDED"`) || !strings.Contains(line, `"late"`) {
		t.Errorf("got %v: %s", err, line)
	}
	w.must(m1.Delete(w.ctx, pod("late"), client.GracePeriodSeconds(0)))
}

// kubectl runs the real one, as somebody, through the hub.
func (w *world) kubectl(as *rest.Config, cluster string, args ...string) (string, error) {
	w.Helper()
	binaries, err := controlplane.Binaries(w.ctx, os.Stderr, controlplane.Kubectl)
	w.must(err)
	dir := w.TempDir()
	kubeconfig := filepath.Join(dir, "kubeconfig")
	w.must(w.fleet.Hub.WriteKubeconfig(kubeconfig, as, fmt.Sprintf(karmadaProxy, cluster)))
	cmd := exec.CommandContext(w.ctx, binaries[controlplane.Kubectl], append([]string{"--kubeconfig", kubeconfig, "--cache-dir", dir}, args...)...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// works are Sallyport's Works for m1, by the kind and name of what they carry.
func (w *world) works() map[string]*unstructured.Unstructured {
	w.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(distribute.KarmadaWorkKind.GroupVersion().WithKind("WorkList"))
	w.must(w.hub.List(w.ctx, list, client.InNamespace("karmada-es-m1"), client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
	out := map[string]*unstructured.Unstructured{}
	for i := range list.Items {
		manifests, _, err := unstructured.NestedSlice(list.Items[i].Object, "spec", "workload", "manifests")
		w.must(err)
		if len(manifests) != 1 {
			w.Fatalf("a Work carries %d objects", len(manifests))
		}
		o := &unstructured.Unstructured{Object: manifests[0].(map[string]any)}
		out[o.GetKind()+" "+o.GetName()] = &list.Items[i]
	}
	return out
}

func (w *world) noWorks() {
	w.Helper()
	w.eventually("no Work is left", func() string {
		for name := range w.works() {
			return name
		}
		return ""
	})
}

func testKarmadaDelivery(t *testing.T, w *world, m1 client.Client) {
	const name = "sallyport:accessrole:pod-reader"
	role, binding := &rbacv1.ClusterRole{}, &rbacv1.RoleBinding{}
	read := func() {
		w.must(m1.Get(w.ctx, client.ObjectKey{Name: name}, role))
		w.must(m1.Get(w.ctx, client.ObjectKey{Namespace: "payments", Name: name}, binding))
	}
	carol := userSubject("carol")
	w.create(oncall(), grantOf("carol", "pod-reader", []v1alpha1.ClusterName{"m1"}, carol))
	w.ready("payments", "oncall", "True Applied")
	w.ready("payments", "carol", "True Applied")
	read()
	if len(binding.Subjects) != 2 {
		t.Errorf("subjects are %v", binding.Subjects)
	}
	for what, work := range w.works() {
		if !slices.Contains(work.GetFinalizers(), "karmada.io/execution-controller") {
			t.Errorf("%s: the Work has not Karmada's finalizer: %v", what, work.GetFinalizers())
		}
	}

	t.Run("drift is put right", func(t *testing.T) {
		bobBound := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: "User", Name: "bob"}
		aggregate := "rbac.authorization.k8s.io/aggregate-to-admin"
		begin := time.Now()
		read()
		binding.Subjects = append(binding.Subjects, bobBound)
		w.must(m1.Update(w.ctx, binding))
		w.eventually("the subject is gone", func() string {
			if read(); len(binding.Subjects) != 2 {
				return fmt.Sprint(binding.Subjects)
			}
			return ""
		})
		read()
		role.Rules = append(role.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}})
		w.must(m1.Update(w.ctx, role))
		w.eventually("the rule is gone", func() string {
			if read(); len(role.Rules) != 1 {
				return fmt.Sprint(role.Rules)
			}
			return ""
		})
		read()
		role.Labels[aggregate] = "true"
		w.must(m1.Update(w.ctx, role))
		w.eventually("the label that aggregates is gone", func() string { // S19
			if read(); role.Labels[aggregate] != "" {
				return "not yet"
			}
			return ""
		})
		t.Logf("three changes were put right in %s", time.Since(begin).Round(time.Millisecond))
	})

	t.Run("narrowing updates", func(t *testing.T) {
		w.delete(grantOf("carol", "", nil))
		w.ready("payments", "carol", "gone")
		w.waitCan(false, "m1", who{"carol", nil}, "list", "pods", "payments")
		if !w.can("m1", alice, "list", "pods", "payments") {
			t.Error("alice lost what her own grant gives")
		}
		read()
		labels := 0
		for l := range binding.Labels {
			if strings.HasPrefix(l, v1alpha1.GrantLabelPrefix) {
				labels++
			}
		}
		if labels != 1 {
			t.Errorf("the binding still names the grant that is gone: %v", binding.Labels)
		}
	})

	t.Run("a member that is down", func(t *testing.T) {
		w.create(grantOf("carol", "pod-reader", []v1alpha1.ClusterName{"m1"}, carol))
		w.ready("payments", "carol", "True Applied")
		w.must(w.fleet.Member("m1").Stop())
		// Of the shared binding, one is taken away and the other stays.
		w.delete(grantOf("carol", "", nil))
		w.residual("payments", "carol", "m1")
		if w.karmadaReach("m1", who{"carol", nil}, "get") {
			t.Error("the hub still lets carol through")
		}
		w.delete(oncall())
		w.residual("payments", "oncall", "m1")
		w.must(w.fleet.Member("m1").Start(w.ctx))
		begin := time.Now()
		for _, name := range []string{"oncall", "carol"} {
			w.ready("payments", name, "gone")
		}
		t.Logf("gone %s after the member came back", time.Since(begin).Round(time.Millisecond))
		if w.can("m1", alice, "list", "pods", "payments") || w.can("m1", who{"carol", nil}, "list", "pods", "payments") {
			t.Error("somebody still has access")
		}
		w.nothingLeft(w.hub, m1)
		w.noWorks()
	})
}

// testKarmadaOrphan is why Sallyport sets the finalizer.
func testKarmadaOrphan(t *testing.T, w *world, m1 client.Client) {
	work := &unstructured.Unstructured{Object: map[string]any{
		"metadata": map[string]any{"namespace": "karmada-es-m1", "name": "careless"},
		"spec": map[string]any{"workload": map[string]any{"manifests": []any{map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"namespace": "default", "name": "careless", "labels": map[string]any{"karmada.io/managed": "true"}},
		}}}},
	}}
	work.SetGroupVersionKind(distribute.KarmadaWorkKind)
	w.create(work)
	left := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "careless"}}
	w.eventually("it is delivered", func() string {
		if err := m1.Get(w.ctx, client.ObjectKeyFromObject(left), left); err != nil {
			return err.Error()
		}
		return ""
	})
	w.must(w.hub.Delete(w.ctx, work))
	// Another Work, from beginning to end: by then Karmada has seen the deletion.
	w.create(oncall())
	w.ready("payments", "oncall", "True Applied")
	w.delete(oncall())
	w.ready("payments", "oncall", "gone")
	if err := m1.Get(w.ctx, client.ObjectKeyFromObject(left), left); err != nil {
		t.Errorf("Karmada removes it now: correct docs/explanation/interop-facts.md: %v", err)
	}
}
