package transport

import (
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// routeTo a server, as the controller writes it.
func routeTo(cluster string, s *httptest.Server, token string) *corev1.Secret {
	return routeSecret(cluster, s.URL, token, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))
}

func routeSecret(cluster, server, token string, ca []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "sallyport-gateway", Name: v1alpha1.RouteNamePrefix + cluster, Annotations: map[string]string{},
			Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, v1alpha1.ClusterLabel: cluster},
		},
		Type: v1alpha1.RouteSecretType,
		Data: map[string][]byte{v1alpha1.RouteServer: []byte(server), v1alpha1.RouteToken: []byte(token), v1alpha1.RouteCA: ca},
	}
}

// impersonated is the route to a real member, whose impersonator may be alice, who may do
// anything there.
func impersonated(t testing.TB, member *controlplane.ControlPlane) *corev1.Secret {
	t.Helper()
	account := rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "sallyport-system", Name: "sallyport-impersonator"}
	sa, err := member.ServiceAccount(t.Context(), account.Namespace, account.Name)
	if err != nil {
		t.Fatal(err)
	}
	rbac := kubernetes.NewForConfigOrDie(member.AdminConfig()).RbacV1()
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: account.Name}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"users"}, ResourceNames: []string{"alice"}, Verbs: []string{"impersonate"}},
	}}
	if _, err := rbac.ClusterRoles().Create(t.Context(), role, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	for role, subject := range map[string]rbacv1.Subject{
		account.Name:    account,
		"cluster-admin": {APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: "alice"},
	} {
		_, err := rbac.ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: "test-" + role},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{subject},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
	}
	return routeSecret(member.Name, member.URL(), sa.BearerToken, member.CABundle())
}

// asked is what a member was asked with.
type asked struct{ authorization, user, connection string }

func memberServer(t *testing.T, answer http.HandlerFunc) (*httptest.Server, chan asked) {
	t.Helper()
	seen := make(chan asked, 16)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- asked{r.Header.Get("Authorization"), r.Header.Get("Impersonate-User"), r.RemoteAddr}
		if answer != nil {
			answer(w, r)
		}
	}))
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that a test has fail
	s.StartTLS()
	t.Cleanup(s.Close)
	return s, seen
}

func set(t testing.TB, m *Members, s *corev1.Secret) {
	t.Helper()
	if err := m.Set(s); err != nil {
		t.Fatal(err)
	}
}

func requestAs(t *testing.T, r *Route, user string) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL.String()+"/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		request.Header.Set("Impersonate-User", user)
	}
	return request
}

// send as alice and read the answer whole, so that the connection can be used again.
func send(t *testing.T, r *Route) error {
	t.Helper()
	resp, err := r.Transport.RoundTrip(requestAs(t, r, "alice"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func route(t *testing.T, m *Members, cluster string) *Route {
	t.Helper()
	r, err := m.Route(cluster)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func isUnavailable(err error, reason string) bool {
	u := (*Unavailable)(nil)
	return errors.As(err, &u) && strings.Contains(u.Reason, reason) && u.RetryAfter > 0
}
