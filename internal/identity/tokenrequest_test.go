package identity

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/transport"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

var edge = &fleet.Member{
	Name: "edge-1", Delivery: fleet.Direct, Secret: "edge", Issuer: fleet.TokenRequest,
	Impersonator: types.NamespacedName{Namespace: "sallyport-system", Name: "sallyport-impersonator"},
}

func kubeconfigOf(name string, raw []byte) *corev1.Secret {
	s := secretOf("sallyport-system", "edge", map[string]string{"kubeconfig": string(raw)})
	s.Labels = map[string]string{v1alpha1.ClusterLabel: name}
	return s
}

// asking is TokenRequests with the kubeconfig, and a clock that can be turned.
type asking struct {
	*TokenRequests
	hub hub
	now time.Time
}

func asks(t *testing.T, kubeconfig *corev1.Secret) *asking {
	t.Helper()
	a := &asking{hub: newHub(t, kubeconfig), now: time.Now()}
	a.TokenRequests = &TokenRequests{
		Secrets: a.hub, Namespace: "sallyport-system", Members: transport.NewAccountClients(a.hub, "sallyport-system"),
		Now: func() time.Time { return a.now },
	}
	return a
}

func (a *asking) route(t *testing.T, held Route) Route {
	t.Helper()
	r, err := a.Route(t.Context(), edge, held)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTokenRequests asks a real member.
func TestTokenRequests(t *testing.T) {
	f := controlplane.ForTest(t, controlplane.Options{Members: []string{"edge-1"}})
	member := f.Member("edge-1")
	raw, err := os.ReadFile(member.Kubeconfig())
	if err != nil {
		t.Fatal(err)
	}
	admin, err := client.New(member.AdminConfig(), client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	a := asks(t, kubeconfigOf("edge-1", raw))
	first := a.route(t, Route{})

	t.Run("Token", func(t *testing.T) {
		account := &corev1.ServiceAccount{}
		if err := admin.Get(t.Context(), edge.Impersonator, account); err != nil {
			t.Fatal(err)
		}
		if first.Server != member.URL() || first.Account != "sallyport-system/sallyport-impersonator@"+string(account.UID) || first.ClusterProxy {
			t.Errorf("got %s as %s", first.Server, first.Account)
		}
		if left := first.Expires.Sub(a.now); left < 59*time.Minute || left > 61*time.Minute || !first.Renew.Equal(renewal(a.now, first.Expires)) {
			t.Errorf("it expires in %s and is renewed in %s", left, first.Renew.Sub(a.now))
		}
		who := &authenticationv1.SelfSubjectReview{}
		c, err := client.New(&rest.Config{Host: first.Server, BearerToken: first.Token, TLSClientConfig: rest.TLSClientConfig{CAData: first.CA}}, client.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Create(t.Context(), who); err != nil || who.Status.UserInfo.Username != "system:serviceaccount:sallyport-system:sallyport-impersonator" {
			t.Errorf("the token is of %q: %v", who.Status.UserInfo.Username, err)
		}
	})

	t.Run("Renewal", func(t *testing.T) {
		began := a.now
		defer func() { a.now = began }()
		a.now = first.Renew.Add(-time.Second)
		if diff := cmp.Diff(first, a.route(t, first)); diff != "" {
			t.Errorf("before its time (-want +got):\n%s", diff)
		}
		a.now = first.Renew
		second := a.route(t, first)
		if second.Token == first.Token || !second.Renew.After(a.now) {
			t.Errorf("at its time: the same token %t, the next one at %s", second.Token == first.Token, second.Renew)
		}
	})

	t.Run("NotTheOne", func(t *testing.T) {
		for name, change := range map[string]func(*Route){
			"another server":  func(r *Route) { r.Server = "https://elsewhere" },
			"another CA":      func(r *Route) { r.CA = []byte(testCA) },
			"another account": func(r *Route) { r.Account = "sallyport-system/sallyport-impersonator@other" },
			"no token":        func(r *Route) { r.Token = "" },
			"no renewal":      func(r *Route) { r.Renew = time.Time{} },
		} {
			held := first
			change(&held)
			if got := a.route(t, held); got.Token == held.Token || got.Server != first.Server || got.Account != first.Account {
				t.Errorf("what is held is of %s: got %s as %s, the same token %t", name, got.Server, got.Account, got.Token == held.Token)
			}
		}
	})

	t.Run("AccountIsGone", func(t *testing.T) {
		if err := admin.Delete(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: edge.Impersonator.Namespace, Name: edge.Impersonator.Name}}); err != nil {
			t.Fatal(err)
		}
		if got := a.route(t, first); got.Token == first.Token || got.Account == first.Account {
			t.Error("the token outlives its account")
		}
	})

	t.Run("ExistingAccount", func(t *testing.T) {
		theirs := *edge
		theirs.Impersonator = types.NamespacedName{Namespace: "theirs", Name: "bot"}
		for _, o := range []client.Object{
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "theirs"}},
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "theirs", Name: "bot", Annotations: map[string]string{"is": "theirs"}}},
		} {
			if err := admin.Create(t.Context(), o); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := a.Route(t.Context(), &theirs, Route{}); err != nil {
			t.Fatal(err)
		}
		account := &corev1.ServiceAccount{}
		if err := admin.Get(t.Context(), theirs.Impersonator, account); err != nil || account.Labels != nil || account.Annotations["is"] != "theirs" {
			t.Errorf("an account that was there was changed: %v, %v", account.ObjectMeta, err)
		}
	})

	t.Run("LeastRights", func(t *testing.T) { testLeastRights(t, member, admin) })
}

// testLeastRights: what a kubeconfig needs for routes is what the docs say, and what
// a member refuses is told without its words.
func testLeastRights(t *testing.T, member *controlplane.ControlPlane, admin client.Client) {
	config, err := member.User("deliverer")
	if err != nil {
		t.Fatal(err)
	}
	path := t.TempDir() + "/kubeconfig"
	if err := member.WriteKubeconfig(path, config, ""); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	a := asks(t, kubeconfigOf("edge-1", raw))
	_, err = a.Route(t.Context(), edge, Route{})
	if err == nil || !strings.Contains(err.Error(), `cannot get ServiceAccount "sallyport-system/sallyport-impersonator" there: it answers 403 Forbidden`) || strings.Contains(err.Error(), "deliverer") {
		t.Errorf("without rights: %v", err)
	}
	const account = "sallyport-impersonator"
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "routes"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, ResourceNames: []string{"sallyport-system"}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, Verbs: []string{"create"}},
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts"}, ResourceNames: []string{account}, Verbs: []string{"get"}},
		{APIGroups: []string{""}, Resources: []string{"serviceaccounts/token"}, ResourceNames: []string{account}, Verbs: []string{"create"}},
	}}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "routes"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "routes"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "deliverer"}},
	}
	for _, o := range []client.Object{role, binding} {
		if err := admin.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	there := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "sallyport-system", Name: account}}
	if err := admin.Delete(t.Context(), there); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	// The authorizer hears of bindings by a watch.
	deadline := time.Now().Add(30 * time.Second)
	for {
		if _, err = a.Route(t.Context(), edge, Route{}); err == nil || time.Now().After(deadline) {
			break
		}
		time.Sleep(50 * time.Millisecond) // a poll, up to the deadline
	}
	if err != nil {
		t.Errorf("with these rights: %v", err)
	}
}

// TestRefusedKubeconfig: S24: one with a command in it is not used, and it is not run.
func TestRefusedKubeconfig(t *testing.T) {
	config := clientcmdapi.NewConfig()
	config.CurrentContext = "c"
	config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
	config.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://edge-1", CertificateAuthorityData: []byte(testCA)}
	ran := t.TempDir() + "/ran"
	config.AuthInfos["c"] = &clientcmdapi.AuthInfo{Exec: &clientcmdapi.ExecConfig{Command: "touch", Args: []string{ran}, APIVersion: "client.authentication.k8s.io/v1", InteractiveMode: clientcmdapi.NeverExecInteractiveMode}}
	raw, err := clientcmd.Write(*config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = asks(t, kubeconfigOf("edge-1", raw)).Route(t.Context(), edge, Route{})
	if refusal := (*transport.Refusal)(nil); !errors.As(err, &refusal) || refusal.Field != "users[].user.exec" {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(ran); !os.IsNotExist(err) {
		t.Error("the command was run")
	}
	// S9: nor one of another cluster, by a Secret that somebody points at.
	if _, err = asks(t, kubeconfigOf("edge-2", raw)).Route(t.Context(), edge, Route{}); err == nil {
		t.Error("the kubeconfig of another cluster is used")
	}
}

// TestAnswersAreNotQuoted: a member that repeats the credential it was sent does not
// get it into an event.
func TestAnswersAreNotQuoted(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"` + r.Header.Get("Authorization") + `","code":403,"message":"` + r.Header.Get("Authorization") + `"}`))
	}))
	defer server.Close()
	for name, err := range map[string]error{
		"Forbidden": apierrors.NewForbidden(corev1.Resource("serviceaccounts"), "x", errors.New("Bearer CANARY")),
		"Unknown":   apierrors.NewGenericServerResponse(418, "get", corev1.Resource("serviceaccounts"), "x", "CANARY", 0, true),
	} {
		if got := answer(err).Error(); strings.Contains(got, "CANARY") {
			t.Errorf("%s: %s", name, got)
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ServiceAccount"), meta.RESTScopeNamespace)
	c, err := client.New(&rest.Config{Host: server.URL, BearerToken: "CANARY", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, client.Options{Mapper: mapper})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ensureAccount(t.Context(), c, edge.Impersonator)
	if err == nil || strings.Contains(err.Error(), "CANARY") || !strings.Contains(err.Error(), "Forbidden") {
		t.Errorf("got %v", err)
	}
	if cause := answer(context.DeadlineExceeded); !errors.Is(cause, context.DeadlineExceeded) {
		t.Errorf("what is no answer is told as it is: got %v", cause)
	}
}
