package gateway

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	accessv1alpha1 "github.com/sallyport-dev/sallyport/api/v1alpha1"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/gateway/authn"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// served is the API server of the gateway behind a real hub, in front of a handler that
// says who asks.
type served struct {
	*controlplane.Fleet
	access *access
	issuer *issuer
	addr   string
}

const member = "/apis/proxy.sallyport.dev/v1alpha1/clusters/prod-1/proxy/api/v1/pods"

func serve(t *testing.T) *served {
	f := controlplane.ForTest(t, controlplane.Options{})
	s := &served{Fleet: f, access: &access{}, issuer: newIssuer(t)}
	s.access.grants(map[string][]accessv1alpha1.ClusterName{"alice": {"prod-1", "prod-2"}, "bob": {"prod-2"}})
	client := kubernetes.NewForConfigOrDie(f.Hub.AdminConfig())
	config := filepath.Join(t.TempDir(), "authentication.yaml")
	must(t, os.WriteFile(config, fmt.Appendf(nil, `
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: %s
    audiences: [sallyport]
    certificateAuthority: |
      %s
  claimMappings:
    username:
      expression: '"oidc:" + claims.sub'
    groups:
      expression: 'claims.?groups.orValue([])'
`, s.issuer.URL, strings.ReplaceAll(s.issuer.ca(), "\n", "\n      ")), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	authentication, err := authn.New(ctx, authn.Options{Hub: client, FrontProxy: true, ConfigFile: config, TokenReview: true})
	must(t, err)
	authorizer, err := newAuthorizer(client)
	must(t, err)
	listener, certificate := listen(t, f.Hub)
	server, _, err := newAPIServer(apiConfig{
		listener: listener, certificate: certificate, authentication: authentication, authorizer: authorizer,
		access: s.access, routes: everywhere{}, members: http.HandlerFunc(echo), requestTimeout: time.Minute, maxInFlight: 100,
	})
	must(t, err)
	done := make(chan error)
	go func() { done <- server.PrepareRun().RunWithContext(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	s.addr = listener.Addr().String()
	must(t, wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return authentication.Ready(nil) == nil, nil
	}))
	must(t, f.Hub.RegisterAPIService(t.Context(), v1alpha1.GroupVersion, "sallyport-gateway", "sallyport-gateway", listener.Addr().(*net.TCPAddr).Port))
	return s
}

func TestServer(t *testing.T) {
	s := serve(t)
	view := rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"clusters"}, Verbs: []string{"get", "list", "watch"}}
	proxy := rbacv1.PolicyRule{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"clusters/proxy"}, ResourceNames: []string{"prod-1"}, Verbs: []string{"get"}}
	for _, name := range []string{"alice", "bob", "carol"} {
		allow(t.Context(), t, s.Hub, name, view, proxy)
	}
	t.Run("Kubectl", func(t *testing.T) { testKubectl(t, s) })
	t.Run("Watch", func(t *testing.T) { testWatch(t, s) })
	t.Run("Who", func(t *testing.T) { testWho(t, s) })
	t.Run("HubDecides", func(t *testing.T) { testHubDecides(t, s) })
}

// testKubectl: what people see through the hub is their own.
func testKubectl(t *testing.T, s *served) {
	for name, tc := range map[string]struct {
		reason, user string
		args         string
		want         []string // each a part of the output
		no           string
	}{
		"Table":    {reason: "Hers, in a table.", user: "alice", args: "get clusters.proxy.sallyport.dev", want: []string{"NAME", "AVAILABLE", "ROUTE", "GRANTS", "UNTIL", "prod-1", "prod-2", "team/of-alice", "no end"}},
		"His":      {reason: "Another's are not there.", user: "bob", args: "get clusters.proxy.sallyport.dev", want: []string{"prod-2", "team/of-bob"}, no: "prod-1"},
		"Hidden":   {reason: "One that he may not reach looks like none.", user: "bob", args: "get clusters.proxy.sallyport.dev prod-1", want: []string{`clusters.proxy.sallyport.dev "prod-1" not found`}},
		"None":     {reason: "Without a grant there is nothing.", user: "carol", args: "get clusters.proxy.sallyport.dev", want: []string{"No resources found"}},
		"YAML":     {reason: "Whole.", user: "alice", args: "get clusters.proxy.sallyport.dev prod-2 -o yaml", want: []string{"kind: Cluster", "env: prod", "route: Ready", "availability: Available", "name: of-alice"}},
		"Selector": {reason: "By labels of the fleet.", user: "alice", args: "get clusters.proxy.sallyport.dev -l env=dev", want: []string{"No resources found"}},
		"Resource": {reason: "Discovery tells of it.", user: "alice", args: "api-resources --api-group=proxy.sallyport.dev", want: []string{"clusters", "spc", "Cluster"}},
		"Explain":  {reason: "OpenAPI tells of its fields.", user: "alice", args: "explain clusters.status.grants --api-version=proxy.sallyport.dev/v1alpha1", want: []string{"notAfter", "NotAfter is when the grant ends"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg, err := s.Hub.User(tc.user)
			must(t, err)
			out := ""
			// The hub fetches OpenAPI of what it aggregates a moment later.
			_ = wait.PollUntilContextTimeout(t.Context(), 200*time.Millisecond, 20*time.Second, true, func(context.Context) (bool, error) {
				out, _ = kubectl(t, s.Fleet, cfg, strings.Fields(tc.args)...)
				return !slices.ContainsFunc(tc.want, func(part string) bool { return !strings.Contains(out, part) }), nil
			})
			for _, part := range tc.want {
				if !strings.Contains(out, part) {
					t.Errorf("%s\nno %q in:\n%s", tc.reason, part, out)
				}
			}
			if tc.no != "" && strings.Contains(out, tc.no) {
				t.Errorf("%s\n%q is in:\n%s", tc.reason, tc.no, out)
			}
		})
	}
	cfg, err := s.Hub.User("alice")
	must(t, err)
	out, err := kubectl(t, s.Fleet, cfg, "get", "--raw", "/apis/proxy.sallyport.dev/v1alpha1")
	if err != nil || !strings.Contains(out, "clusters/proxy") {
		t.Errorf("discovery does not tell of clusters/proxy: %v\n%s", err, out)
	}
}

// testWatch: a watch through the hub ends and changes with grants.
func testWatch(t *testing.T, s *served) {
	cfg, err := s.Hub.User("alice")
	must(t, err)
	clusters := dynamic.NewForConfigOrDie(cfg).Resource(v1alpha1.Clusters)
	list, err := clusters.List(t.Context(), metav1.ListOptions{})
	must(t, err)
	events, err := clusters.Watch(t.Context(), metav1.ListOptions{ResourceVersion: list.GetResourceVersion()})
	must(t, err)
	defer events.Stop()
	want := func(kind watch.EventType, name string) {
		t.Helper()
		select {
		case e := <-events.ResultChan():
			if o, ok := e.Object.(interface{ GetName() string }); !ok || e.Type != kind || o.GetName() != name {
				t.Fatalf("got %s %v, want %s %s", e.Type, e.Object, kind, name)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no %s %s", kind, name)
		}
	}
	s.access.grants(map[string][]accessv1alpha1.ClusterName{"alice": {"prod-2"}, "bob": {"prod-2"}})
	want(watch.Deleted, "prod-1")
	s.access.grants(map[string][]accessv1alpha1.ClusterName{"alice": {"prod-1", "prod-2"}, "bob": {"prod-2"}})
	want(watch.Added, "prod-1")
	if _, err := clusters.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "12345"}); err == nil {
		t.Error("a watch from a version of another replica began")
	}
}

// testWho: S2, S6. Who somebody is comes from what they prove, and from nothing else.
func testWho(t *testing.T, s *served) {
	alice, err := s.Hub.User("alice", "dev")
	must(t, err)
	account, err := s.Hub.ServiceAccount(t.Context(), "team", "robot")
	must(t, err)
	// Signed by the hub's client authority, with the front proxy's name.
	impostor, err := s.Hub.User("front-proxy-client")
	must(t, err)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	front := frontProxy(t, s.Fleet)
	remote := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Add(pairs[i], pairs[i+1])
		}
		return h
	}
	now := time.Now()
	for name, tc := range map[string]struct {
		reason string
		cfg    *rest.Config
		header http.Header
		user   string // "" is 401
		groups []string
	}{
		"Nobody":        {reason: "Nobody is anonymous.", header: remote()},
		"NoCertificate": {reason: "Headers without the front proxy's certificate count for nothing.", header: remote("X-Remote-User", "root", "X-Remote-Group", "system:masters")},
		"OwnHeaders":    {reason: "Nor with one's own.", cfg: alice, header: remote("X-Remote-User", "root", "X-Remote-Group", "system:masters"), user: "alice", groups: []string{"dev", "system:authenticated"}},
		"Impostor":      {reason: "Nor with another authority's for the same name.", cfg: impostor, header: remote("X-Remote-User", "root"), user: "front-proxy-client", groups: []string{"system:authenticated"}},
		"TokenHeaders":  {reason: "Nor with a token.", cfg: account, header: remote("X-Remote-User", "root"), user: "system:serviceaccount:team:robot", groups: []string{"system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"}},

		"FrontProxy":       {reason: "The hub's aggregation layer is believed.", cfg: front, header: remote("X-Remote-User", "bob", "X-Remote-Group", "dev"), user: "bob", groups: []string{"dev", "system:authenticated"}},
		"FrontNobody":      {reason: "S6: it has to say who.", cfg: front, header: remote()},
		"FrontEmpty":       {reason: "S6: and not nobody.", cfg: front, header: remote("X-Remote-User", "", "X-Remote-Group", "dev")},
		"FrontEmptyGroup":  {reason: "S6: nor a group without a name.", cfg: front, header: remote("X-Remote-User", "bob", "X-Remote-Group", "")},
		"FrontAnonymous":   {reason: "Anonymous is nobody, whoever says it.", cfg: front, header: remote("X-Remote-User", "system:anonymous", "X-Remote-Group", "system:unauthenticated")},
		"FrontUnknownUID":  {reason: "A header that the ConfigMap does not name is the caller's.", cfg: front, header: remote("X-Remote-User", "bob", "X-Remote-Uid", "0"), user: "bob", groups: []string{"system:authenticated"}},
		"Certificate":      {reason: "A certificate of the hub's authority.", cfg: alice, header: remote(), user: "alice", groups: []string{"dev", "system:authenticated"}},
		"Account":          {reason: "A token that the hub knows.", cfg: account, header: remote(), user: "system:serviceaccount:team:robot", groups: []string{"system:serviceaccounts", "system:serviceaccounts:team", "system:authenticated"}},
		"UnknownToken":     {reason: "And no other.", cfg: &rest.Config{BearerToken: "guessed"}, header: remote()},
		"EmptyToken":       {reason: "S6: an empty token is none.", header: remote("Authorization", "Bearer ")},
		"Issuer":           {reason: "A token of a configured issuer.", cfg: s.issuer.token(t, s.issuer.key, map[string]any{"sub": "dora", "groups": []string{"ops"}}), header: remote(), user: "oidc:dora", groups: []string{"ops", "system:authenticated"}},
		"IssuerKey":        {reason: "Signed by its key.", cfg: s.issuer.token(t, other, map[string]any{"sub": "dora"}), header: remote()},
		"IssuerExpired":    {reason: "And not expired.", cfg: s.issuer.token(t, s.issuer.key, map[string]any{"sub": "dora", "exp": now.Add(-time.Minute).Unix()}), header: remote()},
		"IssuerAudience":   {reason: "And meant for the gateway.", cfg: s.issuer.token(t, s.issuer.key, map[string]any{"sub": "dora", "aud": "other"}), header: remote()},
		"IssuerEmptyGroup": {reason: "A group without a name is none, as to the hub itself.", cfg: s.issuer.token(t, s.issuer.key, map[string]any{"sub": "dora", "groups": []string{""}}), header: remote(), user: "oidc:dora", groups: []string{"system:authenticated"}},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://gateway"+member, nil)
			must(t, err)
			r.Header = tc.header
			status, body := directly(t, s.Hub, s.addr, tc.cfg, r)
			if tc.user == "" {
				if status != http.StatusUnauthorized {
					t.Errorf("%s\ngot %d %s, want 401", tc.reason, status, body)
				}
				return
			}
			var got echoed
			if err := json.Unmarshal(body, &got); err != nil || status != http.StatusOK {
				t.Fatalf("%s\ngot %d %s", tc.reason, status, body)
			}
			if got.User.Name != tc.user || !cmp.Equal(tc.groups, got.User.Groups) || got.User.UID != "" && tc.cfg == front {
				t.Errorf("%s\ngot %+v, want %s in %v", tc.reason, got.User, tc.user, tc.groups)
			}
		})
	}
}

// testHubDecides: through the hub, and directly for what is the gateway's own, the hub's
// RBAC has a say; its administrators are let through by nobody else.
func testHubDecides(t *testing.T, s *served) {
	alice, err := s.Hub.User("alice")
	must(t, err)
	dora, err := s.Hub.User("dora")
	must(t, err)
	get := func(cfg *rest.Config, path string) (int, string) {
		client, err := rest.HTTPClientFor(cfg)
		must(t, err)
		resp, err := client.Get(cfg.Host + path)
		must(t, err)
		defer resp.Body.Close()
		var got echoed
		_ = json.NewDecoder(resp.Body).Decode(&got)
		return resp.StatusCode, got.User.Name
	}
	if status, who := get(alice, member); status != http.StatusOK || who != "alice" {
		t.Errorf("through the hub got %d as %q", status, who)
	}
	if status, _ := get(dora, member); status != http.StatusForbidden {
		t.Errorf("without RBAC on the hub got %d, want 403", status)
	}
	list, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://gateway"+strings.TrimSuffix(prefix, "/"), nil)
	must(t, err)
	if status, body := directly(t, s.Hub, s.addr, dora, list); status != http.StatusForbidden {
		t.Errorf("clusters, directly, without RBAC on the hub: got %d %s, want 403", status, body)
	}
	list.Header = http.Header{"Impersonate-User": {"bob"}}
	if status, body := directly(t, s.Hub, s.addr, alice, list); status != http.StatusBadRequest {
		t.Errorf("impersonation at the gateway: got %d %s, want 400", status, body)
	}
}

func TestToMember(t *testing.T) {
	for path, want := range map[string]bool{
		prefix + "a/proxy": true, prefix + "a/proxy/": true, prefix + "a/proxy/api/v1/pods": true, prefix + "a/proxy/../..": true,
		prefix + "a": false, prefix + "a/proxyx": false, prefix + "a/status": false, prefix + "a/x/proxy": false,
		"/apis/proxy.sallyport.dev/v1/clusters/a/proxy/": false, "/x" + prefix + "a/proxy": false, "": false,
	} {
		if got := toMember(path); got != want {
			t.Errorf("%q: %t", path, got)
		}
	}
}
