package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	msav1beta1 "open-cluster-management.io/managed-serviceaccount/apis/authentication/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
)

const gatewayNamespace = "sallyport-gateway"

// gateway has the controller write routes.
func gateway(o *controllers.Options) {
	o.GatewayNamespace = gatewayNamespace
	o.Impersonator = types.NamespacedName{Namespace: namespace, Name: "sallyport-impersonator"}
	o.ExtraKeys = []string{"example.org/team"}
}

// route waits for the route to a cluster that is as wanted.
func (w *world) route(cluster string, wanted func(*corev1.Secret) string) *corev1.Secret {
	w.Helper()
	s := &corev1.Secret{}
	w.eventually("the route to "+cluster, func() string {
		if err := w.hub.Get(w.ctx, client.ObjectKey{Namespace: gatewayNamespace, Name: "route-" + cluster}, s); err != nil {
			return err.Error()
		}
		return wanted(s)
	})
	return s
}

func anyRoute(*corev1.Secret) string { return "" }

func (w *world) noRoute(cluster string) {
	w.Helper()
	w.eventually("no route to "+cluster, func() string {
		err := w.hub.Get(w.ctx, client.ObjectKey{Namespace: gatewayNamespace, Name: "route-" + cluster}, &corev1.Secret{})
		if apierrors.IsNotFound(err) {
			return ""
		}
		return fmt.Sprintf("there is one, or %v", err)
	})
}

// by is what the gateway makes of a route, as somebody; nobody is the impersonator
// itself.
func by(route *corev1.Secret, as rest.ImpersonationConfig) *rest.Config {
	return &rest.Config{
		Host: string(route.Data["server"]), BearerToken: string(route.Data["token"]), Impersonate: as,
		TLSClientConfig: rest.TLSClientConfig{CAData: route.Data["ca.crt"], ServerName: string(route.Data["tls-server-name"])},
	}
}

// pods is the status of the answer to a request for those in a namespace.
func (w *world) pods(config *rest.Config, ns string) int {
	w.Helper()
	c, err := rest.HTTPClientFor(config)
	w.must(err)
	defer c.CloseIdleConnections()
	request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, config.Host+"/api/v1/namespaces/"+ns+"/pods", http.NoBody)
	w.must(err)
	response, err := c.Do(request)
	w.must(err)
	w.must(response.Body.Close())
	return response.StatusCode
}

// credential is what the hub says of a person's certificate, or of a pod's token.
func credential(name string, groups ...string) rest.ImpersonationConfig {
	extra := map[string][]string{}
	for _, key := range rules.ExtraKeys() {
		extra[key] = []string{"of " + name}
	}
	return rest.ImpersonationConfig{UserName: name, UID: "uid-of-" + name, Groups: groups, Extra: extra}
}

// TestRoutes: the gateway gets, for each member with a kubeconfig, a token by which it
// can be those whom grants name and nobody else.
func TestRoutes(t *testing.T) {
	w := newWorld(t, "edge-1", "edge-2")
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: gatewayNamespace}})
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader())
	w.byKubeconfig("edge-1", prod)
	w.byKubeconfig("edge-2", dev)
	// On hub and member alike there are administrators, whom nobody granted.
	admins := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "admins"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "root"}, {APIGroup: rbacv1.GroupName, Kind: "Group", Name: "admins"}},
	}
	w.must(w.member("edge-1").Create(w.ctx, admins))
	w.must(w.member("edge-1").Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ci"}}))
	w.create(oncall(func(g *v1alpha1.AccessGrant) {
		g.Spec.Subjects = append(g.Spec.Subjects, userSubject("carol"), v1alpha1.Subject{Kind: v1alpha1.ServiceAccountSubject, Namespace: "ci", Name: "bot"})
	}))
	w.controller(gateway)
	w.ready("payments", "oncall", "True Applied")
	one := w.route("edge-1", anyRoute)
	two := w.route("edge-2", anyRoute)

	t.Run("the Secret", func(t *testing.T) { testRouteSecret(t, w, one) })

	t.Run("S7: exactly who was granted", func(t *testing.T) {
		bot := "system:serviceaccount:ci:bot"
		cases := map[string]struct {
			reason string
			as     rest.ImpersonationConfig
			ns     string
			want   int
		}{
			"Named":           {reason: "A user whom a grant names.", as: credential("carol"), ns: "payments", want: 200},
			"NamedElsewhere":  {reason: "The member has the last word.", as: credential("carol"), ns: "default", want: 403},
			"OfGroup":         {reason: "Somebody whom no grant names, in a group that one does.", as: credential("alice", "payments-oncall"), ns: "payments", want: 200},
			"OfGroupElswhere": {reason: "For nothing but what the group may do.", as: credential("alice", "payments-oncall"), ns: "default", want: 403},
			"ServiceAccount":  {reason: "A service account of the hub with the groups that it has.", as: credential(bot, "system:serviceaccounts", "system:serviceaccounts:ci"), ns: "payments", want: 200},
			"OtherAccount":    {reason: "Not its neighbour.", as: credential("system:serviceaccount:ci:other", "system:serviceaccounts", "system:serviceaccounts:ci"), ns: "payments", want: 403},
			"Stranger":        {reason: "Nobody else.", as: credential("bob"), ns: "payments", want: 403},
			"OtherGroup":      {reason: "Not with a group that was not granted.", as: credential("carol", "admins"), ns: "payments", want: 403},
			// Nobody on a member knows who is in a group, so anybody may be: for what some
			// group may do, and no more, whatever they may do there by themselves (ADR 0004).
			"Root":         {reason: "An administrator of the member brings no power along.", as: credential("root"), ns: "default", want: 403},
			"RootOfGroup":  {reason: "Nor in a granted group.", as: credential("root", "payments-oncall"), ns: "default", want: 403},
			"Masters":      {reason: "Never.", as: rest.ImpersonationConfig{UserName: "carol", Groups: []string{"system:masters"}}, ns: "payments", want: 403},
			"Nodes":        {reason: "Never.", as: rest.ImpersonationConfig{UserName: "carol", Groups: []string{"system:nodes"}}, ns: "payments", want: 403},
			"NamedExtra":   {reason: "What Kubernetes does not say itself is presented where it is named.", as: rest.ImpersonationConfig{UserName: "carol", Extra: map[string][]string{"example.org/team": {"a"}}}, ns: "payments", want: 200},
			"OfGroupExtra": {reason: "Of a member of a group, too.", as: rest.ImpersonationConfig{UserName: "alice", Groups: []string{"payments-oncall"}, Extra: map[string][]string{"example.org/team": {"a"}}}, ns: "payments", want: 200},
			"OtherExtra":   {reason: "And nowhere else.", as: rest.ImpersonationConfig{UserName: "carol", Extra: map[string][]string{"scopes": {"all"}}}, ns: "payments", want: 403},
			"Itself":       {reason: "The impersonator may do nothing as itself.", ns: "payments", want: 403},
		}
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				if got := w.pods(by(one, tc.as), tc.ns); got != tc.want {
					t.Errorf("%s\ngot %d, want %d", tc.reason, got, tc.want)
				}
			})
		}
	})

	t.Run("who it was arrives whole", func(t *testing.T) {
		review := &authenticationv1.SelfSubjectReview{}
		as := credential("carol")
		w.must(w.client(by(one, as)).Create(w.ctx, review))
		who := review.Status.UserInfo
		if who.Username != "carol" || who.UID != as.UID || len(who.Extra) != len(as.Extra) || !slices.Equal(who.Groups, []string{"system:authenticated"}) {
			t.Errorf("the member saw %+v", who)
		}
	})

	t.Run("S9: a token opens one member", func(t *testing.T) {
		stolen := by(two, credential("carol"))
		stolen.BearerToken = string(one.Data["token"])
		if got := w.pods(stolen, "payments"); got != 401 {
			t.Errorf("the token of edge-1 on edge-2: got %d, want 401", got)
		}
		// Nobody was granted anything on the other.
		if got := w.pods(by(two, credential("carol")), "payments"); got != 403 {
			t.Errorf("somebody without a grant there: got %d, want 403", got)
		}
	})

	t.Run("a revoked grant leaves no right to impersonate", func(t *testing.T) {
		w.must(w.hub.Delete(w.ctx, w.grant("payments", "oncall")))
		w.nothingLeft(w.member("edge-1"))
		if got := w.pods(by(one, credential("carol")), "payments"); got != 403 {
			t.Errorf("got %d, want 403", got)
		}
	})

	t.Run("an account that is gone is made again, with another token", func(t *testing.T) {
		account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "sallyport-impersonator"}}
		w.must(w.member("edge-2").Delete(w.ctx, account))
		w.must(w.hub.Delete(w.ctx, two)) // an event, so that the test need not wait for the next look
		w.route("edge-2", func(s *corev1.Secret) string {
			if bytes.Equal(s.Data["token"], two.Data["token"]) {
				return "the token is the old one"
			}
			return ""
		})
	})

	t.Run("what was changed by hand is put right", func(t *testing.T) {
		s := w.route("edge-1", anyRoute)
		s.Data["server"] = []byte("https://elsewhere.example.org")
		w.must(w.hub.Update(w.ctx, s))
		w.route("edge-1", func(s *corev1.Secret) string {
			if !bytes.Equal(s.Data["server"], one.Data["server"]) {
				return "it leads to " + string(s.Data["server"])
			}
			return ""
		})
	})

	t.Run("no kubeconfig, no route", func(t *testing.T) {
		foreign := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: gatewayNamespace, Name: "theirs", Labels: map[string]string{v1alpha1.ClusterLabel: "edge-1"}}}
		w.create(foreign)
		w.must(w.hub.Delete(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "edge-1"}}))
		w.noRoute("edge-1")
		w.route("edge-2", anyRoute)
		w.must(w.hub.Get(w.ctx, client.ObjectKeyFromObject(foreign), foreign))
	})
}

// testRouteSecret: it has what it should, and nothing by which anything could be
// delivered.
func testRouteSecret(t *testing.T, w *world, s *corev1.Secret) {
	var keys []string
	for key := range s.Data {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if want := []string{"ca.crt", "server", "token"}; !slices.Equal(keys, want) || s.Type != v1alpha1.RouteSecretType || s.Labels[v1alpha1.ClusterLabel] != "edge-1" || s.Labels[v1alpha1.ManagedByLabel] != "sallyport" {
		t.Errorf("keys %q, type %q, labels %q", keys, s.Type, s.Labels)
	}
	expires, err := time.Parse(time.RFC3339, s.Annotations[v1alpha1.RouteExpiresAnnotation])
	renew, renewErr := time.Parse(time.RFC3339, s.Annotations[v1alpha1.RouteRenewAnnotation])
	if left := time.Until(expires); err != nil || renewErr != nil || left > time.Hour+time.Minute || left < 50*time.Minute || !renew.Before(expires.Add(-19*time.Minute)) {
		t.Errorf("it expires at %s and is renewed at %s", expires, renew)
	}
	delivery, err := os.ReadFile(w.fleet.Member("edge-1").Kubeconfig())
	w.must(err)
	raw, err := json.Marshal(s)
	w.must(err)
	for _, line := range strings.Fields(string(delivery)) {
		if len(line) > 64 && !bytes.Contains(s.Data["ca.crt"], []byte(line)) && bytes.Contains(raw, []byte(line)) && !strings.HasPrefix(line, "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0t") {
			t.Error("the kubeconfig that is delivered with is in it")
		}
	}
	account := &corev1.ServiceAccount{}
	w.must(w.member("edge-1").Get(w.ctx, client.ObjectKey{Namespace: namespace, Name: "sallyport-impersonator"}, account))
	if want := namespace + "/sallyport-impersonator@" + string(account.UID); s.Annotations[v1alpha1.RouteImpersonatorAnnotation] != want {
		t.Errorf("impersonator %q, want %q", s.Annotations[v1alpha1.RouteImpersonatorAnnotation], want)
	}
	if !ptr.Equal(account.AutomountServiceAccountToken, ptr.To(false)) {
		t.Error("a pod could have the account without asking")
	}
}

// TestRoutesByAddOn: Open Cluster Management's managed-serviceaccount add-on makes the
// account where it makes accounts, and rights follow it there. Its agent is the real one;
// what its manager does on the hub, to hand it out, is done by the test.
func TestRoutesByAddOn(t *testing.T) {
	w := newWorld(t, "prod-1")
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: gatewayNamespace}})
	w.ocm(map[string]map[string]string{"prod-1": prod})
	w.must(w.fleet.InstallServiceAccountAddOn(w.ctx))
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}, podReader())
	w.create(oncall(func(g *v1alpha1.AccessGrant) { g.Spec.Subjects = append(g.Spec.Subjects, userSubject("carol")) }))
	w.controller(gateway)
	w.ready("payments", "oncall", "True Applied")
	member := w.member("prod-1")
	impersonators := func() []string {
		var out []string
		objects, err := left(w.ctx, member)
		w.must(err)
		for _, o := range objects {
			if strings.Contains(o, "sallyport:impersonator:") {
				out = append(out, o)
			}
		}
		return out
	}
	if got := impersonators(); len(got) > 0 {
		t.Errorf("nobody gets tokens there, and yet there are %q", got)
	}
	w.noRoute("prod-1")
	w.eventually("that is told", func() string {
		var events corev1.EventList
		w.must(w.hub.List(w.ctx, &events, client.InNamespace(gatewayNamespace)))
		for _, e := range events.Items {
			if e.Reason == "NoToken" && e.InvolvedObject.Name == "route-prod-1" && strings.Contains(e.Message, "managed-serviceaccount") {
				return ""
			}
		}
		return fmt.Sprintf("%d events", len(events.Items))
	})

	addOn := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "addon.open-cluster-management.io/v1alpha1", "kind": "ManagedClusterAddOn",
		"metadata": map[string]any{"namespace": "prod-1", "name": "managed-serviceaccount"},
		"spec":     map[string]any{},
	}}
	w.create(addOn)
	w.must(unstructured.SetNestedField(addOn.Object, "agents", "status", "namespace"))
	w.must(w.hub.Status().Update(w.ctx, addOn))
	asked := &msav1beta1.ManagedServiceAccount{}
	key := client.ObjectKey{Namespace: "prod-1", Name: "sallyport-impersonator"}
	w.eventually("the add-on is asked for an account", func() string {
		if err := w.hub.Get(w.ctx, key, asked); err != nil {
			return err.Error()
		}
		return ""
	})
	if asked.Spec.Rotation.Validity.Duration != 24*time.Hour {
		t.Errorf("for %s", asked.Spec.Rotation.Validity.Duration)
	}

	w.must(w.fleet.StartServiceAccountAgent(w.ctx, "prod-1", "agents"))
	cluster := &clusterv1.ManagedCluster{}
	w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: "prod-1"}, cluster))
	cluster.Spec.ManagedClusterClientConfigs = []clusterv1.ClientConfig{{URL: w.fleet.Member("prod-1").URL()}}
	w.must(w.hub.Update(w.ctx, cluster))

	route := w.route("prod-1", anyRoute)
	w.must(w.hub.Get(w.ctx, key, asked))
	if got := route.Annotations[v1alpha1.RouteExpiresAnnotation]; got != asked.Status.ExpirationTimestamp.UTC().Format(time.RFC3339) {
		t.Errorf("it expires at %s", got)
	}
	w.eventually("carol gets through", func() string {
		if got := w.pods(by(route, credential("carol")), "payments"); got != 200 {
			return fmt.Sprint(got)
		}
		return ""
	})
	if got := w.pods(by(route, credential("bob")), "payments"); got != 403 {
		t.Errorf("bob: got %d, want 403", got)
	}
	// It has no rights of its own, but for those of every service account.
	everyAccount := []string{"selfsubjectreviews", "selfsubjectaccessreviews", "selfsubjectrulesreviews", "clustertrustbundles"}
	review := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "payments"}}
	w.must(w.client(by(route, rest.ImpersonationConfig{})).Create(w.ctx, review))
	for _, r := range review.Status.ResourceRules {
		for _, verb := range r.Verbs {
			if !strings.HasPrefix(verb, "impersonate") && !slices.ContainsFunc(r.Resources, func(r string) bool { return slices.Contains(everyAccount, r) }) {
				t.Errorf("the impersonator may %s %s", verb, r.Resources)
			}
		}
	}

	// The agent brings another token where there is none, and the route follows.
	w.must(w.hub.Delete(w.ctx, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}))
	renewed := w.route("prod-1", func(s *corev1.Secret) string {
		if bytes.Equal(s.Data["token"], route.Data["token"]) {
			return "the token is the old one"
		}
		return ""
	})
	if got := w.pods(by(renewed, credential("carol")), "payments"); got != 200 {
		t.Errorf("carol by the new token: got %d, want 200", got)
	}

	// Without the add-on there is no route and no right, and nothing is left behind.
	w.must(w.hub.Delete(w.ctx, addOn))
	w.noRoute("prod-1")
	w.eventually("the account is withdrawn", func() string {
		if err := w.hub.Get(w.ctx, key, asked); !apierrors.IsNotFound(err) {
			return fmt.Sprint(err)
		}
		return ""
	})
	w.eventually("nobody may impersonate", func() string { return strings.Join(impersonators(), ", ") })
	w.eventually("the agent has taken the account away", func() string {
		err := member.Get(w.ctx, client.ObjectKey{Namespace: "agents", Name: key.Name}, &corev1.ServiceAccount{})
		if apierrors.IsNotFound(err) {
			return ""
		}
		return fmt.Sprintf("it is there, or %v", err)
	})
}
