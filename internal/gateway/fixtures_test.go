package gateway

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	accessv1alpha1 "github.com/sallyport-dev/sallyport/api/v1alpha1"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/gateway/caller"
	"github.com/sallyport-dev/sallyport/internal/transport"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// access is an index of grants that a test sets.
type access struct {
	builder effective.Builder
	mu      sync.Mutex
	index   *effective.Index
	hears   []func(*effective.Index)
}

func (a *access) Current() *effective.Index {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.index
}

func (a *access) Subscribe(f func(*effective.Index)) func() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.hears = append(a.hears, f)
	return func() {}
}

// grants are the clusters that each user is to have: prod-1, prod-2 or both.
func (a *access) grants(of map[string][]accessv1alpha1.ClusterName) {
	s := compile.Snapshot{Now: time.Now(), Guardrails: &guardrail.Set{}, Point: guardrail.Compile}
	var members []fleet.Member
	for _, name := range []string{"prod-1", "prod-2"} {
		members = append(members, fleet.Member{Name: name, Labels: map[string]string{"env": "prod"}, Accepted: true, Availability: fleet.Available, Delivery: fleet.Direct, Paths: subject.Gateway})
	}
	s.Fleet = fleet.New(members)
	for user, clusters := range of {
		s.Grants = append(s.Grants, compile.Grant{Namespace: "team", Name: "of-" + user, Spec: &accessv1alpha1.AccessGrantSpec{
			Reason: "test", Subjects: []accessv1alpha1.Subject{{Kind: rbacv1.UserKind, Name: user}}, Clusters: accessv1alpha1.ClusterSelection{Names: clusters},
			Access: []accessv1alpha1.AccessEntry{{Rules: []accessv1alpha1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get"}}}}},
		}})
	}
	ix := a.builder.Build(s)
	a.mu.Lock()
	a.index = ix
	hears := slices.Clone(a.hears)
	a.mu.Unlock()
	for _, f := range hears {
		f(ix)
	}
}

// everywhere there is a route.
type everywhere struct{}

func (everywhere) Route(cluster string) (*transport.Route, error) {
	return &transport.Route{Cluster: cluster}, nil
}

// echo says who asks what of a member.
func echo(w http.ResponseWriter, r *http.Request) {
	u, err := caller.From(r.Context())
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"user": u, "path": r.URL.Path})
}

// echoed is what it says.
type echoed struct {
	User guardrail.User `json:"user"`
	Path string         `json:"path"`
}

// listen on a free port with a certificate of the hub's authority.
func listen(t *testing.T, hub *controlplane.ControlPlane) (net.Listener, dynamiccertificates.CertKeyContentProvider) {
	t.Helper()
	cert, key, err := hub.ServingCertificate("sallyport-gateway.sallyport-gateway.svc")
	must(t, err)
	serving, err := dynamiccertificates.NewStaticCertKeyContent("serving", cert, key)
	must(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	return listener, serving
}

// directly asks the gateway itself, with the certificate of a config if it has one.
func directly(t *testing.T, hub *controlplane.ControlPlane, addr string, cfg *rest.Config, r *http.Request) (int, []byte) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(hub.CABundle())
	config := &tls.Config{RootCAs: roots}
	if cfg != nil && len(cfg.CertData) > 0 {
		pair, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
		must(t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r.URL.Scheme, r.URL.Host = "https", addr
	if cfg != nil && cfg.BearerToken != "" {
		r.Header.Set("Authorization", "Bearer "+cfg.BearerToken)
	}
	resp, err := transport.RoundTrip(r)
	must(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, body
}

// frontProxy has the certificate of the hub's aggregation layer.
func frontProxy(t *testing.T, f *controlplane.Fleet) *rest.Config {
	t.Helper()
	base := filepath.Join(f.Dir(), "pki", "hub", "front-proxy-client")
	cert, err := os.ReadFile(base + ".crt")
	must(t, err)
	key, err := os.ReadFile(base + ".key")
	must(t, err)
	return &rest.Config{TLSClientConfig: rest.TLSClientConfig{CertData: cert, KeyData: key}}
}

// kubectl as a user of a hub.
func kubectl(t *testing.T, f *controlplane.Fleet, cfg *rest.Config, args ...string) (string, error) {
	t.Helper()
	binaries, err := controlplane.Binaries(t.Context(), os.Stderr, controlplane.Kubectl)
	must(t, err)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	must(t, f.Hub.WriteKubeconfig(kubeconfig, cfg, ""))
	cmd := exec.CommandContext(t.Context(), binaries[controlplane.Kubectl], append([]string{"--kubeconfig", kubeconfig, "--cache-dir", t.TempDir()}, args...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

// issuer of tokens, as an OpenID provider is.
type issuer struct {
	*httptest.Server
	key *rsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	i := &issuer{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1",
			"n": b64(key.N.Bytes()), "e": b64(big.NewInt(int64(key.E)).Bytes()),
		}}})
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// ca of its certificate, in PEM.
func (i *issuer) ca() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}))
}

// token with claims, signed by a key.
func (i *issuer) token(t *testing.T, key *rsa.PrivateKey, claims map[string]any) *rest.Config {
	t.Helper()
	all := map[string]any{"iss": i.URL, "aud": "sallyport", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix()}
	for k, v := range claims {
		all[k] = v
	}
	payload, err := json.Marshal(all)
	must(t, err)
	signed := b64([]byte(`{"alg":"RS256","kid":"1"}`)) + "." + b64(payload)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	must(t, err)
	return &rest.Config{BearerToken: signed + "." + b64(signature)}
}

// allow a user verbs on clusters and clusters/proxy by RBAC of the hub.
func allow(ctx context.Context, t *testing.T, hub *controlplane.ControlPlane, user string, rules ...rbacv1.PolicyRule) {
	t.Helper()
	client := kubernetes.NewForConfigOrDie(hub.AdminConfig()).RbacV1()
	_, err := client.ClusterRoles().Create(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "try-" + user}, Rules: rules}, metav1.CreateOptions{})
	must(t, err)
	_, err = client.ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "try-" + user},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "try-" + user},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: user}},
	}, metav1.CreateOptions{})
	must(t, err)
}

func writeAll(files map[string][]byte) error {
	for name, content := range files {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}
